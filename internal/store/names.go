package store

import "strconv"

// Names are the names of everything in Redis that belongs to one cache.
type Names struct {
	// Data is what every key of the cache's data begins with. No other key of a
	// cache with this prefix does: the names below have a ':' where Data has the
	// name of the cache, which is not empty and contains no ':'.
	Data string
	// Epoch and Tags are the keys of the logical clock; see [logicalclock.Epoch]. Both are in one
	// slot of a cluster.
	Epoch string
	Tags  string
	// Lock is what the keys begin with by which processes agree who replaces a value.
	Lock string
	// Channel is where messages for all processes go; see [Names.In].
	Channel string
}

// In returns the names in a database of that number. Keys of one name in two databases
// are different keys; channels belong to the server, so theirs must differ by name.
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
	return Names{Lock: prefix + ":" + name + ":lock:", Data: prefix + name + ":", Epoch: own + "epoch", Tags: own + "tags", Channel: own + "events"}
}
