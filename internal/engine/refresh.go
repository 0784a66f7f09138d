package engine

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/delqhi/cache/internal/expiring"
	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/store"
)

const (
	// refreshesAtOnce bounds the goroutines that refresh entries in the background. A
	// refresh over the bound is left to the next reader.
	refreshesAtOnce = 64

	// backOffFor is how long no refresh of a key is tried after one has failed, as when
	// another process was found to be refreshing the key.
	backOffFor = time.Second

	// maxBackedOff bounds the keys that are backed off; a key that is dropped may be tried
	// again earlier.
	maxBackedOff = 10_000
)

// refresher refreshes entries in the background. There is at most one refresh of a key at a
// time in this process, and by a lock in Redis in all processes; the lock only saves work.
// Whether the result may be stored is decided as with every other fill: by compare-and-set
// against the record that it was to replace.
type refresher struct {
	c *Cache

	ctx      context.Context
	stop     context.CancelFunc
	prolongs func(context.Context, []store.Command) []store.Reply // runs the commands that prolong lives
	wg       sync.WaitGroup                                       // added to under mu, and no longer once closed: Close waits for it

	mu        sync.Mutex               // guards what follows
	running   map[string]chan struct{} // closed when the refresh has ended
	backedOff expiring.Map[struct{}]   // no refresh of these keys is tried
	touched   expiring.Map[struct{}]   // the life of these keys need not be prolonged
	small     int                      // functions of run that are running
	closed    bool

	prolonged  []store.Command // lives to be prolonged
	prolonging bool            // a goroutine is running that prolongs them
}

func newRefresher(c *Cache) *refresher {
	b := &refresher{c: c, running: map[string]chan struct{}{}}
	b.backedOff.Max, b.touched.Max = maxBackedOff, maxProlonged
	b.ctx, b.stop = context.WithCancel(context.Background())
	return b
}

// load refreshes a key whose record has this age, unless a load of it is in flight already,
// with the loader and the options of the read that found it due: it stores the value as that
// read would have stored it. It does not block. caller is the reader's context: the loader
// gets none of its values, which may be invalid once the reader is gone, and only a recorder
// sees it.
func (b *refresher) load(caller context.Context, key Key, rk string, age time.Duration, j Loader, o *Options) {
	if j == nil || !b.begin(rk) {
		return
	}
	keys := []Key{key}
	b.c.types.KeepKeys(keys) // the reader may use its own again
	opts := &Options{refresh: true, Uncounted: true, background: true, backgroundAge: age, TTL: o.TTL, HasTTL: o.HasTTL, Tags: o.Tags, KeepTTL: o.KeepTTL, SkipRemote: o.SkipRemote, Policy: o.Policy}
	go func() {
		defer b.end(rk)
		c := b.c
		s := &Scratch{items: []Lookup{{key: keys[0]}}}
		it := &s.items[0]
		ctx, ended := c.stats.startRefresh(b.ctx, caller, c.name)
		defer func() { ended(it.err) }()
		c.prepare(ctx, s.items, &s.encoded, local.Now())
		c.readSource(ctx, s, j, opts)
		if it.err != nil {
			b.backOff(rk, max(c.policyOf(opts).RetryAfter, backOffFor))
		}
	}()
}

// RefreshDue refreshes a key whose local entry has answered at that age, and was due.
func (c *Cache) RefreshDue(ctx context.Context, key Key, age time.Duration, load Loader) {
	if rk, err := c.keyOf(key); err == nil {
		c.refresher.load(ctx, key, rk, age, load, &NoOptions)
	}
}

// begin reports whether a refresh may begin, and counts it as running: in one step with the
// check whether the cache is closed, because of this interleaving:
//
//  1. a read asks, and may begin a refresh
//  2. Close waits for running refreshes, and finds none
//  3. the refresh begins
func (b *refresher) begin(rk string) bool {
	now := local.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	_, running := b.running[rk]
	if _, backedOff := b.backedOff.Get(rk, now); running || backedOff || b.closed || len(b.running) >= refreshesAtOnce {
		return false
	}
	b.running[rk] = make(chan struct{})
	b.wg.Add(1)
	return true
}

func (b *refresher) end(rk string) {
	b.mu.Lock()
	defer b.wg.Done()
	defer b.mu.Unlock()
	close(b.running[rk])
	delete(b.running, rk)
}

// sync waits until the refreshes that are running have ended.
func (b *refresher) sync(ctx context.Context) error {
	b.mu.Lock()
	running := slices.Collect(maps.Values(b.running))
	b.mu.Unlock()
	for _, ended := range running {
		select {
		case <-ended:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (b *refresher) backOff(rk string, d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.backedOff.Put(strings.Clone(rk), struct{}{}, later(local.Now(), d))
}

// throttle reports whether the caller is the first for this key within d.
func (b *refresher) throttle(rk string, d time.Duration) bool {
	now := local.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.throttleLocked(rk, now, d)
}

func (b *refresher) throttleLocked(rk string, now int64, d time.Duration) bool {
	_, throttled := b.touched.Get(rk, now)
	if !throttled {
		b.touched.Put(strings.Clone(rk), struct{}{}, later(now, d))
	}
	return !throttled
}

// run runs f in the background, unless too many functions are running already.
func (b *refresher) run(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || b.small >= refreshesAtOnce {
		return
	}
	b.small++
	b.wg.Go(func() {
		defer func() {
			b.mu.Lock()
			b.small--
			b.mu.Unlock()
		}()
		f()
	})
}

// beginLate counts the fill of a load that went on without its callers as running; wg.Done
// ends it. It returns false if the cache is closed.
func (b *refresher) beginLate() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	b.wg.Add(1)
	return true
}

// seal prevents anything from beginning any more.
func (b *refresher) seal() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
}

// close cancels the context of background work and waits for it to end; the loads were
// canceled before, by flights.Cancel. See waitClosing.
func (b *refresher) close() {
	b.seal()
	b.stop()
	waitClosing(&b.wg)
}

// len returns the number of keys with a refresh in flight.
func (b *refresher) len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.running)
}
