package estate

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestADataDirectoryKeepsItsKeyAndRefusesASecondProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "estate")
	v := DefaultVariables()
	d, err := OpenDataDir(t.Context(), path, v, "")
	if err != nil {
		t.Fatal(err)
	}
	key := d.Key("x")
	if !d.Fresh || key == d.Key("y") {
		t.Errorf("fresh %v, or two purposes share a key", d.Fresh)
	}
	if _, err := OpenDataDir(t.Context(), path, v, ""); !errors.Is(err, ErrInUse) {
		t.Errorf("second open: got %v, want ErrInUse", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := OpenDataDir(t.Context(), path, v, "")
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if again.Fresh || again.Key("x") != key {
		t.Error("the key changed between two opens")
	}
	info, err := os.Stat(filepath.Join(path, "root.key"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("root.key: mode %v, %v", info.Mode(), err)
	}
}

func TestADataDirectoryThatIsRefusedIsNotTouched(t *testing.T) {
	cases := map[string]struct {
		files map[string]string
		want  error
	}{
		"of a newer version":     {map[string]string{"estate.json": `{"version": 99, "variables": {"Generation": "x"}}`, "root.key": "k"}, ErrNewer},
		"of something else":      {map[string]string{"thesis.tex": "x"}, ErrOther},
		"with a broken manifest": {map[string]string{"estate.json": `{`}, ErrOther},
	}
	for name, c := range cases {
		path := t.TempDir()
		for file, content := range c.files {
			if err := os.WriteFile(filepath.Join(path, file), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := OpenDataDir(t.Context(), path, DefaultVariables(), ""); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
		for file, content := range c.files {
			if got, err := os.ReadFile(filepath.Join(path, file)); err != nil || !bytes.Equal(got, []byte(content)) {
				t.Errorf("%s: %s was changed: %q, %v", name, file, got, err)
			}
		}
		entries, _ := os.ReadDir(path)
		for _, e := range entries {
			if _, ours := c.files[e.Name()]; !ours && (e.Name() != "lock" || c.want == ErrNewer) {
				t.Errorf("%s: %s was left behind", name, e.Name())
			}
		}
	}
}

func TestOtherVariablesAreRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "estate")
	d, err := OpenDataDir(t.Context(), path, DefaultVariables(), "")
	if err != nil {
		t.Fatal(err)
	}
	_ = d.Close()
	v := DefaultVariables()
	v.Prefix = "other"
	if _, err := OpenDataDir(t.Context(), path, v, ""); err == nil {
		t.Error("a directory of another prefix was opened")
	}
}

func TestADirectoryOpenToOthersIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "estate")
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenDataDir(t.Context(), path, DefaultVariables(), ""); !errors.Is(err, ErrOpen) {
		t.Errorf("got %v, want ErrOpen", err)
	}
}
