package redisstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/delqhi/cache/internal/redisstore"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/redis/go-redis/v9"
)

// untakenReasons are reasons for which a server takes no writes, and how each begins and
// ends. The user is app. full: it takes what makes room.
var untakenReasons = map[string]struct {
	begin, end [][]any
	full       bool
}{
	"READONLY":   {begin: [][]any{{"replicaof", "127.0.0.1", "1"}}, end: [][]any{{"replicaof", "no", "one"}}},
	"NOREPLICAS": {begin: [][]any{{"config", "set", "min-replicas-to-write", "1"}}, end: [][]any{{"config", "set", "min-replicas-to-write", "0"}}},
	"OOM":        {begin: [][]any{{"config", "set", "maxmemory", "1"}}, end: [][]any{{"config", "set", "maxmemory", "0"}}, full: true},
	"MISCONF":    {end: [][]any{{"config", "set", "stop-writes-on-bgsave-error", "no"}}},
	"NOPERM for commands": {begin: [][]any{{"acl", "setuser", "app", "-set", "-unlink", "-setrange", "-pexpire"}},
		end: [][]any{{"acl", "setuser", "app", "+@all"}}},
	"NOPERM for keys": {begin: [][]any{{"acl", "setuser", "app", "resetkeys", "%R~*", "~other*"}},
		end: [][]any{{"acl", "setuser", "app", "allkeys"}}},
}

