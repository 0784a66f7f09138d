package cache

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

type generic[T any] struct{ X T }

type several[K comparable, T any] struct {
	M map[K][]T
	P *several[K, T]
}

// forms returns the fingerprints of T and of types that are made of it.
func forms[T any]() []uint64 {
	return []uint64{
		fingerprint[T]("json"), fingerprint[*T]("json"), fingerprint[[]T]("json"), fingerprint[[3]T]("json"), fingerprint[map[string]T]("json"),
		fingerprint[struct{ F T }]("json"), fingerprint[generic[T]]("json"), fingerprint[[]generic[[]T]]("json"), fingerprint[several[int, T]]("json"),
		fingerprint[generic[several[string, generic[T]]]]("json"),
	}
}

// Types that are declared in functions may have one name in one package.
func TestTypesOfOneNameHaveFingerprintsOfTheirOwn(t *testing.T) {
	types := map[string][]uint64{"of the package": forms[generic[int]]()}
	func() { type T struct{ Cents int }; types["Cents int"] = forms[T]() }()
	func() { type T struct{ Euros int }; types["Euros int"] = forms[T]() }()
	func() { type T struct{ Cents int64 }; types["Cents int64"] = forms[T]() }()
	func() {
		type T struct {
			Cents int `json:"c"`
		}
		types["a tag"] = forms[T]()
	}()
	func() { type T struct{ A, B int }; types["two"] = forms[T]() }()
	func() { type T struct{ B, A int }; types["another order"] = forms[T]() }()
	func() { type T int; types["int"] = forms[T]() }()
	func() { type T []string; types["slice"] = forms[T]() }()
	func() { type T map[string]string; types["map"] = forms[T]() }()
	func() { type T [4]string; types["array"] = forms[T]() }()
	func() { type T struct{ Next *T }; types["recursive"] = forms[T]() }()
	func() { type T struct{ Next []T }; types["recursive by a slice"] = forms[T]() }()
	func() {
		type In struct{ A int }
		type T struct{ In In }
		types["inner A"] = forms[T]()
	}()
	func() {
		type In struct{ B int }
		type T struct{ In In }
		types["inner B"] = forms[T]()
	}()
	func() {
		type In struct{ B int }
		type T struct{ In }
		types["embedded B"] = forms[T]()
	}()
	func() {
		type In struct{ C int }
		type T struct{ In generic[In] }
		types["a generic one of C"] = forms[T]()
	}()
	func() {
		type In struct{ D int }
		type T struct{ In generic[In] }
		types["a generic one of D"] = forms[T]()
	}()
	seen := map[uint64]string{}
	for name, prints := range types {
		for i, p := range prints {
			at := fmt.Sprintf("%s, form %d", name, i)
			if other, twice := seen[p]; twice {
				t.Errorf("%s and %s have one fingerprint", at, other)
			}
			seen[p] = at
		}
	}
}

// What else is declared in a package does not change a fingerprint: the compiler numbers the
// types in functions.
func TestFingerprintsDoNotDependOnTheCompilersNumbers(t *testing.T) {
	var first, second []uint64
	func() { type T struct{ A int }; first = forms[T]() }()
	func() { type T struct{ A int }; second = forms[T]() }()
	if fmt.Sprint(first) != fmt.Sprint(second) {
		t.Error("the same declaration elsewhere in a package has another fingerprint")
	}
	var b strings.Builder
	type T struct{ A int }
	describe(&b, reflect.TypeFor[generic[T]]())
	if strings.Contains(b.String(), inFunction) {
		t.Errorf("described as %s", b.String())
	}
}

// A type of a package keeps its records when it gets a field: these are the fingerprints of
// the first release.
func TestFingerprintsStay(t *testing.T) {
	for what, got := range map[string][2]uint64{
		"string":  {fingerprint[string]("json"), 0x50e72f440909593d},
		"time":    {fingerprint[time.Time]("json"), 0x68fd4be816077282},
		"generic": {fingerprint[generic[[]time.Time]]("msgpack"), 0xeed58fb098cd2557},
		"unnamed": {fingerprint[map[string]struct{ A *int }]("msgpack"), 0xba661a9d566d69db},
	} {
		if got[0] != got[1] {
			t.Errorf("%s: %#x, was %#x", what, got[0], got[1])
		}
	}
}
