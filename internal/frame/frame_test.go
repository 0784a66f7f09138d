package frame

import (
	"bytes"
	"errors"
	"flag"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

const key = "prefix:name:key"

func build(t testing.TB, h Header, payload string) []byte {
	t.Helper()
	buf, err := Finish(append(AppendHeader(nil, &h), payload...), 0, key)
	if err != nil {
		t.Fatal(err)
	}
	return buf
}

func id(b byte) (id ID) {
	for i := range id {
		id[i] = b + byte(i)
	}
	return id
}

// samples are frames of every kind. The files in testdata hold what the first
// version wrote: every later one must read it.
var samples = map[string]struct {
	header  Header
	payload string
}{
	"value": {Header{Kind: Value, ID: id(1), Limit: math.MaxInt64, Version: 7, Type: 0x1122334455667788,
		Stored: 1_700_000_000_000_000, Fresh: 300_000_000, Cost: 1500}, `{"ID":1}`},
	"empty":   {Header{Kind: Value, ID: id(2), Limit: math.MaxInt64}, ""},
	"failure": {Header{Kind: Failure, ID: id(5), Limit: math.MaxInt64, Stored: 1}, "0123456789abcdef\x01boom"},
	"absence": {Header{Kind: Absence, ID: id(3), Limit: math.MaxInt64, Stored: 1, Fresh: 30_000_000}, "\x05hello"},
	"full": {Header{Kind: Value, ID: id(4), Limit: -5, Version: math.MaxUint32, Type: math.MaxUint64, Stored: math.MinInt64,
		Fresh: math.MaxUint64, Stale: 9, LogicalTime: -1, Epoch: 3, Cost: math.MaxUint32, Tags: []string{"a", "", "tag:\x00"}, ETag: `W/"x"`},
		strings.Repeat("payload ", 40)},
}

func TestGoldenFiles(t *testing.T) {
	all := map[string][]byte{"lease": AppendLease(nil, id(9)), "intent": AppendIntent(nil, id(9))}
	for name, s := range samples {
		all[name] = build(t, s.header, s.payload)
	}
	for name, now := range all {
		file := filepath.Join("testdata", name+".v1")
		if *update {
			if err := os.WriteFile(file, now, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		golden, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		f, err := Parse(key, golden)
		if err != nil {
			t.Errorf("%s can't be read any more: %v", name, err)
			continue
		}
		if name == "intent" {
			if f.Kind != Intent || f.ID != id(9) {
				t.Errorf("the intent reads as %+v", f)
			}
			continue
		}
		if name == "lease" {
			if f.Kind != Lease || f.ID != id(9) {
				t.Errorf("the lease reads as %+v", f)
			}
			continue
		}
		if want := samples[name]; !reflect.DeepEqual(f.Header, want.header) || string(f.Payload) != want.payload {
			t.Errorf("%s reads as\n%+v\nwant\n%+v", name, f, want)
		}
		// Within one version the bytes do not change either: an old program must
		// read what a new one writes.
		if !bytes.Equal(now, golden) {
			t.Errorf("%s is written differently", name)
		}
	}
}

func TestEveryDamageIsNoticed(t *testing.T) {
	for name, s := range samples {
		raw := build(t, s.header, s.payload)
		for n := range raw {
			if _, err := Parse(key, raw[:n]); err == nil {
				t.Fatalf("%s: %d of %d bytes are a frame", name, n, len(raw))
			}
		}
		for bit := range 8 * len(raw) {
			b := bytes.Clone(raw)
			b[bit/8] ^= 1 << (bit % 8)
			if f, err := Parse(key, b); err == nil {
				t.Fatalf("%s: with bit %d turned over it reads as %+v", name, bit, f)
			}
		}
		if _, err := Parse(key, append(bytes.Clone(raw), 0)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: with a byte more: %v", name, err)
		}
		for _, k := range []string{"", key + "x", key[1:], "prefix:name:kez"} {
			if _, err := Parse(k, raw); !errors.Is(err, ErrCorrupt) {
				t.Errorf("%s: under the key %q: %v", name, k, err)
			}
		}
	}
}

func TestWhatIsNotOursIsForeign(t *testing.T) {
	for _, raw := range []string{"", "O", "OK", `{"a":1}`, "*", "\xc5d", "\xc5dx", strings.Repeat("x", 200)} {
		if _, err := Parse(key, []byte(raw)); !errors.Is(err, ErrForeign) {
			t.Errorf("%q: %v", raw, err)
		}
	}
}

func TestWhatIsNewerIsToldFromDamage(t *testing.T) {
	raw := build(t, samples["value"].header, "x")
	version := bytes.Clone(raw)
	version[3] = 2
	for name, b := range map[string][]byte{"version": version, "kind": reseal(raw, 4, 9), "flag": reseal(raw, 5, 1), "reserved": reseal(raw, 7, 1)} {
		if _, err := Parse(key, b); !errors.Is(err, ErrNewer) {
			t.Errorf("an unknown %s: %v", name, err)
		}
	}
}

// reseal changes a byte of section A as a newer program would, with its checksum.
func reseal(raw []byte, at int, to byte) []byte {
	b := bytes.Clone(raw)
	b[at] = to
	return append(be.AppendUint32(bytes.Clone(b[:32]), crc(b[:32])), b[36:]...)
}

func TestExtrasOfNewerPrograms(t *testing.T) {
	extra := func(typ byte, body string) []byte {
		h := samples["value"].header
		buf := appendExtra(AppendHeader(nil, &h), typ, body)
		be.PutUint32(buf[extrasAt:], uint32(len(buf)-headLen))
		buf, err := Finish(append(buf, "payload"...), 0, key)
		if err != nil {
			t.Fatal(err)
		}
		return buf
	}
	if f, err := Parse(key, extra(7, "anything")); err != nil || string(f.Payload) != "payload" {
		t.Errorf("an odd one is skipped: %v", err)
	}
	if _, err := Parse(key, extra(8, "anything")); !errors.Is(err, ErrNewer) {
		t.Errorf("an even one is not: %v", err)
	}
}

func TestTheSealIsReplacedInPlace(t *testing.T) {
	raw := build(t, samples["full"].header, "payload")
	next := append(AppendSeal(nil, Value, id(77), 12345), raw[sealLen:]...)
	f, err := Parse(key, next)
	if err != nil || f.ID != id(77) || f.Limit != 12345 || string(f.Payload) != "payload" || len(f.Tags) != 3 {
		t.Errorf("%+v, %v", f, err)
	}
	if bytes.Equal(Token(next), Token(raw)) || len(Token(next)) != TokenLen || len(Token([]byte("abc"))) != 3 {
		t.Error("the token must change with the id")
	}
}

func TestAFrameIsAppended(t *testing.T) {
	h := samples["full"].header
	buf := AppendHeader([]byte("before"), &h)
	buf, err := Finish(append(buf, "payload"...), 6, key)
	if err != nil || !bytes.HasPrefix(buf, []byte("before")) {
		t.Fatal(err)
	}
	if f, err := Parse(key, buf[6:]); err != nil || string(f.Payload) != "payload" {
		t.Error(err)
	}
	if _, err := Finish([]byte("short"), 0, key); !errors.Is(err, ErrTooLarge) {
		t.Errorf("Finish of no frame: %v", err)
	}
}

func TestIDsAreUnique(t *testing.T) {
	var mu sync.Mutex
	seen := map[ID]bool{}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				id := NewID()
				mu.Lock()
				if seen[id] {
					t.Errorf("%x twice", id)
				}
				seen[id] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

func TestReadingAllocatesNothingWithoutStrings(t *testing.T) {
	raw := build(t, samples["value"].header, "payload")
	if n := testing.AllocsPerRun(100, func() {
		if _, err := Parse(key, raw); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range samples {
		f.Add(key, build(f, s.header, s.payload))
	}
	f.Add(key, AppendLease(nil, id(1)))
	f.Add("", []byte("\xc5dq"))
	f.Fuzz(func(t *testing.T, key string, raw []byte) {
		before := bytes.Clone(raw)
		fr, err := Parse(key, raw)
		if !bytes.Equal(before, raw) {
			t.Fatal("the input was modified")
		}
		if err != nil {
			if !errors.Is(err, ErrForeign) && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrNewer) {
				t.Fatalf("an error of another kind: %v", err)
			}
			return
		}
		if len(fr.Tags) > len(raw) || len(fr.Payload) > len(raw) {
			t.Fatalf("%d tags and %d bytes of %d", len(fr.Tags), len(fr.Payload), len(raw))
		}
		if fr.Kind.bare() {
			return
		}
		again, err := Finish(append(AppendHeader(nil, &fr.Header), fr.Payload...), 0, key)
		if err != nil {
			t.Fatal(err)
		}
		// Extras may stand in another order, and unknown ones are gone.
		if second, err := Parse(key, again); err != nil || !reflect.DeepEqual(second, fr) {
			t.Fatalf("written again it reads as %+v, %v; want %+v", second, err, fr)
		}
	})
}

// A fuzzer hardly finds a valid checksum: this one starts behind it.
func FuzzExtras(f *testing.F) {
	f.Add([]byte{2, 1, 'a', 4, 0, 7, 2, 0, 0}, []byte("payload"))
	f.Fuzz(func(t *testing.T, extras, payload []byte) {
		h := samples["value"].header
		buf := append(AppendHeader(nil, &h), extras...)
		be.PutUint32(buf[extrasAt:], uint32(len(extras)))
		buf, err := Finish(append(buf, payload...), 0, key)
		if err != nil {
			t.Fatal(err)
		}
		if fr, err := Parse(key, buf); err == nil && !bytes.Equal(fr.Payload, payload) {
			t.Fatalf("payload %q, want %q", fr.Payload, payload)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	raw := build(b, samples["value"].header, strings.Repeat("x", 256))
	for b.Loop() {
		if _, err := Parse(key, raw); err != nil {
			b.Fatal(err)
		}
	}
}

func TestAHeadSaysWhatTheWholeFrameSays(t *testing.T) {
	for name, s := range samples {
		raw := build(t, s.header, s.payload)
		h, err := ReadHead(raw[:HeadLen])
		want := s.header
		want.Tags, want.ETag = nil, ""
		if err != nil || !reflect.DeepEqual(h, want) {
			t.Errorf("%s: %+v, %v", name, h, err)
		}
		for n := range HeadLen {
			if _, err := ReadHead(raw[:n]); err == nil {
				t.Errorf("%s: a head of %d bytes", name, n)
			}
		}
		for bit := range 8 * sealLen {
			b := bytes.Clone(raw[:HeadLen])
			b[bit/8] ^= 1 << (bit % 8)
			if _, err := ReadHead(b); err == nil {
				t.Errorf("%s: with bit %d turned over", name, bit)
			}
		}
	}
	lease := AppendLease(nil, id(9))
	if h, err := ReadHead(lease); err != nil || h.Kind != Lease || h.ID != id(9) {
		t.Errorf("a lease: %+v, %v", h, err)
	}
	for _, c := range []struct {
		raw  []byte
		want error
	}{{[]byte("OK"), ErrForeign}, {reseal(lease, 4, 9), ErrNewer}, {lease[:20], ErrCorrupt}} {
		if _, err := ReadHead(c.raw); !errors.Is(err, c.want) {
			t.Errorf("%q: %v, want %v", c.raw, err, c.want)
		}
	}
}

func TestAFailureSaysWhoseItIs(t *testing.T) {
	for _, want := range []Failed{{Lease: id(7), Text: "boom"}, {Lease: id(8), NoStale: true}} {
		raw, err := AppendFailure([]byte("before"), key, Header{ID: id(1), Limit: math.MaxInt64}, want)
		if err != nil {
			t.Fatal(err)
		}
		f, err := Parse(key, raw[len("before"):])
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := f.Failed(); !ok || got != want {
			t.Errorf("%+v, %v", got, ok)
		}
	}
	for _, f := range []Frame{{Header: Header{Kind: Failure}, Payload: make([]byte, 16)}, {Header: Header{Kind: Value}, Payload: make([]byte, 20)}} {
		if _, ok := f.Failed(); ok {
			t.Errorf("%+v is a failure", f)
		}
	}
}
