package retryqueue

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func TestEverythingIsInvalidatedAsOfItsOwnTime(t *testing.T) {
	early, late := Past{Since: 1, At: 10}, Past{Since: 3}
	for name, add := range map[string]func(*Queue){
		"what is later comes later": func(q *Queue) {
			q.AddAll(nil, early)
			q.Add(Item{Key: "k", Since: 3})
			q.AddTags([]string{"t"}, nil, late)
		},
		"what is later was there": func(q *Queue) {
			q.Add(Item{Key: "k", Since: 3})
			q.AddTags([]string{"t"}, nil, late)
			q.AddAll(nil, early)
		},
		"what is later comes back": func(q *Queue) {
			q.Add(Item{Key: "k", Since: 3})
			q.AddTags([]string{"t"}, nil, late)
			b := q.Take(1)
			q.AddAll(nil, early)
			q.Return(b)
		},
		"everything comes back": func(q *Queue) {
			q.AddAll(nil, early)
			b := q.Take(1)
			q.Add(Item{Key: "k", Since: 3})
			q.AddTags([]string{"t"}, nil, late)
			q.Return(b)
		},
		"it was acknowledged": func(q *Queue) {
			q.AddAll(nil, Past{Since: 5, Acked: true})
			q.Add(Item{Key: "k", Since: 3})
			q.AddTags([]string{"t"}, nil, late)
		},
	} {
		q := NewQueue(10)
		if add(q); q.Len() != 3 {
			t.Errorf("%s: %d are to be told", name, q.Len())
		}
		b := q.Take(1)
		if p := b.Past; !b.All || p != early && !p.Acked || p.Acked && p.Since != 5 {
			t.Errorf("%s: everything, of %+v", name, p)
		}
		if len(b.Items) != 1 || b.Items[0].Since != 3 || !slices.Equal(b.Tags, []string{"t"}) || b.Pasts[0] != late {
			t.Errorf("%s: %+v", name, b)
		}
		// What fails of it goes back alone.
		q.Settle(Batch{Items: b.Items})
		q.Return(Batch{Tags: b.Tags, Numbers: b.Numbers})
		if q.All() || !q.HasTag("t") || q.Len() != 1 {
			t.Errorf("%s: everything is told again", name)
		}
	}
}

// Whatever was added, and comes back, is told as of its own time; only what replaces too much
// of it is of a later one.
func TestWhatIsToldIsNotOfALaterTime(t *testing.T) {
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 7))
		q := NewQueue(1000)
		last := map[string]int64{} // when each was called for last
		var out []Batch
		for now := range int64(400) {
			name := string(rune('a' + r.IntN(4)))
			past := Past{Since: now - int64(r.IntN(3))}
			subject := ""
			switch r.IntN(8) {
			case 0:
				q.AddAll(nil, past)
			case 1, 2:
				subject = "#" + name
				q.AddTags([]string{name}, nil, past)
			case 3, 4:
				subject = name
				q.Add(Item{Key: name, Since: past.Since})
			case 5, 6:
				if b := q.Take(r.IntN(3)); !b.Empty() {
					out = append(out, b)
				}
				continue
			default:
				if len(out) == 0 {
					continue
				}
				i := r.IntN(len(out))
				b := out[i]
				if out = slices.Delete(out, i, i+1); r.IntN(2) == 0 {
					q.Return(b)
				} else {
					q.Settle(b)
				}
				continue
			}
			last[subject] = max(last[subject], past.Since)
		}
		for _, b := range out {
			q.Return(b)
		}
		b := q.Take(10)
		for _, it := range b.Items {
			if it.Since > last[it.Key] {
				t.Errorf("seed %d: %q as of %d, not %d", seed, it.Key, it.Since, last[it.Key])
			}
		}
		for i, tag := range b.Tags {
			if at := b.Pasts[i].Since; at > last["#"+tag] {
				t.Errorf("seed %d: tag %q as of %d, not %d", seed, tag, at, last["#"+tag])
			}
		}
		if b.All && b.Past.Since > last[""] {
			t.Errorf("seed %d: everything as of %d, not %d", seed, b.Past.Since, last[""])
		}
	}
}

// What is left of everything, where it was delivered in part, was dated by the clock of another node.
func TestWhatIsLeftOfEverythingHasNoDate(t *testing.T) {
	q := NewQueue(10)
	q.AddAll(nil, Past{Since: 5, At: 7})
	q.Take(1)
	q.Return(Batch{Tags: []string{"part"}})
	if b := q.Take(1); b.All || len(b.Pasts) != 1 || b.Pasts[0] != (Past{Since: 5}) {
		t.Errorf("%+v", b)
	}
}

// A key that is added again is invalidated as of the later of both times.
func TestTheLaterTimeOfAKeyCounts(t *testing.T) {
	for _, c := range []struct{ first, second, want Item }{
		{Item{At: 5, Since: 50}, Item{At: 7, Since: 70}, Item{At: 7, Since: 70}},
		{Item{At: 7, Since: 50}, Item{At: 5, Since: 70}, Item{At: 7, Since: 70}},
		{Item{At: 7, Since: 70}, Item{At: 8, Since: 60}, Item{At: 8, Since: 70}},
		{Item{At: 0, Since: 70}, Item{At: 8, Since: 60}, Item{At: 0, Since: 70}},
		{Item{At: 8, Since: 70}, Item{At: 0, Since: 60}, Item{At: 0, Since: 70}},
	} {
		q := NewQueue(10)
		c.first.Key, c.second.Key = "k", "k"
		q.Add(c.first)
		q.Add(c.second)
		if it, ok := q.Find("k"); !ok || it.At != c.want.At || it.Since != c.want.Since {
			t.Errorf("%+v and %+v: %+v", c.first, c.second, it)
		}
	}
}
