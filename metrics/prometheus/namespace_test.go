package prometheus

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// Everything that is shown without a namespace is shown in one, too.
func TestANamespaceIsInFrontOfEveryName(t *testing.T) {
	cache := &fixed{"users", numbered()}
	plain, err := NewCollector(cache)
	if err != nil {
		t.Fatal(err)
	}
	inside, err := Namespace("shop").NewCollector(cache)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []*Collector{plain, inside} {
		if err := c.AddRelays(relay{numberedOutbox()}); err != nil {
			t.Fatal(err)
		}
	}
	want := scrape(t, registered(t, plain, usedRecorder(t, "")))
	got := scrape(t, registered(t, inside, usedRecorder(t, "shop")))
	if len(want) < 50 || len(got) != len(want) {
		t.Errorf("%d series in a namespace, and %d without", len(got), len(want))
	}
	for series, n := range want {
		if in, ok := got["shop_"+series]; !ok || in != n {
			t.Errorf("shop_%s is %v (there: %t), want %v", series, in, ok, n)
		}
	}
	// Both may be registered at once.
	registered(t, plain, inside)
}

func TestANamespaceThatIsNoneIsRefused(t *testing.T) {
	for _, n := range []Namespace{"a b", "1st", "ä", "a-b", " ", "a\xff"} {
		if _, err := n.NewCollector(); err == nil || !strings.HasPrefix(err.Error(), "cache: ") {
			t.Errorf("a collector in the namespace %q: %v", n, err)
		}
		if _, err := n.NewRecorder(); err == nil || !strings.HasPrefix(err.Error(), "cache: ") {
			t.Errorf("a recorder in the namespace %q: %v", n, err)
		}
	}
	for _, n := range []Namespace{"", "shop", "shop:web", "_", "A1"} {
		if _, err := n.NewCollector(); err != nil {
			t.Errorf("%q: %v", n, err)
		}
		if r, err := n.NewRecorder(); err != nil {
			t.Errorf("%q: %v", n, err)
		} else if err := prometheus.NewRegistry().Register(r); err != nil {
			t.Errorf("%q: %v", n, err)
		}
	}
}
