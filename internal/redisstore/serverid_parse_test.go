package redisstore

import (
	"errors"
	"testing"
)

// Whatever is not a master that says all of it is unknown.
func TestAncestry(t *testing.T) {
	const run, master, history = "run_id:aa\r\n", "role:master\r\n", "master_replid:b0\r\nmaster_replid2:00\r\n"
	for info, want := range map[string]string{
		"# Server\r\n" + run + "\r\n# Replication\r\n" + master + history: "aa b0",
		run + "role:slave\r\n" + history:                                  "",
		run + "role:active-replica\r\n" + history:                         "",
		master + history:                        "",
		run + history:                           "",
		run + master:                            "",
		run + master + "master_replid:\r\n":     "",
		run + master + "master_replid:0000\r\n": "",
		"":                                      "",
	} {
		if got, err := parseServerID(info, nil); got != want || err != nil {
			t.Errorf("%q: %q, %v, and not %q", info, got, err, want)
		}
	}
	broken := errors.New("broken")
	if got, err := parseServerID("", broken); got != "" || err != broken {
		t.Errorf("%q, %v", got, err)
	}
}
