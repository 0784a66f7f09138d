package flight

// calls finds the calls that may be joined. It is a table of chains: the hash of a key is known, and a
// map would compute another one with each step of a load. Those of one key differ by their fences.
type calls[K, F comparable, V any] struct {
	chains []*Call[K, F, V] // by the highest bits of the hash; a power of two, or none
	len    int
}

const (
	minChains = 16   // of a group with few calls
	maxChains = 1024 // of one that has none: it may have had many
)

func (s *calls[K, F, V]) chain(hash uint64) **Call[K, F, V] {
	return &s.chains[hash>>32&uint64(len(s.chains)-1)]
}

// find returns the call of a key with a fence, nil if there is none.
func (s *calls[K, F, V]) find(r *Request[K, F]) *Call[K, F, V] {
	if s.len == 0 {
		return nil
	}
	c := *s.chain(r.Hash)
	for c != nil && (c.hash != r.Hash || c.Key != r.Key || c.Fence != r.Fence) {
		c = c.next
	}
	return c
}

// add adds a call, of whose key and fence there is none.
func (s *calls[K, F, V]) add(c *Call[K, F, V]) {
	if s.len == len(s.chains) {
		s.resize(max(2*s.len, minChains))
	}
	s.len++
	c.listed = true
	s.push(c)
}

func (s *calls[K, F, V]) push(c *Call[K, F, V]) {
	first := s.chain(c.hash)
	c.next, *first = *first, c
}

// remove removes a call that is there.
func (s *calls[K, F, V]) remove(c *Call[K, F, V]) {
	link := s.chain(c.hash)
	for *link != c {
		link = &(*link).next
	}
	*link, c.next, c.listed = c.next, nil, false
	if s.len--; s.len == 0 && len(s.chains) > maxChains {
		s.chains = nil
	}
}

func (s *calls[K, F, V]) resize(chains int) {
	old := s.chains
	s.chains = make([]*Call[K, F, V], chains)
	for _, c := range old {
		for c != nil {
			next := c.next
			s.push(c)
			c = next
		}
	}
}
