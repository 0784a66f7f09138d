package store

import "strings"

// Parts is the number of parts of the key space of a cluster, each of which has a logical clock of its
// own, and partSlots the number of slots of a part.
//
// A part is a range of slots, so that its clock can be on the node that has its keys: a read that
// needs the clock then needs no other node, no node has more of these reads than its share of the
// keys, and a node that is down has the clocks of its own keys. Where a part's slots are on two
// nodes, the clock of the keys on one of them is on the other. That costs what it costs to have one
// clock on a cluster, for these keys only; nothing else depends on where a clock is.
const (
	Parts     = 16
	partSlots = Slots / Parts
)

// Slots is the number of slots of a cluster.
const Slots = 16384

// partTags are the hash tags of the keys of the parts' clocks. The slot of each is the middle of its
// part.
var partTags = [Parts]string{"04s", "003", "pt6", "4x6", "0ay", "0e9", "4mt", "4i4", "265", "22u", "c0h", "6zp", "gio", "5f", "6o2", "6kr"}

// PartOf returns the number of the part that a Redis key is in, on a cluster. It does not allocate.
func PartOf(key string) uint8 { return uint8(SlotOf(key) / partSlots) }

// SlotOf returns the slot of a key.
func SlotOf(key string) int {
	if i := strings.IndexByte(key, '{'); i >= 0 {
		if n := strings.IndexByte(key[i+1:], '}'); n > 0 {
			key = key[i+1 : i+1+n]
		}
	}
	var crc uint16 // CRC-16/XMODEM, as the specification of Redis Cluster has it
	for i := range len(key) {
		crc = crc<<8 ^ crcTable[byte(crc>>8)^key[i]]
	}
	return int(crc % Slots)
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

// Parted returns the names by part: those of each part's logical clock, beside which all are the
// same. It has one element where there is one clock for all keys: if cluster is false, or if all keys
// of the prefix may be in one slot, since it has a hash tag of its own.
func (n Names) Parted(cluster bool) []Names {
	if !cluster || strings.Contains(n.prefix, "{") || n.name == "" {
		return []Names{n}
	}
	all := make([]Names, Parts)
	for i := range all {
		own := n.prefix + ":{" + partTags[i] + "}:c:" + n.name + ":"
		all[i] = n
		all[i].Epoch, all[i].Tags = own+"epoch", own+"tags"
	}
	return all
}
