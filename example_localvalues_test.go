package cache_test

import (
	"context"
	"fmt"
	"html/template"
	"os"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/strategy"
)

// Templates are compiled once in each process, and again in all of them after one was edited: Redis
// carries the notification, and no template.
func ExampleLocalValues() {
	ctx := context.Background()
	env := startEnv()
	texts := map[string]string{"welcome": "Hello, {{.}}!\n"}
	open := func(process string) *cache.Cache[string, *template.Template] {
		compile := func(_ context.Context, name string) (*template.Template, error) {
			fmt.Println("process", process, "compiles", name)
			return template.New(name).Parse(texts[name])
		}
		templates, err := cache.NewFrom(env.Process().Client(), "templates", cache.SourceFunc(compile),
			cache.LocalValues(), cache.WithStrategy(strategy.LRU(1000), strategy.TTL(time.Hour)))
		if err != nil {
			panic(err)
		}
		return templates
	}
	render := func(templates *cache.Cache[string, *template.Template]) {
		t, err := templates.Get(ctx, "welcome")
		if err != nil {
			panic(err)
		}
		_ = t.Execute(os.Stdout, "Ada")
	}
	a, b := open("a"), open("b")
	defer a.Close()
	defer b.Close()

	render(a)
	render(a)
	render(b)

	texts["welcome"] = "Good day, {{.}}!\n"
	fmt.Println(a.Invalidate(ctx, "welcome"))
	await(func() bool { return b.Metrics().InvalidationsReceived == 1 })
	render(b)
	render(a)
	// Output:
	// process a compiles welcome
	// Hello, Ada!
	// Hello, Ada!
	// process b compiles welcome
	// Hello, Ada!
	// <nil>
	// process b compiles welcome
	// Good day, Ada!
	// process a compiles welcome
	// Good day, Ada!
}
