package remote

import (
	"errors"
	"fmt"
)

var (
	// Mistakes of the caller.
	errManyNodes = errors.New("remote: one message for commands that go to several nodes")
	errAlone     = errors.New("remote: one message for commands that are not there")
	errNotWrites = errors.New("remote: one message for commands that are not all Sets, or Deletes, without their own")
)

// check refuses what no store can carry out.
func (c *Command) check() error {
	switch c.Op {
	case Get, Delete, Release, Head:
	case Reseal:
		if len(c.Frame) != SealLen {
			return fmt.Errorf("remote: %v with %d bytes", c.Op, len(c.Frame))
		}
		fallthrough
	case Set, Add, Extend:
		if c.TTL < 0 {
			return fmt.Errorf("remote: %v with a lifetime of %v", c.Op, c.TTL)
		}
	case Swap:
		if c.TTL < 0 && c.TTL != KeepTTL {
			return fmt.Errorf("remote: %v with a lifetime of %v", c.Op, c.TTL)
		}
	default:
		return fmt.Errorf("remote: unknown operation %d", c.Op)
	}
	return nil
}

// unit is how many commands the command is with those that go with it.
func (c *Command) unit() int { return 1 + max(c.With, 0) }

// checkAll checks commands that go together.
func checkAll(cmds []Command, split bool) error {
	for i := range cmds {
		if err := cmds[i].check(); err != nil {
			return err
		}
	}
	c := &cmds[0]
	switch {
	case c.With == 0:
		return nil
	case c.With < 0:
		return errAlone
	case split:
		return errManyNodes
	case c.With >= len(cmds):
		return errAlone
	}
	for i := range cmds {
		if o := &cmds[i]; o.Op != c.Op || o.Op != Set && o.Op != Delete || o.tells() != (i == 0) {
			return errNotWrites
		}
	}
	return nil
}

// tells reports whether the command has something to publish.
func (c *Command) tells() bool {
	return c.Tell.Channel != "" && c.Op != Get && c.Op != Head
}
