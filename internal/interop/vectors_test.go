package interop_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/delqhi/cache/internal/frame"
	"github.com/delqhi/cache/internal/keys"
	"github.com/delqhi/cache/internal/logicalclock"
	"github.com/delqhi/cache/internal/message"
	"github.com/delqhi/cache/internal/store"
)

var update = flag.Bool("update", false, "rewrite the test vectors below docs/clients")

const (
	folder = "../../docs/clients/"
	second = 1_000_000 // µs
)

// vectors is the file of test vectors. Numbers of 64 bits are texts, since JSON of other languages
// has no more than 53 bits; bytes are hexadecimal.
type vectors struct {
	Checksums []checksum   `json:"checksums"`
	Frames    []frameOf    `json:"frames"`
	Validity  []validity   `json:"validity"`
	BadEpochs []string     `json:"bad_epochs"`
	Messages  []messageOf  `json:"messages"`
	Keys      []encodedKey `json:"keys"`
	Names     []names      `json:"names"`
	Parts     []partOf     `json:"parts"`
	Types     []typeOf     `json:"types"`
}

type checksum struct {
	Bytes    string `json:"bytes"`
	CRC32C   string `json:"crc32c"`
	XXHash64 string `json:"xxhash64"`
}

type frameOf struct {
	Name   string         `json:"name"`
	Key    string         `json:"key"`
	Bytes  string         `json:"bytes"`
	Error  string         `json:"error,omitempty"` // foreign, corrupt, newer
	Frame  map[string]any `json:"frame,omitempty"`
	States []stateAt      `json:"states,omitempty"`
}

type stateAt struct {
	Now   string `json:"now"`
	State string `json:"state"`
}

type validity struct {
	Name        string   `json:"name"`
	Epoch       string   `json:"epoch"`
	Tombstones  []string `json:"tombstones"` // of the record's tags, "" where there is none
	RecordEpoch string   `json:"record_epoch"`
	LogicalTime string   `json:"logical_time"`
	Stored      string   `json:"stored"`
	Cost        string   `json:"cost"`
	Now         string   `json:"now"`
	Verdict     string   `json:"verdict"`
}

type messageOf struct {
	Name    string   `json:"name"`
	Bytes   string   `json:"bytes"`
	Kind    int      `json:"kind"`
	Sender  string   `json:"sender"`
	Number  string   `json:"number"`
	Base    string   `json:"base"`
	QuietMS int64    `json:"quiet_ms"`
	Strings []string `json:"strings,omitempty"` // keys or tags
	Last    bool     `json:"last,omitempty"`
	Part    int      `json:"part,omitempty"` // kind 6
}

type encodedKey struct {
	Fields  []any  `json:"fields"`
	Encoded string `json:"encoded"`
}

type names struct {
	Prefix   string `json:"prefix"`
	Name     string `json:"name"`
	Database int    `json:"database"`
	Data     string `json:"data"`
	Epoch    string `json:"epoch"`
	Tags     string `json:"tags"`
	Channel  string `json:"channel"`
	Lock     string `json:"lock"`
}

// partOf is where a key's logical clock is on a cluster.
type partOf struct {
	Prefix string `json:"prefix"`
	Name   string `json:"name"`
	Key    string `json:"key"` // encoded
	Slot   int    `json:"slot"`
	Part   int    `json:"part"`
	Epoch  string `json:"epoch"`
	Tags   string `json:"tags"`
}

type typeOf struct {
	Codec       string `json:"codec"`
	Type        string `json:"type"`
	Fingerprint string `json:"fingerprint"`
}

func id(n byte) (id frame.ID) {
	for i := range id {
		id[i] = n + byte(i)
	}
	return id
}

func decimal[T int64 | uint64 | uint32](n T) string { return fmt.Sprint(n) }

func checksums() (out []checksum) {
	long := make([]byte, 200)
	for i := range long {
		long[i] = byte(i * 7)
	}
	for _, n := range []int{0, 1, 3, 4, 7, 8, 31, 32, 33, 63, 64, 100, 200} {
		b := long[:n]
		out = append(out, checksum{
			hex.EncodeToString(b), fmt.Sprintf("%08x", crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))), fmt.Sprintf("%016x", xxhash.Sum64(b)),
		})
	}
	return out
}

