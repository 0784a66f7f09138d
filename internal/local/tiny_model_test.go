package local

import (
	"slices"
	"testing"
)

// tinyModel is what the model needs besides for TinyLFU.
type tinyModel struct {
	hash           func(point) uint64
	share          float64
	period, counts int
	full           bool         // for the first time
	gone           [][]departed // buckets, from young to old
	numbers        map[departure]int
}

// departed is an item of the history. The key is represented by its tag.
type departed struct {
	tag          item
	how          departure
	uses, period int
}

func newTinyModel(hash func(point) uint64) *tinyModel {
	return &tinyModel{hash: hash, share: initialShare, numbers: map[departure]int{}}
}

func halve(uses, periods int) int {
	for range min(periods, 10) {
		uses /= 2
	}
	return uses
}

func (m *tinyModel) count(nodes int) {
	if m.counts++; m.counts >= perPeriod*max(nodes, 1) {
		m.counts = 0
		m.period++
	}
}

func (m *tinyModel) bucket(k point) *[]departed {
	return &m.gone[m.hash(k)>>32*uint64(len(m.gone))>>32]
}

func (m *model) use(h *held) {
	t := m.tiny
	t.count(m.len())
	h.uses, h.period = min(halve(h.uses, t.period-h.period)+1, maxUses), t.period
}

// leave records that h has left, and has been taken out of its list.
func (m *model) leave(h held, how departure) {
	t := m.tiny
	if !t.full {
		return
	}
	if h.used {
		m.use(&h)
	}
	b := t.bucket(h.k)
	*b = slices.Insert(*b, 0, departed{itemTag(t.hash(h.k)), how, h.uses, h.period})
	t.numbers[how]++
	if len(*b) > 16 {
		t.numbers[(*b)[16].how]--
		*b = (*b)[:16]
	}
}

// come says of the newest in the window what the history knows of it.
func (m *model) come() {
	t, nodes := m.tiny, m.len()
	h := &m.lists[window][len(m.lists[window])-1]
	t.count(nodes)
	h.uses, h.period = 1, t.period
	if !t.full {
		return
	}
	b := t.bucket(h.k)
	i := slices.IndexFunc(*b, func(d departed) bool { return d.tag == itemTag(t.hash(h.k)) })
	if i < 0 {
		return
	}
	d := (*b)[i]
	*b = slices.Delete(*b, i, i+1)
	t.numbers[d.how]--
	h.uses = min(halve(d.uses, (t.period-d.period)%32)+1, maxUses)
	if i >= 2 {
		return
	}
	more, fewer := float64(t.numbers[displaced]+1), float64(t.numbers[refused]+1)
	switch d.how {
	case refused:
		t.share = min(t.share+min(shareStep*min(max(more/fewer, 1), 4)/float64(nodes), 0.004), 0.95)
	case displaced:
		t.share = max(t.share-shareStep*min(max(fewer/more, 1), 4)/float64(nodes), 0)
	}
}

func (m *model) room(n int) (inWindow, inProtected int) {
	inWindow = max(int(m.tiny.share*float64(n)), 1)
	return inWindow, int(0.8 * float64(n-inWindow))
}

// examine looks at the oldest of a list: it returns true if it is over, and otherwise gives it
// the second chance that it may have, or moves it to the other region.
func (m *model) examine(r region, now int64, ifUsed, otherwise region) (over, used bool) {
	h := m.lists[r][0]
	if now >= h.deadline {
		return true, false
	}
	if !h.used && otherwise == r {
		return false, false
	}
	m.pull(r, 0)
	if h.used {
		h.used = false
		m.lists[r] = slices.Insert(m.lists[r], 0, h) // while it is counted, it is held
		m.use(&h)
		m.pull(r, 0)
		m.push(h, ifUsed)
		return false, true
	}
	m.push(h, otherwise)
	return false, false
}

