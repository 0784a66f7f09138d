package redisstore

import (
	"errors"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Some errors repeat what was sent or stored: an unknown command is answered with its first
// arguments, a missing group with the name of the stream, and a reply that can't be read is
// quoted by go-redis. Proxies in front of Redis, and hooks of the client, may do so as well.
// Keys and values may be personal data, and errors end up in logs: so each error is stripped of
// such repetitions where it enters this package. The rest of its text is kept, and so are the
// errors that errors.Is and errors.As find.

// withoutEchoes strips the errors of commands that were sent.
func withoutEchoes(cmds []redis.Cmder) {
	for _, cmd := range cmds {
		if err := cmd.Err(); err != nil && err != redis.Nil {
			if cut, is := cutEcho(err, cmd.Args()); is {
				cmd.SetErr(cut)
			}
		}
	}
}

// withoutEcho returns err without what it repeats of args, the arguments of the command that it
// is the error of, and without anything that it quotes.
func withoutEcho(err error, args ...any) error {
	if err == nil {
		return nil
	}
	err, _ = cutEcho(err, args)
	return err
}

func cutEcho(err error, args []any) (_ error, is bool) {
	text := err.Error()
	reply := redis.Error(nil)
	isReply := errors.As(err, &reply)
	cut := text
	if isReply {
		cut = cutQuotes(reply.Error())
	} else if quotesReplies(err, text) {
		cut = cutQuotes(text)
	}
	if cut = cutArgs(cut, args); cut == text {
		return err, false
	}
	if isReply {
		return serverError{cut, err}, true
	}
	return &cutError{cut, err}, true
}

// quotesReplies reports whether an error that is not an error reply may quote a reply. Others
// are errors of connections.
func quotesReplies(err error, text string) bool {
	var number *strconv.NumError
	return errors.As(err, &number) || strings.HasPrefix(text, "redis: ") || strings.Contains(text, "got \"") || strings.Contains(text, "got '")
}

// serverError is a server's error without what it repeats.
type serverError struct {
	text string
	err  error
}

func (e serverError) Error() string { return e.text }

// RedisError marks it as an error reply.
func (e serverError) RedisError() {}

// Is and As match the original error, which [errors.Unwrap] does not return: its text is
// unstripped.
func (e serverError) Is(target error) bool { return errors.Is(e.err, target) }
func (e serverError) As(target any) bool   { return errors.As(e.err, target) }

// cutError is another error without what it repeats.
type cutError struct {
	text string
	err  error
}

func (e *cutError) Error() string        { return e.text }
func (e *cutError) Is(target error) bool { return errors.Is(e.err, target) }
func (e *cutError) As(target any) bool   { return errors.As(e.err, target) }

const omitted = "…"

// cutQuotes removes everything from the first quote to the last, except for names of commands
// before that, and everything that is said about arguments.
//
// A quoted key may contain quotes: its end can't be determined.
func cutQuotes(text string) string {
	if i := strings.Index(text, "with args beginning"); i >= 0 {
		text = strings.TrimRight(text[:i], " ,")
	}
	for from := 0; ; {
		open := openingQuote(text, from)
		if open < 0 {
			return text
		}
		if n := quotedCommand(text, open); n > 0 {
			from = n
			continue
		}
		last := strings.LastIndexAny(text, quotes)
		rest := ""
		if last > open {
			rest = text[last+1:]
		}
		return text[:open] + omitted + rest
	}
}

const quotes = "'\"`"

// openingQuote returns the index of the next quote that is not an apostrophe ("don't"), -1 if
// there is none.
func openingQuote(text string, from int) int {
	for i := from; i < len(text); i++ {
		if strings.IndexByte(quotes, text[i]) >= 0 && (i == 0 || !isLetter(text[i-1])) {
			return i
		}
	}
	return -1
}

// quotedCommand returns the end of the quotation that begins at open, if that is the name of a
// command, else 0.
func quotedCommand(text string, open int) int {
	before := strings.TrimRight(text[:open], " ")
	n := strings.IndexByte(text[open+1:], text[open])
	if n < 0 {
		return 0
	}
	name, after := text[open+1:open+1+n], text[open+1+n+1:]
	for i := range len(name) {
		if !isLetter(name[i]) && name[i] != '|' && name[i] != '_' {
			return 0
		}
	}
	for _, what := range []string{"command", "subcommand", "run the", "wrong number of arguments for", "invalid expire time in"} {
		if strings.HasSuffix(strings.ToLower(before), what) || strings.HasPrefix(after, " command") {
			return open + n + 2
		}
	}
	return 0
}

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

// argLen is the minimum length of an argument to search for: the shortest keys of the cache
// have three bytes.
const argLen = 3

// cutArgs cuts a text where it repeats an argument, after the error code that it may begin
// with.
func cutArgs(text string, args []any) string {
	at := len(text)
	code := 0 // the error code is kept
	if word, _, _ := strings.Cut(text, " "); errorCodes[word] {
		code = len(word)
	}
	for i, arg := range args {
		var s string
		switch a := arg.(type) {
		case string:
			s = a
		case []byte:
			if len(a) < len(text) {
				s = string(a)
			}
		case *frameArg:
			if len(a.Frame) < len(text) {
				s = string(a.Frame)
			}
		}
		if i == 0 || len(s) < argLen || len(s) > at || isWord(s) {
			continue
		}
		if n := strings.Index(text[code:max(at, code)], s); n >= 0 {
			at = code + n
		}
	}
	if at == len(text) {
		return text
	}
	return strings.TrimRight(text[:at], " :=(") + " " + omitted
}

// errorCodes are the first words of Redis's errors that this package acts on, and of those of
// its scripts.
var errorCodes = map[string]bool{
	"ERR": true, "WRONGTYPE": true, "NOSCRIPT": true, "READONLY": true, "MOVED": true, "ASK": true, "TRYAGAIN": true,
	"CLUSTERDOWN": true, "CROSSSLOT": true, "LOADING": true, "BUSY": true, "MASTERDOWN": true, "MISCONF": true,
	"NOREPLICAS": true, "OOM": true, "NOAUTH": true, "WRONGPASS": true, "NOPERM": true, "EXECABORT": true,
	"UNKILLABLE": true, "NOGROUP": true, "OVERTAKEN": true,
}

// isWord reports whether an argument is a word of the command itself.
func isWord(s string) bool {
	switch s {
	case "get", "match", "count", "tracking", "bcast", "prefix", "server", "replication":
		return true
	}
	return false
}
