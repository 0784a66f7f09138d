package codec

import (
	"reflect"
	"time"
)

// Legacy is c for a cache that takes the place of another one, in the same keys of Redis: it
// also reads what other programs have stored there, so that the change begins with a warm cache.
// What it writes are records of c. Its name is that of c: when all records of the others have
// ended, c alone takes its place, and nothing is lost.
//
// decode decodes a string that is no record of this library into v, a *V, as a Unmarshal does:
// [DecodeGoRedisCache] for what github.com/go-redis/cache has stored, codec.JSON().Unmarshal for
// plain JSON, or a function that tries several. An error means that the string is of another
// kind; it is then a miss, as all foreign data is without Legacy. decode is called for each such
// record that is read, by many goroutines at once: a counter in it shows when none are left.
//
// Such a record carries neither the time when it was stored nor the tags of its value, and none of
// the versions of cache.WithVersion. So it is used with more care than others:
//
//   - It ends when its key expires. On the first read, a key that does not expire, or not as soon
//     as a value would that is stored now (see strategy.TTL), is made to expire as soon as that.
//     With strategy.Forever it stays as it is.
//   - It does not enter the local tier, since the other programs do not notify of their changes:
//     each read sees what Redis holds.
//   - It is not refreshed ahead of its end, not prolonged by strategy.Sliding, not served stale,
//     and not used for cache.MaxAge if its age is not known: a load takes its place.
//   - Invalidate, InvalidatePattern, Delete and Set act on it as on any other, at once under
//     every policy.
//   - Clear and InvalidateTags affect every such record that may have been stored before, whatever
//     its tags. Without [StoredFor] it is not known which these are: the first of these calls on
//     the cache, in any process, ends the use of all of them. That rests on the logical clock
//     that the cache keeps in Redis. If Redis loses it, by eviction or a restart without its data,
//     records that were affected and have not been read since are used again until they expire.
//
// Whatever can be read as a record of this library is none of another program.
//
// Legacy must be the outermost codec. It can't be combined with a codec that authenticates, as
// Encrypted does, which is to accept nothing that was made without its key. In a cache that is
// LocalOnly it is c. Reading costs a second round trip for a record of another program, and needs
// the Redis commands that the cache needs anyway.
func Legacy(c Codec, decode func(data []byte, v any) error, opts ...LegacyOption) Codec {
	l := &legacy{Codec: c, decode: decode}
	for _, o := range opts {
		if o != nil {
			o(l)
		}
	}
	return l
}

// LegacyOption changes [Legacy].
type LegacyOption func(*legacy)

// StoredFor says with which lifetime the other programs store their records, the longest if there
// are several: then the time that remains tells when a record was stored, at the earliest. That
// is its age, for cache.MaxAge and cache.Report, and an InvalidateTags or a Clear leaves what was
// stored later. A record with more than d left, or without an end, was stored in another way, and
// is a miss. d must be positive.
func StoredFor(d time.Duration) LegacyOption {
	return func(l *legacy) { l.storedFor, l.hasAge = d, true }
}

// TagsBySource says that the values of the cache have no tags but those that its Source.Tags
// gives them, or none if there is no Source.Tags, and so neither have those that the other programs
// have stored: an InvalidateTags affects no records but those of its tags, and Clear all. Records
// with tags from before the cache's own beginning are not used any more once any tag was
// invalidated.
func TagsBySource() LegacyOption { return func(l *legacy) { l.tagsBySource = true } }

type legacy struct {
	Codec
	decode       func(data []byte, v any) error
	storedFor    time.Duration
	hasAge       bool
	tagsBySource bool
}

// The cache asks for the parts.

func (l *legacy) Inner() Codec { return l.Codec }

func (l *legacy) DecodeLegacy(data []byte, v any) error { return l.decode(data, v) }

func (l *legacy) StoredFor() time.Duration { return l.storedFor }

func (l *legacy) TagsBySource() bool { return l.tagsBySource }

// CheckHeld is that of the codec inside, which has it or accepts everything.
func (l *legacy) CheckHeld(v any) error {
	if h, ok := l.Codec.(interface{ CheckHeld(any) error }); ok {
		return h.CheckHeld(v)
	}
	return nil
}

func (l *legacy) Name() string { return innerName(l.Codec) }

func (l *legacy) CheckType(t reflect.Type) error {
	switch {
	case l.decode == nil:
		return errorf("Legacy needs a function that decodes the records of the other program")
	case l.hasAge && l.storedFor <= 0:
		return errorf("StoredFor(%v) must be positive", l.storedFor)
	}
	if err := checkInner("Legacy", l.Codec, t); err != nil {
		return err
	}
	if _, ok := sealer(l.Codec); ok {
		return errorf("Legacy accepts what was stored without a key, which %s is to refuse", l.Codec.Name())
	}
	return nil
}
