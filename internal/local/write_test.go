package local

import (
	"math"
	"strings"
	"testing"

	"github.com/delqhi/cache/internal/fence"
)

// alone returns a tier without a Redis behind it, of keys whose case does not matter.
func alone(t *testing.T, bytes int64) (*Tier[string, int], *fence.Table) {
	t.Helper()
	return aloneBy(t, LRU, bytes)
}

func aloneBy(t *testing.T, p Policy, bytes int64) (*Tier[string, int], *fence.Table) {
	t.Helper()
	f := fence.NewTable().WithClaims()
	tr, err := New[string, int](Config[string]{Capacity: 10, Bytes: bytes, Policy: p, Fences: f})
	if err != nil {
		t.Fatal(err)
	}
	return tr, f
}

func sized(v int, size int64) *Entry[int] {
	return &Entry[int]{Head: Head{Deadline: math.MaxInt64, Meta: &Meta{Size: size}}, Value: v}
}

// The writes of a tier without a Redis: each takes effect, moves the key and takes away what
// is claimed of it, or changes nothing.
func TestWritesWithoutRedisTakeEffectOrChangeNothing(t *testing.T) {
	const key = "K"
	enc := strings.ToLower(key)
	old, now := entry(1), entry(2)
	for name, tt := range map[string]struct {
		there *Entry[int]
		write func(tr *Tier[string, int], f *fence.Table, is *Entry[int]) Outcome
		want  Outcome
		value int // that is there afterwards; 0: none
		other bool
	}{
		"Set over nothing": {nil, func(tr *Tier[string, int], _ *fence.Table, _ *Entry[int]) Outcome {
			return tr.Set(key, enc, now, Now())
		}, Stored, 2, false},
		"Set over a value": {old, func(tr *Tier[string, int], _ *fence.Table, _ *Entry[int]) Outcome {
			return tr.Set(key, enc, now, Now())
		}, Stored, 2, false},
		"Set of what does not fit": {old, func(tr *Tier[string, int], _ *fence.Table, _ *Entry[int]) Outcome {
			return tr.Set(key, enc, sized(2, 1<<40), Now())
		}, NoRoom, 0, false},
		"swap of what is there": {old, func(tr *Tier[string, int], _ *fence.Table, is *Entry[int]) Outcome {
			return tr.CompareAndSwap(key, enc, &is.Head, now)
		}, Stored, 2, false},
		"swap that does not fit": {old, func(tr *Tier[string, int], _ *fence.Table, is *Entry[int]) Outcome {
			return tr.CompareAndSwap(key, enc, &is.Head, sized(2, 1<<40))
		}, NoRoom, 0, false},
		"swap of nothing": {nil, func(tr *Tier[string, int], _ *fence.Table, is *Entry[int]) Outcome {
			return tr.CompareAndSwap(key, enc, nil, now)
		}, Stored, 2, false},
		"swap of what was there": {old, func(tr *Tier[string, int], _ *fence.Table, _ *Entry[int]) Outcome {
			return tr.CompareAndSwap(key, enc, &entry(1).Head, now)
		}, Refused, 1, true},
		"swap of nothing, late": {old, func(tr *Tier[string, int], _ *fence.Table, _ *Entry[int]) Outcome {
			return tr.CompareAndSwap(key, enc, nil, now)
		}, Refused, 1, true},
		"removal of what is there": {old, func(tr *Tier[string, int], _ *fence.Table, is *Entry[int]) Outcome {
			return tr.CompareAndSwap(key, enc, &is.Head, nil)
		}, Stored, 0, true},
		"removal of what was there": {old, func(tr *Tier[string, int], _ *fence.Table, _ *Entry[int]) Outcome {
			return tr.CompareAndSwap(key, enc, &entry(1).Head, nil)
		}, Refused, 1, true},
		"fill": {old, func(tr *Tier[string, int], f *fence.Table, _ *Entry[int]) Outcome {
			c, _ := f.ClaimLoad(enc, 1, true, nil)
			return tr.Fill(key, enc, now, c, Now())
		}, Stored, 2, false},
		"fill that does not fit": {old, func(tr *Tier[string, int], f *fence.Table, _ *Entry[int]) Outcome {
			c, _ := f.ClaimLoad(enc, 1, true, nil)
			return tr.Fill(key, enc, sized(2, 1<<40), c, Now())
		}, NoRoom, 0, false},
		"fill of what was lost": {old, func(tr *Tier[string, int], f *fence.Table, _ *Entry[int]) Outcome {
			c, _ := f.ClaimLoad(enc, 1, true, nil)
			f.Move(enc)
			return tr.Fill(key, enc, now, c, Now())
		}, Refused, 1, true},
	} {
		t.Run(name, func(t *testing.T) {
			tr, f := alone(t, 1<<20)
			if tt.there != nil {
				tr.Set(key, enc, tt.there, Now())
			}
			is, _ := tr.Peek(key)
			other := "k" // another key of the encoding
			tr.Put(other, enc, entry(7), f.Token(enc))
			claim, _ := f.ClaimLoad(enc, 0, true, nil)
			tok := f.Token(enc)
			evicted := tr.Evictions()
			if got := tt.write(tr, f, is); got != tt.want {
				t.Errorf("%v, want %v", got, tt.want)
			}
			e, ok := tr.Peek(key)
			if ok != (tt.value != 0) || ok && e.Value != tt.value {
				t.Errorf("%+v is there", e)
			}
			if _, ok := tr.Peek(other); ok != tt.other {
				t.Errorf("another key of the encoding is there: %v", ok)
			}
			done := tt.want != Refused
			if f.Valid(enc, tok) == done && !strings.Contains(name, "lost") {
				t.Errorf("the key has moved: %v", !done)
			}
			if claim.Lost() != done && !strings.Contains(name, "lost") {
				t.Errorf("what was claimed is lost: %v", claim.Lost())
			}
			if n := tr.Evictions() - evicted; (n > 0) != (tt.want == NoRoom) {
				t.Errorf("%d have left for want of room", n)
			}
			tr.Remove(enc)
			if tr.Len() != 0 {
				t.Errorf("%d entries are there when the encoding is removed", tr.Len())
			}
			for i := range tr.index.parts {
				if p := &tr.index.parts[i]; len(p.one)+len(p.many) > 0 {
					t.Error("the index knows a key that is not there")
				}
			}
			tr.Close()
			if tr.Set(key, enc, now, Now()) != Closed || tr.CompareAndSwap(key, enc, nil, now) != Closed || tr.CompareAndSwap(key, enc, nil, nil) != Closed || has(tr, key) {
				t.Error("a closed tier takes it")
			}
		})
	}
}

