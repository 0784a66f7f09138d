package message

import (
	"errors"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"
)

var samples = map[string]Message{
	"keys":          {Sender: 1, Number: 1, Kind: Invalidated, Keys: []string{"a", "", "\x00\xff:", strings.Repeat("x", 300)}},
	"no keys":       {Sender: math.MaxUint64, Number: math.MaxUint64, Kind: Invalidated},
	"a load's end":  {Sender: 9, Kind: Loaded, Keys: []string{"a"}},
	"a pattern":     {Sender: 9, Number: 3, Kind: Pattern, Pattern: "user:*"},
	"no pattern":    {Sender: 9, Number: 3, Kind: Pattern},
	"marks":         {Sender: 9, Number: 4, Kind: TagsInvalidated, Tags: []string{"t", "u"}, Text: "17\ne1 …"},
	"a mark of all": {Sender: 9, Number: 4, Kind: TagsInvalidated, Text: "17\ne1 …"},
	"no text":       {Sender: 9, Number: 4, Kind: TagsInvalidated, Tags: []string{"t"}},
	"a tally":       {Sender: 9, Number: 500, Kind: Watermark, Skipped: []uint64{1, 500, 3}},
	"after a pause": {Sender: 9, Number: 500, Base: 499, Quiet: time.Hour, Kind: Invalidated, Keys: []string{"a"}},
	"a late tally":  {Sender: 9, Number: 500, Base: 500, Quiet: time.Hour, Kind: Watermark},
	"an empty one":  {Sender: 9, Kind: Watermark},
	"the last one":  {Sender: 9, Number: 500, Kind: Watermark, Last: true},
	"not resolved":  {Sender: 9, Number: 500, Kind: Watermark, Last: true, Unresolved: true},
}

func TestNoticesSurviveTheWay(t *testing.T) {
	for name, n := range samples {
		got, err := Parse(string(n.Append(nil)) + n.Text)
		if err != nil || !reflect.DeepEqual(got, n) {
			t.Errorf("%s: %+v, %v, want %+v", name, got, err, n)
		}
	}
}

func TestAppendAppends(t *testing.T) {
	n := samples["keys"]
	if got := string(n.Append([]byte("before"))); got != "before"+string(n.Append(nil)) {
		t.Errorf("%q", got)
	}
}

// The bytes are what other versions in the same fleet read.
func TestTheLayoutDoesNotChange(t *testing.T) {
	n := Message{Sender: 0x0102030405060708, Number: 260, Base: 258, Quiet: 300 * time.Millisecond, Kind: Watermark, Skipped: []uint64{258, 4}, Last: true}
	const want = "\xC5dn\x01\x05" + "\x01\x02\x03\x04\x05\x06\x07\x08" + "\x00\x00\x00\x00\x00\x00\x01\x04" + "\x02\xac\x02" + "\x01\x02\x80\x02"
	if got := string(n.Append(nil)); got != want {
		t.Errorf("%q", got)
	}
	n = Message{Sender: 1, Number: 1, Kind: TagsInvalidated, Tags: []string{"ab"}}
	if got := string(n.Append(nil))[headLen:]; got != "\x01\x00\x01\x02ab" {
		t.Errorf("%q", got)
	}
}

