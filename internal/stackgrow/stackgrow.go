// Package stackgrow starts goroutines that will need a large stack.
//
// A goroutine begins with a small stack, which is doubled and copied each time that a
// call does not fit; with the frames of a client library on it, that takes longer than
// all the rest of starting it. A stack that is grown while it is still empty has next to
// nothing to copy.
package stackgrow

// depth is about the stack, in bytes, that a command needs from the cache down to the socket.
const depth = 9 << 10

// Grow makes room on the stack of its caller's goroutine. It is to be called first.
//
//go:noinline
func Grow() {
	var room [depth]byte
	touch(&room)
}

//go:noinline
func touch(room *[depth]byte) { room[0] = 1 }
