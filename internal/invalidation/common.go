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
// would cost as much as the commands themselves. A command that has a message of its own keeps
// it, and may be of any kind. InCommon needs a store of one node; see client.Client.OneNode.
//
// If a key's message may not have been published, the error is in the key's reply, and the
// number that is open for it in open, else 0.
func InCommon(out *message.Outbox, names store.Names, encoded []string, cmds []store.Command, do func([]store.Command) []store.Reply) (replies []store.Reply, open []uint64) {
	type group struct {
		number uint64
		of     []int // indexes of the commands
	}
	all := make([]store.Command, 0, len(cmds))
	at := make([]int, len(cmds)) // indexes into all
	var groups []group
	var of []int
	var keys []string
	bytes := 0
	flush := func() {
		if len(of) == 0 {
			return
		}
		tell, number := NotifyOf(out, names, message.Invalidated, keys...)
		groups = append(groups, group{number, of})
		first := &all[at[of[0]]]
		first.Notify, first.With = tell, len(of)-1
		of, keys, bytes = nil, nil, 0
	}
	var own []int
	for _, op := range []store.Op{store.Set, store.Delete} {
		for i := range cmds {
			switch {
			case cmds[i].Notify.Channel != "":
				if op == store.Set {
					own = append(own, i)
				}
				continue
			case cmds[i].Op != op:
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
	for _, i := range own {
		at[i] = len(all)
		all = append(all, cmds[i])
	}
	got := do(all)
	replies, open = make([]store.Reply, len(cmds)), make([]uint64, len(cmds))
	for i := range cmds {
		replies[i] = got[at[i]]
	}
	for _, g := range groups {
		if slices.ContainsFunc(g.of, func(i int) bool { return replies[i].Err == nil }) {
			out.Done(g.number)
			continue
		}
		for j, n := range out.Split(g.number, len(g.of)) {
			open[g.of[j]] = n
		}
	}
	return replies, open
}
