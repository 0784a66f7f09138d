package main

import (
	"bytes"
	"errors"
	"os"
)

// changes are files that were written, with what they held before.
type changes []change

type change struct {
	name   string
	before []byte
}

// write changes the text of a file that exists.
func (c *changes) write(name string, text []byte) error {
	before, err := os.ReadFile(name)
	if err != nil || bytes.Equal(before, text) {
		return err
	}
	*c = append(*c, change{name, before})
	return os.WriteFile(name, text, 0o644)
}

func (c *changes) undo() error {
	var errs []error
	for _, f := range *c {
		errs = append(errs, os.WriteFile(f.name, f.before, 0o644))
	}
	return errors.Join(errs...)
}

func withUndo(err error, undo func() error) error { return errors.Join(err, undo()) }
