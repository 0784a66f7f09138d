package e2e_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/redistest"
)

// A load that began before a write elsewhere is not the answer of a read that began
// when this process had to know of the write.
func TestALateReaderOfALongLoad(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		sideBySide(t, []string{"healthy", "cut"}, func(t *testing.T, name string) {
			sideBySide(t, []string{"set", "invalidate", "tag"}, func(t *testing.T, key string) {
				lateReader(t, transport, key, name == "cut")
			})
		})
	})
}

func lateReader(t *testing.T, transport, key string, cut bool) {
	ctx := t.Context()
	s := redistest.Start(t)
	w := newWorld(t)
	direct := w.node(s.Client(t), append([]cache.Option{slowly}, transports[transport]...)...)
	var opts []cache.Option
	if !cut {
		// Its lease is to be taken in its session, however long that takes to begin: with TrackingKeys the
		// server reports the end of no other.
		opts = append(opts, slowly)
	}
	far, p := w.behind(t, s, transport, opts...)
	began, end := make(chan struct{}), make(chan struct{})
	begins := sync.OnceFunc(func() { close(began) }) // who loses the lease may load again
	slow := func(ctx context.Context, key string) (int64, error) {
		n, err := w.load(ctx, key)
		begins()
		<-end
		return n, err
	}
	first := make(chan error, 1)
	go func() {
		_, err := far.GetOrLoad(ctx, key, slow)
		first <- err
	}()
	<-began
	if cut {
		p.Cut()
	}
	n, err := w.write(ctx, direct, key)
	if err != nil {
		t.Fatal(err)
	}
	if !cut && transport != "no local tier" {
		awaits(t, "the news of the write", func() error {
			if far.Metrics().InvalidationsReceived == 0 {
				return errors.New("none")
			}
			return nil
		})
	} else {
		pause(ctx, staleness)
	}
	late := make(chan error, 1)
	go func() { late <- sees(far, key, n) }()
	// He may wait for the load, since its lease is still there, and then has to load
	// himself; or he does not wait for it.
	select {
	case err = <-late:
		close(end)
	case <-time.After(2 * time.Second):
		close(end)
		err = <-late
	}
	if err != nil {
		t.Error(err)
	}
	if err := <-first; err != nil {
		t.Error(err)
	}
}
