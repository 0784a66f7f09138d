package local

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/internal/fence"
	"github.com/delqhi/cache/internal/redistest"
)

// model is the tier as one would write it without a thought for speed: lists, from old to
// young, in which everything is searched for. With LRU all is in the first of them.
type model struct {
	lists     [regions][]held
	capacity  int
	moves     map[string]int // of each encoding
	evictions uint64
	tiny      *tinyModel // nil: LRU
}

type held struct {
	k        point
	enc      string
	value    int
	deadline int64
	used     bool
	region   region
	uses     int
	period   int // in which uses was so; 0 when states are compared
}

func (m *model) find(k point) (region, int) {
	for r := range m.lists {
		if i := slices.IndexFunc(m.lists[r], func(h held) bool { return h.k == k }); i >= 0 {
			return region(r), i
		}
	}
	return 0, -1
}

func (m *model) len() int {
	return len(m.lists[window]) + len(m.lists[probation]) + len(m.lists[protected])
}

// all returns what is held, in the order of the lists.
func (m *model) all() []held {
	var all []held
	for _, l := range m.lists {
		for _, h := range l {
			if m.tiny != nil {
				h.uses = halve(h.uses, m.tiny.period-h.period)
			}
			h.period = 0
			all = append(all, h)
		}
	}
	return all
}

func (m *model) get(k point, now int64) (int, bool) {
	r, i := m.find(k)
	if i < 0 || now >= m.lists[r][i].deadline {
		return 0, false
	}
	m.lists[r][i].used = true
	return m.lists[r][i].value, true
}

func (m *model) push(h held, r region) {
	h.region = r
	m.lists[r] = append(m.lists[r], h)
}

// pull removes one of a list and returns it.
func (m *model) pull(r region, i int) held {
	h := m.lists[r][i]
	m.lists[r] = slices.Delete(m.lists[r], i, i+1)
	return h
}

func (m *model) put(h held, now int64) {
	if r, i := m.find(h.k); i >= 0 {
		m.replace(m.pull(r, i), h)
		return
	}
	if m.len() == m.capacity {
		if m.tiny != nil {
			m.evictTiny(now)
		} else {
			m.evict(now)
		}
	}
	if m.tiny != nil {
		m.shrinkWindow(now, m.len()+1, 2)
	}
	m.push(h, window)
	if m.tiny != nil {
		m.come()
	}
}

func (m *model) replace(old, h held) {
	r := old.region
	if m.tiny != nil {
		h.uses, h.period = old.uses, old.period
		m.use(&h)
		if old.used {
			m.use(&h)
		}
		if r == probation {
			r = protected
		}
	}
	m.push(h, r)
}

func (m *model) evict(now int64) {
	for range maxSecondChances {
		oldest := m.lists[window][0]
		if now >= oldest.deadline || !oldest.used {
			break
		}
		oldest.used = false
		m.pull(window, 0)
		m.push(oldest, window)
	}
	if m.pull(window, 0).deadline > now {
		m.evictions++
	}
}

func (m *model) remove(gone func(h held) bool) bool {
	found := false
	for r := range m.lists {
		for i := 0; i < len(m.lists[r]); {
			if !gone(m.lists[r][i]) {
				i++
				continue
			}
			found = true
			if h := m.pull(region(r), i); m.tiny != nil {
				m.leave(h, removed)
			}
		}
	}
	return found
}

// driver plays operations on the tier and on the model, and compares.
type driver struct {
	t      *testing.T
	tier   *Tier[point, int]
	fences *fence.Table
	model  model
	exact  bool // else the model does not know what was evicted
	shared bool // encodings have several keys
	tokens map[call]token
	step   int
}

// call is a reader or a writer under way. There may be two for each encoding.
type call struct {
	enc    string
	second bool
}

// token is a token and how often its key had moved in the model.
type token struct {
	fence.Token
	moves int
}

func newDriver(t *testing.T, p Policy, capacity int, shared bool) *driver {
	decode := func(enc string) (p point, ok bool) {
		_, err := fmt.Sscanf(enc, "%d:%d", &p.X, &p.Y)
		return p, err == nil
	}
	if shared {
		decode = nil
	}
	d := &driver{t: t, shared: shared, tokens: map[call]token{}}
	d.tier, d.fences = tierBy(t, p, capacity, decode)
	// Keys of one encoding are removed in any order, which TinyLFU remembers.
	d.exact = len(d.tier.shards) == 1 && !(p == TinyLFU && shared)
	d.model = model{capacity: capacity, moves: map[string]int{}}
	if !d.exact {
		d.model.capacity = math.MaxInt
	} else if p == TinyLFU {
		d.model.tiny = newTinyModel(d.tier.hash)
	}
	return d
}

func (d *driver) encode(p point) string {
	if d.shared {
		return fmt.Sprintf("k%d", p.X)
	}
	return fmt.Sprintf("%d:%d", p.X, p.Y)
}

// token returns the token that the call took, or a new one.
func (d *driver) token(c call) token {
	if tok, ok := d.tokens[c]; ok {
		return tok
	}
	return token{d.fences.Token(c.enc), d.model.moves[c.enc]}
}

