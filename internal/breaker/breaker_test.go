package breaker

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var errAway = errors.New("no answer")

// endpoint answers or not, as a test says.
type endpoint struct {
	mu     sync.Mutex
	away   map[string]bool
	probes []string
	told   []string
}

func (e *endpoint) set(name string, away bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.away == nil {
		e.away = map[string]bool{}
	}
	e.away[name] = away
}

func (e *endpoint) ask(name, key string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.probes = append(e.probes, name+" "+key)
	if e.away[name] {
		return errAway
	}
	return nil
}

func (e *endpoint) changed(c Change) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.told = append(e.told, fmt.Sprintf("%s %d %d", c.Endpoint, c.State, c.Worst))
}

func (e *endpoint) take() (probes, told []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	probes, told, e.probes, e.told = e.probes, e.told, nil, nil
	return probes, told
}

// use does an operation on an endpoint, and reports whether it was let through.
func use(t *testing.T, s *Set, name string, failure error) bool {
	t.Helper()
	pass, err := s.Enter(name, "key of "+name)
	if err != nil {
		if !errors.Is(err, ErrOpen) {
			t.Errorf("refused with %v", err)
		}
		return false
	}
	pass.End(failure)
	return true
}

func TestACircuitOpensIsProbedAndCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := new(endpoint)
		s := New(Config{Failures: 3, Open: time.Second, Probe: e.ask, Changed: e.changed})
		defer s.Close()
		// Failures that are not in a row do not matter.
		for range 10 {
			use(t, s, "a", errAway)
			use(t, s, "a", errAway)
			use(t, s, "a", nil)
		}
		e.set("a", true)
		for range 3 {
			if !use(t, s, "a", errAway) {
				t.Fatal("refused too early")
			}
		}
		_, err := s.Enter("a", "k")
		if !errors.Is(err, ErrOpen) || !strings.Contains(err.Error(), errAway.Error()) || errors.Is(err, errAway) {
			t.Errorf("refused with %v", err)
		}
		if !use(t, s, "b", nil) {
			t.Error("another endpoint is refused")
		}
		time.Sleep(2500 * time.Millisecond)
		synctest.Wait()
		probes, told := e.take()
		if !slices.Equal(probes, []string{"a key of a", "a key of a"}) {
			t.Errorf("probes: %v", probes)
		}
		if want := []string{"a 2 2", "a 1 1", "a 2 2", "a 1 1", "a 2 2"}; !slices.Equal(told, want) {
			t.Errorf("changes %v, want %v", told, want)
		}
		if use(t, s, "a", nil) {
			t.Error("let through while it is open")
		}
		e.set("a", false)
		time.Sleep(time.Second)
		synctest.Wait()
		if probes, told := e.take(); len(probes) != 1 || !slices.Equal(told, []string{"a 1 1", "a 0 0"}) {
			t.Errorf("probes %v, changes %v", probes, told)
		}
		if !use(t, s, "a", nil) {
			t.Error("refused after it has answered")
		}
		time.Sleep(time.Minute)
		if probes, _ := e.take(); len(probes) != 0 {
			t.Errorf("probes of a closed circuit: %v", probes)
		}
	})
}

// While a probe is in flight no other operation is let through, and there is one.
func TestCallersAreNotTheProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		goOn := make(chan error)
		s := New(Config{Failures: 1, Open: time.Second, Probe: func(string, string) error { return <-goOn }})
		defer s.Close()
		use(t, s, "", errAway)
		time.Sleep(10 * time.Second)
		for range 5 {
			if use(t, s, "", nil) {
				t.Fatal("let through")
			}
		}
		goOn <- nil
		synctest.Wait()
		if !use(t, s, "", nil) {
			t.Error("refused")
		}
	})
}

// An operation that began before the circuit opened says nothing of what came later.
func TestLateOutcomesDoNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := new(endpoint)
		s := New(Config{Failures: 2, Open: time.Second, Probe: e.ask})
		defer s.Close()
		var late []Pass
		for range 4 {
			pass, err := s.Enter("", "k")
			if err != nil {
				t.Fatal(err)
			}
			late = append(late, pass)
		}
		late[0].End(errAway)
		late[1].End(errAway)
		late[2].End(nil)
		if use(t, s, "", nil) {
			t.Error("an answer to what was asked earlier has closed it")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		late[3].End(errAway)
		use(t, s, "", errAway)
		if !use(t, s, "", nil) {
			t.Error("a failure of earlier counts")
		}
	})
}

func TestTheWorstOfSeveral(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := new(endpoint)
		s := New(Config{Failures: 1, Open: time.Second, Probe: e.ask, Changed: e.changed})
		defer s.Close()
		e.set("a", true)
		use(t, s, "a", errAway)
		use(t, s, "b", errAway)
		time.Sleep(1500 * time.Millisecond)
		synctest.Wait()
		_, told := e.take()
		if last := told[len(told)-1]; len(told) != 6 || !strings.HasSuffix(last, "2") {
			t.Errorf("changes %v", told)
		}
		if use(t, s, "a", nil) || !use(t, s, "b", nil) {
			t.Error("they are not apart")
		}
	})
}

func TestCloseEndsProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := new(endpoint)
		s := New(Config{Failures: 1, Open: time.Second, Probe: e.ask})
		e.set("", true)
		use(t, s, "", errAway)
		s.Close()
		s.Close()
		time.Sleep(time.Minute)
		if probes, _ := e.take(); len(probes) != 0 {
			t.Errorf("%d probes after Close", len(probes))
		}
	})
}

func TestManyAtOnce(t *testing.T) {
	e := new(endpoint)
	s := New(Config{Failures: 3, Open: time.Millisecond, Probe: e.ask, Changed: e.changed})
	defer s.Close()
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for n := range 2000 {
				var failure error
				if n%7 < 4 {
					failure = errAway
				}
				use(t, s, fmt.Sprint("node ", (i+n)%3), failure)
			}
		})
	}
	all.Wait()
	for i := range 3 { // no circuit is stuck
		name := fmt.Sprint("node ", i)
		for end := time.Now().Add(time.Minute); !use(t, s, name, nil); {
			if time.Now().After(end) {
				t.Fatalf("%s stays open", name)
			}
			time.Sleep(time.Millisecond)
		}
	}
	s.report()
	last := map[string]string{}
	_, told := e.take()
	for _, c := range told {
		last[c[:6]] = c[7:8]
	}
	for name, state := range last {
		if state != "0" {
			t.Errorf("%s was told to be in state %s last", name, state)
		}
	}
}

// Not even in the moment between the end of the time and the probe.
func TestNoCallIsLetThroughBeforeTheProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := new(endpoint)
		s := New(Config{Failures: 1, Open: time.Second, Probe: e.ask})
		defer s.Close()
		e.set("", true)
		use(t, s, "", errAway)
		time.Sleep(time.Second)
		if use(t, s, "", nil) {
			t.Error("a caller was the probe")
		}
	})
}