// frames are records of every kind, and what is none.
func frames(t *testing.T) (out []frameOf) {
	key := "shop:products:42"
	header := frame.Header{
		Kind: frame.Value, ID: id(1), Limit: math.MaxInt64, Version: 3, Type: 0x0102030405060708, Stored: 1_000 * second,
		Fresh: 60 * second, Stale: 30 * second, LogicalTime: 900 * second, Epoch: 1<<53 - 1, Cost: 1500,
		Tags: []string{"red", "größe:xl", ""}, ETag: `W/"1"`,
	}
	build := func(h frame.Header, key, extras, payload string) []byte {
		raw := append(frame.AppendHeader(nil, &h), extras...)
		if extras != "" {
			binary.BigEndian.PutUint32(raw[92:], binary.BigEndian.Uint32(raw[92:])+uint32(len(extras)))
		}
		raw, err := frame.Finish(append(raw, payload...), 0, key)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	with := func(change func(*frame.Header)) frame.Header {
		h := header
		change(&h)
		return h
	}
	add := func(name, key string, raw []byte) {
		v := frameOf{Name: name, Key: hex.EncodeToString([]byte(key)), Bytes: hex.EncodeToString(raw)}
		f, err := frame.Parse(key, raw)
		switch {
		case errors.Is(err, frame.ErrForeign):
			v.Error = "foreign"
		case errors.Is(err, frame.ErrNewer):
			v.Error = "newer"
		case err != nil:
			v.Error = "corrupt"
		default:
			v.Frame = fieldsOf(&f)
			for _, now := range []int64{0, 999 * second, 1_000 * second, 1_060*second - 1, 1_060 * second, 1_089 * second, 1_090 * second, 9_000 * second} {
				if f.Kind == frame.Value || f.Kind == frame.Absence {
					v.States = append(v.States, stateAt{decimal(now), stateOf(&f, now)})
				}
			}
		}
		out = append(out, v)
	}
	value := build(header, key, "", `{"name":"Lamp","stock":3}`)
	plain := with(func(h *frame.Header) { h.Tags, h.ETag, h.Stale = nil, "", 0 })
	add("a value", key, value)
	add("a value without tags", key, build(plain, key, "", "plain"))
	add("an empty value", key, build(plain, key, "", ""))
	add("a value for ever", key, build(with(func(h *frame.Header) { h.Fresh, h.Cost = 0, frame.OfOlder }), key, "", "x"))
	add("a value of 300 bytes", key, build(plain, key, "", strings.Repeat("\x00\xff8", 100)))
	add("a value invalidated lazily", key, build(with(func(h *frame.Header) { h.Limit = 0 }), key, "", "x"))
	add("a value that ends soon", key, build(with(func(h *frame.Header) { h.Limit = 1_010 * second }), key, "", "x"))
	add("a key of other bytes", "\x00\xff:é", build(header, "\x00\xff:é", "", "x"))
	add("an absence", key, build(with(func(h *frame.Header) { h.Kind, h.Tags, h.ETag = frame.Absence, nil, "" }), key, "", ""))
	add("a lease", key, frame.AppendLease(nil, id(9)))
	add("a lease that a process waits for", key, append(frame.AppendLease(nil, id(9)), 1))
	add("a lease that two processes wait for", key, append(frame.AppendLease(nil, id(9)), "waiter-0waiter-1"...))
	add("a lease that too many processes wait for", key, append(frame.AppendLease(nil, id(9)), strings.Repeat("waiter-0", 7)+"\x01"...))
	add("a lease with half an id", key, append(frame.AppendLease(nil, id(9)), "wait"...))
	add("a lease with another byte", key, append(frame.AppendLease(nil, id(9)), 2))
	add("a lease that says when it began", key, frame.AppendLeaseSince(nil, id(9), 900*second, true))
	add("an intent", key, frame.AppendIntent(nil, id(9)))
	failure, err := frame.AppendFailure(nil, key, header, frame.Failed{Lease: id(9), NoStale: true, Text: "the source is down"})
	if err != nil {
		t.Fatal(err)
	}
	add("a failure", key, failure)
	add("an unknown odd extra is skipped", key, build(plain, key, "\x07\x02ab", "x"))
	add("an unknown even extra", key, build(plain, key, "\x08\x02ab", "x"))
	add("a tag behind the ETag", key, build(header, key, "\x02\x01a", "x"))
	add("a length of two bytes where one would do", key, build(plain, key, "\x02\x81\x00a", "x"))
	add("extras that are cut off", key, build(plain, key, "\x02\x05ab", "x"))
	add("under another key", "shop:products:43", value)
	for name, change := range map[string]func([]byte) []byte{
		"nothing": func([]byte) []byte { return nil }, "JSON": func([]byte) []byte { return []byte(`{"a":1}`) },
		"the magic alone": func(b []byte) []byte { return b[:3] }, "cut off": func(b []byte) []byte { return b[:len(b)-1] },
		"longer": func(b []byte) []byte { return append(b, 0) }, "a byte changed": func(b []byte) []byte { b[120] ^= 1; return b },
		"a limit changed": func(b []byte) []byte { b[30] ^= 1; return b }, "a newer version": func(b []byte) []byte { b[3] = 2; return b },
		"version 0": func(b []byte) []byte { b[3] = 0; return b },
	} {
		add(name, key, change(bytes.Clone(value)))
	}
	add("a kind of its own", key, frame.AppendSeal(nil, 9, id(1), 0))
	sortBy(out, func(f frameOf) string { return f.Name })
	return out
}

// fieldsOf are the fields of a frame as the other languages name them.
func fieldsOf(f *frame.Frame) map[string]any {
	kinds := map[frame.Kind]string{frame.Value: "value", frame.Absence: "absence", frame.Lease: "lease", frame.Failure: "failure", frame.Intent: "intent"}
	m := map[string]any{"kind": kinds[f.Kind], "id": hex.EncodeToString(f.ID[:]), "limit": decimal(f.Limit)}
	if f.Kind == frame.Lease || f.Kind == frame.Intent {
		return m
	}
	tags := []string{}
	for _, t := range f.Tags {
		tags = append(tags, hex.EncodeToString([]byte(t)))
	}
	m["version"], m["type"], m["stored"] = decimal(f.Version), decimal(f.Type), decimal(f.Stored)
	m["fresh"], m["stale"], m["logical_time"] = decimal(f.Fresh), decimal(f.Stale), decimal(f.LogicalTime)
	m["epoch"], m["cost"], m["tags"] = decimal(f.Epoch), decimal(f.Cost), tags
	m["etag"], m["payload"] = hex.EncodeToString([]byte(f.ETag)), hex.EncodeToString(f.Payload)
	return m
}

// stateOf is what docs/format.md says of the life of a record.
func stateOf(f *frame.Frame, now int64) string {
	age := uint64(max(now-f.Stored, 0))
	switch {
	case f.Limit <= 0, f.Limit != math.MaxInt64 && now >= f.Limit:
		return "over"
	case f.Fresh == 0 || age < f.Fresh:
		return "fresh"
	case f.Kind == frame.Value && age < f.Fresh+f.Stale:
		return "stale"
	}
	return "over"
}

// validities are records held against states of the logical clock.
func validities(t *testing.T) (out []validity) {
	const now = 10_000 * second
	add := func(name, epoch string, tombstones []string, h frame.Header) {
		v := validity{
			Name: name, Epoch: epoch, Tombstones: tombstones, RecordEpoch: decimal(h.Epoch), LogicalTime: decimal(h.LogicalTime),
			Stored: decimal(h.Stored), Cost: decimal(h.Cost), Now: decimal(int64(now)),
		}
		e, ok := logicalclock.ParseEpoch([]byte(epoch))
		if !ok {
			t.Fatal(name, epoch)
		}
		m := logicalclock.Reading{Epoch: e, Now: now}
		for _, text := range tombstones {
			var mark logicalclock.Tombstone
			if text != "" {
				if mark, ok = logicalclock.ReadTombstone(text); !ok {
					t.Fatal(name, text)
				}
			}
			m.Tags = append(m.Tags, mark)
		}
		began, ok := h.Began()
		if !ok {
			began = 0
		}
		verdict, _ := logicalclock.ValidateBy(&m, h.Epoch, h.LogicalTime, began, 1, 1)
		v.Verdict = map[logicalclock.Validity]string{logicalclock.Valid: "valid", logicalclock.Stale: "stale", logicalclock.Invalid: "invalid"}[verdict]
		out = append(out, v)
	}
	// The numbers: id, tick, clock, low watermark, hard, soft, next and when of all, whether there are tags.
	clock := func(all string) string { return "e1 7 9000000000 9000000000 1000000000 " + all + " 1" }
	at := func(logical, began int64) frame.Header {
		return frame.Header{Epoch: 7, LogicalTime: logical * second, Stored: began * second}
	}
	older := at(5_000, 5_000)
	older.Cost = frame.OfOlder
	add("nothing was invalidated", clock("0 0 0 0"), nil, at(5_000, 5_000))
	add("another epoch", clock("0 0 0 0"), nil, frame.Header{Epoch: 8, LogicalTime: 5_000 * second})
	add("no epoch", clock("0 0 0 0"), nil, frame.Header{LogicalTime: 5_000 * second})
	add("later than the clock", clock("0 0 0 0"), nil, at(9_001, 9_001))
	add("before Clear", clock("6000000000 0 0 0"), nil, at(5_000, 5_000))
	add("after Clear", clock("6000000000 0 0 0"), nil, at(6_000, 6_000))
	add("before a lazy Clear", clock("0 6000000000 0 0"), nil, at(5_000, 5_000))
	add("before a delayed Clear that is due", clock("0 0 6000000000 9500000000"), nil, at(5_000, 5_000))
	add("before a delayed Clear that is not due", clock("0 0 6000000000 20000000000"), nil, at(5_000, 5_000))
	add("before a late Clear of that time", clock("0 0 6000000000 5500000000"), nil, at(5_000, 5_400))
	add("before a late Clear, and began after its time", clock("0 0 6000000000 5500000000"), nil, at(5_000, 5_600))
	add("before a late Clear, and it is not known when it began", clock("0 0 6000000000 5500000000"), nil, older)
	add("below the low watermark", clock("0 0 0 0"), nil, at(500, 500))
	add("below the low watermark, with a tag", clock("0 0 0 0"), []string{""}, at(500, 500))
	add("a tag without a tombstone", clock("0 0 0 0"), []string{""}, at(5_000, 5_000))
	add("a tag invalidated before", clock("0 0 0 0"), []string{"m1 4000000000 0 0 0"}, at(5_000, 5_000))
	add("a tag invalidated after", clock("0 0 0 0"), []string{"", "m1 6000000000 0 0 0"}, at(5_000, 5_000))
	add("a tag invalidated lazily", clock("0 0 0 0"), []string{"m1 0 6000000000 0 0"}, at(5_000, 5_000))
	add("a tag invalidated lazily, and everything", clock("5500000000 0 0 0"), []string{"m1 0 6000000000 0 0"}, at(5_000, 5_000))
	add("a tag invalidated with a delay that is over", clock("0 0 0 0"), []string{"m1 0 0 6000000000 9900000000"}, at(5_000, 5_000))
	add("a tag invalidated with a delay that another one includes", clock("0 0 0 0"), []string{"m1 7000000000 0 6000000000 99000000000"}, at(7_000, 7_000))
	return out
}

// badEpochs are texts that are no epoch.
func badEpochs(t *testing.T) []string {
	list := []string{
		"", "e1", "e2 7 9 9 1 0 0 0 0 0", "e1 0 9 9 1 0 0 0 0 0", "e1 7 9 9 1 0 0 0 0", "e1 7 9 9 1 0 0 0 0 0 0", "e1 7 9 9 1 0 0 0 0 2",
		"e1 07 9 9 1 0 0 0 0 0", "e1 7 9 9 -1 0 0 0 0 0", "e1 7 9  9 1 0 0 0 0", "e1 7 9 9 10 0 0 0 0 0", "e1 7 9 9 1 10 0 0 0 0",
		"e1 9007199254740992 9 9 1 0 0 0 0 0", "e1 7 9 9 1 0 0 0 0 0 ", "e1 7 9 9 1 0 0 0 0 x",
	}
	for _, text := range list {
		if _, ok := logicalclock.ParseEpoch([]byte(text)); ok {
			t.Errorf("the epoch %q is accepted", text)
		}
	}
	return list
}

func messages() (out []messageOf) {
	for _, v := range []struct {
		name string
		m    message.Message
	}{
		{"the first one", message.Message{Sender: 1, Number: 1, Kind: message.Invalidated, Keys: []string{"42"}}},
		{"several keys", message.Message{Sender: math.MaxUint64, Number: 500, Base: 499, Quiet: 90 * time.Minute, Kind: message.Invalidated, Keys: []string{"a", "", "\x00\xff", strings.Repeat("k", 200)}}},
		{"tags", message.Message{Sender: 7, Number: 2, Base: 1, Quiet: 300 * time.Millisecond, Kind: message.TagsInvalidated, Tags: []string{"red", "größe:xl"}}},
		{"everything", message.Message{Sender: 7, Number: 3, Base: 2, Kind: message.TagsInvalidated}},
		{"tags in a part of a cluster's keys", message.Message{Sender: 7, Number: 4, Base: 3, Kind: message.PartTagsInvalidated, Part: 15, Tags: []string{"red", "größe:xl"}}},
		{"everything in a part of a cluster's keys", message.Message{Sender: 7, Number: 5, Base: 3, Kind: message.PartTagsInvalidated, Part: 3}},
		{"a watermark", message.Message{Sender: 7, Number: 3, Kind: message.Watermark}},
		{"the last one", message.Message{Sender: 7, Number: 3, Kind: message.Watermark, Last: true}},
	} {
		o := messageOf{
			Name: v.name, Bytes: hex.EncodeToString(v.m.Append(nil)), Kind: int(v.m.Kind), Sender: decimal(v.m.Sender), Number: decimal(v.m.Number),
			Base: decimal(v.m.Base), QuietMS: v.m.Quiet.Milliseconds(), Last: v.m.Last, Part: int(v.m.Part),
		}
		for _, s := range append(v.m.Keys, v.m.Tags...) {
			o.Strings = append(o.Strings, hex.EncodeToString([]byte(s)))
		}
		out = append(out, o)
	}
	return out
}

func encodedKeys(t *testing.T) (out []encodedKey) {
	for _, fields := range [][]any{
		{"42"}, {42}, {true}, {"a:b%c"}, {"a:b", "c%"}, {"", ""}, {"acme", 7, false}, {"größe", -1},
	} {
		text, err := keys.Join(fields...)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, encodedKey{fields, hex.EncodeToString([]byte(text))})
	}
	return out
}

