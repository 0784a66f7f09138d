package coherence

// The queue, and the memory of recent writes, treat a pattern like a tag: it is not about one key,
// and its latest invalidation counts. The first byte of a subject says what it is. Where there are
// several parts, what is about a tag or about everything is about one part, whose number follows.
const (
	aTag     = "t"
	aPattern = "p"
	aPartTag = "T"
	aPartAll = "C"
)

// tagSubjects returns the subjects of tags, or of everything if there are none: nil for everything
// if there is one part.
func (p *Part) tagSubjects(tags []string) []string {
	if len(p.a.parts) == 1 {
		return subjects(aTag, tags)
	}
	if len(tags) == 0 {
		return []string{p.allSubject()}
	}
	return p.tagSubjectsOf(tags)
}

// tagSubjectsOf is tagSubjects without a meaning for no tags.
func (p *Part) tagSubjectsOf(tags []string) []string {
	if len(p.a.parts) == 1 {
		return subjects(aTag, tags)
	}
	return subjects(aPartTag+string([]byte{p.of}), tags)
}

func (p *Part) allSubject() string { return aPartAll + string([]byte{p.of}) }

func subjects(kind string, names []string) []string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = kind + n
	}
	return out
}

// subject is a subject in its parts.
type subject struct {
	kind string
	part uint8
	name string // of the tag, or the pattern
}

func parseSubject(s string) subject {
	switch kind := s[:1]; kind {
	case aPartTag, aPartAll:
		return subject{kind, s[1], s[2:]}
	default:
		return subject{kind, 0, s[1:]}
	}
}

// tagsAndPatterns returns the tags among subjects by part, whether all of a part is among them, and
// the patterns.
func (a *Coordinator) tagsAndPatterns(list []string) (tags [][]string, all []bool, patterns []string) {
	tags, all = make([][]string, len(a.parts)), make([]bool, len(a.parts))
	for _, s := range list {
		switch u := parseSubject(s); u.kind {
		case aPattern:
			patterns = append(patterns, u.name)
		case aPartAll:
			all[u.part] = true
		default:
			tags[u.part] = append(tags[u.part], u.name)
		}
	}
	return tags, all, patterns
}

// tagSubject returns the subject of a tag in this part.
func (p *Part) tagSubject(tag string) string {
	if len(p.a.parts) == 1 {
		return aTag + tag
	}
	return aPartTag + string([]byte{p.of}) + tag
}
