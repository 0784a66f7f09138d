package coherence

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/internal/store"
)

func record(s string) store.Record {
	return store.Record{State: store.Found, Raw: []byte(s + strings.Repeat(".", store.TokenLen))}
}

func newOwn() *selfWrites {
	o := new(selfWrites)
	o.init()
	return o
}

// stored says that this process has stored what is in rec.
func (o *selfWrites) stored(k string, rec store.Record) bool {
	o.begin(k)
	return o.end(k, rec.CASToken(), true, 0)
}

func TestAForeignChangeIsBelievedAtOnce(t *testing.T) {
	o := newOwn()
	o.stored("other", record("v"))
	if o.maybeOwn("k") {
		t.Error("this process never changed it")
	}
	if keys, _ := o.take(); len(keys) != 0 {
		t.Errorf("%q are to be looked at", keys)
	}
}

func TestAnOwnChangeIsLookedInto(t *testing.T) {
	for name, c := range map[string]struct {
		holds store.Record
		own   bool
	}{
		"what was stored":                {record("mine"), true},
		"what another client has stored": {record("theirs"), false},
		"nothing, since it was deleted":  {store.Record{}, false},
		"a list":                         {store.Record{State: store.WrongType}, false},
		"an older one of this process's": {record("before"), false},
	} {
		o := newOwn()
		o.stored("k", record("before"))
		o.stored("k", record("mine"))
		for range 2 {
			if !o.maybeOwn("k") {
				t.Fatal("it is not looked into")
			}
		}
		select {
		case <-o.wake:
		default:
			t.Fatal("no check is requested")
		}
		keys, versions := o.take()
		if len(keys) != 1 {
			t.Fatalf("%q are to be looked at", keys)
		}
		if got := o.answer("k", versions[0], c.holds); got != c.own {
			t.Errorf("%s: own is %v", name, got)
		}
	}
}

// While a command is in flight, it is not known what the key is to hold.
func TestALookWaitsForTheReply(t *testing.T) {
	for name, took := range map[string]bool{"it took effect": true, "it did not": false} {
		o := newOwn()
		o.begin("k")
		o.begin("k")
		if !o.maybeOwn("k") {
			t.Fatal("a change that comes before the reply is taken for a foreign one")
		}
		if o.end("k", record("first").CASToken(), true, 0) {
			t.Error("dropped, though a command is still under way")
		}
		if keys, _ := o.take(); len(keys) != 0 {
			t.Error("looked at too early")
		}
		drop := o.end("k", record("second").CASToken(), took, 0)
		keys, versions := o.take()
		if drop == took || (len(keys) == 1) != took {
			t.Errorf("%s: drop is %v, to be looked at %q", name, drop, keys)
		}
		if took && !o.answer("k", versions[0], record("second")) {
			t.Error("the own record is not recognised")
		}
	}
}

// An answer may be from before a command that has ended since.
func TestAnOldAnswerIsAskedForAgain(t *testing.T) {
	o := newOwn()
	o.stored("k", record("first"))
	o.maybeOwn("k")
	_, versions := o.take()
	o.stored("k", record("second"))
	if !o.answer("k", versions[0], record("first")) {
		t.Error("dropped")
	}
	keys, versions := o.take()
	if len(keys) != 1 || o.answer("k", versions[0], record("first")) {
		t.Errorf("%q are looked at again, and a record that was replaced is taken for own", keys)
	}
}

func TestOwnChangesAreForgotten(t *testing.T) {
	o := newOwn()
	o.stored("k", record("v"))
	o.forget()
	if o.maybeOwn("k") {
		t.Error("after a new session began")
	}
	o.stored("old", record("v"))
	for i := range int64(3) {
		o.begin("k")
		o.end("k", record("v").CASToken(), true, (i+1)*2*ownLife)
	}
	if o.maybeOwn("old") {
		t.Error("after a while")
	}
	if !o.maybeOwn("k") {
		t.Error("the latest is forgotten as well")
	}
	if len(o.inFlight) != 0 {
		t.Error("commands are under way for ever")
	}
}

func TestWaiters(t *testing.T) {
	a := &Coordinator{}
	a.wait.init()
	one, two, both := a.Wait("k"), a.Wait("l"), a.Wait("k", "l")
	woken := func(w *Waiter) bool {
		select {
		case <-w.C:
			return true
		default:
			return false
		}
	}
	a.wait.wake("k")
	a.wait.wake("k")
	if !woken(one) || woken(two) || !woken(both) || woken(one) {
		t.Error("wrong waiters were woken")
	}
	both.Close()
	both.Close()
	a.wakeAll()
	if !woken(one) || !woken(two) || woken(both) {
		t.Error("wrong waiters were woken by a flush")
	}
	one.Close()
	two.Close()
	if n := len(a.wait.byKey); n != 0 {
		t.Errorf("%d keys are kept", n)
	}
}

// A node that does not answer does not hold up the verification of changes at others, and what is reported
// of its own keys counts as another client's meanwhile.
func TestAChangeAtOneNodeIsVerifiedWhileAnotherIsFrozen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newParted()
		a, l := onNames(t, store.NewNames("", "n"), Tracking, true, st)
		a.started = true
		a.wg.Go(a.verify)
		data := a.cfg.Names.Data
		keys := map[string][]string{} // by node
		for i := 0; len(keys["low"]) < 2 || len(keys["high"]) < 2; i++ {
			k := data + fmt.Sprint(i)
			keys[st.Endpoint(k)] = append(keys[st.Endpoint(k)], k)
		}
		mine := record("mine")
		for _, k := range []string{keys["low"][0], keys["low"][1], keys["high"][0], keys["high"][1]} {
			st.Memory.Do(t.Context(), []store.Command{{Op: store.Set, Key: k, Frame: mine.Raw}})
			a.selfWrites.stored(k, mine)
		}
		removed := func() []string {
			synctest.Wait()
			l.mu.Lock()
			defer l.mu.Unlock()
			return slices.Clone(l.removed)
		}
		st.freeze("low")
		a.selfWrites.maybeOwn(keys["low"][0])
		if got := removed(); len(got) > 0 {
			t.Fatalf("%q are dropped at once", got)
		}
		st.Memory.Do(t.Context(), []store.Command{{Op: store.Set, Key: keys["high"][0], Frame: record("theirs").Raw}})
		a.selfWrites.maybeOwn(keys["high"][0])
		a.selfWrites.maybeOwn(keys["high"][1])
		a.selfWrites.maybeOwn(keys["low"][1])
		time.Sleep(verifyWait)
		want := []string{keys["high"][0][len(data):], keys["low"][1][len(data):]}
		slices.Sort(want)
		got := removed()
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("after %v %q are dropped, not %q", verifyWait, got, want)
		}
		time.Sleep(time.Second) // the client's timeout
		if got := removed(); len(got) != 3 || got[2] != keys["low"][0][len(data):] {
			t.Errorf("at the end %q are dropped", got)
		}
		st.freeze("")
		a.selfWrites.maybeOwn(keys["low"][0])
		if got := removed(); len(got) != 3 {
			t.Errorf("a change of this process's own at the node that is back: %q are dropped", got)
		}
	})
}