func namesOf() (out []names) {
	for _, v := range []names{{Name: "users"}, {Prefix: "shop:", Name: "users"}, {Prefix: "p:", Name: "größe", Database: 3}} {
		n := store.NewNames(v.Prefix, v.Name).In(v.Database)
		v.Data, v.Epoch, v.Tags, v.Channel, v.Lock = n.Data, n.Epoch, n.Tags, n.Channel, n.Lock
		out = append(out, v)
	}
	return out
}

// partsOf has keys in each part, and one whose prefix keeps all keys in one slot.
func partsOf(t *testing.T) (out []partOf) {
	seen := map[int]bool{}
	for i := 0; len(seen) < store.Parts; i++ {
		v := partOf{Prefix: "shop:", Name: "größe", Key: strconv.Itoa(i)}
		if i == 0 {
			v.Prefix = "{shop}:"
		}
		if i%3 == 1 {
			v.Key = fmt.Sprintf("{%d}:x", i)
		}
		n := store.NewNames(v.Prefix, v.Name)
		parts := n.Parted(true)
		v.Slot = store.SlotOf(n.Data + v.Key)
		if len(parts) > 1 {
			if v.Part = int(store.PartOf(n.Data + v.Key)); seen[v.Part] {
				continue
			}
			seen[v.Part] = true
		} else if v.Prefix != "{shop}:" {
			t.Fatal("one clock for", v.Prefix)
		}
		v.Epoch, v.Tags = parts[v.Part].Epoch, parts[v.Part].Tags
		out = append(out, v)
	}
	return out
}

