package redisstore_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
)

func inBubble(t *testing.T, f func(t *testing.T)) { synctest.Test(t, f) }

func TestMemoryTellsOfNoPulseWhileItFails(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m := storetest.NewMemory()
		l := store.Subscription{Channel: "news", HeartbeatInterval: 100 * time.Millisecond, HeartbeatTimeout: time.Second}
		h := listen(t, m, l)
		time.Sleep(10 * l.HeartbeatTimeout)
		down := time.Now()
		m.Fail(errors.New("down"))
		if err := h.end(t); err != store.ErrHeartbeatTimeout {
			t.Error(err)
		}
		if d := time.Since(down); d > l.HeartbeatTimeout+l.HeartbeatInterval {
			t.Errorf("it took %v", d)
		}
		h.checkOrder(t)
		if err := start(t, m, l).end(t); err == nil || err.Error() != "down" {
			t.Error(err)
		}
		m.Fail(nil)
		listen(t, m, l).expectKind(t, "alive")
	})
}

func TestMemoryCutsItsListeners(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m := storetest.NewMemory()
		a, b := listen(t, m, steady("a")), listen(t, m, steady("b"))
		cut := errors.New("cut")
		m.CutListeners(cut)
		for _, h := range []*hearing{a, b} {
			if err := h.end(t); err != cut {
				t.Error(err)
			}
		}
		publish(t, m, "a", "to no listener")
		listen(t, m, steady("a")).expectKind(t, "alive")
	})
}

func TestMemoryDropsRepeatsAndDelays(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m := storetest.NewMemory()
		l := tracking(store.Subscription{Channel: "news", HeartbeatInterval: time.Second, HeartbeatTimeout: time.Hour}, "k")
		first, second := listen(t, m, l), listen(t, m, l)
		synctest.Wait()
		m.Intercept(func(d storetest.Delivery) (int, time.Duration) {
			switch {
			case d.Listener == 1 || d.Kind == storetest.DeliverPulse:
				return 1, 0
			case d.Text == "lost":
				return 0, 0
			case d.Text == "twice":
				return 2, 0
			}
			return 1, 10 * time.Second
		})
		sent := time.Now()
		for _, text := range []string{"lost", "twice", "late", "after"} {
			publish(t, m, "news", text)
		}
		for _, text := range []string{"twice", "twice", "late", "after"} {
			ev := first.expectKind(t, "message")
			want := 10 * time.Second
			if text == "twice" {
				want = 0
			}
			if ev.text != text || ev.at.Sub(sent) != want {
				t.Errorf("%q after %v, not %q after %v", ev.text, ev.at.Sub(sent), text, want)
			}
		}
		for _, text := range []string{"lost", "twice", "late", "after"} {
			if ev := second.expectKind(t, "message"); ev.text != text || ev.at != sent {
				t.Errorf("the other: %q after %v", ev.text, ev.at.Sub(sent))
			}
		}
		// A pulse does not overtake what was late.
		for _, ev := range first.all("alive") {
			if ev.sent.After(sent) && ev.at.Sub(sent) < 10*time.Second {
				t.Errorf("alive at %v was told after %v", ev.sent.Sub(sent), ev.at.Sub(sent))
			}
		}
		m.Intercept(nil)
		m.ChangeAll()
		first.expectKind(t, "any")
		second.expectKind(t, "any")
	})
}

func TestMemoryWithoutPulsesIsDeaf(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m := storetest.NewMemory()
		l := store.Subscription{Channel: "news", HeartbeatInterval: 100 * time.Millisecond, HeartbeatTimeout: time.Second}
		h := listen(t, m, l)
		synctest.Wait()
		m.Intercept(func(d storetest.Delivery) (int, time.Duration) {
			if d.Kind == storetest.DeliverPulse {
				return 0, 0
			}
			return 1, 0
		})
		began := time.Now()
		if err := h.end(t); err != store.ErrHeartbeatTimeout {
			t.Error(err)
		}
		if d := time.Since(began); d > l.HeartbeatTimeout+l.HeartbeatInterval {
			t.Errorf("it took %v", d)
		}
	})
}

func TestMemoryEndsAtADeadline(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		if err := storetest.NewMemory().Subscribe(ctx, steady("news"), newEar()); err != context.DeadlineExceeded || time.Since(began) != time.Minute {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}
