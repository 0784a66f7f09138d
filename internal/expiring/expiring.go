// Package expiring has a map of bounded size whose entries end.
package expiring

// Map holds values, each until a local time. If it is full, a new key takes the place of an
// arbitrary one, even if others have ended: it is for what may be forgotten at the price of
// work done again. The zero value with Max set is empty. It is not safe for concurrent use.
type Map[V any] struct {
	Max int // number of keys, at least 1

	entries map[string]entry[V]
	latest  int64 // no entry ends later
}

type entry[V any] struct {
	value V
	until int64
}

// Put sets the value of a key, which ends at the local time until.
func (m *Map[V]) Put(key string, v V, until int64) {
	if m.entries == nil {
		m.entries = map[string]entry[V]{}
	}
	if _, ok := m.entries[key]; !ok && len(m.entries) >= m.Max {
		for k := range m.entries {
			delete(m.entries, k)
			break
		}
	}
	if len(m.entries) == 0 || until > m.latest {
		m.latest = until
	}
	m.entries[key] = entry[V]{v, until}
}

// Get returns the value of a key, and whether there is one that has not ended by now.
func (m *Map[V]) Get(key string, now int64) (v V, ok bool) {
	e, ok := m.entries[key]
	if ok && now >= e.until {
		delete(m.entries, key)
		return v, false
	}
	return e.value, ok
}

// Empty reports whether there is no entry, once those are removed that have all ended by now.
func (m *Map[V]) Empty(now int64) bool {
	if now >= m.latest {
		clear(m.entries)
	}
	return len(m.entries) == 0
}

func (m *Map[V]) Remove(key string) { delete(m.entries, key) }

func (m *Map[V]) Clear() { clear(m.entries) }
