package invalidation

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/delqhi/cache/internal/client"
	"github.com/delqhi/cache/internal/logicalclock"
	"github.com/delqhi/cache/internal/message"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
)

// marking is a store that records marks.
type marking struct {
	*storetest.Memory
	err   error
	asked logicalclock.NewTombstone
	known logicalclock.Known
}

func (m *marking) AddTombstones(ctx context.Context, names store.Names, known logicalclock.Known, n logicalclock.NewTombstone) (logicalclock.Reading, error) {
	m.asked, m.known = n, known
	if m.err != nil {
		return logicalclock.Reading{}, m.err
	}
	return m.Memory.AddTombstones(ctx, names, known, n)
}

func TestAMarkIsMadeByThePolicyAndTold(t *testing.T) {
	known := logicalclock.Known{Epoch: 7, Tick: 8, Clock: 9}
	for name, c := range map[string]struct {
		policy Policy
		late   []int64
		want   logicalclock.NewTombstone
	}{
		"immediate":   {Policy{}, nil, logicalclock.NewTombstone{Mode: logicalclock.Hard}},
		"delayed":     {Policy{Mode: Delayed, Delay: time.Second}, nil, logicalclock.NewTombstone{Mode: logicalclock.Delayed, Delay: 1_000_000}},
		"lazy":        {Policy{Mode: Lazy}, nil, logicalclock.NewTombstone{Mode: logicalclock.Soft}},
		"lazy, later": {Policy{Mode: Lazy}, []int64{5}, logicalclock.NewTombstone{Mode: logicalclock.Hard, Before: []int64{5}}},
	} {
		for _, lost := range []error{nil, errLost} {
			s := &marking{Memory: storetest.NewMemory(), err: lost}
			g := client.New(s, time.Minute)
			r := &Invalidator{Store: g, Names: names, Policy: c.policy, Outbox: message.NewOutbox(1), Known: func(uint8) logicalclock.Known { return known }}
			mark := func() (logicalclock.Reading, []uint64, error) { return r.InvalidateTags(t.Context(), 0, []string{"t"}) }
			if c.late != nil {
				mark = func() (logicalclock.Reading, []uint64, error) {
					return r.InvalidateTagsLate(t.Context(), 0, []string{"t"}, c.late)
				}
			}
			m, open, err := mark()
			if !errors.Is(err, lost) || (len(open) != 0) != (lost != nil) || (len(m.Tags) == 1) != (lost == nil) || s.known != known {
				t.Errorf("%s: %+v, open %d, %v", name, m, open, err)
			}
			n, err := message.Parse(s.asked.Message)
			if err != nil || s.asked.Channel != names.Channel || n.Kind != message.TagsInvalidated || !slices.Equal(n.Tags, []string{"t"}) {
				t.Errorf("%s: told %+v on %q, %v", name, n, s.asked.Channel, err)
			}
			c.want.Tags, c.want.Channel, c.want.Message = []string{"t"}, s.asked.Channel, s.asked.Message
			if !reflect.DeepEqual(s.asked, c.want) {
				t.Errorf("%s: asked for %+v, want %+v", name, s.asked, c.want)
			}
			settledBy(t, r.Outbox, open)
			g.Close()
		}
	}
}
