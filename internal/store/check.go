package store

import (
	"errors"
	"fmt"
)

var (
	// Errors of the caller.
	errManyNodes = errors.New("store: one message for commands that go to several nodes")
	ErrAlone     = errors.New("store: one message for commands that are not there")
	errNotWrites = errors.New("store: one message for commands that are not all Sets, or Deletes, without their own")
)

// Check refuses a Command that no store can carry out.
func (c *Command) Check() error {
	switch c.Op {
	case Get, Delete, CompareAndDelete, GetHeader:
	case AwaitLease:
		if c.Seen.State != Found || !IsLease([]byte(c.Seen.Token)) {
			return fmt.Errorf("store: %v of what is no lease", c.Op)
		}
		if err := checkWaiter(string(c.Frame)); err != nil {
			return err
		}
	case PatchHeader:
		if len(c.Frame) != SealLen {
			return fmt.Errorf("store: %v with %d bytes", c.Op, len(c.Frame))
		}
		fallthrough
	case Set, SetNX, Extend, Adopt:
		if c.TTL < 0 {
			return fmt.Errorf("store: %v with a lifetime of %v", c.Op, c.TTL)
		}
	case CompareAndSet:
		if c.TTL < 0 && c.TTL != KeepTTL {
			return fmt.Errorf("store: %v with a lifetime of %v", c.Op, c.TTL)
		}
	default:
		return fmt.Errorf("store: unknown operation %d", c.Op)
	}
	if c.Notify.Awaited && (c.Op != CompareAndSet && c.Op != CompareAndDelete || c.Seen.State == Missing) {
		return fmt.Errorf("store: %v with a message for those who wait for a lease", c.Op)
	}
	return nil
}

// IsLease reports whether a record, or its token, is that of a lease.
func IsLease(raw []byte) bool { return len(raw) >= TokenLen && raw[leaseAt] == leaseKind }

// AwaitsLease reports whether a record is a lease with the sign of [AwaitLease].
func AwaitsLease(raw []byte) bool { return len(SignOf(raw)) > 0 }

// The kind of a record, and that of a lease; see package frame.
const (
	leaseAt   = 4
	leaseKind = 3
)

// Unit is the number of commands in the unit that the command begins; see [Command].With.
func (c *Command) Unit() int { return 1 + max(c.With, 0) }

// CheckAll checks commands of one call that form a unit.
func CheckAll(cmds []Command, split bool) error {
	for i := range cmds {
		if err := cmds[i].Check(); err != nil {
			return err
		}
	}
	c := &cmds[0]
	switch {
	case c.With == 0:
		return nil
	case c.With < 0:
		return ErrAlone
	case split:
		return errManyNodes
	case c.With >= len(cmds):
		return ErrAlone
	}
	for i := range cmds {
		if o := &cmds[i]; o.Op != c.Op || o.Op != Set && o.Op != Delete || o.Notifies() != (i == 0) {
			return errNotWrites
		}
	}
	return nil
}

// Notifies reports whether the command has a message to publish.
func (c *Command) Notifies() bool {
	return c.Notify.Channel != "" && c.Op != Get && c.Op != GetHeader && c.Op != Adopt && c.Op != AwaitLease
}
