package site

import (
	"go/scanner"
	"go/token"
	"html"
	"regexp"
	"strings"

	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/renderer"
	"github.com/yuin/goldmark/util"
)

// codeRenderer renders blocks of code, with what helps to read them in a colour of its own.
type codeRenderer struct{}

func (codeRenderer) RegisterFuncs(r renderer.NodeRendererFuncRegisterer) {
	r.Register(ast.KindFencedCodeBlock, renderCode)
}

func renderCode(w util.BufWriter, source []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
	if !entering {
		return ast.WalkContinue, nil
	}
	block := n.(*ast.FencedCodeBlock)
	text := string(block.Lines().Value(source))
	language := string(block.Language(source))
	switch language {
	case "go":
		text = colourGo(text)
	case "sh", "console":
		text = colourShell(text)
	default:
		text = html.EscapeString(text)
	}
	_, _ = w.WriteString(`<pre tabindex="0"><code class="language-` + html.EscapeString(language) + `">` + text + "</code></pre>\n")
	return ast.WalkSkipChildren, nil
}

// colourGo marks the keywords, strings and comments of Go, also of a part of a program.
func colourGo(text string) string {
	var s scanner.Scanner
	files := token.NewFileSet()
	file := files.AddFile("", files.Base(), len(text))
	s.Init(file, []byte(text), func(token.Position, string) {}, scanner.ScanComments)
	var b strings.Builder
	done := 0
	for {
		pos, tok, lit := s.Scan()
		if tok == token.EOF {
			break
		}
		class := ""
		switch {
		case tok == token.COMMENT:
			class = "c"
		case tok == token.STRING, tok == token.CHAR:
			class = "s"
		case tok.IsKeyword():
			class = "k"
		}
		if class == "" {
			continue
		}
		at := file.Offset(pos)
		b.WriteString(html.EscapeString(text[done:at]))
		b.WriteString(`<span class="` + class + `">` + html.EscapeString(text[at:at+len(lit)]) + "</span>")
		done = at + len(lit)
	}
	b.WriteString(html.EscapeString(text[done:]))
	return b.String()
}

var shellLine = regexp.MustCompile(`^(\$ )?(.*?)(\s#.*)?$`)

// colourShell marks the commands of a console, and comments.
func colourShell(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		body := strings.TrimSuffix(line, "\n")
		m := shellLine.FindStringSubmatch(body)
		switch {
		case strings.HasPrefix(body, "#"):
			b.WriteString(`<span class="c">` + html.EscapeString(body) + "</span>")
		case m == nil:
			b.WriteString(html.EscapeString(body))
		case m[1] != "":
			b.WriteString(`<span class="k">` + html.EscapeString(m[1]+m[2]) + "</span>" + html.EscapeString(m[3]))
		case m[3] != "":
			b.WriteString(html.EscapeString(m[2]) + `<span class="c">` + html.EscapeString(m[3]) + "</span>")
		default:
			b.WriteString(html.EscapeString(body))
		}
		b.WriteString(line[len(body):])
	}
	return b.String()
}
