package cache

import (
	"testing"
	"time"
)

// The lease of one key is what a process that dies holds up others for.
func TestALeaseOfOneKeyIsShort(t *testing.T) {
	for n, want := range map[int]time.Duration{1: leaseLife, 1_000: leaseLife + 199*time.Millisecond, 10_000_000: leaseMost} {
		if d := leaseFor(n); d != want {
			t.Errorf("of %d keys: %v, want %v", n, d, want)
		}
	}
}
