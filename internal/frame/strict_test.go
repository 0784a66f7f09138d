package frame

import (
	"bytes"
	"errors"
	"math"
	"reflect"
	"runtime"
	"testing"
)

// withExtras is a valid frame whose extras are the given bytes.
func withExtras(t testing.TB, extras, payload []byte) []byte {
	t.Helper()
	h := samples["value"].header
	buf := append(AppendHeader(nil, &h), extras...)
	be.PutUint32(buf[extrasAt:], uint32(len(extras)))
	buf, err := Finish(append(buf, payload...), 0, key)
	if err != nil {
		t.Fatal(err)
	}
	return buf
}

func TestExtrasHaveOneForm(t *testing.T) {
	for name, c := range map[string]struct {
		extras []byte
		want   error
	}{
		"tags, then the ETag":             {[]byte{2, 1, 'a', 2, 0, 4, 1, 'e'}, nil},
		"an unknown odd one in between":   {[]byte{2, 1, 'a', 9, 2, 'x', 'y', 4, 1, 'e'}, nil},
		"an unknown even one":             {[]byte{2, 1, 'a', 6, 0}, ErrNewer},
		"the ETag before a tag":           {[]byte{4, 1, 'e', 2, 1, 'a'}, ErrCorrupt},
		"two ETags":                       {[]byte{4, 1, 'e', 4, 1, 'f'}, ErrCorrupt},
		"an empty ETag":                   {[]byte{4, 0}, ErrCorrupt},
		"a length of two bytes for one":   {[]byte{2, 0x81, 0, 'a'}, ErrCorrupt},
		"a type without a length":         {[]byte{2}, ErrCorrupt},
		"a length that does not end":      {[]byte{2, 0x80}, ErrCorrupt},
		"a length beyond 64 bits":         {[]byte{2, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2}, ErrCorrupt},
		"a length beyond the extras":      {[]byte{2, 2, 'a'}, ErrCorrupt},
		"the greatest length":             {[]byte{3, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1}, ErrCorrupt},
		"a damaged one after a newer one": {[]byte{6, 0, 2}, ErrNewer},
	} {
		if _, err := Parse(key, withExtras(t, c.extras, []byte("p"))); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestDamageToALeaseIsNoticed(t *testing.T) {
	raw := AppendLease(nil, id(9))
	if len(raw) != sealLen {
		t.Fatalf("a lease has %d bytes", len(raw))
	}
	for n := range raw {
		if _, err := Parse(key, raw[:n]); err == nil {
			t.Fatalf("%d bytes of a lease are a frame", n)
		}
	}
	for bit := range 8 * len(raw) {
		b := bytes.Clone(raw)
		b[bit/8] ^= 1 << (bit % 8)
		if f, err := Parse(key, b); err == nil {
			t.Fatalf("with bit %d turned over a lease reads as %+v", bit, f)
		}
	}
	for _, more := range []int{1, headLen + hashLen - sealLen, 200} {
		if _, err := Parse(key, append(bytes.Clone(raw), make([]byte, more)...)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("a lease and %d bytes more: %v", more, err)
		}
	}
}

func TestASealOfAnotherKindDoesNotTurnAValueIntoALease(t *testing.T) {
	raw := build(t, samples["value"].header, "payload")
	seal := AppendSeal(nil, Lease, id(1), math.MaxInt64)
	if _, err := Parse(key, append(seal, raw[sealLen:]...)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a lease with a section B: %v", err)
	}
}

// A program that knows nothing of a newer version can't know its layout either,
// so that the version is all that counts.
func TestANewerVersionNeedsNoKnownLayout(t *testing.T) {
	for _, raw := range [][]byte{{0xC5, 'd', 'q', 2}, append([]byte{0xC5, 'd', 'q', 255}, make([]byte, 300)...)} {
		if _, err := Parse(key, raw); !errors.Is(err, ErrNewer) {
			t.Errorf("%d bytes of version %d: %v", len(raw), raw[3], err)
		}
	}
	if _, err := Parse(key, []byte{0xC5, 'd', 'q', 0, 1, 2, 3}); !errors.Is(err, ErrCorrupt) {
		t.Errorf("version 0, which never was: %v", err)
	}
}

func TestParseAllocatesASmallMultipleOfItsInput(t *testing.T) {
	const tags = 1 << 19
	raw := withExtras(t, bytes.Repeat([]byte{extraTag, 0}, tags), nil)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f, err := Parse(key, raw)
	runtime.ReadMemStats(&after)
	if err != nil || len(f.Tags) != tags {
		t.Fatalf("%d tags, %v", len(f.Tags), err)
	}
	if got, most := after.TotalAlloc-before.TotalAlloc, uint64(10*len(raw)); got > most {
		t.Errorf("%d bytes for %d, want at most %d", got, len(raw), most)
	}
}

func TestAllocationsForTagsDoNotGrowWithTheirNumber(t *testing.T) {
	h := samples["value"].header
	h.ETag = "e"
	for range 50 {
		h.Tags = append(h.Tags, "tag")
	}
	raw := build(t, h, "payload")
	if n := testing.AllocsPerRun(100, func() {
		if _, err := Parse(key, raw); err != nil {
			t.Fatal(err)
		}
	}); n > 2 {
		t.Errorf("%v allocations for 50 tags and an ETag, want one for all texts and one for the list", n)
	}
}

func TestStringsDoNotAliasTheInput(t *testing.T) {
	raw := build(t, samples["full"].header, "payload")
	f, err := Parse(key, raw)
	if err != nil {
		t.Fatal(err)
	}
	clear(raw)
	if want := samples["full"].header; !reflect.DeepEqual(f.Tags, want.Tags) || f.ETag != want.ETag {
		t.Errorf("after the input was cleared: %q, %q", f.Tags, f.ETag)
	}
}

func TestAppendingToThePayloadDoesNotTouchTheHash(t *testing.T) {
	raw := build(t, samples["value"].header, "payload")
	before := bytes.Clone(raw)
	f, err := Parse(key, raw)
	if err != nil {
		t.Fatal(err)
	}
	_ = append(f.Payload, "and more"...)
	if !bytes.Equal(raw, before) {
		t.Error("the payload has room that belongs to the hash")
	}
}

// knownOnly drops the extras that Parse skips.
func knownOnly(extras []byte) (known []byte) {
	for len(extras) > 0 {
		typ, _, n := nextExtra(extras)
		if typ == extraTag || typ == extraETag {
			known = append(known, extras[:n]...)
		}
		extras = extras[n:]
	}
	return known
}

// FuzzReencode starts behind the checksums, which a fuzzer would not get through:
// what is read and written again has the same bytes, but for extras that were
// skipped.
func FuzzReencode(f *testing.F) {
	f.Add([]byte(nil), []byte("payload"), uint8(1))
	f.Add([]byte{2, 1, 'a', 2, 0, 4, 1, 'e'}, []byte(nil), uint8(2))
	f.Add([]byte{7, 2, 'x', 'y', 2, 1, 'a', 4, 1, 'e'}, []byte("p"), uint8(1))
	f.Add([]byte{2, 0x81, 0, 'a'}, []byte("p"), uint8(1))
	f.Add(append([]byte{2, 0x80, 1}, make([]byte, 128)...), []byte("p"), uint8(1))
	f.Fuzz(func(t *testing.T, extras, payload []byte, kind uint8) {
		raw := reseal(withExtras(t, extras, payload), 4, kind)
		fr, err := Parse(key, raw)
		if err != nil {
			if errors.Is(err, ErrForeign) {
				t.Fatal("a frame is taken for foreign bytes")
			}
			return
		}
		again, err := Finish(append(AppendHeader(nil, &fr.Header), fr.Payload...), 0, key)
		if err != nil {
			t.Fatal(err)
		}
		want := raw
		if known := knownOnly(extras); len(known) != len(extras) {
			want = reseal(withExtras(t, known, payload), 4, kind)
		}
		if !bytes.Equal(again, want) {
			t.Fatalf("read as %+v and written again:\n%x\nwant\n%x", fr, again, want)
		}
	})
}
