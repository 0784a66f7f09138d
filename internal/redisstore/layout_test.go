package redisstore

import (
	"slices"
	"strings"
	"testing"

	"github.com/delqhi/cache/internal/store"
)

func slots(first, next int, id string) slotRange {
	return slotRange{store.SlotRange{First: first, Next: next}, id}
}

func TestLayout(t *testing.T) {
	even := layout{[]slotRange{slots(0, 5461, "a"), slots(5461, 10923, "b"), slots(10923, 16384, "c")}}
	for slot, want := range map[int]string{0: "a", 5460: "a", 5461: "b", 10922: "b", 10923: "c", 16383: "c"} {
		if got := even.owner(slot); got != want {
			t.Errorf("slot %d is that of %q, not of %q", slot, got, want)
		}
	}
	for i := range store.Parts {
		if ids := even.nodesOf(store.PartSlots(i)); len(ids) != 1 {
			t.Errorf("part %d is on %q", i, ids)
		}
	}
	if ids := even.nodesOf(store.SlotRange{First: 5460, Next: 10924}); !slices.Equal(ids, []string{"a", "b", "c"}) {
		t.Errorf("on %q", ids)
	}
	// What differs within a part does not matter; which nodes have it does.
	first := store.PartSlots(store.Parts / 2).First
	shared := layout{[]slotRange{slots(0, first+1, "a"), slots(first+1, 16384, "b")}}
	same := layout{[]slotRange{slots(0, first+2, "a"), slots(first+2, 16384, "b")}}
	other := layout{[]slotRange{slots(0, first, "a"), slots(first, 16384, "b")}}
	lacks := layout{[]slotRange{slots(0, first+1, "a"), slots(first+1, 16000, "b")}}
	taken := layout{[]slotRange{slots(0, first+1, "a"), slots(first+1, 16384, "c")}}
	for name, test := range map[string]struct {
		o    layout
		a, b bool
	}{
		"another boundary within the part": {same, true, true}, "a part for each": {other, false, false},
		"slots without a node": {lacks, true, true}, "another node in the place of b": {taken, false, false},
	} {
		if a, b := shared.sameFor("a", test.o), shared.sameFor("b", test.o); a != test.a || b != test.b {
			t.Errorf("%s: the same for a %v, for b %v", name, a, b)
		}
	}
	// What becomes of others does not concern a node.
	failover := layout{[]slotRange{slots(0, 5461, "a"), slots(5461, 10923, "d"), slots(10923, 16384, "c")}}
	if !even.sameFor("a", failover) || !even.sameFor("c", failover) || even.sameFor("b", failover) || even.sameFor("d", failover) {
		t.Error("the failover of one node concerns others, or not itself")
	}
	if even.slots() != store.Slots || lacks.slots() != 16000 || (layout{}).slots() != 0 {
		t.Error(even.slots(), lacks.slots())
	}
	if len((layout{}).nodesOf(store.PartSlots(0))) > 0 {
		t.Error("an empty layout has nodes")
	}
}

// The heartbeats of a session are on a channel whose slot its node has, also where the session begins with
// a part of which the node has other slots.
func TestAHeartbeatIsPublishedWhereItIsReceived(t *testing.T) {
	first, middle := store.PartSlots(3).First, store.SlotOf(store.NewNames("p:", "n").Parted(true)[3].Channel)
	for name, test := range map[string]struct {
		l     layout
		local bool
	}{
		"the slot of the channel": {layout{[]slotRange{slots(0, middle+1, "a"), slots(middle+1, 16384, "b")}}, true},
		"others of that part":     {layout{[]slotRange{slots(0, middle, "a"), slots(middle, 16384, "b")}}, true},
		"only some of that part":  {layout{[]slotRange{slots(0, first, "b"), slots(first, middle, "a"), slots(middle, 16384, "b")}}, false},
	} {
		m := &subscriber{l: store.Subscription{Channel: store.NewNames("p:", "n").Parted(true)[3].Channel}, node: &listenMaster{member: &member{id: "a", layout: test.l}}}
		s := newSession(nil, sessionKey{}, m, false)
		if got := s.pulseChannel(0); s.isLocal(got) != test.local || !strings.HasPrefix(got, "p::{") || !strings.Contains(got, "}:c:n:events:") {
			t.Errorf("%s: a heartbeat on %s, whose slot the node has: %v", name, got, s.isLocal(got))
		}
		s.end(nil)
	}
	// A prefix with a hash tag has one slot.
	one := store.NewNames("{p}:", "n").Parted(true)[0].Channel
	if got := store.InSlots(one, func(slot int) bool { return slot != store.SlotOf(one) }); got != one {
		t.Errorf("%s instead of %s", got, one)
	}
}

// A node has the slot of a channel where its id says so, or where it is the only one.
func TestAMemberHasTheSlotOfAChannel(t *testing.T) {
	two := layout{[]slotRange{slots(0, 8192, "a"), slots(8192, 16384, "b")}}
	low, high := "{"+store.SlotTag(1)+"}x", "{"+store.SlotTag(16000)+"}x"
	for _, test := range []struct {
		id        string
		layout    layout
		low, high bool
	}{
		{"a", two, true, false}, {"b", two, false, true}, {"c", two, false, false},
		{"", layout{[]slotRange{slots(0, 16384, "")}}, true, true},
		{"", layout{[]slotRange{slots(0, 8192, ""), slots(8192, 16384, "")}}, true, true}, // one, as far as is known
		{"a", layout{}, false, false}, {"", layout{}, false, false},
	} {
		m := &member{id: test.id, layout: test.layout}
		if m.has(low) != test.low || m.has(high) != test.high {
			t.Errorf("%q of %v: %v, %v", test.id, test.layout, m.has(low), m.has(high))
		}
	}
}
