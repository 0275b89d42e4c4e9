package estate

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"verdant/hsm"
)

// secretFile writes a passphrase where only its owner reads it.
func secretFile(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "passphrase")
	if err := os.WriteFile(file, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestAStolenDataDirectoryDoesNotOpen is the thief's attack: a copy of the whole
// directory without the passphrase.
func TestAStolenDataDirectoryDoesNotOpen(t *testing.T) {
	secret := secretFile(t, "a passphrase of the operator")
	made := filepath.Join(t.TempDir(), "estate")
	d, err := OpenDataDir(t.Context(), made, DefaultVariables(), "passphrase:"+secret)
	if err != nil {
		t.Fatal(err)
	}
	token, err := hsm.OpenSoftware(t.Context(), filepath.Join(made, "state", "hsm", "platform"), d.Key("hsm/platform"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := token.Generate(t.Context(), "k", hsm.KeySpec{Type: hsm.EC, Curve: hsm.P256}); err != nil {
		t.Fatal(err)
	}
	root := d.root
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	stolen := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(stolen, os.DirFS(made)); err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(stolen, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		for _, part := range [][]byte{root[:16], root[16:], []byte(hex.EncodeToString(root[:])), []byte("passphrase of the operator")} {
			if bytes.Contains(text, part) {
				t.Errorf("%s shows a secret", path)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(secret, secret+".away"); err != nil { // the thief's machine has no such file
		t.Fatal(err)
	}
	for name, seal := range map[string]string{
		"as it was made":          "",
		"with no seal":            "file",
		"with a guess":            "passphrase:" + secretFile(t, "a passphrase of the thief"),
		"with an empty guess":     "passphrase:" + secretFile(t, ""),
		"with a token of the own": "pkcs11:token=mine?module-path=/no/module.so&pin-source=/no/pin",
	} {
		if d, err := OpenDataDir(t.Context(), stolen, DefaultVariables(), seal); err == nil {
			t.Errorf("the copy opens %s", name)
			_ = d.Close()
		}
	}
	d, err = OpenDataDir(t.Context(), stolen, DefaultVariables(), "passphrase:"+secret+".away")
	if err != nil {
		t.Fatalf("with the passphrase from another place: %v", err)
	}
	defer d.Close()
	if d.root != root {
		t.Error("another root key was opened")
	}
}

func TestAnotherSealThanTheOneItWasMadeWithIsRefused(t *testing.T) {
	secret := "passphrase:" + secretFile(t, "a passphrase of the operator")
	for made, other := range map[string]string{"": secret, "file": secret, secret: "file"} {
		dir := filepath.Join(t.TempDir(), "estate")
		d, err := OpenDataDir(t.Context(), dir, DefaultVariables(), made)
		if err != nil {
			t.Fatal(err)
		}
		root := d.root
		_ = d.Close()
		if _, err := OpenDataDir(t.Context(), dir, DefaultVariables(), other); !errors.Is(err, ErrRootSeal) || !strings.Contains(err.Error(), "verdant reseal") {
			t.Errorf("made with %q, opened with %q: got %v, want ErrRootSeal and what to do", made, other, err)
		}
		if err := Reseal(t.Context(), filepath.Join(dir, "root.key"), "", other); err != nil {
			t.Fatal(err)
		}
		d, err = OpenDataDir(t.Context(), dir, DefaultVariables(), other)
		if err != nil {
			t.Fatalf("after reseal: %v", err)
		}
		if d.root != root {
			t.Error("reseal changed the root key")
		}
		_ = d.Close()
	}
}

func TestAPassphraseThatOthersCanReadOrThatLiesBesideTheDataIsRefused(t *testing.T) {
	open := secretFile(t, "a passphrase of the operator")
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "estate")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	for _, seal := range []string{"passphrase:" + open, "passphrase:" + filepath.Join(dir, "lock"), "passphrase:" + filepath.Join(link, "lock")} {
		if _, err := OpenDataDir(t.Context(), dir, DefaultVariables(), seal); !errors.Is(err, ErrRootSeal) {
			t.Errorf("%s: got %v, want ErrRootSeal", seal, err)
		}
		if _, err := os.Stat(filepath.Join(dir, "root.key")); err == nil {
			t.Fatal("a root key was made")
		}
	}
}

func TestARootSealIsReadExactly(t *testing.T) {
	for _, text := range []string{"", "File", "file:", "file:/x", "passphrase", "passphrase:x", "passphrase:/a/../b", "passphrase:secret words", "pkcs11:token=a", "tpm3:/x", "tpm:", "tpm:tpm0", "tpm:/dev/tpm0?", "tpm:/dev/tpm0?pcrs=", "tpm:/dev/tpm0?pcrs=24", "tpm:/dev/tpm0?pcrs=1,1"} {
		if got, err := CheckRootSeal(text); !errors.Is(err, ErrRootSeal) {
			t.Errorf("%q is accepted as %q", text, got)
		}
	}
}
