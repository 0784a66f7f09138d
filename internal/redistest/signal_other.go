//go:build !unix

package redistest

import "syscall"

// Without these signals a server can't be frozen: Freeze and Thaw fail. There is
// no redis-server for such systems either.
const (
	freeze = syscall.Signal(0)
	thaw   = syscall.Signal(0)
)
