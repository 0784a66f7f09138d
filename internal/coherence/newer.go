package coherence

import (
	"context"

	"github.com/delqhi/cache/internal/frame"
	"github.com/delqhi/cache/internal/invalidation"
	"github.com/delqhi/cache/internal/retryqueue"
	"github.com/delqhi/cache/internal/store"
)

// newer reports whether a record is of a write or a load that began after the invalidation's
// time, by Redis's clock, so that the invalidation does not affect it. If that clock has been
// set back since, records may be dated in the future: then the answer is no.
func (a *Coordinator) newer(ctx context.Context, it *retryqueue.Item, rec store.Record) bool {
	if rec.State != store.Found {
		return false
	}
	h, err := frame.ReadHead(rec.Raw)
	if err != nil || h.Kind != frame.Value && h.Kind != frame.Absence {
		return false
	}
	began, ok := h.Began()
	switch {
	case it.Acked && h.Older():
		began = h.Stored
	case !ok:
		return false
	}
	at := it.At
	if at == 0 {
		// Redis's clock could not be read at the time. It may be readable by now.
		if at = a.date(ctx, it.Key, retryqueue.Past{Since: it.Since}); at == 0 {
			return false
		}
	}
	if it.Acked {
		// The acknowledged write is still in Redis in all likelihood: a record of about that
		// time more likely came after it than back with a failover.
		at -= clockSlack
	}
	if began <= at {
		return false
	}
	now, err := a.cfg.Client.Now(ctx, it.Key)
	return err == nil && h.Stored <= now+invalidation.ClocksApart
}

// endsInTime reports whether a record that existed at the invalidation expires when the cache's
// policy requires: Redis has not lost that invalidation.
func (a *Coordinator) endsInTime(at int64, rec store.Record) bool {
	h, err := frame.ReadHead(rec.Raw)
	if rec.State != store.Found || err != nil || h.Kind != frame.Value && h.Kind != frame.Absence {
		return false
	}
	switch a.cfg.Policy.Mode {
	case invalidation.Lazy:
		return h.Limit <= 0
	case invalidation.Delayed:
		// The invalidation was dated when the key was found.
		return at != 0 && h.Limit-at-invalidation.ClocksApart <= a.cfg.Policy.Delay.Microseconds()
	}
	return false
}

// clockSlack is by how much, in µs, the dates of two concurrent writes of different processes
// may differ, due to the duration of an operation and to their estimates of Redis's clock.
const clockSlack = 250_000
