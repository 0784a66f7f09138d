package ctl

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/delqhi/cache/internal/frame"
	"github.com/delqhi/cache/internal/store"
	"github.com/redis/go-redis/v9"
)

// stats is the answer of stats.
type stats struct {
	Cache    text  `json:"cache"`
	Keys     int64 `json:"keys"`     // estimated where exact is false
	Exact    bool  `json:"exact"`    // all keys of Redis were looked at
	Scanned  int64 `json:"scanned"`  // keys of Redis that were looked at
	Sampled  int   `json:"sampled"`  // records that were looked at
	Memory   int64 `json:"memory"`   // bytes, estimated
	Measured bool  `json:"measured"` // by MEMORY USAGE; else by the lengths of keys and values

	Kinds    []share   `json:"kinds"`
	Dead     []share   `json:"dead"`     // why records would be a miss
	Programs []program `json:"programs"` // versions and types
	// Sizes, Lives are quantiles: half, nine of ten, the greatest.
	Sizes     [3]int     `json:"sizes"`
	LivesSecs [3]float64 `json:"redis_ttl_seconds"`
	Endless   int        `json:"without_ttl"` // of the sampled
	Queue     *queueSize `json:"queue,omitempty"`
}

// share is a part of the sample.
type share struct {
	What  string  `json:"what"`
	Count int     `json:"count"`
	Share float64 `json:"share"`
}

// program is a version and a type of records.
type program struct {
	Version uint32  `json:"version"`
	Type    string  `json:"type"`
	Codec   string  `json:"codec"` // by the form of most of the values; "" if it is not known
	Count   int     `json:"count"`
	Share   float64 `json:"share"`
}

func statsCommand() *command {
	var scan, sample int
	return &command{
		name: "stats", args: "NAME", short: "measure a cache: memory, keys, absences, records that are dead", min: 1, max: 1, names: true,
		long: `Measures a cache by a sample: how many keys it has and how much memory they take, how many
stand for an absence, and how many are dead: they take memory, and a read would be a miss. It scans keys a thousand at a
time until it has seen -scan of each server, and looks closely at -sample records of the cache. It changes nothing.

More than one VERSION or TYPE means that programs of several versions run, or did: each takes the records of the others
for misses.`,
		examples: []example{
			{"stats users", "by at most 100,000 keys of Redis and 1,000 records"},
			{"stats users -scan 0", "scan all keys: the number of keys is then exact"},
		},
		flags: func(fs *flag.FlagSet) {
			fs.IntVar(&scan, "scan", 100_000, "look at `N` keys of each server at most; 0: all")
			fs.IntVar(&sample, "sample", 1000, "look closely at `N` records at most")
		},
		run: func(ctx context.Context, c *call) error {
			if scan < 0 || sample < 1 {
				return usagef("-scan is not negative, and -sample is positive")
			}
			s, err := c.measure(ctx, c.args[0], scan, sample)
			if err != nil {
				return err
			}
			return c.answer(s, func(w io.Writer) { s.write(w) })
		},
	}
}

func (c *call) measure(ctx context.Context, name string, scan, sample int) (*stats, error) {
	names := c.names(name)
	clocks, err := c.readClocks(ctx, c.keyPrefix, name)
	if err != nil {
		return nil, err
	}
	s := &stats{Cache: text(name), Exact: true}
	picked, err := c.pick(ctx, names, s, scan, sample)
	if err != nil {
		return nil, err
	}
	m := &measurement{stats: s, call: c, clocks: &clocks, kinds: map[string]int{}, dead: map[string]int{}, programs: map[program]map[string]int{}}
	for some := range slices.Chunk(picked, 100) {
		if err := m.look(ctx, some); err != nil {
			return nil, err
		}
	}
	m.sum()
	s.Queue, err = c.queueSize(ctx, c.keyPrefix, name)
	return s, err
}

