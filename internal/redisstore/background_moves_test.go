package redisstore_test

import (
	"testing"

	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/internal/store"
)

// While a slot moves, reads that no caller waits for are answered as others are, wherever a key is.
func TestReadsInTheBackgroundWhileASlotMoves(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 2)
	client := cluster.Client(t)
	s := newReal(t, client)
	stays, moves := "{slot}stays", "{slot}moves"
	cmds := []store.Command{{Op: store.Get, Key: stays}, {Op: store.Get, Key: moves}}
	for _, k := range []string{stays, moves} {
		if err := client.Set(t.Context(), k, k, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	m := newMigration(t, cluster, client, stays)
	m.begin(t)
	m.move(t, moves)
	for name, ctx := range map[string]func() []store.Reply{
		"of a caller":       func() []store.Reply { return s.Do(t.Context(), cmds) },
		"in the background": func() []store.Reply { return s.Do(store.Background(t.Context()), cmds) },
	} {
		for i, r := range ctx() {
			if string(r.Record.Raw) != cmds[i].Key {
				t.Errorf("%s: %s: %+v", name, cmds[i].Key, r)
			}
		}
	}
}