func TestForeignAndNewerAreToldApart(t *testing.T) {
	head := func(version, kind byte, number byte) string {
		return magic + string([]byte{version, kind}) + "\x00\x00\x00\x00\x00\x00\x00\x01" + "\x00\x00\x00\x00\x00\x00\x00" + string([]byte{number, min(number, 1), 0})
	}
	for name, c := range map[string]struct {
		text string
		want error
	}{
		"nothing":                      {"", ErrForeign},
		"the beginning of the magic":   {magic[:2], ErrForeign},
		"the magic alone":              {magic, ErrForeign},
		"text":                         {"hello, is anybody there?", ErrForeign},
		"version 0":                    {head(0, 1, 1), ErrForeign},
		"a newer version":              {magic + "\x02", ErrNewer},
		"a newer version, and more":    {head(2, 1, 1), ErrNewer},
		"cut off in the head":          {head(1, 1, 1)[:headLen-1], ErrForeign},
		"kind 0":                       {head(1, 0, 1), ErrForeign},
		"a newer kind":                 {head(1, 7, 1) + "\xff", ErrNewer},
		"a newer kind without number":  {head(1, 7, 0), ErrForeign},
		"number 0":                     {head(1, 1, 0), ErrForeign},
		"a key cut off":                {head(1, 1, 1) + "\x02a", ErrForeign},
		"a length in too many bytes":   {head(1, 1, 1) + "\x81\x00a", ErrForeign},
		"a length without an end":      {head(1, 1, 1) + "\x80", ErrForeign},
		"a length beyond 64 bits":      {head(1, 1, 1) + "\x80\x80\x80\x80\x80\x80\x80\x80\x80\x02", ErrForeign},
		"the greatest length":          {head(1, 1, 1) + "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", ErrForeign},
		"no pattern":                   {head(1, 3, 1), ErrForeign},
		"more than a pattern":          {head(1, 3, 1) + "\x01ab", ErrForeign},
		"no number of tags":            {head(1, 4, 1), ErrForeign},
		"more tags than bytes":         {head(1, 4, 1) + "\x03\x00\x00", ErrForeign},
		"no part":                      {head(1, 6, 1), ErrForeign},
		"a part without tags":          {head(1, 6, 1) + "\x03", ErrForeign},
		"tags beyond 64 bits":          {head(1, 4, 1) + "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x00", ErrForeign},
		"a tally without flags":        {head(1, 5, 1), ErrForeign},
		"a tally with a newer flag":    {head(1, 5, 1) + "\x04", ErrNewer},
		"a load's end with a number":   {head(1, 2, 1) + "\x01a", ErrForeign},
		"it skips more than there are": {head(1, 5, 3) + "\x00\x03", ErrForeign},
		"a base of its own number":     {head(1, 1, 1)[:headLen] + "\x00\x00", ErrForeign},
		"a base below 0":               {head(1, 1, 1)[:headLen] + "\x02\x00", ErrForeign},
		"quiet for longer than can be": {head(1, 1, 1)[:headLen] + "\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", ErrForeign},
		"it skips half a number":       {head(1, 5, 3) + "\x00\x80", ErrForeign},
	} {
		n, err := Parse(c.text)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if want := (Message{Sender: 1, Number: 1, Kind: 7}); name == "a newer kind" {
			if !reflect.DeepEqual(n, want) {
				t.Errorf("%s: %+v", name, n)
			}
		} else if n.Sender != 0 {
			t.Errorf("%s: there is a notice with the error: %+v", name, n)
		}
	}
}

func TestParseAllocatesOneSlice(t *testing.T) {
	worst := Message{Sender: 1, Number: 1, Kind: TagsInvalidated, Tags: make([]string, 1000)}
	text := string(worst.Append(nil))
	if n := testing.AllocsPerRun(100, func() { Parse(text) }); n != 1 {
		t.Errorf("%v allocations", n)
	}
}

func TestANoticeIsAppendedWithoutAllocating(t *testing.T) {
	buf := make([]byte, 0, 1000)
	for name, n := range samples {
		if got := testing.AllocsPerRun(100, func() { n.Append(buf) }); got != 0 {
			t.Errorf("%s: %v allocations", name, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, n := range samples {
		f.Add(string(n.Append(nil)) + n.Text)
	}
	f.Add(magic + "\x02")
	f.Fuzz(func(t *testing.T, s string) {
		n, err := Parse(s)
		if err != nil {
			if !errors.Is(err, ErrForeign) && !errors.Is(err, ErrNewer) {
				t.Fatal(err)
			}
			return
		}
		if again := string(n.Append(nil)) + n.Text; again != s {
			t.Errorf("%q was read as %+v, which is written %q", s, n, again)
		}
		if n.Sender == 0 || cap(n.Keys)+cap(n.Tags)+cap(n.Skipped) > len(s) {
			t.Errorf("%+v from %d bytes", n, len(s))
		}
	})
}

func TestDamageDoesNotPanic(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, n := range samples {
		whole := n.Append(nil)
		for range 2000 {
			b := append([]byte(nil), whole...)
			for range 1 + r.IntN(3) {
				b[r.IntN(len(b))] = byte(r.Uint32())
			}
			Parse(string(b[:r.IntN(len(b)+1)]))
		}
	}
}
