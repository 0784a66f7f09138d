package site

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"mime"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"
)

//go:embed static
var static embed.FS

var pageTemplate = template.Must(template.ParseFS(static, "static/page.html"))

// Handler serves the book: its pages, the files that they link to, and the search.
func (b *Book) Handler() http.Handler {
	mux := http.NewServeMux()
	for _, p := range b.Pages {
		pattern := p.URL
		if pattern == "/" {
			pattern = "/{$}"
		}
		mux.HandleFunc("GET "+pattern, func(w http.ResponseWriter, _ *http.Request) { b.servePage(w, p, http.StatusOK) })
	}
	for _, name := range []string{"style.css", "search.js"} {
		mux.HandleFunc("GET /"+name, func(w http.ResponseWriter, r *http.Request) {
			http.ServeFileFS(w, r, static, "static/"+name)
		})
	}
	mux.HandleFunc("GET /search.json", func(w http.ResponseWriter, _ *http.Request) {
		send(w, "application/json", b.index)
	})
	mux.HandleFunc("GET /files/{path...}", b.serveFile)
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) { b.notFound(w) })
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		// Pictures bring their own style; nothing comes from elsewhere, and no script but our own.
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-cache")
		mux.ServeHTTP(w, r)
	})
}

func (b *Book) servePage(w http.ResponseWriter, p *Page, status int) {
	var out bytes.Buffer
	if err := pageTemplate.Execute(&out, struct {
		Book *Book
		Page *Page
	}{b, p}); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(out.Bytes())
}

func (b *Book) notFound(w http.ResponseWriter) {
	b.servePage(w, &Page{Title: "Not found", HTML: "<h1>Not found</h1>\n<p>This page is not part of the book. The contents have all pages.</p>"}, http.StatusNotFound)
}

func send(w http.ResponseWriter, kind string, body []byte) {
	w.Header().Set("Content-Type", kind)
	_, _ = w.Write(body)
}

// serveFile serves what pages link to: pictures as such, folders as lists, and everything else
// as text.
func (b *Book) serveFile(w http.ResponseWriter, r *http.Request) {
	name := path.Clean(r.PathValue("path"))
	// A file is served if a page links to it or to its folder.
	if !b.files[name] && !b.files[path.Dir(name)] || strings.HasPrefix(path.Base(name), ".") {
		b.notFound(w)
		return
	}
	disk := filepath.Join(b.root, filepath.FromSlash(name))
	info, err := os.Stat(disk)
	switch {
	case err != nil:
		b.notFound(w)
	case info.IsDir() && b.files[name]:
		b.serveFolder(w, name, disk)
	case info.Mode().IsRegular():
		text, err := os.ReadFile(disk)
		if err != nil {
			b.notFound(w)
			return
		}
		kind := "text/plain; charset=utf-8"
		if found := mime.TypeByExtension(path.Ext(name)); strings.HasPrefix(found, "image/") {
			kind = found
		}
		send(w, kind, text)
	default:
		b.notFound(w)
	}
}

func (b *Book) serveFolder(w http.ResponseWriter, name, disk string) {
	entries, err := os.ReadDir(disk)
	if err != nil {
		b.notFound(w)
		return
	}
	var list strings.Builder
	for _, e := range entries {
		if e.Type().IsRegular() && !strings.HasPrefix(e.Name(), ".") {
			escaped := template.HTMLEscapeString(e.Name())
			fmt.Fprintf(&list, "<li><a href=\"/files/%s/%s\">%s</a></li>\n", template.HTMLEscapeString(name), escaped, escaped)
		}
	}
	title := template.HTMLEscapeString(name)
	b.servePage(w, &Page{Title: name, HTML: template.HTML("<h1>" + title + "</h1>\n<ul>\n" + list.String() + "</ul>")}, http.StatusOK)
}
