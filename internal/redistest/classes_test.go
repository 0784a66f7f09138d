package redistest

import (
	"errors"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// Each class of connections has its switches, and new connections come to know their
// class.
func TestAProxyTellsSubscriptionsFromCommands(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := Start(t)
	p := NewProxy(t, s.Addr())
	o := s.Options()
	o.Addr, o.ReadTimeout = p.Addr(), 2*time.Second
	rdb := closeAfter(t, redis.NewClient(o))
	direct := s.Client(t)

	subscribe := func() *redis.PubSub {
		t.Helper()
		sub := rdb.Subscribe(ctx, "c")
		t.Cleanup(func() { sub.Close() })
		if _, err := sub.ReceiveTimeout(ctx, patience); err != nil {
			t.Fatal(err)
		}
		return sub
	}
	hears := func(sub *redis.PubSub, text string) error {
		t.Helper()
		if err := direct.Publish(ctx, "c", text).Err(); err != nil {
			t.Fatal(err)
		}
		m, err := sub.ReceiveTimeout(ctx, patience)
		if err != nil {
			return err
		}
		if got := m.(*redis.Message).Payload; got != text {
			t.Errorf("%q was heard, and not %q", got, text)
		}
		return nil
	}

	sub := subscribe()
	mustSet(t, rdb, "k", "1")

	p.Only(Data).Blackhole()
	if err := rdb.Get(ctx, "k").Err(); err == nil {
		t.Error("a command was answered through a black hole")
	}
	if err := hears(sub, "one"); err != nil {
		t.Error("the subscription, while only commands are held back:", err)
	}
	if err := hears(subscribe(), "two"); err != nil {
		t.Error("a new subscription, while only commands are held back:", err)
	}
	if _, err := sub.ReceiveTimeout(ctx, patience); err != nil { // "two"
		t.Error(err)
	}
	p.Heal()
	mustGet(t, rdb, "k", "1")

	p.Only(News).Blackhole()
	mustGet(t, rdb, "k", "1")
	if err := direct.Publish(ctx, "c", "three").Err(); err != nil {
		t.Fatal(err)
	}
	var timeout interface{ Timeout() bool }
	if m, err := sub.ReceiveTimeout(ctx, 100*time.Millisecond); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("heard through a black hole: %v, %v", m, err)
	}
	p.Heal()

	sub = subscribe()
	p.Only(News).Reset()
	if m, err := sub.ReceiveTimeout(ctx, patience); err == nil {
		t.Errorf("a subscription that was reset heard %v", m)
	}
	mustGet(t, rdb, "k", "1")

	p.Only(Data).Delay(time.Hour)
	if err := rdb.Get(ctx, "k").Err(); err == nil {
		t.Error("a command was answered sooner than it can be")
	}
	if err := hears(subscribe(), "four"); err != nil {
		t.Error("a subscription, while only commands are late:", err)
	}
}
