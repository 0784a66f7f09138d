package sequence

import (
	"encoding/xml"
	"io"
	"strings"
	"testing"
)

const example = `
# how a value comes to be old
title A stale fill
actor R Reader & co
actor C Redis
actor D Database

R -> C: GET
C --> R: nothing
R -x D: SELECT
note R: waits
gap: a second later
bad C: the old value <v1> stays
good C: it goes
`

func TestADiagramHasAllSteps(t *testing.T) {
	d, err := Parse(example)
	if err != nil {
		t.Fatal(err)
	}
	kinds := []Kind{Call, Answer, Lost, Note, Gap, Bad, Good}
	if len(d.Steps) != len(kinds) || d.Title != "A stale fill" || len(d.Actors) != 3 {
		t.Fatalf("%+v", d)
	}
	for i, kind := range kinds {
		if d.Steps[i].Kind != kind {
			t.Errorf("step %d: %+v", i, d.Steps[i])
		}
	}
	if s := d.Steps[2]; s.From != 0 || s.To != 2 || s.Text != "SELECT" {
		t.Errorf("%+v", s)
	}
	want := `1. Reader & co to Redis: GET.
2. Redis answers Reader & co: nothing.
3. Reader & co to Database, which is lost: SELECT.
4. Reader & co: waits.
5. Time passes: a second later.
6. Wrong at Redis: the old value <v1> stays.
7. Right at Redis: it goes.`
	if got := d.Describe(); got != want {
		t.Errorf("in words:\n%s", got)
	}
}

func TestAPictureIsAnSVG(t *testing.T) {
	d, err := Parse(example)
	if err != nil {
		t.Fatal(err)
	}
	svg := d.SVG()
	text := map[string]string{}
	names := map[string]int{}
	dec := xml.NewDecoder(strings.NewReader(svg))
	at := ""
	for {
		token, err := dec.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, svg)
		}
		switch token := token.(type) {
		case xml.StartElement:
			at = token.Name.Local
			names[at]++
		case xml.CharData:
			text[at] += string(token)
		}
	}
	if !strings.HasPrefix(text["title"], d.Title) || !strings.HasPrefix(text["desc"], d.Describe()) {
		t.Errorf("title and description are %q and %q", text["title"], text["desc"])
	}
	if !strings.Contains(text["style"], "prefers-color-scheme: dark") {
		t.Error("it has no dark colours")
	}
	// A life line for each actor, and a line for each arrow; a head for two of them, a cross for one.
	if names["line"] != 3+3 || names["path"] != 3 || names["rect"] != 1+3+3 {
		t.Errorf("it has %v", names)
	}
	if d.SVG() != svg {
		t.Error("it is not the same each time")
	}
}

func TestMistakesAreNamed(t *testing.T) {
	const head = "title T\nactor A a\nactor B b\n"
	for text, want := range map[string]string{
		"actor A a\nactor B b\nA -> B: x":          "no title",
		"title T\nactor A a\nnote A: x":            "1 actors",
		head:                                       "no steps",
		head + "A -> C: x":                         "line 4: there is no actor",
		head + "note C: x":                         "line 4: there is no actor C",
		head + "A -> A: x":                         "write a note",
		head + "A => B: x":                         "line 4: not understood",
		head + "A -> B:":                           "line 4: not understood",
		head + "title U":                           "line 4: a second title",
		head + "actor A c":                         "line 4: a second actor A",
		head + "actor C c\nactor D d\nactor E e\n": "5 actors",
	} {
		if d, err := Parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %+v, %v, want %q", text, d, err, want)
		}
	}
}

func TestLinesAreNotTooLong(t *testing.T) {
	for _, text := range []string{"a", "one two three four five six seven", "averylongwordthatcannotbedivided and more"} {
		lines := wrap(text, 80)
		if got := strings.Join(lines, " "); got != text {
			t.Errorf("%q becomes %q", text, got)
		}
		for _, l := range lines {
			if measure(l) > 80 && strings.Contains(l, " ") {
				t.Errorf("%q is too long", l)
			}
		}
	}
}
