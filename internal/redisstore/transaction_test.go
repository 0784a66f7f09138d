package redisstore_test

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/delqhi/cache/internal/redisstore"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/internal/store"
	"github.com/redis/go-redis/v9"
)

// largeSets are Sets of n keys with messages of their own, or with one message for all.
func largeSets(n int, together bool) []store.Command {
	cmds := make([]store.Command, n)
	for i := range cmds {
		cmds[i] = store.Command{Op: store.Set, Key: fmt.Sprint("{k}", i), TTL: time.Hour, Frame: append(frame(fmt.Sprint(i)), bytes.Repeat([]byte{'x'}, 1000)...)}
		if i%3 == 2 {
			cmds[i].TTL = 0
		}
		if !together || i == 0 {
			cmds[i].Notify = store.Notify{Channel: "news", Message: fmt.Sprint("of ", i)}
		}
	}
	if together {
		cmds[0].With = n - 1
	}
	return cmds
}

// listening returns the messages that are published until the next call.
func listening(t *testing.T, admin *redis.Client) (heard func() []string) {
	t.Helper()
	sub := admin.Subscribe(t.Context(), "news")
	t.Cleanup(func() { _ = sub.Close() })
	if _, err := sub.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	return func() (messages []string) {
		t.Helper()
		if err := admin.Publish(t.Context(), "news", "end").Err(); err != nil {
			t.Fatal(err)
		}
		for {
			m, err := sub.ReceiveMessage(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if m.Payload == "end" {
				return messages
			}
			messages = append(messages, m.Payload)
		}
	}
}

// calls returns how often the server has run each command.
func calls(t *testing.T, admin *redis.Client) map[string]int {
	t.Helper()
	counts := map[string]int{}
	for line := range strings.Lines(admin.Info(t.Context(), "commandstats").Val()) {
		var n int
		name, rest, ok := strings.Cut(strings.TrimPrefix(line, "cmdstat_"), ":calls=")
		if _, err := fmt.Sscanf(rest, "%d", &n); ok && err == nil {
			counts[name] = n
		}
	}
	return counts
}

func openStore(t *testing.T, o *redis.Options) *redisstore.Redis {
	t.Helper()
	rdb := redis.NewClient(o)
	st, err := redisstore.NewRedis(rdb)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close(); _ = rdb.Close() })
	return st
}

// Large records that are written together are stored with their lifetimes, each message is
// published once, and no script is run, also behind a read.
func TestLargeRecordsAreSentAsTransactions(t *testing.T) {
	server := redistest.Start(t)
	admin := server.Client(t)
	st := openStore(t, server.Options())
	if !st.AskForTransactions(t.Context()) {
		t.Fatal("the server takes no transactions")
	}
	heard := listening(t, admin)
	for _, together := range []bool{false, true} {
		cmds := largeSets(100, together)
		want := slices.DeleteFunc(slices.Collect(func(yield func(string) bool) {
			for i := range cmds {
				if !yield(cmds[i].Notify.Message) {
					return
				}
			}
		}), func(s string) bool { return s == "" })
		if err := admin.FlushDB(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		if err := admin.Set(t.Context(), "{k}read", "before", 0).Err(); err != nil {
			t.Fatal(err)
		}
		before := calls(t, admin)
		replies := st.Do(t.Context(), append([]store.Command{{Op: store.Get, Key: "{k}read"}}, cmds...))
		after := calls(t, admin)
		if string(replies[0].Record.Raw) != "before" || replies[0].Err != nil {
			t.Errorf("the read: %+v", replies[0])
		}
		for i, r := range replies[1:] {
			if !r.OK || r.Err != nil {
				t.Errorf("%d: %+v", i, r)
			}
			if got := admin.Get(t.Context(), cmds[i].Key).Val(); got != string(cmds[i].Frame) {
				t.Errorf("%d holds %.40q", i, got)
			}
			if ttl := admin.PTTL(t.Context(), cmds[i].Key).Val(); ttl > cmds[i].TTL || (ttl > 0) != (cmds[i].TTL > 0) {
				t.Errorf("%d lives for %v", i, ttl)
			}
		}
		if got := heard(); !slices.Equal(got, want) {
			t.Errorf("told %q, want %q", got, want)
		}
		if n := after["exec"] - before["exec"]; n < 1 || n > 3 || after["evalsha"] != before["evalsha"] || after["eval"] != before["eval"] {
			t.Errorf("%d transactions; before %v, after %v", n, before, after)
		}
	}
}

// Small records are sent as a script, which costs the server less.
func TestSmallRecordsAreSentAsAScript(t *testing.T) {
	server := redistest.Start(t)
	st := openStore(t, server.Options())
	if !st.AskForTransactions(t.Context()) {
		t.Fatal("the server takes no transactions")
	}
	admin := server.Client(t)
	cmds := largeSets(10, true)
	for i := range cmds {
		cmds[i].Frame = cmds[i].Frame[:40]
	}
	before := calls(t, admin)
	for i, r := range st.Do(t.Context(), cmds) {
		if !r.OK || r.Err != nil {
			t.Errorf("%d: %+v", i, r)
		}
	}
	if after := calls(t, admin); after["exec"] != before["exec"] || after["set"]-before["set"] != len(cmds) {
		t.Errorf("before %v, after %v", before, after)
	}
}

// A server that does not take transactions, or closes the connection at one, gets scripts: from the
// first call on.
func TestWithoutTransactionsThereAreScripts(t *testing.T) {
	for name, answer := range map[string]redistest.Restriction{
		"unknown":  redistest.Lacking("multi", "exec"),
		"no MULTI": redistest.Lacking("multi"),
		"no EXEC":  redistest.Lacking("exec"),
		"no permission": func(args []string) string {
			if strings.EqualFold(args[0], "multi") {
				return "-NOPERM this user has no permissions to run the 'multi' command\r\n"
			}
			return ""
		},
		"closes the connection": func(args []string) string {
			if strings.EqualFold(args[0], "multi") {
				return redistest.Hangup
			}
			return ""
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := redistest.Start(t)
			admin := server.Client(t)
			var asked atomic.Int64
			o := server.Options()
			o.Addr = redistest.NewFront(t, server.Addr(), func(args []string) string {
				if strings.EqualFold(args[0], "multi") {
					asked.Add(1)
				}
				return answer(args)
			}).Addr()
			st := openStore(t, o)
			heard := listening(t, admin)
			for range 5 {
				for i, r := range st.Do(t.Context(), largeSets(5, true)) {
					if !r.OK || r.Err != nil {
						t.Errorf("%d: %+v", i, r)
					}
				}
				if got := heard(); !slices.Equal(got, []string{"of 0"}) {
					t.Errorf("told %q", got)
				}
				if r := st.Do(t.Context(), []store.Command{{Op: store.Get, Key: "{k}4"}})[0]; r.Err != nil || len(r.Record.Raw) < 1000 {
					t.Errorf("read %.60q, %v", r.Record.Raw, r.Err)
				}
			}
			if st.AskForTransactions(t.Context()) {
				t.Error("it is taken for a server that takes transactions")
			}
			if n := asked.Load(); n > 2 {
				t.Errorf("asked %d times", n)
			}
		})
	}
}

