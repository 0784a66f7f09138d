package browser

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/delqhi/cache/metrics/dashboard"
)

// patience bounds what a test waits for that must come.
const patience = 60 * time.Second

// browser is one for all tests; start starts it.
var browser struct {
	once sync.Once
	ctx  context.Context
	path string
	err  error
	stop func()
}

func TestMain(m *testing.M) {
	code := m.Run()
	if browser.stop != nil {
		browser.stop()
	}
	os.Exit(code)
}

func findChromium() string {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

func start() {
	if browser.path = findChromium(); browser.path == "" {
		return
	}
	dir, err := os.MkdirTemp("", "dashboard-browser")
	if err != nil {
		browser.err = err
		return
	}
	opts := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(browser.path), chromedp.UserDataDir(dir), chromedp.DisableGPU,
		// It sees nothing but the pages of these tests, and root has no other way.
		chromedp.NoSandbox,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true),
	)
	alloc, endAlloc := chromedp.NewExecAllocator(context.Background(), opts...)
	ctx, end := chromedp.NewContext(alloc)
	browser.ctx, browser.err = ctx, chromedp.Do(ctx)
	browser.stop = func() {
		end()
		endAlloc()
		// Its helpers may write for a moment longer.
		for end := time.Now().Add(5 * time.Second); os.RemoveAll(dir) != nil && time.Now().Before(end); {
			time.Sleep(50 * time.Millisecond)
		}
	}
}

// tab is a page in the browser.
type tab struct {
	t     *testing.T
	ctx   context.Context
	close func()

	mu     sync.Mutex // guards what follows
	faults []string   // exceptions, errors in the console, violations of the policy
}

// open shows a page in a tab of its own. The test fails if anything goes wrong in it
// that it does not expect, see clean.
func open(t *testing.T, url string) *tab {
	t.Helper()
	browser.once.Do(start)
	switch {
	case browser.path == "" && os.Getenv("CACHE_TEST_REQUIRE_CHROMIUM") != "":
		t.Fatal("there is no Chromium in the path, and CACHE_TEST_REQUIRE_CHROMIUM is set")
	case browser.path == "":
		t.Skip("there is no Chromium in the path")
	case browser.err != nil:
		t.Fatal(browser.err)
	}
	ctx, cancel := chromedp.NewContext(browser.ctx)
	t.Cleanup(cancel)
	ctx, stop := context.WithTimeout(ctx, patience)
	t.Cleanup(stop)
	p := &tab{t: t, ctx: ctx, close: cancel}
	err := chromedp.Listen(ctx, func(ev any) {
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
	p.do(chromedp.EmulateViewport(1280, 900), chromedp.Navigate(url))
	return p
}

func (p *tab) fault(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = append(p.faults, text)
}

func (p *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	if err := chromedp.Do(p.ctx, steps...); err != nil {
		p.t.Fatal(err)
	}
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

// says waits until an element can be seen and contains a text.
func (p *tab) says(id, text string) {
	p.t.Helper()
	p.until(fmt.Sprintf("((e) => e.checkVisibility() && e.innerText.includes(%s))(document.getElementById(%s))", quoted(text), quoted(id)))
}

func (p *tab) click(selector string) {
	p.t.Helper()
	p.do(chromedp.Click(chromedp.CSS(selector)))
}

// act chooses an action and carries it out.
func (p *tab) act(kind, text string) {
	p.t.Helper()
	eval[bool](p, fmt.Sprintf(`(() => {
		const k = document.getElementById("kind");
		k.value = %s;
		k.dispatchEvent(new Event("change"));
		document.getElementById("text").value = %s;
		return true;
	})()`, quoted(kind), quoted(text)))
	p.click("#go")
}

// clean fails the test if anything went wrong in the page, but for what contains one of
// the texts.
func (p *tab) clean(expected ...string) {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
faults:
	for _, f := range p.faults {
		for _, e := range expected {
			if strings.Contains(f, e) {
				continue faults
			}
		}
		p.t.Errorf("in the page: %s", f)
	}
}

func quoted(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// serve serves a dashboard until the test ends.
func serve(t *testing.T, h *dashboard.Handler) (url string) {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(func() {
		h.Close()
		srv.CloseClientConnections()
		srv.Close()
	})
	return srv.URL + "/debug/cache/"
}
