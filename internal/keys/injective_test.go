package keys

import (
	"log/slog"
	"math"
	"net/netip"
	"reflect"
	"testing"
	"time"
)

type (
	named   string
	counter int8
	moment  struct{ time.Time }
	page    struct {
		Of   pair
		N    counter
		Desc bool
		At   time.Time
	}
	generic[T comparable] struct {
		V  T
		OK bool
	}
	bare  struct{ named }
	empty struct{}
)

// Keys of every kind that is accepted: different ones have different texts.
func TestDifferentKeysNeverShareATextWhateverTheirKind(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	apart(t, "", "a", ":", "%", "%3A", "a:b", "\x00", "\xff", "\xfe", "\ufffd", "*", `\`, "true", "1")
	apart(t, named(""), named("\xff"), named("\ufffd"))
	apart(t, 0, 1, -1, math.MinInt, math.MaxInt)
	apart(t, counter(0), counter(-128), counter(127))
	apart(t, uint64(0), math.MaxUint64)
	apart(t, uintptr(0), 10, 1)
	apart(t, 'a', 'b')
	apart(t, true, false)
	apart(t, pair{}, pair{"a", ""}, pair{"", "a"}, pair{":", ""}, pair{"", ":"}, pair{"a:", "b"}, pair{"a", ":b"}, pair{"a%3A", "b"}, pair{"a", "%3Ab"}, pair{"\xff", ""})
	apart(t, triple{"a", "b", ""}, triple{"a", "", "b"}, triple{"a:b", "", ""}, triple{"", "a:b", ""})
	apart(t, nested{pair{"x", "y"}, 1}, nested{pair{"x:y", ""}, 1}, nested{pair{"", "x:y"}, 1})
	apart(t, embedding{pair{"a", "b"}, "c"}, embedding{pair{"a", "b:c"}, ""}, embedding{pair{"a:b", ""}, "c"})
	apart(t, single{"a:b"}, single{"a%3Ab"}, single{""})
	apart(t, bare{"a:b"}, bare{"a%3Ab"})
	apart(t, empty{})
	apart(t, page{Of: pair{"a", "b"}, N: 1, At: at}, page{Of: pair{"a", "b"}, N: 1, Desc: true, At: at}, page{Of: pair{"a", "b"}, N: -1, At: at}, page{Of: pair{"a:b", ""}, N: 1, At: at}, page{Of: pair{"a", "b"}, N: 1, At: at.Add(1)})
	apart(t, generic[string]{"true", false}, generic[string]{"false", true}, generic[string]{"a:true", true})
	apart(t, generic[generic[named]]{generic[named]{"a", true}, false}, generic[generic[named]]{generic[named]{"a", false}, true})
	apart(t, withIP{netip.MustParseAddr("::1"), 80}, withIP{netip.MustParseAddr("::"), 180}, withIP{netip.MustParseAddr("::1"), 8}, withIP{netip.Addr{}, 0})
	apart(t, netip.MustParseAddr("::ffff:1.2.3.4"), netip.MustParseAddr("1.2.3.4"), netip.MustParseAddr("fe80::1%a"), netip.MustParseAddr("fe80::1%a%b"), netip.MustParseAddr("fe80::1"))
	apart(t, netip.MustParseAddrPort("[fe80::1%a]:80"), netip.AddrPortFrom(netip.MustParseAddr("fe80::1").WithZone("a]:8"), 0), netip.MustParseAddrPort("1.2.3.4:0"))
	apart(t, slog.LevelInfo, slog.LevelInfo+1, slog.LevelError, slog.Level(math.MinInt8))
	apart(t, at, at.Add(1), at.In(time.FixedZone("", 3600)), at.In(time.FixedZone("", -3600)), time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC))
	apart(t, moment{at}, moment{at.Add(1)}, moment{at.In(time.FixedZone("", 60))})
}

// Two times may have one text where their offset is no whole minutes, as local mean times are.
func TestATimeWithSecondsInItsOffsetIsNoKey(t *testing.T) {
	at := time.Date(1850, 1, 1, 0, 0, 0, 0, time.FixedZone("LMT", 561))
	if other := time.Date(1850, 1, 1, 0, 0, 0, 0, time.FixedZone("", 540)); at.Equal(other) || at.Format(time.RFC3339) != other.Format(time.RFC3339) {
		t.Fatal("these are not two times of one text")
	}
	refused(t, at)
	refused(t, moment{at})
	refused(t, page{At: at})
	refused(t, generic[moment]{V: moment{at}})
	if _, err := Join("a", at); err == nil {
		t.Error("Join takes it")
	}
}

// What is accepted is of a kind that is looked at above.
func TestNoOtherKindsAreKeys(t *testing.T) {
	for _, typ := range []reflect.Type{
		reflect.TypeFor[float32](), reflect.TypeFor[float64](), reflect.TypeFor[complex128](), reflect.TypeFor[[2]string](), reflect.TypeFor[[4]byte](), reflect.TypeFor[*int](),
		reflect.TypeFor[*string](), reflect.TypeFor[any](), reflect.TypeFor[error](), reflect.TypeFor[chan int](), reflect.TypeFor[generic[float64]](), reflect.TypeFor[generic[*int]](),
		reflect.TypeFor[generic[any]](), reflect.TypeFor[generic[[1]int]](), reflect.TypeFor[*time.Time](), reflect.TypeFor[*netip.Addr](), reflect.TypeFor[struct{ *netip.Addr }](),
		reflect.TypeFor[struct {
			netip.Addr
			Port int
		}](), reflect.TypeFor[struct {
			moment
			N int
		}](),
	} {
		if fields, err := compile(typ, typ.String(), nil); err == nil {
			t.Errorf("%v is a key of %v", typ, fields)
		}
	}
}
