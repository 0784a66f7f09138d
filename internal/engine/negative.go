package engine

import (
	"encoding/binary"

	"github.com/delqhi/cache/internal/errs"
	"github.com/delqhi/cache/internal/usercode"
)

// absence returns the absence that a loader's error reports, nil if it reports none: the
// error is errs.ErrNotFound, or matches an error of NotFoundTTL's list. An absence that a loader
// got from a cache and returned does not count: the absence of another key implies nothing
// for this one. Nor does a panic, whatever its value.
func (c *Cache) absence(err error) *absentError {
	if err == nil {
		return nil
	}
	if _, foreign := usercode.As[*absentError](err); foreign || usercode.Panicked(err) {
		return nil
	}
	e := &absentError{cache: c.name, err: err, reasons: c.policy.Absence(err)}
	if len(e.reasons) == 0 && !usercode.Is(err, errs.ErrNotFound) {
		return nil
	}
	return e
}

func (e *absentError) texts() []string {
	texts := make([]string, len(e.reasons))
	for i, r := range e.reasons {
		texts[i] = usercode.Text(r)
	}
	return texts
}

// remembered returns the error of an absence that the cache has stored.
func (c *Cache) remembered(texts []string) *absentError {
	e := &absentError{cache: c.name}
	for _, reason := range c.policy.NotFoundErrors {
		for _, t := range texts {
			if usercode.Text(reason) == t {
				e.reasons = append(e.reasons, reason)
				break
			}
		}
	}
	return e
}

func appendReasons(dst []byte, reasons []error) []byte {
	for _, r := range reasons {
		text := usercode.Text(r)
		dst = binary.AppendUvarint(dst, uint64(len(text)))
		dst = append(dst, text...)
	}
	return dst
}

func (c *Cache) parseReasons(data []byte) ([]error, bool) {
	var texts []string
	for len(data) > 0 {
		n, w := binary.Uvarint(data)
		if w <= 0 || n > uint64(len(data)-w) {
			return nil, false
		}
		texts = append(texts, string(data[w:w+int(n)]))
		data = data[w+int(n):]
	}
	return c.remembered(texts).reasons, true
}
