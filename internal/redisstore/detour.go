package redisstore

import (
	"cmp"
	"context"
	"slices"
	"sync/atomic"

	"github.com/delqhi/cache/internal/store"
	"github.com/redis/go-redis/v9"
)

// detours records which commands a server does not support, for which another form is then
// used. A detection holds for the life of the store.
type detours struct {
	noAddGet atomic.Bool // SET with NX and GET
	noMget   atomic.Bool // several keys in one command

	// found, if set before first use, is called once for each.
	found func(store.Misfit)
}

func (d *detours) tell(m store.Misfit) {
	if d.found != nil {
		d.found(m)
	}
}

// detour sends again, in another form, the commands that the server does not support.
func (s *Redis) detour(ctx context.Context, cmds []store.Command, replies []store.Reply) {
	var again []int
	for i := range replies {
		switch err := replies[i].Err; {
		case err == nil:
		case adds(&cmds[i]) && !cmds[i].ByScript && !cmds[i].Notifies() && redis.HasErrorPrefix(err, "syntax error"):
			if !s.noAddGet.Swap(true) {
				s.tell(store.Outdated)
			}
			again = append(again, i)
		case cmds[i].Op == store.Get && !s.split() && redis.HasErrorPrefix(err, "CROSSSLOT"):
			if !s.noMget.Swap(true) {
				s.tell(store.OneSlot)
			}
			again = append(again, i)
		case replies[i].Apart && redis.HasErrorPrefix(err, "CROSSSLOT") && !s.noMget.Swap(true):
			s.tell(store.OneSlot)
		}
	}
	s.apart(ctx, cmds, replies)
	if len(again) == 0 {
		return
	}
	some := make([]store.Command, len(again))
	for j, i := range again {
		some[j] = cmds[i]
	}
	for j, r := range s.do(ctx, byScript(some)) {
		if cmds[again[j]].Op == store.Get {
			r.HideType() // as in a call of several commands
		}
		replies[again[j]] = r
	}
}

// apart sends again, one by one, commands that were refused because of one of several keys: the
// user may not write it, or it is on another node. The message of a unit is sent with its first
// command, after all the others were answered.
func (s *Redis) apart(ctx context.Context, cmds []store.Command, replies []store.Reply) {
	var firsts, rest []int
	for i := range replies {
		switch {
		case !replies[i].Apart:
		case cmds[i].With > 0:
			firsts = append(firsts, i)
		default:
			rest = append(rest, i)
		}
	}
	for _, of := range [][]int{rest, firsts} {
		some := make([]store.Command, len(of))
		for j, i := range of {
			some[j] = cmds[i]
			some[j].With, some[j].Apart = 0, true
		}
		for j, r := range s.do(ctx, some) {
			i := of[j]
			replies[i] = r
			if r.Err == nil {
				continue
			}
			for k := i + 1; k <= i+cmds[i].With; k++ { // the message was not published
				replies[k] = store.Reply{Err: cmp.Or(replies[k].Err, r.Err)}
			}
		}
	}
}

// adds reports whether the command is SET with NX and GET, unless it is a script.
func adds(c *store.Command) bool {
	return c.Op == store.SetNX || c.Op == store.CompareAndSet && c.Seen.State == store.Missing
}

// byScript returns cmds with scripts instead of SET with NX and GET.
func byScript(cmds []store.Command) []store.Command {
	cmds = slices.Clone(cmds)
	for i := range cmds {
		cmds[i].ByScript = adds(&cmds[i])
	}
	return cmds
}

// OnDetour sets f to be called once for each misfit that the store works around. It is to be
// called before first use.
func (s *Redis) OnDetour(f func(store.Misfit)) { s.found = f }
