package main

import (
	"os"
	"path/filepath"
	"testing"
)

// The pictures are those of the texts, and each has its text.
func TestThePicturesAreDrawnFromTheirTexts(t *testing.T) {
	const dir = "../../diagrams"
	pictures, err := all(dir)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range pictures {
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("%s is not what go run ./draw makes of its text (%v)", path, err)
		}
	}
	found, err := filepath.Glob(filepath.Join(dir, "*.svg"))
	if err != nil || len(found) < 10 {
		t.Errorf("%d pictures, %v", len(found), err)
	}
	for _, path := range found {
		if _, ok := pictures[path]; !ok {
			t.Errorf("%s has no text", path)
		}
	}
}

func TestDrawWritesWhatHasChanged(t *testing.T) {
	dir := t.TempDir()
	if err := draw(dir); err == nil {
		t.Error("an empty folder is no mistake")
	}
	text := filepath.Join(dir, "a.txt")
	if err := os.WriteFile(text, []byte("title T\nactor A a\nactor B b\nA -> B: x\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := draw(dir); err != nil {
		t.Fatal(err)
	}
	svg := filepath.Join(dir, "a.svg")
	if made, err := os.ReadFile(svg); err != nil || len(made) == 0 {
		t.Fatal(err)
	}
	if err := os.WriteFile(text, []byte("title T\nA -> B: x\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := draw(dir); err == nil {
		t.Error("a text with a mistake is drawn")
	}
}
