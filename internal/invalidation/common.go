package invalidation

import (
	"slices"

	"github.com/delqhi/cache/internal/message"
	"github.com/delqhi/cache/internal/store"
)

// One message covers at most this many keys, and keys whose commands store at most this many
// bytes, but for the last of them: the message goes out with its commands, which are sent in
// parts if there are many.
const (
	KeysPerMessage  = 64
	bytesPerMessage = 64 << 10
)

// InCommon executes commands on keys, Sets and Deletes, by calling do, and publishes messages
// that cover several keys each; encoded holds the encodings of the keys. A message goes with
// every few commands of one kind, if any of them has taken effect. One message for each key
// would cost as much as the commands themselves. A command of another kind may not take effect,
// and then there is nothing to publish: it gets a message of its own. InCommon needs a store of
// one node; see client.Client.OneNode.
//
// The caller resolves what is in sent: the message of each such command, and that of each key
// whose message may not have been published; then the error is in the key's reply. cmds get their
// messages, and may be passed to do as they are.
func (r *Invalidator) InCommon(encoded []string, cmds []store.Command, do func([]store.Command) []store.Reply) (replies []store.Reply, sent []message.Sent) {
	if uniform(cmds) {
		return r.uniformly(encoded, cmds, do)
	}
	type group struct {
		message message.Sent
		of      []int // indexes of the commands
	}
	all := make([]store.Command, 0, len(cmds))
	at := make([]int, len(cmds)) // indexes into all
	replies, sent = make([]store.Reply, len(cmds)), make([]message.Sent, len(cmds))
	var groups []group
	var of []int
	var keys []string
	bytes := 0
	flush := func() {
		if len(of) == 0 {
			return
		}
		tell, common := r.NotifyOf(message.Invalidated, keys...)
		groups = append(groups, group{common, of})
		first := &all[at[of[0]]]
		first.Notify, first.With = tell, len(of)-1
		of, keys, bytes = nil, nil, 0
	}
	for _, op := range []store.Op{store.Set, store.Delete} {
		for i := range cmds {
			if cmds[i].Op != op {
				continue
			}
			at[i] = len(all)
			all = append(all, cmds[i])
			of, keys, bytes = append(of, i), append(keys, encoded[i]), bytes+len(cmds[i].Frame)
			if len(of) == KeysPerMessage || bytes >= bytesPerMessage {
				flush()
			}
		}
		flush()
	}
	for i, cmd := range cmds {
		if cmd.Op != store.Set && cmd.Op != store.Delete {
			cmd.Notify, sent[i] = r.NotifyOf(message.Invalidated, encoded[i])
			at[i] = len(all)
			all = append(all, cmd)
		}
	}
	got := do(all)
	for i := range cmds {
		replies[i] = got[at[i]]
	}
	for _, g := range groups {
		published := slices.ContainsFunc(g.of, func(i int) bool { return replies[i].Err == nil })
		for j, each := range g.message.ResolveEach(len(g.of), published) {
			sent[g.of[j]] = each
		}
	}
	return replies, sent
}

// uniform reports whether all commands are Sets, or all are Deletes.
func uniform(cmds []store.Command) bool {
	for i := range cmds {
		if op := cmds[i].Op; op != cmds[0].Op || op != store.Set && op != store.Delete {
			return false
		}
	}
	return true
}

// uniformly is InCommon for such commands, which stay in their order.
func (r *Invalidator) uniformly(encoded []string, cmds []store.Command, do func([]store.Command) []store.Reply) (replies []store.Reply, sent []message.Sent) {
	type group struct {
		message message.Sent
		from    int
	}
	var space [8]group
	groups := space[:0]
	for from := 0; from < len(cmds); {
		to, bytes := from, 0
		for to < len(cmds) && to-from < KeysPerMessage && bytes < bytesPerMessage {
			bytes += len(cmds[to].Frame)
			to++
		}
		first := &cmds[from]
		var common message.Sent
		first.Notify, common = r.NotifyOf(message.Invalidated, encoded[from:to]...)
		first.With = to - from - 1
		groups = append(groups, group{common, from})
		from = to
	}
	replies, sent = do(cmds), make([]message.Sent, len(cmds))
	for j, g := range groups {
		to := len(cmds)
		if j+1 < len(groups) {
			to = groups[j+1].from
		}
		published := slices.ContainsFunc(replies[g.from:to], func(r store.Reply) bool { return r.Err == nil })
		copy(sent[g.from:to], g.message.ResolveEach(to-g.from, published))
	}
	return replies, sent
}
