// Strategies for data of many kinds, and what the library says of a list that contradicts itself.
package main

import (
	"database/sql"
	"fmt"
	"log"
	"maps"
	"slices"
	"time"

	"github.com/delqhi/cache/strategy"
)

type list = []strategy.Strategy

var lists = map[string]list{
	// Read by all, and invalidated by tag when an editor has changed it. An old page is better than none.
	"catalogue": {strategy.TinyLFU(100_000), strategy.TTL(time.Hour), strategy.RefreshAhead(0.8), strategy.StaleIfError(24 * time.Hour)},

	// Changed by their owners, by this program: it invalidates after the commit.
	"profiles": {strategy.LRU(10_000), strategy.TTL(10 * time.Minute), strategy.StaleIfError(time.Hour)},

	// They end when they are not used, and after a day in any case.
	"sessions": {strategy.LRU(10_000), strategy.TTL(24 * time.Hour), strategy.Sliding(30 * time.Minute)},

	// An old answer is a wrong one: short, and without stale values.
	"permissions": {strategy.LRU(10_000), strategy.TTL(time.Minute), strategy.LocalTTL(5 * time.Second), strategy.ErrorTTL(0)},

	// Few, read by every request; the last known state is better than none.
	"feature flags": {strategy.LRU(1000), strategy.TTL(time.Minute), strategy.RefreshAhead(0.5), strategy.StaleIfError(24 * time.Hour)},

	// Cache and database must agree, and rows are written one by one.
	"stock": {strategy.LRU(10_000), strategy.TTL(10 * time.Minute), strategy.WriteThrough()},

	// More writes than the database can handle; it may be behind.
	"view counts": {strategy.TTL(time.Hour), strategy.WriteBehind(strategy.BatchSize(500), strategy.BatchDelay(time.Second))},

	// Many different ones, of which most are asked for once.
	"search results": {strategy.TinyLFU(10_000), strategy.TTL(30 * time.Second), strategy.StaleWhileRevalidate(5 * time.Minute)},

	// Costly to make, and needed by all at once.
	"reports": {strategy.TTL(time.Hour), strategy.EarlyExpiration(1), strategy.HardTimeout(2 * time.Minute), strategy.StaleIfError(24 * time.Hour)},

	// From a service of others, which is slow and fails now and then.
	"exchange rates": {strategy.LRU(100), strategy.TTL(time.Minute), strategy.SoftTimeout(300 * time.Millisecond), strategy.StaleIfError(time.Hour), strategy.RetryAfter(10 * time.Second)},

	// They never change: the key is the hash of the contents. Their sizes differ.
	"images": {strategy.LRU(100_000), strategy.LocalBytes(256 << 20), strategy.Forever()},

	// Mostly they do not exist.
	"user names": {strategy.TTL(10 * time.Minute), strategy.NotFoundTTL(time.Minute, sql.ErrNoRows)},
}

func main() {
	for _, kind := range slices.Sorted(maps.Keys(lists)) {
		policy, err := strategy.Compile(lists[kind]...)
		if err != nil {
			log.Fatalf("%s: %v", kind, err)
		}
		fmt.Printf("%-14s  fresh for %v, then of use for %v\n", kind, policy.TTL, policy.StaleFor())
	}
	_, err := strategy.Compile(strategy.Forever(), strategy.RefreshAhead(0.8))
	fmt.Println(err)
}
