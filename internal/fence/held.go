package fence

// heldKeys finds the keys of a part of the claims that are claimed or waited for. It is a table of
// chains. The hash of a key is that of its place, which is known: a map would compute another one with
// each step of a load.
type heldKeys struct {
	chains []*claimed // by the highest bits of the hash; a power of two, or none
	len    int
}

const (
	minChains = 4  // of a part whose keys are few
	maxChains = 64 // of one that has none: it may have had many
)

func (h *heldKeys) chain(hash uint64) **claimed { return &h.chains[hash>>32&uint64(len(h.chains)-1)] }

// find returns what is held of a key, nil if that is nothing.
func (h *heldKeys) find(at Place) *claimed {
	if h.len == 0 {
		return nil
	}
	k := *h.chain(at.hash)
	for k != nil && (k.hash != at.hash || k.key != at.key) {
		k = k.next
	}
	return k
}

// add adds a key that is not there.
func (h *heldKeys) add(k *claimed) {
	if h.len == len(h.chains) {
		h.resize(max(2*h.len, minChains))
	}
	h.len++
	h.push(k)
}

func (h *heldKeys) push(k *claimed) {
	first := h.chain(k.hash)
	k.next, *first = *first, k
}

// remove removes a key that is there.
func (h *heldKeys) remove(k *claimed) {
	link := h.chain(k.hash)
	for *link != k {
		link = &(*link).next
	}
	*link, k.next = k.next, nil
	if h.len--; h.len == 0 && len(h.chains) > maxChains {
		h.chains = nil
	}
}

func (h *heldKeys) resize(chains int) {
	old := h.chains
	h.chains = make([]*claimed, chains)
	for _, k := range old {
		for k != nil {
			next := k.next
			h.push(k)
			k = next
		}
	}
}

// each calls f for every key, which may remove it.
func (h *heldKeys) each(f func(k *claimed)) {
	for _, k := range h.chains {
		for k != nil {
			next := k.next
			f(k)
			k = next
		}
	}
}
