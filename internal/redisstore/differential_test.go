package redisstore_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/redis/go-redis/v9"
)

// script makes the same random commands for every store. Where stores differ, it is
// a mistake in one of them: there are no exceptions.
type script struct {
	*rand.Rand
	keys []string
	ttls []time.Duration
	seen map[string][]store.CASToken // what the key may hold
	n    int
	told int // messages, if channel is not ""

	channel string
	waiters []string // the first is "": all
	oneNode bool
	posts   [2]*post
}

func newScript(seed uint64, prefix string, ttls []time.Duration) *script {
	s := &script{Rand: rand.New(rand.NewPCG(seed, 99)), ttls: ttls, seen: map[string][]store.CASToken{}, waiters: waiterNames(4)}
	s.keys = []string{
		prefix + "k", prefix + "{tag} and space", prefix + "{}", prefix + "line\r\nbreak", prefix + "\x00\xff*?[", prefix,
	}
	for _, k := range s.keys {
		s.seen[k] = []store.CASToken{{}, {State: store.WrongType}, store.TokenOf(nil)} // as many as note keeps
	}
	return s
}

func (s *script) key() string { return s.keys[s.IntN(len(s.keys))] }

// frame returns a record with an id of its own, or what other programs leave. All
// lengths around that of a token are there, with the same beginning.
func (s *script) frame() []byte {
	switch s.IntN(10) {
	case 0:
		return nil
	case 1:
		return []byte("short")
	case 2:
		return []byte("a\x00b\r\n\xff")
	case 3, 4:
		return bytes.Repeat([]byte("same head and length "), 3)[:store.TokenLen-2+s.IntN(5)]
	}
	s.n++
	if s.IntN(3) == 0 {
		return fmt.Appendf(nil, "\xc5dq\x01\x03%019dlease seal--", s.n)
	}
	return append(fmt.Appendf(nil, "\xc5record%017d", s.n), bytes.Repeat([]byte{0}, s.IntN(300))...)
}

func (s *script) commands() []store.Command {
	cmds := make([]store.Command, 1)
	if s.IntN(3) == 0 {
		cmds = make([]store.Command, 1+s.IntN(8))
	}
	onlyGets, fills := s.IntN(5) == 0, s.channel != "" && s.IntN(5) == 0
	for i := range cmds {
		k := s.key()
		c := store.Command{Op: store.Op(s.IntN(11)), Key: k, Frame: s.frame(), TTL: s.ttls[s.IntN(len(s.ttls))]}
		c.Seen = s.seen[k][s.IntN(len(s.seen[k]))]
		if onlyGets {
			c.Op = store.Get
		}
		if c.Op == store.AwaitLease {
			if c.Frame = []byte(s.waiters[s.IntN(len(s.waiters))]); s.IntN(50) == 0 {
				c.Frame = []byte("too long for an id")
			}
		}
		if c.Op == store.PatchHeader && s.IntN(5) > 0 {
			s.n++
			c.Frame = fmt.Appendf(nil, "\xc5reseal%017dseal%08d", s.n, s.n)
		}
		if s.channel != "" && s.IntN(2) == 0 {
			s.told++
			c.Notify = store.Notify{Channel: s.channel, Message: fmt.Sprintf("%q:%d", k, s.told)}
			c.Notify.Awaited = (c.Op == store.CompareAndSet || c.Op == store.CompareAndDelete) && s.IntN(2) == 0
		}
		switch {
		case fills && s.IntN(3) > 0: // of what may be a lease
			c.Op, c.TTL, c.Frame = store.CompareAndSet, time.Hour, append(c.Frame, frameOf("v")...)
			s.told++
			c.Notify = store.Notify{Channel: s.channel, Message: fmt.Sprintf("%q:%d", k, s.told), Awaited: c.Seen.State != store.Missing}
		case c.Op == store.CompareAndSet && s.IntN(3) == 0:
			c.TTL = store.KeepTTL
		case s.IntN(50) == 0:
			c.TTL = -time.Second // refused where it means something
		case s.IntN(50) == 0:
			c.Op = 99
		}
		cmds[i] = c
	}
	if n := len(cmds); s.oneNode && n > 1 && s.IntN(2) == 0 {
		s.together(cmds[s.IntN(n-1):])
	}
	return cmds
}

// together has some of the commands go together, and tell in common.
func (s *script) together(cmds []store.Command) {
	first := &cmds[0]
	first.Op, first.With = []store.Op{store.Set, store.Delete}[s.IntN(2)], 1+s.IntN(len(cmds)-1)
	if first.Notify.Channel == "" {
		s.told++
		first.Notify = store.Notify{Channel: s.channel, Message: fmt.Sprintf("%q:%d", first.Key, s.told)}
	}
	if s.IntN(10) == 0 {
		return // refused, mostly
	}
	first.Notify.Awaited = false
	for i := range cmds[1 : 1+first.With] {
		cmds[1+i].Op, cmds[1+i].Notify = first.Op, store.Notify{}
	}
}

// note remembers what the key may hold now, mostly the latest.
func (s *script) note(c store.Command, r store.Reply) {
	if r.Record.State == store.Found {
		s.seen[c.Key] = append(s.seen[c.Key], r.Record.CASToken(), r.Record.WholeToken())
	}
	if r.OK && (c.Op == store.Set || c.Op == store.SetNX || c.Op == store.CompareAndSet || c.Op == store.PatchHeader) {
		s.seen[c.Key] = append(s.seen[c.Key], store.TokenOf(c.Frame))
	}
	if n := len(s.seen[c.Key]); n > 8 {
		s.seen[c.Key] = slices.Delete(s.seen[c.Key], 3, n-5)
	}
}

