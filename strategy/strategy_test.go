package strategy

import (
	"errors"
	"io"
	"math"
	"slices"
	"testing"
	"time"
)

// one of each constructor, valid alone; and how it prints.
var samples = []struct {
	make func() Strategy
	name string
	text string
}{
	{func() Strategy { return LRU(10_000) }, "LRU", "strategy.LRU(10000)"},
	{func() Strategy { return TinyLFU(10_000) }, "TinyLFU", "strategy.TinyLFU(10000)"},
	{func() Strategy { return LocalBytes(1 << 20) }, "LocalBytes", "strategy.LocalBytes(1048576)"},
	{func() Strategy { return LocalTTL(time.Second) }, "LocalTTL", "strategy.LocalTTL(1s)"},
	{func() Strategy { return LocalDuringOutage(time.Second) }, "LocalDuringOutage", "strategy.LocalDuringOutage(1s)"},
	{func() Strategy { return TTL(10 * time.Minute) }, "TTL", "strategy.TTL(10m0s)"},
	{func() Strategy { return Forever() }, "Forever", "strategy.Forever()"},
	{func() Strategy { return Jitter(0.25) }, "Jitter", "strategy.Jitter(0.25)"},
	{func() Strategy { return Sliding(time.Minute) }, "Sliding", "strategy.Sliding(1m0s)"},
	{func() Strategy { return RefreshAhead(0.8) }, "RefreshAhead", "strategy.RefreshAhead(0.8)"},
	{func() Strategy { return EarlyExpiration(1) }, "EarlyExpiration", "strategy.EarlyExpiration(1)"},
	{func() Strategy { return StaleWhileRevalidate(time.Minute) }, "StaleWhileRevalidate", "strategy.StaleWhileRevalidate(1m0s)"},
	{func() Strategy { return StaleIfError(time.Hour) }, "StaleIfError", "strategy.StaleIfError(1h0m0s)"},
	{func() Strategy { return RetryAfter(time.Second) }, "RetryAfter", "strategy.RetryAfter(1s)"},
	{func() Strategy { return SoftTimeout(50 * time.Millisecond) }, "SoftTimeout", "strategy.SoftTimeout(50ms)"},
	{func() Strategy { return HardTimeout(time.Minute) }, "HardTimeout", "strategy.HardTimeout(1m0s)"},
	{func() Strategy { return NotFoundTTL(0) }, "NotFoundTTL", "strategy.NotFoundTTL(0s)"},
	{func() Strategy { return ErrorTTL(time.Second) }, "ErrorTTL", "strategy.ErrorTTL(1s)"},
	{func() Strategy { return WriteThrough() }, "WriteThrough", "strategy.WriteThrough()"},
	{func() Strategy { return WriteAround() }, "WriteAround", "strategy.WriteAround()"},
	{func() Strategy { return WriteBehind() }, "WriteBehind", "strategy.WriteBehind()"},
	{func() Strategy { return BatchLoads(100, 2*time.Millisecond) }, "BatchLoads", "strategy.BatchLoads(100, 2ms)"},
	{func() Strategy { return Audit(0.0001) }, "Audit", "strategy.Audit(0.0001)"},
}

func TestEveryConstructorHasASample(t *testing.T) {
	var have []string
	for _, s := range samples {
		have = append(have, s.make().Name())
	}
	if want := names[:]; !slices.Equal(have, want) {
		t.Errorf("samples are of %v\nwant %v", have, want)
	}
}

func TestStrategyPrintsAsItIsWritten(t *testing.T) {
	for _, s := range samples {
		if got := s.make().Name(); got != s.name {
			t.Errorf("Name() = %q, want %q", got, s.name)
		}
		if got := s.make().String(); got != s.text {
			t.Errorf("String() = %q, want %q", got, s.text)
		}
	}
	for _, c := range []struct {
		s    Strategy
		want string
	}{
		{NotFoundTTL(time.Second, io.EOF, nil), `strategy.NotFoundTTL(1s, "EOF", nil)`},
		{WriteBehind(MaxAttempts(3), BatchSize(5), BatchSize(7)), "strategy.WriteBehind(strategy.BatchSize(7), strategy.MaxAttempts(3))"},
		{WriteBehind(BatchDelay(0), WriteBehindOption{}), "strategy.WriteBehind(strategy.BatchDelay(0s), strategy.WriteBehindOption{})"},
		{EarlyExpiration(math.Inf(1)), "strategy.EarlyExpiration(+Inf)"},
		{TTL(-time.Second), "strategy.TTL(-1s)"},
	} {
		if got := c.s.String(); got != c.want {
			t.Errorf("String() = %q, want %q", got, c.want)
		}
	}
}

func TestStrategiesCompareByValue(t *testing.T) {
	for i, a := range samples {
		for j, b := range samples {
			if got := a.make() == b.make(); got != (i == j) {
				t.Errorf("%v == %v is %v", a.make(), b.make(), got)
			}
		}
	}
	if TTL(time.Second) == TTL(2*time.Second) {
		t.Error("TTLs of different length are equal")
	}
	s := NotFoundTTL(time.Second, io.EOF)
	if s != s || s == NotFoundTTL(time.Second, io.EOF) {
		t.Error("a NotFoundTTL with errors must equal itself, and only itself")
	}
	if _, ok := map[Strategy]bool{s: true}[s]; !ok {
		t.Error("a strategy with errors can't be a map key")
	}
}

func TestNotFoundTTLKeepsItsOwnListOfErrors(t *testing.T) {
	list := []error{io.EOF}
	s := NotFoundTTL(time.Second, list...)
	list[0] = errors.New("another")
	p, err := Compile(s)
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Absence(io.EOF)) != 1 {
		t.Error("a change of the caller's slice reached the strategy")
	}
}
