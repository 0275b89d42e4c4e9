package hsmtest

import (
	"crypto/rand"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// SoftHSM is a fresh SoftHSM 2 token in a directory of the test's own.
type SoftHSM struct {
	Module, Label, PIN, PINFile string
	// Dir holds the token's files.
	Dir string
}

// NewSoftHSM makes a token and points SOFTHSM2_CONF at it for this process and
// its children. Where SoftHSM is not installed the test is skipped, or fails if
// VERDANT_REQUIRE_PARTS is set.
func NewSoftHSM(t testing.TB) SoftHSM {
	t.Helper()
	s := SoftHSM{Label: "verdant test", PIN: rand.Text()[:12], Dir: filepath.Join(t.TempDir(), "tokens")}
	for _, path := range []string{"/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/softhsm/libsofthsm2.so", "/usr/lib64/pkcs11/libsofthsm2.so",
		"/usr/local/lib/softhsm/libsofthsm2.so", "/opt/homebrew/lib/softhsm/libsofthsm2.so"} {
		if _, err := os.Stat(path); err == nil {
			s.Module = path
			break
		}
	}
	if _, err := exec.LookPath("softhsm2-util"); err != nil || s.Module == "" {
		if os.Getenv("VERDANT_REQUIRE_PARTS") != "" {
			t.Fatal("SoftHSM 2 is not installed and VERDANT_REQUIRE_PARTS is set")
		}
		t.Skip("SoftHSM 2 is not installed (Debian package softhsm2)")
	}
	if err := os.Mkdir(s.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(filepath.Dir(s.Dir), "softhsm2.conf")
	s.PINFile = filepath.Join(filepath.Dir(s.Dir), "pin")
	for file, text := range map[string]string{
		conf:      "directories.tokendir = " + s.Dir + "\nobjectstore.backend = file\nlog.level = ERROR\n",
		s.PINFile: s.PIN + "\n",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("SOFTHSM2_CONF", conf)
	s.Util(t, "--init-token", "--free", "--label", s.Label, "--so-pin", "so-pin-1", "--pin", s.PIN)
	return s
}

// Util runs softhsm2-util.
func (s SoftHSM) Util(t testing.TB, args ...string) {
	t.Helper()
	if out, err := exec.Command("softhsm2-util", args...).CombinedOutput(); err != nil {
		t.Fatalf("softhsm2-util %v: %v\n%s", args, err, out)
	}
}

// Import puts a private key (PKCS #8 in PEM) into the token under a CKA_ID, in
// a process of its own.
func (s SoftHSM) Import(t testing.TB, pemFile, idHex string) {
	t.Helper()
	s.Util(t, "--import", pemFile, "--token", s.Label, "--pin", s.PIN, "--label", "imported", "--id", idHex)
}
