package strategy_test

import (
	"database/sql"
	"fmt"
	"time"

	"github.com/delqhi/cache/strategy"
)

func ExampleCompile() {
	p, err := strategy.Compile(strategy.TTL(10*time.Minute), strategy.TTL(time.Hour)) // the last of a kind holds
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(p.Strategies, p.TTL, p.NotFoundTTL, p.HardTimeout)
	// Output: [strategy.TTL(1h0m0s)] 1h0m0s 30s 30s
}

// Every mistake is reported, with what to write instead.
func ExampleCompile_mistakes() {
	_, err := strategy.Compile(
		strategy.TTL(1500*time.Microsecond),
		strategy.Jitter(1.5),
		strategy.LocalTTL(time.Second))
	fmt.Println(err)
	// Output:
	// cache: invalid option: strategy.TTL(1.5ms): Redis keeps whole milliseconds: write strategy.TTL(1ms) or strategy.TTL(2ms)
	// cache: invalid option: strategy.Jitter(1.5): write a fraction from 0 to below 1: strategy.Jitter(0.1) ends lives up to a tenth early
	// cache: invalid option: strategy.LocalTTL(1s): there is no local tier: add strategy.LRU(n) or strategy.TinyLFU(n)
}

// Entries that are stored together end apart: here between 9 and 10 minutes.
func ExampleJitter() {
	p, _ := strategy.Compile(strategy.TTL(10*time.Minute), strategy.Jitter(0.1))
	for _, rnd := range []float64{0, 0.5, 0.999999} {
		fmt.Println(p.Lifetime(rnd))
	}
	// Output:
	// 10m0s
	// 9m30s
	// 9m0s
}

// A local tier of ten thousand entries that ask Redis again after five seconds.
func ExampleLRU() {
	p, _ := strategy.Compile(strategy.LRU(10_000), strategy.LocalTTL(5*time.Second))
	fmt.Println(p.LocalEntries, p.LocalTTL)
	// Output: 10000 5s
}

// Of LRU and TinyLFU, the last one holds: here one cache changes what others share.
func ExampleTinyLFU() {
	shared := []strategy.Strategy{strategy.LRU(10_000), strategy.LocalTTL(5 * time.Second)}
	p, _ := strategy.Compile(append(shared, strategy.TinyLFU(50_000))...)
	fmt.Println(p.Strategies)
	fmt.Println(p.LocalEntries, p.LocalTinyLFU)
	// Output:
	// [strategy.TinyLFU(50000) strategy.LocalTTL(5s)]
	// 50000 true
}

// The first read after four fifths of the life starts a load behind the
// reader's back.
func ExampleRefreshAhead() {
	p, _ := strategy.Compile(strategy.RefreshAhead(0.8))
	const life = 10 * time.Minute
	fmt.Println(p.ShouldRefresh(7*time.Minute, life, 0, 0), p.ShouldRefresh(8*time.Minute, life, 0, 0))
	// Output: false true
}

// A value that takes a second to load is refreshed about a second before its
// end, at random.
func ExampleEarlyExpiration() {
	p, _ := strategy.Compile(strategy.EarlyExpiration(1))
	const life, cost = time.Minute, time.Second
	age := life - time.Second
	fmt.Println(p.ShouldRefresh(age, life, cost, 0.3), p.ShouldRefresh(age, life, cost, 0.7))
	// Output: false true
}

// For a minute a stale value is good enough, and for an hour better than an
// error.
func ExampleStaleIfError() {
	p, _ := strategy.Compile(strategy.StaleWhileRevalidate(time.Minute), strategy.StaleIfError(time.Hour))
	fmt.Println("kept for", p.StaleFor(), "after its end")
	for _, past := range []time.Duration{30 * time.Second, 30 * time.Minute, 2 * time.Hour} {
		fmt.Println(past, p.AllowsStale(past, false), p.AllowsStale(past, true))
	}
	// Output:
	// kept for 1h0m0s after its end
	// 30s true true
	// 30m0s false true
	// 2h0m0s false false
}

// Readers with a stale value at hand wait 50 ms for a load, which may take a
// minute.
func ExampleSoftTimeout() {
	p, _ := strategy.Compile(
		strategy.StaleIfError(time.Hour),
		strategy.SoftTimeout(50*time.Millisecond),
		strategy.HardTimeout(time.Minute))
	fmt.Println(p.SoftTimeout, p.HardTimeout)
	// Output: 50ms 1m0s
}

// A row that isn't there is no error of the source, and is remembered.
func ExampleNotFoundTTL() {
	p, _ := strategy.Compile(strategy.NotFoundTTL(10*time.Second, sql.ErrNoRows))
	err := fmt.Errorf("user: %w", sql.ErrNoRows)
	fmt.Println(p.NotFoundTTL, p.Absence(err))
	// Output: 10s [sql: no rows in result set]
}

func ExampleWriteBehind() {
	p, _ := strategy.Compile(strategy.WriteBehind(strategy.BatchSize(500)))
	fmt.Println(p.Write, p.BatchSize, p.BatchDelay, p.MaxAttempts)
	// Output: behind 500 100ms 10
}
