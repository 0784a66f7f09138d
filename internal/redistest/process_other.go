//go:build !linux

package redistest

import "os/exec"

// dieWithParent does nothing: only Linux can do this. Elsewhere a server outlives
// a test binary that is killed.
func dieWithParent(*exec.Cmd) {}

// stopped can't find out, and relies on the signal.
func stopped(int) bool { return true }
