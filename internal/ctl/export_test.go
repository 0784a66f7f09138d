package ctl

import "strings"

// Paths are all commands that help lists, with those below others: "tags list".
func Paths() (list []string) {
	var walk func(path string, cmds []*command)
	walk = func(path string, cmds []*command) {
		for _, c := range cmds {
			if c.hidden {
				continue
			}
			p := strings.TrimSpace(path + " " + c.name)
			list = append(list, p)
			walk(p, c.sub)
		}
	}
	walk("", commands())
	return list
}

// For fuzzing.
var (
	Quote       = quote
	Printable   = printable
	Unquoted    = unquoted
	SafeJSON    = safeJSON
	DecodeValue = decodeValue
)

// Text is the type of texts in JSON.
type Text = text

// Shown returns the JSON of the value, "" if it can't be shown so, and what codec it was taken for.
func (v decodedValue) Shown() (codec, json string) { return v.Codec, string(v.JSON) }