// valid says whether the tier has to take tok. Encodings may share a generation:
// what has not moved by itself may have moved with another, but not the other way
// round.
func (d *driver) valid(enc string, tok token) bool {
	valid := d.fences.Valid(enc, tok.Token)
	if valid && d.model.moves[enc] != tok.moves {
		d.t.Fatalf("step %d: %s has moved, and the token is valid", d.step, enc)
	}
	return valid
}

// do plays one operation of four bytes.
func (d *driver) do(op [4]byte) {
	d.step++
	m, now := &d.model, Now()
	k := point{int(op[1]), int(op[2] % 3)}
	if d.exact {
		k.X %= 8
	} else {
		k.X += 256 * int(op[3]>>4)
	}
	enc := d.encode(k)
	same := func(h held) bool { return h.enc == enc }
	others := func(h held) bool { return h.enc == enc && h.k != k }
	next := held{k: k, enc: enc, value: d.step, deadline: math.MaxInt64}
	if ttl := op[3] % 16; ttl > 7 {
		next.deadline = now + int64(ttl)
	}
	c := call{enc, op[2] > 127}
	tok := d.token(c)
	switch op[0] % 16 {
	case 0, 1, 2: // a reader
		ok := d.valid(enc, tok)
		d.same("Put", d.tier.Put(k, enc, until(next.value, next.deadline), tok.Token), ok)
		if ok {
			m.put(next, now)
		}
		delete(d.tokens, c)
	case 3: // a reader or a writer begins
		d.tokens[c] = tok
	case 4:
		moved := d.fences.Move(enc)
		m.moves[enc]++
		d.tokens[c] = token{moved, m.moves[enc]}
	case 5, 6: // a writer ends
		ok := d.valid(enc, tok)
		d.same("PutMoved", d.tier.PutAndBump(k, enc, until(next.value, next.deadline), tok.Token), ok)
		m.moves[enc]++
		if ok {
			m.put(next, now)
			m.remove(others)
		} else {
			m.remove(same)
			m.remove(func(h held) bool { return h.k == k })
		}
		delete(d.tokens, c)
	case 7:
		ok := d.valid(enc, tok)
		d.same("Swap", d.tier.Swap(k, enc, until(next.value, next.deadline), tok.Token), ok)
		if ok {
			m.moves[enc]++
			m.put(next, now)
			m.remove(others)
		}
	case 8:
		removed := m.remove(same)
		if got := d.tier.Remove(enc); d.exact {
			d.same("Remove", got, removed)
		}
		m.moves[enc]++
	case 9:
		time.Sleep(time.Duration(op[3] % 4))
	case 10:
		if op[3] == 0 {
			d.tier.Flush()
			m.lists = [regions][]held{}
			if m.tiny != nil {
				m.tiny = newTinyModel(d.tier.hash)
			}
			clear(d.tokens) // every key has moved
		}
	default:
		d.get(k, now)
	}
	d.check(op[0] == 11)
}

func (d *driver) same(op string, got, want bool) {
	if got != want {
		d.t.Helper()
		d.t.Fatalf("step %d: %s is %v, want %v", d.step, op, got, want)
	}
}

func (d *driver) get(k point, now int64) {
	e, ok := d.tier.Get(k, now)
	want, has := d.model.get(k, now)
	switch {
	case ok && (!has || e.Value != want):
		d.t.Fatalf("step %d: %v is %d, want %d, %v", d.step, k, e.Value, want, has)
	case !ok && has && d.exact:
		d.t.Fatalf("step %d: %v is gone", d.step, k)
	case !ok && has: // evicted
		d.model.remove(func(h held) bool { return h.k == k })
	}
}

func (d *driver) check(all bool) {
	m := &d.model
	if d.exact && (d.tier.Len() != m.len() || d.tier.Evictions() != m.evictions) {
		d.t.Fatalf("step %d: %d entries and %d evictions, want %d and %d",
			d.step, d.tier.Len(), d.tier.Evictions(), m.len(), m.evictions)
	}
	if !all {
		return
	}
	capacity := 0
	for i := range d.tier.shards {
		s := &d.tier.shards[i]
		if capacity += s.capacity; s.order.len() > s.capacity {
			d.t.Fatalf("step %d: shard %d holds %d of %d", d.step, i, s.order.len(), s.capacity)
		}
	}
	var got []held
	for i := range d.tier.shards {
		o := d.tier.shards[i].order
		for _, n := range o.nodes() {
			h := held{k: n.key, enc: d.encode(n.key), value: n.entry.Value, deadline: n.entry.Deadline, used: marked(d.tier, n), region: n.region}
			if o.policy == TinyLFU {
				h.uses = o.clock.uses(n.frequency)
			}
			got = append(got, h)
		}
		checkOrder(d.t, o)
	}
	if all := m.all(); d.exact && !slices.Equal(got, all) {
		d.t.Fatalf("step %d, from old to young:\n have %v\n want %v", d.step, got, all)
	}
	if m.tiny != nil {
		m.tiny.check(d.t, d.tier.shards[0].order)
	}
	want := map[point]int{}
	for _, h := range m.all() {
		want[h.k] = h.value
	}
	for _, h := range got {
		if v, ok := want[h.k]; !ok || v != h.value {
			d.t.Fatalf("step %d: %v should not be there", d.step, h)
		}
	}
	checkTables(d.t, d.tier)
	if d.shared {
		checkIndex(d.t, d.tier)
	}
}