// pick counts the keys of a cache, and returns a random sample of them.
func (c *call) pick(ctx context.Context, names store.Names, s *stats, scan, sample int) ([]string, error) {
	masters, err := c.st.Masters(ctx)
	if err != nil {
		return nil, err
	}
	var picked []string
	seen := map[string]struct{}{} // a scan may return a key twice
	estimate := 0.0
	for _, master := range masters {
		var all, own int64
		// Of all keys, so that it is known how many were looked at.
		err := c.scanMaster(ctx, master, "*", func(batch []string) error {
			all += int64(len(batch))
			for _, k := range batch {
				if !strings.HasPrefix(k, names.Data) {
					continue
				}
				if _, again := seen[k]; again {
					continue
				}
				seen[k] = struct{}{}
				own++
				if len(picked) < sample {
					picked = append(picked, k)
				} else if i := rand.IntN(len(seen)); i < sample {
					picked[i] = k
				}
			}
			if scan > 0 && all >= int64(scan) {
				return errEnough
			}
			return nil
		})
		s.Scanned += all
		if err == nil {
			estimate += float64(own)
			continue
		}
		if !errors.Is(err, errEnough) {
			return nil, err
		}
		size, err := c.sizeOf(ctx, master)
		if err != nil {
			return nil, err
		}
		if size > all {
			s.Exact = false
		}
		estimate += float64(own) * float64(max(size, all)) / float64(max(all, 1))
	}
	s.Keys = int64(estimate + 0.5)
	return picked, nil
}

// sizeOf returns the number of keys of a master.
func (c *call) sizeOf(ctx context.Context, master string) (n int64, err error) {
	err = c.eachServer(ctx, func(ctx context.Context, addr string, node redis.UniversalClient) error {
		if addr != master {
			return nil
		}
		n, err = node.DBSize(ctx).Result()
		return err
	})
	return n, err
}

// wholeRecord is the size up to which a record is read as a whole; of a larger one only the head.
const wholeRecord = 64 << 10

type measurement struct {
	*stats
	*call
	clocks   *clocks
	kinds    map[string]int
	dead     map[string]int
	programs map[program]map[string]int // by the codec that was recognised
	sizes    []int
	lives    []float64
	memory   int64
}

// look looks at some records.
func (m *measurement) look(ctx context.Context, some []string) error {
	type parts struct {
		head      *redis.StringCmd
		size, use *redis.IntCmd
		ttl       *redis.DurationCmd
	}
	ps := make([]parts, len(some))
	err := m.pipelined(ctx, func(p redis.Pipeliner) {
		for i, k := range some {
			ps[i] = parts{head: p.GetRange(ctx, k, 0, wholeRecord-1), size: p.StrLen(ctx, k), ttl: p.PTTL(ctx, k), use: p.MemoryUsage(ctx, k)}
		}
	})
	if err != nil {
		return err
	}
	for i, k := range some {
		p := &ps[i]
		rec := store.Record{State: store.Found, Raw: []byte(p.head.Val())}
		switch err := cmp.Or(p.head.Err(), p.size.Err()); {
		case isWrongType(err):
			rec = store.Record{State: store.WrongType}
		case err != nil:
			return err
		case p.size.Val() == 0:
			continue // it is gone by now
		}
		now, err := m.st.Now(ctx, k)
		if err != nil {
			return err
		}
		m.Sampled++
		use := int64(len(k)) + p.size.Val() + 60 // what Redis needs besides, about
		if p.use.Err() == nil {
			use, m.Measured = p.use.Val(), true
		}
		m.memory += use
		m.sizes = append(m.sizes, int(p.size.Val()))
		if ttl := p.ttl.Val(); ttl >= 0 {
			m.lives = append(m.lives, ttl.Seconds())
		} else {
			m.Endless++
		}
		if err := m.classify(ctx, k, rec, int(p.size.Val()), now); err != nil {
			return err
		}
	}
	return nil
}

func (m *measurement) classify(ctx context.Context, key string, rec store.Record, size int, now int64) error {
	r := parseRecord(key, rec, now)
	if size > len(rec.Raw) && rec.State == store.Found {
		r = parseHead(key, rec, now)
	}
	if err := r.judge(ctx, m.session, key, m.clocks); err != nil {
		return err
	}
	m.kinds[r.Kind]++
	if r.Read == miss {
		m.dead[r.cause]++
	}
	if r.Kind == "value" {
		p := program{Version: r.frame.Version, Type: r.Type}
		codec := ""
		if size == len(rec.Raw) {
			codec = decodeValue(r.frame.Payload, r.frame.Type, "").Codec
		}
		if m.programs[p] == nil {
			m.programs[p] = map[string]int{}
		}
		m.programs[p][codec]++
	}
	return nil
}

// parseHead judges a record of which only the beginning is known, as far as that goes: not by
// its tags and its checksum.
func parseHead(key string, rec store.Record, now int64) *record {
	h, err := frame.ReadHead(rec.Raw)
	if err != nil || h.Kind != frame.Value && h.Kind != frame.Absence {
		return parseRecord(key, rec, now)
	}
	r := &record{Read: hit, Kind: kindNames[h.Kind], Type: fmt.Sprintf("%016x", h.Type), now: now, frame: frame.Frame{Header: h}}
	r.readLife(micros(max(now-h.Stored, 0)))
	return r
}

