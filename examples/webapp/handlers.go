package main

import (
	"embed"
	"encoding/json"
	"errors"
	"html/template"
	"log/slog"
	"net"
	"net/http"
	"strconv"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/metrics/dashboard"
	cacheprom "github.com/delqhi/cache/metrics/prometheus"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

//go:embed web
var web embed.FS

var pages = template.Must(template.ParseFS(web, "web/*.html"))

// handler serves one instance.
type handler struct {
	http.Handler
	dashboard *dashboard.Handler
}

// newHandler makes the routes. urls are those of all instances.
func newHandler(s *shop, name string, urls []string, log *slog.Logger) (*handler, error) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", page("shop.html", name))
	mux.HandleFunc("GET /both", page("both.html", urls))
	for _, file := range []string{"style.css", "shop.js"} {
		mux.HandleFunc("GET /"+file, func(w http.ResponseWriter, r *http.Request) { http.ServeFileFS(w, r, web, "web/"+file) })
	}
	mux.HandleFunc("GET /api/products/{id}", s.getProduct)
	mux.HandleFunc("POST /api/products/{id}/reprice", s.postReprice)
	mux.HandleFunc("GET /api/shelves/{name}", s.getShelf)
	mux.HandleFunc("POST /api/shelves/{name}/raise", s.postRaise)

	// What an operator looks at.
	d := dashboard.New(dashboard.Title("webapp, instance "+name), dashboard.Actions(onThisMachine), dashboard.ShowValues(), dashboard.Logger(log)).Add(s.products, s.shelves).AddRelays(s.relay)
	mux.Handle("/debug/cache/", d)
	collector, err := cacheprom.NewCollector(s.products, s.shelves)
	if err != nil {
		return nil, err
	}
	if err := collector.AddRelays(s.relay); err != nil {
		return nil, err
	}
	registry := prometheus.NewRegistry()
	for _, c := range []prometheus.Collector{collector, s.recorder} {
		if err := registry.Register(c); err != nil {
			return nil, err
		}
	}
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))

	// Other sites' pages can't change prices.
	return &handler{http.NewCrossOriginProtection().Handler(mux), d}, nil
}

// onThisMachine lets those act who are on the machine itself, and have asked for it by
// a name of its own: a foreign name that was made to lead here is refused. A
// real service looks at who is logged in.
func onThisMachine(r *http.Request) error {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil || !net.ParseIP(host).IsLoopback() {
		return errors.New("not from this machine")
	}
	name, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		name = r.Host
	}
	if name != "localhost" && !net.ParseIP(name).IsLoopback() {
		return errors.New("by a foreign name")
	}
	return nil
}

func page(name string, data any) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_ = pages.ExecuteTemplate(w, name, data) // the reader has left
	}
}

func (s *shop) getProduct(w http.ResponseWriter, r *http.Request) {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil {
		http.Error(w, "a product's id is a number", http.StatusBadRequest)
		return
	}
	a, err := s.product(r.Context(), id)
	reply(w, a, err)
}

func (s *shop) getShelf(w http.ResponseWriter, r *http.Request) {
	list, err := s.shelf(r.Context(), r.PathValue("name"))
	reply(w, list, err)
}

func (s *shop) postReprice(w http.ResponseWriter, r *http.Request) {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	cents, ok := number(r, "cents", -100_000, 100_000)
	if err != nil || !ok {
		http.Error(w, "a product's id, and cents from -100000 to 100000", http.StatusBadRequest)
		return
	}
	p, err := s.reprice(r.Context(), id, cents)
	reply(w, p, err)
}

func (s *shop) postRaise(w http.ResponseWriter, r *http.Request) {
	percent, ok := number(r, "percent", -50, 50)
	if !ok {
		http.Error(w, "percent from -50 to 50", http.StatusBadRequest)
		return
	}
	err := s.raise(r.Context(), r.PathValue("name"), percent)
	reply(w, struct{}{}, err)
}

func number(r *http.Request, name string, low, high int64) (n int64, ok bool) {
	n, err := strconv.ParseInt(r.FormValue(name), 10, 64)
	return n, err == nil && low <= n && n <= high
}

func reply(w http.ResponseWriter, v any, err error) {
	switch {
	case errors.Is(err, cache.ErrNotFound):
		http.Error(w, "there is no such thing", http.StatusNotFound)
	case err != nil:
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
	default:
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v) // the reader has left
	}
}
