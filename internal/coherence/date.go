package coherence

import (
	"context"

	"github.com/delqhi/cache/internal/retryqueue"
)

// An invalidation of tags, by pattern or of everything that is sent late applies as of the time
// when it was requested. Records written or loaded since stay:
//
//  1. a process invalidates a tag; Redis does not acknowledge
//  2. another process stores a value that has the tag
//  3. the first process sends the invalidation again
//
// The time is that of Redis's clock, by which records are dated, too. It is never too early: a
// record spared by mistake is an old value that is read until it expires, a record hit by
// mistake is a miss.
//
// Two processes' estimates of that clock differ, each by as much as its measurement was wrong:
// values are dated earlier by that, and invalidations later.
//
//  1. a process asks for the time, and waits long for the answer: its estimate is ahead
//  2. it stores a value
//  3. another one, whose estimate is behind, invalidates everything; Redis does not acknowledge
//  4. it sends that as of a time before 2: the value would be spared

const (
	// driftPart is the fraction of an elapsed time, one in so many, by which it may be too
	// short, since this machine's clock and Redis's drift: each by less than half of it.
	driftPart = 1000

	// clockSteps is by how much, in µs, two estimates of Redis's clock differ at least if that
	// clock was set in between.
	clockSteps = 1_000_000
)

// pastOf is the time of an unacknowledged invalidation of keys of this part that was requested at a
// local time.
func (p *Part) pastOf(began int64) retryqueue.Past {
	past, g := retryqueue.Past{Since: began}, p.a.cfg.Client
	if at, ok := g.Estimate(p.names.Epoch); ok {
		// If Redis's clock was set back before, records may be dated later than it, but none
		// later than the logical clock was.
		past.At = max(at+g.ClockError(p.names.Epoch)-(now()-began)/1000, p.Clock.Known().Tick)
	}
	return past
}

// date returns an invalidation's time by the clock of the node that holds a key, in µs; 0 if
// that is not known. Where there are several, the key of a logical clock is dated for an
// invalidation of its own part.
func (a *Coordinator) date(ctx context.Context, key string, p retryqueue.Past) int64 {
	at, err := a.cfg.Client.Now(ctx, key)
	if err != nil {
		return 0
	}
	at += a.cfg.Client.ClockError(key)
	passed := max(now()-p.Since, 0) / 1000
	at -= passed - passed/driftPart
	if p.At != 0 && (a.cfg.Client.OneNode() || a.isClock(key)) {
		// p.At was estimated when the invalidation was requested. If the two are far apart, the
		// clock was set.
		if at-p.At < clockSteps+passed/driftPart {
			at = p.At
		}
	}
	return max(at, 0)
}
