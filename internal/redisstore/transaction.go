package redisstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/delqhi/cache/internal/store"
	"github.com/redis/go-redis/v9"
)

// Large records that are written together are sent as a transaction: MULTI, the SETs, a PUBLISH
// for each message, EXEC. It keeps what a script promises: Redis carries out all of it or, if it
// refuses one command, nothing; a message follows its SET; and a process that ends while it sends
// has changed nothing. But the records do not pass through Lua, which hashes each byte that it is
// given, and which takes most of Redis's time for such a write.
//
// What a server refuses as a transaction, it is sent as a script: the reason may concern one key,
// or be over soon, or be that the user may not use transactions, and all of these are dealt with
// there. Since a server that refuses MULTI carries out the commands that follow it, by themselves,
// no transaction is sent before the server is known to take them.

const (
	// transactionLeast is the average size of records from which a transaction costs Redis less
	// than a script.
	transactionLeast = 256

	// transactionsAgain is the time until a server is asked once more whether it takes
	// transactions, if it has not answered or has discarded one.
	transactionsAgain = 30 * time.Second
)

// transactions records whether a server takes transactions.
type transactions struct {
	state atomic.Int32
	asked atomic.Int64 // when it was asked last, since startup
}

const (
	transactionsUnknown int32 = iota
	transactionsAsked         // and not answered yet
	transactionsTaken
	transactionsRefused
)

// takesTransactions reports whether the server is known to take transactions. If that is not
// known yet, it is asked in the background.
func (s *Redis) takesTransactions() bool {
	t := &s.transactions
	if state := t.state.Load(); state != transactionsUnknown {
		return state == transactionsTaken
	}
	now, asked := int64(time.Since(startup)), t.asked.Load()
	if asked != 0 && now-asked < int64(transactionsAgain) || !t.state.CompareAndSwap(transactionsUnknown, transactionsAsked) {
		return false
	}
	t.asked.Store(now)
	if !s.background(func(ctx context.Context) { t.state.Store(s.askForTransactions(ctx)) }) {
		t.state.Store(transactionsUnknown)
	}
	return false
}

// pause has transactions be sent no more until the server was asked again.
func (t *transactions) pause() {
	t.asked.Store(int64(time.Since(startup)))
	t.state.CompareAndSwap(transactionsTaken, transactionsUnknown)
}

// askForTransactions sends a transaction without commands.
func (s *Redis) askForTransactions(ctx context.Context) int32 {
	multi, exec := newMulti(ctx), newExec(ctx)
	s.pipeline(ctx, multi, exec, newEnd(ctx))
	var reply redis.Error
	switch {
	case multi.Err() == nil && exec.Err() == nil:
		return transactionsTaken
	case errors.As(exec.Err(), &reply) && !refusedForNow(exec.Err()):
		return transactionsRefused
	}
	return transactionsUnknown
}

func newMulti(ctx context.Context) onceStatus { return onceStatus{redis.NewStatusCmd(ctx, "multi")} }

// onceBools is a reply of which only is of interest which parts are OK.
type onceBools struct{ *redis.BoolSliceCmd }

func newExec(ctx context.Context) onceBools { return onceBools{redis.NewBoolSliceCmd(ctx, "exec")} }

func (onceBools) NoRetry() bool { return true }

func (c onceBools) Clone() redis.Cmder {
	return onceBools{c.BoolSliceCmd.Clone().(*redis.BoolSliceCmd)}
}

// onceTime is a reply with the server's time.
type onceTime struct{ *redis.TimeCmd }

func (onceTime) NoRetry() bool { return true }

func (c onceTime) Clone() redis.Cmder { return onceTime{c.TimeCmd.Clone().(*redis.TimeCmd)} }

// newEnd makes a command that follows the transactions of a pipeline. If the server has refused EXEC,
// the connection is still in a transaction, and must not be used by others. Then the answer is
// QUEUED in the place of a time, which has go-redis close the connection. No server refuses TIME,
// whatever its state, and a user who may not use it can use nothing of this package.
func newEnd(ctx context.Context) onceTime { return onceTime{redis.NewTimeCmd(ctx, "time")} }

// transaction is a run of Sets that are sent as one.
type transaction struct {
	cmds    []store.Command
	replies []store.Reply
	sent    []redis.Cmder // MULTI to EXEC
	exec    onceBools
	refused bool // nothing was carried out
}

