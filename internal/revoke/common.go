package revoke

import (
	"cmp"

	"github.com/delqhi/cache/internal/notice"
	"github.com/delqhi/cache/internal/remote"
)

// A notice for keys that are told of in common tells of at most so many, whose commands
// store at most so many bytes, but for the last of them: it goes out with its commands,
// which are to go out in pieces if they are many.
const (
	keysPerNotice  = 64
	bytesPerNotice = 64 << 10
)

// InCommon carries out commands on keys, of which encoded are the encodings, by do, and
// tells of the keys in common: a notice stands behind every few commands. That is one
// message for many keys, where one for each would cost as much as the commands themselves.
// A command that has a notice of its own keeps it. It needs a store of one node; see
// remote.Guard.OneNode.
//
// The error of a key that may not have been told of is in its reply, and the number that
// is open for it in open, else 0.
func InCommon(out *notice.Outbox, names remote.Names, encoded []string, cmds []remote.Command, do func([]remote.Command) []remote.Reply) (replies []remote.Reply, open []uint64) {
	type post struct {
		at     int // in all
		number uint64
		of     []int // the commands
	}
	all := make([]remote.Command, 0, len(cmds)+len(cmds)/keysPerNotice+1)
	at := make([]int, len(cmds)) // in all
	var posts []post
	var of []int
	var keys []string
	bytes := 0
	flush := func() {
		if len(of) == 0 {
			return
		}
		tell, number := Tell(out, names, notice.Dropped, keys...)
		posts = append(posts, post{len(all), number, of})
		all = append(all, remote.Command{Op: remote.Post, Tell: tell})
		of, keys, bytes = nil, nil, 0
	}
	for i := range cmds {
		at[i] = len(all)
		all = append(all, cmds[i])
		if cmds[i].Tell.Channel != "" {
			continue
		}
		of, keys, bytes = append(of, i), append(keys, encoded[i]), bytes+len(cmds[i].Frame)
		if len(of) == keysPerNotice || bytes >= bytesPerNotice {
			flush()
		}
	}
	flush()
	got := do(all)
	replies, open = make([]remote.Reply, len(cmds)), make([]uint64, len(cmds))
	for i := range cmds {
		replies[i] = got[at[i]]
	}
	for _, p := range posts {
		err := got[p.at].Err
		if err == nil {
			out.Done(p.number)
			continue
		}
		for j, n := range out.Split(p.number, len(p.of)) {
			i := p.of[j]
			open[i], replies[i].Err = n, cmp.Or(replies[i].Err, err)
		}
	}
	return replies, open
}
