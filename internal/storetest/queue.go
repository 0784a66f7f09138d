package storetest

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/delqhi/cache/internal/store"
)

// memoryQueue is one partition in a Memory.
type memoryQueue struct {
	log     stream[store.Entry]
	pending map[string]place
	owner   string
	until   int64 // ms: the end of owner's lease
	dead    stream[store.Letter]
	graves  map[string]string
	from    map[string]fromSender
	fromEnd int64 // ms: when from is forgotten
}

// place is the state of a key with pending writes.
type place struct {
	first, newest string // ids in the log; equal if there is only one
	attempts      int    // at newest
}

type fromSender struct {
	at  int64
	seq int64
	ids []string
}

// stream is a Redis stream.
type stream[E any] struct {
	ids     []string // in order
	entries map[string]E
	lastMs  int64
	lastSeq int64
}

func (s *stream[E]) add(now int64, e E) string {
	if now > s.lastMs {
		s.lastMs, s.lastSeq = now, 0
	} else {
		s.lastSeq++
	}
	id := strconv.FormatInt(s.lastMs, 10) + "-" + strconv.FormatInt(s.lastSeq, 10)
	if s.entries == nil {
		s.entries = map[string]E{}
	}
	s.ids = append(s.ids, id)
	s.entries[id] = e
	return id
}

func (s *stream[E]) remove(id string) {
	if i, ok := slices.BinarySearchFunc(s.ids, id, store.CompareIDs); ok {
		s.ids = slices.Delete(s.ids, i, i+1)
		delete(s.entries, id)
	}
}

// after returns at most n ids that follow id.
func (s *stream[E]) after(id string, n int) []string {
	i, ok := slices.BinarySearchFunc(s.ids, id, store.CompareIDs)
	if ok {
		i++
	}
	return s.ids[i:min(i+n, len(s.ids))]
}

// onPartition runs f as one script of the partition.
func onPartition[T any](m *Memory, ctx context.Context, q store.QueueNames, f func(*memoryQueue, int64) (T, error)) (T, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := cmp.Or(ctx.Err(), m.fail); err != nil {
		var zero T
		return zero, err
	}
	return f(m.queueLocked(q), m.nowLocked()/1000)
}

func (m *Memory) queueLocked(q store.QueueNames) *memoryQueue {
	p := m.queues[q.Log]
	if p == nil {
		p = &memoryQueue{pending: map[string]place{}, graves: map[string]string{}, from: map[string]fromSender{}}
		if m.queues == nil {
			m.queues = map[string]*memoryQueue{}
		}
		m.queues[q.Log] = p
	}
	return p
}

// Append implements Queue.
func (m *Memory) Append(ctx context.Context, q store.QueueNames, a store.Append) ([]string, error) {
	return onPartition(m, ctx, q, func(p *memoryQueue, now int64) ([]string, error) {
		if now >= p.fromEnd {
			clear(p.from)
		}
		if last, ok := p.from[a.Sender]; ok && last.seq >= a.Seq {
			if last.seq > a.Seq {
				return nil, store.ErrOvertaken
			}
			return slices.Clone(last.ids), nil
		}
		ids := make([]string, len(a.Writes))
		for i := range a.Writes {
			ids[i] = p.append(now, a.Max, cloneWrite(&a.Writes[i]))
		}
		p.from[a.Sender] = fromSender{now, a.Seq, slices.Clone(ids)}
		p.fromEnd = now + store.FromLife.Milliseconds()
		for s, f := range p.from {
			if len(p.from) > store.ManyFrom && f.at < now-store.SenderLife.Milliseconds() {
				delete(p.from, s)
			}
		}
		return ids, nil
	})
}

func cloneWrite(w *store.Write) store.Write {
	return store.Write{Key: w.Key, Delete: w.Delete, Value: bytes.Clone(w.Value), Meta: bytes.Clone(w.Meta)}
}

