package invalidate_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/delqhi/cache/invalidate"
)

// fake records what it is asked to invalidate.
type fake struct {
	name string
	fail error

	mu    sync.Mutex
	calls []string
}

func (f *fake) Name() string { return f.name }

func (f *fake) InvalidatePattern(ctx context.Context, pattern string) (int64, error) {
	return 1, f.record(ctx, "pattern "+pattern)
}

func (f *fake) InvalidateTags(ctx context.Context, tags ...string) error {
	defer clear(tags) // a target may do with them as it likes
	return f.record(ctx, "tags "+strings.Join(tags, ","))
}

func (f *fake) record(ctx context.Context, call string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, call)
	return errors.Join(ctx.Err(), f.fail)
}

func (f *fake) took() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	calls := f.calls
	f.calls = nil
	return calls
}

// loose is a target of a type that can't be compared.
type loose struct {
	*fake
	_ []string
}

func check(t *testing.T, f *fake, want ...string) {
	t.Helper()
	if got := f.took(); !slices.Equal(got, want) {
		t.Errorf("%s was asked for %q, want %q", f.name, got, want)
	}
}

func TestAnEmptyGroupInvalidatesNothing(t *testing.T) {
	var g invalidate.Group
	users := &fake{name: "users"}
	g.AddTags(users)
	if err := g.InvalidateAll(t.Context()); err != nil {
		t.Error(err)
	}
	check(t, users)
}

func TestAGroupRunsEverythingInOrderAndAgain(t *testing.T) {
	var g invalidate.Group
	users, orders := &fake{name: "users"}, &fake{name: "orders"}
	g.AddPattern(users, "a*")
	g.AddTags(orders, "x")
	g.AddPattern(users, "")
	g.AddPattern(orders, "a*")
	for range 2 {
		if err := g.InvalidateAll(t.Context()); err != nil {
			t.Error(err)
		}
		check(t, users, "pattern a*", "pattern ")
		check(t, orders, "tags x", "pattern a*")
	}
	g.AddPattern(users, "b")
	if err := g.InvalidateAll(t.Context()); err != nil {
		t.Error(err)
	}
	check(t, users, "pattern a*", "pattern ", "pattern b")
}

func TestDuplicatesRunOnce(t *testing.T) {
	var g invalidate.Group
	users, orders := &fake{name: "same"}, &fake{name: "same"}
	for range 2 {
		g.AddPattern(users, "p")
		g.AddTags(users, "a")
		g.AddTags(users, "a", "b", "b")
		g.AddTags(users, "c", "a")
	}
	g.AddPattern(orders, "p")
	g.AddTags(orders, "a")
	if err := g.InvalidateAll(t.Context()); err != nil {
		t.Error(err)
	}
	check(t, users, "pattern p", "tags a,b,c")
	check(t, orders, "pattern p", "tags a") // of the same name, but not the same
}

func TestTheTagsThatWereAddedAreNotTheCallersToChange(t *testing.T) {
	var g invalidate.Group
	users := &fake{name: "users"}
	tags := []string{"a", "b"}
	g.AddTags(users, tags...)
	tags[0] = "changed"
	for range 2 {
		if err := g.InvalidateAll(t.Context()); err != nil {
			t.Error(err)
		}
		check(t, users, "tags a,b")
	}
}

func TestAFailureDoesNotStopTheRest(t *testing.T) {
	var g invalidate.Group
	down, gone := errors.New("down"), errors.New("gone")
	users, orders, rest := &fake{name: "users", fail: down}, &fake{name: "orders", fail: gone}, &fake{name: "rest"}
	g.AddPattern(users, "u:*")
	g.AddTags(orders, "paid", "open")
	g.AddPattern(rest, "r:*")
	err := g.InvalidateAll(t.Context())
	if !errors.Is(err, down) || !errors.Is(err, gone) {
		t.Fatalf("%v does not wrap both failures", err)
	}
	for _, part := range []string{`"users"`, `"u:*"`, `"orders"`, `"paid"`, `"open"`} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%v does not name %s", err, part)
		}
	}
	if strings.Contains(err.Error(), "rest") {
		t.Errorf("%v names what did not fail", err)
	}
	check(t, rest, "pattern r:*")

	users.fail, orders.fail = nil, nil
	if err := g.InvalidateAll(t.Context()); err != nil {
		t.Errorf("after the failures are gone: %v", err)
	}
}

func TestANilTargetIsAnErrorAndNotAPanic(t *testing.T) {
	var g invalidate.Group
	var typed *fake
	users := &fake{name: "users"}
	g.AddPattern(nil, "p1")
	g.AddTags(nil, "t1")
	g.AddPattern(typed, "p2")
	g.AddTags(typed, "t2")
	g.AddPattern(users, "p")
	err := g.InvalidateAll(t.Context())
	for _, part := range []string{"p1", "t1", "p2", "t2", "nil"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%v does not name %s", err, part)
		}
	}
	check(t, users, "pattern p")
}

func TestTargetsThatCannotBeComparedAreAccepted(t *testing.T) {
	var g invalidate.Group
	f := &fake{name: "loose"}
	for range 2 {
		g.AddPattern(loose{fake: f}, "p")
		g.AddTags(loose{fake: f}, "t")
	}
	if err := g.InvalidateAll(t.Context()); err != nil {
		t.Error(err)
	}
	check(t, f, "pattern p", "tags t", "pattern p", "tags t")
}

func TestTheContextReachesTheTargets(t *testing.T) {
	var g invalidate.Group
	users := &fake{name: "users"}
	g.AddPattern(users, "p")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := g.InvalidateAll(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// adding is a target that uses its own group, which deadlocks if the group calls
// it under its lock.
type adding struct {
	*fake
	group *invalidate.Group
}

func (a adding) InvalidatePattern(ctx context.Context, pattern string) (int64, error) {
	a.group.AddPattern(a, pattern+"+")
	return a.fake.InvalidatePattern(ctx, pattern)
}

func TestATargetMayUseItsGroup(t *testing.T) {
	var g invalidate.Group
	a := adding{&fake{name: "adding"}, &g}
	g.AddPattern(a, "p")
	if err := g.InvalidateAll(t.Context()); err != nil {
		t.Error(err)
	}
	check(t, a.fake, "pattern p") // what was added waits for the next call
	if err := g.InvalidateAll(t.Context()); err != nil {
		t.Error(err)
	}
	check(t, a.fake, "pattern p", "pattern p+")
}

func TestAGroupIsSafeForConcurrentUse(t *testing.T) {
	var g invalidate.Group
	f := &fake{name: "users"}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 50 {
				g.AddPattern(f, fmt.Sprint("p", n))
				g.AddTags(f, fmt.Sprint("t", n))
				if i%4 == 0 {
					if err := g.InvalidateAll(t.Context()); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	f.took()
	if err := g.InvalidateAll(t.Context()); err != nil {
		t.Error(err)
	}
	calls := f.took()
	if len(calls) != 51 { // 50 patterns, and the tags in one call
		t.Errorf("%d calls: %q", len(calls), calls)
	}
	for _, call := range calls {
		if tags, ok := strings.CutPrefix(call, "tags "); ok && strings.Count(tags, ",") != 49 {
			t.Errorf("the tags are %s", tags)
		}
	}
}
