package local

import "time"

var base = time.Now()

// Now is the tier's clock: nanoseconds of monotonic time since some moment of this
// process. Only differences mean anything. Setting the machine's clock does not
// move it.
//
// time.Since of a time that has a monotonic reading reads only that clock of the system, which
// takes 31 ns where time.Now, with both clocks, takes 53.
//
// Inside a bubble of testing/synctest it follows the bubble's clock to the
// nanosecond. There it is negative, because bubbles begin in the year 2000 and
// base lies outside of them: times from inside and outside must not be mixed.
func Now() int64 { return int64(time.Since(base)) }

// At is what Now was at t, which must have a monotonic reading.
func At(t time.Time) int64 { return int64(t.Sub(base)) }

// Time is the time when Now was at. It has a monotonic reading; its wall clock is that of the
// beginning of the process, which was not set since.
func Time(at int64) time.Time { return base.Add(time.Duration(at)) }