// run has two stores carry out the script. Lifetimes may differ by what has
// passed between them: slack returns the most that it can be.
func (s *script) run(t *testing.T, steps int, a, b world, slack func() time.Duration, between func()) {
	t.Helper()
	ctx := t.Context()
	for step := range steps {
		between()
		if s.IntN(25) == 0 {
			k := s.key()
			a.other(t, k)
			b.other(t, k)
		}
		cmds := s.commands()
		ra, rb := a.Do(ctx, cmds), b.Do(ctx, cmds)
		for i, c := range cmds {
			x, y := ra[i], rb[i]
			if d := x.Left - y.Left; x.OK != y.OK || (x.Left < 0) != (y.Left < 0) || d > slack() || -d > slack() || x.Record.State != y.Record.State || !bytes.Equal(x.Record.Raw, y.Record.Raw) ||
				(x.Err == nil) != (y.Err == nil) || x.Err != nil && x.Err.Error() != y.Err.Error() {
				t.Fatalf("step %d, command %d of %d: %v %q (seen %+v):\n%+v\n%+v", step, i, len(cmds), c.Op, c.Key, c.Seen, x, y)
			}
			s.note(c, x)
		}
		for _, c := range cmds {
			x, xd := a.look(t, c.Key)
			y, yd := b.look(t, c.Key)
			if d := xd - yd; x != y || (xd < 0) != (yd < 0) || d > slack() || -d > slack() {
				t.Fatalf("step %d: after %v, %q holds\n%q for %v, or\n%q for %v", step, c.Op, c.Key, x, xd, y, yd)
			}
		}
		if x, y := s.heard(t, 0), s.heard(t, 1); !maps.EqualFunc(x, y, slices.Equal) {
			t.Fatalf("step %d: after %+v, published was\n%q\n%q", step, cmds, x, y)
		}
	}
}

// listen has what is published compared too.
func (s *script) listen(t *testing.T, channel string, a, b world) {
	s.channel, s.posts = channel, [2]*post{newPost(t, a, channel, s.waiters[1:]...), newPost(t, b, channel, s.waiters[1:]...)}
}

// heard returns what was published of each key.
func (s *script) heard(t *testing.T, i int) map[string][]string {
	t.Helper()
	if s.channel == "" {
		return nil
	}
	byKey := map[string][]string{}
	for _, m := range s.posts[i].heard(t) {
		key := m[:strings.LastIndex(m, ":")]
		byKey[key] = append(byKey[key], m)
	}
	return byKey
}

// Long enough not to end during the test, and far enough from each other for a
// slow machine not to confuse them.
var longTTLs = []time.Duration{0, time.Hour, 24 * time.Hour, 30*24*time.Hour + time.Millisecond}

func TestAllStoresAnswerAlike(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		for seed := range uint64(redistest.Times(2, 12)) {
			alike(t, seed, b.Prefix, newReal(t, b.Client), func() {})
		}
	})
}

func TestARingAnswersLikeTheOthers(t *testing.T) {
	ring := redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": redistest.Start(t).Addr(), "b": redistest.Start(t).Addr()}})
	t.Cleanup(func() { ring.Close() })
	store := newReal(t, ring)
	for seed := range uint64(redistest.Times(2, 5)) {
		alike(t, seed, "ring:", store, func() {})
	}
	var sizes atomic.Int32 // the servers are asked at once
	if err := onMasters(t.Context(), ring, func(ctx context.Context, c *redis.Client) error {
		if c.DBSize(ctx).Val() > 0 {
			sizes.Add(1)
		}
		return nil
	}); err != nil || sizes.Load() != 2 {
		t.Errorf("%d of 2 servers hold keys; %v", sizes.Load(), err)
	}
	if _, err := store.Now(t.Context(), "k"); err != nil {
		t.Error(err)
	}
}

// A server forgets its scripts when it restarts, and a new master has none.
func TestStoresAnswerAlikeThatForgetTheirScripts(t *testing.T) {
	redistest.Thorough(t)
	eachOwn(t, func(t *testing.T, c redis.UniversalClient) {
		store := newReal(t, c)
		for seed := range uint64(redistest.Times(1, 4)) {
			n := 0
			alike(t, 100+seed, "", store, func() {
				if n++; n%3 == 0 {
					store.forget(t)
				}
			})
		}
	})
}

func alike(t *testing.T, seed uint64, prefix string, store real, between func()) {
	t.Helper()
	t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
		start := time.Now()
		slack := func() time.Duration { return time.Since(start) + time.Millisecond }
		s := newScript(seed, fmt.Sprint(prefix, seed, ":"), longTTLs)
		model := memory{storetest.NewMemory()}
		s.listen(t, fmt.Sprint(prefix, seed, "news"), model, store)
		s.oneNode = store.OneNode()
		s.run(t, redistest.Times(150, 150), model, store, slack, between)
		if s.told == 0 {
			t.Error("nothing to tell")
		}
	})
}

// Where time can be stopped, lifetimes agree to the millisecond, and keys end at
// the same moment.
func TestKeysEndAlike(t *testing.T) {
	for seed := range uint64(redistest.Times(5, 20)) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, c := inMemory(t)
				ttls := []time.Duration{0, time.Microsecond, time.Millisecond, 2500 * time.Microsecond, 20 * time.Millisecond, time.Second}
				s := newScript(seed, "k", ttls)
				model, store := memory{storetest.NewMemory()}, newReal(t, c)
				s.listen(t, "news", model, store)
				s.oneNode = store.OneNode()
				s.run(t, 300, model, store, func() time.Duration { return 0 }, func() {
					time.Sleep(time.Duration(s.IntN(8)) * time.Millisecond)
				})
			})
		})
	}
}
