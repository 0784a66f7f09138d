package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/delqhi/cache/internal/redistest"
	"go.uber.org/goleak"
)

// patience bounds what a test waits for that must come.
const patience = 30 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// run starts two instances for a test.
func run(t *testing.T, redisURL string) *site {
	t.Helper()
	s, err := start(t.Context(), flags{addr: "127.0.0.1:0", instances: 2, redis: redisURL, log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.close()
		http.DefaultClient.CloseIdleConnections()
	})
	return s
}

func ask(t *testing.T, req *http.Request, into any) (status int, text string) {
	t.Helper()
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if into != nil {
		if err := json.Unmarshal(b, into); err != nil {
			t.Fatalf("%s %s: %s, %v in %s", req.Method, req.URL, res.Status, err, b)
		}
	}
	return res.StatusCode, string(b)
}

func get(t *testing.T, url string, into any) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return ask(t, req, into)
}

func post(t *testing.T, url string, form url.Values, header ...string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return ask(t, req, nil)
}

// sees waits until an instance answers with a price, from its own memory.
func sees(t *testing.T, base string, id, cents int64) {
	t.Helper()
	var a answer
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		get(t, fmt.Sprintf("%s/api/products/%d", base, id), &a)
		if a.Cents == cents && a.Tier == "local" {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s sees %+v, and not %d cents in its memory", base, a, cents)
		}
	}
}

func TestTwoInstancesAreOneShop(t *testing.T) {
	for name, redisURL := range map[string]func(t *testing.T) string{
		"embedded": func(*testing.T) string { return "" },
		"real":     func(t *testing.T) string { return redistest.Start(t).URL() },
	} {
		t.Run(name, func(t *testing.T) {
			s := run(t, redisURL(t))
			a, b := s.urls[0], s.urls[1]
			var first answer
			get(t, a+"/api/products/1", &first)
			if first.Name != "Assam" || first.Tier != "source" {
				t.Fatalf("the first answer is %+v", first)
			}
			for _, base := range s.urls {
				sees(t, base, 1, first.Cents)
			}

			// Changed by one, read by the other.
			if status, text := post(t, a+"/api/products/1/reprice", url.Values{"cents": {"25"}}); status != http.StatusOK {
				t.Fatalf("reprice: %d %s", status, text)
			}
			for _, base := range s.urls {
				sees(t, base, 1, first.Cents+25)
			}

			// One statement for many rows, told by a tag.
			var tea []answer
			get(t, b+"/api/shelves/tea", &tea)
			if len(tea) != 4 || tea[0].Cents != first.Cents+25 {
				t.Fatalf("the shelf has %+v", tea)
			}
			if status, text := post(t, b+"/api/shelves/tea/raise", url.Values{"percent": {"10"}}); status != http.StatusOK {
				t.Fatalf("raise: %d %s", status, text)
			}
			for _, p := range tea {
				for _, base := range s.urls {
					sees(t, base, p.ID, p.Cents*110/100)
				}
			}
		})
	}
}

func TestAtOnceMeansOneAfterTheOther(t *testing.T) {
	s := run(t, "")
	var before answer
	get(t, s.urls[0]+"/api/products/5", &before)
	const each = 20
	done := make(chan error, 2)
	for _, base := range s.urls {
		go func() {
			for range each {
				res, err := http.PostForm(base+"/api/products/5/reprice", url.Values{"cents": {"1"}})
				if err != nil {
					done <- err
					return
				}
				res.Body.Close()
				if res.StatusCode != http.StatusOK {
					done <- fmt.Errorf("reprice: %s", res.Status)
					return
				}
			}
			done <- nil
		}()
	}
	for range s.urls {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	sees(t, s.urls[0], 5, before.Cents+2*each)
	sees(t, s.urls[1], 5, before.Cents+2*each)
}

// A change that is committed while Redis is away reaches both instances when it is back.
func TestAChangeWaitsForRedis(t *testing.T) {
	redis := redistest.Start(t)
	s := run(t, redis.URL())
	for _, base := range s.urls {
		sees(t, base, 6, 1290)
	}
	redis.Stop()
	if status, text := post(t, s.urls[0]+"/api/products/6/reprice", url.Values{"cents": {"10"}}); status != http.StatusOK {
		t.Fatalf("reprice: %d %s", status, text)
	}
	if status, text := post(t, s.urls[1]+"/api/shelves/coffee/raise", url.Values{"percent": {"10"}}); status != http.StatusOK {
		t.Fatalf("raise: %d %s", status, text)
	}
	if err := redis.Restart(); err != nil {
		t.Fatal(err)
	}
	for _, base := range s.urls {
		sees(t, base, 6, 1430)
	}
}

// The new value is put into the caches: no instance loads it.
func TestAChangeNeedsNoLoad(t *testing.T) {
	s := run(t, "")
	loads := func() (n int) {
		for _, base := range s.urls {
			var page struct {
				Caches []struct{ Total struct{ Loads int } }
			}
			get(t, base+"/debug/cache/data.json", &page)
			for _, c := range page.Caches {
				n += c.Total.Loads
			}
		}
		return n
	}
	for _, base := range s.urls {
		sees(t, base, 3, 980)
	}
	// The figures are of the last sample.
	for end := time.Now().Add(patience); loads() != 1; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d loads", loads())
		}
	}
	if status, text := post(t, s.urls[1]+"/api/products/3/reprice", url.Values{"cents": {"20"}}); status != http.StatusOK {
		t.Fatalf("reprice: %d %s", status, text)
	}
	for _, base := range s.urls {
		sees(t, base, 3, 1000)
	}
	replaced := func() (n float64) {
		for _, base := range s.urls {
			var page struct {
				Outboxes []struct{ Replaced, Applied float64 }
			}
			get(t, base+"/debug/cache/data.json", &page)
			for _, o := range page.Outboxes {
				n += o.Replaced
			}
		}
		return n
	}
	for end := time.Now().Add(patience); replaced() != 1; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%v values were put in place", replaced())
		}
	}
	if n := loads(); n != 1 {
		t.Errorf("%d loads, want 1", n)
	}
}

