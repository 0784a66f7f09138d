package codec

import (
	"reflect"
	"testing"
	"time"
)

type plainUser struct {
	ID      int64
	Name    string
	Email   string
	Created time.Time
	Tags    []string
	Scores  map[string]float64
	Address struct{ Street, City, Country string }
	Active  bool
}

func aPlainUser() plainUser {
	u := plainUser{ID: 7, Name: "Ada Lovelace", Email: "ada@example.com", Created: time.Unix(1767323045, 0).UTC(), Tags: []string{"a", "b", "c"}, Scores: map[string]float64{"x": 0.5, "y": 1}}
	u.Address.City = "London"
	return u
}

func anyMap() map[string]any {
	return map[string]any{
		"id": 7, "name": "Ada Lovelace", "email": "ada@example.com", "active": true, "tags": []any{"a", "b", "c"},
		"scores": map[string]any{"x": 0.5, "y": 1.0}, "address": map[string]any{"city": "London", "street": nil}, "list": []string{"a", "b"},
	}
}

// Only types of which some values would not come back cost a look at the values.
func TestTypesThatAlwaysComeBackHaveNoGuards(t *testing.T) {
	for _, v := range []any{1, "a", []byte{}, Base{}, []Base{}, map[string]Base{}, struct{ A, B []string }{}, [3]int{}, map[int]map[string]bool{}} {
		for _, f := range []format{jsonFormat{}, msgpackFormat{}} {
			if g := (&guards{format: f, maxDepth: maxDepth}); g.of(reflect.TypeOf(v)) != nil {
				t.Errorf("%T has a guard for %T", f, v)
			}
		}
	}
	if g := (&guards{format: msgpackFormat{}, maxDepth: maxDepth}); g.of(reflect.TypeFor[plainUser]()) != nil {
		t.Error("a time has a guard for msgpack")
	}
}

// The metric is the time that it takes to encode a value with its guards by that without.
func BenchmarkGuards(b *testing.B) {
	for name, v := range map[string]any{"struct": aPlainUser(), "any": anyMap()} {
		for _, c := range []struct {
			format string
			with   Codec
			guards *guards
		}{
			{"json", JSON(), &JSON().(*jsonCodec).guards},
			{"msgpack", Msgpack(), &Msgpack().(*msgpackCodec).guards},
		} {
			buf := make([]byte, 0, 1<<10)
			b.Run(c.format+"/"+name, func(b *testing.B) {
				var all, guarding time.Duration
				for b.Loop() {
					start := time.Now()
					for range 10 {
						if _, err := c.with.Marshal(buf, v); err != nil {
							b.Fatal(err)
						}
					}
					mid := time.Now()
					for range 10 {
						if err := c.guards.check(v); err != nil {
							b.Fatal(err)
						}
					}
					all, guarding = all+mid.Sub(start), guarding+time.Since(mid)
				}
				b.ReportMetric(float64(all)/float64(all-guarding), "with/without")
			})
		}
	}
}
