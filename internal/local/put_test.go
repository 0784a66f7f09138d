package local

import (
	"math"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/delqhi/cache/internal/fence"
)

func TestAPutWithAnOldTokenNeverLands(t *testing.T) {
	tr, f := tier(t, 10, whole)
	moves := map[string]func(){
		"Remove": func() { tr.Remove("k") }, "Flush": tr.Flush, "Move": func() { f.Move("k") },
		"PutMoved": func() { tr.PutAndBump("k", "k", entry(2), f.Move("k")) },
		"Swap":     func() { tr.Swap("k", "k", entry(2), f.Token("k")) },
	}
	for name, move := range moves {
		old := f.Token("k")
		move()
		if tr.Put("k", "k", entry(1), old) {
			t.Errorf("after %s a put with a token from before lands", name)
		}
		if tr.Swap("k", "k", entry(1), old) {
			t.Errorf("after %s a swap with a token from before lands", name)
		}
		if e, ok := tr.Get("k", Now()); ok && e.Value == 1 {
			t.Errorf("after %s the old value is there", name)
		}
	}
}

func TestARefusedPutChangesNothing(t *testing.T) {
	tr, f := tier(t, 2, whole)
	old := f.Token("c")
	f.Move("c")
	put(tr, f, "a", 1)
	put(tr, f, "b", 2)
	if tr.Put("c", "c", entry(3), old) || tr.Swap("c", "c", entry(3), old) || tr.PutAndBump("c", "c", entry(3), old) {
		t.Error("it was stored")
	}
	if !has(tr, "a") || !has(tr, "b") || tr.Evictions() != 0 {
		t.Errorf("%d entries left, %d evicted", tr.Len(), tr.Evictions())
	}
}

func TestAWritersPutRemovesWhenOvertaken(t *testing.T) {
	tr, f := tier(t, 10, whole)
	mine := f.Move("k")
	put(tr, f, "k", 7)
	f.Move("k") // a notification of another process's write
	read := f.Token("k")
	if tr.PutAndBump("k", "k", entry(8), mine) {
		t.Error("it was stored")
	}
	if f.Valid("k", read) {
		t.Error("the acknowledgement has not moved the key")
	}
	if e, ok := tr.Get("k", Now()); ok {
		t.Errorf("%d is there, and which write is newer is not known", e.Value)
	}
	mine = f.Move("k")
	before := f.Token("k")
	if !tr.PutAndBump("k", "k", entry(9), mine) || f.Valid("k", before) {
		t.Error("undisturbed it must be stored, and move the key")
	}
}

// A reader that begins after a write has started may be answered from before it.
func TestAnAcknowledgementMovesTheKeyAgain(t *testing.T) {
	tr, f := tier(t, 10, whole)
	write := f.Move("k")
	read := f.Token("k") // begins here, and Redis still answers the old value
	tr.PutAndBump("k", "k", entry(2), write)
	if tr.Put("k", "k", entry(1), read) {
		t.Error("the old value is stored over the acknowledged one")
	}
	if e, ok := tr.Get("k", Now()); !ok || e.Value != 2 {
		t.Error("the acknowledged value is not there")
	}
}

// Keys of one encoding are one record in Redis.
func TestAWriteEndsWhatOtherKeysOfItsEncodingHold(t *testing.T) {
	for _, capacity := range []int{100, 5000} {
		for name, write := range map[string]func(*Tier[point, int], *fence.Table){
			"a writer's put": func(tr *Tier[point, int], f *fence.Table) {
				tr.PutAndBump(point{1, 0}, "k", entry(2), f.Move("k"))
			},
			"a writer's put, overtaken": func(tr *Tier[point, int], f *fence.Table) {
				mine := f.Move("k")
				f.Move("k")
				tr.PutAndBump(point{1, 0}, "k", entry(2), mine)
			},
			"a swap": func(tr *Tier[point, int], f *fence.Table) {
				tr.Swap(point{1, 0}, "k", entry(2), f.Token("k"))
			},
		} {
			tr, f := tier[point](t, capacity, nil)
			for y := range 10 {
				tr.Put(point{1, y}, "k", entry(1), f.Token("k"))
			}
			tr.Put(point{2, 0}, "other", entry(1), f.Token("other"))
			write(tr, f)
			for y := range 10 {
				if e, ok := tr.Get(point{1, y}, Now()); ok && e.Value == 1 {
					t.Errorf("after %s through one key, another holds the old value", name)
					break
				}
			}
			if !has(tr, point{2, 0}) {
				t.Errorf("after %s, another record is gone", name)
			}
			checkIndex(t, tr)
		}
	}
}

