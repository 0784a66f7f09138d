package expvar

import (
	"encoding/json"
	"expvar"
	"fmt"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/delqhi/cache/metrics"
)

type fixed struct {
	name string
	s    metrics.Snapshot
}

func (f *fixed) Name() string             { return f.name }
func (f *fixed) Totals() metrics.Snapshot { return f.s }

// page is what /debug/vars says of caches.
func page(t *testing.T) map[string]struct {
	HitRate   float64
	LocalHits uint64
	Breaker   string
	Get       struct {
		Count uint64
		P99   time.Duration `json:"p99_ns"`
	}
} {
	t.Helper()
	rec := httptest.NewRecorder()
	expvar.Handler().ServeHTTP(rec, httptest.NewRequest("GET", "/debug/vars", nil))
	var out struct {
		Cache map[string]struct {
			HitRate   float64
			LocalHits uint64
			Breaker   string
			Get       struct {
				Count uint64
				P99   time.Duration `json:"p99_ns"`
			}
		}
	}
	if err := json.Unmarshal(rec.Body.Bytes(), &out); err != nil {
		t.Fatalf("%v in\n%s", err, rec.Body)
	}
	return out.Cache
}

func TestPublish(t *testing.T) {
	users := &fixed{"users", metrics.Snapshot{LocalHits: 3, MissAbsent: 1, Breaker: metrics.Open}}
	users.s.Get.Record(time.Second, 4)
	odd := &fixed{name: "käse \"\\"}
	if err := Publish(users, odd); err != nil {
		t.Fatal(err)
	}
	defer Unpublish("users", odd.name, "nobody")
	got := page(t)
	if u := got["users"]; u.HitRate != 0.75 || u.LocalHits != 3 || u.Breaker != "open" || u.Get.Count != 4 || u.Get.P99 < 900*time.Millisecond {
		t.Errorf("users are %+v", u)
	}
	if _, ok := got[odd.name]; !ok {
		t.Errorf("%q is not there", odd.name)
	}

	tasks := &fixed{name: "tasks"}
	for _, twice := range [][]metrics.Cache{{&fixed{name: "users"}}, {tasks, users}, {tasks, tasks}, {tasks, nil}} {
		if err := Publish(twice...); err == nil || !strings.HasPrefix(err.Error(), "cache: expvar: a cache ") {
			t.Errorf("%v was published: %v", twice, err)
		}
	}
	if _, ok := page(t)["tasks"]; ok {
		t.Error("a Publish that failed has published something")
	}
	Unpublish("users")
	if err := Publish(&fixed{name: "users"}); err != nil {
		t.Errorf("after it was taken out: %v", err)
	}
}

func TestPublishAtOnce(t *testing.T) {
	var all sync.WaitGroup
	var mu sync.Mutex
	done := 0
	for range 16 {
		all.Go(func() {
			if Publish(&fixed{name: "contended"}) == nil {
				mu.Lock()
				done++
				mu.Unlock()
			}
			_ = expvar.Get(Name).String()
		})
	}
	all.Wait()
	Unpublish("contended")
	if done != 1 {
		t.Errorf("published %d times", done)
	}
}

// A variable of the program's own is left alone.
func TestAnotherVariableOfTheName(t *testing.T) {
	mu.Lock()
	mine := published
	published = nil // as at the start
	if mine == nil {
		expvar.NewMap(Name)
	}
	mu.Unlock()
	defer func() {
		mu.Lock()
		published = mine
		if mine == nil {
			published = expvar.Get(Name).(*expvar.Map)
		}
		mu.Unlock()
	}()
	if err := Publish(&fixed{name: "users"}); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q", Name)) {
		t.Errorf("published over another variable: %v", err)
	}
}
