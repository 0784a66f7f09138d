package site_test

import (
	"encoding/json"
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/delqhi/cache/docs/book/site"
)

const root = "../../.."

func load(t *testing.T) *site.Book {
	t.Helper()
	book, err := site.Load(root)
	if err != nil {
		t.Fatal(err)
	}
	return book
}

func serve(t *testing.T, book *site.Book) string {
	t.Helper()
	server := httptest.NewServer(book.Handler())
	t.Cleanup(server.Close)
	return server.URL
}

func get(t *testing.T, address string) (status int, kind, body string) {
	t.Helper()
	resp, err := http.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header.Get("Content-Type"), string(text)
}

var (
	linkExpr = regexp.MustCompile(`\b(?:href|src)="([^"]*)"`)
	idExpr   = regexp.MustCompile(`\bid="([^"]*)"`)
)

// Every link of every page leads to something in the book, and every anchor to a place in it.
func TestEveryLinkOfTheBookLeadsSomewhere(t *testing.T) {
	book := load(t)
	base := serve(t, book)
	type answer struct {
		status int
		body   string
		ids    []string
	}
	seen := map[string]answer{}
	fetch := func(address string) answer {
		a, ok := seen[address]
		if !ok {
			a.status, _, a.body = get(t, address)
			for _, m := range idExpr.FindAllStringSubmatch(a.body, -1) {
				a.ids = append(a.ids, html.UnescapeString(m[1]))
			}
			seen[address] = a
		}
		return a
	}
	links, anchors := 0, 0
	todo := []string{base + "/"}
	for len(todo) > 0 {
		from := todo[0]
		todo = todo[1:]
		page := fetch(from)
		if sorted := slices.Sorted(slices.Values(page.ids)); len(slices.Compact(sorted)) != len(page.ids) {
			t.Errorf("%s has an id twice", from)
		}
		at, err := url.Parse(from)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range linkExpr.FindAllStringSubmatch(page.body, -1) {
			link := html.UnescapeString(m[1])
			to, err := at.Parse(link)
			if err != nil {
				t.Errorf("%s: %q: %v", from, link, err)
				continue
			}
			if to.Host != at.Host {
				continue // elsewhere: its form is checked by another test
			}
			links++
			anchor := to.Fragment
			to.Fragment, to.RawFragment = "", ""
			_, known := seen[to.String()]
			target := fetch(to.String())
			if target.status != http.StatusOK {
				t.Errorf("%s: the link to %s gets %d", from, link, target.status)
			}
			if anchor != "" {
				if anchors++; !slices.Contains(target.ids, anchor) {
					t.Errorf("%s: %s has no place %s", from, to, anchor)
				}
			}
			if !known && strings.HasPrefix(target.body, "<!doctype html>") {
				todo = append(todo, to.String())
			}
		}
	}
	if len(seen) < 40 || links < 500 || anchors < 100 {
		t.Errorf("only %d addresses, %d links and %d anchors", len(seen), links, anchors)
	}
	for _, p := range book.Pages {
		if _, ok := seen[base+p.URL]; !ok {
			t.Errorf("no link leads to %s", p.URL)
		}
	}
}

func TestThePagesHaveAnOrder(t *testing.T) {
	book := load(t)
	if len(book.Parts) < 5 || len(book.Pages) < 18 || book.Pages[0].File != site.Index {
		t.Fatalf("%d parts and %d pages", len(book.Parts), len(book.Pages))
	}
	n := 1
	for _, part := range book.Parts {
		if part.Title == "" || len(part.Pages) == 0 {
			t.Errorf("the part %q has %d pages", part.Title, len(part.Pages))
		}
		for _, p := range part.Pages {
			if book.Pages[n] != p || p.Prev != book.Pages[n-1] || p.Prev.Next != p {
				t.Errorf("%s is not where the index has it", p.File)
			}
			n++
		}
	}
	if last := book.Pages[len(book.Pages)-1]; n != len(book.Pages) || last.Next != nil {
		t.Errorf("%d pages in parts, of %d", n, len(book.Pages))
	}
}

// What is not part of the book is not served: no other file of the checkout, and none outside.
func TestOnlyWhatPagesLinkToIsServed(t *testing.T) {
	base := serve(t, load(t))
	for path, want := range map[string]int{
		"/files/metrics/prometheus/alerts.yml":   http.StatusOK,
		"/files/docs/local-hit.svg":              http.StatusOK,
		"/files/go.mod":                          http.StatusNotFound,
		"/files/.git/config":                     http.StatusNotFound,
		"/files/../../../etc/passwd":             http.StatusNotFound,
		"/files/%2e%2e/%2e%2e/etc/passwd":        http.StatusNotFound,
		"/files/docs/..%2f..%2f..%2fetc/passwd":  http.StatusNotFound,
		"/files//etc/passwd":                     http.StatusNotFound,
		"/files/metrics/prometheus/../../go.mod": http.StatusNotFound,
		"/nothing":                               http.StatusNotFound,
		"/page.html":                             http.StatusNotFound,
	} {
		if status, _, _ := get(t, base+path); status != want {
			t.Errorf("%s gets %d, want %d", path, status, want)
		}
	}
	if _, kind, _ := get(t, base+"/files/docs/local-hit.svg"); kind != "image/svg+xml" {
		t.Errorf("a picture is %s", kind)
	}
}

