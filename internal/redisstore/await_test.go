package redisstore_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/redis/go-redis/v9"
)

// leaseFrame is a lease, as far as a store can tell, whose id is made of one letter.
func leaseFrame(c string) []byte { return append([]byte("\xc5dq\x01\x03\x00\x00\x00"), seal(c)[8:]...) }

// waiterNames are "", which means all, and n ids of waiters.
func waiterNames(n int) []string {
	names := []string{""}
	for i := range n {
		names = append(names, fmt.Sprintf("waiter-%d", i))
	}
	return names
}

func eachAwait(t *testing.T, f func(t *testing.T, st world, prefix string)) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) { f(t, newReal(t, b.Client), b.Prefix) })
	t.Run("memory", func(t *testing.T) { f(t, memory{storetest.NewMemory()}, "") })
}

// awaits reports whether a key holds a lease with the sign that it is awaited.
func awaits(t *testing.T, st world, key string) bool {
	t.Helper()
	r := do(t, st, store.Command{Op: store.Get, Key: key})
	if r.Err != nil || !store.IsLease(r.Record.Raw) {
		t.Fatalf("%+v", r)
	}
	return store.AwaitsLease(r.Record.Raw)
}

func TestALeaseIsSigned(t *testing.T) {
	eachAwait(t, func(t *testing.T, st world, prefix string) {
		k, a, b := prefix+"k", leaseFrame("a"), leaseFrame("b")
		sign := store.Command{Op: store.AwaitLease, Key: k, Seen: store.TokenOf(a)}
		if r := do(t, st, sign); r.OK || r.Err != nil {
			t.Errorf("nothing was signed: %+v", r)
		}
		do(t, st, store.Command{Op: store.SetNX, Key: k, Frame: a, TTL: time.Hour})
		if awaits(t, st, k) {
			t.Error("a new lease has the sign")
		}
		for range 2 {
			if r := do(t, st, sign); !r.OK || r.Err != nil || !awaits(t, st, k) {
				t.Errorf("%+v", r)
			}
			if _, life := st.look(t, k); life < 50*time.Minute || life > time.Hour {
				t.Errorf("it lives for %v", life)
			}
		}
		other := sign
		other.Seen = store.TokenOf(b)
		if r := do(t, st, other); r.OK || r.Err != nil {
			t.Errorf("another lease was signed: %+v", r)
		}
		// Its owner prolongs it, and recognises it, as before.
		if r := do(t, st, store.Command{Op: store.Extend, Key: k, Seen: store.TokenOf(a), TTL: 2 * time.Hour}); !r.OK || !awaits(t, st, k) {
			t.Errorf("%+v", r)
		}
		if r := do(t, st, store.Command{Op: store.SetNX, Key: k, Frame: a, TTL: time.Hour}); !r.OK {
			t.Errorf("%+v", r)
		}
		// What is no lease has no sign.
		do(t, st, store.Command{Op: store.Set, Key: k, Frame: frameOf("v")})
		if r := do(t, st, sign); r.OK || r.Err != nil {
			t.Errorf("a value was signed: %+v", r)
		}
		if r := do(t, st, store.Command{Op: store.AwaitLease, Key: k, Seen: store.TokenOf(frameOf("v"))}); r.Err == nil {
			t.Errorf("%+v", r)
		}
	})
}

// frameOf is a value, as far as a store can tell.
func frameOf(c string) []byte { return append([]byte("\xc5dq\x01\x01\x00\x00\x00"), seal(c)[8:]...) }

