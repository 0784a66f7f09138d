package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/invalidate"
	"github.com/redis/go-redis/v9"
)

// lateLook has what is done when a write has been carried out happen before the look at the
// logical clock, if that does not come before the write.
type lateLook struct {
	look, written string // keys
	armed         chan struct{}
	happen        func()
	once          sync.Once
	happened      chan struct{}
}

func (l *lateLook) around(cmds []redis.Cmder, do func() error) error {
	select {
	case <-l.armed:
	default:
		return do()
	}
	about := func(key string) bool {
		return slices.ContainsFunc(cmds, func(cmd redis.Cmder) bool {
			return slices.ContainsFunc(cmd.Args(), func(arg any) bool { s, ok := arg.(string); return ok && s == key })
		})
	}
	writes := about(l.written)
	if about(l.look) && !writes {
		select {
		case <-l.happened:
		case <-time.After(200 * time.Millisecond): // the write is not under way
		}
	}
	err := do()
	if writes {
		l.once.Do(func() {
			l.happen()
			close(l.happened)
		})
	}
	return err
}

func (l *lateLook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (l *lateLook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		return l.around([]redis.Cmder{cmd}, func() error { return next(ctx, cmd) })
	}
}

func (l *lateLook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		return l.around(cmds, func() error { return next(ctx, cmds) })
	}
}

// A value that was written before an invalidation of everything, or of its tag, does not come
// back, whenever its writer learns of the invalidation: on a cluster the clock is on another
// node than the value, and of many values in one call some are written before others.
func TestAWriteTakesNoTimeFromAfterIt(t *testing.T) {
	redistest.Thorough(t)
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		ctx := t.Context()
		quiet := cache.WithOptions(cache.WithTransport(invalidate.NoTransport()), slowly)
		tagged := cache.Tags("t")
		for how, write := range map[string]func(c *cache.Cache[string, int], key string) error{
			"Set": func(c *cache.Cache[string, int], key string) error { return c.Set(ctx, key, 1, tagged) },
			"SetIfAbsent": func(c *cache.Cache[string, int], key string) error {
				_, err := c.SetIfAbsent(ctx, key, 1, tagged)
				return err
			},
			"SetMany": func(c *cache.Cache[string, int], key string) error {
				many := map[string]int{key: 1}
				for i := range 1000 {
					many[fmt.Sprint(key, i)] = 1
				}
				return c.SetMany(ctx, many, tagged)
			},
		} {
			for what, mark := range markers(ctx) {
				t.Run(how+" and "+what, func(t *testing.T) {
					own := *b
					own.Prefix += how + what + ":"
					own.Client = b.NewClient(t)
					writer, other := on(t, &own, "c", cache.Source[string, int]{}, quiet), process(t, &own, "c", cache.Source[string, int]{}, quiet)
					key := "k"
					late := &lateLook{
						look: clockOf(&own, "c", writer.RedisKey(key)).Epoch, written: writer.RedisKey(key), armed: make(chan struct{}), happened: make(chan struct{}),
						happen: func() {
							if err := mark(other); err != nil {
								t.Error(err)
							}
						},
					}
					own.Client.AddHook(late)
					if err := writer.Set(ctx, "before", 1); err != nil { // it knows the time
						t.Fatal(err)
					}
					close(late.armed)
					if err := write(writer, key); err != nil {
						t.Fatal(err)
					}
					<-late.happened
					if v, err := other.Get(ctx, key); err == nil {
						t.Errorf("another process has invalidated it, and reads %d", v)
					}
				})
			}
		}
	})
}

// The record of a write that learns of an invalidation from before it is exchanged, but only
// for itself: what a load has put there that began after another process had removed the
// value stays.
func TestAWriteTakesNoPlaceThatIsNotItsOwn(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		ctx := t.Context()
		quiet := cache.WithOptions(cache.WithTransport(invalidate.NoTransport()), slowly)
		for what, mark := range markers(ctx) {
			t.Run(what, func(t *testing.T) {
				own := *b
				own.Prefix += what + ":"
				own.Client = b.NewClient(t)
				writer, other := on(t, &own, "c", cache.Source[string, int]{}, quiet), process(t, &own, "c", cache.Source[string, int]{}, quiet)
				// Another process than the one that reads, which would tell it again after a new connection.
				remover := process(t, &own, "c", cache.Source[string, int]{}, quiet)
				key, began, goOn, loaded := "k", make(chan struct{}), make(chan struct{}), make(chan error, 1)
				begins := sync.OnceFunc(func() { close(began) }) // who loses the lease may load again
				late := &lateLook{
					written: writer.RedisKey(key), armed: make(chan struct{}), happened: make(chan struct{}),
					happen: func() {
						if err := remover.Delete(ctx, key); err != nil {
							t.Error(err)
						}
						go func() {
							v, err := other.GetOrLoad(ctx, key, func(context.Context, string) (int, error) {
								begins()
								<-goOn
								return 2, nil
							})
							if err == nil && v != 2 {
								err = fmt.Errorf("the load gave %d", v)
							}
							loaded <- err
						}()
						<-began
					},
				}
				own.Client.AddHook(late)
				if err := writer.Set(ctx, "before", 1); err != nil { // it knows the time
					t.Fatal(err)
				}
				if err := mark(remover); err != nil {
					t.Fatal(err)
				}
				close(late.armed)
				if err := writer.Set(ctx, key, 1, cache.Tags("t")); err != nil {
					t.Fatal(err)
				}
				if v, err := other.Get(ctx, key); err == nil {
					t.Errorf("removed by another process, it is %d", v)
				}
				close(goOn)
				if err := <-loaded; err != nil {
					t.Error(err)
				}
				if v, err := other.Get(ctx, key); v != 2 || err != nil {
					t.Errorf("after the load it is %d, %v", v, err)
				}
			})
		}
	})
}

