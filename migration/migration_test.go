package migration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/redis/go-redis/v9"
	"github.com/redis/rueidis"
)

func TestMain(m *testing.M) { redistest.Main(m) }

type read func(context.Context, int64) (Product, error)

// A service that was warm before stays warm: what the cache before has stored is read, and not
// loaded, also by processes that start later; and what is invalidated is loaded.
func TestNothingIsLoadedAgain(t *testing.T) {
	server := redistest.Start(t)
	for name, before := range map[string]func(t *testing.T, rdb *redis.Client, repo *Repo) (read, *cache.Cache[int64, Product]){
		"go-redis": func(t *testing.T, rdb *redis.Client, repo *Repo) (read, *cache.Cache[int64, Product]) {
			c, err := FromGoRedis(rdb, repo)
			return (&ByHand{rdb, repo}).Product, ok(t, c, err)
		},
		"go-redis/cache": func(t *testing.T, rdb *redis.Client, repo *Repo) (read, *cache.Cache[int64, Product]) {
			c, err := FromGoRedisCache(rdb, repo)
			return NewOnGoRedisCache(rdb, repo).Product, ok(t, c, err)
		},
		"gocache": func(t *testing.T, rdb *redis.Client, repo *Repo) (read, *cache.Cache[int64, Product]) {
			c, err := FromGocache(rdb, repo)
			return NewOnGocache(rdb, repo).Product, ok(t, c, err)
		},
		"sturdyc": func(t *testing.T, rdb *redis.Client, repo *Repo) (read, *cache.Cache[int64, Product]) {
			c, err := FromSturdyc(rdb, repo)
			return NewOnSturdyc(rdb, repo).Product, ok(t, c, err)
		},
		"rueidis": func(t *testing.T, rdb *redis.Client, repo *Repo) (read, *cache.Cache[int64, Product]) {
			client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{rdb.Options().Addr}, ForceSingleClient: true})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(client.Close)
			c, err := FromRueidisaside(rdb, repo)
			return (&OnRueidis{client, repo}).Product, ok(t, c, err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, repo, rdb := t.Context(), new(Repo), server.Client(t)
			if err := rdb.FlushAll(ctx).Err(); err != nil {
				t.Fatal(err)
			}
			old, c := before(t, rdb, repo)
			for id := range int64(20) {
				if err := repo.SetStock(ctx, id, int(id)); err != nil {
					t.Fatal(err)
				}
				if _, err := old(ctx, id); err != nil {
					t.Fatal(err)
				}
			}
			// sturdyc stores in the background.
			eventually(t, "all are stored", func() bool { return rdb.DBSize(ctx).Val() >= 20 })
			check := func(get read) {
				t.Helper()
				for id := range int64(20) {
					p, err := get(ctx, id)
					if want := (Product{id, fmt.Sprint("product ", id), int(id)}); err != nil || p != want || repo.Loads(id) != 1 {
						t.Errorf("%+v, %v, want %+v; it was loaded %d times", p, err, want, repo.Loads(id))
					}
				}
			}
			check(func(ctx context.Context, id int64) (Product, error) { return c.Get(ctx, id) })
			check(old)
			many, err := c.GetMany(ctx, []int64{3, 4, 5})
			if err != nil || many[5].Stock != 5 || repo.Loads(5) != 1 {
				t.Error(many, err)
			}
			if err := c.Invalidate(ctx, 7); err != nil {
				t.Fatal(err)
			}
			if p, err := c.Get(ctx, 7); err != nil || p.Stock != 7 || repo.Loads(7) != 2 {
				t.Errorf("%+v, %v; it was loaded %d times", p, err, repo.Loads(7))
			}
			if err := c.Clear(ctx); err != nil {
				t.Fatal(err)
			}
			if p, err := c.Get(ctx, 8); err != nil || p.Stock != 8 || repo.Loads(8) != 2 {
				t.Errorf("after Clear: %+v, %v; it was loaded %d times", p, err, repo.Loads(8))
			}
		})
	}
}

func ok(t *testing.T, c *cache.Cache[int64, Product], err error) *cache.Cache[int64, Product] {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it does not happen that %s", what)
		}
	}
}