func TestWhatIsNotThereIsNotFound(t *testing.T) {
	s := run(t, "")
	for range 2 { // the second answer is remembered
		for _, path := range []string{"/api/products/999", "/api/shelves/beer"} {
			if status, text := get(t, s.urls[0]+path, nil); status != http.StatusNotFound {
				t.Errorf("%s: %d %s", path, status, text)
			}
		}
	}
	if status, _ := get(t, s.urls[0]+"/api/products/x", nil); status != http.StatusBadRequest {
		t.Errorf("no number: %d", status)
	}
	if status, _ := post(t, s.urls[0]+"/api/products/1/reprice", url.Values{"cents": {"9999999"}}); status != http.StatusBadRequest {
		t.Errorf("too much: %d", status)
	}
	if status, _ := post(t, s.urls[0]+"/api/products/1/reprice", url.Values{"cents": {"1"}}, "Sec-Fetch-Site", "cross-site"); status != http.StatusForbidden {
		t.Errorf("from another site: %d", status)
	}
	if status, _ := post(t, s.urls[0]+"/api/products/999/reprice", url.Values{"cents": {"1"}}); status != http.StatusNotFound {
		t.Errorf("a product that is not there: %d", status)
	}
}

func TestAnOperatorSeesBothCaches(t *testing.T) {
	s := run(t, "")
	base := s.urls[1]
	get(t, base+"/api/shelves/tea", nil)
	get(t, base+"/api/shelves/tea", nil)
	var page struct {
		Title   string
		Actions bool
		Token   string
		Caches  []struct {
			ID    int
			Name  string
			Total struct{ LocalHits, Loads int }
		}
	}
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		// The figures are of the last sample.
		if get(t, base+"/debug/cache/data.json", &page); len(page.Caches) == 2 && page.Caches[0].Total.LocalHits >= 4 {
			break
		}
	}
	if page.Title != "webapp, instance B" || !page.Actions || len(page.Caches) != 2 || page.Caches[0].Name != "products" || page.Caches[0].Total.LocalHits < 4 || page.Caches[0].Total.Loads != 4 {
		t.Errorf("the dashboard says %+v", page)
	}
	if status, text := get(t, base+"/debug/cache/", nil); status != http.StatusOK || !strings.Contains(text, "<title>Caches</title>") {
		t.Errorf("the dashboard's page: %d", status)
	}

	// What an operator does in one instance, all know.
	sees(t, s.urls[0], 1, 690)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/debug/cache/action", strings.NewReader(fmt.Sprintf(`{"cache":%d,"action":"key","text":"1"}`, page.Caches[0].ID)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Dashboard-Token", page.Token)
	if status, text := ask(t, req, nil); status != http.StatusOK || !strings.Contains(text, "The key is invalid.") {
		t.Errorf("an action: %d %s", status, text)
	}
	for end := time.Now().Add(patience); ; {
		var a answer
		get(t, s.urls[0]+"/api/products/1", &a)
		if a.Tier != "local" {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the other instance goes on with what was invalidated")
		}
	}

	status, text := get(t, base+"/metrics", nil)
	if status != http.StatusOK || !strings.Contains(text, `cache="products"`) || !strings.Contains(text, `cache="shelves"`) || !strings.Contains(text, "cache_outbox_held{cache=\"products\"}") {
		t.Errorf("Prometheus: %d\n%s", status, text)
	}
}

func TestActionsAreForThisMachine(t *testing.T) {
	for _, c := range []struct {
		from, host string
		ok         bool
	}{
		{"127.0.0.1:5", "localhost:8080", true}, {"127.0.0.1:5", "127.0.0.1:8080", true}, {"[::1]:5", "[::1]:8080", true}, {"127.0.0.1:5", "localhost", true},
		{"192.0.2.1:5", "localhost:8080", false}, {"127.0.0.1:5", "evil.example:8080", false}, {"127.0.0.1:5", "evil.example", false}, {"", "localhost", false},
	} {
		err := onThisMachine(&http.Request{RemoteAddr: c.from, Host: c.host})
		if (err == nil) != c.ok {
			t.Errorf("from %s as %s: %v", c.from, c.host, err)
		}
	}
}

func TestStartLeavesNothingBehindWhenItFails(t *testing.T) {
	for _, f := range []flags{
		{addr: "127.0.0.1:0", instances: 0}, {addr: "nowhere", instances: 1}, {addr: "127.0.0.1:0", instances: 2, redis: "http://x"},
		{addr: "127.0.0.1:0", instances: 2, db: t.TempDir() + "/no/such/folder/x.db"},
	} {
		f.log = slog.New(slog.DiscardHandler)
		if s, err := start(context.Background(), f); err == nil {
			s.close()
			t.Errorf("%+v was started", f)
		}
	}
}
