package redistest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// mustSet and mustGet are for servers that are well.
func mustSet(t *testing.T, c redis.Cmdable, key, value string) {
	t.Helper()
	if err := c.Set(t.Context(), key, value, 0).Err(); err != nil {
		t.Fatal(err)
	}
}

func mustGet(t *testing.T, c redis.Cmdable, key, want string) {
	t.Helper()
	if got, err := c.Get(t.Context(), key).Result(); got != want || (err != nil && !errors.Is(err, redis.Nil)) {
		t.Fatalf("%s is %q, not %q; %v", key, got, want, err)
	}
}

func TestAServerIsGoneAfterItsTest(t *testing.T) {
	t.Parallel()
	for name, leave := range map[string]func(*Server) error{
		"running": func(*Server) error { return nil },
		"frozen":  (*Server).Freeze,
		"killed":  func(s *Server) error { s.Kill(); return nil },
		"stopped": func(s *Server) error { s.Stop(); return nil },
		"thawed":  func(s *Server) error { return errors.Join(s.Freeze(), s.Thaw()) },
		"restarted": func(s *Server) error {
			s.Kill()
			return s.Restart()
		},
	} {
		t.Run(name, func(t *testing.T) {
			var s *Server
			t.Run("its test", func(t *testing.T) {
				s = Start(t)
				mustSet(t, s.Client(t), "k", "v")
				if err := leave(s); err != nil {
					t.Fatal(err)
				}
			})
			if s == nil {
				return // skipped
			}
			s.close() // once more does nothing
			if s.process().running() {
				t.Error("the process is still there")
			}
			if _, err := os.Stat(s.home); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("its files are still there: %v", err)
			}
			if err := s.Restart(); !errors.Is(err, errEnded) {
				t.Errorf("it could be started again: %v", err)
			}
		})
	}
}

func TestAServerRestartsInItsPlace(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		opts []Option
		want string
	}{
		"forgetting":     {nil, ""},
		"with its files": {[]Option{AOF()}, "v"},
	} {
		t.Run(name, func(t *testing.T) {
			s := Start(t, c.opts...)
			rdb := s.Client(t)
			addr := s.Addr()
			for _, down := range []func(){s.Kill, s.Stop, func() {}} {
				mustSet(t, rdb, "k", "v")
				down()
				if err := s.Restart(); err != nil {
					t.Fatal(err)
				}
				mustGet(t, s.Client(t), "k", c.want)
			}
			if s.Addr() != addr {
				t.Errorf("it moved from %s to %s", addr, s.Addr())
			}
		})
	}
}

