package check

import (
	"regexp"
	"testing"
)

// packages are those that users import, by the names that the text uses.
var packages = map[string]string{
	"cache":       ".",
	"cachetest":   "cachetest",
	"codec":       "codec",
	"codectest":   "codec/codectest",
	"dashboard":   "metrics/dashboard",
	"invalidate":  "invalidate",
	"metrics":     "metrics",
	"metricstest": "metrics/metricstest",
	"outbox":      "outbox",
	"strategy":    "strategy",
}

var qualified = regexp.MustCompile(`\b([a-z]+)\.([A-Z]\w*)(?:\.([A-Z]\w*))?`)

// What the pages call package.Name in their text exists.
func TestNamesInTheTextExist(t *testing.T) {
	known := map[string]map[string]bool{}
	for name, dir := range packages {
		if known[name], _ = exported(t, dir); len(known[name]) == 0 {
			t.Fatalf("%s exports nothing", dir)
		}
	}
	found := 0
	for _, file := range sorted(pages()) {
		if !inBook(file) {
			continue
		}
		for _, code := range pages()[file].Codes {
			for _, m := range qualified.FindAllStringSubmatch(code, -1) {
				names := known[m[1]]
				if names == nil {
					continue
				}
				found++
				if !names[m[2]] || m[3] != "" && !names[m[2]+"."+m[3]] {
					t.Errorf("%s: there is no %s", file, m[0])
				}
			}
		}
	}
	if found < 60 {
		t.Errorf("only %d names", found)
	}
}
