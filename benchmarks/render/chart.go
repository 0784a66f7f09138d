package main

import (
	"fmt"
	"strings"
)

// bar is one of a chart.
type bar struct {
	label string
	value float64
	text  string
	us    bool
}

// group is bars under a heading, on one scale.
type group struct {
	title string
	bars  []bar
}

// charts are the files that show the results.
func charts(r *results) map[string]string {
	var remote []group
	for _, callers := range []string{"1", "8", "64", "256"} {
		g := group{title: callers + " callers"}
		name := "RemoteHit/size=64/keys=zipf/callers=" + callers + "/cpu=2"
		for _, lib := range r.libs[name] {
			if ns, ok := r.median(name, lib, "ns/op"); ok && lib != "redis-benchmark" {
				g.bars = append(g.bars, bar{lib, 1e9 / ns, fmt.Sprintf("%.0f k/s", 1e6/ns), strings.HasPrefix(lib, "cache")})
			}
		}
		remote = append(remote, g)
	}
	var local []group
	for _, c := range []struct{ title, name string }{
		{"1 caller", "LocalHit/size=64/keys=zipf/callers=1/cpu=2"},
		{"2 processors", "Scaling/cpu=2"},
	} {
		g := group{title: c.title}
		for _, lib := range r.libs[c.name] {
			if ns, ok := r.median(c.name, lib, "ns/op"); ok && !strings.HasPrefix(lib, "go-redis") && !strings.HasPrefix(lib, "rueidis") {
				g.bars = append(g.bars, bar{lib, ns, fmt.Sprintf("%.0f ns", ns), strings.HasPrefix(lib, "cache")})
			}
		}
		local = append(local, g)
	}
	return map[string]string{
		"remote-hit.svg": svg("Reads from Redis a second, 64 bytes: longer is better", remote),
		"local-hit.svg":  svg("Time of a local hit: shorter is better", local),
	}
}

const (
	labelWidth = 170
	barWidth   = 420
	barHeight  = 16
	gap        = 5
)

func svg(title string, groups []group) string {
	var body strings.Builder
	y := 30
	for _, g := range groups {
		most := 0.0
		for _, b := range g.bars {
			most = max(most, b.value)
		}
		if most == 0 {
			continue
		}
		y += 12
		fmt.Fprintf(&body, "<text class=\"h\" x=\"0\" y=\"%d\">%s</text>\n", y, g.title)
		y += 8
		for _, b := range g.bars {
			class := "peer"
			if b.us {
				class = "us"
			}
			width := b.value / most * barWidth
			fmt.Fprintf(&body, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text>", labelWidth-8, y+12, b.label)
			fmt.Fprintf(&body, "<rect class=\"%s\" x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"%d\"/>", class, labelWidth, y, width, barHeight)
			fmt.Fprintf(&body, "<text x=\"%.1f\" y=\"%d\">%s</text>\n", labelWidth+width+6, y+12, b.text)
			y += barHeight + gap
		}
		y += 8
	}
	width, height := labelWidth+barWidth+90, y+4
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img" aria-label="%s">
<style>
text { font: 12px sans-serif; fill: #333 } .h { font-weight: bold } .t { font-size: 14px; font-weight: bold }
.us { fill: #0a7d5a } .peer { fill: #9aa5b1 }
@media (prefers-color-scheme: dark) { text { fill: #ddd } .us { fill: #2fbf8f } .peer { fill: #6b7684 } }
</style>
<text class="t" x="0" y="18">%s</text>
%s</svg>
`, width, height, width, height, title, title, body.String())
}
