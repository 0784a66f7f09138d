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
// The room is a part of its frame, and so there from its beginning. It is not used: that would
// first set all of it to zero, which takes longer than a small stack takes to grow.
//
//go:noinline
func Grow() {
	if never {
		var room [depth]byte
		touch(&room)
	}
}

var never bool // a variable, so that the compiler keeps the room

//go:noinline
func touch(room *[depth]byte) { room[0] = 1 }
