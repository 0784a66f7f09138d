package dashboard

import (
	"bytes"
	"encoding/json"
	"net/http"
	"time"
)

// maxWatchers bounds the streams that are open at once.
const maxWatchers = 100

// serveEvents streams an event "all" with the history, and an event "tick" for every sample
// from then on. Each stream takes samples on its own goroutine, which the server made for it;
// concurrent streams share them.
func (h *Handler) serveEvents(w http.ResponseWriter, r *http.Request) {
	if !h.enter() {
		w.Header().Set("Retry-After", "10")
		http.Error(w, "too many are looking, or the program is about to end", http.StatusServiceUnavailable)
		return
	}
	defer h.leave()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no") // so that proxies do not buffer the events
	if r.Method == http.MethodHead {
		return
	}
	mayAct := h.mayAct(r)
	rc := http.NewResponseController(w)
	send := func(name string, history bool) bool {
		data, err := json.Marshal(h.data(mayAct, history)) // without line breaks, which end an event
		if err != nil {
			return false
		}
		// The server's write timeout for a whole response applies to each event here. If the
		// deadline can't be set, there is no timeout that would end the stream.
		_ = rc.SetWriteDeadline(time.Now().Add(30 * time.Second))
		var b bytes.Buffer
		b.WriteString("event: " + name + "\ndata: ")
		b.Write(data)
		b.WriteString("\n\n")
		if _, err := w.Write(b.Bytes()); err != nil {
			return false
		}
		return rc.Flush() == nil
	}

	last := h.sample(r.Context())
	if !send("all", true) {
		return
	}
	ticker := time.NewTicker(h.interval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-r.Context().Done():
			return
		case <-h.closing:
			return
		}
		if now := h.sample(r.Context()); now != last {
			last = now
			if !send("tick", false) {
				return
			}
		}
	}
}

func (h *Handler) enter() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	select {
	case <-h.closing:
		return false
	default:
	}
	if h.watchers >= maxWatchers {
		return false
	}
	h.watchers++
	return true
}

func (h *Handler) leave() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.watchers--
}
