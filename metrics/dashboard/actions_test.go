package dashboard

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

func allowAll(*http.Request) error { return nil }

// post sends an action as the page does, changed by edit.
func post(t *testing.T, h *Handler, action request, edit func(*http.Request)) (int, answer) {
	t.Helper()
	text, err := json.Marshal(action)
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodPost, "http://host.example/debug/cache/action", bytes.NewReader(text))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	r.Header.Set("Origin", "http://host.example")
	r.Header.Set(tokenHeader, h.token)
	if edit != nil {
		edit(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	var a answer
	if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil {
		t.Fatalf("%d %s: %v", w.Code, w.Body, err)
	}
	return w.Code, a
}

func TestActionsReachTheCache(t *testing.T) {
	f := &fake{name: "a"}
	h := New(discard, Actions(allowAll)).Add(&fake{name: "other"}, f)
	const hostile = "<img src=x onerror=alert(1)>\"'\u202e"
	for _, c := range []struct {
		action, text, want, done string
	}{
		{"key", hostile, "key " + hostile, "The key is invalid."},
		{"key", "", "key ", "The key is invalid."},
		{"pattern", "x:*", "pattern x:*", "What matches is invalid: 7 keys."},
		{"tag", "a,b", "tag a,b", "All that has the tag is invalid."},
		{"clear", "", "clear", "Everything in this cache is invalid."},
	} {
		status, a := post(t, h, request{2, c.action, c.text}, nil)
		if calls := f.said(); status != http.StatusOK || a.Done != c.done || a.Error != "" || calls[len(calls)-1] != c.want {
			t.Errorf("%s %q: %d, %+v, the cache was told %q", c.action, c.text, status, a, calls)
		}
	}
	f.err = errors.New("out of reach")
	if status, a := post(t, h, request{2, "clear", ""}, nil); status != http.StatusOK || a.Error != "out of reach" || a.Done != "" {
		t.Errorf("an action that fails: %d, %+v", status, a)
	}
	n := len(f.said())
	for _, bad := range []request{{2, "drop", ""}, {2, "pattern", ""}, {2, "tag", ""}} {
		if status, a := post(t, h, bad, nil); status != http.StatusBadRequest || a.Error == "" {
			t.Errorf("%+v: %d, %+v", bad, status, a)
		}
	}
	if status, _ := post(t, h, request{99, "clear", ""}, nil); status != http.StatusNotFound {
		t.Errorf("a cache that is not there: %d", status)
	}
	if got := len(f.said()); got != n {
		t.Errorf("a bad request reached the cache: %q", f.said())
	}
}

func TestActionsAreRefused(t *testing.T) {
	denied := errors.New("secret reason")
	deny := Actions(func(*http.Request) error { return denied })
	for _, c := range []struct {
		name   string
		option Option
		edit   func(*http.Request)
		status int
	}{
		{"when they are off", nil, nil, 404},
		{"when the authorizer is nil", Actions(nil), nil, 404},
		{"without authority", deny, nil, 403},
		{"from another site", Actions(allowAll), func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }, 403},
		{"from another host of the site", Actions(allowAll), func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-site") }, 403},
		{"from another origin, by an older browser", Actions(allowAll), func(r *http.Request) {
			r.Header.Del("Sec-Fetch-Site")
			r.Header.Set("Origin", "http://evil.example")
		}, 403},
		{"of unknown origin, without the token", Actions(allowAll), func(r *http.Request) {
			r.Header.Del("Sec-Fetch-Site")
			r.Header.Del("Origin")
			r.Header.Del(tokenHeader)
		}, 409},
		{"with another token", Actions(allowAll), func(r *http.Request) { r.Header.Set(tokenHeader, newToken()) }, 409},
		{"as a form", Actions(allowAll), func(r *http.Request) { r.Header.Set("Content-Type", "application/x-www-form-urlencoded") }, 415},
		{"as plain text", Actions(allowAll), func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") }, 415},
		{"without a type", Actions(allowAll), func(r *http.Request) { r.Header.Del("Content-Type") }, 415},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := &fake{name: "a"}
			h := New(discard, c.option).Add(f)
			status, a := post(t, h, request{1, "clear", ""}, c.edit)
			if status != c.status || a.Error == "" || strings.Contains(a.Error, "secret") || len(f.said()) != 0 {
				t.Errorf("%d, %+v; the cache was told %q", status, a, f.said())
			}
		})
	}
	h := New(discard, Actions(allowAll)).Add(&fake{name: "a"})
	for name, text := range map[string]string{"no JSON": "x", "unknown": `{"cache":1,"action":"clear","force":true}`, "long": `{"text":"` + strings.Repeat("x", maxRequest) + `"}`} {
		r := httptest.NewRequest(http.MethodPost, "/action", strings.NewReader(text))
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set(tokenHeader, h.token)
		w := httptest.NewRecorder()
		if h.ServeHTTP(w, r); w.Code != http.StatusBadRequest {
			t.Errorf("%s: %d", name, w.Code)
		}
	}
}

