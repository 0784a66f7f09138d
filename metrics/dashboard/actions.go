package dashboard

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/delqhi/cache/metrics"
)

// actor is a cache that supports actions.
type actor interface {
	InspectEncoded(ctx context.Context, key string) (metrics.Inspection, error)
	InvalidateEncoded(ctx context.Context, keys ...string) error
	InvalidatePattern(ctx context.Context, pattern string) (int64, error)
	InvalidateTags(ctx context.Context, tags ...string) error
	Clear(ctx context.Context) error
}

const (
	maxRequest    = 64 << 10
	maxShown      = 64 << 10 // bytes of a value
	actionTimeout = time.Minute
	tokenHeader   = "X-Dashboard-Token"
)

func newToken() string { return rand.Text() }

// crossOrigin refuses requests that the browser marks as from another origin.
var crossOrigin = http.NewCrossOriginProtection()

// mayAct reports whether the page offers actions to a reader.
func (h *Handler) mayAct(r *http.Request) bool {
	return h.authorize != nil && crossOrigin.Check(r) == nil && h.authorize(r) == nil
}

// request is the body of an action's request.
type request struct {
	Cache  int    `json:"cache"`  // ID of its sheet
	Action string `json:"action"` // inspect, key, pattern, tag or clear
	Text   string `json:"text"`   // the key, pattern or tag
}

// answer is the body of its response.
type answer struct {
	Done  string `json:"done,omitempty"`  // what was done
	Error string `json:"error,omitempty"` // why it was not
	Entry *entry `json:"entry,omitempty"` // of an inspection
}

// entry is a [metrics.Inspection] for the page.
type entry struct {
	RedisKey string   `json:"redisKey"`
	Tier     string   `json:"tier"`
	Age      jsonf    `json:"age"` // in seconds
	TTL      jsonf    `json:"ttl"` // in seconds; 0: no end
	Stale    bool     `json:"stale"`
	Absent   bool     `json:"absent"`
	Tags     []string `json:"tags"`
	Type     string   `json:"type"`
	Value    *string  `json:"value"` // null: hidden
	Cut      bool     `json:"cut"`   // there is more of it
}

func (h *Handler) serveAction(w http.ResponseWriter, r *http.Request) {
	if status, err := h.admit(r); err != nil {
		if n, log := h.refused.Add(1); log { // at the rate of requests from anywhere
			h.log.Warn("cache: an action on the dashboard was refused", "reason", err, "from", r.RemoteAddr, "left_out", n-1)
		}
		reply(w, status, answer{Error: refusals[status]})
		return
	}
	var req request
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&req); err != nil {
		reply(w, http.StatusBadRequest, answer{Error: "The request can't be read."})
		return
	}
	c := h.lookUp(req.Cache)
	a, ok := c.(actor)
	if !ok {
		reply(w, http.StatusNotFound, answer{Error: "There is no such cache any more, or it knows no actions."})
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), actionTimeout)
	defer cancel()
	began := time.Now()
	ans, err := h.act(ctx, a, req)
	if err != nil {
		ans = answer{Error: err.Error()}
	}
	status := http.StatusOK
	if errors.Is(err, errBadAction) {
		status = http.StatusBadRequest
	} else {
		h.log.Info("cache: an action on the dashboard", "cache", c.Name(), "action", req.Action, "failed", err != nil,
			"took", time.Since(began), "from", r.RemoteAddr)
	}
	reply(w, status, ans)
}

var refusals = map[int]string{
	http.StatusNotFound:             "Actions are off.",
	http.StatusForbidden:            "You are not allowed to do this.",
	http.StatusUnsupportedMediaType: "An action is a POST of JSON.",
	http.StatusConflict:             "The program was started anew: reload the page.",
}

// admit checks whether a request may perform an action.
func (h *Handler) admit(r *http.Request) (status int, err error) {
	if h.authorize == nil {
		return http.StatusNotFound, errors.New("actions are off")
	}
	if err := crossOrigin.Check(r); err != nil {
		return http.StatusForbidden, err
	}
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/json" {
		return http.StatusUnsupportedMediaType, errors.New("the request is not JSON")
	}
	if err := h.authorize(r); err != nil {
		return http.StatusForbidden, err
	}
	if subtle.ConstantTimeCompare([]byte(r.Header.Get(tokenHeader)), []byte(h.token)) != 1 {
		return http.StatusConflict, errors.New("the token is missing or that of another process")
	}
	return 0, nil
}

func (h *Handler) lookUp(id int) Cache {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pruneLocked()
	for _, t := range h.caches {
		if t.id == id {
			return t.cache
		}
	}
	return nil
}

var errBadAction = errors.New("bad request")

func (h *Handler) act(ctx context.Context, a actor, req request) (ans answer, err error) {
	if req.Text == "" && (req.Action == "pattern" || req.Action == "tag") {
		return ans, fmt.Errorf("%w: the %s is empty", errBadAction, req.Action)
	}
	switch req.Action {
	case "inspect":
		var found metrics.Inspection
		if found, err = a.InspectEncoded(ctx, req.Text); err == nil {
			ans.Entry = h.newEntry(found)
		}
	case "key":
		err = a.InvalidateEncoded(ctx, req.Text)
		ans.Done = "The key is invalid."
	case "pattern":
		var n int64
		n, err = a.InvalidatePattern(ctx, req.Text)
		ans.Done = fmt.Sprintf("What matches is invalid: %d keys.", n)
		if n == 1 {
			ans.Done = "What matches is invalid: 1 key."
		}
	case "tag":
		err = a.InvalidateTags(ctx, req.Text)
		ans.Done = "All that has the tag is invalid."
	case "clear":
		err = a.Clear(ctx)
		ans.Done = "Everything in this cache is invalid."
	default:
		return ans, fmt.Errorf("%w: there is no such action", errBadAction)
	}
	return ans, err
}

func (h *Handler) newEntry(i metrics.Inspection) *entry {
	e := &entry{
		RedisKey: i.RedisKey, Tier: i.Tier.String(), Age: jsonf(i.Age.Seconds()), TTL: jsonf(i.TTL.Seconds()),
		Stale: i.Stale, Absent: i.Absent, Tags: i.Tags,
	}
	if i.Absent {
		return e
	}
	e.Type = fmt.Sprintf("%T", i.Value)
	if h.values {
		text := textOf(i.Value)
		if e.Cut = len(text) > maxShown; e.Cut {
			text = strings.ToValidUTF8(text[:maxShown], "")
		}
		e.Value = &text
	}
	return e
}

// textOf formats a value for a human reader.
func textOf(v any) string {
	switch v := v.(type) {
	case string:
		return printable([]byte(v))
	case []byte:
		return printable(v)
	}
	if text, err := json.MarshalIndent(v, "", "  "); err == nil {
		return string(text)
	}
	return fmt.Sprintf("%+v", v)
}

// printable is text unchanged, and anything else as its bytes.
func printable(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	return fmt.Sprintf("% x", b[:min(len(b), maxShown/3+1)])
}

func reply(w http.ResponseWriter, status int, a answer) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(a) // the reader has left
}
