package coherence

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/internal/message"
	"github.com/delqhi/cache/internal/retryqueue"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
)

// directStore is a store that loses no message alone, and says so.
type directStore struct {
	*storetest.Memory
	disproved func()
}

func (d directStore) Subscribe(ctx context.Context, l store.Subscription, s store.Subscriber) error {
	return d.Memory.Subscribe(ctx, l, directSubscriber{s, d.disproved})
}

type directSubscriber struct {
	store.Subscriber
	disproved func()
}

func (d directSubscriber) Subscribed() {
	d.Subscriber.Subscribed()
	s := d.Subscriber.(store.CheckingSubscriber)
	s.Checks(d.disproved)
	s.Direct()
}

// Where no message can be lost alone, a sender whose first message is not its first costs no flush.
// One of whom a number is missing does, and shows that messages are lost alone.
func TestLateSendersCostNothingWhereNoMessageIsLostAlone(t *testing.T) {
	for name, direct := range map[string]bool{"direct": true, "not direct": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var st store.Store = storetest.NewMemory()
				disproved := 0
				if direct {
					st = directStore{st.(*storetest.Memory), func() { disproved++ }}
				}
				a, l := onTier(t, Broadcast, true, st)
				a.Ready(t.Context())
				time.Sleep(3 * time.Second)
				tell := func(n message.Message) {
					if err := st.Publish(t.Context(), store.Notify{Channel: a.cfg.Names.Channel, Message: string(n.Append(nil))}); err != nil {
						t.Fatal(err)
					}
				}
				for sender := range uint64(30) {
					tell(message.Message{Sender: 100 + sender, Number: 7, Kind: message.Invalidated, Keys: []string{"k"}})
					time.Sleep(700 * time.Millisecond)
				}
				if synctest.Wait(); (l.flushed == 0) != direct {
					t.Errorf("%d flushes", l.flushed)
				}
				late := func(sender uint64) {
					tell(message.Message{Sender: sender, Number: 9, Kind: message.Invalidated, Keys: []string{"k"}})
					tell(message.Message{Sender: sender, Number: 9, Kind: message.Watermark})
					time.Sleep(3 * time.Second)
					synctest.Wait()
				}
				l.flushed = 0
				if late(100); l.flushed != 1 || a.direct.Load() || disproved != map[bool]int{true: 1}[direct] {
					t.Errorf("a gap: %d flushes, direct %v, disproved %d times", l.flushed, a.direct.Load(), disproved)
				}
				if l.received != 31 {
					t.Errorf("%d invalidations received", l.received)
				}
				// From now on it is as where messages can be lost alone.
				l.flushed = 0
				if late(300); l.flushed != 1 {
					t.Errorf("an unknown sender after a gap: %d flushes", l.flushed)
				}
				// A sender that closes without knowing what became of its messages says so.
				l.flushed = 0
				tell(message.Message{Sender: 200, Number: 1, Kind: message.Watermark, Last: true, Unresolved: true})
				time.Sleep(time.Second)
				if synctest.Wait(); l.flushed == 0 {
					t.Error("no flush at the end of a sender that does not know what it has published")
				}
			})
		})
	}
}

// A process in such a session publishes watermarks all the same: others may be elsewhere, and a
// former master would serve them what it has lost.
func TestWatermarksArePublishedToThoseWhoNeedThem(t *testing.T) {
	for name, direct := range map[string]bool{"direct": true, "not direct": false} {
		for _, open := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					mem := storetest.NewMemory()
					var st store.Store = mem
					if direct {
						st = directStore{mem, func() { t.Error("disproved") }}
					}
					var marks []message.Message
					mem.Intercept(func(d storetest.Delivery) (int, time.Duration) {
						if n, err := message.Parse(d.Text); err == nil && n.Kind == message.Watermark {
							marks = append(marks, n)
						}
						return 1, 0
					})
					a, _ := onTier(t, Broadcast, true, st)
					b, _ := onTier(t, Broadcast, true, mem) // receives them
					a.Ready(t.Context())
					b.Ready(t.Context())
					time.Sleep(3 * time.Second)
					n, sent := a.Outbox.Next(message.Invalidated)
					sent.Resolve(true, nil)
					time.Sleep(5 * time.Second)
					synctest.Wait()
					if len(marks) != 3*2 { // three to each of the two
						t.Errorf("published: %+v", marks)
					}
					mem.CutListeners(errLost)
					time.Sleep(5 * time.Second) // the next session is direct again
					synctest.Wait()
					marks = nil
					if open {
						_, sent := a.Outbox.Next(message.Invalidated)
						sent.Resolve(true, errLost)
					}
					a.Close()
					synctest.Wait()
					switch last := len(marks) - 1; {
					case !open && direct:
						if last >= 0 {
							t.Errorf("at the end: %+v", marks)
						}
					case open:
						if last < 0 || !marks[last].Last || !marks[last].Unresolved || marks[last].Number != n.Number+1 {
							t.Errorf("at the end: %+v", marks)
						}
					case last >= 0 && marks[last].Unresolved:
						t.Errorf("at the end: %+v", marks)
					}
				})
			})
		}
	}
}

// refusingStore refuses everything but messages.
type refusingStore struct{ *storetest.Memory }

func (r refusingStore) Do(_ context.Context, cmds []store.Command) []store.Reply {
	replies := make([]store.Reply, len(cmds))
	for i := range replies {
		replies[i].Err = errLost
	}
	return replies
}

// An invalidation that is pending at the end is told, also if the number of its message was
// forgotten.
func TestWhatIsPendingAtTheEndIsToldWithoutItsNumber(t *testing.T) {
	for _, pending := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			mem := storetest.NewMemory()
			a, _ := onTier(t, Broadcast, true, refusingStore{mem})
			b, l := onTier(t, Broadcast, true, directStore{mem, func() { t.Error("disproved") }})
			a.Ready(t.Context())
			b.Ready(t.Context())
			time.Sleep(3 * time.Second)
			_, sent := a.Outbox.Next(message.Invalidated)
			sent.Resolve(true, nil)
			time.Sleep(3 * time.Second) // its watermarks are published
			synctest.Wait()
			l.flushed = 0
			if pending {
				a.scheduleRetry(retryqueue.Item{Key: a.cfg.Names.Data + "k"})
			}
			a.Close()
			time.Sleep(time.Second)
			if synctest.Wait(); (l.flushed > 0) != pending {
				t.Errorf("pending: %v; %d flushes", pending, l.flushed)
			}
			b.Close()
		})
	}
}
