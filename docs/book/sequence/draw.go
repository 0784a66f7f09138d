package sequence

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// Measures, in the units of the picture: pixels where it is not scaled. The width is chosen so
// that the text can be read on a phone, where the picture has about 360 pixels.
const (
	width    = 520.0
	border   = 14.0
	fontSize = 15.0
	line     = 19.0 // from one line of text to the next
	padding  = 8.0  // inside a box
	space    = 14.0 // between steps
)

// The picture brings its own background, so that it can be read on a page of the other kind, too.
const style = `
.page { fill: #f6f8fa; stroke: #d0d7de } text { font: 15px system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; fill: #1c2430; text-anchor: middle }
.b { font-weight: 600 } .life { stroke: #aab4bf; stroke-dasharray: 3 4 } .arrow { stroke: #47525e; stroke-width: 1.5; fill: none } .head { fill: #47525e }
.answer { stroke-dasharray: 6 4 } .lost { stroke: #b3261e } .actor { fill: #fff; stroke: #47525e } .halo { stroke: #f6f8fa; stroke-width: 5; stroke-linejoin: round; paint-order: stroke }
.note { fill: #fff; stroke: #aab4bf } .bad { fill: #fdeceb; stroke: #b3261e } .good { fill: #e4f5eb; stroke: #14794a } .gap { font-style: italic; fill: #55606e }
@media (prefers-color-scheme: dark) {
.page { fill: #161b22; stroke: #30363d } text { fill: #dde3ea } .life { stroke: #56616d } .arrow { stroke: #b4bfca } .head { fill: #b4bfca } .lost { stroke: #ff8a80 }
.actor { fill: #21282f; stroke: #b4bfca } .halo { stroke: #161b22 } .note { fill: #21282f; stroke: #56616d } .bad { fill: #4a1c1a; stroke: #ff8a80 } .good { fill: #12392a; stroke: #4cc38a } .gap { fill: #9ba7b4 }
}
`

// SVG draws the diagram. The picture has its title, and the steps in words.
func (d *Diagram) SVG() string {
	p := &picture{column: (width - 2*border) / float64(len(d.Actors)), y: border}
	top := p.actors(d)
	for _, s := range d.Steps {
		p.step(s)
	}
	height := p.y + border
	var b strings.Builder
	fmt.Fprintf(&b, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%g\" height=\"%g\" viewBox=\"0 0 %g %g\" role=\"img\" aria-labelledby=\"title desc\">\n", width, height, width, height)
	fmt.Fprintf(&b, "<title id=\"title\">%s</title>\n<desc id=\"desc\">%s</desc>\n<style>%s</style>\n", html.EscapeString(d.Title), html.EscapeString(d.Describe()), style)
	fmt.Fprintf(&b, "<rect class=\"page\" x=\"0.5\" y=\"0.5\" width=\"%g\" height=\"%g\" rx=\"8\"/>\n", width-1, height-1)
	for i := range d.Actors {
		fmt.Fprintf(&b, "<line class=\"life\" x1=\"%[1]s\" y1=\"%[2]s\" x2=\"%[1]s\" y2=\"%[3]s\"/>\n", num(p.x(i)), num(top), num(p.y))
	}
	b.WriteString(p.body.String())
	b.WriteString("</svg>\n")
	return b.String()
}

// picture is a diagram that is being drawn, from top to bottom.
type picture struct {
	body   strings.Builder
	column float64
	y      float64
}

// x is the middle of an actor's column.
func (p *picture) x(actor int) float64 { return border + p.column*(float64(actor)+0.5) }

// actors draws the boxes at the top and returns where they end.
func (p *picture) actors(d *Diagram) float64 {
	lines := 1
	for _, a := range d.Actors {
		lines = max(lines, len(wrap(a.Name, p.column-3*padding)))
	}
	height := float64(lines)*line + 2*padding
	for i, a := range d.Actors {
		text := wrap(a.Name, p.column-3*padding)
		p.rect("actor", p.x(i)-p.column/2+padding/2, p.y, p.column-padding, height)
		p.text("b", p.x(i), p.y+padding+float64(lines-len(text))*line/2, text)
	}
	p.y += height
	end := p.y
	p.y += space
	return end
}

