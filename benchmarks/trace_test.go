package benchmarks

import (
	"bytes"
	"compress/gzip"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestTracesAreRead(t *testing.T) {
	dir := t.TempDir()
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if _, err := w.Write([]byte("*\nb\n a\n\nb\n")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		text string
		want []uint64 // nil: an error
	}{
		"words.txt":    {"/a?b\n/c\n/a?b", []uint64{0, 1, 0}},
		"words.txt.gz": {packed.String(), []uint64{0, 1, 0}},
		"blocks.arc":   {"7 2 0 0\n9 1 0 1\n", []uint64{7, 8, 9}},
		"empty.txt":    {"*\n", nil},
		"broken.gz":    {"x", nil},
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := readTrace(path); !slices.Equal(got, c.want) || (err == nil) != (c.want != nil) {
			t.Errorf("%s: %v, %v; want %v", name, got, err, c.want)
		}
	}
	if _, err := readTrace(filepath.Join(dir, "none")); err == nil {
		t.Error("a trace that does not exist is read")
	}
}
