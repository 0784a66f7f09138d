package redisstore_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/internal/store"
	"github.com/redis/go-redis/v9"
)

// fillOf puts a value in the place of a lease, and tells those who wait for it.
func fillOf(key string, lease []byte, channel string) store.Command {
	return store.Command{Op: store.CompareAndSet, Key: key, Frame: append(frameOf("v"), key...), TTL: time.Hour, Seen: store.TokenOf(lease),
		Notify: store.Notify{Channel: channel, Message: "loaded " + key, Awaited: true}}
}

// leasesAndFills are, in turns, a new lease of one key and a fill of another, for n keys each.
func leasesAndFills(prefix, channel string, n int) (cmds []store.Command) {
	for i := range n {
		cmds = append(cmds,
			store.Command{Op: store.SetNX, Key: fmt.Sprint(prefix, "lease-", i), Frame: leaseFrame(fmt.Sprint(i % 10)), TTL: time.Hour},
			fillOf(fmt.Sprint(prefix, "fill-", i), leaseFrame(fmt.Sprint(i%10)), channel))
	}
	return cmds
}

// Fills that share a round trip have the outcome that each has alone, in whatever order they
// come among other commands, and whether or not the server knows the script.
func TestFillsTogetherAreAsAlone(t *testing.T) {
	eachAwait(t, func(t *testing.T, st world, prefix string) {
		const n = 9
		channel := prefix + "events"
		all, one := newPost(t, st, channel), newPost(t, st, channel, "waiter-1")
		for _, forgets := range []bool{false, true, false} {
			var keys []string
			cmds := leasesAndFills(prefix, channel, n)
			for i := 1; i < len(cmds); i += 2 {
				c := cmds[i]
				keys = append(keys, cmds[i-1].Key, c.Key)
				do(t, st, store.Command{Op: store.Set, Key: c.Key, Frame: leaseFrame(fmt.Sprint(i / 2 % 10)), TTL: time.Minute})
			}
			key := func(i int) string { return cmds[2*i+1].Key }
			sign := func(i int, waiter string) {
				if r := do(t, st, store.Command{Op: store.AwaitLease, Key: key(i), Frame: []byte(waiter), Seen: store.TokenOf(leaseFrame(fmt.Sprint(i)))}); !r.OK {
					t.Fatalf("%+v", r)
				}
			}
			sign(0, "waiter-1")
			sign(1, "")
			sign(2, "waiter-1")
			sign(2, "")
			do(t, st, store.Command{Op: store.Set, Key: key(3), Frame: leaseFrame("x")})                // another's lease
			do(t, st, store.Command{Op: store.Delete, Key: key(4)})                                     // no lease any more
			st.other(t, key(5))                                                                         // another type
			do(t, st, store.Command{Op: store.Set, Key: key(6), Frame: cmds[13].Frame, TTL: time.Hour}) // filled before
			do(t, st, store.Command{Op: store.Set, Key: key(7), Frame: []byte("short")})
			sign(8, "waiter-2")
			if forgets {
				st.forget(t)
			}
			replies := st.Do(t.Context(), cmds)
			for i, c := range cmds {
				took := c.Op == store.SetNX || !slices.Contains([]int{3, 4, 5, 7}, i/2)
				if r := replies[i]; r.Err != nil || r.OK != took {
					t.Errorf("%v of %q: %+v, want %v", c.Op, c.Key, r, took)
				}
				if held, life := st.look(t, c.Key); (held == "a string: "+string(c.Frame)) != took || took && (life <= 59*time.Minute || life > time.Hour) {
					t.Errorf("%q holds %q for %v, and %v took effect: %v", c.Key, held, life, c.Op, took)
				}
			}
			slices.Sort(keys)
			told := func(is ...int) (want []string) {
				for _, i := range is {
					want = append(want, "loaded "+key(i))
				}
				return want
			}
			if got := slices.Sorted(slices.Values(all.heard(t))); !slices.Equal(got, told(1, 2)) {
				t.Errorf("all were told %q", got)
			}
			if got := slices.Sorted(slices.Values(one.heard(t))); !slices.Equal(got, told(0, 1, 2, 2)) {
				t.Errorf("one who waits was told %q", got)
			}
			for _, k := range keys {
				do(t, st, store.Command{Op: store.Delete, Key: k})
			}
		}
	})
}

