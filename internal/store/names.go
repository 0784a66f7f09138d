package store

import "strconv"

// Names are the names of all keys and channels in Redis that belong to one cache.
type Names struct {
	// Data is the prefix of every key of the cache's data. No other key of a cache with this
	// prefix begins with it: the names below have a ':' where Data has the name of the cache,
	// which is not empty and contains no ':'.
	Data string
	// Epoch and Tags are the keys of the logical clock; see [logicalclock.Epoch]. Both are in
	// one slot of a cluster. On a cluster there are several clocks; see [Names.Parted].
	Epoch string
	Tags  string
	// Lock is the prefix of the keys by which processes agree which of them replaces a value.
	Lock string
	// Channel is the channel of the messages to all processes; see [Names.In]. On a cluster there is
	// one for each part of the keys, as of the clocks.
	Channel string
	// Slots are those of the keys, on a cluster; see [Names.Parted].
	Slots SlotRange

	prefix, name string
}

// In returns the names in a database of that number. A key of the same name in two databases is
// two keys; channels belong to the server, so theirs must differ by name.
func (n Names) In(database int) Names {
	if database != 0 {
		n.Channel += "@" + strconv.Itoa(database)
	}
	return n
}

// NewNames returns the names of a cache. prefix must not contain "{}", which would
// keep Redis from finding the hash tag of Epoch and Tags.
func NewNames(prefix, name string) Names {
	own := prefix + ":{c:" + name + "}:"
	return Names{Lock: prefix + ":" + name + ":lock:", Data: prefix + name + ":", Epoch: own + "epoch", Tags: own + "tags", Channel: own + "events", prefix: prefix, name: name}
}
