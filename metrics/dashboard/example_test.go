package dashboard_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/metrics/dashboard"
)

func Example() {
	users, err := cache.New[int, string](nil, "users", cache.LocalOnly()) // or with Redis, as ever
	if err != nil {
		fmt.Println(err)
		return
	}
	defer users.Close()

	mux := http.NewServeMux()
	mux.Handle("/debug/cache/", dashboard.New(dashboard.Title("shop")).Add(users))

	// A browser shows the page. A program gets the figures.
	ctx := context.Background()
	_ = users.Set(ctx, 42, "Ada")
	_, _ = users.Get(ctx, 42)
	_, _ = users.Get(ctx, 43)

	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest("GET", "/debug/cache/data.json", nil))
	var page struct {
		Title  string
		Caches []struct {
			Name  string
			Total struct {
				Requests int
				HitRate  float64
			}
		}
	}
	if err := json.Unmarshal(w.Body.Bytes(), &page); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%+v\n", page)
	// Output:
	// {Title:shop Caches:[{Name:users Total:{Requests:2 HitRate:0.5}}]}
}

// Who may invalidate is for the program to say.
func ExampleActions() {
	isAdmin := func(r *http.Request) error {
		if _, password, _ := r.BasicAuth(); password != "secret" {
			return errors.New("not an admin")
		}
		return nil
	}
	h := dashboard.New(dashboard.Actions(isAdmin))

	r := httptest.NewRequest("POST", "/debug/cache/action", nil)
	r.Header.Set("Sec-Fetch-Site", "cross-site") // a page from elsewhere tries
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	fmt.Println(w.Code)
	// Output:
	// 403
}
