package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/redis/go-redis/v9"
)

// enough is far more than anything takes that does happen.
const enough = 30 * time.Second

// event is one call of a Sink.
type event struct {
	kind string // "armed", "direct", "message", "changed", "any", "alive" or "ended"
	text string
	sent time.Time
	at   time.Time
}

// ear is a Sink that remembers. One goroutine of a test may ask it.
type ear struct {
	mu     sync.Mutex
	events []event
	news   chan struct{} // closed, and replaced, at every event
	next   int           // the first event that expect has not seen

	disprove func() // see store.CheckingSubscriber
}

func newEar() *ear { return &ear{news: make(chan struct{})} }

func (e *ear) add(ev event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	ev.at = time.Now()
	e.events = append(e.events, ev)
	close(e.news)
	e.news = make(chan struct{})
}

func (ev event) String() string {
	if ev.kind == "alive" {
		return ev.kind
	}
	return ev.kind + " " + strconv.Quote(ev.text)
}

func (e *ear) Subscribed()              { e.add(event{kind: "armed"}) }
func (e *ear) Direct()                  { e.add(event{kind: "direct"}) }
func (e *ear) Checks(disprove func())   { e.disprove = disprove }
func (e *ear) Message(p string)         { e.add(event{kind: "message", text: p}) }
func (e *ear) Heartbeat(sent time.Time) { e.add(event{kind: "alive", sent: sent}) }
func (e *ear) KeysChanged(keys []string) {
	if keys == nil {
		e.add(event{kind: "any"})
	}
	for _, k := range keys {
		e.add(event{kind: "changed", text: k})
	}
}

// expect waits for the next event that is ok, passing over others.
func (e *ear) expect(t *testing.T, what string, ok func(event) bool) event {
	t.Helper()
	timeout := time.NewTimer(enough)
	defer timeout.Stop()
	for {
		e.mu.Lock()
		for e.next < len(e.events) {
			ev := e.events[e.next]
			e.next++
			if ok(ev) {
				e.mu.Unlock()
				return ev
			}
			if ev.kind == "ended" {
				e.mu.Unlock()
				t.Fatalf("no %s; the session ended: %s", what, ev.text)
			}
		}
		news := e.news
		e.mu.Unlock()
		select {
		case <-news:
		case <-timeout.C:
			all := e.all()
			t.Fatalf("no %s within %v; the last of %d events: %v", what, enough, len(all), all[max(0, len(all)-20):])
		}
	}
}

func (e *ear) all(kinds ...string) []event {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(e.events), func(ev event) bool { return len(kinds) > 0 && !slices.Contains(kinds, ev.kind) })
}

func (e *ear) expectKind(t *testing.T, kind string) event {
	t.Helper()
	return e.expect(t, kind, func(ev event) bool { return ev.kind == kind })
}

func (e *ear) expectText(t *testing.T, kind, text string) event {
	t.Helper()
	return e.expect(t, fmt.Sprintf("%s %q", kind, text), func(ev event) bool { return ev.kind == kind && ev.text == text })
}

// aliveSince waits until everything has been told that was acknowledged at since.
func (e *ear) aliveSince(t *testing.T, since time.Time) {
	t.Helper()
	e.expect(t, "pulse", func(ev event) bool { return ev.kind == "alive" && ev.sent.After(since) })
}

// hearing is a Listen that is under way.
type hearing struct {
	*ear
	stop context.CancelFunc
	done chan struct{}
	err  error // once done
}

// listen starts a session and waits until it is armed.
func listen(t *testing.T, s store.Store, l store.Subscription) *hearing {
	t.Helper()
	h := start(t, s, l)
	h.expectKind(t, "armed")
	return h
}

// start starts a session, which ends with the test.
func start(t *testing.T, s store.Store, l store.Subscription) *hearing {
	ctx, stop := context.WithCancel(context.Background())
	h := &hearing{ear: newEar(), stop: stop, done: make(chan struct{})}
	go func() {
		defer close(h.done)
		h.err = s.Subscribe(ctx, l, h)
		h.add(event{kind: "ended", text: fmt.Sprint(h.err)})
	}()
	t.Cleanup(func() { stop(); <-h.done })
	return h
}

// end waits for the end of the session.
func (h *hearing) end(t *testing.T) error {
	t.Helper()
	select {
	case <-h.done:
	case <-time.After(enough):
		t.Fatalf("the session did not end within %v", enough)
	}
	if h.err == nil {
		t.Error("a session ended without an error")
	}
	return h.err
}

// steady is a Listening that nothing on a busy machine ends by mistake.
func steady(channel string) store.Subscription {
	return store.Subscription{Channel: channel, HeartbeatInterval: 20 * time.Millisecond, HeartbeatTimeout: enough}
}

func tracking(l store.Subscription, prefix string) store.Subscription {
	l.Tracking, l.Prefix = true, prefix
	return l
}

func publish(t *testing.T, s store.Store, channel, message string) {
	t.Helper()
	if err := s.Publish(t.Context(), store.Notify{Channel: channel, Message: message}); err != nil {
		t.Fatal(err)
	}
}

// checkOrder holds what every session keeps, whatever happens to it.
func (e *ear) checkOrder(t *testing.T) {
	t.Helper()
	var last time.Time
	for i, ev := range e.all() {
		if (i == 0) != (ev.kind == "armed") && ev.kind != "ended" {
			t.Errorf("event %d is %q", i, ev.kind)
		}
		if ev.kind == "alive" {
			if ev.sent.Before(last) || ev.sent.After(ev.at) {
				t.Errorf("alive at %v after %v, told at %v", ev.sent, last, ev.at)
			}
			last = ev.sent
		}
	}
}