// failedExchange fails the commands about a key but for the first one, or the first one only.
type failedExchange struct {
	key   string
	first bool
	armed atomic.Bool
	seen  atomic.Int32
}

func (f *failedExchange) around(cmds []redis.Cmder, do func() error) error {
	about := slices.ContainsFunc(cmds, func(cmd redis.Cmder) bool {
		return slices.ContainsFunc(cmd.Args(), func(arg any) bool { s, ok := arg.(string); return ok && s == f.key })
	})
	if !about || !f.armed.Load() || (f.seen.Add(1) == 1) != f.first {
		return do()
	}
	for _, cmd := range cmds {
		cmd.SetErr(io.ErrUnexpectedEOF)
	}
	return io.ErrUnexpectedEOF
}

func (f *failedExchange) DialHook(next redis.DialHook) redis.DialHook { return next }

func (f *failedExchange) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		return f.around([]redis.Cmder{cmd}, func() error { return next(ctx, cmd) })
	}
}

func (f *failedExchange) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		return f.around(cmds, func() error { return next(ctx, cmds) })
	}
}

// A write whose record readers take for older than an invalidation from before it has failed: the record
// could not be exchanged, or, on a cluster, the logical clock could not be read before the write.
func TestAWriteThatIsNotValidFails(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		ctx := t.Context()
		quiet := cache.WithOptions(cache.WithTransport(invalidate.NoTransport()), slowly)
		for how, write := range map[string]func(c *cache.Cache[string, int]) error{
			"Set": func(c *cache.Cache[string, int]) error { return c.Set(ctx, "k", 1) },
			"SetMany": func(c *cache.Cache[string, int]) error {
				var be *cache.BatchError[string]
				if err := c.SetMany(ctx, map[string]int{"k": 1, "l": 1}); errors.As(err, &be) {
					return be.For("k")
				}
				return nil
			},
			"SetIfAbsent": func(c *cache.Cache[string, int]) error { _, err := c.SetIfAbsent(ctx, "k", 1); return err },
		} {
			t.Run(how, func(t *testing.T) {
				own := *b
				own.Prefix += how + ":"
				own.Client = b.NewClient(t)
				writer, other := on(t, &own, "c", cache.Source[string, int]{}, quiet), process(t, &own, "c", cache.Source[string, int]{}, quiet)
				fails := &failedExchange{key: writer.RedisKey("k")}
				if b.Name == "cluster" {
					fails.key, fails.first = clockOf(&own, "c", fails.key).Epoch, true
				}
				own.Client.AddHook(fails)
				for range 2 { // it knows the time, and the server its scripts
					if err := errors.Join(write(writer), writer.Delete(ctx, "k")); err != nil {
						t.Fatal(err)
					}
				}
				if err := other.Clear(ctx); err != nil {
					t.Fatal(err)
				}
				fails.armed.Store(true)
				switch err := write(writer); {
				case errors.Is(err, cache.ErrUnavailable):
				case err == nil: // it has looked at the logical clock after the Clear
					if v, err := other.Get(ctx, "k"); v != 1 || err != nil {
						t.Errorf("it is stored, and other processes get %d, %v", v, err)
					}
				default:
					t.Error(err)
				}
				fails.armed.Store(false)
				if err := writer.Set(ctx, "k", 2); err != nil {
					t.Fatal(err)
				}
				if v, err := other.Get(ctx, "k"); v != 2 || err != nil {
					t.Errorf("the next write gives %d, %v", v, err)
				}
			})
		}
	})
}

// A load that has taken such a record for outdated gives way to it, whether it still runs
// or has failed.
func TestAWriteTakesThePlaceOfALoadThatTookItForOutdated(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		if b.Name == "cluster" {
			t.Skip("the record has the right time at once")
		}
		ctx := t.Context()
		quiet := cache.WithOptions(cache.WithTransport(invalidate.NoTransport()), slowly)
		for _, fails := range []bool{false, true} {
			t.Run(fmt.Sprint("fails: ", fails), func(t *testing.T) {
				own := *b
				own.Prefix += fmt.Sprint(fails) + ":"
				own.Client = b.NewClient(t)
				writer, other := on(t, &own, "c", cache.Source[string, int]{}, quiet), process(t, &own, "c", cache.Source[string, int]{}, quiet)
				key, began, goOn, loaded := "k", make(chan struct{}), make(chan struct{}), make(chan struct{})
				begins := sync.OnceFunc(func() { close(began) })
				late := &lateLook{
					written: writer.RedisKey(key), armed: make(chan struct{}), happened: make(chan struct{}),
					happen: func() {
						go func() {
							defer close(loaded)
							_, _ = other.GetOrLoad(ctx, key, func(context.Context, string) (int, error) {
								begins()
								if fails {
									return 0, errors.New("it fails")
								}
								<-goOn
								return 2, nil
							})
						}()
						<-began
						if fails {
							<-loaded
						}
					},
				}
				own.Client.AddHook(late)
				if err := writer.Set(ctx, "before", 1); err != nil { // it knows the time
					t.Fatal(err)
				}
				if err := other.Clear(ctx); err != nil {
					t.Fatal(err)
				}
				close(late.armed)
				if err := writer.Set(ctx, key, 1); err != nil {
					t.Fatal(err)
				}
				if v, err := other.Get(ctx, key); v != 1 || err != nil {
					t.Errorf("after the write it is %d, %v", v, err)
				}
				close(goOn)
				<-loaded
				if v, err := other.Get(ctx, key); v != 1 || err != nil {
					t.Errorf("after the load it is %d, %v", v, err)
				}
			})
		}
	})
}
