package writebehind_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"time"

	"github.com/delqhi/cache/internal/client"
	"github.com/delqhi/cache/internal/redisstore"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/writebehind"
	"github.com/redis/go-redis/v9"
)

// childEnv makes this test binary a process that writes and consumes until it is
// killed, or its standard input ends.
const childEnv = "BEHIND_TEST_CHILD"

// childConfig is what such a process is told.
type childConfig struct {
	Redis    string // address
	Source   string // another Redis, which is the source
	Keys     []string
	Version  int     // the first one it writes is above this
	Fails    float64 // how often the source fails
	Attempts int
}

func runChild(text string) {
	var c childConfig
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		panic(err)
	}
	rdb := redis.NewClient(&redis.Options{Addr: c.Redis, MaintNotificationsConfig: noMaintenance()})
	source := newRedisSource(c.Source, c.Fails)
	store, err := redisstore.NewRedis(rdb)
	if err != nil {
		panic(err)
	}
	q, err := writebehind.New(crashConfig(client.New(store, time.Second), source, c.Attempts))
	if err != nil {
		panic(err)
	}
	for _, k := range c.Keys {
		go func() {
			for v := c.Version + 1; ; v++ {
				writeVersion(q, source, k, v)
				time.Sleep(time.Duration(rand.IntN(4)) * time.Millisecond)
			}
		}()
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

func crashConfig(st store.Queue, source *redisSource, attempts int) writebehind.Config {
	return writebehind.Config{
		Queue: st, Prefix: "crash", Name: "c", Apply: source.apply,
		BatchSize: 10, BatchDelay: 5 * time.Millisecond, MaxAttempts: attempts, Timeout: 5 * time.Second,
	}
}

// writeVersion writes a version of a key, says so on the standard output when it is
// acknowledged, and looks that it is seen.
func writeVersion(q *writebehind.Queue, source *redisSource, key string, v int) {
	ctx := context.Background()
	w := writebehind.Write{Key: key, Delete: v%7 == 0, Value: []byte("a value"), Meta: []byte(strconv.Itoa(v))}
	if q.Enqueue(ctx, []writebehind.Write{w})[0] != nil {
		return
	}
	fmt.Printf("ack %s %d\n", key, v)
	if v%10 != 0 {
		return
	}
	newest, err := q.Newest(ctx, []string{key})
	if err != nil {
		return
	}
	seen, _ := strconv.Atoi(string(newest[key].Meta))
	if seen == 0 {
		if seen, err = source.latest(ctx, key); err != nil {
			return
		}
		// Or it was given up.
		if letters, err := q.DeadLetters(ctx, 1000); err != nil || dead(letters)[key] >= v {
			return
		}
	}
	if seen < v {
		fmt.Printf("bad %s: %d was acknowledged, and a read sees %d\n", key, v, seen)
	}
}

func dead(letters []writebehind.DeadLetter) map[string]int {
	versions := map[string]int{}
	for _, l := range letters {
		versions[l.Key], _ = strconv.Atoi(string(l.Meta))
	}
	return versions
}

// redisSource is a source in a Redis of its own, which notes if a key's version goes
// down.
type redisSource struct {
	rdb   *redis.Client
	fails float64
}

func newRedisSource(addr string, fails float64) *redisSource {
	return &redisSource{redis.NewClient(&redis.Options{
		Addr: addr, ContextTimeoutEnabled: true, MaxRetries: -1, MaintNotificationsConfig: noMaintenance(),
	}), fails}
}

const storeVersion = `
local latest = tonumber(redis.call('HGET', 'latest', KEYS[1]) or '0')
if tonumber(ARGV[1]) < latest then
  redis.call('RPUSH', 'bad', KEYS[1] .. ': version ' .. ARGV[1] .. ' after ' .. latest)
end
redis.call('HSET', 'latest', KEYS[1], ARGV[1])
redis.call('INCR', 'applied')
return 1
`

func (s *redisSource) apply(ctx context.Context, batch []writebehind.Entry) []error {
	errs := make([]error, len(batch))
	time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond) // so that two at once would collide
	for i, e := range batch {
		r := rand.Float64()
		if r < s.fails/2 {
			errs[i] = errors.New("not now")
			continue
		}
		if errs[i] = ctx.Err(); errs[i] == nil {
			errs[i] = s.rdb.Eval(ctx, storeVersion, []string{e.Key}, string(e.Meta)).Err()
		}
		if r < s.fails {
			errs[i] = errors.New("done, but who knows")
		}
	}
	return errs
}

func (s *redisSource) latest(ctx context.Context, key string) (int, error) {
	v, err := s.rdb.HGet(ctx, "latest", key).Int()
	if errors.Is(err, redis.Nil) {
		err = nil
	}
	return v, err
}
