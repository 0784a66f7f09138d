package store

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
)

func TestSlots(t *testing.T) {
	// Of the specification of Redis Cluster, and of CLUSTER KEYSLOT.
	for key, want := range map[string]int{"123456789": 12739, "foo": 12182, "{user1000}.following": 3443, "foo{}{bar}": 8363, "foo{{bar}}zap": 4015, "foo{bar}{zap}": 5061, "": 0} {
		if got := SlotOf(key); got != want {
			t.Errorf("%q is in slot %d, want %d", key, got, want)
		}
	}
}

func TestTheClockOfAPartIsInThatPart(t *testing.T) {
	for _, prefix := range []string{"", "shop:", "größe}"} {
		n := NewNames(prefix, "users").In(3)
		parts := n.Parted(true)
		if len(parts) != Parts {
			t.Fatalf("%q has %d parts", prefix, len(parts))
		}
		seen := map[string]bool{}
		for i, p := range parts {
			for _, key := range []string{p.Epoch, p.Tags, p.Channel} {
				if PartOf(key) != uint8(i) || SlotOf(key) != middle(i) {
					t.Errorf("%s, of part %d, is in slot %d", key, i, SlotOf(key))
				}
				if seen[key] || strings.HasPrefix(key, p.Data) || strings.HasPrefix(key, p.Lock) {
					t.Errorf("%s is the name of something else", key)
				}
				seen[key] = true
			}
			if !strings.HasSuffix(p.Channel, "@3") {
				t.Errorf("%s is the channel of all databases", p.Channel)
			}
			if !p.Slots.Has(p.Channel) || p.Slots.First != int(first(i)) || p.Slots.Next != int(first(i+1)) {
				t.Errorf("part %d has the slots %v", i, p.Slots)
			}
			if p.Epoch, p.Tags, p.Channel, p.Slots = n.Epoch, n.Tags, n.Channel, n.Slots; p != n {
				t.Errorf("part %d: %+v, want %+v", i, p, n)
			}
		}
	}
}

func TestOneClockWhereThereIsOneSlot(t *testing.T) {
	tenant := SlotOf("tenant")
	for prefix, slots := range map[string]SlotRange{"{tenant}": {tenant, tenant + 1}, "{tenant}:": {tenant, tenant + 1}, "a{b": {0, Slots}, "{}a{b}": {0, Slots}} {
		n := NewNames(prefix, "users")
		parts := n.Parted(true)
		if len(parts) != 1 || parts[0].Slots != slots || !slots.Has(n.Data+"key") || !slots.Has(n.Channel) {
			t.Fatalf("%q: %+v", prefix, parts)
		}
		if parts[0].Slots = n.Slots; parts[0] != n {
			t.Errorf("%q: %+v", prefix, parts)
		}
	}
	if n := NewNames("", "users"); len(n.Parted(false)) != 1 {
		t.Error("a server that is no cluster has parts")
	}
}

// first is the first slot of a part.
func first(part int) uint16 {
	if part == Parts {
		return Slots
	}
	return parts[part].first
}

// Each slot has a key, which is the same each time.
func TestSlotTag(t *testing.T) {
	for slot := 0; slot < Slots; slot += 101 {
		if tag := SlotTag(slot); SlotOf(tag) != slot || SlotOf("x{"+tag+"}y") != slot || SlotTag(slot) != tag {
			t.Errorf("slot %d has the tag %q, of slot %d", slot, tag, SlotOf(tag))
		}
	}
	if r := (SlotRange{}); !r.Has("any") {
		t.Error("where there are no slots, a key is in none")
	}
}

func middle(part int) int {
	end := Slots
	if part+1 < Parts {
		end = int(parts[part+1].first)
	}
	return (int(parts[part].first) + end) / 2
}

// The slots of a cluster are shared evenly when it is created: then no master has a part of a part.
func TestMastersHaveWholeParts(t *testing.T) {
	for _, masters := range []int{1, 2, 3, 4, 5, 6, 8} {
		for i := range masters {
			first := int(math.Round(float64(i) * Slots / float64(masters)))
			if !slices.ContainsFunc(parts[:], func(p struct {
				first uint16
				tag   string
			}) bool {
				return int(p.first) == first
			}) {
				t.Errorf("master %d of %d begins within a part, at slot %d", i, masters, first)
			}
		}
	}
}

func TestKeysAreInTheirParts(t *testing.T) {
	for i := range 20_000 {
		key := fmt.Sprint("users:", i)
		slot, part := SlotOf(key), int(PartOf(key))
		if slot < int(parts[part].first) || part+1 < Parts && slot >= int(parts[part+1].first) {
			t.Fatalf("slot %d is in part %d", slot, part)
		}
	}
}

func TestAPartIsFoundWithoutAlloc(t *testing.T) {
	key := "users:4711"
	if n := testing.AllocsPerRun(100, func() { PartOf(key) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
