package browser

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/delqhi/cache"
	"github.com/delqhi/cache/cachetest"
	"github.com/delqhi/cache/metrics"
	"github.com/delqhi/cache/metrics/dashboard"
	"github.com/delqhi/cache/strategy"
)

var (
	often  = dashboard.Interval(100 * time.Millisecond)
	silent = dashboard.Logger(slog.New(slog.DiscardHandler))
)

func allow(*http.Request) error { return nil }

func newCache(t *testing.T, name string) *cache.Cache[string, string] {
	t.Helper()
	c, err := cache.New[string, string](nil, name, cache.LocalOnly(), cache.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func set(t *testing.T, c *cache.Cache[string, string], key, val string, tags ...string) {
	t.Helper()
	if err := c.Set(context.Background(), key, val, cache.Tags(tags...)); err != nil {
		t.Fatal(err)
	}
}

func has(c *cache.Cache[string, string], key string) bool {
	_, err := c.Peek(context.Background(), key)
	return !errors.Is(err, cache.ErrMiss)
}

func TestThePageLoadsAndUpdates(t *testing.T) {
	ctx := context.Background()
	users := newCache(t, "users")
	h := dashboard.New(often, dashboard.Title("shop on web-1")).Add(users)
	p := open(t, serve(t, h))
	p.says("name", "users")
	p.says("title", "shop on web-1")
	p.says("live", "Live")
	p.until(`document.getElementById("list").hidden && document.getElementById("actions").hidden`)
	p.click(`[data-span="total"]`)
	p.says("tiles", "0 misses")

	set(t, users, "a", "1")
	for range 3 {
		_, _ = users.Get(ctx, "a")
	}
	_, _ = users.Get(ctx, "b")
	p.says("tiles", "75.0 %")
	p.says("tiles", "1 misses")
	p.says("misses", "Nothing there")
	p.until(`document.querySelector("#answers .area")`)
	p.click(`[data-unit="rate"]`)
	p.until(`document.querySelector("#answers svg").getAttribute("aria-label").startsWith("Local")`)

	// A cache that is added shows up, and one can be chosen; one that is closed goes.
	posts := newCache(t, "posts")
	h.Add(posts)
	p.until(`document.querySelectorAll("#list button").length === 2`)
	p.click(`#list button:nth-child(2)`)
	p.says("name", "posts")
	p.until(`location.hash === "#posts"`)
	posts.Close()
	p.until(`document.getElementById("list").hidden`)
	p.says("name", "users")

	// Pausing holds the page, and going on shows what happened.
	p.click("#live")
	p.says("live", "Paused")
	_, _ = users.Get(ctx, "c")
	held := eval[string](p, `document.getElementById("tiles").innerText`)
	p.until(`new Promise((done) => setTimeout(done, 400, true))`)
	if now := eval[string](p, `document.getElementById("tiles").innerText`); now != held {
		t.Errorf("while paused the page went from\n%s\nto\n%s", held, now)
	}
	p.click("#live")
	p.says("tiles", "2 misses")
	p.clean()

	// What the test would see if something went wrong.
	eval[bool](p, `setTimeout(() => { throw new Error("a test") }) > 0`)
	p.until(`new Promise((done) => setTimeout(done, 50, true))`)
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.faults) != 1 {
		t.Errorf("an exception in the page was not seen: %q", p.faults)
	}
}

func TestTheReaderSeesThatTheProgramHasEnded(t *testing.T) {
	h := dashboard.New(often).Add(newCache(t, "users"))
	p := open(t, serve(t, h))
	p.says("live", "Live")
	h.Close()
	p.says("live", "No answer")
	p.clean("503")
}

func TestTheReaderSeesThatRedisIsDown(t *testing.T) {
	env := cachetest.New(t)
	c, err := cache.NewFrom(env.Client(), "users", cache.SourceFunc(func(context.Context, int) (int, error) { return 1, nil }),
		cache.WithStrategy(strategy.LRU(100)), cache.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var asking sync.WaitGroup
	ctx, stop := context.WithCancel(context.Background())
	defer asking.Wait()
	defer stop()
	p := open(t, serve(t, dashboard.New(often).Add(c)))
	p.says("pills", "Not used yet")
	asking.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			_, _ = c.Get(ctx, i)
			time.Sleep(5 * time.Millisecond)
		}
	})
	p.says("pills", "Redis answers")
	p.says("pills", "Notifications heard")
	p.until(`document.getElementById("notes").children.length === 0`)
	env.CutRedis()
	p.says("pills", "Circuit ")
	p.says("pills", "Notifications not heard")
	p.says("notes", "The circuit to Redis is open")
	p.says("misses", "Redis not reached")
	p.clean()
}

