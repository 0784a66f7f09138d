package prometheus_test

import (
	"bufio"
	"context"
	"fmt"
	"net/http/httptest"
	"strings"

	"github.com/delqhi/cache"
	cacheprom "github.com/delqhi/cache/metrics/prometheus"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

func Example() {
	ctx := context.Background()
	recorder := cacheprom.NewRecorder()
	users, err := cache.New[int, string](nil, "users", cache.LocalOnly(), cache.WithRecorder(recorder))
	if err != nil {
		panic(err)
	}
	defer users.Close()

	collector, err := cacheprom.NewCollector(users) // and all others
	if err != nil {
		panic(err)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collector, recorder)
	handler := promhttp.HandlerFor(registry, promhttp.HandlerOpts{}) // for /metrics

	for range 4 {
		_, err := users.GetOrLoad(ctx, 42, func(context.Context, int) (string, error) { return "Ada", nil })
		if err != nil {
			panic(err)
		}
	}

	page := httptest.NewRecorder()
	handler.ServeHTTP(page, httptest.NewRequest("GET", "/metrics", nil))
	for lines := bufio.NewScanner(page.Body); lines.Scan(); {
		if line := lines.Text(); strings.HasPrefix(line, "cache_requests_total") || strings.HasPrefix(line, "cache_load_calls_total") {
			fmt.Println(line)
		}
	}
	// Output:
	// cache_load_calls_total{cache="users",outcome="succeeded",purpose="request"} 1
	// cache_requests_total{cache="users",result="hit",tier="local"} 3
	// cache_requests_total{cache="users",result="hit",tier="remote"} 0
	// cache_requests_total{cache="users",result="miss",tier="none"} 1
}

func ExampleNamespace() {
	shop := cacheprom.Namespace("shop")
	recorder, err := shop.NewRecorder()
	if err != nil {
		panic(err)
	}
	users, err := cache.New[int, string](nil, "users", cache.LocalOnly(), cache.WithRecorder(recorder))
	if err != nil {
		panic(err)
	}
	defer users.Close()
	collector, err := shop.NewCollector(users)
	if err != nil {
		panic(err)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collector, recorder)

	families, err := registry.Gather()
	if err != nil {
		panic(err)
	}
	for _, f := range families {
		if strings.Contains(f.GetName(), "_local_") {
			fmt.Println(f.GetName())
		}
	}
	// Output:
	// shop_cache_local_bytes
	// shop_cache_local_entries
	// shop_cache_local_evictions_total
	// shop_cache_local_flushes_total
}