func (p *memoryQueue) append(now int64, most int, w store.Write) string {
	cur, ok := p.pending[w.Key]
	replaces := ok && cur.first != cur.newest
	if !replaces && len(p.log.ids) >= most {
		return ""
	}
	id := p.log.add(now, store.Entry{Write: w})
	if replaces {
		p.log.remove(cur.newest)
	}
	p.pending[w.Key] = place{first: cmp.Or(cur.first, id), newest: id}
	if grave := p.graves[w.Key]; grave != "" {
		p.dead.remove(grave)
		delete(p.graves, w.Key)
	}
	return id
}

// newestOf returns the newest pending write of a key, or the entry own if there is none.
func (p *memoryQueue) newestOf(key, own string) (store.Entry, bool) {
	id := own
	at, ok := p.pending[key]
	if ok {
		if _, there := p.log.entries[at.newest]; there {
			id = at.newest
		}
	}
	e, ok := p.log.entries[id]
	e.ID = id
	if id == at.newest {
		e.Attempts = at.attempts
	}
	return e, ok
}

// Newest implements Queue.
func (m *Memory) Newest(ctx context.Context, asks []store.Ask) ([][]store.Entry, error) {
	out := make([][]store.Entry, len(asks))
	for i, a := range asks {
		var err error
		if out[i], err = onPartition(m, ctx, a.Queue, func(p *memoryQueue, _ int64) ([]store.Entry, error) {
			es := make([]store.Entry, len(a.Keys))
			for j, key := range a.Keys {
				if e, ok := p.newestOf(key, ""); ok {
					es[j] = e
				}
			}
			return es, nil
		}); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// holds reports whether owner holds the partition, and prolongs its lease.
func (p *memoryQueue) holds(owner string, now int64, lease time.Duration) bool {
	if p.owner != owner || p.until <= now {
		return false
	}
	p.until = now + lease.Milliseconds()
	return true
}

// Acquire implements Queue.
func (m *Memory) Acquire(ctx context.Context, q store.QueueNames, owner string, lease time.Duration, renew bool) (bool, error) {
	return onPartition(m, ctx, q, func(p *memoryQueue, now int64) (bool, error) {
		if !renew && p.until <= now {
			p.owner, p.until = owner, now+1
		}
		return p.holds(owner, now, lease), nil
	})
}

// Leave implements Queue.
func (m *Memory) Leave(ctx context.Context, q store.QueueNames, owner string) error {
	_, err := onPartition(m, ctx, q, func(p *memoryQueue, _ int64) (struct{}, error) {
		if p.owner == owner {
			p.owner, p.until = "", 0
		}
		return struct{}{}, nil
	})
	return err
}

// Fetch implements Queue.
func (m *Memory) Fetch(ctx context.Context, q store.QueueNames, f store.Fetch) (store.Fetched, error) {
	return onPartition(m, ctx, q, func(p *memoryQueue, now int64) (store.Fetched, error) {
		if !p.holds(f.Owner, now, f.Lease) {
			return store.Fetched{}, store.ErrNotOwner
		}
		out := store.Fetched{Last: f.After, Len: len(p.log.ids)}
		seen, size := map[string]bool{}, 0
		take := func(key, own string) {
			e, ok := p.newestOf(key, own)
			if !seen[key] && ok {
				seen[key] = true
				size += len(e.Value) + len(e.Meta)
				out.Entries = append(out.Entries, e)
			}
		}
		for i, key := range f.Keys {
			if i > 0 && size >= f.Bytes {
				break
			}
			take(key, "")
			out.Looked++
		}
		if len(f.Keys) > 0 {
			return out, nil
		}
		ids := p.log.after(f.After, f.Count)
		if delay := f.Delay.Milliseconds(); delay > 0 && len(ids) > 0 && out.Len < f.Full {
			ms, _ := store.SplitID(ids[0])
			if age := now - int64(ms); age < delay {
				out.Wait = time.Duration(min(delay-age, delay)) * time.Millisecond
				return out, nil
			}
		}
		for i, id := range ids {
			if i > 0 && size >= f.Bytes {
				break
			}
			take(p.log.entries[id].Key, id)
			out.Looked, out.Last = out.Looked+1, id
		}
		return out, nil
	})
}
