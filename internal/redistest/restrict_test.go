package redistest

import (
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

// The slots of keys are those of the server.
func TestSlots(t *testing.T) {
	t.Parallel()
	c := StartCluster(t, 1)
	rdb := c.Nodes[0].Client(t)
	for _, key := range []string{"", "k", "123456789", "{a}b", "a{b}c", "{}a", "a{", "a{}b{c}", "a{b", "{{a}}b", "\xff\x00ü"} {
		n, err := rdb.ClusterKeySlot(t.Context(), key).Result()
		if err != nil {
			t.Fatal(err)
		}
		if got := slotOf(key); int64(got) != n {
			t.Errorf("slot of %q: %d, and the server says %d", key, got, n)
		}
	}
}

// Restrictions answer what they take away, and nothing else.
func TestRestrictions(t *testing.T) {
	t.Parallel()
	all := Restricted(NoScripts, NoPubSub, NoInfo, NoTracking, OnlyRESP2, OldSet, OldScripts, OneSlot)
	for command, want := range map[string]string{
		"get k": "", "set k v": "", "SET k v NX": "", "set k get": "", "set k v get px 1": "", "mget {a}1 {a}2": "", "mget k": "", "client id": "", "client": "", "mget": "",
		"SET k v px 1 NX GET": "syntax error", "EvalSha x 0": "unknown command 'EvalSha'", "client TRACKING on": "unknown subcommand",
		"hello 3": "unknown command", "info": "unknown command", "subscribe c": "unknown command", "mget a b": "CROSSSLOT", "unlink {a}1 {b}1": "CROSSSLOT",
	} {
		got := all(strings.Fields(command))
		if (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%s: %q", command, got)
		}
	}
	if got := OneSlot(strings.Fields("evalsha x 2 a b c")); !strings.Contains(got, "CROSSSLOT") {
		t.Errorf("a script of several slots: %q", got)
	}
	if got := OneSlot(strings.Fields("evalsha x 1 a b c")) + OneSlot(strings.Fields("mset {a}1 v {a}2 w")); got != "" {
		t.Errorf("one slot: %q", got)
	}

	f := NewFront(t, Start(t).Addr(), Restricted(OldScripts, NoInfo))
	rdb := closeAfter(t, redis.NewClient(&redis.Options{Addr: f.Addr(), MaintNotificationsConfig: noMaintenance()}))
	if err := rdb.Info(t.Context()).Err(); err == nil || !strings.Contains(err.Error(), "unknown command 'info'") {
		t.Error(err)
	}
	if err := rdb.Eval(t.Context(), "#!lua\nreturn 1", nil).Err(); err == nil || !strings.Contains(err.Error(), "compiling") {
		t.Error(err)
	}
	if n, err := rdb.Eval(t.Context(), "return 1", nil).Int(); n != 1 || err != nil {
		t.Error(n, err)
	}
}
