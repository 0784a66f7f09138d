package writebehind_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/internal/writebehind"
)

// slow is a store whose Appends take a second, and are noted.
type slow struct {
	store.Queue
	mu      sync.Mutex
	appends []store.Append
	busy    map[string]bool
	err     error
}

func (s *slow) Append(ctx context.Context, q store.QueueNames, a store.Append) ([]string, error) {
	s.mu.Lock()
	if s.busy[q.Log] {
		s.err = errors.New("two requests of one partition at once")
	}
	s.busy[q.Log] = true
	s.appends = append(s.appends, a)
	s.mu.Unlock()
	time.Sleep(time.Second)
	s.mu.Lock()
	s.busy[q.Log] = false
	s.mu.Unlock()
	return s.Queue.Append(ctx, q, a)
}

// Writes of one partition go one request at a time; those who come meanwhile share the
// next one. Who does not wait any longer takes back what was not sent.
func TestWritesGatherWhileARequestIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &slow{Queue: storetest.NewMemory(), busy: map[string]bool{}}
		s := newSource()
		q := process(t, store, s)
		ks := keysOf(2, 1000)
		var wg sync.WaitGroup
		put := func(ctx context.Context, want error, keys ...string) {
			wg.Go(func() {
				var writes []writebehind.Write
				for _, k := range keys {
					writes = append(writes, set(k, 1))
				}
				for _, err := range q.Enqueue(ctx, writes) {
					if !errors.Is(err, want) {
						t.Errorf("%v instead of %v", err, want)
					}
				}
			})
			synctest.Wait()
		}
		short, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		put(short, context.DeadlineExceeded, ks[0]) // is under way then, and arrives
		put(short, context.DeadlineExceeded, ks[1]) // is taken back
		for i := range 10 {
			put(t.Context(), nil, ks[2+i])
		}
		put(t.Context(), nil, ks[100:]...)
		ended, end := context.WithCancel(t.Context())
		end()
		put(ended, context.Canceled, ks[50])
		wg.Wait()
		time.Sleep(time.Second)
		var sizes []string
		for i, a := range store.appends {
			sizes = append(sizes, fmt.Sprint(len(a.Writes)))
			if a.Seq != int64(i+1) || a.Sender != store.appends[0].Sender {
				t.Errorf("request %d is %q %d", i, a.Sender, a.Seq)
			}
		}
		diff(t, sizes, []string{"1", "10", "256", "256", "256", "132"})
		has := s.all()
		for k, want := range map[string]string{ks[0]: "1", ks[1]: "", ks[2]: "1", ks[11]: "1", ks[50]: "", ks[999]: "1"} {
			if has[k] != want {
				t.Errorf("%s is %q", k, has[k])
			}
		}
		if store.err != nil {
			t.Error(store.err)
		}
	})
}

func TestEnqueueOfNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := process(t, storetest.NewMemory(), newSource())
		if errs := q.Enqueue(t.Context(), nil); len(errs) != 0 {
			t.Error(errs)
		}
		if newest, err := q.Newest(t.Context(), nil); newest == nil || len(newest) != 0 || err != nil {
			t.Error(newest, err)
		}
	})
}