func TestAnotherEncodingOfAKeyReplacesTheFirst(t *testing.T) {
	tr, f := tier[point](t, 10, nil)
	tr.Put(point{}, "a", entry(1), f.Token("a"))
	tr.Put(point{}, "b", entry(2), f.Token("b"))
	checkIndex(t, tr)
	if tr.Remove("a") || !tr.Remove("b") || tr.Len() != 0 {
		t.Errorf("%d entries", tr.Len())
	}
	tr.Put(point{}, "a", entry(1), f.Token("a"))
	old := f.Token("b")
	f.Move("b")
	tr.Put(point{}, "b", entry(2), old)
	checkIndex(t, tr)
	tr.PutAndBump(point{}, "b", entry(2), old)
	checkIndex(t, tr)
	if tr.Len() != 0 {
		t.Errorf("%d entries", tr.Len())
	}
}

// The index tells encoded keys apart by 32 bits only.
func TestEncodingsOfOneHashAreRemovedTogether(t *testing.T) {
	tr, f := tier[int](t, 10, nil)
	seen := map[uint32]string{}
	for i := range 2_000_000 { // 80 000 give an even chance already
		b := strconv.Itoa(i)
		h := tr.index.hash(b)
		a, ok := seen[h]
		if !ok {
			seen[h] = b
			continue
		}
		tr.Put(1, a, entry(1), f.Token(a))
		tr.Put(2, b, entry(2), f.Token(b))
		tr.Put(3, "apart", entry(3), f.Token("apart"))
		checkIndex(t, tr)
		if !tr.Remove(a) || has(tr, 1) || has(tr, 2) || !has(tr, 3) {
			t.Error("not the two of one hash were removed")
		}
		checkIndex(t, tr)
		return
	}
	t.Error("no two hashes are the same: they are not of 32 bits")
}

// The two rules that put explains, seen from inside.
func TestTheFenceIsLookedAtUnderTheLockAndAfterTheIndexIsTold(t *testing.T) {
	tr, _ := tier[point](t, 10, nil)
	k, looked := point{1, 2}, false
	tr.put(k, "k", entry(1), func() bool {
		looked = true
		if s := tr.shard(tr.hash(k)); s.mu.TryLock() {
			s.mu.Unlock()
			t.Error("the shard is not locked")
		}
		if !slices.Contains(tr.index.appendKeys(nil, tr.index.hash("k")), k) {
			t.Error("the index does not know the key")
		}
		return false
	}, keep, fence.Place{}, unread)
	if !looked {
		t.Error("the fence is not looked at")
	}
	checkIndex(t, tr)
}

// The last rule that put explains: who looks the key up while something is stored or
// removed, after the fence was moved, has a token that is none afterwards.
func TestATokenFromTheMiddleOfAChangeIsNone(t *testing.T) {
	for _, capacity := range []int{10, 5000} {
		tr, f := tier(t, capacity, whole)
		put(tr, f, "k", 1)
		var middle fence.Token
		stored := tr.put("k", "k", entry(2), func() bool {
			ok := f.MoveIf("k", f.Token("k"))
			middle = f.Token("k")
			if e, found := tr.Get("k", Now()); !found || e.Value != 1 {
				t.Error("the old value is gone too early")
			}
			return ok
		}, moved, tr.fences.Place("k"), unread) == Stored
		if !stored || tr.Swap("k", "k", entry(99), middle) {
			t.Errorf("stored %v, and the token of who has read the old value counts", stored)
		}
		tr.put("k", "k", entry(3), func() bool {
			f.Move("k")
			middle = f.Token("k")
			return false
		}, moved|removeElse, tr.fences.Place("k"), unread)
		if has(tr, "k") || tr.Swap("k", "k", entry(99), middle) {
			t.Error("what was removed is there, or the token of who has read it counts")
		}
		for name, remove := range map[string]func(){"Remove": func() { tr.Remove("k") }, "Flush": tr.Flush} {
			put(tr, f, "k", 1)
			s, before := tr.shard(tr.hash("k")), f.Token("k")
			s.mu.Lock()
			done := make(chan struct{})
			go func() {
				defer close(done)
				remove()
			}()
			for middle = before; middle == before; middle = f.Token("k") {
				runtime.Gosched() // until it has moved, and waits for the lock
			}
			if e, ok := tr.Get("k", Now()); !ok || e.Value != 1 {
				t.Errorf("%s: the value is gone before the lock was had", name)
			}
			s.mu.Unlock()
			<-done
			if tr.Swap("k", "k", entry(99), middle) {
				t.Errorf("%s: what was made of the old value is stored", name)
			}
		}
	}
}