func TestActionsWork(t *testing.T) {
	users := newCache(t, "users")
	for _, k := range []string{"a", "b", "x:1", "x:2", "y"} {
		set(t, users, k, "value of "+k, "tag of "+k)
	}
	p := open(t, serve(t, dashboard.New(often, silent, dashboard.Actions(allow), dashboard.ShowValues()).Add(users)))
	p.says("actions", "Inspect a key")

	p.do(chromedp.SendKeys(chromedp.CSS("#text"), "a\r")) // by the keyboard
	p.says("outcome", "value of a")
	p.says("outcome", "tag of a")
	p.act("inspect", "nothing")
	p.says("outcome", "miss")

	p.act("key", "a")
	p.says("outcome", "The key is invalid.")
	p.act("tag", "tag of b")
	p.says("outcome", "All that has the tag is invalid.")
	if has(users, "a") || has(users, "b") || !has(users, "y") {
		t.Error("the key or the tag was not invalidated, or more")
	}
	p.says("tags", "tag of b")

	p.act("pattern", "x:*")
	p.until(`document.getElementById("sure").open`)
	p.says("question", "Invalidate x:*?")
	p.click(`#sure [value="no"]`)
	p.until(`!document.getElementById("sure").open`)
	if !has(users, "x:1") {
		t.Error("the pattern was invalidated without a yes")
	}
	p.click("#go")
	p.click(`#sure [value="yes"]`)
	p.says("outcome", "What matches is invalid: 2 keys.")
	p.act("clear", "")
	p.click(`#sure [value="yes"]`)
	p.says("outcome", "Everything in this cache is invalid.")
	if has(users, "x:1") || has(users, "y") {
		t.Error("something is left")
	}
	p.clean()
}

func TestValuesStayHidden(t *testing.T) {
	users := newCache(t, "users")
	set(t, users, "a", "confidential")
	p := open(t, serve(t, dashboard.New(often, silent, dashboard.Actions(allow)).Add(users)))
	p.says("actions", "Inspect a key")
	p.act("inspect", "a")
	p.says("outcome", "hidden")
	if text := eval[string](p, "document.documentElement.outerHTML"); strings.Contains(text, "confidential") {
		t.Error("the value is in the page")
	}
	p.clean()
}

func TestActionsAreRefusedWithoutAuthority(t *testing.T) {
	users := newCache(t, "users")
	set(t, users, "a", "1")
	var admin atomic.Bool
	authorize := func(*http.Request) error {
		if !admin.Load() {
			return errors.New("no admin")
		}
		return nil
	}
	url := serve(t, dashboard.New(often, silent, dashboard.Actions(authorize)).Add(users))
	p := open(t, url)
	p.says("name", "users")
	p.until(`document.getElementById("actions").hidden`)
	const ask = `fetch("action", {method: "POST", headers: {"Content-Type": "application/json"}, body: '{"cache":1,"action":"clear"}'}).then((r) => r.status)`
	if status := eval[int](p, ask); status != http.StatusForbidden {
		t.Errorf("a user who is no admin gets %d", status)
	}
	p.clean("403")
	p.close() // a tab in the background is not drawn, nor does it take clicks

	// One who was an admin when the page was loaded.
	admin.Store(true)
	p = open(t, url)
	p.says("actions", "Inspect a key")
	if status := eval[int](p, ask); status != http.StatusConflict {
		t.Errorf("without the token an admin gets %d", status)
	}
	admin.Store(false)
	p.act("key", "a")
	p.says("outcome", "You are not allowed to do this.")
	if !has(users, "a") {
		t.Error("the key was invalidated without authority")
	}
	p.clean("403", "409")
}

