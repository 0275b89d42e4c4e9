package durable

import (
	"os"
	"path/filepath"
	"testing"
)

func TestWriteFileReplacesAndLeavesNothingBeside(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	for _, want := range []string{"first, longer", "second"} {
		// What a crash in the middle of a write leaves.
		if err := os.WriteFile(filepath.Join(filepath.Dir(path), ".tmp-f"), []byte("half of something long"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := WriteFile(path, []byte(want)); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != want {
			t.Fatalf("got %q, %v; want %q", got, err, want)
		}
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("got %v, %v; want the one file", entries, err)
	}
}

func TestAWriteThatCannotFinishLeavesTheOldFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d")
	if err := os.MkdirAll(filepath.Join(path, "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(path, []byte("x")); err == nil {
		t.Fatal("a directory was replaced by a file")
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(path), ".tmp-d")); !os.IsNotExist(err) {
		t.Errorf("the temporary file is still there: %v", err)
	}
}
