// Package benchmarks does the same work through this library and through others that
// a program might use instead, side by side, in one run on one machine.
//
//	go run ./run             # a few minutes: a table of ratios by benchstat
//	go run ./run -full       # every size, number of callers and distribution
//	go run ./render          # from the last run: docs/performance.md and its charts
//	go run ./fleet           # what a fleet of 1 to 400 processes costs Redis; half an hour
//
// The runs are interleaved: each round measures every library once, a moment apart, so
// that what else the machine is doing hits all of them. Single benchmarks run as
// always, and the names project to columns:
//
//	go test -run '^$' -bench 'RemoteHit/.*callers=64' -count 8 | tee new.txt
//	benchstat -col /lib new.txt
//
// Those that need Redis start a server of their own on loopback (redis-server, 7.0 or
// newer, must be on the PATH), and reach nothing else.
//
// A benchmark's time is that of one operation by the wall clock, all callers together:
// with 64 callers, 1 µs means a million operations a second. Values are byte slices,
// so that the time is not that of a codec; keys are strings.
package benchmarks