func TestTheTokenIsForThoseWhoMayAct(t *testing.T) {
	admin := Actions(func(r *http.Request) error {
		if r.Header.Get("X-User") != "admin" {
			return errors.New("no admin")
		}
		return nil
	})
	h := New(discard, admin).Add(&fake{name: "a"})
	if p := figuresOf(t, h, "/data.json"); p.Actions || p.Token != "" {
		t.Errorf("for anybody: %v, %q", p.Actions, p.Token)
	}
	if p := figuresOf(t, h, "/data.json", "X-User", "admin"); !p.Actions || p.Token != h.token {
		t.Errorf("for an admin: %v, %q", p.Actions, p.Token)
	}
	if h.token == New().token || len(h.token) < 26 {
		t.Errorf("the token %q can be guessed", h.token)
	}
}

func TestValuesAreHiddenUnlessAllowed(t *testing.T) {
	type user struct{ Name string }
	for _, c := range []struct {
		value any
		typ   string
		want  string
	}{
		{user{"<b>"}, "dashboard.user", "{\n  \"Name\": \"\\u003cb\\u003e\"\n}"},
		{"plain <b>", "string", "plain <b>"},
		{[]byte("text"), "[]uint8", "text"},
		{[]byte{0xff, 0x01}, "[]uint8", "ff 01"},
		{make(chan int), "chan int", ""},
		{strings.Repeat("ä", maxShown), "string", strings.Repeat("ä", maxShown/2)},
	} {
		f := &fake{name: "a", value: c.value}
		_, a := post(t, New(discard, Actions(allowAll)).Add(f), request{1, "inspect", "k"}, nil)
		if a.Entry == nil || a.Entry.Value != nil || a.Entry.Type != c.typ || a.Entry.RedisKey != "a:k" || a.Entry.Tier != "remote" || a.Entry.TTL != 60 || !slices.Equal(a.Entry.Tags, []string{"t"}) {
			t.Errorf("%T, hidden: %+v", c.value, a.Entry)
		}
		_, a = post(t, New(discard, Actions(allowAll), ShowValues()).Add(f), request{1, "inspect", "k"}, nil)
		if a.Entry == nil || a.Entry.Value == nil || c.want != "" && *a.Entry.Value != c.want || a.Entry.Cut != (len(c.want) == maxShown) {
			t.Errorf("%T, shown: %+v", c.value, a.Entry)
		}
	}
}

func TestActionsAreLoggedWithoutKeys(t *testing.T) {
	var log bytes.Buffer
	l := Logger(slog.New(slog.NewTextHandler(&log, nil)))
	h := New(l, Actions(allowAll)).Add(&fake{name: "users"})
	post(t, h, request{1, "key", "a secret key"}, nil)
	if text := log.String(); !strings.Contains(text, "cache=users action=key failed=false") || strings.Contains(text, "secret") {
		t.Errorf("logged: %s", text)
	}
	log.Reset()
	post(t, New(l, Actions(func(*http.Request) error { return errors.New("no badge") })), request{1, "clear", ""}, nil)
	if text := log.String(); !strings.Contains(text, `reason="no badge"`) {
		t.Errorf("logged: %s", text)
	}
}
