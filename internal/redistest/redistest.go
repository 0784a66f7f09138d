// Package redistest starts and stops real Redis servers for tests: single ones
// ([Start]), clusters ([StartCluster]), and masters watched by sentinels
// ([StartSentinel]), on loopback ports and in temporary directories of their own.
// It reaches nothing else.
//
// A server can be stopped, killed, frozen and restarted. Whatever state it is in, it is ended
// at the end of its test, and on Linux also when the test binary is killed. [NewProxy] puts a
// connection in between that can be cut, delayed, reset or made to swallow everything without a
// sign.
//
// [Each] runs a test on every kind of Redis that a cache has to work on. Those
// servers are shared by all tests of a binary, so its TestMain must be [Main].
//
// Starting servers takes real time: nothing here works inside a synctest bubble,
// except miniredis.
package redistest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// requireEnv makes a missing server a failure instead of a reason to skip.
const requireEnv = "CACHE_TEST_REQUIRE_REDIS"

const (
	// binary also plays the sentinel: redis-sentinel is a link to it.
	binary = "redis-server"

	// oldest is the first version that has CLUSTER ADDSLOTSRANGE and the
	// settings that the harness starts servers with.
	oldest = 7

	// patience bounds how long a server may take for an expected step. It is far more than is
	// needed, for busy machines.
	patience = 30 * time.Second
)

// Require skips the test if there is no redis-server of version 7.0 or newer on
// the PATH. If the environment variable CACHE_TEST_REQUIRE_REDIS is set, it fails
// the test instead: set it where nothing may be skipped. With -short it skips every test.
func Require(tb testing.TB) {
	tb.Helper()
	if testing.Short() {
		tb.Skip("it starts a redis-server, which -short leaves out")
	}
	require(tb, missing())
}

// longEnv is the environment variable that has tests run which take long.
const longEnv = "CACHE_TEST_LONG"

// Times returns how often a test repeats something: many if the environment variable
// CACHE_TEST_LONG is set, as in .ci/run, else few, and with -short a quarter of that. With
// CACHE_TEST_LONG=once it is few, and tests that take long run all the same: so they do under
// the race detector.
func Times(few, many int) int {
	if testing.Short() {
		return (few + 3) / 4
	}
	if e := os.Getenv(longEnv); e == "" || e == "once" {
		return few
	}
	return many
}

// Long skips the test unless the environment variable CACHE_TEST_LONG is set, as in .ci/run.
func Long(tb testing.TB) {
	tb.Helper()
	if os.Getenv(longEnv) == "" {
		tb.Skipf("it takes long: set %s to run it", longEnv)
	}
}

// Thorough skips the test with -short, which is for the loop of an edit: the test takes half a second
// or more, and quicker ones are about what it promises too.
func Thorough(tb testing.TB) {
	tb.Helper()
	if testing.Short() {
		tb.Skip("it takes its time, which -short leaves out")
	}
}

// Serial skips under the race detector a test that computes for long on one goroutine, in which there is
// nothing to detect.
func Serial(tb testing.TB) {
	tb.Helper()
	if UnderRace {
		tb.Skip("it has one goroutine, and takes long under the race detector")
	}
}

func require(tb testing.TB, reason string) {
	tb.Helper()
	if reason == "" {
		return
	}
	if os.Getenv(requireEnv) != "" {
		tb.Fatalf("%s, and %s is set", reason, requireEnv)
	}
	tb.Skipf("%s: install Redis 7.0 or newer to run this test (Debian, Ubuntu: apt-get install redis-server; macOS: brew install redis)", reason)
}

// requireFor is Require for servers of a configuration, which may need what not every
// build of Redis has.
func requireFor(tb testing.TB, c config) {
	tb.Helper()
	if c.binary != "" {
		return
	}
	Require(tb)
	if c.tls {
		require(tb, missingTLS())
	}
}

// missingTLS returns why no server can be started with TLS although others can, or "".
var missingTLS = sync.OnceValue(func() string {
	s, err := newServer(config{tls: true}, false, redisArgs)
	if err == nil {
		s.close()
		return ""
	}
	return withoutTLS(err.Error())
})

// withoutTLS returns that a server was built without TLS if that is why it did not start, by
// the error of the start, which has the server's log, and otherwise "".
func withoutTLS(failure string) string {
	for _, complaint := range []string{">>> 'tls-", "Failed to configure TLS", "connection listener of TLS", "connection listener of tls"} {
		if strings.Contains(failure, complaint) {
			return fmt.Sprintf("%s was built without TLS", binary)
		}
	}
	return ""
}

// missing returns why no server can be started, or "". The result does not change while the
// tests run.
var missing = sync.OnceValue(func() string {
	out, err := exec.Command(binary, "--version").Output()
	if err != nil {
		return fmt.Sprintf("there is no %s that runs (%v)", binary, err)
	}
	return tooOld(string(out))
})

var version = regexp.MustCompile(`\bv=(\d+)\.`)

// tooOld returns what is wrong with a server of this version, or "".
func tooOld(description string) string {
	m := version.FindStringSubmatch(description)
	if m == nil {
		return fmt.Sprintf("%s does not say its version: %q", binary, description)
	}
	if major, err := strconv.Atoi(m[1]); err != nil || major < oldest {
		return fmt.Sprintf("%s is older than version %d.0", binary, oldest)
	}
	return ""
}

// eventually calls f repeatedly until it returns nil, and otherwise returns its last error when
// ctx ends or over is closed. The interval between calls grows.
func eventually(ctx context.Context, over <-chan struct{}, what string, f func(context.Context) error) error {
	pause := time.Millisecond
	for {
		err := f(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-over:
			return fmt.Errorf("redistest: the server ended while waiting for %s: %w", what, err)
		case <-ctx.Done():
			return fmt.Errorf("redistest: waited in vain for %s: %w", what, err)
		case <-time.After(pause):
		}
		pause = min(2*pause, 50*time.Millisecond)
	}
}