// book makes a checkout with the files.
func book(t *testing.T, files map[string]string) (*site.Book, error) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return site.Load(dir)
}

func TestBrokenLinksAreFound(t *testing.T) {
	b, err := book(t, map[string]string{
		"docs/README.md": "# Book\n\n## Part\n\n- [A](a.md)\n- [B](b.md#second-part)\n",
		"docs/a.md": "# A\n\n[x](b.md#nowhere) [x](missing.md) [x](other.md) ![x](no.svg) [x](../../x) [x](#here)\n[x](../LICENSE#x)\n\n" +
			"[x](b.md#second-part-1) [x](b.md#withtimeoutd-and-more) [x](../LICENSE) [x](#a) [x](https://example.com/#x)\n",
		"docs/b.md":     "# B\n\n## Second part\n\n## Second part\n\n## `WithTimeout(d)`, and *more*\n",
		"docs/other.md": "# Not in the index\n",
		"LICENSE":       "MIT",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"docs/a.md: b.md#nowhere: docs/b.md has no such heading",
		"docs/a.md: missing.md: there is no such file",
		"docs/a.md: other.md: the page is not in the index",
		"docs/a.md: no.svg: there is no such file",
		"docs/a.md: ../../x: it is outside of the repository",
		"docs/a.md: #here: docs/a.md has no such heading",
		"docs/a.md: ../LICENSE#x: the anchor is of no page",
	}
	if !slices.Equal(b.Broken, want) {
		t.Errorf("broken are\n%s\nwant\n%s", strings.Join(b.Broken, "\n"), strings.Join(want, "\n"))
	}
}

func TestABookWithoutOrderIsRefused(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"no index":          {"docs/a.md": "# A\n"},
		"no title":          {"docs/README.md": "no title\n"},
		"before a heading":  {"docs/README.md": "# Book\n\n[A](a.md)\n", "docs/a.md": "# A\n"},
		"a page is missing": {"docs/README.md": "# Book\n\n## P\n\n[A](a.md)\n"},
		"one address twice": {"docs/README.md": "# Book\n\n## P\n\n[A](a.md) [A](../A.md)\n", "docs/a.md": "# A\n", "A.md": "# A\n"},
	} {
		if b, err := book(t, files); err == nil {
			t.Errorf("%s: %d pages", name, len(b.Pages))
		}
	}
}

func TestAnchorsAreThoseOfTheForge(t *testing.T) {
	for heading, want := range map[string]string{
		"What a process remembers":   "what-a-process-remembers",
		"LRU or TinyLFU":             "lru-or-tinylfu",
		"The command line: cachectl": "the-command-line-cachectl",
		"What an any holds":          "what-an-any-holds",
		"A `Set` - and more":         "a-set---and-more",
		"snake_case, ümläut":         "snake_case-ümläut",
	} {
		if got := site.Slug(heading); got != want {
			t.Errorf("%q: %s, want %s", heading, got, want)
		}
	}
}

// The index has every section, and every word of a page leads to it.
func TestTheIndexHasEveryWord(t *testing.T) {
	b := load(t)
	_, _, body := get(t, serve(t, b)+"/search.json")
	var index struct {
		Sections []struct{ U, P, T, X string }
		Words    []string
		Found    [][]int
	}
	if err := json.Unmarshal([]byte(body), &index); err != nil {
		t.Fatal(err)
	}
	headings := 0
	for _, p := range b.Pages {
		headings += 1 + len(p.Headings)
	}
	if len(index.Sections) != headings || len(index.Words) != len(index.Found) || !slices.IsSorted(index.Words) {
		t.Fatalf("%d sections for %d headings, %d words, %d lists", len(index.Sections), headings, len(index.Words), len(index.Found))
	}
	word := regexp.MustCompile(`[\p{L}\p{Nd}]+`)
	for n, s := range index.Sections {
		for _, w := range word.FindAllString(s.X+" "+s.T+" "+s.P, -1) {
			i, ok := slices.BinarySearch(index.Words, strings.ToLower(w))
			if !ok {
				t.Fatalf("%s: %q is not in the index", s.U, w)
			}
			found := false
			for j := 0; j < len(index.Found[i]); j += 2 {
				found = found || index.Found[i][j] == n && index.Found[i][j+1] > 0
			}
			if !found {
				t.Fatalf("%q does not lead to %s", w, s.U)
			}
		}
	}
	for _, w := range []string{"staleiferror", "stale", "error", "tinylfu"} {
		if _, ok := slices.BinarySearch(index.Words, w); !ok {
			t.Errorf("%q is not in the index", w)
		}
	}
}
