package redisstore_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/internal/store"
	"github.com/redis/go-redis/v9"
)

// A script of the queue that meets what another program has left in its keys writes nothing
// if it fails, and else does what it does without that.
func TestAQueueScriptThatFailsHasWrittenNothing(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		ctx, s := t.Context(), newReal(t, b.Client)
		n := 0
		fresh := func(t *testing.T) store.QueueNames {
			t.Helper()
			n++
			q := store.NewQueueNames(b.Prefix, "q", n)
			a := store.Append{Sender: "s", Seq: 1, Max: 100, Writes: []store.Write{{Key: "a"}, {Key: "b"}}}
			if _, err := s.Append(ctx, q, a); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Acquire(ctx, q, "me", time.Hour, false); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Settle(ctx, q, store.Settle{Owner: "me", Lease: time.Hour, MaxDead: 10, Outcomes: []store.Outcome{{Verdict: store.Died, Key: "b", ID: idOf(t, s, q, "b")}}}); err != nil {
				t.Fatal(err)
			}
			return q
		}
		all := func(q store.QueueNames) []string {
			return []string{q.Log, q.Pending, q.Owner, q.Dead, q.DeadIndex, q.From}
		}
		dump := func(q store.QueueNames) string {
			var out strings.Builder
			for _, key := range all(q) {
				fmt.Fprintf(&out, "%q %q %q %v %q\n", key, b.Client.Get(ctx, key).Val(), b.Client.HGetAll(ctx, key).Val(), b.Client.XRange(ctx, key, "-", "+").Val(), b.Client.LRange(ctx, key, 0, -1).Val())
			}
			return out.String()
		}
		scripts := map[string]func(q store.QueueNames) error{
			"Append": func(q store.QueueNames) error {
				_, err := s.Append(ctx, q, store.Append{Sender: "s", Seq: 2, Max: 100, Writes: []store.Write{{Key: "a"}, {Key: "b"}, {Key: "c"}}})
				return err
			},
			"Fetch": func(q store.QueueNames) error {
				_, err := s.Fetch(ctx, q, store.Fetch{Owner: "me", Lease: 2 * time.Hour, Count: 10, Bytes: 1 << 20})
				return err
			},
			"Settle": func(q store.QueueNames) error {
				_, err := s.Settle(ctx, q, store.Settle{Owner: "me", Lease: 2 * time.Hour, MaxDead: 10, Outcomes: []store.Outcome{{Verdict: store.Died, Key: "a", ID: "1-1"}}})
				return err
			},
			"Revive": func(q store.QueueNames) error {
				ids := []string{b.Client.XRange(ctx, q.Dead, "-", "+").Val()[0].ID, "not an id"}
				_, err := s.Revive(ctx, q, store.Revive{IDs: ids, Max: 100})
				if err == nil {
					return fmt.Errorf("what is no id is accepted")
				}
				return err
			},
		}
		for what, f := range scripts {
			t.Run(what, func(t *testing.T) {
				for i := range 5 { // without From, which is made for each Append anew
					q := fresh(t)
					key := all(q)[i]
					if what == "Revive" {
						if i > 0 {
							continue
						}
					} else if err := b.Client.Del(ctx, key).Err(); err != nil {
						t.Fatal(err)
					} else if err := b.Client.RPush(ctx, key, "x").Err(); err != nil {
						t.Fatal(err)
					}
					before := dump(q)
					if err := f(q); err == nil {
						t.Errorf("a list in the place of %s does not matter", key)
					}
					if after := dump(q); after != before {
						t.Errorf("a list in the place of %s: it has failed, and left\n%s instead of\n%s", key, after, before)
					}
				}
			})
		}
		for _, text := range []string{"x", "1", "1-1 2-2", "18446744073709551616-1 18446744073709551616-1 0", "1-x 1-x 0", "1-1 99999999999999999999999-1 0", "1-1 2-2 99999999999999999999", ""} {
			q := fresh(t)
			for _, key := range []string{q.Pending, q.DeadIndex} {
				for _, field := range []string{"a", "b", "c"} {
					if err := b.Client.HSet(ctx, key, field, text).Err(); err != nil {
						t.Fatal(err)
					}
				}
			}
			if err := scripts["Append"](q); err != nil {
				t.Errorf("with %q for a place: %v", text, err)
			}
			if err := scripts["Fetch"](q); err != nil {
				t.Errorf("with %q for a place: %v", text, err)
			}
		}
	})
}

// idOf returns the id of the newest write of a key.
func idOf(t *testing.T, s real, q store.QueueNames, key string) string {
	t.Helper()
	es, err := s.Newest(t.Context(), []store.Ask{{Queue: q, Keys: []string{key}}})
	if err != nil {
		t.Fatal(err)
	}
	return es[0][0].ID
}

// What is refused because some of its keys have been moved is sent again until the rest have.
func TestAQueueWaitsForASlotThatMoves(t *testing.T) {
	server := redistest.Start(t)
	left := 10 // more than a client repeats anything
	front := redistest.NewFront(t, server.Addr(), func(args []string) string {
		if left == 0 || !strings.HasPrefix(strings.ToLower(args[0]), "eval") {
			return ""
		}
		left--
		return "-TRYAGAIN Multiple keys request during rehashing of slot\r\n"
	})
	client := redis.NewClient(&redis.Options{Addr: front.Addr(), MaintNotificationsConfig: noMaintenance()})
	t.Cleanup(func() { client.Close() })
	ids, err := newReal(t, client).Append(t.Context(), store.NewQueueNames("p", "q", 1), store.Append{Sender: "s", Seq: 1, Max: 100, Writes: []store.Write{{Key: "a"}}})
	if err != nil || len(ids) != 1 || left != 0 {
		t.Errorf("%q, %v; refused %d times more", ids, err, left)
	}
}
