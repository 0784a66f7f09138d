package strategy

import (
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/delqhi/cache/internal/errs"
)

func TestTheStrategiesOfACallReplaceThoseOfTheCache(t *testing.T) {
	p, err := Compile(TTL(time.Minute), StaleIfError(time.Hour), RetryAfter(time.Second), SoftTimeout(time.Second), NotFoundTTL(time.Second, errs.ErrMiss))
	if err != nil {
		t.Fatal(err)
	}
	before := p
	q, err := p.ForCall(TTL(time.Hour), Jitter(0), StaleWhileRevalidate(time.Minute), StaleIfError(0), RetryAfter(0),
		SoftTimeout(time.Millisecond), HardTimeout(time.Minute), ErrorTTL(time.Minute), NotFoundTTL(0), TTL(2*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	want := p
	want.TTL, want.Jitter, want.StaleWhileRevalidate, want.StaleIfError, want.RetryAfter = 2*time.Hour, 0, time.Minute, 0, 0
	want.SoftTimeout, want.HardTimeout, want.Abandons, want.ErrorTTL, want.NotFoundTTL = time.Millisecond, time.Minute, true, time.Minute, 0
	if !reflect.DeepEqual(q, want) {
		t.Errorf("%+v, want %+v", q, want)
	}
	if !reflect.DeepEqual(p, before) {
		t.Error("the policy of the cache has changed")
	}
	if q, err = p.ForCall(Forever()); err != nil || q.TTL != 0 {
		t.Errorf("Forever: %v, %v", q.TTL, err)
	}
	if q, err = p.ForCall(); err != nil || !reflect.DeepEqual(q, p) {
		t.Errorf("of nothing: %v", err)
	}
}

func TestStrategiesThatACallCanNotHave(t *testing.T) {
	stale, err := Compile(StaleIfError(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	batched, err := Compile(BatchLoads(9, time.Second), StaleIfError(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := Compile()
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		p    *Policy
		list []Strategy
		want string
	}{
		{&stale, []Strategy{LRU(1)}, "one local tier"},
		{&stale, []Strategy{TinyLFU(1)}, "one local tier"},
		{&stale, []Strategy{LocalBytes(1)}, "one local tier"},
		{&stale, []Strategy{LocalTTL(1)}, "MaxAge"},
		{&stale, []Strategy{LocalDuringOutage(1)}, "MaxAge"},
		{&stale, []Strategy{Sliding(time.Second)}, "idle time"},
		{&stale, []Strategy{RefreshAhead(0.5)}, "MaxAge"},
		{&stale, []Strategy{EarlyExpiration(1)}, "MaxAge"},
		{&stale, []Strategy{WriteThrough()}, "one order"},
		{&stale, []Strategy{WriteAround()}, "one order"},
		{&stale, []Strategy{WriteBehind()}, "one order"},
		{&stale, []Strategy{Audit(1)}, "looked at alike"},
		{&stale, []Strategy{BatchLoads(9, time.Second)}, "many calls"},
		{&batched, []Strategy{SoftTimeout(time.Second)}, "ends before the load begins"},
		{&batched, []Strategy{HardTimeout(time.Second)}, "ends before the load begins"},
		{&stale, []Strategy{NotFoundTTL(time.Second, errs.ErrMiss)}, "which errors"},
		{&stale, []Strategy{StaleIfError(time.Hour)}, "keeps stale values for 1m0s"},
		{&stale, []Strategy{StaleWhileRevalidate(time.Hour)}, "keeps stale values for 1m0s"},
		{&plain, []Strategy{StaleIfError(time.Hour)}, "keeps no stale values"},
		{&plain, []Strategy{SoftTimeout(time.Second)}, "no stale value"},
		{&plain, []Strategy{RetryAfter(time.Second)}, "ErrorTTL"},
		{&stale, []Strategy{SoftTimeout(time.Second), HardTimeout(time.Second)}, "must be below"},
		{&stale, []Strategy{TTL(time.Duration(math.MaxInt64).Truncate(time.Millisecond))}, "too long"},
		{&stale, []Strategy{TTL(-1)}, "must be positive"},
		{&stale, []Strategy{nil}, "is nil"},
	} {
		_, err := tc.p.ForCall(tc.list...)
		if !errors.Is(err, errs.ErrInvalidOption) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%v: %v, want %q", tc.list, err, tc.want)
		}
	}
	// What is without effect only by another strategy of the call, or of the cache, is no mistake.
	for _, list := range [][]Strategy{
		{SoftTimeout(50 * time.Millisecond), StaleIfError(0)}, {HardTimeout(time.Millisecond)}, {StaleIfError(0), RetryAfter(time.Second)}, {Forever()},
	} {
		if _, err := stale.ForCall(list...); err != nil {
			t.Errorf("%v: %v", list, err)
		}
	}
	all, err := Compile(StaleIfError(time.Minute), SoftTimeout(time.Second), Sliding(time.Second), RefreshAhead(0.5), EarlyExpiration(1))
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range [][]Strategy{{HardTimeout(time.Millisecond)}, {Forever()}, {TTL(time.Millisecond)}, {StaleIfError(0)}} {
		if _, err := all.ForCall(list...); err != nil {
			t.Errorf("%v: %v", list, err)
		}
	}
	possible := map[kind]bool{ttl: true, jitter: true, staleWhileRevalidate: true, staleIfError: true, retryAfter: true, softTimeout: true, hardTimeout: true, errorTTL: true, notFoundTTL: true}
	for k := range kinds {
		if slot := k.slot(); possible[slot] == (wholeCache[slot] != "") {
			t.Errorf("%s is refused without a reason, or has one and is not", names[k])
		}
	}
}
