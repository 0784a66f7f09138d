package ctl

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/delqhi/cache/internal/writebehind"
)

// letter is a dead letter.
type letter struct {
	ID       string        `json:"id"`
	Key      text          `json:"key"`
	Deleted  bool          `json:"deleted,omitempty"` // the write is a Delete
	Attempts int           `json:"attempts"`
	At       time.Time     `json:"at"`     // of the last attempt, by Redis's clock
	Reason   text          `json:"reason"` // of the source; base64 where the cache is encrypted
	Value    *decodedValue `json:"value,omitempty"`
	since    time.Duration
}

type letterList struct {
	Cache       text     `json:"cache"`
	Total       int      `json:"total"`
	DeadLetters []letter `json:"dead_letters"`
}

func deadLettersCommand() *command {
	return &command{
		name: "deadletters", short: "list, replay or discard writes that a source has rejected for good",
		long: `A write of a cache with strategy.WriteBehind that the source has rejected for good is a dead
letter: the caller was told that it is written, and the source does not have it. A later write of the same key removes
it.`,
		sub: []*command{lettersListCommand(), lettersReviveCommand(false), lettersReviveCommand(true)},
	}
}

func (c *call) letters() *writebehind.Letters {
	return &writebehind.Letters{Store: c.st, Prefix: c.keyPrefix, Name: c.args[0]}
}

func lettersListCommand() *command {
	var values bool
	var limit int
	return &command{
		name: "list", args: "NAME", short: "the dead letters of a cache, the oldest first", min: 1, max: 1, names: true,
		long: `Lists the dead letters of a cache, of all processes, with the text of the source's error: which
may quote a part of a value. It changes nothing. The text of an encrypted cache can't be read here.`,
		examples: []example{
			{"deadletters list orders", "the 50 oldest"},
			{"deadletters list orders -values -json", "with their values, for a script"},
		},
		flags: func(fs *flag.FlagSet) {
			fs.BoolVar(&values, "values", false, "show the values")
			fs.IntVar(&limit, "limit", 50, "list `N` at most; 0: all")
		},
		run: func(ctx context.Context, c *call) error {
			if limit < 0 {
				return usagef("-limit %d is negative", limit)
			}
			list, err := c.listLetters(ctx, limit, values)
			if err != nil {
				return err
			}
			return c.answer(list, func(w io.Writer) { list.write(w, values) })
		},
	}
}

func (c *call) listLetters(ctx context.Context, limit int, values bool) (*letterList, error) {
	list := &letterList{Cache: text(c.args[0]), DeadLetters: []letter{}}
	q, err := c.queueSize(ctx, c.keyPrefix, c.args[0])
	if err != nil {
		return nil, err
	}
	if q != nil {
		list.Total = q.DeadLetters
	}
	if limit == 0 {
		limit = 2 * writebehind.MaxBacklog
	}
	found, err := c.letters().List(ctx, limit)
	if err != nil {
		return nil, err
	}
	now, err := c.st.Now(ctx, c.names(c.args[0]).Epoch)
	if err != nil {
		return nil, err
	}
	for _, d := range found {
		l := letter{ID: d.ID, Key: text(d.Key), Deleted: d.Delete, Attempts: d.Attempts, At: d.At.UTC(), Reason: text(d.Error), since: micros(now - d.At.UnixMicro())}
		if !d.Delete && values {
			v := decodeValue(d.Value, 0, "")
			l.Value = &v
		}
		list.DeadLetters = append(list.DeadLetters, l)
	}
	list.Total = max(list.Total, len(found))
	return list, nil
}

func (l *letterList) write(w io.Writer, values bool) {
	if len(l.DeadLetters) == 0 {
		fmt.Fprintf(w, "no dead letters of %s\n", quote(string(l.Cache)))
		return
	}
	rows := [][]string{{"ID", "KEY", "WRITE", "ATTEMPTS", "LAST", "REASON"}}
	for _, d := range l.DeadLetters {
		reason := printable(string(d.Reason))
		if !utf8.ValidString(string(d.Reason)) {
			reason = "(encrypted)"
		}
		rows = append(rows, []string{d.ID, quote(string(d.Key)), orElse(d.Deleted, "Delete", "Set"), strconv.Itoa(d.Attempts), ago(d.since), reason})
		if d.Value != nil {
			rows = append(rows, []string{"", "", "", "", "value", d.Value.line()})
		}
	}
	columns(w, rows...)
	if len(l.DeadLetters) < l.Total {
		fmt.Fprintf(w, "%d of %d: -limit 0 lists all\n", len(l.DeadLetters), l.Total)
	}
}

