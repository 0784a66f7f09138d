package store

import "strings"

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
func PartOf(key string) uint8 {
	slot, part := uint16(SlotOf(key)), uint8(0)
	for step := uint8(Parts / 2); step > 0; step /= 2 {
		if parts[part+step].first <= slot {
			part += step
		}
	}
	return part
}

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
		own := n.prefix + ":{" + parts[i].tag + "}:c:" + n.name + ":"
		all[i] = n
		all[i].Epoch, all[i].Tags = own+"epoch", own+"tags"
	}
	return all
}
