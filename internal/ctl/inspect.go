package ctl

import (
	stdbytes "bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"strings"

	"github.com/delqhi/cache/internal/frame"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/writebehind"
)

// inspection is the answer of inspect.
type inspection struct {
	Cache    text `json:"cache"`
	Key      text `json:"key"`
	RedisKey text `json:"redis_key"`
	*record
	Value    *decodedValue `json:"value,omitempty"`
	Absent   []text        `json:"absent_because,omitempty"`
	Replaced *record       `json:"replacement,omitempty"` // the lease of a load that is to replace the value
	Queued   *queued       `json:"queued,omitempty"`      // a write that has not reached the source
}

// queued is a write of a write-behind queue.
type queued struct {
	ID       string        `json:"id"`
	Deleted  bool          `json:"deleted,omitempty"`
	Attempts int           `json:"attempts"` // failed ones
	AgeSecs  float64       `json:"age_seconds"`
	Value    *decodedValue `json:"value,omitempty"`
}

func inspectCommand() *command {
	var values, quoted bool
	var typ string
	return &command{
		name: "inspect", args: "NAME KEY", short: "explain what Redis has under a key, and why it would be a miss", min: 1, max: 2,
		long: `Explains what Redis has under a key of a cache: what kind of record it is, its age and
the rest of its life, its tags, version and codec, and whether a process of the fleet would take it for a hit, with
every reason if not. It changes nothing, and extends no life.

KEY is written as the cache writes it after prefix and name: 42, alice, or acme:42 for a struct of two fields (in
which '%' and ':' of a field are %25 and %3A). Instead of NAME KEY a whole Redis key may be given, as Cache.RedisKey
returns it.

What the local tiers of processes hold can't be seen here. Version and type are shown as they are in the record: a
process with another cache.WithVersion, another codec or another type of V does not read it. The record has only a hash
of codec and type: the codec is recognised by the form of the value, and surely if the type is a common one, or is named
by -type.`,
		examples: []example{
			{"inspect users 42", "the entry of the key 42 in the cache users"},
			{"inspect shop:users:42 -prefix shop:", "the same by its Redis key"},
			{"inspect users 42 -values", "with the value, as JSON where the codec allows"},
			{"inspect users 42 -type example.com/shop.User", "make sure of the codec"},
		},
		flags: func(fs *flag.FlagSet) {
			fs.BoolVar(&values, "values", false, "show the value")
			fs.StringVar(&typ, "type", "", "the `TYPE` V of the cache, with the path of its package: then the codec is made sure of")
			quotedFlag(fs, &quoted)
		},
		run: func(ctx context.Context, c *call) error {
			if err := c.unquote(quoted, 0); err != nil {
				return err
			}
			name, key, err := c.nameAndKey()
			if err != nil {
				return err
			}
			i, err := c.inspect(ctx, name, key, typ)
			if err != nil {
				return err
			}
			if !values {
				i.hide()
			}
			return c.answer(i, func(w io.Writer) { i.write(w, values) })
		},
	}
}

func quotedFlag(fs *flag.FlagSet, quoted *bool) {
	fs.BoolVar(quoted, "quoted", false, `arguments in double quotes are read as Go strings, as this program prints them: '"a\x00b"'`)
}

// unquote reads quoted arguments from the i-th one on.
func (c *call) unquote(quoted bool, i int) error {
	if !quoted {
		return nil
	}
	for ; i < len(c.args); i++ {
		s, err := unquoted(c.args[i])
		if err != nil {
			return err
		}
		c.args[i] = s
	}
	return nil
}

func (c *call) nameAndKey() (name, key string, err error) {
	if len(c.args) == 2 {
		return c.args[0], c.args[1], checkName(c.args[0])
	}
	rest, ok := strings.CutPrefix(c.args[0], c.keyPrefix)
	if ok {
		name, key, ok = strings.Cut(rest, ":")
	}
	if !ok {
		return "", "", usagef("%s is no Redis key%s, which is prefix + name + ':' + key: give the name and the key", quote(c.args[0]), c.underPrefix())
	}
	if name == "" {
		return "", "", usagef("%s is not the key of an entry: give the name and the key", quote(c.args[0]))
	}
	return name, key, checkName(name)
}