// line shows the value in one line.
func (v *decodedValue) line() string {
	if v.JSON != nil {
		return safeJSON(string(v.JSON))
	}
	return "in base64: " + v.Base64
}

// revived is the answer of replay and discard.
type revived struct {
	Cache     text `json:"cache"`
	Replayed  *int `json:"replayed,omitempty"`
	Discarded *int `json:"discarded,omitempty"`
	Given     int  `json:"given,omitempty"` // ids
}

func lettersReviveCommand(discard bool) *command {
	var all, yes bool
	cmd := &command{
		name: "replay", args: "NAME [ID...]", short: "bring dead letters back into the queue", min: 1, max: -1, names: true,
		long: `Brings dead letters back into the queue, with all their attempts available again: a process of
the cache applies them within a second. Repair first why the source has rejected them. IDs are those that list prints; with
-all it is every dead letter. One that no longer exists, since its key was written, is skipped.`,
		examples: []example{
			{"deadletters replay orders 3/1711965600000-0", "one"},
			{"deadletters replay orders -all", "all of them"},
		},
		flags: func(fs *flag.FlagSet) { fs.BoolVar(&all, "all", false, "all dead letters") },
	}
	if discard {
		cmd.name, cmd.short = "discard", "delete dead letters for good"
		cmd.long = `Deletes dead letters: the writes are lost. IDs are those that list prints; with -all it is every
dead letter. On a terminal it asks first; elsewhere -yes is needed.`
		cmd.examples = []example{
			{"deadletters discard orders 3/1711965600000-0", "one, after a question"},
			{"deadletters discard orders -all -yes", "all of them"},
		}
		flags := cmd.flags
		cmd.flags = func(fs *flag.FlagSet) {
			flags(fs)
			fs.BoolVar(&yes, "yes", false, "do not ask")
		}
	}
	cmd.run = func(ctx context.Context, c *call) error {
		name, ids := c.args[0], c.args[1:]
		if all != (len(ids) == 0) {
			return usagef("give IDs, or -all")
		}
		out := revived{Cache: text(name), Given: len(ids)}
		act, said := c.letters().Replay, &out.Replayed
		if discard {
			what := number(int64(len(ids)), "dead letter", "dead letters")
			if all {
				what = "all dead letters"
			}
			if err := c.confirm(yes, fmt.Sprintf("Delete %s of %s%s for good?", what, quote(name), c.underPrefix())); err != nil {
				return err
			}
			act, said = c.letters().Discard, &out.Discarded
		}
		n, err := act(ctx, ids...)
		switch {
		case errors.Is(err, writebehind.ErrBadID):
			return usagef("%s", err)
		case errors.Is(err, writebehind.ErrFull):
			err = errors.New("the queue is full: the others stay where they are; replay them when the source has taken some")
		case errors.Is(err, writebehind.ErrDiscardOnly):
			err = errors.New("it is not known whether a later write of the key has reached the source, so that a replay could bring an older value back: set the value anew, or discard the dead letter")
		}
		done := orElse(discard, "discarded", "replayed")
		if err != nil {
			return fmt.Errorf("%s %s, and then: %w", done, number(int64(n), "dead letter", "dead letters"), err)
		}
		*said = &n
		return c.answer(out, func(w io.Writer) {
			fmt.Fprintf(w, "%s %s of %s\n", done, number(int64(n), "dead letter", "dead letters"), quote(name))
			if n < len(ids) {
				fmt.Fprintf(w, "%d of the IDs are those of no dead letter any more\n", len(ids)-n)
			}
		})
	}
	return cmd
}