// A server that has taken transactions, and refuses MULTI or EXEC from then on: the outcome is not
// known, once. Then there are scripts, and no connection is left in a transaction.
func TestTransactionsThatAreRefusedLater(t *testing.T) {
	for _, lacks := range [][]string{{"multi"}, {"exec"}, {"exec", "strlen"}} {
		t.Run(strings.Join(lacks, ", "), func(t *testing.T) {
			server := redistest.Start(t)
			admin := server.Client(t)
			var refuses atomic.Bool
			o := server.Options()
			refuse := redistest.Lacking(lacks...)
			o.Addr = redistest.NewFront(t, server.Addr(), func(args []string) string {
				if refuses.Load() {
					return refuse(args)
				}
				return ""
			}).Addr()
			st := openStore(t, o)
			if !st.AskForTransactions(t.Context()) {
				t.Fatal("the server takes no transactions")
			}
			refuses.Store(true)
			for i, r := range st.Do(t.Context(), largeSets(100, true)) {
				if r.OK || r.Err == nil {
					t.Errorf("%d: %+v", i, r)
				}
			}
			if !st.TransactionsRefused() {
				t.Error("it is still taken for a server that takes transactions")
			}
			heard := listening(t, admin)
			for range 3 {
				cmds := largeSets(5, true)
				for i, r := range st.Do(t.Context(), cmds) {
					if !r.OK || r.Err != nil {
						t.Errorf("%d: %+v", i, r)
					}
				}
				if got := heard(); !slices.Equal(got, []string{"of 0"}) {
					t.Errorf("told %q", got)
				}
				if r := st.Do(t.Context(), []store.Command{{Op: store.Get, Key: cmds[4].Key}})[0]; r.Err != nil || !bytes.Equal(r.Record.Raw, cmds[4].Frame) {
					t.Errorf("read %.60q, %v", r.Record.Raw, r.Err)
				}
				// These are a pipeline, as a transaction is, and may get the connection that it had.
				for i, r := range st.Do(t.Context(), []store.Command{{Op: store.GetHeader, Key: cmds[3].Key}, {Op: store.Get, Key: cmds[4].Key}}) {
					if r.Err != nil || !bytes.HasPrefix(cmds[3+i].Frame, r.Record.Raw) || r.Record.State != store.Found {
						t.Errorf("read in a pipeline: %.60q, %v", r.Record.Raw, r.Err)
					}
				}
			}
		})
	}
}

