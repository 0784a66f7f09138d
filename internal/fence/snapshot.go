package fence

import "sync"

// Snapshot is the generations of all keys at some moment: for a reader that learns only later
// which keys it has read.
type Snapshot struct {
	epoch uint64
	gen   [slots]uint64
}

var snapshots = sync.Pool{New: func() any { return new(Snapshot) }}

// Snapshot returns the generations of all keys. A generation that moves meanwhile may or may not
// be the moved one: either is from after the call began.
func (t *Table) Snapshot() *Snapshot {
	s := snapshots.Get().(*Snapshot)
	s.epoch = t.epoch.Load()
	for i := range t.gen {
		s.gen[i] = t.gen[i].Load()
	}
	return s
}

// Token returns the key's generation of that moment. The table is the one that has made s.
func (s *Snapshot) Token(t *Table, key string) Token {
	return Token{gen: s.gen[t.hash(key)%slots], epoch: s.epoch}
}

// Release gives the memory of s back, which is not used any more.
func (s *Snapshot) Release() { snapshots.Put(s) }
