//go:build unix

package benchmarks

import "syscall"

// cpuTime is what this process has used of the processors, in ns: on a machine that has
// other things to do it says more than the wall clock. What Redis uses is not in it.
func cpuTime() int64 {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return u.Utime.Nano() + u.Stime.Nano()
}
