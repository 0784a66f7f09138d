package storetest_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
)

// receiver is a Subscriber that counts.
type receiver struct {
	mu                          sync.Mutex
	subscribed, messages, beats int
	sent                        time.Time
	ended                       chan error
}

func (r *receiver) Subscribed()          { r.note(&r.subscribed) }
func (r *receiver) Message(string)       { r.note(&r.messages) }
func (r *receiver) KeysChanged([]string) {}

func (r *receiver) Heartbeat(t time.Time) {
	r.note(&r.beats)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sent = t
}

func (r *receiver) note(n *int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	*n++
}

func (r *receiver) take(n *int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	was := *n
	*n = 0
	return was
}

// The part of the tests, its slots on both sides of that of its channel, and a key of each.
var (
	part         = store.NewNames("", "n").Parted(true)[8]
	middle       = store.SlotOf(part.Channel)
	lower, upper = store.SlotRange{First: part.Slots.First, Next: middle + 1}, store.SlotRange{First: middle + 1, Next: part.Slots.Next}
	key          = store.SlotTag(middle + 1)
)

// onCluster runs a test on a cluster of three nodes: the part is on node 0, but for its upper slots, which
// are on that node.
func onCluster(t *testing.T, upperOn int, f func(t *testing.T, c *clusterOfTest)) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		c := &clusterOfTest{Memory: storetest.NewMemory(), ctx: ctx}
		l := storetest.Layout{{SlotRange: store.SlotRange{Next: store.Slots}}}.With(upper, upperOn)
		c.SetCluster(3, l, false, func(int, int) (time.Duration, bool) { c.passedOn++; return time.Millisecond, false })
		f(t, c)
		cancel()
		time.Sleep(time.Second) // the clients go on for a moment
	})
}

type clusterOfTest struct {
	*storetest.Memory
	ctx      context.Context
	passedOn int // messages, from one node to another; guarded by the lock of the Memory
}

// subscribe subscribes to the part, by the layout of a node.
func (c *clusterOfTest) subscribe(by int) *receiver {
	r := &receiver{ended: make(chan error, 1)}
	client := c.NewClusterClient(func() int { return by }, func() time.Duration { return time.Millisecond })
	go func() {
		r.ended <- client.Subscribe(c.ctx, store.Subscription{Channel: part.Channel, Slots: part.Slots, HeartbeatInterval: 500 * time.Millisecond, HeartbeatTimeout: 1500 * time.Millisecond}, r)
	}()
	time.Sleep(10 * time.Millisecond)
	return r
}

// write changes the key, and returns how often a message of that was passed on to another node.
func (c *clusterOfTest) write(t *testing.T) int {
	t.Helper()
	before := c.passedOn
	r := c.Do(t.Context(), []store.Command{{Op: store.Set, Key: key, Frame: []byte("v"), Notify: store.Notify{Channel: part.Channel, Message: "m", Sharded: true}}})
	if r[0].Err != nil {
		t.Fatal(r[0].Err)
	}
	time.Sleep(10 * time.Millisecond)
	return c.passedOn - before
}

// endsWithin checks that a subscription ends because of the masters: after least, and within most.
func (r *receiver) endsWithin(t *testing.T, least, most time.Duration) {
	t.Helper()
	began := time.Now()
	select {
	case err := <-r.ended:
		if errors.Is(err, store.ErrHeartbeatTimeout) || time.Since(began) < least {
			t.Errorf("it has ended after %v: %v", time.Since(began), err)
		}
	case <-time.After(most):
		t.Errorf("it has not ended after %v", most)
	}
}

func TestANodePublishesToThoseSubscribedAtIt(t *testing.T) {
	onCluster(t, 0, func(t *testing.T, c *clusterOfTest) {
		r := c.subscribe(0)
		if n, got := c.write(t), r.take(&r.messages); n != 0 || got != 1 {
			t.Errorf("it was passed on %d times, and received %d times", n, got)
		}
	})
}

func TestANodeWithoutTheSlotOfTheChannelPublishesToAll(t *testing.T) {
	onCluster(t, 1, func(t *testing.T, c *clusterOfTest) {
		r := c.subscribe(0)
		if n, got := c.write(t), r.take(&r.messages); n != 1 || got != 2 {
			t.Errorf("it was passed on %d times, and received %d times", n, got)
		}
	})
}

