package redisstore

import (
	"flag"
	"os"
	"testing"
)

var updateScript = flag.Bool("update", false, "rewrite the script below docs/clients")

// Clients in other languages run this script to invalidate tags, and everything.
func TestThePublishedScriptIsTheOneThatRuns(t *testing.T) {
	const path = "../../docs/clients/tombstones.lua"
	want := addTombstonesScript.plain.text
	if *updateScript {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if have, err := os.ReadFile(path); err != nil || string(have) != want {
		t.Errorf("%s is not the script that this package runs: go test ./internal/redisstore -run Published -update rewrites it (%v)", path, err)
	}
}
