package invalidation

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/delqhi/cache/internal/message"
	"github.com/delqhi/cache/internal/store"
)

// Commands of one kind go in groups, Sets first, with one notice each; any other gets a notice of
// its own. Each reply is that of its own command.
func TestCommandsAreToldInCommon(t *testing.T) {
	cmd := func(op store.Op, key string, size int) store.Command {
		return store.Command{Op: op, Key: names.Data + key, Frame: make([]byte, size)}
	}
	var cmds []store.Command
	var encoded []string
	add := func(c store.Command) {
		cmds, encoded = append(cmds, c), append(encoded, c.Key[len(names.Data):])
	}
	add(cmd(store.Delete, "d1", 0))
	add(cmd(store.Set, "large", bytesPerMessage))
	own := len(cmds)
	add(cmd(store.CompareAndSet, "own", 1))
	add(cmd(store.Set, "half 1", bytesPerMessage/2))
	add(cmd(store.Delete, "d2", 0))
	add(cmd(store.Set, "half 2", bytesPerMessage/2))
	for i := range KeysPerMessage {
		add(cmd(store.Set, fmt.Sprint("small ", i), 1))
	}
	add(cmd(store.Set, "last", 1))
	r := &Invalidator{Names: names, Outbox: message.NewOutbox(1)}
	var groups [][]string
	replies, sent := r.InCommon(encoded, cmds, func(all []store.Command) []store.Reply {
		got := make([]store.Reply, len(all))
		for i := 0; i < len(all); {
			c := all[i]
			n, err := message.Parse(c.Notify.Message)
			if err != nil || c.Notify.Channel != names.Channel || len(n.Keys) != c.With+1 {
				t.Fatalf("%s: %+v with %d more, %v", c.Key, n, c.With, err)
			}
			for j, key := range n.Keys {
				m := all[i+j]
				if m.Key != names.Data+key || m.Op != c.Op || j > 0 && m.Notify.Channel != "" {
					t.Errorf("%d of the group of %q: %+v", j, n.Keys, m)
				}
				got[i+j] = store.Reply{OK: true, Record: store.Record{State: store.Found, Raw: []byte(m.Key)}}
			}
			groups = append(groups, n.Keys)
			i += len(n.Keys)
		}
		return got
	})
	for i := range cmds {
		if !bytes.Equal(replies[i].Record.Raw, []byte(cmds[i].Key)) || (sent[i] != message.Sent{}) != (i == own) {
			t.Errorf("%s: the reply of %s, sent %v", cmds[i].Key, replies[i].Record.Raw, sent[i])
		}
		sent[i].Resolve(true, nil)
	}
	var small []string
	for i := range KeysPerMessage {
		small = append(small, fmt.Sprint("small ", i))
	}
	if want := [][]string{{"large"}, {"half 1", "half 2"}, small, {"last"}, {"d1", "d2"}, {"own"}}; !reflect.DeepEqual(groups, want) {
		t.Errorf("groups %q, want %q", groups, want)
	}
	if cmds[1].Notify.Channel != "" || cmds[1].With != 0 {
		t.Error("the caller's commands were changed")
	}
	settledBy(t, r.Outbox, nil)
}

// The message of a command that fails alone is published with the others; if all of a group fail,
// each key is open.
func TestAGroupIsOpenIfAllOfItFailed(t *testing.T) {
	encoded := []string{"a", "b", "c", "d", "e"}
	for name, c := range map[string]struct{ failing, open []int }{
		"none":           {nil, nil},
		"some of each":   {[]int{0, 1, 4}, nil},
		"all Sets":       {[]int{0, 1, 2}, []int{0, 1, 2}},
		"all Deletes":    {[]int{3, 4}, []int{3, 4}},
		"all Deletes, …": {[]int{0, 3, 4}, []int{3, 4}},
	} {
		cmds := make([]store.Command, len(encoded))
		for i, k := range encoded {
			cmds[i] = store.Command{Op: store.Set, Key: names.Data + k}
			if i > 2 {
				cmds[i].Op = store.Delete
			}
		}
		r := &Invalidator{Names: names, Outbox: message.NewOutbox(1)}
		replies, sent := r.InCommon(encoded, cmds, func(all []store.Command) []store.Reply {
			got := make([]store.Reply, len(all))
			for i := range all {
				if got[i].OK = true; slices.Contains(c.failing, slices.Index(encoded, all[i].Key[len(names.Data):])) {
					got[i] = store.Reply{Err: errLost}
				}
			}
			return got
		})
		var is, failed []int
		var numbers []uint64
		for i := range cmds {
			if replies[i].Err != nil {
				failed = append(failed, i)
			}
			if open := sent[i].Resolve(true, replies[i].Err); open != nil {
				is, numbers = append(is, i), append(numbers, open...)
			}
		}
		if !slices.Equal(is, c.open) || !slices.Equal(failed, c.failing) || len(slices.Compact(slices.Sorted(slices.Values(numbers)))) != len(is) {
			t.Errorf("%s: failed %d, open %d by %d", name, failed, is, numbers)
		}
		settledBy(t, r.Outbox, numbers)
	}
}
