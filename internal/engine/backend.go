package engine

import (
	"context"
	"time"

	"github.com/delqhi/cache/metrics"
)

// A backend holds the records of a cache: Redis, or in a LocalOnly cache the local tier alone.
// Reads, loads and writes are the same for both, in the methods of Cache; here is what they do
// where the records are. The steps have the same outcomes, by the means below. With LocalValues
// they are those of localOnly, and other processes are told as remote tells them: see localValues.
//
//	remote                                            localOnly
//	compare-and-set of a record                       of the tier's entry, under its shard's lock
//	SET                                               Tier.Set: the last one is the newer one
//	lease, lock, intent                               fence.Claim: exact for its key
//	waiting for the message of a fill                 fence.Waiter
//	tombstones of tags and of Clear                   the same, in memory
type backend interface {
	// ready waits for what has to come before an operation.
	ready(ctx context.Context) (waited bool)

	// mayUseLocal reports whether the local tier may answer for a key.
	mayUseLocal(rk string, now int64) bool
	// learn makes the tombstones of tags known to the logical clock, if it can at once.
	learn(tags []string) bool
	// read answers the lookups that the local tier has not answered, as far as it can, and
	// counts the others as misses.
	read(ctx context.Context, s *Scratch, j Loader, o *Options)
	// compare compares a local entry with the record of its key.
	compare(ctx context.Context, key Key, rk string, e Held) comparison
	// inspect reads the record of a key of which only the encoding is known.
	inspect(ctx context.Context, rk string) (Value, Info, error)

	// since returns the local time before which a load may not have begun that a read at the
	// local time at joins.
	since(rk string, at int64) int64
	// version returns the logical time for a load or write of a key that begins now.
	version(ctx context.Context, rk string) (version, error)
	// watch registers a waiter for the end of loads and writes in flight of keys; stop removes
	// it. watchesFirst reports whether that comes before acquire, or only once acquire has found
	// other loads in flight: it is then called again.
	watch(encoded ...string) (wake <-chan struct{}, stop func())
	watchesFirst() bool
	// pollEvery returns how long to wait for that at most, where a caller would wait for pause
	// if nothing could wake it.
	pollEvery(pause time.Duration) time.Duration
	// acquire tries to get the right to load the keys of ls at the local time now, and resolves the
	// loads of keys that have a value by now. It reports whether to try again at once for those still
	// waiting.
	acquire(ctx context.Context, now int64, o *Options, ls []*inflightLoad) (again bool)
	// keepAlive keeps what acquire has got until stop is called.
	keepAlive(ctx context.Context, ls []*inflightLoad) (stop func())
	// encodeLoaded encodes a loaded value or absence, as far as it is to be encoded.
	encodeLoaded(ctx context.Context, l *inflightLoad) error
	// store stores what was loaded, by its plans, and gives back what acquire has got. The local
	// time at is from before the plans were made.
	store(ctx context.Context, o *Options, ls []*inflightLoad, at int64)
	// giveBack gives back what loads that did not finish have got, as after a panic.
	giveBack(ls []*inflightLoad)
	// keepLate prepares rest, which stores the value of a load that has been answered without
	// it. stop ends what keeps that possible; nil: nothing does.
	keepLate(l, rest *inflightLoad) (stop func())
	// copies returns a function that makes copies of a value for readers. ok is false if it
	// can't be copied.
	copies(rk string, val Value) (next func() (Value, error), ok bool)

	// together prepares what records that are encoded together have in common, and their IDs.
	together(ctx context.Context, changes []*Change)
	// encode dates and encodes the value of a change, or dates a removal.
	encode(ctx context.Context, ch *Change)
	// lives finds the lives that changes are to keep, and that the local tier has not told.
	lives(ctx context.Context, changes []*Change)
	// loadedLife returns what is left of the life of the value that a load replaces.
	loadedLife(ctx context.Context, o *Options, l *inflightLoad) (left time.Duration, ok bool)
	// setApart stores the values of changes in the local tier only.
	setApart(ctx context.Context, changes []*Change, o *Options)
	// renew renews the lives of the keys of changes; the outcome is in each.
	renew(ctx context.Context, changes []*Change)
	// apply runs changes, which have been encoded; the outcome is in each.
	apply(ctx context.Context, changes []*Change)
	// setIfAbsent stores the value of a change if the key has none.
	setIfAbsent(ctx context.Context, ch *Change) (stored bool, err error)
	// updateOnce replaces the value of a key by that of f, unless another write comes between:
	// then ok is false.
	updateOnce(ctx context.Context, ch *Change, f Func, o *Options) (ok bool, err error)

	// encodeReplacement encodes the value of a change as a replacement of what the key holds, nil if
	// there is nothing to be replaced; replace puts one in its place.
	encodeReplacement(ctx context.Context, ch *Change) ([]byte, error)
	replace(ctx context.Context, rk string, replacement []byte) (ok bool, err error)

	// invalidate invalidates keys; the outcome is in each. invalidateLater does so for a caller
	// that has left: here at once, elsewhere later.
	invalidate(ctx context.Context, changes []*Change)
	invalidateLater(ch *Change)
	invalidatePattern(ctx context.Context, pattern string) (n int64, err error)
	invalidatePatternLater(pattern string)
	// mark invalidates tags, or everything if there are none.
	mark(ctx context.Context, tags []string) error
	markLater(tags []string) error

	// sync waits until invalidations that are pending have been delivered; why says what the
	// last attempt failed by.
	sync(ctx context.Context) (why, err error)
	// listener returns whether notifications are received, as far as they are to be.
	listener() metrics.State
	close()
}
