package frame

import (
	"bytes"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
)

func TestALeaseSaysSinceWhen(t *testing.T) {
	for _, second := range []bool{false, true} {
		for _, want := range []int64{1, 1_700_000_000_000_000, math.MaxInt64 - 1} {
			h, err := ReadHead(AppendLeaseSince(nil, id(1), want, second))
			if err != nil {
				t.Fatal(err)
			}
			if got, is, ok := h.Since(); !ok || got != want || is != second {
				t.Errorf("%d, %v: %d, %v, %v", want, second, got, is, ok)
			}
		}
	}
	for name, h := range map[string]Header{
		"a lease that does not say": {Kind: Lease, Limit: math.MaxInt64},
		"the time 0":                {Kind: Lease},
		"no time":                   {Kind: Lease, Limit: math.MinInt64},
		"an intent":                 {Kind: Intent, Limit: 5},
		"a value":                   {Kind: Value, Limit: 5},
	} {
		if got, second, ok := h.Since(); ok || got != 0 || second {
			t.Errorf("%s: %d, %v, %v", name, got, second, ok)
		}
	}
}

// A mark is made of all that it stands with in section A, and in section B up to the
// length of the extras; the mark itself is not among it.
func TestWhatAMarkCovers(t *testing.T) {
	raw := build(t, samples["full"].header, "payload")
	covered := AppendMarked([]byte("before"), raw)
	if !bytes.HasPrefix(covered, []byte("before")) {
		t.Fatal("it is not appended")
	}
	for i := range raw {
		b := bytes.Clone(raw)
		b[i] ^= 1
		want := i < 16 || i >= 24 && i < 32 || i >= sealLen && i < payloadAt
		if got := !bytes.Equal(AppendMarked([]byte("before"), b), covered); got != want && i != 4 {
			t.Errorf("byte %d is covered: %v", i, got)
		}
	}
	for name, raw := range map[string][]byte{"lease": AppendLease(nil, id(1)), "intent": AppendIntent(nil, id(1))} {
		if got, want := AppendMarked(nil, raw), append(slices.Clone(raw[:16]), raw[24:32]...); !bytes.Equal(got, want) {
			t.Errorf("%s: %x, want %x", name, got, want)
		}
	}
}

func TestAMarkIsTheSecondHalfOfTheID(t *testing.T) {
	raw := build(t, samples["full"].header, "payload")
	mark := [MarkLen]byte{1, 2, 3, 4, 5, 6, 7, 8}
	want := samples["full"].header.ID
	copy(want[8:], mark[:])
	SetMark(raw, mark)
	f, err := Parse(key, raw)
	if err != nil || Mark(raw) != mark || f.ID != want {
		t.Errorf("%x in %+v, %v", Mark(raw), f, err)
	}
}

// A payload is bound to the kind and to section B up to it without its length.
func TestWhatAPayloadIsBoundTo(t *testing.T) {
	raw := build(t, samples["full"].header, "payload")
	extras := int(be.Uint32(raw[extrasAt:]))
	bound := AppendBound(nil, raw)
	for i := range raw {
		if i >= extrasAt && i < payloadAt {
			continue // says how much it is
		}
		b := bytes.Clone(raw)
		b[i] ^= 1
		want := i == 4 || i >= sealLen && i < payloadAt || i >= headLen && i < headLen+extras
		if got := !bytes.Equal(AppendBound(nil, b), bound); got != want {
			t.Errorf("byte %d is bound: %v", i, got)
		}
	}
	if got := string(AppendBound([]byte("before"), raw)); got != "before"+string(bound) {
		t.Error("it is not appended")
	}
}

func TestAFailureSaysWhomItConcerns(t *testing.T) {
	for _, want := range []Failed{{Cover: true}, {NoStale: true, Cover: true, Text: "x"}, {}} {
		f := Frame{Header: Header{Kind: Failure}, Payload: want.Append(nil)}
		if got, ok := f.Failed(); !ok || got != want {
			t.Errorf("%+v, %v, want %+v", got, ok, want)
		}
	}
}

// Parse and ReadHead tell foreign, newer and damaged apart in the same way, where each of
// the reasons is alone.
func TestParseAndReadHeadRefuseTheSame(t *testing.T) {
	value := build(t, samples["value"].header, "x")
	other := func(at int, to byte) []byte { // without a new checksum
		b := bytes.Clone(value)
		b[at] = to
		return b
	}
	for name, c := range map[string]struct {
		raw  []byte
		want error
	}{
		"long, of another magic": {other(2, 'x'), ErrForeign},
		"the magic alone":        {magic[:], ErrCorrupt},
		"a newer version":        {other(3, 2), ErrNewer},
		"a newer version, cut":   {other(3, 2)[:4], ErrNewer},
		"version 0":              {reseal(value, 3, 0), ErrCorrupt},
		"kind 0":                 {reseal(value, 4, 0), ErrNewer},
		"kind 6":                 {reseal(value, 4, 6), ErrNewer},
		"a flag":                 {reseal(value, 5, 1), ErrNewer},
		"the first reserved":     {reseal(value, 6, 1), ErrNewer},
		"the second reserved":    {reseal(value, 7, 1), ErrNewer},
		"an intent":              {AppendIntent(nil, id(1)), nil},
		"a lease":                {AppendLease(nil, id(1)), nil},
		"a failure":              {build(t, samples["failure"].header, samples["failure"].payload), nil},
	} {
		if _, err := Parse(key, c.raw); !errors.Is(err, c.want) {
			t.Errorf("%s: Parse: %v, want %v", name, err, c.want)
		}
		if _, err := ReadHead(c.raw); !errors.Is(err, c.want) {
			t.Errorf("%s: ReadHead: %v, want %v", name, err, c.want)
		}
	}
}

// The lengths of a frame are looked at also where its hash is right: it may be of a program
// with another idea of them.
func TestLengthsThatDoNotAddUpAreDamage(t *testing.T) {
	for name, at := range map[string]int{"extras": extrasAt, "payload": payloadAt} {
		for _, n := range []uint32{0, 1, 1000, math.MaxUint32} {
			raw := build(t, samples["full"].header, "payload")
			be.PutUint32(raw[at:], n)
			raw = be.AppendUint64(raw[:len(raw)-hashLen], hash(key, raw[sealLen:len(raw)-hashLen]))
			if _, err := Parse(key, raw); !errors.Is(err, ErrCorrupt) {
				t.Errorf("%d bytes of %s: %v", n, name, err)
			}
		}
	}
}

func TestExtrasOfAnyLengthAreRead(t *testing.T) {
	for _, n := range []int{127, 128, 300, 1 << 14} {
		h := samples["value"].header
		h.Tags, h.ETag = []string{strings.Repeat("t", n)}, strings.Repeat("e", n)
		if f, err := Parse(key, build(t, h, "x")); err != nil || f.Tags[0] != h.Tags[0] || f.ETag != h.ETag {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	h := samples["value"].header
	h.ETag = "e"
	if f, err := Parse(key, build(t, h, "x")); err != nil || f.Tags != nil || f.ETag != "e" {
		t.Errorf("an ETag alone: %q, %q, %v", f.Tags, f.ETag, err)
	}
}
