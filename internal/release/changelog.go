package main

import (
	"errors"
	"fmt"
	"strings"
)

const unreleasedHeading = "## Unreleased\n"

// releaseChangelog gives what is under "Unreleased" the heading of a version and a date, and
// leaves an empty one above it.
func releaseChangelog(text, version, date string) (string, error) {
	before, after, ok := strings.Cut("\n"+text, "\n"+unreleasedHeading)
	if !ok {
		return "", errors.New("CHANGELOG.md has no section Unreleased")
	}
	if strings.Contains(text, "\n## "+version+" ") {
		return "", fmt.Errorf("CHANGELOG.md has a section %s already", version)
	}
	section, _, _ := strings.Cut(after, "\n## ")
	if !strings.Contains(section, "\n- ") {
		return "", errors.New("CHANGELOG.md has nothing under Unreleased")
	}
	return strings.TrimPrefix(before, "\n") + "\n" + unreleasedHeading + "\n## " + version + " (" + date + ")\n" + after, nil
}
