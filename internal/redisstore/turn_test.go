package redisstore_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/internal/redisstore"
	"github.com/delqhi/cache/internal/store"
	"github.com/redis/go-redis/v9"
)

// pooled is a client of which only its connections matter.
type pooled struct {
	redis.UniversalClient
	total, idle atomic.Uint32
}

func (p *pooled) PoolStats() *redis.PoolStats {
	return &redis.PoolStats{TotalConns: p.total.Load(), IdleConns: p.idle.Load()}
}

// Background work of a node takes turns, but waits for neither a turn nor a connection for long.
func TestBackgroundWorkTakesTurns(t *testing.T) {
	// took is how long a turn was waited for.
	took := func(ctx context.Context, p redis.UniversalClient) (time.Duration, func()) {
		start := time.Now()
		end := redisstore.TakeTurn(ctx, p)
		return time.Since(start), end
	}
	for name, f := range map[string]func(t *testing.T, p *pooled){
		"the second waits for the first": func(t *testing.T, p *pooled) {
			_, first := took(t.Context(), p)
			time.AfterFunc(10*time.Millisecond, first)
			d, second := took(t.Context(), p)
			if d != 10*time.Millisecond {
				t.Errorf("it took %v", d)
			}
			second()
			if d, third := took(t.Context(), p); d > 0 {
				t.Errorf("then it took %v", d)
			} else {
				third()
			}
		},
		"not for long": func(t *testing.T, p *pooled) {
			_, first := took(t.Context(), p)
			d, second := took(t.Context(), p)
			if d != redisstore.TurnWait {
				t.Errorf("it took %v", d)
			}
			second() // has not had the turn
			if d, third := took(t.Context(), p); d != redisstore.TurnWait {
				t.Errorf("the third took %v", d)
			} else {
				third()
			}
			first()
			if d, fourth := took(t.Context(), p); d > 0 {
				t.Errorf("the fourth took %v", d)
			} else {
				fourth()
			}
		},
		"what is patient lets others go first": func(t *testing.T, p *pooled) {
			_, first := took(t.Context(), p)
			order := make(chan string, 3)
			for range 2 {
				go func() {
					_, end := took(store.Patient(t.Context()), p)
					order <- "patient"
					time.Sleep(time.Millisecond)
					end()
				}()
			}
			synctest.Wait()
			go func() {
				_, end := took(t.Context(), p)
				order <- "other"
				end()
			}()
			synctest.Wait()
			time.Sleep(5 * time.Millisecond)
			first()
			if a, b, c := <-order, <-order, <-order; a != "patient" || b != "other" || c != "patient" {
				t.Error(a, b, c)
			}
			synctest.Wait()
			_, first = took(t.Context(), p)
			d, second := took(store.Patient(t.Context()), p)
			if d != redisstore.PatientWait {
				t.Errorf("it took %v", d)
			}
			second()
			first()
		},
		"another node": func(t *testing.T, p *pooled) {
			_, first := took(t.Context(), p)
			d, second := took(t.Context(), new(pooled))
			if d > 0 {
				t.Errorf("it took %v", d)
			}
			second()
			first()
		},
		"a caller that goes": func(t *testing.T, p *pooled) {
			_, first := took(t.Context(), p)
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(5*time.Millisecond, cancel)
			d, second := took(ctx, p)
			if d != 5*time.Millisecond {
				t.Errorf("it took %v", d)
			}
			second()
			ctx, cancel = context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer cancel()
			if d, third := took(store.Patient(ctx), p); d != 5*time.Millisecond {
				t.Errorf("of 20 ms it took %v", d)
			} else {
				third()
			}
			first()
		},
		"a busy connection": func(t *testing.T, p *pooled) {
			p.total.Store(1)
			time.AfterFunc(7*time.Millisecond+1, func() { p.idle.Store(1) })
			d, end := took(t.Context(), p)
			if d != 8*time.Millisecond {
				t.Errorf("it took %v", d)
			}
			end()
			p.idle.Store(0)
			if d, end := took(t.Context(), p); d != redisstore.TurnWait {
				t.Errorf("it took %v", d)
			} else {
				end()
			}
			p.total.Store(0)
			if d, end := took(t.Context(), p); d > 0 {
				t.Errorf("without a connection it took %v", d)
			} else {
				end()
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := new(pooled)
				f(t, p)
			})
		})
	}
}

// What is left of turns is nothing.
func TestATurnLeavesNothing(t *testing.T) {
	p := new(pooled)
	before := redisstore.TurnsIn()
	redisstore.TakeTurn(t.Context(), p)()
	for start := time.Now(); redisstore.TurnsIn() > before; time.Sleep(time.Millisecond) {
		if time.Since(start) > enough {
			t.Fatal("a turn is left") // others of this process come and go
		}
	}
	// A client that can't be told from others has no turns.
	type odd struct {
		redis.UniversalClient
		_ []int
	}
	redisstore.TakeTurn(t.Context(), odd{})()
}