func (s *session) inspect(ctx context.Context, name, key, typ string) (*inspection, error) {
	names := s.names(name)
	rk := names.Data + key
	reply := s.st.Do(ctx, []store.Command{{Op: store.Get, Key: rk}})[0]
	if reply.Err != nil {
		return nil, reply.Err
	}
	now, err := s.st.Now(ctx, rk)
	if err != nil {
		return nil, err
	}
	i := &inspection{Cache: text(name), Key: text(key), RedisKey: text(rk), record: parseRecord(rk, reply.Record, now)}
	if reply.Record.State != store.Missing {
		ttl, err := s.rdb.PTTL(ctx, rk).Result()
		if err != nil {
			return nil, err
		}
		if ttl >= 0 {
			i.TTLSecs = seconds(ttl)
		}
	}
	clocks, err := s.readClocks(ctx, s.keyPrefix, name)
	if err != nil {
		return nil, err
	}
	if err := i.judge(ctx, s, rk, &clocks); err != nil {
		return nil, err
	}
	switch f := &i.frame; i.Kind {
	case "value":
		v := decodeValue(f.Payload, f.Type, typ)
		i.Value = &v
	case "absence":
		if list, ok := absenceReasons(f.Payload); ok {
			i.Absent = texts(list)
		}
	}
	if i.Kind == kindNothing && clocks.state() == clockMissing {
		i.note("no cache %s is known%s: cachectl list shows those that are", quote(name), s.underPrefix())
	}
	if i.Kind == kindNothing && names.Data != "" && strings.HasPrefix(key, names.Data) {
		i.note("KEY is without the prefix and the name: did you mean %s?", quote(strings.TrimPrefix(key, names.Data)))
	}
	if err := s.findLock(ctx, i, names.Lock+key); err != nil {
		return nil, err
	}
	return i, s.findQueued(ctx, i, name, typ)
}

// findLock finds the load that is to replace a value which stays meanwhile.
func (s *session) findLock(ctx context.Context, i *inspection, lock string) error {
	reply := s.st.Do(ctx, []store.Command{{Op: store.Get, Key: lock}})[0]
	if reply.Err != nil {
		return reply.Err
	}
	if reply.Record.State == store.Missing {
		return nil
	}
	i.Replaced = parseRecord(lock, reply.Record, i.now)
	if i.Replaced.frame.Kind == frame.Lease {
		i.Replaced.Reasons = nil
		i.note("a load is in flight that is to replace it")
	}
	return nil
}

// findQueued finds a write of the key in a write-behind queue.
func (s *session) findQueued(ctx context.Context, i *inspection, name, typ string) error {
	q := store.NewQueueNames(s.keyPrefix, name, writebehind.Partition(string(i.Key)))
	n, err := s.rdb.XLen(ctx, q.Log).Result()
	if err != nil && answered(err) { // no permission for queues, say
		return nil
	}
	if err != nil || n == 0 {
		return err
	}
	found, err := s.st.Newest(ctx, []store.Ask{{Queue: q, Keys: []string{string(i.Key)}}})
	if err != nil {
		return err
	}
	e := found[0][0]
	if e.ID == "" {
		return nil
	}
	now, err := s.st.Now(ctx, q.Log)
	if err != nil {
		return err
	}
	i.Queued = &queued{ID: e.ID, Deleted: e.Delete, Attempts: e.Attempts, AgeSecs: store.AgeOf(e.ID, now/1000).Seconds()}
	if !e.Delete {
		v := decodeValue(e.Value, i.frame.Type, typ)
		i.Queued.Value = &v
	}
	return nil
}

// hide removes values.
func (i *inspection) hide() {
	for _, v := range []*decodedValue{i.Value, i.queuedValue()} {
		if v != nil {
			v.JSON, v.Base64, v.hidden = nil, "", true
		}
	}
}

func (i *inspection) queuedValue() *decodedValue {
	if i.Queued == nil {
		return nil
	}
	return i.Queued.Value
}