// nodesOf returns what the shards' lists hold, from old to young.
func nodesOf[K comparable](tr *Tier[K, int]) (all []*node[K, int]) {
	for i := range tr.shards {
		all = append(all, tr.shards[i].order.nodes()...)
	}
	return all
}

// marked reports whether a node has been used.
func marked[K comparable](tr *Tier[K, int], n *node[K, int]) bool {
	h := tr.hash(n.key)
	return tr.shard(h).table.Load().find(h, n).used()
}

// checkTables checks that the shards' tables have exactly what their lists have.
func checkTables[K comparable](t *testing.T, tr *Tier[K, int]) {
	t.Helper()
	for i := range tr.shards {
		s := &tr.shards[i]
		tab := s.table.Load()
		if tab.len != s.order.len() {
			t.Errorf("shard %d: %d in the table, %d in the list", i, tab.len, s.order.len())
		}
		for _, n := range s.order.nodes() {
			if got, _ := tab.get(tr.hash(n.key), n.key); got != n {
				t.Errorf("%v is not in the table", n.key)
			}
		}
		checkTable(t, tab, tr.hash)
	}
}

// checkIndex checks that the index has exactly what the shards have.
func checkIndex[K comparable](t *testing.T, tr *Tier[K, int]) {
	t.Helper()
	indexed := map[K]uint32{}
	n := 0
	for i := range tr.index.parts {
		s := &tr.index.parts[i]
		for h, k := range s.one {
			indexed[k] = h
			n++
		}
		for h, set := range s.many {
			if len(set) == 0 {
				t.Errorf("an empty set is kept")
			}
			for k := range set {
				indexed[k] = h
				n++
			}
		}
	}
	for _, n := range nodesOf(tr) {
		if h, ok := indexed[n.key]; !ok || h != n.encoding {
			t.Errorf("%v is not in the index, or elsewhere", n.key)
		}
	}
	if held := tr.Len(); n != held {
		t.Errorf("%d in the index, %d held", n, held)
	}
}

// play runs data, four bytes an operation, in a bubble in which time passes only
// when an operation says so.
func play(t *testing.T, p Policy, capacity int, shared bool, data []byte) {
	synctest.Test(t, func(t *testing.T) {
		d := newDriver(t, p, capacity, shared)
		for ; len(data) >= 4; data = data[4:] {
			d.do([4]byte(data))
		}
		d.check(true)
		if d.tier.Close(); d.tier.Len() != 0 {
			t.Errorf("%d entries after Close", d.tier.Len())
		}
	})
}

func TestATierDoesWhatTheModelDoes(t *testing.T) {
	for _, c := range []struct{ capacity, steps int }{
		{1, 3000}, {2, 3000}, {5, 6000}, {20, 6000}, {1000, 3000}, {1024, 12_000}, {2049, 12_000},
	} {
		for _, p := range []Policy{LRU, TinyLFU} {
			for _, shared := range []bool{false, true} {
				t.Run(fmt.Sprintf("policy %d, capacity %d, shared encodings %v", p, c.capacity, shared), func(t *testing.T) {
					r := rand.New(rand.NewPCG(uint64(c.capacity), 1))
					data := make([]byte, 4*redistest.Times(c.steps, c.steps))
					for i := range data {
						data[i] = byte(r.Uint32())
					}
					play(t, p, c.capacity, shared, data)
				})
			}
		}
	}
}

func FuzzTier(f *testing.F) { fuzzTier(f, LRU) }

func FuzzTinyLFU(f *testing.F) { fuzzTier(f, TinyLFU) }

func fuzzTier(f *testing.F, p Policy) {
	const put, begin, move, ack, swap, remove, sleep, flush, get = 0, 3, 4, 5, 7, 8, 9, 10, 11
	for capacity := range uint8(3) {
		for _, shared := range []bool{false, true} {
			// A reader that is overtaken; a writer that is not; siblings; what is over.
			f.Add(capacity, shared, []byte{begin, 1, 0, 0, remove, 1, 0, 0, put, 1, 0, 0, get, 1, 0, 0})
			f.Add(capacity, shared, []byte{put, 1, 1, 0, move, 1, 0, 0, ack, 1, 0, 0, get, 1, 1, 0, swap, 1, 1, 0, get, 1, 0, 0})
			f.Add(capacity, shared, []byte{put, 1, 0, 9, get, 1, 0, 0, sleep, 0, 0, 3, put, 2, 0, 0, put, 3, 0, 0, flush, 0, 0, 0, get, 3, 0, 0})
		}
	}
	f.Fuzz(func(t *testing.T, capacity uint8, shared bool, data []byte) {
		play(t, p, 1+int(capacity%40), shared, data[:min(len(data), 4*2000)])
	})
}