// onStores runs f on every kind of store. Those in subtests "memory" are in a bubble.
func onStores(t *testing.T, f func(t *testing.T, s store.Store, prefix string)) {
	t.Run("memory", func(t *testing.T) { inBubble(t, func(t *testing.T) { f(t, storetest.NewMemory(), "m:") }) })
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) { f(t, newReal(t, b.Client), b.Prefix) })
	t.Run("ring", func(t *testing.T) {
		ring, _ := newRing(t, 2)
		f(t, newReal(t, ring), "r:")
	})
}

func newRing(t *testing.T, shards int) (*redis.Ring, []*redistest.Server) {
	addrs := map[string]string{}
	var servers []*redistest.Server
	for i := range shards {
		s := redistest.Start(t)
		servers = append(servers, s)
		addrs[fmt.Sprint(i)] = s.Addr()
	}
	o := servers[0].Options()
	ring := redis.NewRing(&redis.RingOptions{
		Addrs: addrs, ContextTimeoutEnabled: true, MaxRetries: -1, DialerRetries: 1, HeartbeatFrequency: 100 * time.Millisecond,
		DialTimeout: o.DialTimeout, ReadTimeout: o.ReadTimeout, WriteTimeout: o.WriteTimeout,
	})
	t.Cleanup(func() { ring.Close() })
	return ring, servers
}

// oneNode returns a store of the same data that publishes through one node of a
// cluster: what goes through several has no order.
func oneNode(t *testing.T, s store.Store) store.Store {
	r, ok := s.(real)
	if !ok {
		return s
	}
	c, ok := r.c.(*redis.ClusterClient)
	if !ok {
		return s
	}
	node, err := c.MasterForKey(t.Context(), "k")
	if err != nil {
		t.Fatal(err)
	}
	return newReal(t, node)
}

// canTrack reports whether the store is one that tells of changes.
func canTrack(t *testing.T) bool { return !strings.Contains(t.Name(), "miniredis") }

func TestListenersHearInOrder(t *testing.T) {
	onStores(t, func(t *testing.T, s store.Store, prefix string) {
		for _, track := range []bool{false, true} {
			if track && !canTrack(t) {
				continue
			}
			// A channel of its own: a node of a cluster may yet pass on what listeners on
			// another node have heard.
			l := steady(fmt.Sprint(prefix, "news", track))
			l.Slots.First = store.SlotOf(l.Channel)
			l.Slots.Next = l.Slots.First + 1
			if track {
				l = tracking(l, prefix)
			}
			a, b := listen(t, s, l), listen(t, s, l)
			publish(t, s, prefix+"other", "not for them")
			const n = 200
			one := oneNode(t, s)
			for i := range n {
				publish(t, one, l.Channel, fmt.Sprint(i))
			}
			since := time.Now()
			for _, h := range []*hearing{a, b} {
				for i := range n {
					h.expectText(t, "message", fmt.Sprint(i))
				}
				h.aliveSince(t, since)
				h.stop()
				if err := h.end(t); !errors.Is(err, context.Canceled) {
					t.Errorf("stopped: %v", err)
				}
				h.checkOrder(t)
				want := n
				if strings.Contains(t.Name(), "ring") {
					want *= 2 // each shard publishes
				}
				if got := len(h.all("message")); got != want {
					t.Errorf("%d messages, not %d", got, want)
				}
			}
		}
	})
}

func TestWhatIsPublishedOnceArmedIsHeard(t *testing.T) {
	onStores(t, func(t *testing.T, s store.Store, prefix string) {
		for i := range 20 {
			l := steady(prefix + "news")
			if i%2 == 1 && canTrack(t) {
				l = tracking(l, prefix)
			}
			h := listen(t, s, l)
			publish(t, s, l.Channel, fmt.Sprint("at once ", i))
			h.expectText(t, "message", fmt.Sprint("at once ", i))
			h.stop()
			h.end(t)
			h.checkOrder(t)
		}
	})
}

func TestAliveComesWithinARoundTrip(t *testing.T) {
	onStores(t, func(t *testing.T, s store.Store, prefix string) {
		l := steady(prefix + "news")
		l.HeartbeatInterval = time.Hour
		h := listen(t, s, l)
		h.expectKind(t, "alive")
	})
}

func TestListeningIsChecked(t *testing.T) {
	onStores(t, func(t *testing.T, s store.Store, prefix string) {
		for _, l := range []store.Subscription{
			{HeartbeatInterval: 1, HeartbeatTimeout: 1}, {Channel: "c", HeartbeatTimeout: 1}, {Channel: "c", HeartbeatInterval: 1}, {Channel: "c", HeartbeatInterval: -1, HeartbeatTimeout: -1},
		} {
			if err := start(t, s, l).end(t); errors.Is(err, store.ErrHeartbeatTimeout) {
				t.Errorf("%+v: %v", l, err)
			}
		}
	})
}

func TestACancelledContextListensToNothing(t *testing.T) {
	onStores(t, func(t *testing.T, s store.Store, prefix string) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		e := newEar()
		if err := s.Subscribe(ctx, steady(prefix+"news"), e); err != context.Canceled {
			t.Error(err)
		}
		if len(e.all()) > 0 {
			t.Errorf("it was told %v", e.all())
		}
	})
}