// CompareAndSwap takes the lock before it moves the fence. The lock of the index, which is told
// last, stops it in the middle.
func TestATokenFromTheMiddleOfACompareAndRemoveIsNone(t *testing.T) {
	for _, capacity := range []int{10, 5000} {
		tr, f := tier[string](t, capacity, nil)
		put(tr, f, "k", 1)
		e, _ := tr.Peek("k")
		part, before := tr.index.part(tr.index.hash("k")), f.Token("k")
		part.mu.Lock()
		done := make(chan Outcome)
		go func() { done <- tr.CompareAndSwap("k", "k", &e.Head, nil) }()
		for f.Token("k") == before || has(tr, "k") {
			runtime.Gosched() // until it has moved, and waits for the lock
		}
		middle := f.Token("k")
		part.mu.Unlock()
		if out := <-done; out != Stored {
			t.Errorf("outcome %v", out)
		}
		if tr.Swap("k", "k", entry(99), middle) {
			t.Error("what was made of the old value is stored")
		}
	}
}

// What is replaced is there until what replaces it is, and never is more held than there is
// room for.
func TestAValueThatIsReplacedIsAlwaysThere(t *testing.T) {
	for _, c := range []struct {
		policy Policy
		bytes  int64
	}{{LRU, 0}, {LRU, 100}, {TinyLFU, 0}, {TinyLFU, 100}} {
		bytes, f := c.bytes, fence.NewTable()
		tr, err := New[string, int](Config[string]{Capacity: 10, Bytes: bytes, Policy: c.policy, Fences: f, Decode: whole})
		if err != nil {
			t.Fatal(err)
		}
		sized := func(v int, size int64) *Entry[int] {
			return &Entry[int]{Head: Head{Deadline: math.MaxInt64, Meta: &Meta{Size: size}}, Value: v}
		}
		tr.Put("k", "k", sized(0, 50), f.Token("k"))
		done := make(chan struct{})
		go func() {
			defer close(done)
			for v := range 20_000 {
				size := int64(1 + v%90)
				tr.PutAndBump("k", "k", sized(v, size), f.Move("k")) // others make room as it grows
				if size < 40 {
					other := strconv.Itoa(v % 5)
					tr.Put(other, other, sized(v, 10), f.Token(other))
				}
				if b := tr.Bytes(); b > 100 && bytes > 0 {
					t.Errorf("%d bytes", b)
				}
			}
		}()
		for last, reading := 0, true; reading; {
			select {
			case <-done:
				reading = false
			default:
			}
			e, ok := tr.Get("k", Now())
			if !ok || e.Value < last {
				t.Fatalf("%d bytes: %v, %v after %d", bytes, e, ok, last)
			}
			last = e.Value
		}
		<-done
		checkTables(t, tr)
	}
}

// The rule that Remove explains: with the lock taken, it can't remove, and must
// have moved. The same holds for Flush.
func TestRemovalsMoveBeforeTheyRemove(t *testing.T) {
	for name, remove := range map[string]func(*Tier[string, int]){
		"Remove": func(tr *Tier[string, int]) { tr.Remove("k") },
		"Flush":  (*Tier[string, int]).Flush,
	} {
		for _, decode := range []func(string) (string, bool){whole, nil} {
			tr, f := tier(t, 10, decode)
			put(tr, f, "k", 1)
			tok := f.Token("k")
			s := tr.shard(tr.hash("k"))
			s.mu.Lock()
			done := make(chan struct{})
			go func() {
				defer close(done)
				remove(tr)
			}()
			for end := time.Now().Add(10 * time.Second); f.Valid("k", tok); runtime.Gosched() {
				if time.Now().After(end) {
					t.Errorf("%s: the key has not moved, and its shard is locked", name)
					break
				}
			}
			s.mu.Unlock()
			<-done
			if has(tr, "k") {
				t.Errorf("%s: the entry is there", name)
			}
		}
	}
}

func TestAPutAllocatesTheNode(t *testing.T) {
	for name, decode := range map[string]func(string) (string, bool){"decoded": whole, "indexed": nil} {
		tr, f := tier(t, 10, decode)
		put(tr, f, "k", 1)
		e := entry(1)
		for what, put := range map[string]func(){
			"Put":      func() { tr.Put("k", "k", e, f.Token("k")) },
			"PutMoved": func() { tr.PutAndBump("k", "k", e, f.Move("k")) },
			"Swap":     func() { tr.Swap("k", "k", e, f.Token("k")) },
			"a new Put": func() {
				tr.Remove("k")
				tr.Put("k", "k", e, f.Token("k"))
			},
		} {
			if n := testing.AllocsPerRun(100, put); n != 1 {
				t.Errorf("%s: %s allocates %v times", name, what, n)
			}
		}
	}
}
