package codec

import (
	"bytes"
	"reflect"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"
)

// sameTime reports whether two times are one instant with one date and clock.
func sameTime(a, b time.Time) bool {
	_, x := a.Zone()
	_, y := b.Zone()
	return a.Equal(b) && x == y
}

type timed struct {
	At   time.Time
	P    *time.Time
	L    []time.Time
	M    map[string]time.Time
	Any  any
	Anys []any
	Map  map[string]any
	Deep map[int]map[string]any
}

// inMany puts a time in every place that a value has for one.
func inMany(t time.Time) timed {
	return timed{
		t, &t, []time.Time{t}, map[string]time.Time{"a": t}, t, []any{t, map[string]time.Time{"a": t}, []time.Time{t}}, map[string]any{"a": t, "b": []any{t}},
		map[int]map[string]any{1: {"a": map[string]any{"b": t}}},
	}
}

// all returns the times of inMany when it has come back.
func (v timed) all() []any {
	return []any{v.At, *v.P, v.L[0], v.M["a"], v.Any, v.Anys[0], v.Anys[1].(map[string]any)["a"], v.Anys[2].([]any)[0], v.Map["a"], v.Map["b"].([]any)[0], v.Deep[1]["a"].(map[string]any)["b"]}
}

func checkTime(t *testing.T, at time.Time) {
	t.Helper()
	for _, c := range []Codec{Msgpack(), Compressed(Msgpack(), Threshold(0))} {
		data, err := c.Marshal(nil, at)
		if err != nil {
			t.Fatal(err)
		}
		var back time.Time
		if err := c.Unmarshal(data, &back); err != nil || !sameTime(at, back) {
			t.Errorf("%v comes back as %v, %v", at, back, err)
		}
		data, err = c.Marshal(nil, inMany(at))
		if err != nil {
			t.Fatal(err)
		}
		var many timed
		if err := c.Unmarshal(data, &many); err != nil {
			t.Fatal(err)
		}
		for i, v := range many.all() {
			if got, ok := v.(time.Time); !ok || !sameTime(at, got) {
				t.Errorf("%v in place %d comes back as %v", at, i, v)
			}
		}
	}
}

// A time comes back with its date and clock, whatever the zone of the writer and the reader.
func TestMsgpackTimesKeepTheirOffsets(t *testing.T) {
	defer func(l *time.Location) { time.Local = l }(time.Local)
	zones := []*time.Location{time.UTC, time.FixedZone("EST", -5*3600), time.FixedZone("", 14*3600), time.FixedZone("LMT", 53*60+28), time.FixedZone("none", 0)}
	for _, local := range zones {
		time.Local = local
		for _, zone := range append(zones, time.Local) {
			for _, at := range []time.Time{
				{}, time.Unix(0, 0), time.Date(2026, 1, 2, 3, 4, 5, 0, zone), time.Date(1905, 12, 31, 23, 59, 59, 999999999, zone),
				time.Date(9999, 12, 31, 23, 59, 59, 1, zone), time.Date(-5, 1, 1, 0, 0, 0, 0, zone), time.Date(100000, 1, 1, 0, 0, 0, 0, zone),
			} {
				checkTime(t, at.In(zone))
			}
		}
	}
}

func TestMsgpackTimesInUTCAreEqual(t *testing.T) {
	v := inMany(time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC))
	v.Anys = nil
	data, err := Msgpack().Marshal(nil, v)
	if err != nil {
		t.Fatal(err)
	}
	var back timed
	if err := Msgpack().Unmarshal(data, &back); err != nil || !reflect.DeepEqual(v, back) {
		t.Errorf("%v comes back as %v, %v", v, back, err)
	}
}

// What the program itself does with the package stays as it was.
func TestTheProgramsOwnMsgpackIsUnchanged(t *testing.T) {
	zone := time.FixedZone("", 3600)
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, zone)
	for _, v := range []any{at, &at, struct{ T time.Time }{at}, map[string]any{"a": at}} {
		data, err := msgpack.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(data, []byte{0xd7, 0xff}) {
			t.Errorf("%T: %x has no timestamp of 8 bytes", v, data)
		}
	}
	data, _ := msgpack.Marshal(struct{ T time.Time }{at})
	var back struct{ T time.Time }
	if err := msgpack.Unmarshal(data, &back); err != nil || !back.T.Equal(at) || back.T.Location() != time.Local {
		t.Errorf("%v, %v", back, err)
	}
	var mixed any
	if err := msgpack.Unmarshal(data, &mixed); err != nil || mixed.(map[string]any)["T"].(time.Time).Location() != time.Local {
		t.Errorf("%v, %v", mixed, err)
	}
}

func TestTimestampsOfOtherLengthsAreErrors(t *testing.T) {
	for _, data := range [][]byte{{0xd4, 0xff, 0}, {0xc7, 0, 0xff}, {0xc7, 17, 0xff, 17: 0, 18: 0, 19: 0}, {0xc7, 12, 0xff, 0}} {
		if err := Msgpack().Unmarshal(data, new(time.Time)); err == nil {
			t.Errorf("%x is a time", data)
		}
		if err := Msgpack().Unmarshal(data, new(any)); err == nil {
			t.Errorf("%x is a value", data)
		}
	}
}

func FuzzMsgpackTime(f *testing.F) {
	f.Add(int64(0), int64(0), 0)
	f.Add(int64(1767323045), int64(999999999), -5*3600)
	f.Add(int64(-62135596800), int64(0), 3600)
	f.Fuzz(func(t *testing.T, sec, nsec int64, offset int) {
		offset %= 24 * 3600
		sec %= 1 << 40
		checkTime(t, time.Unix(sec, nsec%1e9).In(time.FixedZone("", offset)))
	})
}
