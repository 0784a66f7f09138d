package coherence

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/delqhi/cache/internal/client"
	"github.com/delqhi/cache/internal/fence"
	"github.com/delqhi/cache/internal/logicalclock"
	"github.com/delqhi/cache/internal/retryqueue"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
)

// steps counts the tags of each invalidation and each question.
type steps struct {
	*storetest.Memory
	most, marked int
}

func (s *steps) AddTombstones(ctx context.Context, names store.Names, known logicalclock.Known, n logicalclock.NewTombstone) (logicalclock.Reading, error) {
	s.most, s.marked = max(s.most, len(n.Tags)), s.marked+len(n.Tags)
	return s.Memory.AddTombstones(ctx, names, known, n)
}

func (s *steps) ReadClock(ctx context.Context, names store.Names, known logicalclock.Known, tags []string) (logicalclock.Reading, error) {
	s.most = max(s.most, len(tags))
	return s.Memory.ReadClock(ctx, names, known, tags)
}

// However many tags are pending, each step is short for Redis, which carries out nothing
// else meanwhile.
func TestManyPendingTagsGoInSteps(t *testing.T) {
	st := &steps{Memory: storetest.NewMemory()}
	guard := client.New(st, time.Minute)
	t.Cleanup(guard.Close)
	a := New(Config{
		Client: guard, Names: store.Names{Data: "n:", Channel: ":{c:n}:events", Epoch: ":{c:n}:epoch", Tags: ":{c:n}:tags"},
		Fences: fence.NewTable(), Events: quiet{}, Local: flushHook(func() {}),
	})
	t.Cleanup(a.Close)
	tags := make([]string, 2500)
	for i := range tags {
		tags[i] = fmt.Sprint("tag ", i)
	}
	a.addTombstones(subjects(aTag, tags), nil, retryqueue.Past{Acked: true})
	if !a.notify(context.Background()) {
		t.Fatal("not everything was told")
	}
	if st.marked != len(tags) || st.most > askedAtOnce {
		t.Errorf("%d tags were invalidated, %d at once", st.marked, st.most)
	}
}