// A lease that is too short for a sign has none, whatever its length.
func TestAShortLeaseTellsNone(t *testing.T) {
	eachAwait(t, func(t *testing.T, st world, prefix string) {
		channel := prefix + "events"
		all := newPost(t, st, channel)
		for n := store.TokenLen; n <= store.SealLen; n++ {
			k, lease := fmt.Sprint(prefix, "k", n), leaseFrame("a")[:n]
			do(t, st, store.Command{Op: store.Set, Key: k, Frame: lease, TTL: time.Minute})
			if r := do(t, st, fillOf(k, lease, channel)); !r.OK || r.Err != nil {
				t.Errorf("%d bytes: %+v", n, r)
			}
		}
		if got := all.heard(t); len(got) > 0 {
			t.Errorf("told %q", got)
		}
	})
}

// A fill's way to the end of its batch makes no unit of what was none.
func TestFillsDoNotCompleteAUnit(t *testing.T) {
	eachAwait(t, func(t *testing.T, st world, prefix string) {
		if s, is := st.(interface{ OneNode() bool }); is && !s.OneNode() {
			t.Skip("there are no units")
		}
		channel := prefix + "events"
		for _, with := range []int{1, 3} {
			set := func(key, channel string, with int) store.Command {
				return store.Command{Op: store.Set, Key: prefix + key, Frame: frameOf("v"), TTL: time.Hour, Notify: store.Notify{Channel: channel, Message: "set"}, With: with}
			}
			cmds := []store.Command{
				fillOf(prefix+"fill-0", leaseFrame("0"), channel), set("a", channel, with), fillOf(prefix+"fill-1", leaseFrame("1"), channel),
				set("b", "", 0), fillOf(prefix+"fill-2", leaseFrame("2"), channel), set("c", "", 0),
			}
			for _, c := range cmds {
				do(t, st, store.Command{Op: store.Delete, Key: c.Key})
			}
			for i, r := range st.Do(t.Context(), cmds) {
				if refused := i >= 1 && i <= 1+with; (r.Err != nil) != refused {
					t.Errorf("with %d: %d: %+v", with, i, r)
				}
			}
		}
	})
}

// Fills that a node refuses for keys of several slots go by themselves, and are sent so from then
// on.
func TestFillsOfSeveralSlotsGoByThemselves(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	admin := server.Client(t)
	var refused refusals
	front := redistest.NewFront(t, server.Addr(), refused.of(redistest.OneSlot))
	o := server.Options()
	o.Addr = front.Addr()
	st := openStore(t, o)
	for round := range 3 {
		cmds := leasesAndFills(fmt.Sprint(round, "-"), "news", 5)
		for i := 1; i < len(cmds); i += 2 {
			if err := admin.Set(t.Context(), cmds[i].Key, leaseFrame(fmt.Sprint(i/2)), 0).Err(); err != nil {
				t.Fatal(err)
			}
		}
		for i, r := range st.Do(t.Context(), cmds) {
			if !r.OK || r.Err != nil {
				t.Errorf("round %d, %d: %+v", round, i, r)
			}
		}
	}
	if n := refused.with("CROSSSLOT"); n != 1 {
		t.Errorf("refused %d times", n)
	}
}

