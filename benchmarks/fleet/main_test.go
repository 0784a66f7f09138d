package main

import "testing"

func TestTable(t *testing.T) {
	got := table(`goos: linux
BenchmarkFleet/on=server/transport=broadcast/caches=1/processes=20/op=idle-2         	     300	         0 ns/op	         8.0 commands/s	         2.0 connections
BenchmarkFleet/on=server/transport=broadcast/caches=1/processes=20/op=set-2          	     300	    100000 ns/op	        96.5 out-B/op	        15.0 redis-µs/op
BenchmarkFleet/on=cluster/transport=none/caches=1/processes=1/op=awaited-miss        	     300	    100000 ns/op	        32.0 redis-µs/op
PASS
`)
	const want = `| on | transport | caches | processes | idle: commands/s | connections | Set: µs | bytes out | bus messages | miss: µs | bytes out | awaited miss: µs |
|---|---|---|---|---|---|---|---|---|---|---|---|
| server | broadcast | 1 | 20 | 8.0 | 2.0 | 15.0 | 96.5 | – | – | – | – |
| cluster | none | 1 | 1 | – | – | – | – | – | – | – | 32.0 |
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
