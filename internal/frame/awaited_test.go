package frame

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/delqhi/cache/internal/store"
)

// A store puts the sign on a lease, and reads it, without parsing the lease.
func TestALeaseSaysWhoWaitsForIt(t *testing.T) {
	id := NewID()
	for name, raw := range map[string][]byte{"lease": AppendLease(nil, id), "lease since": AppendLeaseSince(nil, id, 7, true)} {
		var sign []byte
		for n := range store.WaitersMax + 3 {
			raw := slices.Concat(raw, sign)
			f, err := Parse("k", raw)
			h, headErr := ReadHead(raw)
			if err != nil || headErr != nil || f.Kind != Lease || f.ID != id || h.ID != id || f.Limit != h.Limit || !bytes.Equal(f.Sign, sign) || !bytes.Equal(h.Sign, sign) {
				t.Errorf("%s, %d signs: %+v, %v; %+v, %v", name, n, f, err, h, headErr)
			}
			if !store.IsLease(raw) || !store.IsLease(Token(raw)) || store.AwaitsLease(raw) != (n > 0) || !bytes.Equal(store.SignOf(raw), sign) || len(raw) > headLen {
				t.Errorf("%s, %d signs: the store sees something else", name, n)
			}
			waiter := store.NewWaiter()
			if n == store.WaitersMax+1 {
				waiter = ""
			}
			if sign = store.SignFor(sign, waiter); !store.Tells(sign, waiter) {
				t.Errorf("%q has no place in %q", waiter, sign)
			}
		}
		all := store.SignFor(nil, "")
		for _, more := range [][]byte{{0}, {2}, {1, 1}, []byte("1234567"), []byte("123456789"), []byte("1234567 "), []byte("12345678\x02"), append(all, "12345678"...), bytes.Repeat([]byte("12345678"), store.WaitersMax+1)} {
			if _, err := Parse("k", append(bytes.Clone(raw), more...)); !errors.Is(err, ErrCorrupt) {
				t.Errorf("%s with %q behind it: %v", name, more, err)
			}
		}
	}
	intent := AppendIntent(nil, id)
	for _, sign := range []string{"\x01", "12345678"} {
		if _, err := Parse("k", append(bytes.Clone(intent), sign...)); !errors.Is(err, ErrCorrupt) || store.IsLease(intent) || store.AwaitsLease(append(intent, sign...)) {
			t.Errorf("an intent is awaited: %v", err)
		}
	}
}
