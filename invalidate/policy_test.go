package invalidate_test

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/delqhi/cache/internal/errs"
	"github.com/delqhi/cache/invalidate"
)

func TestPoliciesSayWhatTheyAre(t *testing.T) {
	for _, c := range []struct {
		policy invalidate.Policy
		mode   invalidate.Mode
		delay  time.Duration
		text   string
	}{
		{invalidate.Policy{}, invalidate.ModeImmediate, 0, "invalidate.Immediate()"},
		{invalidate.Immediate(), invalidate.ModeImmediate, 0, "invalidate.Immediate()"},
		{invalidate.Delayed(1500 * time.Millisecond), invalidate.ModeDelayed, 1500 * time.Millisecond, "invalidate.Delayed(1.5s)"},
		{invalidate.Lazy(), invalidate.ModeLazy, 0, "invalidate.Lazy()"},
	} {
		if c.policy.Mode() != c.mode || c.policy.Delay() != c.delay || c.policy.String() != c.text {
			t.Errorf("%v: mode %d, delay %v; want %s, %d, %v", c.policy, c.policy.Mode(), c.policy.Delay(), c.text, c.mode, c.delay)
		}
		if err := c.policy.Validate(); err != nil {
			t.Errorf("%v: %v", c.policy, err)
		}
	}
	second := invalidate.Delayed(time.Second)
	if (invalidate.Policy{}) != invalidate.Immediate() || second != invalidate.Delayed(1000*time.Millisecond) ||
		second == invalidate.Delayed(time.Minute) || invalidate.Immediate() == invalidate.Lazy() {
		t.Error("policies compare as their constructors do")
	}
}

func TestADelayThatRedisCannotKeepIsRefused(t *testing.T) {
	for _, d := range []time.Duration{0, -1, -time.Second, math.MinInt64, 1, time.Microsecond, time.Millisecond - 1, time.Millisecond + 1, math.MaxInt64,
		time.Duration(math.MaxInt64).Truncate(time.Millisecond), 100*365*24*time.Hour + time.Millisecond} {
		if err := invalidate.Delayed(d).Validate(); !errors.Is(err, errs.ErrInvalidOption) {
			t.Errorf("Delayed(%v): %v", d, err)
		}
	}
	for _, d := range []time.Duration{time.Millisecond, time.Second, 30 * 24 * time.Hour, 100 * 365 * 24 * time.Hour} {
		if err := invalidate.Delayed(d).Validate(); err != nil {
			t.Errorf("Delayed(%v): %v", d, err)
		}
	}
}

func TestTransportsSayWhatTheyAre(t *testing.T) {
	for _, c := range []struct {
		transport invalidate.Transport
		kind      invalidate.Kind
		text      string
	}{
		{invalidate.Transport{}, invalidate.KindNone, "invalidate.NoTransport()"},
		{invalidate.NoTransport(), invalidate.KindNone, "invalidate.NoTransport()"},
		{invalidate.Broadcast(), invalidate.KindBroadcast, "invalidate.Broadcast()"},
		{invalidate.Tracking(), invalidate.KindTracking, "invalidate.Tracking()"},
		{invalidate.TrackingKeys(), invalidate.KindTrackingKeys, "invalidate.TrackingKeys()"},
	} {
		if c.transport.Kind() != c.kind || c.transport.String() != c.text {
			t.Errorf("%v of kind %d, want %s of %d", c.transport, c.transport.Kind(), c.text, c.kind)
		}
	}
	if invalidate.Broadcast() == invalidate.Tracking() || (invalidate.Transport{}) != invalidate.NoTransport() {
		t.Error("transports compare as their constructors do")
	}
}
