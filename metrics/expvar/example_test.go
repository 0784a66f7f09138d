package expvar_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/metrics/expvar"
)

func ExamplePublish() {
	ctx := context.Background()
	users, err := cache.New[int, string](nil, "users", cache.LocalOnly())
	if err != nil {
		panic(err)
	}
	defer users.Close()
	if err := expvar.Publish(users); err != nil {
		panic(err)
	}
	defer expvar.Unpublish("users")

	for range 4 {
		_, err := users.GetOrLoad(ctx, 42, func(context.Context, int) (string, error) { return "Ada", nil })
		if err != nil {
			panic(err)
		}
	}

	page := httptest.NewRecorder()
	http.DefaultServeMux.ServeHTTP(page, httptest.NewRequest("GET", "/debug/vars", nil))
	var vars struct {
		Cache map[string]struct {
			HitRate          float64
			LocalHits, Loads int
		}
	}
	if err := json.Unmarshal(page.Body.Bytes(), &vars); err != nil {
		panic(err)
	}
	fmt.Printf("%+v\n", vars.Cache["users"])
	// Output: {HitRate:0.75 LocalHits:3 Loads:1}
}