func (i *inspection) write(w io.Writer, values bool) {
	rows := [][]string{{"key", quote(string(i.RedisKey))}}
	row := func(name, format string, args ...any) {
		rows = append(rows, []string{name, fmt.Sprintf(format, args...)})
	}
	r := i.record
	kind := r.Kind
	if r.Size > 0 {
		kind += ", " + bytes(int64(r.Size))
	}
	row("kind", "%s", kind)
	switch r.Read {
	case hit:
		row("a read", "would be a hit")
	case old:
		row("a read", "would be a miss, or get it as a stale value:")
	case wait:
		row("a read", "would wait:")
	default:
		row("a read", "would be a miss:")
	}
	for _, why := range r.Reasons {
		row("", "- %s", why)
	}
	if r.AgeSecs != nil {
		row("age", "%s", span(ofSeconds(*r.AgeSecs)))
	}
	r.writeLife(row)
	if len(r.Tags) > 0 {
		row("tags", "%s", quoteAll(r.Tags))
	}
	if r.Version != nil {
		row("version", "%d", *r.Version)
	}
	if v := i.Value; v != nil {
		row("codec", "%s", v.codec(r.Type))
	} else if r.Type != "" {
		row("codec", "not known: codec and type have the hash %s", r.Type)
	}
	if r.ETag != "" {
		row("etag", "%s", quote(string(r.ETag)))
	}
	if r.Error != "" {
		row("error", "%s", printable(string(r.Error)))
	}
	if len(i.Absent) > 0 {
		row("absent", "the source said %s", quoteAll(i.Absent))
	}
	if q := i.Queued; q != nil {
		row("queued", "%s", q.describe())
	}
	for _, n := range r.Notes {
		row("note", "%s", n)
	}
	if i.Value != nil {
		row("value", "%s", i.Value.show(values))
	}
	if v := i.queuedValue(); v != nil {
		row("queued value", "%s", v.show(values))
	}
	columns(w, rows...)
}

func (r *record) writeLife(row func(name, format string, args ...any)) {
	value := r.Kind == "value" || r.Kind == "absence"
	switch {
	case !value:
	case r.FreshSecs == nil:
		row("fresh", "for ever")
	case *r.FreshSecs > 0:
		row("fresh", "for another %s%s", span(ofSeconds(*r.FreshSecs)), ofLife(r.frame.Fresh))
	default:
		row("fresh", "no more: it ended %s", ago(-ofSeconds(*r.FreshSecs)))
	}
	if value && r.StaleSecs != nil {
		row("stale", "for another %s after that", span(ofSeconds(*r.StaleSecs)))
	}
	if r.LoadSecs != nil {
		row("load", "took %s", span(ofSeconds(*r.LoadSecs)))
	}
	switch {
	case r.Kind == kindNothing:
	case r.TTLSecs != nil:
		row("in Redis", "for another %s", span(ofSeconds(*r.TTLSecs)))
	default:
		row("in Redis", "without an end")
	}
}

// ofLife is the whole life behind its rest; a value without an end has one only by a delay.
func ofLife(fresh uint64) string {
	if fresh == 0 {
		return ""
	}
	return ", of " + span(life(fresh))
}

func (q *queued) describe() string {
	what := "a write of the key"
	if q.Deleted {
		what = "a Delete of the key"
	}
	s := fmt.Sprintf("%s has been waiting for the source for %s", what, span(ofSeconds(q.AgeSecs)))
	if q.Attempts > 0 {
		s += ", after " + number(int64(q.Attempts), "failed attempt", "failed attempts")
	}
	return s
}

func (v *decodedValue) codec(hash string) string {
	switch {
	case v.Sure:
		return v.Codec + " of " + quote(v.TypeName)
	case v.Codec != "":
		return v.Codec + ", by its form; codec and type have the hash " + hash
	}
	return "not known: encrypted, or the program's own; codec and type have the hash " + hash
}

// show shows the value, or says how.
func (v *decodedValue) show(values bool) string {
	switch {
	case !values:
		return bytes(int64(v.Size)) + ", hidden: -values shows it"
	case v.JSON != nil:
		var b stdbytes.Buffer
		if err := json.Indent(&b, v.JSON, "\t", "  "); err == nil {
			return safeJSONLines(b.String())
		}
		return safeJSON(string(v.JSON))
	}
	return "in base64: " + v.Base64
}

// safeJSONLines is safeJSON for JSON that json.Indent has indented by tabs.
func safeJSONLines(s string) string {
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		tab := ""
		if strings.HasPrefix(l, "\t") {
			tab, l = "\t", l[1:]
		}
		lines[i] = tab + safeJSON(l)
	}
	return strings.Join(lines, "\n")
}

func quoteAll(list []text) string {
	out := make([]string, len(list))
	for i, t := range list {
		out[i] = quote(string(t))
	}
	return strings.Join(out, " ")
}
