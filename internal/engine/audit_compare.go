package engine

import (
	"bytes"
	"cmp"
	"context"
	"reflect"
	"time"

	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/usercode"
)

// newerBy is by how much a local entry must be newer than a record to be taken for newer: they are
// dated by different clocks.
const newerBy = 50 * time.Millisecond

// compare implements [backend].
func (c *remote) compare(ctx context.Context, key Key, rk string, e Held) comparison {
	replies, r, _, err := c.ask(ctx, []store.Command{{Op: store.Get, Key: rk}}, local.Now())
	if cmp.Or(replies[0].Err, err) != nil {
		return comparison{is: incomparable}
	}
	f := decoded{key: key}
	c.decodeTo(&f, ctx, rk, replies[0].Record, &r)
	c.validate(ctx, []*decoded{&f}, r.Ended)
	at := comparison{is: unlike, age: -1}
	if f.timed {
		at.age = f.age
	}
	switch f.status {
	case notFound, leased, failed:
		at.is, at.age, at.cause = gone, -1, "Redis has no record any more"
	case usable:
		if f.ans.absent == nil {
			same, err := c.sameValue(rk, e.Value, f.ans.val)
			switch {
			case err != nil:
				at.is = incomparable
			case same, f.timed && e.Stored-int64(newerBy) > local.Now()-int64(f.age): // by SkipRemote, for example
				at.is = alike
			}
		}
		at.cause = "Redis has a newer record, of which no notification was received"
	case stale, expired:
		at.age, at.cause = -1, "the record in Redis was invalidated, of which no notification was received"
		if f.pending { // by this process, whose local tier is not used for the key meanwhile
			at.is = incomparable
		}
	default:
		at.is = incomparable
	}
	if !c.coherence.Subscribes() {
		at.cause += ": this process listens to none (invalidate.NoTransport)"
	}
	return at
}

// compare implements [backend]: there is nothing but the entry.
func (c *localOnly) compare(context.Context, Key, string, Held) comparison {
	return comparison{is: alike, age: -1}
}

// sameValue reports whether two values of a key are encoded alike. Where a codec does not encode a
// value the same way each time, as if it encrypts, what it decodes is compared. Values that are
// never encoded are compared themselves first.
func (c *Cache) sameValue(rk string, a, b Value) (same bool, err error) {
	if c.LocalOnly() {
		err = usercode.Do(func() { same = reflect.DeepEqual(c.types.Elem(a), c.types.Elem(b)) })
		if same || err != nil {
			return same, err
		}
	}
	encodedA, err := c.marshal(rk, nil, a)
	if err != nil {
		return false, err
	}
	encodedB, err := c.marshal(rk, nil, b)
	if err != nil || bytes.Equal(encodedA, encodedB) {
		return err == nil, err
	}
	decodedA, err := c.unmarshal(rk, encodedA)
	if err != nil {
		return false, err
	}
	decodedB, err := c.unmarshal(rk, encodedB)
	if err != nil {
		return false, err
	}
	err = usercode.Do(func() { same = reflect.DeepEqual(c.types.Elem(decodedA), c.types.Elem(decodedB)) })
	return same, err
}
