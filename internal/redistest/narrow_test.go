package redistest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

func TestACutReplyLosesTheRest(t *testing.T) {
	t.Parallel()
	p := NewProxy(t, startEcho(t).addr)
	open := dial(t, p)
	say(t, open, "before")
	p.CutReplies(4)
	for what, conn := range map[string]io.ReadWriter{"an open connection": open, "a new one": dial(t, p)} {
		if _, err := io.WriteString(conn, "0123456789"); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(conn)
		if !strings.HasPrefix("0123", string(got)) || !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s: %q, %v", what, got, err)
		}
	}
	// Exactly so many may pass.
	whole := dial(t, p)
	say(t, whole, "0123")
	p.Heal()
	say(t, whole, "after")
	say(t, dial(t, p), "after")
}

// What was asked for is done, and the client hears of it in part.
func TestACutReplyOfRedis(t *testing.T) {
	t.Parallel()
	s := Start(t)
	p := NewProxy(t, s.Addr())
	o := s.Options()
	o.Addr = p.Addr()
	rdb := closeAfter(t, redis.NewClient(o))
	mustSet(t, rdb, "k", strings.Repeat("v", 1000))
	p.CutReplies(100)
	if v, err := rdb.Get(t.Context(), "k").Result(); err == nil || errors.Is(err, redis.Nil) {
		t.Errorf("%d bytes of a reply that was cut, %v", len(v), err)
	}
	p.CutReplies(1)
	if err := rdb.Set(t.Context(), "k", "w", 0).Err(); err == nil {
		t.Error("one byte was an answer")
	}
	p.Heal()
	mustGet(t, rdb, "k", strings.Repeat("v", 1000)) // the second one's connection was never set up
}

func TestSlicesAreSmallAndWhole(t *testing.T) {
	t.Parallel()
	p := NewProxy(t, startEcho(t).addr)
	conn := dial(t, p)
	text := bytes.Repeat([]byte("0123456789"), 50)
	// parts returns in how many parts the text came back.
	parts := func() (n int) {
		if _, err := conn.Write(text); err != nil {
			t.Fatal(err)
		}
		if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		var got []byte
		for buf := make([]byte, len(text)); len(got) < len(text); n++ {
			k, err := conn.Read(buf)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, buf[:k]...)
		}
		if !bytes.Equal(got, text) {
			t.Fatalf("%q", got)
		}
		return n
	}
	p.Slice(3)
	// A reader that is slower than the slices may find several at once.
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := eventually(ctx, nil, "a text in many parts", func(context.Context) error {
		if n := parts(); n < 5 {
			return errors.New("few parts")
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	p.Heal()
	parts()
}

func TestALimitedStreamTakesItsTime(t *testing.T) {
	t.Parallel()
	p := NewProxy(t, startEcho(t).addr)
	conn := dial(t, p)
	p.Limit(2000)
	start := time.Now()
	say(t, conn, strings.Repeat("0123456789", 20))
	if took := time.Since(start); took < 80*time.Millisecond {
		t.Errorf("200 bytes at 2000 per second took %v", took)
	}
	// What waits is lost when the connection is, and holds up no other.
	p.Limit(1)
	if _, err := io.WriteString(conn, "never all of it"); err != nil {
		t.Fatal(err)
	}
	p.Reset()
	p.Heal()
	say(t, dial(t, p), "at once")
}