func types() (out []typeOf) {
	for _, v := range []typeOf{{Codec: "raw", Type: "string"}, {Codec: "raw", Type: "[]uint8"}, {Codec: "json", Type: "map[string]int"}, {Codec: "s2(msgpack)", Type: "example.com/shop.Product"}} {
		v.Fingerprint = fmt.Sprintf("%016x", xxhash.Sum64String(v.Codec+"\x00"+v.Type))
		out = append(out, v)
	}
	return out
}

// The vectors are what the code makes. Other languages, and other versions of this library, read
// them: where they change, records in Redis become misses.
func TestTheVectorsAreWhatTheCodeMakes(t *testing.T) {
	v := vectors{checksums(), frames(t), validities(t), badEpochs(t), messages(), encodedKeys(t), namesOf(), partsOf(t), types()}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	if err := e.Encode(v); err != nil {
		t.Fatal(err)
	}
	path := folder + "vectors.json"
	if *update {
		if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, b.Bytes()) {
		t.Errorf("%s is not what the code makes: go test ./internal/interop -update rewrites it", path)
	}
	seen := map[string]int{}
	for _, f := range v.Frames {
		seen[f.Error]++
	}
	for _, x := range v.Validity {
		seen[x.Verdict]++
	}
	for _, what := range []string{"", "foreign", "corrupt", "newer", "valid", "stale", "invalid"} {
		if seen[what] == 0 {
			t.Errorf("no vector is %s", strconv.Quote(what))
		}
	}
}