// A node of a cluster discards a transaction of keys of several slots when it gets EXEC. Nothing of it
// was stored, and its commands are sent one by one.
func TestATransactionOfSeveralSlots(t *testing.T) {
	node := redistest.StartCluster(t, 1).Nodes[0]
	st := openStore(t, node.Options())
	if !st.AskForTransactions(t.Context()) {
		t.Fatal("the node takes no transactions")
	}
	heard := listening(t, node.Client(t))
	for _, together := range []bool{true, false, true} {
		cmds := largeSets(5, together)
		var want []string
		for i := range cmds {
			cmds[i].Key = fmt.Sprint("apart", i)
			if cmds[i].Notifies() {
				want = append(want, cmds[i].Notify.Message)
			}
		}
		for i, r := range st.Do(t.Context(), cmds) {
			if !r.OK || r.Err != nil {
				t.Errorf("%d: %+v", i, r)
			}
		}
		got := heard()
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("together %v: told %q, want %q", together, got, want)
		}
		for i := range cmds {
			if r := st.Do(t.Context(), []store.Command{{Op: store.Get, Key: cmds[i].Key}})[0]; r.Err != nil || !bytes.Equal(r.Record.Raw, cmds[i].Frame) {
				t.Errorf("read %.60q, %v", r.Record.Raw, r.Err)
			}
		}
		st.AskForTransactions(t.Context())
	}
}

// A transaction is whole: where the connection ends before EXEC, nothing is stored and nothing is
// published, and the outcome is an error.
func TestHalfATransactionIsNothing(t *testing.T) {
	server := redistest.Start(t)
	admin := server.Client(t)
	var cut atomic.Bool
	o := server.Options()
	o.Addr = redistest.NewFront(t, server.Addr(), func(args []string) string {
		if cut.Load() && strings.EqualFold(args[0], "exec") {
			return redistest.Hangup
		}
		return ""
	}).Addr()
	st := openStore(t, o)
	if !st.AskForTransactions(t.Context()) {
		t.Fatal("the server takes no transactions")
	}
	heard := listening(t, admin)
	cut.Store(true)
	for i, r := range st.Do(t.Context(), largeSets(5, true)) {
		if r.OK || r.Err == nil {
			t.Errorf("%d: %+v", i, r)
		}
	}
	if n, err := admin.DBSize(t.Context()).Result(); n != 0 || err != nil {
		t.Errorf("%d keys, %v", n, err)
	}
	if got := heard(); len(got) > 0 {
		t.Errorf("told %q", got)
	}
}

// The lost reply to a transaction is an error, and it is not sent again.
func TestATransactionIsSentOnce(t *testing.T) {
	server := redistest.Start(t)
	admin := server.Client(t)
	o := server.Options()
	var sent atomic.Int64
	var lose atomic.Bool
	o.Addr = redistest.NewFront(t, server.Addr(), func(args []string) string {
		if !lose.Load() || !strings.EqualFold(args[0], "exec") {
			return ""
		}
		sent.Add(1)
		return redistest.Hangup
	}).Addr()
	o.MaxRetries = 5
	st := openStore(t, o)
	if !st.AskForTransactions(t.Context()) {
		t.Fatal("the server takes no transactions")
	}
	lose.Store(true)
	for i, r := range st.Do(t.Context(), largeSets(3, false)) {
		if r.OK || r.Err == nil {
			t.Errorf("%d: %+v", i, r)
		}
	}
	if n := sent.Load(); n != 1 {
		t.Errorf("EXEC was sent %d times", n)
	}
	if after := calls(t, admin); after["evalsha"] > 0 || after["eval"] > 0 {
		t.Errorf("it was sent again as a script: %v", slices.Sorted(maps.Keys(after)))
	}
}

// One forbidden key of a transaction fails alone.
func TestOneForbiddenKeyOfATransaction(t *testing.T) {
	server := redistest.Start(t, redistest.ACL("app on >secret ~{k}* ~{free}* &* +@all"))
	o := server.Options()
	o.Username, o.Password = "app", "secret"
	st := openStore(t, o)
	heard := listening(t, server.Client(t))
	for _, together := range []bool{false, true} {
		if !st.AskForTransactions(t.Context()) {
			t.Fatal("the server takes no transactions")
		}
		cmds := largeSets(4, together)
		cmds[2].Key = "forbidden"
		for i, r := range st.Do(t.Context(), cmds) {
			if r.OK != (i != 2) || (r.Err == nil) != r.OK {
				t.Errorf("%d: %+v", i, r)
			}
		}
		want := []string{"of 0", "of 1", "of 3"}
		if together {
			want = want[:1]
		}
		if got := heard(); !slices.Equal(got, want) {
			t.Errorf("told %q, want %q", got, want)
		}
		if st.TakesTransactions() {
			t.Error("the next call is not sent as a script")
		}
	}
}
