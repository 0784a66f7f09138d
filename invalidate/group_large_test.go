package invalidate

import (
	"context"
	"errors"
	"fmt"
	"testing"
)

// list is a target that can't be compared, hostile one that panics.
type list struct{ called *[][]string }

func (list) Name() string { return "list" }
func (l list) InvalidatePattern(_ context.Context, p string) (int64, error) {
	*l.called = append(*l.called, []string{p})
	return 0, nil
}
func (l list) InvalidateTags(_ context.Context, tags ...string) error {
	*l.called = append(*l.called, tags)
	return nil
}

type uncomparable struct {
	list
	_ []int
}

type hostile struct{}

func (hostile) Name() string                                             { panic("Name") }
func (hostile) InvalidatePattern(context.Context, string) (int64, error) { panic("pattern") }
func (hostile) InvalidateTags(context.Context, ...string) error          { panic("tags") }

// Quadratic work would take minutes.
func TestAGroupOfManyTagsAndPatterns(t *testing.T) {
	const n = 100_000
	var called [][]string
	for _, target := range []Target{list{&called}, uncomparable{list: list{&called}}} {
		called = nil
		var g Group
		var tags []string
		for i := range n {
			tags = append(tags, fmt.Sprint("tenant:", i), fmt.Sprint("tenant:", i))
		}
		g.AddTags(target, tags...)
		if _, same := target.(list); same {
			for i := range n {
				g.AddTags(target, tags[2*i])
				g.AddPattern(target, tags[i])
			}
		}
		if err := g.InvalidateAll(t.Context()); err != nil {
			t.Error(err)
		}
		if len(called[0]) != n {
			t.Errorf("%T: the first call has %d tags of %d", target, len(called[0]), n)
		}
		if _, same := target.(list); same && len(called) != 1+n/2 {
			t.Errorf("%T: %d calls", target, len(called))
		}
	}
}

func TestATargetThatPanicsDoesNotEndTheGroup(t *testing.T) {
	var called [][]string
	var g Group
	g.AddPattern(hostile{}, "*")
	g.AddTags(hostile{}, "t")
	g.AddTags(list{&called}, "t")
	if err := g.InvalidateAll(t.Context()); err == nil || len(called) != 1 || errors.Is(err, context.Canceled) {
		t.Errorf("%v; %d calls", err, len(called))
	}
}