// cannotSave has a server refuse writes because it can't save its data.
func cannotSave(t *testing.T, admin *redis.Client) {
	ctx := context.Background()
	dir, file := admin.ConfigGet(ctx, "dir").Val()["dir"], admin.ConfigGet(ctx, "dbfilename").Val()["dbfilename"]
	// A folder is where the file is to be.
	if err := os.MkdirAll(filepath.Join(dir, file, "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := admin.ConfigSet(ctx, "save", "3600 1000000").Err(); err != nil {
		t.Fatal(err)
	}
	_ = admin.Do(ctx, "bgsave").Err()
	for !strings.Contains(admin.Info(ctx, "persistence").Val(), "rdb_last_bgsave_status:err") {
		if t.Context().Err() != nil || t.Failed() {
			t.FailNow()
		}
		time.Sleep(time.Millisecond)
	}
}

// untaken makes one write of each kind, alone and in company, each on a key of its own.
// The keys that are to hold something hold record.
func untaken(record []byte, tell func(key string) store.Notify) (kinds map[string][]store.Command, held []string) {
	seen := store.TokenOf(record)
	fresh := func(i int) []byte {
		return fmt.Appendf(nil, "\xc5of another write   %04d, and a seal", i)[:store.SealLen]
	}
	kinds = map[string][]store.Command{}
	n := 0
	make := func(op store.Op, on store.CASToken) store.Command {
		n++
		c := store.Command{Op: op, Key: fmt.Sprintf("{k}%d", n), TTL: time.Hour, Seen: on, Frame: fresh(n)}
		if op == store.PatchHeader {
			c.TTL = 0
		}
		if on.State != store.Missing || op == store.Delete {
			held = append(held, c.Key)
		}
		c.Notify = tell(c.Key)
		return c
	}
	add := func(name string, op store.Op, on store.CASToken) {
		kinds[name] = []store.Command{make(op, on)}
		kinds[name+" with others"] = []store.Command{{Op: store.Get, Key: "{k}"}, make(op, on), make(op, on), make(op, on)}
	}
	add("set", store.Set, store.CASToken{})
	add("delete", store.Delete, store.CASToken{})
	add("set_nx", store.SetNX, store.CASToken{})
	add("fill a lease", store.CompareAndSet, seen)
	add("swap with nothing", store.CompareAndSet, store.CASToken{})
	add("compare_and_delete", store.CompareAndDelete, seen)
	add("extend", store.Extend, seen)
	add("patch_header", store.PatchHeader, seen)
	kinds["set mixed"] = []store.Command{make(store.Set, store.CASToken{}), make(store.CompareAndSet, seen), make(store.Set, store.CASToken{})}
	large := func(cmds []store.Command) []store.Command { // enough for transactions
		for i := range cmds {
			if cmds[i].Op == store.Set {
				cmds[i].Frame = append(cmds[i].Frame, bytes.Repeat([]byte{'x'}, 1000)...)
			}
		}
		return cmds
	}
	kinds["set large with others"] = large([]store.Command{make(store.Set, store.CASToken{}), make(store.Set, store.CASToken{}), make(store.Set, store.CASToken{})})
	kinds["set large after a read"] = large([]store.Command{{Op: store.Get, Key: "{k}"}, make(store.Set, store.CASToken{}), make(store.Set, store.CASToken{})})
	unit := large([]store.Command{{Op: store.Get, Key: "{k}"}, make(store.Set, store.CASToken{}), make(store.Set, store.CASToken{}), make(store.Set, store.CASToken{})})
	unit[1].With, unit[2].Notify, unit[3].Notify = 2, store.Notify{}, store.Notify{}
	kinds["set large together"] = unit
	for name, op := range map[string]store.Op{"set together": store.Set, "delete together": store.Delete} {
		cmds := []store.Command{make(op, store.CASToken{}), make(op, store.CASToken{}), make(op, store.CASToken{})}
		cmds[0].With, cmds[1].Notify, cmds[2].Notify = 2, store.Notify{}, store.Notify{}
		kinds[name] = cmds
	}
	return kinds, held
}

// What a server refuses is not told, whatever kind of write it is and for whatever reason;
// what it takes is told, once.
func TestWhatIsRefusedIsNotTold(t *testing.T) {
	t.Parallel()
	for reason := range untakenReasons {
		t.Run(reason, func(t *testing.T) {
			s := redistest.Start(t, redistest.ACL("app on >secret ~* &* +@all"))
			o := s.Options()
			o.Username, o.Password, o.MaxRetries = "app", "secret", -1
			notTold(t, s.Client(t), redis.NewClient(o), reason)
		})
	}
	t.Run("cluster", func(t *testing.T) {
		c := redistest.StartCluster(t, 1)
		notTold(t, c.Nodes[0].Client(t), c.Client(t), "NOREPLICAS")
	})
}

func notTold(t *testing.T, admin *redis.Client, rdb redis.UniversalClient, reason string) {
	t.Helper()
	ctx := t.Context()
	defer rdb.Close()
	st, err := redisstore.NewRedis(rdb)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	r := untakenReasons[reason]
	do := func(cmds [][]any) {
		t.Helper()
		for _, cmd := range cmds {
			if err := admin.Do(ctx, cmd...).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	sub := admin.Subscribe(ctx, "news")
	defer sub.Close()
	if _, err := sub.Receive(ctx); err != nil {
		t.Fatal(err)
	}
	heard := func() (messages []string) {
		t.Helper()
		if err := admin.Publish(ctx, "news", "end").Err(); err != nil {
			t.Fatal(err)
		}
		for {
			m, err := sub.ReceiveMessage(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if m.Payload == "end" {
				return messages
			}
			messages = append(messages, m.Payload)
		}
	}
	record := []byte("\xc5what is there already, with a token and a seal")
	kinds, held := untaken(record, func(key string) store.Notify { return store.Notify{Channel: "news", Message: key} })
	for _, k := range held {
		if err := admin.Set(ctx, k, record, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if st.OneNode() && !st.AskForTransactions(ctx) {
		t.Fatal("it takes no transactions")
	}
	if reason == "MISCONF" {
		cannotSave(t, admin)
	}
	do(r.begin)
	var taken []string
	for name, cmds := range kinds {
		if !st.OneNode() && strings.HasSuffix(name, "together") {
			continue
		}
		if st.OneNode() { // one that was discarded is followed by scripts
			st.AskForTransactions(ctx)
		}
		any := false
		for i, reply := range st.Do(ctx, cmds) {
			var answer redis.Error
			switch {
			case cmds[i].Op == store.Get:
			case reply.Err == nil && reply.OK && r.full:
				any = true
			case reply.OK || !errors.As(reply.Err, &answer):
				t.Errorf("%s, %s: %+v", reason, name, reply)
			}
		}
		got := heard()
		if any {
			taken = append(taken, name)
			continue
		}
		if len(got) > 0 {
			t.Errorf("%s, %s: it was refused, and %q was told", reason, name, got)
		}
	}
	// What makes room is taken by a server that is full.
	for _, name := range []string{"delete", "compare_and_delete", "extend"} {
		if r.full != slices.Contains(taken, name) {
			t.Errorf("%s, %s: taken %v", reason, name, !r.full)
		}
	}
	do(r.end)
	for name, cmds := range kinds {
		if slices.Contains(taken, name) || !st.OneNode() && strings.HasSuffix(name, "together") {
			continue
		}
		if st.OneNode() && !st.AskForTransactions(ctx) {
			t.Errorf("%s is over, and it takes no transactions", reason)
		}
		var want []string
		for i, reply := range st.Do(ctx, cmds) {
			if reply.Err != nil || cmds[i].Op != store.Get && !reply.OK {
				t.Errorf("%s is over, %s: %+v", reason, name, reply)
			}
			if cmds[i].Notify.Channel != "" {
				want = append(want, cmds[i].Key)
			}
		}
		// What a server does not know the script of is sent again, behind the rest.
		got := heard()
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s is over, %s: told %q, instead of %q", reason, name, got, want)
		}
	}
}

// A user that may not write one of several keys can write the others, of any caller;
// and a message that several keys share is published where it can be.
func TestOneForbiddenKeyIsOneKey(t *testing.T) {
	s := redistest.Start(t, redistest.ACL("app on >secret ~free* &* +@all"))
	o := s.Options()
	o.Username, o.Password = "app", "secret"
	rdb := redis.NewClient(o)
	defer rdb.Close()
	st, err := redisstore.NewRedis(rdb)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	sub := s.Client(t).Subscribe(t.Context(), "news")
	defer sub.Close()
	if _, err := sub.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, op := range []store.Op{store.Set, store.Delete} {
		var cmds []store.Command
		for i, key := range []string{"free1", "not free", "free2", "free3"} {
			cmds = append(cmds, store.Command{Op: op, Key: key, Frame: []byte("v"), Notify: store.Notify{Channel: "news", Message: fmt.Sprint(op, i)}})
		}
		for i, r := range st.Do(t.Context(), cmds) {
			if r.OK != (i != 1) || (r.Err == nil) != r.OK {
				t.Errorf("%v of %q: %+v", op, cmds[i].Key, r)
			}
		}
		for _, i := range []int{0, 2, 3} {
			if m, err := sub.ReceiveMessage(t.Context()); err != nil || m.Payload != fmt.Sprint(op, i) {
				t.Errorf("%v: %v %v", op, m, err)
			}
		}
		for i := range cmds {
			cmds[i].Notify = store.Notify{}
		}
		cmds[0].With, cmds[0].Notify = 3, store.Notify{Channel: "news", Message: "all"}
		for i, r := range st.Do(t.Context(), cmds) {
			if r.OK != (i != 1) || (r.Err == nil) != r.OK {
				t.Errorf("%v together, %q: %+v", op, cmds[i].Key, r)
			}
		}
		if m, err := sub.ReceiveMessage(t.Context()); err != nil || m.Payload != "all" {
			t.Errorf("%v together: %v %v", op, m, err)
		}
		// The message goes with the first.
		cmds[0].Key, cmds[1].Key = cmds[1].Key, cmds[0].Key
		for i, r := range st.Do(t.Context(), cmds) {
			if r.OK || r.Err == nil {
				t.Errorf("%v together, not told, %q: %+v", op, cmds[i].Key, r)
			}
		}
	}
	if err := s.Client(t).Publish(t.Context(), "news", "end").Err(); err != nil {
		t.Fatal(err)
	}
	if m, err := sub.ReceiveMessage(t.Context()); err != nil || m.Payload != "end" {
		t.Errorf("also told: %v %v", m, err)
	}
}

// What can't go together is refused, and nothing of it is carried out, by every store.
func TestWhatCannotGoTogetherIsRefused(t *testing.T) {
	tell := store.Notify{Channel: "c", Message: "m"}
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		stores := map[string]store.Store{"model": storetest.NewMemory(), "store": newReal(t, b.Client)}
		for name, cmds := range map[string][]store.Command{
			"none":           {{Op: store.Set, Key: "k", Notify: tell, With: 1}},
			"too few":        {{Op: store.Set, Key: "k", Notify: tell, With: 2}, {Op: store.Set, Key: "l"}},
			"less than none": {{Op: store.Set, Key: "k", Notify: tell, With: -1}, {Op: store.Set, Key: "l", Notify: tell, With: -2}},
			"of two kinds":   {{Op: store.Set, Key: "k", Notify: tell, With: 1}, {Op: store.Delete, Key: "l"}},
			"no writes":      {{Op: store.Get, Key: "k", Notify: tell, With: 1}, {Op: store.Get, Key: "l"}},
			"two messages":   {{Op: store.Set, Key: "k", Notify: tell, With: 1}, {Op: store.Set, Key: "l", Notify: tell}},
			"no message":     {{Op: store.Set, Key: "k", With: 1}, {Op: store.Set, Key: "l"}},
			"a mistake":      {{Op: store.Set, Key: "k", Notify: tell, With: 1}, {Op: store.Set, Key: "l", TTL: -1}},
		} {
			for what, s := range stores {
				for i, r := range s.Do(t.Context(), cmds) {
					if r.OK || r.Err == nil {
						t.Errorf("%s, %s: reply %d is %+v", what, name, i, r)
					}
				}
			}
		}
	})
}