// Those that are subscribed at the former owner receive what the new one publishes, until another one is
// subscribed there.
func TestTheNewOwnerPublishesToThoseOfTheFormerOneUnlessOthersArePresent(t *testing.T) {
	onCluster(t, 0, func(t *testing.T, c *clusterOfTest) {
		former := c.subscribe(0)
		c.Move(part.Slots, 2, true)
		if n, got := c.write(t), former.take(&former.messages); n != 1 || got != 1 {
			t.Errorf("no other one is there: it was passed on %d times, and received %d times", n, got)
		}
		latter := c.subscribe(2)
		if n, was, is := c.write(t), former.take(&former.messages), latter.take(&latter.messages); n != 0 || was != 0 || is != 1 {
			t.Errorf("another one is there: it was passed on %d times, and received %d and %d times", n, was, is)
		}
		if stale := c.subscribe(0); stale.take(&stale.subscribed) != 1 {
			t.Error("by an old layout it is not subscribed")
		}
		// Nor does the former owner know, which publishes a message that is sent there.
		if err := c.PublishAt(t.Context(), 0, store.Notify{Channel: part.Channel, Message: "m", Sharded: true}); err != nil {
			t.Error(err)
		}
		time.Sleep(10 * time.Millisecond)
		if was, is := former.take(&former.messages), latter.take(&latter.messages); was != 1 || is != 0 {
			t.Errorf("a message by the former owner is received %d and %d times", was, is)
		}
		c.Learn(0)
		if err := c.PublishAt(t.Context(), 0, store.Notify{Channel: part.Channel, Message: "m", Sharded: true}); err != nil {
			t.Error(err)
		}
		time.Sleep(10 * time.Millisecond)
		if is := latter.take(&latter.messages); is != 1 {
			t.Errorf("a message that the former owner passes on is received %d times", is)
		}
	})
}

func TestASubscriptionEndsWhenItsNodeNoticesThatSlotsHaveMoved(t *testing.T) {
	for name, test := range map[string]struct {
		slots       store.SlotRange
		newEpoch    bool
		least, most time.Duration
	}{
		"that of the channel":                    {lower, false, 0, time.Millisecond},
		"others":                                 {upper, true, time.Millisecond, 500 * time.Millisecond},
		"others, to a node that has a new epoch": {upper, false, 2 * time.Second, 6 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			onCluster(t, 0, func(t *testing.T, c *clusterOfTest) {
				c.Move(store.SlotRange{First: 0, Next: 1}, 2, false) // it is not the first slot of that node
				c.Learn(0)
				r := c.subscribe(2)
				time.Sleep(time.Second)
				c.Move(test.slots, 2, test.newEpoch)
				r.take(&r.beats)
				time.Sleep(time.Second)
				if r.take(&r.beats) == 0 || len(r.ended) > 0 {
					t.Fatal("the node has noticed by itself")
				}
				c.Learn(0)
				r.endsWithin(t, test.least, test.most)
			})
		})
	}
}

func TestASubscriptionOfASplitPartIsThatOfBothNodes(t *testing.T) {
	onCluster(t, 1, func(t *testing.T, c *clusterOfTest) {
		r := c.subscribe(0)
		if time.Sleep(time.Second); r.take(&r.subscribed) != 1 || r.take(&r.beats) == 0 {
			t.Error("it was not subscribed once, or hears nothing")
		}
		c.SetDown(1, errors.New("it does not answer"), true)
		down := time.Now()
		select {
		case err := <-r.ended:
			if !errors.Is(err, store.ErrHeartbeatTimeout) {
				t.Error(err)
			}
		case <-time.After(2 * time.Second):
			t.Error("it goes on without one of its nodes")
		}
		if r.sent.After(down) {
			t.Errorf("a heartbeat of %v after that counts", r.sent.Sub(down))
		}
		if r := c.subscribe(0); r.take(&r.subscribed) != 0 {
			t.Error("it is subscribed at one node")
		}
	})
}

func TestASessionIsNotJoinedByAnotherLayout(t *testing.T) {
	onCluster(t, 0, func(t *testing.T, c *clusterOfTest) {
		by := 0
		client := c.NewClusterClient(func() int { return by }, func() time.Duration { return time.Millisecond })
		subscribe := func() *receiver {
			r := &receiver{ended: make(chan error, 1)}
			go func() {
				r.ended <- client.Subscribe(c.ctx, store.Subscription{Channel: part.Channel, Slots: part.Slots, HeartbeatInterval: time.Hour, HeartbeatTimeout: 2 * time.Hour}, r)
			}()
			time.Sleep(10 * time.Millisecond)
			return r
		}
		first := subscribe()
		c.Move(upper, 2, true)
		c.Learn(0) // of which the first one learns with its next heartbeat
		by = 2
		client.Reload()
		time.Sleep(2 * time.Second) // then the other layout is old as well
		second := subscribe()
		first.endsWithin(t, 0, 10*time.Millisecond)
		if second.take(&second.subscribed) != 1 {
			t.Error("the other one is not subscribed")
		}
	})
}
