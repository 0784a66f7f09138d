package site

import (
	"fmt"
	"html/template"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/yuin/goldmark/ast"
)

// target resolves a link of a file to a file below the root and an anchor. It is not ok for a
// link to somewhere else.
func target(from, link string) (file, anchor string, ok bool) {
	u, err := url.Parse(link)
	if err != nil || u.Scheme != "" || u.Host != "" {
		return "", "", false
	}
	if u.Path == "" {
		return from, u.Fragment, true
	}
	return path.Join(path.Dir(from), u.Path), u.Fragment, true
}

// links checks the links of a page and makes them lead within the book.
func (b *Book) links(p *Page) {
	_ = ast.Walk(p.doc, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if entering {
			switch n := n.(type) {
			case *ast.Link:
				n.Destination = []byte(b.link(p, string(n.Destination)))
			case *ast.Image:
				n.Destination = []byte(b.link(p, string(n.Destination)))
			}
		}
		return ast.WalkContinue, nil
	})
}

func (b *Book) broken(p *Page, link, format string, args ...any) {
	b.Broken = append(b.Broken, fmt.Sprintf("%s: %s: %s", p.File, link, fmt.Sprintf(format, args...)))
}

// link is the address in the book of what a page links to.
func (b *Book) link(p *Page, link string) string {
	file, anchor, ok := target(p.File, link)
	if !ok {
		return link
	}
	hash := ""
	if anchor != "" {
		hash = "#" + anchor
	}
	if to := b.pages[file]; to != nil {
		if anchor != "" && !to.anchors[anchor] {
			b.broken(p, link, "%s has no such heading", to.File)
		}
		if to == p && anchor != "" {
			return hash
		}
		return to.URL + hash
	}
	if !filepath.IsLocal(filepath.FromSlash(file)) {
		b.broken(p, link, "it is outside of the repository")
		return link
	}
	info, err := os.Stat(filepath.Join(b.root, filepath.FromSlash(file)))
	if err != nil {
		b.broken(p, link, "there is no such file")
		return link
	}
	switch {
	case path.Ext(file) == ".md" && path.Dir(file) == path.Dir(Index):
		b.broken(p, link, "the page is not in the index")
	case anchor != "":
		b.broken(p, link, "the anchor is of no page")
	}
	b.files[file] = true
	at := "/files/" + (&url.URL{Path: file}).EscapedPath()
	if info.IsDir() {
		at += "/"
	}
	return at
}

// frame lets wide tables scroll by themselves, so that the page does not.
func frame(html string) template.HTML {
	html = strings.ReplaceAll(html, "<table>", `<div class="wide" tabindex="0" role="region" aria-label="Table"><table>`)
	html = strings.ReplaceAll(html, "</table>", "</table></div>")
	return template.HTML(html)
}

// Check checks the links of a file that is not a page of the book, and adds to Broken.
func (b *Book) Check(file string) error {
	text, err := os.ReadFile(filepath.Join(b.root, filepath.FromSlash(file)))
	if err != nil {
		return err
	}
	b.links(parse(file, text))
	return nil
}
