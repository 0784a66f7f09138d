package codec_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/delqhi/cache/codec"
)

// Where only approved algorithms may run, EncryptedAESGCM works, rotation included.
func TestAESWorksWhereOnlyApprovedAlgorithmsDo(t *testing.T) {
	const env = "CODEC_TEST_FIPS"
	if os.Getenv(env) == "" {
		exe, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), exe, "-test.run=^"+t.Name()+"$", "-test.v")
		cmd.Env = append(os.Environ(), env+"=1", "GODEBUG=fips140=only")
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	old, both := codec.EncryptedAESGCM(codec.JSON(), key(1)).(codec.Sealer), codec.EncryptedAESGCM(codec.JSON(), key(2), key(1)).(codec.Sealer)
	data, err := old.MarshalIn("k", []byte("context"), nil, "value")
	if err != nil {
		t.Fatal(err)
	}
	var v string
	if err := both.UnmarshalIn("k", []byte("context"), data, &v); err != nil || v != "value" {
		t.Errorf("%q, %v", v, err)
	}
	if !both.Marked("k", []byte("context"), old.Mark("k", []byte("context"))) {
		t.Error("a mark is not valid")
	}
	// The other algorithm is not approved: the mode is really on.
	defer func() {
		if recover() == nil {
			t.Error("XChaCha20-Poly1305 works, so that the mode is not on")
		}
	}()
	other := codec.Encrypted(codec.JSON(), key(1))
	if _, err := other.Marshal(nil, "value"); err != nil {
		panic(err)
	}
}

// The nonces of records, and the bytes that their keys are derived from, are never the same twice.
func TestNoTwoRecordsShareTheirRandomBytes(t *testing.T) {
	c := codec.EncryptedAESGCM(codec.Raw(), key(1))
	seen := map[string]bool{}
	for range 1000 {
		b, err := c.Marshal(nil, "the same")
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range []string{string(b[5:21]), string(b[21:33]), string(b[33:])} {
			if seen[part] {
				t.Fatalf("%x comes twice", part)
			}
			seen[part] = true
		}
	}
}

func ExampleEncryptedAESGCM() {
	c := codec.EncryptedAESGCM(codec.Compressed(codec.Msgpack()), key(1)) // 32 random bytes, from a key store
	record, _ := c.Marshal(nil, "a secret")
	var v string
	err := c.Unmarshal(record, &v)
	fmt.Println(c.Name(), v, err)
	// Output: aes256gcm(s2(msgpack)) a secret <nil>
}
