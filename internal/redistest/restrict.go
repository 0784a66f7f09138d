package redistest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A Restriction is the answer function of a [Front] that takes something away from the server
// behind it.
type Restriction = func(args []string) string

// Restricted combines restrictions: the first answer counts.
func Restricted(all ...Restriction) Restriction {
	return func(args []string) string {
		for _, r := range all {
			if reply := r(args); reply != "" {
				return reply
			}
		}
		return ""
	}
}

// Lacking answers as a server that does not know some commands, and repeats their arguments, as
// Redis does. A command is named as "get", or as "client tracking" with its subcommand.
func Lacking(commands ...string) Restriction {
	return func(args []string) string {
		name := strings.ToLower(args[0])
		if slices.Contains(commands, name) {
			return fmt.Sprintf("-ERR unknown command '%s', with args beginning with: %s\r\n", args[0], quoted(args[1:]))
		}
		if len(args) > 1 && slices.Contains(commands, name+" "+strings.ToLower(args[1])) {
			return fmt.Sprintf("-ERR unknown subcommand '%s'. Try %s HELP.\r\n", args[1], strings.ToUpper(name))
		}
		return ""
	}
}

func quoted(args []string) string {
	var b strings.Builder
	for _, a := range args[:min(len(args), 3)] {
		fmt.Fprintf(&b, "'%.20s' ", strings.NewReplacer("\r", " ", "\n", " ").Replace(a))
	}
	return b.String()
}

// The restrictions of servers and proxies that there are.
var (
	NoScripts  = Lacking("eval", "evalsha", "eval_ro", "evalsha_ro", "script", "fcall", "function")
	NoPubSub   = Lacking("subscribe", "psubscribe", "ssubscribe", "unsubscribe", "publish", "spublish", "pubsub")
	NoInfo     = Lacking("info")
	NoTracking = Lacking("client tracking")
	OnlyRESP2  = Lacking("hello")
)

// OldSet is a server before Redis 7.0, which does not take NX and GET together in a SET.
func OldSet(args []string) string {
	if !strings.EqualFold(args[0], "set") || len(args) < 4 {
		return ""
	}
	var nx, get bool
	for _, a := range args[3:] {
		nx = nx || strings.EqualFold(a, "nx")
		get = get || strings.EqualFold(a, "get")
	}
	if nx && get {
		return "-ERR syntax error\r\n"
	}
	return ""
}

// OldScripts is a server before Redis 7.0, which does not know flags of scripts, and has no
// script that begins with them.
func OldScripts(args []string) string {
	if strings.EqualFold(args[0], "eval") && len(args) > 1 && strings.HasPrefix(args[1], "#!") {
		return "-ERR Error compiling script (new function): user_script:1: unexpected symbol near '#'\r\n"
	}
	return ""
}

// OneSlot is a node of a cluster, or a proxy in front of all its nodes, which takes the keys of
// all slots, but not those of several in one command.
func OneSlot(args []string) string {
	keys := keysOf(args)
	for _, k := range keys[min(1, len(keys)):] {
		if slotOf(k) != slotOf(keys[0]) {
			return "-CROSSSLOT Keys in request don't hash to the same slot\r\n"
		}
	}
	return ""
}

// keysOf returns the keys of commands that may have several.
func keysOf(args []string) []string {
	switch name := strings.ToLower(args[0]); name {
	case "mget", "del", "unlink", "exists", "touch":
		return args[1:]
	case "mset", "msetnx":
		var keys []string
		for i := 1; i < len(args); i += 2 {
			keys = append(keys, args[i])
		}
		return keys
	case "eval", "evalsha", "eval_ro", "evalsha_ro":
		if len(args) > 2 {
			if n, err := strconv.Atoi(args[2]); err == nil && n >= 0 && 3+n <= len(args) {
				return args[3 : 3+n]
			}
		}
	}
	return nil
}

// slotOf is the slot of a cluster that a key is in.
func slotOf(key string) int {
	if i := strings.IndexByte(key, '{'); i >= 0 {
		if n := strings.IndexByte(key[i+1:], '}'); n > 0 {
			key = key[i+1 : i+1+n]
		}
	}
	var crc uint16 // CRC-16/XMODEM, as the specification of Redis Cluster has it
	for i := range len(key) {
		crc ^= uint16(key[i]) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return int(crc % slots)
}