// Fills of several callers are one command to the server.
func TestFillsTogetherAreOneScript(t *testing.T) {
	server := redistest.Start(t)
	admin := server.Client(t)
	st := openStore(t, server.Options())
	cmds := leasesAndFills("", "news", 20)
	for i := 1; i < len(cmds); i += 2 {
		if err := admin.Set(t.Context(), cmds[i].Key, leaseFrame(fmt.Sprint(i/2%10)), 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if r := st.Do(t.Context(), []store.Command{fillOf("other", leaseFrame("a"), "news")})[0]; r.OK || r.Err != nil { // which tells the server the script
		t.Fatalf("%+v", r)
	}
	before := calls(t, admin)["evalsha"]
	for i, r := range st.Do(t.Context(), cmds) {
		if !r.OK || r.Err != nil {
			t.Errorf("%d: %+v", i, r)
		}
	}
	if n := calls(t, admin)["evalsha"] - before; n != 1 {
		t.Errorf("%d scripts", n)
	}
}

// What a server refuses for one of several fills is that one's error alone.
func TestARefusedFillHasItsOwnError(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		rules  []any
		stores bool
		says   string
	}{
		"a key":     {[]any{"resetkeys", "~lease*", "~fill-0", "~fill-2"}, false, "NOPERM"},
		"a channel": {[]any{"resetchannels", "&other"}, true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t, redistest.ACL("app on >secret ~* &* +@all"))
			admin := server.Client(t)
			o := server.Options()
			o.Username, o.Password = "app", "secret"
			st := openStore(t, o)
			cmds := leasesAndFills("", "news", 3)
			for i := 1; i < len(cmds); i += 2 {
				lease := leaseFrame(fmt.Sprint(i / 2))
				if i == 3 {
					lease = append(lease, "waiter-1"...)
				}
				if err := admin.Set(t.Context(), cmds[i].Key, lease, 0).Err(); err != nil {
					t.Fatal(err)
				}
			}
			if err := admin.Do(t.Context(), append([]any{"acl", "setuser", "app"}, tt.rules...)...).Err(); err != nil {
				t.Fatal(err)
			}
			for i, r := range st.Do(t.Context(), cmds) {
				stored := r.OK
				if cmds[i].Op == store.CompareAndSet {
					raw, err := admin.Get(t.Context(), cmds[i].Key).Bytes()
					if err != nil && err != redis.Nil {
						t.Fatal(err)
					}
					stored = bytes.Equal(raw, cmds[i].Frame)
				}
				if i != 3 {
					if !r.OK || r.Err != nil || !stored {
						t.Errorf("%d: %+v, stored: %v", i, r, stored)
					}
					continue
				}
				if r.OK || r.Err == nil || !strings.HasPrefix(r.Err.Error(), tt.says) || stored != tt.stores {
					t.Errorf("the one: %+v, stored: %v", r, stored)
				}
			}
		})
	}
}

// Commands of one key keep their order: a read between two fills finds what the first has stored.
func TestFillsStayInOrderWithOthersOfTheirKey(t *testing.T) {
	server := redistest.Start(t)
	st := openStore(t, server.Options())
	fills := []store.Command{fillOf("first", leaseFrame("1"), "news"), fillOf("second", leaseFrame("2"), "news")}
	for i, c := range fills {
		if err := server.Client(t).Set(t.Context(), c.Key, leaseFrame(fmt.Sprint(i+1)), 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	replies := st.Do(t.Context(), []store.Command{fills[0], {Op: store.Get, Key: "first"}, {Op: store.SetNX, Key: "lease", Frame: leaseFrame("3")}, fills[1]})
	for i, r := range replies {
		if r.Err != nil || r.OK != (i != 1) {
			t.Errorf("%d: %+v", i, r)
		}
	}
	if got := replies[1].Record.Raw; !bytes.Equal(got, fills[0].Frame) {
		t.Errorf("read %q", got)
	}
}

// A server that takes no writes stores none of several fills, and tells none.
func TestRefusedFillsStoreAndTellNothing(t *testing.T) {
	t.Parallel()
	for _, reason := range []string{"OOM", "READONLY", "NOREPLICAS"} {
		t.Run(reason, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			admin := server.Client(t)
			o := server.Options()
			o.MaxRetries = -1
			st := openStore(t, o)
			var fills []store.Command
			for i := range 3 {
				fills = append(fills, fillOf(fmt.Sprint("fill-", i), leaseFrame(fmt.Sprint(i)), "news"))
				awaited := append(leaseFrame(fmt.Sprint(i)), store.SignFor(nil, "")...)
				if err := admin.Set(t.Context(), fills[i].Key, awaited, 0).Err(); err != nil {
					t.Fatal(err)
				}
			}
			fills[0].Seen = store.TokenOf(leaseFrame("x")) // the first write that is refused is not the first command's
			heard := listening(t, admin)
			for _, args := range untakenReasons[reason].begin {
				if err := admin.Do(t.Context(), args...).Err(); err != nil {
					t.Fatal(err)
				}
			}
			for i, r := range st.Do(t.Context(), fills) {
				if r.OK || r.Err == nil || !strings.Contains(r.Err.Error(), reason) {
					t.Errorf("%d: %+v", i, r)
				}
				if raw, err := admin.Get(t.Context(), fills[i].Key).Bytes(); err != nil || !store.IsLease(raw) {
					t.Errorf("%d: it holds %q, %v", i, raw, err)
				}
			}
			for _, args := range untakenReasons[reason].end {
				if err := admin.Do(t.Context(), args...).Err(); err != nil {
					t.Fatal(err)
				}
			}
			if got := heard(); len(got) > 0 {
				t.Errorf("told %q", got)
			}
		})
	}
}
