package frame

import (
	"bytes"
	"errors"
	"testing"

	"github.com/delqhi/cache/internal/store"
)

// A store puts the sign on a lease, and looks for it, without parsing the lease.
func TestALeaseSaysWhetherItIsAwaited(t *testing.T) {
	id := NewID()
	for name, raw := range map[string][]byte{"lease": AppendLease(nil, id), "lease since": AppendLeaseSince(nil, id, 7, true)} {
		for signed, raw := range map[bool][]byte{false: raw, true: append(bytes.Clone(raw), 1)} {
			f, err := Parse("k", raw)
			h, headErr := ReadHead(raw)
			if err != nil || headErr != nil || f.Kind != Lease || f.ID != id || h.ID != id || f.Limit != h.Limit || f.Awaited != signed || h.Awaited != signed {
				t.Errorf("%s, signed %v: %+v, %v; %+v, %v", name, signed, f, err, h, headErr)
			}
			if !store.IsLease(raw) || !store.IsLease(Token(raw)) || store.AwaitsLease(raw) != signed {
				t.Errorf("%s, signed %v: the store sees something else", name, signed)
			}
		}
		for _, more := range [][]byte{{0}, {2}, {1, 1}} {
			if _, err := Parse("k", append(bytes.Clone(raw), more...)); !errors.Is(err, ErrCorrupt) {
				t.Errorf("%s with %v behind it: %v", name, more, err)
			}
		}
	}
	intent := AppendIntent(nil, id)
	if _, err := Parse("k", append(bytes.Clone(intent), 1)); !errors.Is(err, ErrCorrupt) || store.IsLease(intent) || store.AwaitsLease(append(intent, 1)) {
		t.Errorf("an intent is awaited: %v", err)
	}
}
