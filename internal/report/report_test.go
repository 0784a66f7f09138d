package report

import (
	"bytes"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
)

// A proxy that closes the connection at a command is no broken network: other operations
// succeed all the while.
func TestACommandThatEndsTheConnectionEachTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		r := New("n", slog.New(slog.NewTextHandler(&log, nil)))
		misfit := false
		for range 20 {
			misfit = r.Failed("publish", store.Fits, io.EOF) || misfit
			r.Succeeded("get")
			time.Sleep(time.Second)
		}
		if !misfit || strings.Count(log.String(), "level=ERROR") != 1 {
			t.Errorf("%v, %v", misfit, log.String())
		}
		// A network that breaks everything now and then is none.
		r = New("n", slog.New(slog.DiscardHandler))
		for i := range 1000 {
			for _, op := range []string{"get", "set", "publish"} {
				if i%3 == 0 {
					r.Succeeded(op)
				} else if r.Failed(op, store.Fits, io.EOF) {
					t.Fatal("a broken network counts as a proxy")
				}
			}
			time.Sleep(time.Second)
		}
	})
}

// READONLY is an answer of a master to be as well.
func TestAReplicaIsToldByHowLongItRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		readonly := storetest.ServerError("READONLY You can't write against a read only replica.")
		r := New("n", slog.New(slog.DiscardHandler))
		r.Succeeded("set")
		for i := range 100 { // failovers of 20 s
			for range 20 {
				if r.Failed("set", store.Replica, readonly) {
					t.Fatalf("failover %d counts as a replica", i)
				}
				r.Succeeded("get")
				time.Sleep(time.Second)
			}
			r.Succeeded("set")
		}
		found := time.Duration(0)
		for at := time.Now(); !r.Failed("set", store.Replica, readonly); found = time.Since(at) {
			time.Sleep(time.Second)
		}
		if found < replicaAfter/2 || found > replicaAfter {
			t.Errorf("found after %v", found)
		}
	})
}