// What is replaced where bytes are counted is the last to make room for what replaces it.
func TestWhatIsReplacedMakesRoomLast(t *testing.T) {
	tr, _ := alone(t, 100)
	tr.Set("a", "a", sized(1, 40), Now())
	tr.Set("b", "b", sized(2, 30), Now())
	tr.Set("c", "c", sized(3, 30), Now())
	before, _ := tr.Peek("a")
	if out := tr.CompareAndSwap("a", "a", &before.Head, sized(4, 60)); out != Stored {
		t.Fatal(out)
	}
	if e, ok := tr.Peek("a"); !ok || e.Value != 4 {
		t.Errorf("%+v, %v", e, ok)
	}
	if has(tr, "b") || !has(tr, "c") {
		t.Errorf("b is there %v, c %v", has(tr, "b"), has(tr, "c"))
	}
	if out := tr.Set("a", "a", sized(5, 100), Now()); out != Stored || tr.Len() != 1 {
		t.Errorf("%v, %d entries", out, tr.Len())
	}
	if out := tr.Set("e", "e", sized(6, 50), Now()); out != Stored || has(tr, "a") || !has(tr, "e") {
		t.Errorf("%v: a is there %v, e %v", out, has(tr, "a"), has(tr, "e"))
	}
	for _, k := range []string{"a", "b", "c", "e"} {
		tr.Remove(k)
	}
	if out := tr.Set("d", "d", sized(6, 100), Now()); out != Stored || !has(tr, "d") {
		t.Error("bytes of what has left are counted")
	}
}
