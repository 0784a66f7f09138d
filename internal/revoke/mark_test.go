package revoke

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/delqhi/cache/internal/notice"
	"github.com/delqhi/cache/internal/remote"
)

// marking is a store that records marks.
type marking struct {
	*remote.Memory
	err   error
	asked remote.NewMark
	known remote.Known
}

func (m *marking) Mark(ctx context.Context, names remote.Names, known remote.Known, n remote.NewMark) (remote.Marks, error) {
	m.asked, m.known = n, known
	if m.err != nil {
		return remote.Marks{}, m.err
	}
	return m.Memory.Mark(ctx, names, known, n)
}

func TestAMarkIsMadeByThePolicyAndTold(t *testing.T) {
	known := remote.Known{Era: 7, Tick: 8, Clock: 9}
	for name, c := range map[string]struct {
		policy Policy
		late   []int64
		want   remote.NewMark
	}{
		"immediate":   {Policy{}, nil, remote.NewMark{Mode: remote.Hard}},
		"delayed":     {Policy{Mode: Delayed, Delay: time.Second}, nil, remote.NewMark{Mode: remote.Delayed, Delay: 1_000_000}},
		"lazy":        {Policy{Mode: Lazy}, nil, remote.NewMark{Mode: remote.Soft}},
		"lazy, later": {Policy{Mode: Lazy}, []int64{5}, remote.NewMark{Mode: remote.Hard, Before: []int64{5}}},
	} {
		for _, lost := range []error{nil, errLost} {
			s := &marking{Memory: remote.NewMemory(), err: lost}
			g := remote.NewGuard(s, time.Minute)
			r := &Revoker{Store: g, Names: names, Policy: c.policy, Outbox: notice.NewOutbox(1), Known: func() remote.Known { return known }}
			mark := func() (remote.Marks, uint64, error) { return r.Mark(t.Context(), []string{"t"}) }
			if c.late != nil {
				mark = func() (remote.Marks, uint64, error) { return r.MarkLate(t.Context(), []string{"t"}, c.late) }
			}
			m, open, err := mark()
			if !errors.Is(err, lost) || (open != 0) != (lost != nil) || (len(m.Tags) == 1) != (lost == nil) || s.known != known {
				t.Errorf("%s: %+v, open %d, %v", name, m, open, err)
			}
			n, err := notice.Parse(s.asked.Message)
			if err != nil || s.asked.Channel != names.Channel || n.Kind != notice.Marked || !slices.Equal(n.Tags, []string{"t"}) {
				t.Errorf("%s: told %+v on %q, %v", name, n, s.asked.Channel, err)
			}
			c.want.Tags, c.want.Channel, c.want.Message = []string{"t"}, s.asked.Channel, s.asked.Message
			if !reflect.DeepEqual(s.asked, c.want) {
				t.Errorf("%s: asked for %+v, want %+v", name, s.asked, c.want)
			}
			if open != 0 {
				settledBy(t, r.Outbox, []uint64{open})
			} else {
				settledBy(t, r.Outbox, nil)
			}
			g.Close()
		}
	}
}
