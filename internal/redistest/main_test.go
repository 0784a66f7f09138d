package redistest

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func TestMain(m *testing.M) {
	if os.Getenv(helperEnv) == "leak" {
		lingering = 0
	}
	Main(m)
}

// helperEnv tells a copy of the test binary what TestHelper is to do.
const helperEnv = "REDISTEST_HELPER"

// helper is a copy of the test binary that runs TestHelper and nothing else.
func helper(t *testing.T, role string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestHelper$", "-test.v")
	// What a copy that is killed leaves in files goes with the test.
	cmd.Env = append(os.Environ(), helperEnv+"="+role, "TMPDIR="+t.TempDir())
	return cmd
}

// TestHelper plays the roles of copies; it tests nothing by itself.
func TestHelper(t *testing.T) {
	switch os.Getenv(helperEnv) {
	case "orphan": // waits to be killed
		fmt.Println("addr", Start(t).Addr())
		select {}
	case "leak":
		go func() { select {} }()
	case "each":
		Each(t, func(t *testing.T, b *Backend) {
			if err := b.Client.Ping(t.Context()).Err(); err != nil {
				t.Error(err)
			}
		})
	case "TLS":
		for name, start := range map[string]func(t *testing.T){
			"single":   func(t *testing.T) { Start(t, TLS()) },
			"cluster":  func(t *testing.T) { StartCluster(t, 1, TLS()) },
			"sentinel": func(t *testing.T) { StartSentinel(t, TLS()) },
			"plain":    func(t *testing.T) { Start(t) },
		} {
			t.Run(name, start)
		}
	case "fail":
		s := Start(t)
		s.Kill()
		t.Errorf("broken on purpose")
	}
}

func TestServersDieWithTheTestBinary(t *testing.T) {
	if runtime.GOOS != "linux" {
		return // nothing is promised
	}
	Require(t)
	cmd := helper(t, "orphan")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	addr := ""
	for lines := bufio.NewScanner(out); addr == "" && lines.Scan(); {
		addr, _ = strings.CutPrefix(lines.Text(), "addr ")
		if addr == lines.Text() {
			addr = ""
		}
	}
	if addr == "" {
		t.Error("the copy started no server")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait() // killed
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := eventually(ctx, nil, "the end of the server", func(ctx context.Context) error {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", addr)
		if err != nil {
			return nil
		}
		conn.Close()
		return fmt.Errorf("%s still accepts", addr)
	}); err != nil {
		t.Error(err)
	}
}

func TestMainFailsWhenGoroutinesAreLeftBehind(t *testing.T) {
	out, err := helper(t, "leak").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "goroutines were left behind") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestAFailedTestShowsTheLogOfItsServer(t *testing.T) {
	Require(t)
	out, err := helper(t, "fail").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "Ready to accept connections") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestWithoutRedisTestsAreSkippedOrFailWhereTheyMustNot(t *testing.T) {
	for name, c := range map[string]struct{ env, want string }{
		"on a user's machine": {"", "--- SKIP: TestHelper/redis"},
		"where it is needed":  {"1", "--- FAIL: TestHelper/redis"},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := helper(t, "each")
			cmd.Env = append(cmd.Env, "PATH="+t.TempDir(), requireEnv+"="+c.env)
			out, err := cmd.CombinedOutput()
			if failed := err != nil; failed != (c.env != "") {
				t.Errorf("exit: %v", err)
			}
			for _, want := range []string{c.want, "--- PASS: TestHelper/miniredis", "there is no redis-server"} {
				if !strings.Contains(string(out), want) {
					t.Errorf("%q is missing:\n%s", want, out)
				}
			}
			if c.env == "" && !strings.Contains(string(out), "apt-get install redis-server") {
				t.Errorf("it does not say what to install:\n%s", out)
			}
		})
	}
}

// A redis-server that refuses every setting of TLS, as one that was built without it
// does, stands in for one.
func TestWithoutTLSItsTestsAreSkippedOrFailWhereTheyMustNot(t *testing.T) {
	Require(t)
	if runtime.GOOS == "windows" {
		t.Skip("the server that stands in is a shell script")
	}
	real, err := exec.LookPath(binary)
	if err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf(`#!/bin/sh
for a in "$@"; do case "$a" in --tls-*)
	echo "*** FATAL CONFIG FILE ERROR (Redis 7.0.15) ***"
	echo ">>> '${a#--} \"0\"'"
	echo "Bad directive or wrong number of arguments"
	exit 1;;
esac; done
exec %q "$@"
`, real)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, binary), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	for env, want := range map[string]string{"": "SKIP", "1": "FAIL"} {
		cmd := helper(t, "TLS")
		cmd.Env = append(cmd.Env, "PATH="+dir+string(filepath.ListSeparator)+os.Getenv("PATH"), requireEnv+"="+env)
		out, err := cmd.CombinedOutput()
		if failed := err != nil; failed != (env != "") {
			t.Errorf("%s=%q: exit: %v", requireEnv, env, err)
		}
		for _, want := range []string{
			"--- " + want + ": TestHelper/single", "--- " + want + ": TestHelper/cluster", "--- " + want + ": TestHelper/sentinel",
			"--- PASS: TestHelper/plain", "was built without TLS",
		} {
			if !strings.Contains(string(out), want) {
				t.Errorf("%s=%q: %q is missing:\n%s", requireEnv, env, want, out)
			}
		}
	}
}

func TestVersionsThatAreTooOldAreRefused(t *testing.T) {
	for description, ok := range map[string]bool{
		"Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=ae4d": true,
		"Redis server v=8.2.1 sha=0:0":          true,
		"Redis server v=10.0.0 sha=0:0":         true,
		"Redis server v=6.2.14 sha=0:0":         false,
		"Redis server version 2.4 (0:0)":        false,
		"":                                      false,
		"Redis server v=99999999999999999999.0": false,
	} {
		if reason := tooOld(description); (reason == "") != ok {
			t.Errorf("%q: %q", description, reason)
		}
	}
}
