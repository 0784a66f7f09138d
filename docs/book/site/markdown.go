package site

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/renderer"
	"github.com/yuin/goldmark/renderer/html"
	"github.com/yuin/goldmark/text"
	"github.com/yuin/goldmark/util"
)

// markdown is what the forge understands. HTML in a page stays: the pages are those of the
// checkout, and the policy of the server lets no script of a page run.
var markdown = goldmark.New(
	goldmark.WithExtensions(extension.GFM),
	goldmark.WithParserOptions(parser.WithAutoHeadingID()),
	goldmark.WithRendererOptions(html.WithUnsafe(), renderer.WithNodeRenderers(util.Prioritized(codeRenderer{}, 100))),
)

// parse makes a page of a file: its title, its headings and their anchors.
func parse(file string, source []byte) *Page {
	p := &Page{File: file, text: source, anchors: map[string]bool{}}
	context := parser.NewContext(parser.WithIDs(slugs{}))
	p.doc = markdown.Parser().Parse(text.NewReader(source), parser.WithContext(context))
	for n := p.doc.FirstChild(); n != nil; n = n.NextSibling() {
		h, ok := n.(*ast.Heading)
		if !ok {
			continue
		}
		id, _ := h.AttributeString("id")
		heading := Heading{Level: h.Level, ID: string(id.([]byte)), Text: plain(h, source)}
		p.anchors[heading.ID] = true
		if h.Level == 1 && p.Title == "" {
			p.Title = heading.Text
		} else {
			p.Headings = append(p.Headings, heading)
		}
	}
	return p
}

// plain is the text of a node without its markup.
func plain(n ast.Node, source []byte) string {
	var b strings.Builder
	_ = ast.Walk(n, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			if n.Type() == ast.TypeBlock || n.Kind().String() == "TableCell" {
				b.WriteByte(' ')
			}
			return ast.WalkContinue, nil
		}
		switch n := n.(type) {
		case *ast.Text:
			b.Write(util.UnescapePunctuations(n.Segment.Value(source)))
			if n.SoftLineBreak() || n.HardLineBreak() {
				b.WriteByte(' ')
			}
		case *ast.String:
			b.Write(n.Value)
		case *ast.AutoLink:
			b.Write(n.Label(source))
		case *ast.FencedCodeBlock, *ast.CodeBlock:
			b.Write(n.Lines().Value(source))
		}
		return ast.WalkContinue, nil
	})
	return strings.TrimSpace(b.String())
}

// slugs makes the anchors of headings as the forge does: lower case, hyphens for spaces,
// no punctuation, and a number at the end of one that is there already.
type slugs map[string]int

func (s slugs) Generate(value []byte, _ ast.NodeKind) []byte {
	slug := Slug(string(value))
	n, used := s[slug]
	s[slug] = n + 1
	if used {
		slug += "-" + strconv.Itoa(n)
	}
	return []byte(slug)
}

func (s slugs) Put(value []byte) { s[string(value)] = 1 }

// Slug is the anchor of the first heading with the text.
func Slug(heading string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
			return unicode.ToLower(r)
		case r == ' ':
			return '-'
		}
		return -1
	}, strings.TrimSpace(heading))
}

// render makes the page's HTML, with links that lead within the book.
func (b *Book) render(p *Page) error {
	b.links(p)
	p.parts = sections(p)
	var out bytes.Buffer
	if err := markdown.Renderer().Render(&out, p.text, p.doc); err != nil {
		return fmt.Errorf("%s: %w", p.File, err)
	}
	p.HTML = frame(out.String())
	return nil
}
