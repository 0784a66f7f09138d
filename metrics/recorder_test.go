package metrics

import (
	"context"
	"fmt"
	"slices"
	"testing"
)

// logger adds the events that it records to a list that others share.
type logger struct {
	name string
	log  *[]string
}

type loggerKey struct{}

func (l logger) add(what string) { *l.log = append(*l.log, l.name+" "+what) }

func (l logger) StartLoad(ctx context.Context, e LoadEvent) (context.Context, func(LoadResult)) {
	outer, _ := ctx.Value(loggerKey{}).(string)
	l.add("start " + e.Cache + " in " + outer)
	return context.WithValue(ctx, loggerKey{}, outer+l.name), func(r LoadResult) { l.add("end " + r.Outcome.String()) }
}

func (l logger) RemoteOperation(_ context.Context, e RemoteEvent) { l.add("remote " + e.Op) }

func (l logger) StateChange(e StateEvent) { l.add(fmt.Sprint(e.Part, " ", e.State)) }

// nothing returns the nils that the contract allows.
type nothing struct{ Discard }

func (nothing) StartLoad(context.Context, LoadEvent) (context.Context, func(LoadResult)) {
	return nil, nil
}

func TestFanoutTellsEachAndNestsLoads(t *testing.T) {
	var log []string
	r := Fanout(nil, logger{"a", &log}, nothing{}, Discard{}, logger{"b", &log})
	ctx, end := r.StartLoad(t.Context(), LoadEvent{Cache: "users"})
	if got := ctx.Value(loggerKey{}); got != "ab" {
		t.Errorf("the context went through %q, want a and b", got)
	}
	r.RemoteOperation(ctx, RemoteEvent{Op: "get"})
	r.StateChange(StateEvent{Part: Listener, State: Up})
	end(LoadResult{Outcome: Failed})
	want := []string{
		"a start users in ", "b start users in a",
		"a remote get", "b remote get",
		"a listener up", "b listener up",
		"b end failed", "a end failed",
	}
	if !slices.Equal(log, want) {
		t.Errorf("got  %q\nwant %q", log, want)
	}
}

// refreshing is a logger that records refreshes as well.
type refreshing struct{ logger }

func (r refreshing) StartRefresh(ctx, caller context.Context, e RefreshEvent) (context.Context, func(Outcome)) {
	outer, _ := ctx.Value(loggerKey{}).(string)
	r.add(fmt.Sprint("refresh ", e.Cache, " for ", caller.Value(loggerKey{}), " in ", outer))
	return context.WithValue(ctx, loggerKey{}, outer+r.name), func(o Outcome) { r.add("refreshed " + o.String()) }
}

// nil comes back from its StartRefresh.
type nilRefreshing struct{ Discard }

func (nilRefreshing) StartRefresh(_, _ context.Context, _ RefreshEvent) (context.Context, func(Outcome)) {
	return nil, nil
}

func TestFanoutForwardsRefreshesToEachRecorder(t *testing.T) {
	var log []string
	r := Fanout(refreshing{logger{"a", &log}}, logger{"b", &log}, nilRefreshing{}, refreshing{logger{"c", &log}}).(RefreshRecorder)
	caller := context.WithValue(t.Context(), loggerKey{}, "reader")
	ctx, end := r.StartRefresh(t.Context(), caller, RefreshEvent{Cache: "users"})
	if got := ctx.Value(loggerKey{}); got != "ac" {
		t.Errorf("the context went through %q, want a and c", got)
	}
	end(Refused)
	want := []string{
		"a refresh users for reader in ", "c refresh users for reader in a",
		"c refreshed refused", "a refreshed refused",
	}
	if !slices.Equal(log, want) {
		t.Errorf("got  %q\nwant %q", log, want)
	}
	ctx, end = Fanout(logger{"b", &log}).(RefreshRecorder).StartRefresh(t.Context(), caller, RefreshEvent{})
	if ctx != t.Context() || end == nil {
		t.Errorf("of none: %v, %t", ctx, end == nil)
	}
	end(Succeeded)
}

func TestFanoutNeverReturnsNil(t *testing.T) {
	for _, r := range []Recorder{Fanout(), Fanout(nil, Discard{}), Fanout(nothing{}), Fanout(nothing{}, nothing{})} {
		ctx, end := r.StartLoad(t.Context(), LoadEvent{})
		if ctx != t.Context() || end == nil {
			t.Errorf("%T returned %v and %t", r, ctx, end == nil)
			continue
		}
		end(LoadResult{})
	}
	if Fanout(nil) != Recorder(Discard{}) {
		t.Error("a Fanout of none is not Discard")
	}
}

func TestDiscardAllocatesNothing(t *testing.T) {
	var r Recorder = Discard{}
	ctx := t.Context()
	if n := testing.AllocsPerRun(100, func() {
		_, end := r.StartLoad(ctx, LoadEvent{})
		r.RemoteOperation(ctx, RemoteEvent{})
		r.StateChange(StateEvent{})
		end(LoadResult{})
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
