package e2e_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/codec"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/redis/go-redis/v9"
)

// A program that may use only approved algorithms has whole caches: scripts, leases, tags, records
// of other programs, and encryption.
func TestACacheWorksWhereOnlyApprovedAlgorithmsDo(t *testing.T) {
	const env = "E2E_TEST_FIPS"
	if os.Getenv(env) == "" {
		server := redistest.Start(t)
		exe, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), exe, "-test.run=^"+t.Name()+"$", "-test.v")
		cmd.Env = append(os.Environ(), env+"="+server.Addr(), "GODEBUG=fips140=only")
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	ctx, rdb := t.Context(), redis.NewClient(&redis.Options{Addr: os.Getenv(env)})
	defer rdb.Close()
	load := cache.SourceFunc(func(context.Context, string) (string, error) { return "loaded", nil })
	c, err := cache.NewFrom(rdb, "sealed", load, withLocal, discard, cache.WithTimeout(5*time.Second),
		cache.WithCodec(codec.EncryptedAESGCM(codec.Compressed(codec.JSON(), codec.Threshold(0)), make([]byte, 32))))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if v, err := c.Get(ctx, "k", cache.SkipLocal()); err != nil || v != "loaded" {
		t.Error(v, err)
	}
	if err := errors.Join(c.Set(ctx, "k", "set", cache.Tags("t")), c.InvalidateTags(ctx, "t")); err != nil {
		t.Fatal(err)
	}
	if v, err := c.Get(ctx, "k"); err != nil || v != "loaded" {
		t.Error(v, err)
	}
	old, err := cache.New[string, string](rdb, "old", discard, cache.WithTimeout(5*time.Second), cache.WithCodec(codec.Legacy(codec.JSON(), codec.JSON().Unmarshal)))
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	if err := rdb.Set(ctx, old.RedisKey("k"), `"by hand"`, time.Minute).Err(); err != nil {
		t.Fatal(err)
	}
	if v, err := old.Update(ctx, "k", func(v string, ok bool) (string, error) { return v + "!", nil }); err != nil || v != "by hand!" {
		t.Error(v, err)
	}
}