func (p *picture) step(s Step) {
	switch s.Kind {
	case Gap:
		p.y += space / 2
		text := wrap(s.Text, width-4*border)
		p.text("gap halo", width/2, p.y, text)
		p.y += float64(len(text))*line + 1.5*space
	case Note, Bad, Good:
		p.note(s)
	default:
		p.arrow(s)
	}
}

// note draws a box over the life line of its actor.
func (p *picture) note(s Step) {
	text := wrap(s.Text, max(200, p.column))
	w := 0.0
	for _, l := range text {
		w = max(w, measure(l))
	}
	w += 2 * padding
	middle := inside(p.x(s.From), w)
	height := float64(len(text))*line + 2*padding - 4
	p.rect([]string{Note: "note", Bad: "bad", Good: "good"}[s.Kind], middle-w/2, p.y, w, height)
	p.text("", middle, p.y+padding-2, text)
	p.y += height + space
}

// arrow draws an arrow, with its text above it.
func (p *picture) arrow(s Step) {
	from, to := p.x(s.From), p.x(s.To)
	text := wrap(s.Text, max(math.Abs(to-from)-16, 136))
	w := 0.0
	for _, l := range text {
		w = max(w, measure(l))
	}
	ahead := math.Copysign(1, to-from)
	class := "arrow"
	switch s.Kind {
	case Answer:
		class = "arrow answer"
	case Lost:
		class, to = "arrow lost", from+(to-from)*0.62
	}
	p.text("halo", inside((from+to)/2, w), p.y, text)
	p.y += float64(len(text))*line + 3
	p.add(`<line class="%s" x1="%s" y1="%s" x2="%s" y2="%s"/>`, class, num(from), num(p.y), num(to-ahead*3), num(p.y))
	if s.Kind == Lost {
		p.add(`<path class="arrow lost" d="M%s %s l12 12 m0 -12 l-12 12"/>`, num(to-6), num(p.y-6))
	} else {
		p.add(`<path class="head" d="M%s %s l%g -5 v10 z"/>`, num(to-ahead), num(p.y), -9*ahead)
	}
	p.y += space
}

func (p *picture) rect(class string, x, y, w, h float64) {
	p.add(`<rect class="%s" x="%s" y="%s" width="%s" height="%s" rx="4"/>`, class, num(x), num(y), num(w), num(h))
}

// text writes lines below y, around x.
func (p *picture) text(class string, x, y float64, lines []string) {
	if class != "" {
		class = fmt.Sprintf(" class=%q", class)
	}
	for i, l := range lines {
		p.add(`<text%s x="%s" y="%s">%s</text>`, class, num(x), num(y+float64(i)*line+fontSize-1), html.EscapeString(l))
	}
}

func (p *picture) add(format string, args ...any) {
	fmt.Fprintf(&p.body, format+"\n", args...)
}

// inside moves the middle of something of the width w so that it is inside of the picture.
func inside(middle, w float64) float64 {
	return max(border+w/2, min(middle, width-border-w/2))
}

func num(v float64) string { return strings.TrimSuffix(fmt.Sprintf("%.1f", v), ".0") }

// wrap divides a text into lines that are no longer than limit, if its words allow it, and about
// equally long.
func wrap(text string, limit float64) []string {
	count := len(fill(text, limit))
	for narrow := limit; narrow > limit/3; narrow -= 8 {
		if len(fill(text, narrow)) > count {
			break
		}
		limit = narrow
	}
	return fill(text, limit)
}

func fill(text string, limit float64) []string {
	var lines []string
	at := ""
	for _, word := range strings.Fields(text) {
		switch {
		case at == "":
			at = word
		case measure(at+" "+word) <= limit:
			at += " " + word
		default:
			lines = append(lines, at)
			at = word
		}
	}
	return append(lines, at)
}

// measure is about how wide a text is. Fonts differ: it is that of a wide one.
func measure(text string) float64 {
	em := 0.0
	for _, r := range text {
		switch {
		case strings.ContainsRune("ijl.,:;'|!()[] ", r):
			em += 0.32
		case strings.ContainsRune("frt-/", r):
			em += 0.42
		case strings.ContainsRune("mwMW", r):
			em += 0.92
		case r >= 'A' && r <= 'Z':
			em += 0.71
		default:
			em += 0.61
		}
	}
	return em * fontSize
}
