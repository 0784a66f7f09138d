package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// tab opens a page in a Chromium of its own. Without one in the path the test skips, or
// with CACHE_TEST_REQUIRE_CHROMIUM=1 fails.
func tab(t *testing.T, url string) (ctx context.Context, faults func() []string) {
	t.Helper()
	var path string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
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
	dir, err := os.MkdirTemp("", "webapp-browser")
	if err != nil {
		t.Fatal(err)
	}
	opts := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.UserDataDir(dir), chromedp.DisableGPU,
		chromedp.NoSandbox, // it sees nothing but our own page, and root has no other way
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true))
	ctx, end := chromedp.NewExecAllocator(context.Background(), opts...)
	ctx, leave := chromedp.NewContext(ctx)
	ctx, cancel := context.WithTimeout(ctx, 2*patience)
	t.Cleanup(func() {
		cancel()
		leave()
		end()
		// Its helpers may write for a moment longer.
		for end := time.Now().Add(5 * time.Second); os.RemoveAll(dir) != nil && time.Now().Before(end); {
			time.Sleep(50 * time.Millisecond)
		}
	})
	var mu sync.Mutex
	var all []string
	err = chromedp.Listen(ctx, func(ev any) {
		mu.Lock()
		defer mu.Unlock()
		switch ev := ev.(type) {
		case *runtime.EventExceptionThrown:
			all = append(all, ev.ExceptionDetails.Text)
		case *log.EventEntryAdded:
			if ev.Entry.Level == "error" && ev.Entry.URL != url+"/favicon.ico" {
				all = append(all, ev.Entry.Text)
			}
		}
	})
	if err == nil {
		err = chromedp.Do(ctx, chromedp.EmulateViewport(1280, 900), chromedp.Navigate(url))
	}
	if err != nil {
		t.Fatal(err)
	}
	return ctx, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return all
	}
}

// shows waits until an expression gives a text in the page.
func shows(t *testing.T, ctx context.Context, expression, want string) {
	t.Helper()
	var got string
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end) && ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
		if got, err = chromedp.Run(ctx, chromedp.Evaluate[string]("String("+expression+")")); err == nil && got == want {
			return
		}
	}
	t.Fatalf("%s is %q, %v, and not %q", expression, got, err, want)
}

func TestTheOtherInstancesPageShowsTheChange(t *testing.T) {
	s := run(t, "")
	ctx, faults := tab(t, s.urls[0])
	const price = `document.querySelector("#product-2 b")?.textContent`
	shows(t, ctx, price, "€ 12.40")
	if status, text := post(t, s.urls[1]+"/api/products/2/reprice", url.Values{"cents": {"60"}}); status != http.StatusOK {
		t.Fatalf("reprice: %d %s", status, text)
	}
	shows(t, ctx, price, "€ 13.00")
	shows(t, ctx, `document.querySelector("#product-2 i").className`, "local")

	// And the other way round, by hand.
	if err := chromedp.Do(ctx, chromedp.Click(chromedp.CSS("#product-2 button:last-child"))); err != nil {
		t.Fatal(err)
	}
	shows(t, ctx, price, "€ 13.10")
	sees(t, s.urls[1], 2, 1310)
	if err := chromedp.Do(ctx, chromedp.Click(chromedp.CSS("#tea > div button"))); err != nil {
		t.Fatal(err)
	}
	shows(t, ctx, price, "€ 13.75")
	sees(t, s.urls[1], 2, 1375)

	// Both in one page: each frame is drawn by its own instance.
	if err := chromedp.Do(ctx, chromedp.Navigate(s.urls[0]+"/both")); err != nil {
		t.Fatal(err)
	}
	shows(t, ctx, `document.querySelectorAll("iframe").length`, "2")
	for i := range s.urls {
		shows(t, ctx, fmt.Sprintf(`document.querySelectorAll("iframe")[%d].src`, i), s.urls[i]+"/")
	}
	if f := faults(); len(f) > 0 {
		t.Errorf("in the page: %q", f)
	}
}
