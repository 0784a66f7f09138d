package store

import (
	"strconv"
	"strings"
	"sync"
)

// Parts is the number of parts of the key space of a cluster, each of which has a logical clock of its
// own.
//
// A part is a range of slots, so that its clock can be on the node that has its keys: a read that
// needs the clock then needs no other node, no node has more of these reads than its share of the
// keys, and a node that is down has the clocks of its own keys. That is so where 1 to 6 or 8 masters
// share the slots evenly, as a cluster is created: none of their ranges begins within a part.
// Elsewhere some parts have slots of two nodes, and the clock of the keys on one of them is on the
// other. That costs what it costs to have one clock on a cluster, for these keys only; nothing else
// depends on where a clock is.
const Parts = 16

// Slots is the number of slots of a cluster.
const Slots = 16384

// parts are the first slots of the parts, at the multiples of 1/2, 1/3, 1/4, 1/5, 1/6 and 1/8 of all
// slots, and the hash tags of the keys of their clocks. The slot of each tag is the middle of its part.
var parts = [Parts]struct {
	first uint16
	tag   string
}{
	{0, "dlj"}, {2048, "bij"}, {2731, "a4q"}, {3277, "f5k"}, {4096, "1mo"}, {5461, "ljg"}, {6144, "c7"}, {6554, "gw"},
	{8192, "st5"}, {9830, "7x5"}, {10240, "hb4"}, {10923, "hft"}, {12288, "77h"}, {13107, "3l5"}, {13653, "3ki"}, {14336, "7ys"},
}

// PartOf returns the number of the part that a Redis key is in, on a cluster. It does not allocate.
func PartOf[K string | []byte](key K) uint8 {
	slot, part := uint16(SlotOf(key)), uint8(0)
	for step := uint8(Parts / 2); step > 0; step /= 2 {
		if parts[part+step].first <= slot {
			part += step
		}
	}
	return part
}

// PartSlots returns the slots of a part.
func PartSlots(part int) SlotRange {
	if part+1 == Parts {
		return SlotRange{int(parts[part].first), Slots}
	}
	return SlotRange{int(parts[part].first), int(parts[part+1].first)}
}

// SlotOf returns the slot of a key.
func SlotOf[K string | []byte](key K) int {
	if i := indexByte(key, '{'); i >= 0 {
		if n := indexByte(key[i+1:], '}'); n > 0 {
			key = key[i+1 : i+1+n]
		}
	}
	var crc uint16 // CRC-16/XMODEM, as the specification of Redis Cluster has it
	for i := range len(key) {
		crc = crc<<8 ^ crcTable[byte(crc>>8)^key[i]]
	}
	return int(crc % Slots)
}

func indexByte[K string | []byte](text K, b byte) int {
	for i := range len(text) {
		if text[i] == b {
			return i
		}
	}
	return -1
}

var crcTable = func() (table [256]uint16) {
	for i := range table {
		crc := uint16(i) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
		table[i] = crc
	}
	return table
}()

// Parted returns the names by part: those of each part's logical clock and channel, beside which all
// are the same. It has one element where there is one clock for all keys: if cluster is false, or if all keys
// of the prefix may be in one slot, since it has a hash tag of its own.
func (n Names) Parted(cluster bool) []Names {
	if !cluster {
		return []Names{n}
	}
	if strings.Contains(n.prefix, "{") || n.name == "" {
		if tag := SlotOf(n.prefix); hasTag(n.prefix) {
			n.Slots = SlotRange{tag, tag + 1}
		} else {
			n.Slots = SlotRange{0, Slots}
		}
		return []Names{n}
	}
	all := make([]Names, Parts)
	for i := range all {
		own := n.prefix + ":{" + parts[i].tag + "}:c:" + n.name + ":"
		all[i] = n
		all[i].Epoch, all[i].Tags, all[i].Channel = own+"epoch", own+"tags", own+n.Channel[strings.LastIndex(n.Channel, ":")+1:]
		all[i].Slots = PartSlots(i)
	}
	return all
}

// InSlots returns a channel of a part of the keys, with the hash tag of another part in its place if its
// slot is not one that ok reports and that of the other is. A user who may use one may use the other.
func InSlots(channel string, ok func(slot int) bool) string {
	if ok(SlotOf(channel)) {
		return channel
	}
	tag := "{" + parts[PartOf(channel)].tag + "}"
	before, after, _ := strings.Cut(channel, tag)
	for i := range parts {
		if other := before + "{" + parts[i].tag + "}" + after; ok(SlotOf(other)) && before+tag+after == channel {
			return other
		}
	}
	return channel
}

// hasTag reports whether a prefix of keys has a complete hash tag, so that all of them are in one slot.
func hasTag(prefix string) bool {
	i := strings.IndexByte(prefix, '{')
	return i >= 0 && strings.IndexByte(prefix[i+1:], '}') > 0
}

// SlotRange is a range of the slots of a cluster, without Next. The zero value is that of servers that
// have no slots.
type SlotRange struct{ First, Next int }

// Meets reports whether two ranges have a slot in common.
func (r SlotRange) Meets(o SlotRange) bool { return r.First < o.Next && o.First < r.Next }

// Has reports whether a key is in one of the slots.
func (r SlotRange) Has(key string) bool {
	if r == (SlotRange{}) {
		return true
	}
	return r.HasSlot(SlotOf(key))
}

// HasSlot reports whether a slot is one of them.
func (r SlotRange) HasSlot(slot int) bool {
	return r == (SlotRange{}) || r.First <= slot && slot < r.Next
}

// SlotTag returns a key of a slot, which is the hash tag of others.
func SlotTag(slot int) string {
	if tag, ok := slotTags.Load(slot); ok {
		return tag.(string)
	}
	for i := 0; ; i++ {
		if tag := strconv.Itoa(i); SlotOf(tag) == slot {
			slotTags.Store(slot, tag)
			return tag
		}
	}
}

var slotTags sync.Map // of those that were asked for
