package dashboard

import (
	"encoding/json"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/delqhi/cache/internal/metrictable"
	"github.com/delqhi/cache/metrics"
)

// jsonf is a number of which three digits behind the point are enough.
type jsonf float64

func (f jsonf) MarshalJSON() ([]byte, error) {
	if math.IsNaN(float64(f)) || math.IsInf(float64(f), 0) {
		return []byte("null"), nil
	}
	return strconv.AppendFloat(nil, math.Round(float64(f)*1000)/1000, 'f', -1, 64), nil
}

// page is all that the page shows.
type page struct {
	Title    string  `json:"title"`
	Time     int64   `json:"time"`            // ms since 1970
	Interval jsonf   `json:"interval"`        // in seconds
	Actions  bool    `json:"actions"`         // this reader may use actions
	Token    string  `json:"token,omitempty"` // the token for them
	Values   bool    `json:"values"`          // an inspection shows values
	Keys     bool    `json:"keys"`            // the keys that are read most are shown
	Caches   []sheet `json:"caches"`
	Outboxes []queue `json:"outboxes"`
}

// queue is what the page shows of the outbox of a cache.
type queue struct {
	Name           string `json:"name"`
	Held           bool   `json:"held"` // the relay of this process is at work; the next four are known there only
	Unavailable    bool   `json:"unavailable"`
	Lag            jsonf  `json:"lag"` // in seconds
	Backlog        uint64 `json:"backlog"`
	DeadLetters    uint64 `json:"deadLetters"`
	Applied        uint64 `json:"applied"`
	Merged         uint64 `json:"merged"`
	Replaced       uint64 `json:"replaced"`
	MeanWait       jsonf  `json:"meanWait"` // of a row, in seconds
	Postponed      uint64 `json:"postponed"`
	Refused        uint64 `json:"refused"`
	Buried         uint64 `json:"buried"`
	DatabaseErrors uint64 `json:"databaseErrors"`
}

// queues are those of all relays.
func (h *Handler) queues() []queue {
	h.mu.Lock()
	relays := h.relays
	h.mu.Unlock()
	all := []queue{}
	for _, o := range metrictable.Outboxes(relays) {
		q := queue{
			Name: o.Cache, Held: o.Held, Unavailable: o.Unavailable, Lag: jsonf(o.Lag.Seconds()), Backlog: o.Backlog, DeadLetters: o.DeadLetters,
			Applied: o.Applied, Merged: o.Merged, Replaced: o.Replaced, Postponed: o.Postponed, Refused: o.Refused, Buried: o.Buried, DatabaseErrors: o.DatabaseErrors,
		}
		if o.Applied > 0 {
			q.MeanWait = jsonf(o.Waited.Seconds() / float64(o.Applied))
		}
		all = append(all, q)
	}
	return all
}

// sheet is what the page shows of one cache.
type sheet struct {
	ID      int                `json:"id"`
	Name    string             `json:"name"`
	Actions bool               `json:"actions"` // the cache supports them
	Since   figures            `json:"total"`   // since the cache was made or reset
	Window  figures            `json:"window"`  // in about the last minute
	Seconds jsonf              `json:"windowSeconds"`
	Tags    []metrics.TagCount `json:"topTags"`
	Keys    []metrics.KeyCount `json:"hotKeys"` // with empty keys unless the page shows them
	Points  []point            `json:"points"`  // the history; in an event the last one
}

// figures are a snapshot and what is computed from it.
type figures struct {
	Requests uint64
	HitRate  jsonf
	metrics.Snapshot
}

func newFigures(s metrics.Snapshot) figures {
	return figures{Requests: s.Requests(), HitRate: jsonf(s.HitRate()), Snapshot: s}
}

// data collects what is shown to one reader: all of the history, or its last point.
func (h *Handler) data(mayAct, history bool) page {
	p := page{
		Title: h.title, Time: time.Now().UnixMilli(), Interval: jsonf(h.interval.Seconds()),
		Actions: mayAct, Values: h.values, Keys: h.keys, Caches: []sheet{}, Outboxes: h.queues(),
	}
	if mayAct {
		p.Token = h.token
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, t := range h.caches {
		if t.first.IsZero() {
			continue // comes with the next sample
		}
		from := t.starts[0]
		s := sheet{
			ID: t.id, Name: t.cache.Name(), Since: newFigures(t.last), Window: newFigures(t.last.Sub(from.snap)),
			Seconds: jsonf(max(h.sampled.Sub(from.at).Seconds(), 0)), Tags: t.tags, Keys: t.keys,
		}
		_, s.Actions = t.cache.(actor)
		points := t.points
		if !history {
			points = points[len(points)-1:]
		}
		s.Points = append([]point{}, points...)
		p.Caches = append(p.Caches, s)
	}
	return p
}

func (h *Handler) serveData(w http.ResponseWriter, r *http.Request) {
	h.sample(r.Context())
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	_ = enc.Encode(h.data(h.mayAct(r), true)) // the reader has left
}
