// Compiled rules of access that stay in two processes, and are compiled anew in both when one changes.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/delqhi/cache"
	"github.com/delqhi/cache/invalidate"
	"github.com/delqhi/cache/strategy"
)

// A Policy has a function: no codec could encode it.
type Policy struct {
	allows func(user string) bool
}

// table is where the texts of the policies are.
type table struct {
	mu   sync.Mutex
	text map[string]string
}

func (t *table) set(name, text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text[name] = text
}

func (t *table) compile(_ context.Context, name string) (*Policy, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	text, ok := t.text[name]
	if !ok {
		return nil, cache.ErrNotFound
	}
	users := strings.Fields(text)
	return &Policy{allows: func(user string) bool {
		for _, u := range users {
			if u == user {
				return true
			}
		}
		return false
	}}, nil
}

// open starts what is a process here: a client and a cache of its own.
func open(address string, t *table) *cache.Cache[string, *Policy] {
	rdb, err := cache.NewClient("redis://" + address)
	if err != nil {
		log.Fatal(err)
	}
	policies, err := cache.NewFrom(rdb, "policies",
		cache.Source[string, *Policy]{
			Load: t.compile,
			Tags: func(name string, _ *Policy) []string { return []string{"department:" + strings.Split(name, "/")[0]} },
		},
		cache.LocalValues(),
		cache.WithStrategy(strategy.LRU(10_000), strategy.TTL(time.Hour), strategy.StaleIfError(24*time.Hour)),
		cache.WithLogger(slog.New(slog.NewTextHandler(io.Discard, nil))))
	if err != nil {
		log.Fatal(err)
	}
	return policies
}

func main() {
	ctx := context.Background()
	server, err := miniredis.Run()
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	db := &table{text: map[string]string{"sales/read": "ada grace", "sales/write": "ada"}}
	first, second := open(server.Addr(), db), open(server.Addr(), db)
	defer first.Close()
	defer second.Close()

	may := func(process *cache.Cache[string, *Policy], name, user string) bool {
		p, err := process.Get(ctx, name)
		if err != nil {
			log.Fatal(err)
		}
		return p.allows(user)
	}
	for range 1000 {
		may(first, "sales/read", "grace")
		may(second, "sales/read", "grace")
	}
	fmt.Println("grace may read:", may(second, "sales/read", "grace"))
	fmt.Println("loads:", first.Metrics().Loads, "and", second.Metrics().Loads)
	fmt.Println("in Redis:", server.Exists(second.RedisKey("sales/read")))

	// The table first, then the invalidation. Both processes compile the policy anew.
	db.set("sales/read", "ada")
	if err := first.Invalidate(ctx, "sales/read"); err != nil {
		log.Fatal(err)
	}
	fmt.Println("here, at once:", may(first, "sales/read", "grace"))
	for may(second, "sales/read", "grace") {
		time.Sleep(time.Millisecond) // until the notification is there
	}
	fmt.Println("there, a moment later:", may(second, "sales/read", "grace"))

	// A program without the types, such as a consumer of change events, invalidates a department.
	program, err := cache.NewClient("redis://" + server.Addr())
	if err != nil {
		log.Fatal(err)
	}
	defer program.Close()
	changes, err := invalidate.NewClient(program, "policies")
	if err != nil {
		log.Fatal(err)
	}
	defer changes.Close()
	db.set("sales/read", "grace")
	if err := changes.InvalidateTags(ctx, "department:sales"); err != nil {
		log.Fatal(err)
	}
	for !may(first, "sales/read", "grace") || !may(second, "sales/read", "grace") {
		time.Sleep(time.Millisecond)
	}
	fmt.Println("both again, by a tag:", may(first, "sales/read", "grace"), may(second, "sales/read", "grace"))
}
