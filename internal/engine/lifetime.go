package engine

import (
	"fmt"
	"math"
	"time"

	"github.com/delqhi/cache/internal/errs"
	"github.com/delqhi/cache/internal/usercode"
)

const forever = time.Duration(math.MaxInt64)

// life is the lifetime of a record.
type life struct {
	fresh time.Duration // 0: does not expire
	stale time.Duration // the stale window after it, in which a strategy may still use the value
	idle  time.Duration // how long the record is kept without being read; 0: for its whole life
}

// physical is the TTL of the Redis key; 0: it does not expire.
func (l life) physical() time.Duration {
	if l.fresh == 0 {
		return l.idle
	}
	if d := l.fresh + l.stale; l.idle == 0 || d < l.idle {
		return d
	}
	return l.idle
}

// timeLeft is the remaining fresh life of a record that is stored now.
func (l life) timeLeft() time.Duration {
	if l.fresh == 0 {
		return forever
	}
	return l.fresh
}

// lifetime decides how long val is kept, in order of precedence: by the load's
// directives, the call, the source, the strategy. Only a lifetime that the strategy
// chooses is spread by jitter. keep is false if the value is not to be kept at all.
func (c *Cache) lifetime(key Key, val Value, o *Options, w *loadDirectives) (l life, keep bool, err error) {
	l.stale, l.idle = c.policy.StaleFor(), c.policy.Sliding
	switch {
	case w.skip:
		return l, false, nil
	case w.hasTTL:
		l.fresh = w.ttl
	case o.HasTTL:
		l.fresh = o.TTL
	default:
		if c.src.TTL != nil {
			if err := usercode.Do(func() { l.fresh = c.src.TTL(key, val) }); err != nil {
				return l, false, err
			}
		}
		if l.fresh == 0 {
			l.fresh = c.policyOf(o).Lifetime(c.rand())
			return l, true, nil
		}
	}
	if l.fresh <= 0 {
		return l, false, nil
	}
	if l.fresh < time.Millisecond {
		return l, false, fmt.Errorf("%w: a life of %v is shorter than 1 ms, the shortest in Redis", errs.ErrInvalidOption, l.fresh)
	}
	if l.fresh > math.MaxInt64-l.stale {
		return l, false, fmt.Errorf("%w: a life of %v and a stale window of %v are too long together", errs.ErrInvalidOption, l.fresh, l.stale)
	}
	l.fresh = l.fresh.Truncate(time.Millisecond)
	return l, true, nil
}
