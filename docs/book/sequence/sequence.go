// Package sequence draws sequence diagrams: what is sent between actors, and in which order.
//
// A diagram is a text, a step to a line:
//
//	title A stale fill
//	actor R Reader
//	actor C Redis
//	actor D Database
//	R -> C: GET user:42
//	C --> R: nothing
//	R -x C: PUBLISH
//	bad C: the old value stays
//
// The arrows are -> for what one actor sends to another, --> for an answer, and -x for what is lost on
// its way. A line of one actor is a note: "note", "bad" for what goes wrong, "good" for what
// prevents it. "gap: ten seconds later" is time that passes. Lines that begin with # are comments.
package sequence

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Diagram is a parsed text.
type Diagram struct {
	Title  string
	Actors []Actor
	Steps  []Step
}

// Actor is a column.
type Actor struct{ ID, Name string }

// Kind is what a step is.
type Kind int

// The kinds of steps.
const (
	Call   Kind = iota // From does something to To
	Answer             // From answers To
	Lost               // what From sends to To does not arrive
	Note               // something about From
	Bad                // what goes wrong at From
	Good               // what prevents it
	Gap                // time passes
)

// Step is an arrow, a note or a gap. From and To are indexes of actors.
type Step struct {
	Kind     Kind
	From, To int
	Text     string
}

var (
	actorLine = regexp.MustCompile(`^actor (\w+) (.+)$`)
	arrowLine = regexp.MustCompile(`^(\w+) (->|-->|-x) (\w+): (.+)$`)
	noteLine  = regexp.MustCompile(`^(note|bad|good) (\w+): (.+)$`)
	arrows    = map[string]Kind{"->": Call, "-->": Answer, "-x": Lost}
	notes     = map[string]Kind{"note": Note, "bad": Bad, "good": Good}
)

// Parse reads a diagram. The error names the line.
func Parse(text string) (*Diagram, error) {
	d := &Diagram{}
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if err := d.parseLine(line); err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
	}
	switch {
	case d.Title == "":
		return nil, fmt.Errorf("the diagram has no title")
	case len(d.Actors) < 2 || len(d.Actors) > 4:
		return nil, fmt.Errorf("the diagram has %d actors, not 2 to 4", len(d.Actors))
	case len(d.Steps) == 0:
		return nil, fmt.Errorf("the diagram has no steps")
	}
	return d, nil
}

func (d *Diagram) parseLine(line string) error {
	if title, ok := strings.CutPrefix(line, "title "); ok {
		if d.Title != "" {
			return fmt.Errorf("a second title")
		}
		d.Title = title
		return nil
	}
	if text, ok := strings.CutPrefix(line, "gap: "); ok {
		d.Steps = append(d.Steps, Step{Kind: Gap, Text: text})
		return nil
	}
	if m := actorLine.FindStringSubmatch(line); m != nil {
		if d.actor(m[1]) >= 0 {
			return fmt.Errorf("a second actor %s", m[1])
		}
		d.Actors = append(d.Actors, Actor{m[1], m[2]})
		return nil
	}
	if m := noteLine.FindStringSubmatch(line); m != nil {
		at := d.actor(m[2])
		if at < 0 {
			return fmt.Errorf("there is no actor %s", m[2])
		}
		d.Steps = append(d.Steps, Step{Kind: notes[m[1]], From: at, To: at, Text: m[3]})
		return nil
	}
	if m := arrowLine.FindStringSubmatch(line); m != nil {
		from, to := d.actor(m[1]), d.actor(m[3])
		switch {
		case from < 0 || to < 0:
			return fmt.Errorf("there is no actor %s or %s", m[1], m[3])
		case from == to:
			return fmt.Errorf("an arrow from %s to itself: write a note", m[1])
		}
		d.Steps = append(d.Steps, Step{Kind: arrows[m[2]], From: from, To: to, Text: m[4]})
		return nil
	}
	return fmt.Errorf("not understood: %s", line)
}

func (d *Diagram) actor(id string) int {
	return slices.IndexFunc(d.Actors, func(a Actor) bool { return a.ID == id })
}

// Describe says the diagram in words, for readers who can't see it.
func (d *Diagram) Describe() string {
	var b strings.Builder
	for i, s := range d.Steps {
		from, to := d.name(s.From), d.name(s.To)
		fmt.Fprintf(&b, "%d. ", i+1)
		switch s.Kind {
		case Call:
			fmt.Fprintf(&b, "%s to %s: %s.", from, to, s.Text)
		case Answer:
			fmt.Fprintf(&b, "%s answers %s: %s.", from, to, s.Text)
		case Lost:
			fmt.Fprintf(&b, "%s to %s, which is lost: %s.", from, to, s.Text)
		case Note:
			fmt.Fprintf(&b, "%s: %s.", from, s.Text)
		case Bad:
			fmt.Fprintf(&b, "Wrong at %s: %s.", from, s.Text)
		case Good:
			fmt.Fprintf(&b, "Right at %s: %s.", from, s.Text)
		case Gap:
			fmt.Fprintf(&b, "Time passes: %s.", s.Text)
		}
		b.WriteByte('\n')
	}
	return strings.TrimSpace(b.String())
}

func (d *Diagram) name(i int) string { return d.Actors[i].Name }
