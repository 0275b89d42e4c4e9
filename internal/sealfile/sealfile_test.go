package sealfile

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

var key = [32]byte{1, 2, 3}

func TestWhatWasWrittenIsReadBackAndNotInClear(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	d := New(dir, key)
	secret := []byte("trusted issuers of the citizen Ó Súilleabháin")
	for _, want := range [][]byte{secret, []byte("second version"), {}} {
		if err := d.Write("list.json", want); err != nil {
			t.Fatal(err)
		}
		got, err := New(dir, key).Read("list.json")
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("got %q, %v; want %q", got, err, want)
		}
		raw, err := os.ReadFile(filepath.Join(dir, "list.json"))
		if err != nil {
			t.Fatal(err)
		}
		if len(want) > 0 && bytes.Contains(raw, want) {
			t.Error("the file holds the contents in clear")
		}
	}
	for path, want := range map[string]fs.FileMode{dir: 0o700, filepath.Join(dir, "list.json"): 0o600} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s: got mode %o, want %o", path, got, want)
		}
	}
}

func TestAFileOpensOnlyUnderItsKeyAndNameAndUnchanged(t *testing.T) {
	dir := t.TempDir()
	d := New(dir, key)
	if err := d.Write("a", []byte("contents")); err != nil {
		t.Fatal(err)
	}
	sealed, err := os.ReadFile(filepath.Join(dir, "a"))
	if err != nil {
		t.Fatal(err)
	}
	refused := func(why string, d *Dir, name string) {
		t.Helper()
		if data, err := d.Read(name); !errors.Is(err, ErrSeal) {
			t.Errorf("%s: got %q, %v; want ErrSeal", why, data, err)
		}
	}
	refused("another key", New(dir, [32]byte{9}), "a")
	put := func(name string, data []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("b", sealed)
	refused("another name", d, "b")
	for i := range sealed {
		changed := slices.Clone(sealed)
		changed[i] ^= 1
		put("a", changed)
		refused("a changed byte", d, "a")
		put("a", sealed[:i])
		refused("a cut file", d, "a")
	}
	put("a", sealed)
	if _, err := d.Read("a"); err != nil {
		t.Errorf("unchanged: %v", err)
	}
}

func TestNamesThatAreNotOnePathElementAreRefused(t *testing.T) {
	d := New(t.TempDir(), key)
	for _, name := range []string{"", ".", "..", "../x", "a/b", `a\b`, "a\x00", ".tmp-a", strings.Repeat("x", 201)} {
		if err := d.Write(name, nil); !errors.Is(err, ErrName) {
			t.Errorf("write %q: got %v, want ErrName", name, err)
		}
		if _, err := d.Read(name); !errors.Is(err, ErrName) {
			t.Errorf("read %q: got %v, want ErrName", name, err)
		}
		if err := d.Remove(name); !errors.Is(err, ErrName) {
			t.Errorf("remove %q: got %v, want ErrName", name, err)
		}
	}
}

func TestListNamesTheFilesAndRemoveTakesThemAway(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	d := New(dir, key)
	if names, err := d.List(); err != nil || names != nil {
		t.Fatalf("before the first write: got %v, %v", names, err)
	}
	for _, name := range []string{"b", "a"} {
		if err := d.Write(name, []byte(name)); err != nil {
			t.Fatal(err)
		}
	}
	// What a crash between write and rename leaves is not a file of ours.
	if err := os.WriteFile(filepath.Join(dir, ".tmp-a"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if names, err := d.List(); err != nil || !slices.Equal(names, []string{"a", "b"}) {
		t.Fatalf("got %v, %v", names, err)
	}
	if err := d.Write("a", []byte("again")); err != nil {
		t.Fatalf("write over a crashed write: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, ".tmp-a"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.Remove("a"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, ".tmp-a")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what a crashed write left is there after the removal: %v", err)
	}
	if err := d.Remove("a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("second remove: got %v, want fs.ErrNotExist", err)
	}
	if _, err := d.Read("a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("read: got %v, want fs.ErrNotExist", err)
	}
}

func TestAReaderSeesTheOldOrTheNewContents(t *testing.T) {
	d := New(t.TempDir(), key)
	a, b := bytes.Repeat([]byte("a"), 100_000), bytes.Repeat([]byte("b"), 50_000)
	if err := d.Write("f", a); err != nil {
		t.Fatal(err)
	}
	var writers sync.WaitGroup
	for _, data := range [][]byte{a, b} {
		writers.Go(func() {
			for range 20 {
				if err := d.Write("f", data); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 50 {
		if got, err := d.Read("f"); err != nil || !bytes.Equal(got, a) && !bytes.Equal(got, b) {
			t.Fatalf("got %d bytes, %v", len(got), err)
		}
	}
	writers.Wait()
}
