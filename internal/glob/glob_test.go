package glob

import (
	"context"
	"testing"

	"github.com/delqhi/cache/internal/redistest"
	"github.com/redis/go-redis/v9"
)

func TestMain(m *testing.M) { redistest.Main(m) }

func TestPatternsMatchAsDocumented(t *testing.T) {
	for _, c := range []struct {
		pattern, s string
		want       bool
	}{
		{"", "", true}, {"", "a", false}, {"*", "", true}, {"*", "a:b\x00\n", true}, {"**a**", "bab", true}, {"?", "", false}, {"?", "\xff", true},
		{"a*c", "abbc", true}, {"a*c", "abbd", false}, {"a*b*c", "axbxbxc", true}, {"h[ae]llo", "hallo", true}, {"h[ae]llo", "hillo", false},
		{"[^a]", "b", true}, {"[^a]", "a", false}, {"[a-c]", "b", true}, {"[c-a]", "b", true}, {"[]", "]", false}, {"[^]", "x", true},
		{`\*`, "*", true}, {`\*`, "a", false}, {`a\`, `a\`, true}, {`[\]]`, "]", true}, {"[abc", "c", true}, {"[a-", "-", true}, {"[", "[", false},
		{"user:*:name", "user:42:name", true}, {"*aaaaaaaaab*aaaaaaaaab*c", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false},
	} {
		if got := Compile(c.pattern).Match(c.s); got != c.want {
			t.Errorf("%q and %q: %v", c.pattern, c.s, got)
		}
	}
}

// server answers as Redis does, from a real one.
type server struct{ rdb *redis.Client }

// match puts the only key of a database there and asks for the pattern.
func (s server) match(t *testing.T, pattern, key string) bool {
	ctx := context.Background()
	if err := s.rdb.FlushDB(ctx).Err(); err != nil {
		t.Fatal(err)
	}
	if err := s.rdb.Set(ctx, key, 1, 0).Err(); err != nil {
		t.Fatal(err)
	}
	keys, err := s.rdb.Keys(ctx, pattern).Result()
	if err != nil {
		t.Fatal(err)
	}
	return len(keys) == 1
}

// Redis is the reference, on every input: what it removes must be dropped, and
// nothing else, except where the sign of a char decides. Both sides get a fixed
// beginning, as a cache's keys and patterns have.
func FuzzAgreesWithRedis(f *testing.F) {
	for _, p := range []string{"*", "a*b?c", "[a-c]*", `\*[^x]`, "[", "[^", "[a-", `[\`, `[\]`, `\`, "[]a]", "**?*", "[\xff-a]", "[z-a]", "[a-\\]"} {
		f.Add(p, "abc")
		f.Add(p, "")
		f.Add(p, "x-]")
	}
	s := server{redistest.Start(f).Client(f)}
	f.Fuzz(func(t *testing.T, pattern, key string) {
		if len(pattern) > 50 || len(key) > 50 {
			return
		}
		p := Compile("p:" + pattern)
		got, want := p.Match("p:"+key), s.match(t, "p:"+pattern, "p:"+key)
		if got != want && !(got && len(p.readings) > 1) {
			t.Errorf("%q and %q: %v, Redis says %v", pattern, key, got, want)
		}
	})
}
