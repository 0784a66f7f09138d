package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// A worker that hammers writes and reads numbers. What a key's number is, a plain key
// of Redis says, which stands for the source and gives each write the next one. So of
// two values the greater one is the newer one, of any writer. How a key is written
// is told by its first letter:
//
//	s  its owner counts in the source, and Sets the new number
//	i  anybody counts in the source, and Invalidates the key
//	t  anybody counts in the source, and InvalidateTags the key's tag
//	u  anybody counts by Update, in the cache alone
const hammerKinds = "situ"

const (
	hammerKeys    = 3 // of each kind
	hammerReaders = 2
)

// hammerLog is what a worker has seen. Times are those of the machine's clock, in ns.
type hammerLog struct {
	Acked map[string]map[int64]int64 // key, number: when its write was acknowledged
	Read  map[string]map[int64]int64 // key, number: when the last read began that returned it
	Wrong []string                   // what must not be at any time
	Reads int
}

func (w *worker) sourceKey(key string) string { return "source:" + w.cache.RedisKey(key) }

func (w *worker) source(ctx context.Context, key string) (string, error) {
	n, err := w.rdb.Get(ctx, w.sourceKey(key)).Result()
	if errors.Is(err, redis.Nil) {
		return "0", nil
	}
	return n, err
}

func (w *worker) tags(key string, _ string) []string {
	if key[0] == 't' {
		return []string{"tag of " + key}
	}
	return nil
}

// hammer writes and reads for a while.
func (w *worker) hammer(ctx context.Context, t *task) *hammerLog {
	l := &hammerLog{Acked: map[string]map[int64]int64{}, Read: map[string]map[int64]int64{}}
	var keys []string
	own := map[string]*atomic.Int64{} // the newest number that this process has written
	for _, kind := range hammerKinds {
		for i := range hammerKeys {
			k := string(kind) + strconv.Itoa(i)
			keys = append(keys, k)
			own[k] = new(atomic.Int64)
			l.Acked[k], l.Read[k] = map[int64]int64{}, map[int64]int64{}
		}
	}
	var mu sync.Mutex // guards l
	wrong := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		if len(l.Wrong) < 10 {
			l.Wrong = append(l.Wrong, fmt.Sprintf(format, args...))
		}
	}
	end := time.Now().Add(t.For)
	var all sync.WaitGroup
	all.Go(func() {
		for i := t.Me; time.Now().Before(end); i++ {
			k := keys[i%len(keys)]
			if k[0] == 's' && int(k[1]-'0')%t.All != t.Me {
				continue
			}
			n, err := w.write(ctx, k)
			if err != nil {
				wrong("write of %s: %v", k, err)
				continue
			}
			own[k].Store(max(n, own[k].Load()))
			mu.Lock()
			l.Acked[k][n] = time.Now().UnixNano()
			mu.Unlock()
			time.Sleep(time.Millisecond) // leaves the machine to others
		}
	})
	for r := range hammerReaders {
		all.Go(func() {
			for i := r; time.Now().Before(end); i++ {
				k := keys[i%len(keys)]
				least, began := own[k].Load(), time.Now().UnixNano()
				v, err := w.cache.Get(ctx, k)
				n, perr := strconv.ParseInt(v, 10, 64)
				switch {
				case err != nil || perr != nil:
					wrong("read of %s: %q, %v", k, v, err)
				case n < least:
					wrong("%s is %d, after this process wrote %d", k, n, least)
				}
				mu.Lock()
				l.Reads++
				l.Read[k][n] = max(began, l.Read[k][n])
				mu.Unlock()
				if i%50 == 0 {
					runtime.Gosched()
				}
			}
		})
	}
	all.Wait()
	return l
}

// write writes the next number of a key, and returns it when it is acknowledged.
func (w *worker) write(ctx context.Context, key string) (n int64, err error) {
	if key[0] == 'u' {
		_, err := w.cache.Update(ctx, key, func(old string, ok bool) (string, error) {
			last, _ := strconv.ParseInt(old, 10, 64)
			n = last + 1
			return strconv.FormatInt(n, 10), nil
		})
		return n, err
	}
	if n, err = w.rdb.Incr(ctx, w.sourceKey(key)).Result(); err != nil {
		return n, err
	}
	switch key[0] {
	case 's':
		err = w.cache.Set(ctx, key, strconv.FormatInt(n, 10))
	case 'i':
		err = w.cache.Invalidate(ctx, key)
	case 't':
		err = w.cache.InvalidateTags(ctx, w.tags(key, "")...)
	}
	return n, err
}
