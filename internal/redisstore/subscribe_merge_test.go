package redisstore

import (
	"slices"
	"testing"
	"time"

	"github.com/delqhi/cache/internal/store"
)

// calledSink notes its calls.
type calledSink struct {
	calls []string
	sent  []time.Time
}

func (s *calledSink) Subscribed()            { s.calls = append(s.calls, "subscribed") }
func (s *calledSink) Message(payload string) { s.calls = append(s.calls, payload) }
func (s *calledSink) KeysChanged([]string)   { s.calls = append(s.calls, "changed") }
func (s *calledSink) Heartbeat(at time.Time) { s.sent = append(s.sent, at) }
func (s *calledSink) Watch() []string        { return []string{"watched"} }
func (s *calledSink) Watched([]store.Record) { s.calls = append(s.calls, "looked") }

// What two nodes report is what one would: from when both are subscribed, and what both have confirmed.
func TestMergedNodesAreAsOne(t *testing.T) {
	sink := &calledSink{}
	sinks := merge(sink, 2)
	a, b := sinks[0].(*mergedNode), sinks[1].(*mergedNode)
	rounds := 0
	for _, n := range []*mergedNode{a, b} {
		n.of.again = append(n.of.again, func() { rounds++ })
	}
	a.Subscribed()
	a.Message("early")
	a.KeysChanged([]string{"k"})
	a.Heartbeat(time.Now())
	if len(sink.calls)+len(sink.sent)+rounds > 0 || a.Watch() != nil {
		t.Errorf("with one node: %q, %v, %d rounds", sink.calls, sink.sent, rounds)
	}
	before := time.Now()
	b.Subscribed()
	if rounds != 2 {
		t.Errorf("%d rounds begin when all are subscribed", rounds)
	}
	at := func(n int) time.Time { return a.of.since.Add(time.Duration(n) * time.Second) }
	b.Heartbeat(before.Add(-time.Second))
	b.Heartbeat(at(2))
	if len(sink.sent) > 0 {
		t.Errorf("a heartbeat of one node counts for both: %v", sink.sent)
	}
	a.Heartbeat(at(1))
	a.Heartbeat(at(3))
	b.Heartbeat(at(4))
	if want := []time.Time{at(1), at(2), at(3)}; !slices.Equal(sink.sent, want) {
		t.Errorf("heartbeats of %v, not of %v", sink.sent, want)
	}
	a.Message("1")
	b.Message("2")
	b.KeysChanged(nil)
	if a.Watch() == nil || b.Watch() != nil {
		t.Error("not one of them watches")
	}
	a.Watched(nil)
	if want := []string{"subscribed", "1", "2", "changed", "looked"}; !slices.Equal(sink.calls, want) {
		t.Errorf("%q", sink.calls)
	}
}
