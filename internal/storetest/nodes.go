package storetest

import (
	"cmp"
	"context"
	"fmt"
	"hash/fnv"
	"slices"

	"github.com/delqhi/cache/internal/glob"
)

// ServerID implements Store.
func (m *Memory) ServerID(ctx context.Context) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := cmp.Or(ctx.Err(), m.fail); err != nil {
		return "", err
	}
	return fmt.Sprint("memory ", m.successions), nil
}

// Succeed makes m another server from now on, as when it was restarted, or a replica took over:
// its ServerID changes, and nothing else.
func (m *Memory) Succeed() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.successions++
}

// scanBatch is the minimum number of keys in a batch of Scan, except for the last one.
const scanBatch = 1000

// Masters implements Store.
func (m *Memory) Masters(ctx context.Context) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := cmp.Or(ctx.Err(), m.fail); err != nil {
		return nil, err
	}
	return []string{""}, nil
}

// Scan implements Store. Its order is that of the keys' hashes, and a cursor is a position in
// that order: keys that are added or removed elsewhere do not move it.
func (m *Memory) Scan(ctx context.Context, master, pattern string, cursor uint64) ([]string, uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := cmp.Or(ctx.Err(), m.fail); err != nil {
		return nil, 0, err
	}
	if master != "" {
		return nil, 0, fmt.Errorf("storetest: there is no master %q", master)
	}
	type place struct {
		hash uint64
		key  string
	}
	var places []place
	p := glob.Compile(pattern)
	for key := range m.data {
		if !p.Match(key) {
			continue
		}
		h := fnv.New64a()
		_, _ = h.Write([]byte(key))
		if at := h.Sum64(); at >= cursor {
			if _, ok := m.lookLocked(key); ok {
				places = append(places, place{at, key})
			}
		}
	}
	slices.SortFunc(places, func(a, b place) int { return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.key, b.key)) })
	var keys []string
	for i, p := range places {
		if i >= scanBatch && p.hash != places[i-1].hash {
			return keys, p.hash, nil // not 0: another key's hash is less
		}
		keys = append(keys, p.key)
	}
	return keys, 0, nil
}
