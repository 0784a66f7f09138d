// Package site makes a book of the Markdown files in docs: pages in an order, with contents,
// links that lead from page to page, and an index for the search. The order is that of the links
// in docs/README.md, so that the same file is the index on the forge.
package site

import (
	"fmt"
	"html/template"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/yuin/goldmark/ast"
)

// Index is the file whose links are the order of the book.
const Index = "docs/README.md"

// Book is all pages, read and rendered.
type Book struct {
	Title string
	Parts []Part
	Pages []*Page // in their order, the index first
	// Broken are the links that lead nowhere: "file: target: why".
	Broken []string

	root  string
	pages map[string]*Page // by file
	files map[string]bool  // other files and folders that pages link to
	index []byte           // of the search, in JSON
}

// Part is a group of pages under a heading of the index.
type Part struct {
	Title string
	Pages []*Page
}

// Page is a Markdown file.
type Page struct {
	File       string // below the root, with slashes
	URL        string
	Title      string
	HTML       template.HTML
	Headings   []Heading // without the title
	Prev, Next *Page

	text    []byte
	doc     ast.Node
	anchors map[string]bool
	parts   []section
}

// Heading is an entry of a page's contents.
type Heading struct {
	Level    int
	ID, Text string
}

// Load reads the book of the checkout in root.
func Load(root string) (*Book, error) {
	b := &Book{root: root, pages: map[string]*Page{}, files: map[string]bool{}}
	index, err := b.add(Index)
	if err != nil {
		return nil, err
	}
	b.Title = index.Title
	if err := b.order(index); err != nil {
		return nil, err
	}
	for _, p := range b.Pages {
		if err := b.render(p); err != nil {
			return nil, err
		}
	}
	for i, p := range b.Pages {
		if i > 0 {
			p.Prev, b.Pages[i-1].Next = b.Pages[i-1], p
		}
	}
	b.index, err = makeIndex(b.Pages)
	return b, err
}

// add reads a file and makes it the last page.
func (b *Book) add(file string) (*Page, error) {
	text, err := os.ReadFile(filepath.Join(b.root, filepath.FromSlash(file)))
	if err != nil {
		return nil, err
	}
	p := parse(file, text)
	if p.Title == "" {
		return nil, fmt.Errorf("%s has no title", file)
	}
	p.URL = "/" + strings.ToLower(strings.TrimSuffix(path.Base(file), ".md"))
	if file == Index {
		p.URL = "/"
	}
	for _, other := range b.Pages {
		if other.URL == p.URL {
			return nil, fmt.Errorf("%s and %s have the same address", other.File, file)
		}
	}
	b.pages[file] = p
	b.Pages = append(b.Pages, p)
	return p, nil
}

// order adds the pages that the index links to, in parts by its headings.
func (b *Book) order(index *Page) error {
	return ast.Walk(index.doc, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			return ast.WalkContinue, nil
		}
		switch n := n.(type) {
		case *ast.Heading:
			if n.Level > 1 {
				b.Parts = append(b.Parts, Part{Title: plain(n, index.text)})
			}
		case *ast.Link:
			file, _, ok := target(index.File, string(n.Destination))
			if !ok || path.Ext(file) != ".md" || b.pages[file] != nil {
				break
			}
			if len(b.Parts) == 0 {
				return ast.WalkStop, fmt.Errorf("%s: the link to %s stands before the first heading", index.File, file)
			}
			p, err := b.add(file)
			if err != nil {
				return ast.WalkStop, fmt.Errorf("%s: %w", index.File, err)
			}
			part := &b.Parts[len(b.Parts)-1]
			part.Pages = append(part.Pages, p)
		}
		return ast.WalkContinue, nil
	})
}
