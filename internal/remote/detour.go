package remote

import (
	"cmp"
	"context"
	"slices"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

// detours are what a server does not take, and can be asked for in another way. What was
// found out holds for the life of the store.
type detours struct {
	noAddGet atomic.Bool // SET with NX and GET
	noMget   atomic.Bool // several keys in one command

	// found, if set before first use, is told of each once.
	found func(Misfit)
}

func (d *detours) tell(m Misfit) {
	if d.found != nil {
		d.found(m)
	}
}

// detour sends again what the server does not take in the way that it was sent.
func (s *Redis) detour(ctx context.Context, cmds []Command, replies []Reply) {
	var again []int
	for i := range replies {
		switch err := replies[i].Err; {
		case err == nil:
		case adds(&cmds[i]) && !cmds[i].byScript && !cmds[i].tells() && redis.HasErrorPrefix(err, "syntax error"):
			if !s.noAddGet.Swap(true) {
				s.tell(Outdated)
			}
			again = append(again, i)
		case cmds[i].Op == Get && !s.split() && redis.HasErrorPrefix(err, "CROSSSLOT"):
			if !s.noMget.Swap(true) {
				s.tell(OneOfACluster)
			}
			again = append(again, i)
		case replies[i].apart && redis.HasErrorPrefix(err, "CROSSSLOT") && !s.noMget.Swap(true):
			s.tell(OneOfACluster)
		}
	}
	s.apart(ctx, cmds, replies)
	if len(again) == 0 {
		return
	}
	some := make([]Command, len(again))
	for j, i := range again {
		some[j] = cmds[i]
	}
	for j, r := range s.do(ctx, byScript(some)) {
		if cmds[again[j]].Op == Get {
			r.hideType() // as among others
		}
		replies[again[j]] = r
	}
}

// apart sends one by one what was refused because of one of several keys: the user may not
// write it, or it is on another node. A message in common goes out when all but the first
// were answered, together with that one.
func (s *Redis) apart(ctx context.Context, cmds []Command, replies []Reply) {
	var firsts, rest []int
	for i := range replies {
		switch {
		case !replies[i].apart:
		case cmds[i].With > 0:
			firsts = append(firsts, i)
		default:
			rest = append(rest, i)
		}
	}
	for _, of := range [][]int{rest, firsts} {
		some := make([]Command, len(of))
		for j, i := range of {
			some[j] = cmds[i]
			some[j].With, some[j].apart = 0, true
		}
		for j, r := range s.do(ctx, some) {
			i := of[j]
			replies[i] = r
			if r.Err == nil {
				continue
			}
			for k := i + 1; k <= i+cmds[i].With; k++ { // not told
				replies[k] = Reply{Err: cmp.Or(replies[k].Err, r.Err)}
			}
		}
	}
}

// adds reports whether the command is SET with NX and GET, unless it is a script.
func adds(c *Command) bool { return c.Op == Add || c.Op == Swap && c.Seen.State == Missing }

// byScript returns cmds with a script in the place of SET with NX and GET.
func byScript(cmds []Command) []Command {
	cmds = slices.Clone(cmds)
	for i := range cmds {
		cmds[i].byScript = adds(&cmds[i])
	}
	return cmds
}

// OnDetour has f called once for each misfit that is made up for. It is to be called before
// first use.
func (s *Redis) OnDetour(f func(Misfit)) { s.found = f }
