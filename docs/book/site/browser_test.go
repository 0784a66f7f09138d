package site_test

import (
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// patience bounds what a test waits for that must come.
const patience = 60 * time.Second

var shots = flag.String("shots", "", "a folder for pictures of all pages, in both colours and at both widths")

// widths are those of a phone and of a desktop.
var widths = []int64{390, 1280}

// tab is a page in a Chromium of its own.
type tab struct {
	t   *testing.T
	ctx context.Context

	mu     sync.Mutex // guards what follows
	faults []string   // exceptions, errors in the console, violations of the policy
}

// open starts a Chromium. Without one in the path the test skips, or with
// CACHE_TEST_REQUIRE_CHROMIUM=1 fails.
func open(t *testing.T) *tab {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if found, err := exec.LookPath(name); err == nil && path == "" {
			path = found
		}
	}
	if path == "" {
		if os.Getenv("CACHE_TEST_REQUIRE_CHROMIUM") != "" {
			t.Fatal("there is no Chromium in the path, and CACHE_TEST_REQUIRE_CHROMIUM is set")
		}
		t.Skip("there is no Chromium in the path")
	}
	dir, err := os.MkdirTemp("", "book-browser")
	if err != nil {
		t.Fatal(err)
	}
	opts := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.UserDataDir(dir), chromedp.DisableGPU,
		chromedp.NoSandbox, // it sees nothing but our own pages, and root has no other way
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true))
	ctx, end := chromedp.NewExecAllocator(context.Background(), opts...)
	ctx, leave := chromedp.NewContext(ctx)
	ctx, cancel := context.WithTimeout(ctx, 3*patience)
	t.Cleanup(func() {
		cancel()
		leave()
		end()
		// Its helpers may write for a moment longer.
		for end := time.Now().Add(5 * time.Second); os.RemoveAll(dir) != nil && time.Now().Before(end); {
			time.Sleep(50 * time.Millisecond)
		}
	})
	p := &tab{t: t, ctx: ctx}
	err = chromedp.Listen(ctx, func(ev any) {
		switch ev := ev.(type) {
		case *runtime.EventExceptionThrown:
			p.fault("exception: " + ev.ExceptionDetails.Text)
		case *log.EventEntryAdded:
			if ev.Entry.Level == "error" || ev.Entry.Level == "warning" {
				p.fault(fmt.Sprintf("%s: %s", ev.Entry.Source, ev.Entry.Text))
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *tab) fault(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = append(p.faults, text)
}

// clean fails the test if anything went wrong in the pages.
func (p *tab) clean() {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range p.faults {
		p.t.Errorf("in the page: %s", f)
	}
}

func (p *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	if err := chromedp.Do(p.ctx, steps...); err != nil {
		p.t.Fatal(err)
	}
}

// colours has the page in "light" or "dark".
func (p *tab) colours(scheme string) {
	p.t.Helper()
	p.do(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
		return err
	}))
}

// eval evaluates an expression in the page.
func eval[T any](p *tab, expression string) T {
	p.t.Helper()
	v, err := chromedp.Run(p.ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		p.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// until waits until an expression is true. One that fails, as on a page that is still being
// loaded, is not true yet.
func (p *tab) until(expression string) {
	p.t.Helper()
	for pause, end := 5*time.Millisecond, time.Now().Add(patience); ; pause = min(2*pause, 100*time.Millisecond) {
		is, err := chromedp.Run(p.ctx, chromedp.Evaluate[bool]("!!("+expression+")"))
		if is && err == nil {
			return
		}
		if time.Now().After(end) || p.ctx.Err() != nil {
			p.t.Fatalf("waited in vain for %s: %v; the page says\n%s", expression, err, eval[string](p, "document.body.innerText"))
		}
		time.Sleep(pause)
	}
}

// measure returns what is wrong with how the page looks: what is wider than the screen, pictures
// that are not there, text that is hard to read on its background.
const measure = `(() => {
	const wrong = [];
	const width = document.documentElement.clientWidth;
	if (document.documentElement.scrollWidth > width) {
		for (const e of document.querySelectorAll("body *")) {
			const r = e.getBoundingClientRect();
			let scrolls = false;
			for (let up = e.parentElement; up; up = up.parentElement) scrolls ||= getComputedStyle(up).overflowX !== "visible";
			if (r.right > width + 0.5 && r.width > 0 && !scrolls) wrong.push("too wide: " + e.outerHTML.slice(0, 120));
		}
		if (!wrong.length) wrong.push("the page is " + document.documentElement.scrollWidth + " wide");
	}
	for (const i of document.images) if (!i.complete || !i.naturalWidth) wrong.push("no picture: " + i.src);
	const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
	canvas.canvas.width = canvas.canvas.height = 1;
	const known = new Map();
	const rgba = (colour) => {
		if (!known.has(colour)) {
			canvas.clearRect(0, 0, 1, 1);
			canvas.fillStyle = colour;
			canvas.fillRect(0, 0, 1, 1);
			known.set(colour, [...canvas.getImageData(0, 0, 1, 1).data]);
		}
		return known.get(colour);
	};
	const light = (c) => c.slice(0, 3).map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
		.reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
	const seen = new Set();
	const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	while (texts.nextNode()) {
		const e = texts.currentNode.parentElement;
		if (!texts.currentNode.textContent.trim() || seen.has(e) || !e.checkVisibility()) continue;
		seen.add(e);
		let under = e;
		while (under && rgba(getComputedStyle(under).backgroundColor)[3] < 255) under = under.parentElement;
		if (!under) { wrong.push("no background: " + e.outerHTML.slice(0, 120)); continue; }
		const [a, b] = [light(rgba(getComputedStyle(e).color)), light(rgba(getComputedStyle(under).backgroundColor))].sort((a, b) => b - a);
		const contrast = (a + 0.05) / (b + 0.05);
		if (contrast < 4.5) wrong.push("contrast " + contrast.toFixed(1) + ": " + e.outerHTML.slice(0, 120));
		if (parseFloat(getComputedStyle(e).fontSize) < 12) wrong.push("small: " + e.outerHTML.slice(0, 120));
	}
	if (seen.size < 20) wrong.push("only " + seen.size + " texts were looked at");
	return wrong;
})()`

// Every page fits the screen of a phone and of a desktop, and can be read in light and in dark.
func TestThePagesLookRight(t *testing.T) {
	book := load(t)
	base := serve(t, book)
	p := open(t)
	for _, width := range widths {
		for _, scheme := range []string{"light", "dark"} {
			p.do(chromedp.EmulateViewport(width, 844))
			p.colours(scheme)
			for _, page := range book.Pages {
				p.do(chromedp.Navigate(base + page.URL))
				p.until(`document.readyState === "complete"`)
				for _, wrong := range eval[[]string](p, measure) {
					t.Errorf("%s, %d wide, %s: %s", page.File, width, scheme, wrong)
				}
				p.shoot(fmt.Sprintf("%s-%d-%s", cmp.Or(strings.Trim(page.URL, "/"), "index"), width, scheme))
			}
		}
	}
	// The test sees what is wrong.
	eval[bool](p, `(() => {
		document.querySelector("article").insertAdjacentHTML("beforeend",
			'<div style="width: 3000px">wide</div><p style="color: #777; background: #666">grey</p><img src="/nothing.svg">');
		return true;
	})()`)
	p.until(`document.images[document.images.length - 1].complete`)
	if wrong := strings.Join(eval[[]string](p, measure), "\n"); !strings.Contains(wrong, "too wide: <div") || !strings.Contains(wrong, "contrast 1") || !strings.Contains(wrong, "no picture") {
		t.Errorf("a page that looks wrong has only\n%s", wrong)
	}
}

// shoot takes a picture of the whole page, if the flag asks for it.
func (p *tab) shoot(name string) {
	p.t.Helper()
	if *shots == "" {
		return
	}
	picture, err := chromedp.Run(p.ctx, chromedp.FullScreenshot(100))
	if err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(*shots, name+".png"), picture, 0o666); err != nil {
		p.t.Fatal(err)
	}
}

func quoted(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// typed types into the search.
func (p *tab) typed(text string) {
	p.t.Helper()
	eval[bool](p, `(document.getElementById("query").value = "", true)`)
	p.do(chromedp.SendKeys(chromedp.CSS("#query"), text))
}

// The search finds sections by their words, by the beginnings of words and by parts of names,
// and the keyboard is enough to use it.
func TestTheSearchFinds(t *testing.T) {
	base := serve(t, load(t))
	p := open(t)
	p.do(chromedp.EmulateViewport(1280, 900), chromedp.Navigate(base+"/"))
	const first = `(document.querySelector("#results li strong")?.textContent ?? "")`
	for query, want := range map[string]string{
		"stale fill":          "What goes wrong with caches: A stale fill",
		"two writers":         "What goes wrong with caches: Two writers in the wrong order",
		"circuit breaker":     "When Redis fails",
		"tinylfu lru":         "Strategies: LRU or TinyLFU",
		"decision":            "Which strategy: The decision tree",
		"permiss":             "Deployment: Permissions",
		"DEAD LETTERS":        "The command line: cachectl: Dead letters",
		"clear outbox commit": "Cache and database",
	} {
		p.typed(query)
		p.until(first + ".startsWith(" + quoted(want) + ")")
		p.until(`document.querySelector("#results mark")`)
		p.until(`document.getElementById("count").textContent.includes("section")`)
	}
	p.typed("xyzzy")
	p.until(`document.getElementById("count").textContent === "Nothing found" && !document.querySelector("#results li")`)
	p.typed("<img src=x> & \\d+ (")
	p.until(`!document.querySelector("#results img")`)

	// By the keyboard: to the search, down, up, away, and to the first result.
	p.do(chromedp.KeyEvent("\x1b"))
	p.until(`document.getElementById("results").hidden`)
	eval[bool](p, `(document.activeElement.blur(), true)`)
	p.do(chromedp.KeyEvent("/"))
	p.until(`document.activeElement.id === "query"`)
	p.typed("negative caching")
	p.until(first + `.endsWith("Negative caching")`)
	if *shots != "" {
		p.shoot("search")
	}
	eval[bool](p, `(() => { for (const key of ["ArrowDown", "ArrowDown"]) document.dispatchEvent(new KeyboardEvent("keydown", {key})); return true; })()`)
	p.until(`document.activeElement === document.querySelectorAll("#results a")[1]`)
	eval[bool](p, `(() => { for (const key of ["ArrowUp", "ArrowUp"]) document.dispatchEvent(new KeyboardEvent("keydown", {key})); return true; })()`)
	p.until(`document.activeElement.id === "query"`)
	p.do(chromedp.KeyEvent("\r"))
	p.until(`location.pathname === "/what-goes-wrong" && location.hash === "#negative-caching"`)
	p.until(`document.getElementById("negative-caching").getBoundingClientRect().top >= 0`)
	p.clean()
}

// On a phone the contents are closed until they are asked for, and close when they have led
// somewhere; on a desktop they stand beside the text.
func TestTheContentsOpenWhereThereIsRoom(t *testing.T) {
	base := serve(t, load(t))
	p := open(t)
	p.do(chromedp.EmulateViewport(390, 844), chromedp.Navigate(base+"/outages"))
	p.until(`!document.getElementById("book").open && !document.getElementById("here").open`)
	p.do(chromedp.Click(chromedp.CSS("#here summary")))
	p.until(`document.getElementById("here").open`)
	p.do(chromedp.Click(chromedp.CSS(`#here a[href="#errors"]`)))
	p.until(`location.hash === "#errors" && !document.getElementById("here").open`)
	p.do(chromedp.Click(chromedp.CSS("#book summary")))
	p.do(chromedp.Click(chromedp.CSS(`#book a[href="/choosing"]`)))
	p.until(`location.pathname === "/choosing" && document.querySelector("h1")?.textContent === "Which strategy"`)
	p.do(chromedp.EmulateViewport(1280, 900))
	p.until(`document.getElementById("book").open && document.querySelector('#book [aria-current="page"]').checkVisibility()`)
	p.until(`document.getElementById("book").getBoundingClientRect().right <= document.querySelector("article").getBoundingClientRect().left`)
	p.do(chromedp.Click(chromedp.CSS(`.turn [rel="next"]`)))
	p.until(`location.pathname === "/what-goes-wrong"`)
	p.clean()
}

// In the diagrams, all text is inside of the picture, and that of a box inside of the box.
func TestTheDiagramsHaveRoomForTheirText(t *testing.T) {
	pictures, err := filepath.Glob(filepath.Join(root, "docs/diagrams/*.svg"))
	if err != nil || len(pictures) < 10 {
		t.Fatalf("%d pictures, %v", len(pictures), err)
	}
	p := open(t)
	p.do(chromedp.Navigate("about:blank"))
	for _, path := range pictures {
		svg, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		wrong := eval[[]string](p, `(() => {
			document.body.innerHTML = `+quoted(string(svg))+`;
			const svg = document.querySelector("svg"), all = svg.viewBox.baseVal, wrong = [];
			const boxes = [...svg.querySelectorAll("rect")].map((r) => r.getBBox());
			for (const t of svg.querySelectorAll("text")) {
				const b = t.getBBox();
				if (b.x < 2 || b.x + b.width > all.width - 2 || b.y < 2 || b.y + b.height > all.height - 2) wrong.push("outside: " + t.textContent);
				for (const r of boxes.slice(1)) {
					const middle = b.x + b.width / 2, y = b.y + b.height / 2;
					if (y > r.y && y < r.y + r.height && middle > r.x && middle < r.x + r.width && (b.x < r.x || b.x + b.width > r.x + r.width || b.y < r.y - 1 || b.y + b.height > r.y + r.height + 1)) wrong.push("larger than its box: " + t.textContent);
				}
			}
			if (boxes.length < 3) wrong.push("no boxes");
			return wrong;
		})()`)
		for _, w := range wrong {
			t.Errorf("%s: %s", filepath.Base(path), w)
		}
	}
}
