package retryqueue

import (
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
)

const sec = int64(1e9)

// all has everything told that may have been lost.
const all = math.MaxInt64

func told(t *testing.T, r *RecentWrites, now int64, want Replay) {
	t.Helper()
	got := r.Since(now, all)
	if got.Tombstones, got.Pasts = nil, nil; !reflect.DeepEqual(got, want) {
		t.Errorf("at %d: %+v, want %+v", now, got, want)
	}
}

func TestRecentRemembersTheLastOfEachKeyForAWhile(t *testing.T) {
	r := NewRecentWrites()
	told(t, r, 0, Replay{})
	r.Note(Item{Key: "a", At: 1, Token: "t", Numbers: []uint64{1}}, -5*sec, -5*sec)
	r.Note(Item{Key: "b", At: 2}, -4*sec, -4*sec)
	r.Note(Item{Key: "a", At: 3, Token: "u"}, -3*sec, -3*sec)
	r.NoteTombstones([]string{"a", "t"}, nil, nil, -2*sec, -2*sec)
	r.NoteTombstones([]string{"a"}, nil, nil, -1*sec, -1*sec)
	both := []Item{{Key: "b", At: 2, Acked: true, Since: -4 * sec}, {Key: "a", At: 3, Token: "u", Acked: true, Since: -3 * sec}}
	told(t, r, 0, Replay{Items: both, Tags: []string{"t", "a"}})
	told(t, r, 6*sec-1, Replay{Items: both, Tags: []string{"t", "a"}})
	told(t, r, 6*sec, Replay{Items: both[1:], Tags: []string{"t", "a"}})
	told(t, r, 8*sec, Replay{Tags: []string{"a"}})
	told(t, r, 9*sec, Replay{})
	if len(r.notes) != 0 {
		t.Errorf("%d notes are kept", len(r.notes))
	}
}

func TestRecentRemembersThatEverythingWasInvalidated(t *testing.T) {
	r := NewRecentWrites()
	r.NoteTombstones(nil, nil, nil, 0, 0)
	told(t, r, recentFor-1, Replay{All: true})
	told(t, r, recentFor, Replay{})
}

func TestRecentSaysThatItHasForgotten(t *testing.T) {
	r := NewRecentWrites()
	for i := range maxRecent {
		r.Note(Item{Key: fmt.Sprint(i)}, int64(i), int64(i))
	}
	r.Note(Item{Key: "5"}, maxRecent, maxRecent)
	if got := r.Since(maxRecent, all); len(got.Items) != maxRecent {
		t.Errorf("%d items", len(got.Items))
	}
	r.Note(Item{Key: "one more"}, maxRecent, maxRecent)
	got := r.Since(maxRecent, all)
	if len(got.Items) != maxRecent || got.Items[0].Key != "1" {
		t.Errorf("%d items from %q", len(got.Items), got.Items[0].Key)
	}
}

func TestNotingAgainNeedsNoRoom(t *testing.T) {
	r := NewRecentWrites()
	for i := range int64(3 * maxRecent) {
		r.Note(Item{Key: "a", At: i}, i, i)
	}
	told(t, r, 3*maxRecent, Replay{Items: []Item{{Key: "a", At: 3*maxRecent - 1, Acked: true, Since: 3*maxRecent - 1}}})
}

func TestWhatIsTooOldMakesRoomWithoutALoss(t *testing.T) {
	r := NewRecentWrites()
	for i := range maxRecent {
		r.Note(Item{Key: fmt.Sprint(i)}, 0, 0)
	}
	r.Note(Item{Key: "a", Numbers: []uint64{1}}, recentFor, recentFor)
	if n := len(r.notes); n != 1 {
		t.Errorf("%d notes are kept", n)
	}
	told(t, r, recentFor, Replay{Items: []Item{{Key: "a", Acked: true, Since: recentFor}}})
}

// What was sent after that time can't have been lost: the rest is told.
func TestRecentLeavesOutWhatIsSafe(t *testing.T) {
	r := NewRecentWrites()
	r.Note(Item{Key: "a"}, 1, 5)
	r.NoteTombstones([]string{"t"}, nil, nil, 2, 6)
	r.NoteTombstones(nil, nil, nil, 3, 7)
	r.Note(Item{Key: "b"}, 1, 8) // took long
	b := []Item{{Key: "b", Acked: true, Since: 1}}
	for safe, want := range map[int64]Replay{
		0: {},
		1: {Items: []Item{{Key: "a", Acked: true, Since: 1}, b[0]}},
		2: {Items: []Item{{Key: "a", Acked: true, Since: 1}, b[0]}, Tags: []string{"t"}},
		3: {Items: []Item{{Key: "a", Acked: true, Since: 1}, b[0]}, Tags: []string{"t"}, All: true},
	} {
		got := r.Since(10, safe)
		if got.Tombstones, got.Pasts = nil, nil; !reflect.DeepEqual(got, want) {
			t.Errorf("safe after %d: %+v, want %+v", safe, got, want)
		}
	}
	r.Note(Item{Key: "a"}, 9, 10) // is what counts of a
	if got := r.Since(10, 1); !reflect.DeepEqual(got, Replay{Items: b}) {
		t.Errorf("%+v", got)
	}
}

// What was delivered late takes the place of what was requested before it alone.
func TestALateDeliveryLeavesWhatIsLater(t *testing.T) {
	r := NewRecentWrites()
	r.Note(Item{Key: "a", At: 1, Token: "t"}, 1, 2)
	r.NoteLate(Item{Key: "a", At: 5, Token: "u", Numbers: []uint64{1}, Since: 5}, 9, 10)
	late := Item{Key: "a", At: 5, Acked: true, Since: 5}
	told(t, r, recentFor+9, Replay{Items: []Item{late}})
	if got := r.Since(10, 8); len(got.Items) != 0 {
		t.Errorf("what was sent at 9 is told, though only what was sent by 8 can be lost: %+v", got)
	}
	r.Note(Item{Key: "a", At: 12, Token: "v"}, 12, 13)
	r.NoteLate(Item{Key: "a", At: 11, Since: 11}, 14, 15)
	told(t, r, 15, Replay{Items: []Item{{Key: "a", At: 12, Token: "v", Acked: true, Since: 12}}})

	for _, tags := range [][]string{{"t"}, nil} {
		r := NewRecentWrites()
		name := strings.Join(tags, "")
		r.NoteTombstones(tags, nil, nil, 1, 2)
		r.NoteTombstones(tags, []Tombstone{{Epoch: 7}}, []Past{{Since: 5}}, 9, 10)
		if got := r.Since(10, all); got.Pasts[name] != (Past{Since: 5, Acked: true}) || got.Tombstones[name].Epoch != 7 {
			t.Errorf("tags %q: %+v", tags, got)
		}
		r.NoteTombstones(tags, []Tombstone{{Epoch: 8}}, nil, 12, 13)
		r.NoteTombstones(tags, []Tombstone{{Epoch: 9}}, []Past{{Since: 11}}, 14, 15)
		if got := r.Since(15, all); got.Pasts[name] != (Past{Since: 12, Acked: true}) || got.Tombstones[name].Epoch != 8 {
			t.Errorf("tags %q, of which a later one is noted: %+v", tags, got)
		}
	}
}