func TestAServerThatIsDownRefuses(t *testing.T) {
	t.Parallel()
	s := Start(t)
	for _, down := range []func(){s.Stop, s.Kill} {
		down()
		if s.Running() {
			t.Error("it says that it runs")
		}
		if conn, err := net.Dial("tcp", s.Addr()); err == nil {
			conn.Close()
			t.Error("it accepts")
		}
		if s.Freeze() == nil || s.Thaw() == nil {
			t.Error("a process that is gone was frozen")
		}
		if err := s.Restart(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAFrozenServerIsSilentAndGoesOnWhenThawed(t *testing.T) {
	t.Parallel()
	s := Start(t)
	rdb := s.Client(t)
	mustSet(t, rdb, "k", "before")
	if err := s.Freeze(); err != nil {
		t.Fatal(err)
	}
	if s.Running() {
		t.Error("it says that it runs")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	// It waits for the answer: the command is in the socket of the server.
	if err := rdb.Set(ctx, "k", "sent while frozen", 0).Err(); err == nil {
		t.Error("a frozen server answered")
	}
	if err := s.Thaw(); err != nil {
		t.Fatal(err)
	}
	if err := s.waitFor("the command that was sent", func(ctx context.Context, c *redis.Client) error {
		if v, err := c.Get(ctx, "k").Result(); v != "sent while frozen" {
			return errors.Join(errors.New("not yet"), err)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

func TestFreezeReturnsWhenTheServerIsAtRest(t *testing.T) {
	t.Parallel()
	s := Start(t)
	for range 50 {
		if err := s.Freeze(); err != nil {
			t.Fatal(err)
		}
		if !stopped(s.process().pid()) {
			t.Fatal("it goes on")
		}
		if err := s.Thaw(); err != nil {
			t.Fatal(err)
		}
		if err := s.do(func(c *redis.Client) error { return c.Ping(t.Context()).Err() }); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAFrozenServerStopsInOrder(t *testing.T) {
	t.Parallel()
	s := Start(t, AOF())
	mustSet(t, s.Client(t), "k", "v")
	if err := s.Freeze(); err != nil {
		t.Fatal(err)
	}
	s.Stop()
	if !strings.Contains(s.Log(), "ready to exit, bye bye") {
		t.Errorf("its log:\n%s", s.Log())
	}
}

func TestPassword(t *testing.T) {
	t.Parallel()
	s := Start(t, Password("s3:cr/t@"))
	mustSet(t, s.Client(t), "k", "v")
	o := s.Options()
	o.Password = "another"
	if err := closeAfter(t, redis.NewClient(o)).Ping(t.Context()).Err(); err == nil {
		t.Error("any password will do")
	}
	if want := "redis://:s3%3Acr%2Ft%40@" + s.Addr() + "/0"; s.URL() != want {
		t.Errorf("its URL is %s", s.URL())
	}
}

func TestACL(t *testing.T) {
	t.Parallel()
	s := Start(t, ACL("reader on >one ~app:* +@read -@dangerous", "writer on >two ~app:* +set"))
	admin := s.Client(t)
	mustSet(t, admin, "app:k", "v")
	as := func(user, password string) *redis.Client {
		o := s.Options()
		o.Username, o.Password, o.Protocol, o.DisableIdentity = user, password, 2, true
		return closeAfter(t, redis.NewClient(o))
	}
	mustGet(t, as("reader", "one"), "app:k", "v")
	if err := as("reader", "one").Set(t.Context(), "app:k", "w", 0).Err(); err == nil || !strings.Contains(err.Error(), "NOPERM") {
		t.Errorf("reader writes: %v", err)
	}
	mustSet(t, as("writer", "two"), "app:k", "w")
	if err := as("writer", "two").Set(t.Context(), "k", "w", 0).Err(); err == nil || !strings.Contains(err.Error(), "NOPERM") {
		t.Errorf("writer writes elsewhere: %v", err)
	}
}

func TestMaxMemory(t *testing.T) {
	t.Parallel()
	rdb := Start(t, MaxMemory("100kb", "noeviction")).Client(t) // less than an idle server has
	err := rdb.Set(t.Context(), "k", "v", 0).Err()
	if err == nil || !strings.Contains(err.Error(), "OOM") {
		t.Errorf("SET: %v", err)
	}
}

func TestArgsHaveTheLastWord(t *testing.T) {
	t.Parallel()
	rdb := Start(t, Args("--appendonly", "yes"), Args("--databases", "3")).Client(t)
	for setting, want := range map[string]string{"appendonly": "yes", "databases": "3", "save": ""} {
		if got, err := rdb.ConfigGet(t.Context(), setting).Result(); err != nil || got[setting] != want {
			t.Errorf("%s is %q, not %q; %v", setting, got[setting], want, err)
		}
	}
}

func TestDirOutlivesTheServer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	t.Run("writes", func(t *testing.T) { mustSet(t, Start(t, AOF(), Dir(dir)).Client(t), "k", "v") })
	t.Run("reads", func(t *testing.T) { mustGet(t, Start(t, AOF(), Dir(dir)).Client(t), "k", "v") })
}

func TestSocket(t *testing.T) {
	t.Parallel()
	s := Start(t, Socket())
	mustSet(t, s.Client(t), "k", "v")
	o := s.Options()
	o.Network, o.Addr = "unix", s.Socket()
	mustGet(t, closeAfter(t, redis.NewClient(o)), "k", "v")
}

func TestTLS(t *testing.T) {
	t.Parallel()
	s := Start(t, TLS(), Password("p"))
	mustSet(t, s.Client(t), "k", "v")
	for name, config := range map[string]*tls.Config{
		"plain text":         nil,
		"an unknown CA":      {RootCAs: x509.NewCertPool()},
		"a name it isn't of": {RootCAs: clientTLS().RootCAs, ServerName: "example.com"},
	} {
		o := s.Options()
		o.TLSConfig = config
		if err := closeAfter(t, redis.NewClient(o)).Ping(t.Context()).Err(); err == nil {
			t.Errorf("%s will do", name)
		}
	}
	if want := "rediss://:p@" + s.Addr() + "/0?skip_verify=true"; s.URL() != want {
		t.Errorf("its URL is %s", s.URL())
	}
}

func TestAServerThatCannotStartSaysWhy(t *testing.T) {
	t.Parallel()
	Require(t)
	s, err := newServer(newConfig([]Option{Args("--no-such-setting", "1")}), false, redisArgs)
	if err == nil {
		s.close()
		t.Fatal("it started")
	}
	if !strings.Contains(err.Error(), "no-such-setting") {
		t.Error(err)
	}
}

// The port of the first attempt is another server's, which answers there.
func TestAPortThatIsTakenIsGivenUp(t *testing.T) {
	t.Parallel()
	other := Start(t)
	attempts := 0
	s, err := newServer(newConfig(nil), false, func(s *Server) ([]string, error) {
		if attempts++; attempts == 1 {
			s.port.number = other.Port()
		}
		return redisArgs(s)
	})
	if err != nil {
		t.Fatal(err)
	}
	s.stopAfter(t)
	if attempts != 2 || s.Port() == other.Port() {
		t.Errorf("%d attempts, port %d, the other has %d", attempts, s.Port(), other.Port())
	}
	mustSet(t, other.Client(t), "k", "other")
	mustGet(t, s.Client(t), "k", "")
}

func TestAClaimedPortIsGivenToNoOtherServer(t *testing.T) {
	t.Parallel()
	seen := map[int]*port{}
	defer func() {
		for _, p := range seen {
			p.release()
		}
	}()
	for range 300 {
		p, err := claimPort()
		if err != nil {
			t.Fatal(err)
		}
		if seen[p.number] != nil {
			t.Fatalf("port %d was given twice", p.number)
		}
		seen[p.number] = p
		if p.number < firstPort || p.number >= firstPort+ports {
			t.Errorf("port %d", p.number)
		}
	}
}

func TestLogKeepsTheEnd(t *testing.T) {
	t.Parallel()
	var l tail
	for range 10_000 {
		if _, err := l.Write([]byte("some line of the log\n")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.Write([]byte("the last\n")); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(l.String(), "\n")
	if len(l.text) > tailLen || len(lines) != tailLines || lines[len(lines)-1] != "the last" {
		t.Errorf("%d bytes, %d lines, the last is %q", len(l.text), len(lines), lines[len(lines)-1])
	}
}
