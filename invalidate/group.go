package invalidate

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"

	"github.com/delqhi/cache/internal/usercode"
)

// Target is a cache that a [Group] invalidates: a *cache.Cache or a *[Client]. Its methods
// must be safe for concurrent use.
type Target interface {
	Name() string
	InvalidatePattern(ctx context.Context, pattern string) (int64, error)
	InvalidateTags(ctx context.Context, tags ...string) error
}

// Group is a list of patterns and tags of several caches, to be invalidated
// together and as often as one likes. The zero value is an empty group. All
// methods are safe for concurrent use; a Group must not be copied after its first
// use.
type Group struct {
	mu    sync.Mutex      // guards the fields below
	steps []step          // in the order of addition
	known map[purpose]int // the index in steps of each purpose
}

// step is one call of a target: for a pattern, or for all of its tags.
type step struct {
	target  Target
	pattern string
	tags    []string            // not empty: a step for tags
	had     map[string]struct{} // the same; guarded by Group.mu
}

// purpose identifies the calls of a target: a pattern, or all of its tags.
type purpose struct {
	target  Target // a comparable one
	kind    byte
	pattern string
}

const (
	forPattern = iota
	forTags
)

// AddPattern adds the keys of t that match a Redis pattern, as
// cache.Cache.InvalidatePattern takes it. A pattern that was added for t already
// runs once. A nil t is reported by [Group.InvalidateAll].
func (g *Group) AddPattern(t Target, pattern string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, known := g.placeLocked(purpose{t, forPattern, pattern}, len(g.steps)); !known {
		g.steps = append(g.steps, step{target: t, pattern: pattern})
	}
}

// AddTags adds tags of t, which are invalidated in one call, each once, with those
// that were added for t before. Without tags it adds nothing. A nil t is reported
// by [Group.InvalidateAll].
func (g *Group) AddTags(t Target, tags ...string) {
	if len(tags) == 0 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	i, known := g.placeLocked(purpose{t, forTags, ""}, len(g.steps))
	if !known {
		g.steps = append(g.steps, step{target: t, had: map[string]struct{}{}})
	}
	s := &g.steps[i]
	for _, tag := range tags {
		if _, had := s.had[tag]; !had {
			s.had[tag] = struct{}{}
			s.tags = append(s.tags, tag)
		}
	}
}

// placeLocked returns the index of the step for p if there is one, and else records that it
// will be at next. Targets of a type that can't be compared are never the same.
func (g *Group) placeLocked(p purpose, next int) (i int, known bool) {
	if !reflect.ValueOf(p.target).Comparable() {
		return next, false
	}
	if i, known = g.known[p]; known {
		return i, true
	}
	if g.known == nil {
		g.known = map[purpose]int{}
	}
	g.known[p] = next
	return next, false
}

// InvalidateAll invalidates everything in the group, in the order of addition, and continues
// after a failure. The error joins all failures, each wrapped with the name of its target and
// its pattern or tags; it is nil if there was none. The group stays as it is, so that a call
// that failed can be repeated. What is added during the call is left to the next one.
func (g *Group) InvalidateAll(ctx context.Context) error {
	var failed []error
	for _, s := range g.snapshot() {
		if err := s.run(ctx); err != nil {
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

// snapshot copies the steps with their tags, which a target may keep or change.
func (g *Group) snapshot() []step {
	g.mu.Lock()
	defer g.mu.Unlock()
	steps := slices.Clone(g.steps)
	for i := range steps {
		steps[i].tags = slices.Clone(steps[i].tags)
	}
	return steps
}

func (s step) run(ctx context.Context) error {
	if len(s.tags) > 0 {
		return s.call(fmt.Sprintf("tags %q", s.tags), func() error { return s.target.InvalidateTags(ctx, s.tags...) })
	}
	return s.call(fmt.Sprintf("pattern %q", s.pattern), func() error {
		_, err := s.target.InvalidatePattern(ctx, s.pattern)
		return err
	})
}

// call runs f for a target that is not nil and adds to its error what it was for.
func (s step) call(what string, f func() error) error {
	if v := reflect.ValueOf(s.target); !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil() {
		return fmt.Errorf("invalidate: %s: the target is nil", what)
	}
	err := usercode.Call(f)
	if err == nil {
		return nil
	}
	name := ""
	_ = usercode.Do(func() { name = s.target.Name() })
	return fmt.Errorf("invalidate: %s of %q: %w", what, name, err)
}
