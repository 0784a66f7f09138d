package engine

import (
	"context"
	"math"
	"time"

	"github.com/delqhi/cache/internal/flight"
	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/usercode"
)

// Update replaces a value by a function of it, and returns the new one.
func (c *Cache) Update(ctx context.Context, key Key, f Func, o *Options) (Value, error) {
	start := local.Now()
	v, err := c.update(ctx, key, f, o)
	c.stats.wrote(&c.stats.sets, err)
	c.stats.setHist.Record(since(start))
	if err != nil {
		return nil, c.Explain("update", err)
	}
	return v, nil
}

// update replaces a value by a function of it, atomically over all processes: a
// compare-and-set against exactly the value that f was given, repeated with the
// current value if another write was faster.
func (c *Cache) update(ctx context.Context, key Key, f Func, o *Options) (v Value, err error) {
	ch := Change{Key: key}
	if c.validate(ctx, &ch); ch.done {
		return v, ch.Err
	}
	if c.within(ctx, ch.rk) {
		return v, errWaitsForItself
	}
	for pause := time.Duration(0); ; pause = nextPause(pause, c.rand()) {
		if pause > 0 {
			if err := wait(ctx, pause); err != nil {
				return v, ctx.Err()
			}
		}
		ch.again = pause > 0
		ok, err := c.backend.updateOnce(ctx, &ch, f, o)
		if err != nil {
			return v, err
		}
		if ok {
			return ch.Val, nil
		}
	}
}

// Func is the function of an Update. ok is false if there is no value.
type Func func(old Value, ok bool) (Value, error)

// replace calls the function that was given to Update.
func replace(f Func, old Value, have bool) (v Value, err error) {
	err = usercode.Call(func() (err error) {
		v, err = f(old, have)
		return err
	})
	return v, theirs(err)
}

// nextPause spreads the retries of writers that collide on one key.
func nextPause(last time.Duration, rnd float64) time.Duration {
	const most = 20 * time.Millisecond
	if last == 0 {
		last = 100 * time.Microsecond
	}
	return min(time.Duration(float64(last)*(1+rnd)), most)
}

// loadedFor is a value that was loaded from the source for an Update.
type loadedFor struct {
	val   Value
	have  bool
	began int64 // local time
	done  chan bool
}

// finish ends the Update. taken: its value has replaced the lease.
func (l *loadedFor) finish(taken bool) { l.done <- taken }

// loadForUpdate loads the value to start from. hold acquires the key for as long as the Update
// needs it, up to the end of its function, and returns the function that releases it. All of
// that runs in a goroutine that Close ends, and waits for: so the caller returns when its own
// context ends, whatever the loader does, and neither a loader nor a function that ends its
// goroutine leaves the key held.
func (c *Cache) loadForUpdate(ctx context.Context, key Key, rk string, hold func(context.Context) (letGo func(taken bool), err error)) (*loadedFor, error) {
	at := local.Now()
	l := &loadedFor{done: make(chan bool, 1)}
	place := c.fences.Place(c.encoded(rk))
	req := flight.Request[string, beginning]{Key: rk, Hash: place.Hash(), Fence: c.beginningOf(rk, c.fences.TokenAt(place)), Apart: true, Now: at, NotBefore: math.MinInt64}
	res := c.flights.Do(ctx, []flight.Request[string, beginning]{req}, func(ctx context.Context, mine []*flight.Call[string, beginning, *result]) {
		letGo, err := hold(ctx)
		taken := false
		if letGo != nil {
			defer func() { letGo(taken) }()
		}
		if err == nil {
			l.val, l.have, err = c.askForUpdate(ctx, key, rk, l)
		}
		if err != nil {
			if letGo != nil { // before Resolve: when the caller learns of the error, the key is released
				letGo(false)
				letGo = func(bool) {}
			}
			c.flights.Resolve(mine[0], nil, err)
			return
		}
		c.flights.Resolve(mine[0], nil, nil)
		select {
		case taken = <-l.done:
		case <-ctx.Done(): // Close, or the caller's context ended before the source had answered
		}
	})[0]
	if res.Err != nil {
		return nil, res.Err
	}
	return l, nil
}

// refreshing are the options of a load that no read waits for.
var refreshing = Options{refresh: true}

func (c *Cache) askForUpdate(ctx context.Context, key Key, rk string, l *loadedFor) (v Value, have bool, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.policy.HardTimeout, errHardTimeout)
	defer cancel()
	res := c.loadAside(ctx, c.loader, &refreshing, loadKey{key: key, rk: rk})
	l.began = res.began
	switch {
	case res.err == nil:
		return res.val, true, nil
	case c.absence(res.err) != nil:
		return v, false, nil
	default:
		return v, false, res.err
	}
}
