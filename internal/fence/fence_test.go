package fence

import (
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
)

func TestATokenIsValidUntilItsKeyMoves(t *testing.T) {
	tab := NewTable()
	tok := tab.Token("a")
	if !tab.Valid("a", tok) {
		t.Fatal("nothing has moved, and the token is invalid")
	}
	moved := tab.Move("a")
	if tab.Valid("a", tok) {
		t.Error("the key has moved, and the old token is valid")
	}
	if !tab.Valid("a", moved) {
		t.Error("the token of the move itself is invalid")
	}
}

func TestMoveAllInvalidatesEveryToken(t *testing.T) {
	tab := NewTable()
	var toks []Token
	for i := range 1000 {
		toks = append(toks, tab.Token(strconv.Itoa(i)))
	}
	tab.MoveAll()
	for i, tok := range toks {
		if tab.Valid(strconv.Itoa(i), tok) {
			t.Fatalf("key %d is valid after MoveAll", i)
		}
		if tab.MoveIf(strconv.Itoa(i), tok) {
			t.Fatalf("key %d moved with a token from before MoveAll", i)
		}
	}
}

func TestMoveIfSucceedsForOneOfManyCallers(t *testing.T) {
	tab := NewTable()
	for range 200 {
		tok := tab.Token("k")
		var won atomic.Int32
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if tab.MoveIf("k", tok) {
					won.Add(1)
				}
			})
		}
		wg.Wait()
		if won.Load() != 1 {
			t.Fatalf("%d callers moved the key with one token", won.Load())
		}
	}
}

func TestOtherKeysMostlyStayValid(t *testing.T) {
	tab := NewTable()
	toks := make([]Token, 1000)
	for i := range toks {
		toks[i] = tab.Token(strconv.Itoa(i))
	}
	tab.Move("another key")
	lost := 0
	for i, tok := range toks {
		if !tab.Valid(strconv.Itoa(i), tok) {
			lost++
		}
	}
	// 1000 keys over 4096 slots: the chance that more than 10 share one slot is
	// below 1e-15.
	if lost > 10 {
		t.Errorf("moving one key invalidated %d of 1000 others", lost)
	}
}

func TestTokensAllocateNothing(t *testing.T) {
	tab := NewTable()
	if n := testing.AllocsPerRun(100, func() {
		tok := tab.Token("key")
		tab.Move("key")
		tab.Valid("key", tok)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
