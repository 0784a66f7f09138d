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
