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
// whose message may not have been published; then the error is in the key's reply.
func (r *Invalidator) InCommon(encoded []string, cmds []store.Command, do func([]store.Command) []store.Reply) (replies []store.Reply, sent []message.Sent) {
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
