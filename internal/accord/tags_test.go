package accord

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/delqhi/cache/internal/fence"
	"github.com/delqhi/cache/internal/remote"
	"github.com/delqhi/cache/internal/untold"
)

// steps counts the tags of each invalidation and each question.
type steps struct {
	*remote.Memory
	most, marked int
}

func (s *steps) Mark(ctx context.Context, names remote.Names, known remote.Known, n remote.NewMark) (remote.Marks, error) {
	s.most, s.marked = max(s.most, len(n.Tags)), s.marked+len(n.Tags)
	return s.Memory.Mark(ctx, names, known, n)
}

func (s *steps) Marks(ctx context.Context, names remote.Names, known remote.Known, tags []string) (remote.Marks, error) {
	s.most = max(s.most, len(tags))
	return s.Memory.Marks(ctx, names, known, tags)
}

// However many tags are pending, each step is short for Redis, which carries out nothing
// else meanwhile.
func TestManyPendingTagsGoInSteps(t *testing.T) {
	store := &steps{Memory: remote.NewMemory()}
	guard := remote.NewGuard(store, time.Minute)
	t.Cleanup(guard.Close)
	a := New(Config{
		Guard: guard, Names: remote.Names{Data: "n:", Channel: ":{c:n}:events", Epoch: ":{c:n}:epoch", Tags: ":{c:n}:tags"},
		Fences: fence.NewTable(), Events: quiet{}, Local: flushHook(func() {}),
	})
	t.Cleanup(a.Close)
	tags := make([]string, 2500)
	for i := range tags {
		tags[i] = fmt.Sprint("tag ", i)
	}
	a.addMarks(subjects(aTag, tags), nil, untold.Past{Acked: true})
	if !a.tell(context.Background()) {
		t.Fatal("not everything was told")
	}
	if store.marked != len(tags) || store.most > askedAtOnce {
		t.Errorf("%d tags were invalidated, %d at once", store.marked, store.most)
	}
}
