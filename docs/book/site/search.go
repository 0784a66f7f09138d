package site

import (
	"encoding/json"
	"math"
	"path"
	"slices"
	"strings"
	"unicode"

	"github.com/yuin/goldmark/ast"
)

// section is what the search finds: the text under one heading.
type section struct {
	URL   string `json:"u"`
	Page  string `json:"p"`
	Title string `json:"t"`
	Text  string `json:"x"`
}

// searchIndex is what the page searches in. The words are sorted, so that it finds those that
// begin with what was typed; Found has for each of them the sections and the weights, in turns.
type searchIndex struct {
	Sections []section `json:"sections"`
	Words    []string  `json:"words"`
	Found    [][]int   `json:"found"`
}

// sections divides a page at its headings.
func sections(p *Page) []section {
	at := section{URL: p.URL, Page: p.Title, Title: p.Title}
	var all []section
	var text []string
	end := func() {
		at.Text = strings.Join(strings.Fields(strings.Join(text, " ")), " ")
		all = append(all, at)
		text = nil
	}
	for n := p.doc.FirstChild(); n != nil; n = n.NextSibling() {
		if h, ok := n.(*ast.Heading); !ok {
			text = append(text, plain(n, p.text))
		} else if h.Level > 1 {
			end()
			id, _ := h.AttributeString("id")
			at.URL, at.Title = p.URL+"#"+string(id.([]byte)), plain(h, p.text)
		}
	}
	end()
	return all
}

// makeIndex makes the index of all sections. A word weighs more the rarer it is, and more in a
// heading or a title than in the text.
func makeIndex(pages []*Page) ([]byte, error) {
	index := searchIndex{}
	weights := map[string]map[int]float64{}
	scale := map[int]float64{} // of a section
	count := func(text string, section int, weight float64) {
		for _, w := range words(text) {
			if weights[w] == nil {
				weights[w] = map[int]float64{}
			}
			weights[w][section] += weight
		}
	}
	for _, p := range pages {
		for _, s := range p.parts {
			n := len(index.Sections)
			index.Sections = append(index.Sections, s)
			if scale[n] = 1; path.Dir(p.File) != path.Dir(Index) {
				scale[n] = 0.4 // of the project: not what a user looks for first
			}
			count(s.Text, n, 1)
			count(s.Title, n, 8)
			count(s.Page, n, 3)
		}
	}
	for w := range weights {
		index.Words = append(index.Words, w)
	}
	slices.Sort(index.Words)
	for _, w := range index.Words {
		in := weights[w]
		rare := math.Log(1 + float64(len(index.Sections))/float64(len(in)))
		var found []int
		for n := range index.Sections {
			if weight := in[n]; weight > 0 {
				found = append(found, n, int(math.Ceil(10*rare*scale[n]*(1+math.Log(weight)))))
			}
		}
		index.Found = append(index.Found, found)
	}
	return json.Marshal(index)
}

// words are the words of a text, in lower case. A name such as WithTimeout counts as itself and
// as its parts.
func words(text string) []string {
	var all []string
	for _, word := range strings.FieldsFunc(text, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
		lower := strings.ToLower(word)
		all = append(all, lower)
		if parts := split(word); len(parts) > 1 {
			for _, part := range parts {
				if len(part) > 1 {
					all = append(all, strings.ToLower(part))
				}
			}
		}
	}
	return all
}

// split divides a name where a capital follows a small letter, or begins the last word of
// several capitals: StaleIfError, TTLOf.
func split(name string) []string {
	var parts []string
	runes, from := []rune(name), 0
	for i := 1; i < len(runes); i++ {
		if unicode.IsUpper(runes[i]) && (!unicode.IsUpper(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1])) {
			parts = append(parts, string(runes[from:i]))
			from = i
		}
	}
	return append(parts, string(runes[from:]))
}