// sum adds up what was looked at.
func (m *measurement) sum() {
	if m.Sampled > 0 {
		m.Memory = int64(float64(m.memory) / float64(m.Sampled) * float64(m.Keys))
	}
	m.Kinds, m.Dead = m.shares(m.kinds), m.shares(m.dead)
	m.Programs = []program{}
	for p, codecs := range m.programs {
		for codec, n := range codecs {
			p.Count += n
			if best := codecs[p.Codec]; codec != "" && (p.Codec == "" || n > best || n == best && codec < p.Codec) {
				p.Codec = codec
			}
		}
		p.Share = m.share(p.Count)
		m.Programs = append(m.Programs, p)
	}
	slices.SortFunc(m.Programs, func(a, b program) int {
		return cmp.Or(b.Count-a.Count, cmp.Compare(a.Version, b.Version), cmp.Compare(a.Type, b.Type), cmp.Compare(a.Codec, b.Codec))
	})
	slices.Sort(m.sizes)
	slices.Sort(m.lives)
	m.Sizes, m.LivesSecs = quantiles(m.sizes), quantiles(m.lives)
}

func quantiles[T int | float64](sorted []T) (q [3]T) {
	if n := len(sorted); n > 0 {
		q = [3]T{sorted[n/2], sorted[n*9/10], sorted[n-1]}
	}
	return q
}

func (m *measurement) share(n int) float64 { return float64(n) / float64(max(m.Sampled, 1)) }

func (m *measurement) shares(counts map[string]int) []share {
	out := []share{}
	for what, n := range counts {
		out = append(out, share{what, n, m.share(n)})
	}
	slices.SortFunc(out, func(a, b share) int { return cmp.Or(b.Count-a.Count, cmp.Compare(a.What, b.What)) })
	return out
}

func percent(f float64) string {
	switch p := f * 100; {
	case p > 0 && p < 0.1:
		return "<0.1 %"
	case p == 0 || p >= 99.95 || p == float64(int(p)):
		return fmt.Sprintf("%.0f %%", p)
	default:
		return fmt.Sprintf("%.1f %%", p)
	}
}

func listShares(list []share) string {
	var out []string
	for _, s := range list {
		out = append(out, fmt.Sprintf("%s %s", s.What, percent(s.Share)))
	}
	return strings.Join(out, ", ")
}

func (s *stats) write(w io.Writer) {
	rows := [][]string{{"keys", orElse(s.Exact, "", "about ") + fmt.Sprint(s.Keys)}}
	row := func(name, format string, args ...any) {
		rows = append(rows, []string{name, fmt.Sprintf(format, args...)})
	}
	defer func() { columns(w, rows...) }()
	if s.Queue != nil {
		defer row("queue", "%s, %s", number(int64(s.Queue.Writes), "write", "writes"), number(int64(s.Queue.DeadLetters), "dead letter", "dead letters"))
	}
	if s.Sampled == 0 {
		row("", "no record of the cache was found among %s of Redis", number(s.Scanned, "key", "keys"))
		return
	}
	row("memory", "about %s%s", bytes(s.Memory), orElse(s.Measured, "", ", by the lengths of keys and values"))
	row("kinds", "%s", listShares(s.Kinds))
	if len(s.Dead) == 0 {
		row("dead", "none")
	} else {
		total := 0
		for _, d := range s.Dead {
			total += d.Count
		}
		row("dead", "%s: %s", percent(float64(total)/float64(s.Sampled)), listShares(s.Dead))
	}
	row("sizes", "half up to %s, nine of ten up to %s, the greatest %s", bytes(int64(s.Sizes[0])), bytes(int64(s.Sizes[1])), bytes(int64(s.Sizes[2])))
	ttl := func(i int) string { return span(ofSeconds(s.LivesSecs[i]).Round(time.Second)) }
	if s.Endless < s.Sampled {
		row("in Redis", "half for up to %s, nine of ten up to %s, the longest %s", ttl(0), ttl(1), ttl(2))
	}
	if s.Endless > 0 {
		row("", "%s without an end", percent(float64(s.Endless)/float64(s.Sampled)))
	}
	for i, p := range s.Programs {
		row(orElse(i == 0, "version", ""), "%d, codec %s, hash %s: %s", p.Version, cmp.Or(p.Codec, "not known"), p.Type, percent(p.Share))
	}
	row("sample", "%s of the cache, among %s of Redis", number(int64(s.Sampled), "record", "records"), number(s.Scanned, "key", "keys"))
}
