package site

import (
	"strings"

	"github.com/yuin/goldmark/ast"
)

// Block is a block of code in a file.
type Block struct {
	Language string
	Text     string
	Line     int // of its first line of code, from 1
}

// Contents is what a file has that can be checked.
type Contents struct {
	Blocks []Block
	Codes  []string // code within the text
	Links  []string // targets as they are written, of pictures as well
}

// Read returns the contents of a Markdown text.
func Read(text []byte) Contents {
	var c Contents
	_ = ast.Walk(parse("", text).doc, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			return ast.WalkContinue, nil
		}
		switch n := n.(type) {
		case *ast.FencedCodeBlock:
			b := Block{Language: string(n.Language(text)), Text: string(n.Lines().Value(text))}
			if n.Lines().Len() > 0 {
				b.Line = 1 + strings.Count(string(text[:n.Lines().At(0).Start]), "\n")
			}
			c.Blocks = append(c.Blocks, b)
		case *ast.CodeBlock:
			c.Blocks = append(c.Blocks, Block{Text: string(n.Lines().Value(text)), Line: 1 + strings.Count(string(text[:n.Lines().At(0).Start]), "\n")})
		case *ast.CodeSpan:
			c.Codes = append(c.Codes, codeText(n, text))
		case *ast.Link:
			c.Links = append(c.Links, string(n.Destination))
		case *ast.Image:
			c.Links = append(c.Links, string(n.Destination))
		case *ast.AutoLink:
			c.Links = append(c.Links, string(n.URL(text)))
		}
		return ast.WalkContinue, nil
	})
	return c
}

// codeText is code within the text, which has nothing that is escaped.
func codeText(n ast.Node, text []byte) string {
	var b strings.Builder
	for c := n.FirstChild(); c != nil; c = c.NextSibling() {
		if t, ok := c.(*ast.Text); ok {
			b.Write(t.Segment.Value(text))
		}
	}
	return strings.ReplaceAll(b.String(), "\n", " ")
}