// A page of another origin tries, in the browser of a user who may.
func TestAForeignPageCanDoNothing(t *testing.T) {
	users := newCache(t, "users")
	set(t, users, "a", "1")
	url := serve(t, dashboard.New(often, silent, dashboard.Actions(allow)).Add(users))
	var reached atomic.Int32
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reached.Add(1)
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<!doctype html><title>evil</title><iframe name="f"></iframe>
			<form id="f" method="post" enctype="text/plain" target="f" action="%saction"><input name='{"cache":1,"action":"clear","text":"' value='"}'></form>`, url)
	}))
	defer front.Close()
	p := open(t, strings.Replace(front.URL, "127.0.0.1", "localhost", 1))
	p.until(`document.title === "evil"`)
	eval[string](p, fmt.Sprintf(`Promise.allSettled([
		fetch(%[1]q, {method: "POST", mode: "no-cors", credentials: "include", body: '{"cache":1,"action":"clear"}'}),
		fetch(%[1]q, {method: "POST", credentials: "include", headers: {"Content-Type": "application/json"}, body: '{"cache":1,"action":"clear"}'}),
	]).then(() => "done")`, url+"action"))
	eval[bool](p, `(document.getElementById("f").submit(), true)`)
	p.until(`new Promise((done) => setTimeout(done, 300, true))`)
	if read := eval[string](p, fmt.Sprintf(`fetch(%q).then((r) => r.text(), () => "unreadable")`, url+"data.json")); read != "unreadable" {
		t.Errorf("a foreign page reads the figures, and with them the token: %s", read)
	}
	if !has(users, "a") {
		t.Error("a foreign page has cleared the cache")
	}
}

func TestHostileNamesStayText(t *testing.T) {
	const markup = `<img/src=x/onerror=window.pwned=1>`
	ctx := context.Background()
	bad := newCache(t, markup)
	rtl := newCache(t, "\u202egnp.exe\u202c"+strings.Repeat("long", 200))
	keys := []string{
		`<img src=x onerror="window.pwned=1">`, `"><script>window.pwned=1</script>`, `' onmouseover='window.pwned=1`,
		`</script><script>window.pwned=1</script>`, "javascript:window.pwned=1", "\u202e\u2066right to left\u2069", "{{constructor.constructor('window.pwned=1')()}}",
		"line\nbreak\r\n\r\nevent: all\ndata: {}\n\n", "nul\x00byte", "\xff\xfe", strings.Repeat("very long ", 1000),
	}
	for _, k := range keys {
		set(t, bad, k, k, k)
		if err := bad.InvalidateTags(ctx, k); err != nil {
			t.Fatal(err)
		}
		set(t, bad, k, k, k)
	}
	h := dashboard.New(often, silent, dashboard.Title(markup), dashboard.Actions(allow), dashboard.ShowValues()).Add(bad, rtl)
	p := open(t, serve(t, h))
	p.says("name", markup)
	p.says("title", markup)
	p.says("tags", `<img src=x onerror="window.pwned=1">`)
	p.says("tags", "U+202E")

	for _, k := range keys {
		if strings.Contains(k, "\n") || strings.Contains(k, "\xff") {
			continue // can't be typed into a line, or is no text
		}
		p.act("inspect", k)
		p.until(fmt.Sprintf(`document.querySelector("#outcome pre")?.textContent.startsWith(%s)`, quoted(k[:min(len(k), 9)])))
		if got := eval[string](p, `document.querySelector("#outcome pre").textContent`); got != k {
			t.Errorf("the value of %q is shown as %q", k, got)
		}
		p.act("pattern", k)
		p.until(`document.getElementById("sure").open`)
		p.click(`#sure [value="no"]`)
		p.act("key", "")
		p.says("outcome", "The key is invalid.")
	}
	for _, width := range []int64{1280, 390} {
		p.do(chromedp.EmulateViewport(width, 844))
		for i := range 2 {
			p.click(fmt.Sprintf(`#list button:nth-child(%d)`, i+1))
			p.until(fmt.Sprintf(`document.querySelector("#list button:nth-child(%d)").getAttribute("aria-current") === "true"`, i+1))
			if wide := eval[int64](p, "document.documentElement.scrollWidth"); wide > width {
				t.Errorf("the page is %d wide on a screen of %d", wide, width)
			}
		}
	}
	if eval[bool](p, "window.pwned !== undefined") {
		t.Error("a name ran as a script")
	}
	if n := eval[int](p, `document.querySelectorAll("img").length * 100 + document.querySelectorAll("script").length`); n != 101 {
		t.Errorf("there are %d images and %d scripts in the page, and not one each", n/100, n%100)
	}
	p.clean()
}

// relay is one whose numbers change.
type relay struct {
	mu  sync.Mutex
	all []metrics.Outbox
}

func (r *relay) Outboxes() []metrics.Outbox {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.all)
}

func (r *relay) set(all ...metrics.Outbox) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = all
}

func TestTheReaderSeesThatTheOutboxIsBehind(t *testing.T) {
	users := newCache(t, "users")
	var r relay
	r.set(metrics.Outbox{Cache: "<b>odd</b>"}, metrics.Outbox{Cache: "users", Held: true, Applied: 4, Replaced: 3, Waited: time.Second})
	h := dashboard.New(often).AddRelays(&r)
	p := open(t, serve(t, h))
	// A process may have relays only.
	p.says("outboxes", "at work")
	p.says("outboxes", "another process, or none")
	p.says("outboxes", "<b>odd</b>")
	p.says("outboxes", "250 ms")
	p.until(`document.getElementById("empty").hidden && document.getElementById("detail").hidden`)
	h.Add(users)
	p.says("name", "users")
	p.until(`document.getElementById("notes").children.length === 0`)
	r.set(metrics.Outbox{Cache: "users", Held: true, Lag: 75 * time.Second, Backlog: 1234, DeadLetters: 2, Unavailable: true})
	p.says("outboxes", "75 s")
	p.says("outboxes", "1,234")
	p.says("outboxes", "Redis does not acknowledge")
	p.says("notes", "The outbox is behind: a committed change has waited for its invalidation for 75 s.")
	p.says("notes", "dead letters: 2")
	p.says("pills", "Outbox 75 s behind")
	r.set(metrics.Outbox{Cache: "users", DatabaseErrors: 17})
	p.says("outboxes", "not at work, database errors: 17")
	p.until(`document.getElementById("notes").children.length === 0`)
	p.clean()
}
