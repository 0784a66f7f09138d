package strategy

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/delqhi/cache/internal/usercode"
)

// Strategy is one policy of a cache, made by a function of this package. It is
// immutable and comparable with ==: strategies of the same constructor and the
// same arguments are equal, except that each [NotFoundTTL] with errors equals
// only itself.
type Strategy interface {
	// Name is the name of the constructor, such as "TTL".
	Name() string

	// String is the strategy as Go source, such as "strategy.TTL(10m0s)".
	String() string

	sealed()
}

// kind is a constructor of this package.
type kind uint8

const (
	lru kind = iota
	tinyLFU
	localBytes
	localTTL
	localDuringOutage
	ttl
	forever
	jitter
	sliding
	refreshAhead
	earlyExpiration
	staleWhileRevalidate
	staleIfError
	retryAfter
	softTimeout
	hardTimeout
	notFoundTTL
	errorTTL
	writeThrough
	writeAround
	writeBehind
	batchLoads
	audit
	kinds
)

var names = [kinds]string{
	lru: "LRU", tinyLFU: "TinyLFU", localBytes: "LocalBytes", localTTL: "LocalTTL", localDuringOutage: "LocalDuringOutage",
	ttl: "TTL", forever: "Forever", jitter: "Jitter", sliding: "Sliding",
	refreshAhead: "RefreshAhead", earlyExpiration: "EarlyExpiration",
	staleWhileRevalidate: "StaleWhileRevalidate", staleIfError: "StaleIfError",
	retryAfter: "RetryAfter", softTimeout: "SoftTimeout", hardTimeout: "HardTimeout",
	notFoundTTL: "NotFoundTTL", errorTTL: "ErrorTTL",
	writeThrough: "WriteThrough", writeAround: "WriteAround", writeBehind: "WriteBehind",
	batchLoads: "BatchLoads", audit: "Audit",
}

// slot is where strategies of one kind, in the sense of the documentation,
// replace each other.
func (k kind) slot() kind {
	switch k {
	case tinyLFU:
		return lru
	case forever:
		return ttl
	case writeAround, writeBehind:
		return writeThrough
	}
	return k
}

// setting is every strategy: a constructor and its argument, in the field that
// fits.
type setting struct {
	kind kind
	d    time.Duration
	x    float64
	n    int64
	also *[]error // behind a pointer, so that == does not panic
	behind
}

var _ Strategy = setting{}

func (s setting) sealed() {}

func (s setting) Name() string { return names[s.kind] }

func (s setting) String() string {
	return "strategy." + names[s.kind] + "(" + s.argument() + ")"
}

func (s setting) argument() string {
	switch s.kind {
	case forever, writeThrough, writeAround:
		return ""
	case lru, tinyLFU, localBytes:
		return strconv.FormatInt(s.n, 10)
	case jitter, refreshAhead, earlyExpiration, audit:
		return strconv.FormatFloat(s.x, 'g', -1, 64)
	case notFoundTTL:
		var b strings.Builder
		b.WriteString(s.d.String())
		for _, err := range s.errors() {
			if err == nil {
				b.WriteString(", nil")
				continue
			}
			fmt.Fprintf(&b, ", %q", usercode.Text(err))
		}
		return b.String()
	case writeBehind:
		return s.behind.String()
	case batchLoads:
		return strconv.FormatInt(s.n, 10) + ", " + s.d.String()
	}
	return s.d.String()
}

// with is the same constructor with another duration.
func (s setting) with(d time.Duration) setting {
	s.d = d
	return s
}

func (s setting) errors() []error {
	if s.also == nil {
		return nil
	}
	return *s.also
}

// behind is the argument of WriteBehind: the options given, and their values.
type behind struct {
	hasSize, hasDelay, hasAttempts bool
	empty                          bool // an option that no function of this package made

	size     int
	delay    time.Duration
	attempts int
}

func (b behind) String() string {
	var args []string
	if b.hasSize {
		args = append(args, fmt.Sprintf("strategy.BatchSize(%d)", b.size))
	}
	if b.hasDelay {
		args = append(args, fmt.Sprintf("strategy.BatchDelay(%v)", b.delay))
	}
	if b.hasAttempts {
		args = append(args, fmt.Sprintf("strategy.MaxAttempts(%d)", b.attempts))
	}
	if b.empty {
		args = append(args, "strategy.WriteBehindOption{}")
	}
	return strings.Join(args, ", ")
}