// inTransactions carries out commands that are sent as transactions, and reports whether these
// are. Before the Sets there may be one Get.
func (s *Redis) inTransactions(ctx context.Context, cmds []store.Command, replies []store.Reply) bool {
	var space [8]int
	from, ends := s.asTransactions(cmds, space[:0])
	if len(ends) == 0 || !s.takesTransactions() {
		return false
	}
	sets := cmds[from:]
	words, messages := 0, 0
	for i := range sets {
		words += 5
		if sets[i].Notifies() {
			words += 3
			messages++
		}
	}
	out := make([]redis.Cmder, 0, from+len(sets)+messages+2*len(ends)+1)
	args := make([]any, 0, words)
	var get redis.Cmder
	if from > 0 {
		get = build(ctx, &cmds[0], byHash)
		out = append(out, get)
	}
	lots := make([]transaction, len(ends))
	for i, to := range ends {
		at := 0
		if i > 0 {
			at = ends[i-1]
		}
		t := &lots[i]
		t.cmds, t.replies = sets[at:to], replies[from+at:from+to]
		out, args = t.build(ctx, out, args)
	}
	s.pipeline(ctx, append(out, newEnd(ctx))...)
	if get != nil {
		s.sendAgain(ctx, out[:1])
		replies[0] = read(&cmds[0], get)
		replies[0].HideType()
	}
	for i := range lots {
		t := &lots[i]
		t.read()
		var reply redis.Error
		switch err := t.exec.Err(); {
		case !errors.As(err, &reply):
		case t.refused || refusedForNow(err):
			s.transactions.pause()
		default: // it knows no MULTI, or no EXEC
			s.transactions.state.Store(transactionsRefused)
		}
		if t.refused {
			s.byOneScript(ctx, t.cmds, t.replies)
		}
	}
	return true
}

// asTransactions returns where the Sets begin that may be sent as transactions, and appends the end
// of each transaction to ends; there is none if the commands are sent in another way, as they are where
// the server is to remember that their keys were read.
func (s *Redis) asTransactions(cmds []store.Command, ends []int) (from int, _ []int) {
	if cmds[0].Op == store.Get && cmds[0].Most == 0 {
		from = 1
	}
	sets := cmds[from:]
	if len(sets) < 2 || sets[0].Op != store.Set || sets[0].Tracked || !large(sets) || s.split() || s.noMget.Load() {
		return from, nil
	}
	for i := 0; i < len(sets); {
		n := s.asOne(sets[i:])
		if sets[i].Op != store.Set || n == 1 && !s.joins(&sets[i]) || store.CheckAll(sets[i:i+n], false) != nil {
			return from, nil
		}
		i += n
		ends = append(ends, i)
	}
	return from, ends
}

// large reports whether the records of commands are large enough for a transaction.
func large(cmds []store.Command) bool {
	bytes := 0
	for i := range cmds {
		bytes += len(cmds[i].Frame)
	}
	return bytes >= transactionLeast*len(cmds)
}

// build appends the commands of a transaction to out, and their words to args.
func (t *transaction) build(ctx context.Context, out []redis.Cmder, args []any) ([]redis.Cmder, []any) {
	first := len(out)
	out = append(out, newMulti(ctx))
	add := func(n int) {
		at := len(args) - n
		out = append(out, onceStatus{redis.NewStatusCmd(ctx, args[at:len(args):len(args)]...)})
	}
	var last *store.Command // has a message for those that follow it
	for i := range t.cmds {
		c := &t.cmds[i]
		args = append(args, "set", c.Key, (*frameArg)(c))
		if c.TTL > 0 {
			args = append(args, "px", c.Millis())
			add(5)
		} else {
			add(3)
		}
		if c.Notifies() {
			last = c
		}
		if last != nil && (last.With == 0 || i == len(t.cmds)-1) {
			args = append(args, "publish", last.Notify.Channel, last.Notify.Message)
			add(3)
			last = nil
		}
	}
	t.exec = newExec(ctx)
	out = append(out, t.exec)
	t.sent = out[first:len(out):len(out)]
	return out, args
}

// read puts the outcome into the replies, unless the transaction was refused.
func (t *transaction) read() {
	done, err := t.exec.Result()
	queued := t.sent[1 : len(t.sent)-1]
	if err == nil && len(done) != len(queued) {
		err = fmt.Errorf("redisstore: a transaction of %d commands answered %d", len(queued), len(done))
	}
	if err != nil {
		if t.refused = t.untouched(err); t.refused {
			return
		}
		if first := t.sent[0].Err(); first != nil { // and the commands were carried out one by one
			err = first
		}
		for i := range t.replies {
			t.replies[i] = store.Reply{Err: err}
		}
		return
	}
	at := 0
	for i := range t.replies {
		for queued[at].Args()[0] != "set" {
			at++
		}
		if t.replies[i] = (store.Reply{OK: done[at]}); !done[at] {
			t.replies[i].Err = errNotStored
		}
		at++
	}
}

var errNotStored = errors.New("redisstore: a SET in a transaction was not answered by OK")

// discarded are the answers to EXEC by which a server says that it has discarded the transaction. A
// node of a cluster looks at the slots of all keys when it gets EXEC, and before it carries out any
// command; see processCommand in Redis's server.c.
var discarded = append([]string{"EXECABORT"}, ofSlots...)

// untouched reports whether nothing of a transaction was carried out, err being the answer to
// EXEC: the server has discarded it, or there was no connection, or it refused each command.
func (t *transaction) untouched(err error) bool {
	if t.sent[0].Err() == nil {
		return slices.ContainsFunc(discarded, func(prefix string) bool { return redis.HasErrorPrefix(err, prefix) })
	}
	var reply redis.Error
	for _, cmd := range t.sent {
		if err := cmd.Err(); !errors.As(err, &reply) && !refusedForNow(err) {
			return false
		}
	}
	return true
}