// heardOn returns a function that returns what was published since it was last called, each
// message as the node that has published it passes it on.
func heardOn(t *testing.T, st world, channel string) func() []string {
	r, ok := st.(real)
	if !ok {
		post := newPost(t, st, channel)
		return func() []string { return post.heard(t) }
	}
	var mu sync.Mutex
	nodes := map[*redis.Client]*redis.PubSub{}
	if err := onMasters(t.Context(), r.c, func(ctx context.Context, c *redis.Client) error {
		sub := c.Subscribe(t.Context(), channel)
		t.Cleanup(func() { sub.Close() })
		_, err := sub.Receive(ctx)
		mu.Lock()
		defer mu.Unlock()
		nodes[c] = sub
		return err
	}); err != nil {
		t.Fatal(err)
	}
	calls := 0
	return func() (got []string) {
		calls++
		for c, sub := range nodes {
			mark := fmt.Sprint("mark ", calls, " of ", c)
			if err := c.Publish(t.Context(), channel, mark).Err(); err != nil {
				t.Fatal(err)
			}
			for {
				m, err := sub.ReceiveMessage(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if m.Payload == mark {
					break
				}
				got = append(got, m.Payload)
			}
		}
		return got
	}
}

// The end of a lease is published if it has the sign, by the very command that ends it, and
// not if that command is executed again.
func TestTheEndOfASignedLeaseIsPublished(t *testing.T) {
	eachAwait(t, func(t *testing.T, st world, prefix string) {
		channel := prefix + "events"
		heard := heardOn(t, st, channel)
		a, b, v := leaseFrame("a"), leaseFrame("b"), frameOf("v")
		seen := func(raw []byte) store.CASToken { return store.TokenOf(raw) }
		fill := func(raw []byte) store.Command {
			return store.Command{Op: store.CompareAndSet, Frame: v, Seen: seen(raw), TTL: time.Hour}
		}
		release := func(raw []byte) store.Command { return store.Command{Op: store.CompareAndDelete, Seen: seen(raw)} }
		takeOver := store.Command{Op: store.CompareAndSet, Frame: b, Seen: seen(a), TTL: time.Hour}
		for name, tt := range map[string]struct {
			signed bool
			cmds   []store.Command // the last one has a message
			took   bool
			want   bool
		}{
			"a fill":                        {false, []store.Command{fill(a)}, true, false},
			"an awaited fill":               {true, []store.Command{fill(a)}, true, true},
			"an awaited fill, twice":        {true, []store.Command{fill(a), fill(a)}, true, false},
			"a release":                     {false, []store.Command{release(a)}, true, false},
			"an awaited release":            {true, []store.Command{release(a)}, true, true},
			"a fill that is refused":        {true, []store.Command{fill(b)}, false, false},
			"a release that is refused":     {true, []store.Command{release(b)}, false, false},
			"an awaited lease is replaced":  {true, []store.Command{takeOver, fill(b)}, true, true},
			"a lease is replaced":           {false, []store.Command{takeOver, fill(b)}, true, false},
			"the replaced one is filled":    {true, []store.Command{takeOver, fill(a)}, false, false},
			"a value is replaced":           {true, []store.Command{fill(a), {Op: store.CompareAndSet, Frame: frameOf("w"), Seen: seen(v)}}, true, false},
			"a value is removed":            {true, []store.Command{fill(a), release(v)}, true, false},
			"a lease takes a value's place": {true, []store.Command{fill(a), {Op: store.CompareAndSet, Frame: b, Seen: seen(v)}, fill(b)}, true, false},
		} {
			k := prefix + name
			do(t, st, store.Command{Op: store.SetNX, Key: k, Frame: a, TTL: time.Hour})
			if tt.signed {
				if r := do(t, st, store.Command{Op: store.AwaitLease, Key: k, Seen: seen(a)}); !r.OK {
					t.Fatalf("%+v", r)
				}
			}
			var r store.Reply
			for i, c := range tt.cmds {
				if c.Key = k; i == len(tt.cmds)-1 {
					c.Notify = store.Notify{Channel: channel, Message: name, Awaited: true}
				}
				r = do(t, st, c)
			}
			if r.OK != tt.took || r.Err != nil {
				t.Errorf("%s: %+v", name, r)
			}
			if got := slices.Contains(heard(), name); got != tt.want {
				t.Errorf("%s: published: %v", name, got)
			}
		}
	})
}

// Who may be waiting is known for leases only.
func TestOnlyTheEndOfALeaseIsAwaited(t *testing.T) {
	eachAwait(t, func(t *testing.T, st world, prefix string) {
		for _, c := range telling {
			if c.Key = prefix + "k"; c.Seen.State == store.Found && (c.Op == store.CompareAndSet || c.Op == store.CompareAndDelete) {
				continue
			}
			c.Notify = store.Notify{Channel: prefix + "c", Message: "m", Awaited: true}
			if r := do(t, st, c); r.Err == nil {
				t.Errorf("%v: %+v", c.Op, r)
			}
		}
	})
}

// The end of a load is told to those whom the sign names, each once, however often each has signed;
// to all if there are too many, or if one that has no id waits.
func TestThoseWhomASignNamesAreTold(t *testing.T) {
	eachAwait(t, func(t *testing.T, st world, prefix string) {
		channel := prefix + "events"
		names := waiterNames(9)
		nine := names[1:]
		posts := make([]*post, len(nine)) // one for each, each with the messages to all as well
		for i, waiter := range nine {
			posts[i] = newPost(t, st, channel, waiter)
		}
		for name, tt := range map[string]struct {
			signs []string
			told  []int // how often each was told
		}{
			"one":                   {nine[2:3], []int{0, 0, 1, 0, 0, 0, 0, 0, 0}},
			"one, three times":      {[]string{nine[2], nine[2], nine[2]}, []int{0, 0, 1, 0, 0, 0, 0, 0, 0}},
			"three":                 {[]string{nine[8], nine[2], nine[8], nine[0]}, []int{1, 0, 1, 0, 0, 0, 0, 0, 1}},
			"as many as have place": {nine[:7], []int{1, 1, 1, 1, 1, 1, 1, 0, 0}},
			"one more":              {nine[:8], []int{2, 2, 2, 2, 2, 2, 2, 1, 1}},
			"two more":              {nine, []int{2, 2, 2, 2, 2, 2, 2, 1, 1}},
			"one without an id":     {[]string{""}, []int{1, 1, 1, 1, 1, 1, 1, 1, 1}},
			"later ones":            {[]string{nine[4], "", nine[5]}, []int{1, 1, 1, 1, 2, 1, 1, 1, 1}},
		} {
			for how, end := range map[string]func(token store.CASToken) []store.Command{
				"filled": func(token store.CASToken) []store.Command {
					return []store.Command{{Op: store.CompareAndSet, Frame: frameOf("v"), Seen: token, TTL: time.Hour}}
				},
				"released": func(token store.CASToken) []store.Command {
					return []store.Command{{Op: store.CompareAndDelete, Seen: token}}
				},
				"replaced": func(token store.CASToken) []store.Command {
					b := leaseFrame("b")
					return []store.Command{{Op: store.CompareAndSet, Frame: b, Seen: token, TTL: time.Hour}, {Op: store.CompareAndDelete, Seen: store.TokenOf(b)}}
				},
			} {
				k, a := prefix+name+how, leaseFrame("a")
				do(t, st, store.Command{Op: store.SetNX, Key: k, Frame: a, TTL: time.Hour})
				for _, waiter := range tt.signs {
					if r := do(t, st, store.Command{Op: store.AwaitLease, Key: k, Seen: store.TokenOf(a), Frame: []byte(waiter)}); !r.OK || r.Err != nil {
						t.Fatalf("%+v", r)
					}
				}
				head := do(t, st, store.Command{Op: store.GetHeader, Key: k})
				sign := store.SignOf(head.Record.Raw)
				for i, waiter := range nine {
					if told := store.Tells(sign, waiter); told != (tt.told[i] > 0) {
						t.Errorf("%s: the sign %q tells %q: %v", name, sign, waiter, told)
					}
				}
				cmds := end(store.TokenOf(a))
				for j, c := range cmds {
					if c.Key = k; j == len(cmds)-1 {
						c.Notify = store.Notify{Channel: channel, Message: k, Awaited: true}
					}
					if r := do(t, st, c); !r.OK || r.Err != nil {
						t.Fatalf("%s %s: %+v", name, how, r)
					}
				}
				for i := range nine {
					if n := len(slices.DeleteFunc(posts[i].heard(t), func(m string) bool { return m != k })); n != tt.told[i] {
						t.Errorf("%s %s: %q was told %d times", name, how, nine[i], n)
					}
				}
			}
		}
		for _, bad := range []string{"short", "a longer id", "with a b", "\x00\x01\x02\x03\x04\x05\x06\x07"} {
			if r := do(t, st, store.Command{Op: store.AwaitLease, Key: prefix + "k", Seen: store.TokenOf(leaseFrame("a")), Frame: []byte(bad)}); r.Err == nil {
				t.Errorf("%q: %+v", bad, r)
			}
		}
	})
}
