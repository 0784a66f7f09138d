package browser

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/delqhi/cache"
	"github.com/delqhi/cache/metrics/dashboard"
)

var shots = flag.String("shots", "", "a folder for pictures of the page, in both colours and at both widths")

// shoot takes pictures of the page, if the flag asks for them.
func (p *tab) shoot(name string) {
	p.t.Helper()
	if *shots == "" {
		return
	}
	for _, colours := range []string{"light", "dark"} {
		for _, width := range []int64{1280, 390} {
			p.do(chromedp.EmulateViewport(width, 900), chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
				_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
					Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: colours}}})
				return err
			}))
			picture, err := chromedp.Run(p.ctx, chromedp.FullScreenshot(100))
			if err != nil {
				p.t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(*shots, fmt.Sprint(name, "-", colours, "-", width, ".png")), picture, 0o666); err != nil {
				p.t.Fatal(err)
			}
		}
	}
}

// Which keys are read most is shown by their counts, and by name only where that is allowed.
func TestTheKeysThatAreReadMost(t *testing.T) {
	ctx := context.Background()
	const private, hostile = "user:ann@example.org", `<img src=x onerror="document.title='broken'">`
	names := []string{private, hostile, strings.Repeat("very-long-", 40), "\u202eright to left", "c", "d"}
	for _, shown := range []bool{false, true} {
		t.Run(fmt.Sprint(shown), func(t *testing.T) {
			users := newCache(t, "users")
			opts := []dashboard.Option{often}
			if shown {
				opts = append(opts, dashboard.ShowKeys())
			}
			p := open(t, serve(t, dashboard.New(opts...).Add(users)))
			p.says("keys", "None yet")
			p.until(`document.getElementById("unnamed").hidden`)
			for i, key := range names {
				set(t, users, key, "v", "team")
				for range 40 / (i + 1) {
					if _, err := users.Get(ctx, key, cache.SkipLocal()); err == nil {
						t.Fatal("a LocalOnly cache answers without its only tier")
					}
				}
				if err := users.InvalidateTags(ctx, "team", fmt.Sprint("row:", i%2)); err != nil {
					t.Fatal(err)
				}
			}
			p.until(`document.querySelectorAll("#keys li").length === 6 && document.querySelector("#keys b").innerText === "40"`)
			text := eval[string](p, `document.getElementById("keys").innerText`)
			if shows := strings.Contains(text, private) && strings.Contains(text, hostile); shows != shown {
				t.Errorf("it says\n%s", text)
			}
			page := eval[string](p, `fetch("data.json").then((r) => r.text())`)
			if strings.Contains(page, "ann@example.org") != shown {
				t.Errorf("the data have\n%s", page)
			}
			if shown {
				p.until(`document.getElementById("unnamed").hidden`)
			} else {
				p.says("keys", "Key 1")
				p.says("unnamed", "private")
			}
			// Nothing sticks out, whatever a key is like.
			for _, width := range []int64{1280, 390} {
				p.do(chromedp.EmulateViewport(width, 900))
				p.until(`document.documentElement.scrollWidth <= innerWidth`)
				p.until(`[...document.querySelectorAll("#keys li")].every((e) => e.scrollWidth <= e.clientWidth + 1 && e.querySelector("b").getBoundingClientRect().right <= e.getBoundingClientRect().right)`)
			}
			p.shoot(fmt.Sprint("keys-", shown))
			p.clean()
		})
	}
}