// A fleet on go-redis/cache is changed over process by process, while it serves and its products
// change: no process reads an old value for long, and what does not change is never loaded again.
func TestAFleetOnGoRedisCacheIsMovedOver(t *testing.T) {
	server := redistest.Start(t)
	ctx, repo := t.Context(), new(Repo)
	const products, size = 60, 3
	type process struct {
		get read
		set func(ctx context.Context, id int64, n int) error
	}
	var fleet [size]process
	for i := range fleet {
		s := NewOnGoRedisCache(server.Client(t), repo)
		fleet[i] = process{s.Product, s.SetStock}
	}
	stock := map[int64]int{}
	same := func(when string, id int64) {
		t.Helper()
		for i := range fleet {
			eventually(t, fmt.Sprintf("process %d reads the stock of product %d %s", i, id, when), func() bool {
				p, err := fleet[i].get(ctx, id)
				if err != nil {
					t.Fatal(err)
				}
				return p.Stock == stock[id]
			})
		}
	}
	for id := range int64(products) {
		same("before", id)
	}
	// Product 0 to 5 change all the time, in whatever process.
	change := func(when string) {
		t.Helper()
		for id := range int64(6) {
			for i := range fleet {
				stock[id]++
				if err := fleet[i].set(ctx, id, stock[id]); err != nil {
					t.Fatal(err)
				}
				same(when, id)
			}
		}
	}
	change("before")
	for i := range fleet {
		c, err := FromGoRedisCache(server.Client(t), repo)
		ok(t, c, err)
		fleet[i] = process{
			get: func(ctx context.Context, id int64) (Product, error) { return c.Get(ctx, id) },
			set: func(ctx context.Context, id int64, n int) error {
				if err := repo.SetStock(ctx, id, n); err != nil {
					return err
				}
				return c.Invalidate(ctx, id)
			},
		}
		when := fmt.Sprintf("with %d processes changed over", i+1)
		change(when)
		for id := range int64(products) {
			same(when, id)
		}
	}
	for id := int64(6); id < products; id++ {
		if n := repo.Loads(id); n != 1 {
			t.Errorf("product %d, which has not changed, was loaded %d times", id, n)
		}
	}
}

// The predecessor, as far as the service calls it.
type predecessor struct{ rdb *redis.Client }

var errCacheMiss = errors.New("cache miss")

func (p predecessor) SetJSON(ctx context.Context, key string, v any, ttl time.Duration) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return p.rdb.Set(ctx, "shop:"+key, text, ttl).Err()
}

func (p predecessor) GetJSON(ctx context.Context, key string, v any) error {
	text, err := p.rdb.Get(ctx, "shop:"+key).Bytes()
	if errors.Is(err, redis.Nil) {
		return errCacheMiss
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(text, v)
}

func (p predecessor) Delete(ctx context.Context, key string) error {
	return p.rdb.Del(ctx, "shop:"+key).Err()
}

func TestTheRecordsOfThePredecessorAreRead(t *testing.T) {
	rdb, repo := redistest.Start(t).Client(t), new(Repo)
	old := &OnPredecessor{predecessor{rdb}, errCacheMiss, repo}
	before, err := old.Product(t.Context(), "lamp")
	if err != nil {
		t.Fatal(err)
	}
	c, err := FromPredecessor(rdb, repo, "shop:")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if p, err := c.Get(t.Context(), "lamp"); err != nil || p != before || repo.Loads(4) != 1 {
		t.Errorf("%+v, %v; it was loaded %d times", p, err, repo.Loads(4))
	}
}

func TestOtterGetsRedisBehindIt(t *testing.T) {
	rdb, repo := redistest.Start(t).Client(t), new(Repo)
	old, err := NewOnOtter(repo)
	if err != nil {
		t.Fatal(err)
	}
	c, err := FromOtter(rdb, repo)
	ok(t, c, err)
	other, err := FromOtter(rdb, repo)
	ok(t, other, err)
	for _, get := range []read{old.Product, func(ctx context.Context, id int64) (Product, error) { return c.Get(ctx, id) }} {
		for range 2 {
			if p, err := get(t.Context(), 1); err != nil || p.ID != 1 {
				t.Error(p, err)
			}
		}
	}
	if p, err := other.Get(t.Context(), 1); err != nil || p.ID != 1 || repo.Loads(1) != 2 {
		t.Errorf("%+v, %v; it was loaded %d times: once by otter, and once for all processes", p, err, repo.Loads(1))
	}
	if err := old.SetStock(t.Context(), 1, 5); err != nil {
		t.Fatal(err)
	}
	if p, err := old.Product(t.Context(), 1); err != nil || p.Stock != 5 {
		t.Error(p, err)
	}
}

// The code in docs/migration.md is that of this package.
func TestTheGuideShowsThesePrograms(t *testing.T) {
	text, err := os.ReadFile("../docs/migration.md")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(b)
	}
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	if len(blocks) < 14 {
		t.Errorf("the guide has %d pieces of code", len(blocks))
	}
	for _, b := range blocks {
		if !strings.Contains(all.String(), b[1]) {
			t.Errorf("no program has\n%s", b[1])
		}
	}
}