// shrinkWindow returns the key of the last that was moved to probation. There will be so many
// nodes when one has been added.
func (m *model) shrinkWindow(now int64, nodes, most int) (last *point, over bool) {
	for range most {
		room, _ := m.room(nodes)
		if len(m.lists[window]) < room || len(m.lists[window]) == 0 {
			return last, false
		}
		k := m.lists[window][0].k
		over, used := m.examine(window, now, window, probation)
		if over {
			return last, true
		}
		if !used {
			last = &k
		}
	}
	return last, false
}

func (m *model) evictTiny(now int64) {
	t := m.tiny
	if !t.full {
		t.full, t.gone = true, make([][]departed, (m.len()+3)/4)
	}
	expel := func(r region, i int, how departure) {
		h := m.pull(r, i)
		m.leave(h, how)
		if now < h.deadline {
			m.evictions++
		}
	}
	last, over := m.shrinkWindow(now, m.len(), maxSecondChances)
	if over {
		expel(window, 0, removed)
		return
	}
	for range maxSecondChances {
		if _, room := m.room(m.len()); len(m.lists[protected]) <= room {
			break
		}
		if over, _ := m.examine(protected, now, protected, probation); over {
			expel(protected, 0, removed)
			return
		}
	}
	for range maxSecondChances {
		if len(m.lists[probation]) == 0 {
			break
		}
		over, used := m.examine(probation, now, protected, probation)
		if over {
			expel(probation, 0, removed)
			return
		}
		if !used {
			break
		}
	}
	switch {
	case len(m.lists[probation]) > 0:
		victim := m.lists[probation][0]
		if last == nil || *last == victim.k {
			how := displaced
			if last != nil {
				how = refused
			}
			expel(probation, 0, how)
			return
		}
		r, i := m.find(*last)
		candidate := m.lists[r][i]
		if r == probation && halve(candidate.uses, t.period-candidate.period) <= halve(victim.uses, t.period-victim.period) {
			expel(probation, i, refused)
			return
		}
		expel(probation, 0, displaced)
	case len(m.lists[protected]) > 0:
		expel(protected, 0, displaced)
	default:
		expel(window, 0, refused)
	}
}

// check compares what the order knows of keys that have left.
func (m *tinyModel) check(t *testing.T, o *order[point, int]) {
	t.Helper()
	if o.share != m.share || o.clock.counts != m.counts || int(o.clock.period) != m.period {
		t.Fatalf("share %v, %d counts in period %d; want %v, %d, %d", o.share, o.clock.counts, o.clock.period, m.share, m.counts, m.period)
	}
	if len(o.history.buckets) != len(m.gone) {
		t.Fatalf("%d buckets, want %d", len(o.history.buckets), len(m.gone))
	}
	for i, b := range o.history.buckets {
		var got, want []departed
		for _, it := range b {
			if it != 0 {
				got = append(got, departed{it >> tagShift << tagShift, it.departure(), it.uses(&o.clock), 0})
			}
		}
		for _, d := range m.gone[i] {
			want = append(want, departed{d.tag, d.how, halve(d.uses, (m.period-d.period)%32), 0})
		}
		if !slices.Equal(got, want) {
			t.Fatalf("bucket %d of the history, from young to old:\n have %v\n want %v", i, got, want)
		}
	}
	for how, n := range o.history.numbers {
		if n != m.numbers[departure(how)] {
			t.Fatalf("%d have left by %d, want %d", n, how, m.numbers[departure(how)])
		}
	}
}

// checkOrder checks that the lists of an order are well linked.
func checkOrder[K comparable](t *testing.T, o *order[K, int]) {
	t.Helper()
	for r := range o.lists {
		l, n := &o.lists[r], 0
		var last *node[K, int]
		for e := l.oldest; e != nil; e = e.younger {
			if e.older != last || e.region != region(r) {
				t.Errorf("%v is in list %d: region %d, linked back to the one before: %v", e.key, r, e.region, e.older == last)
			}
			last = e
			n++
		}
		if l.youngest != last || l.len != n {
			t.Errorf("list %d has %d nodes and says %d, or does not end where it says", r, n, l.len)
		}
	}
	if o.share < 0 || o.share > maxShare {
		t.Errorf("the window's share is %v", o.share)
	}
}
