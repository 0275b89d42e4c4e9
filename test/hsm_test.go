//go:build cgo && linux

package test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"verdant/hsm"
	"verdant/hsm/hsmtest"
)

// TestTheVaultsKeysAreInAPKCS11Token brings an estate up whose keys SoftHSM
// makes, ends the process that holds its library in the middle of the work, and
// starts the estate again.
func TestTheVaultsKeysAreInAPKCS11Token(t *testing.T) {
	s := hsmtest.NewSoftHSM(t)
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	e := &estateUnderTest{t: t, binary: path, dataDir: filepath.Join(t.TempDir(), "estate"), network: "auto"}
	t.Cleanup(e.down)
	up := func(args ...string) (string, error) {
		return e.try(append([]string{"up", "--detach", "--network", e.network, "--ingress-addr", "127.0.0.1:0", "--jumpbox-addr", "127.0.0.1:0"}, args...)...)
	}
	for _, uri := range []string{s.Module, "pkcs11:token=verdant%20test", "pkcs11:token=a?module-path=/m&pin-value=" + s.PIN} {
		if out, err := up("--hsm", uri); exitCode(err) != 2 || strings.Contains(out, s.PIN) {
			t.Errorf("--hsm %s: exit code %d, want 2 and no PIN in\n%s", uri, exitCode(err), out)
		}
	}
	known := bringKnownKey(t, s)
	uri := "pkcs11:token=verdant%20test?module-path=" + s.Module + "&pin-source=" + s.PINFile
	if out, err := up("--hsm", uri); err != nil {
		t.Fatalf("up: %v\n%s", err, out)
	}
	objects, err := filepath.Glob(filepath.Join(s.Dir, "*", "*.object"))
	if err != nil || len(objects) < 10 {
		t.Errorf("the token has %d objects (%v): the keys are not in it", len(objects), err)
	}
	status, err := e.status()
	if err != nil {
		t.Fatal(err)
	}
	signer := signerOf(t, status.PID)
	for _, pid := range status.pids() {
		if maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid)); err != nil || bytes.Contains(maps, []byte("softhsm")) {
			t.Errorf("process %d has loaded the module, or cannot be looked at: %v", pid, err)
		}
	}
	issue := func() error {
		out, err := e.try("cert", "issue", "--file", filepath.Join("..", "examples", "recovery.json"))
		if err == nil && !strings.Contains(out, "HC1:") {
			err = errors.New(out)
		}
		return err
	}
	if err := issue(); err != nil {
		t.Fatal(err)
	}
	if out, err := e.try("rest", "GET", "https://eudcc-ie-kv-g1.vault.azure.net/keys/mysql-encryption-key/attestation?api-version=2025-07-01"); err != nil || !strings.Contains(out, "publicKeyAttestation") {
		t.Fatalf("sign with the known key: %v\n%s", err, out)
	}
	known.search(t, e.dataDir, status)
	if err := syscall.Kill(signer, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	waitGone(t, signer)
	if err := issue(); err != nil {
		t.Errorf("after the signer process was killed: %v", err)
	}
	if again := signerOf(t, status.PID); again == signer {
		t.Error("the signer process was not killed")
	}
	searchFiles(t, e.dataDir, []byte(s.PIN))

	e.down()
	if out, err := up("--hsm", strings.Replace(uri, "verdant%20test", "another", 1)); exitCode(err) != 1 || !strings.Contains(out, "--hsm") {
		t.Errorf("up with another token: exit code %d\n%s", exitCode(err), out)
	}
	if out, err := up(); err != nil {
		t.Fatalf("up again: %v\n%s", err, out)
	}
	if err := issue(); err != nil {
		t.Errorf("after the next start: %v", err)
	}
}

// knownKey is a key of the estate's whose bytes the test knows: it was brought
// into the token by another program, under the id of the key with which
// Ireland's vault attests, so that the vault finds it and takes it for its own.
type knownKey struct{ public, private [][]byte }

func bringKnownKey(t *testing.T, s hsmtest.SoftHSM) knownKey {
	t.Helper()
	rk, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(rk)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	s.Import(t, file, hex.EncodeToString([]byte(hsm.LabelID("key vault eudcc-ie-kv-g1 attestation"))))
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	both := func(number *big.Int) [][]byte { // as it is written, and as big numbers lie in memory
		b := number.Bytes()[32:56]
		reversed := bytes.Clone(b)
		slices.Reverse(reversed)
		return [][]byte{b, reversed}
	}
	return knownKey{both(rk.N), slices.Concat(both(rk.D), both(rk.Primes[0]), both(rk.Primes[1]))}
}

// search looks for the key in the memory of the supervisor and of every pod,
// and in every file of the data directory. That the supervisor has the public
// key, which it publishes, shows that the search finds what is there.
func (k knownKey) search(t *testing.T, dataDir string, status estateStatus) {
	t.Helper()
	public := 0
	for _, pid := range status.pids() {
		memory := memoryOf(t, pid)
		for _, needle := range k.private {
			if bytes.Contains(memory, needle) {
				t.Errorf("the memory of process %d holds a part of a private key", pid)
			}
		}
		if pid == status.PID {
			for _, needle := range k.public {
				public += bytes.Count(memory, needle)
			}
		}
	}
	if public == 0 {
		t.Error("the search does not find the public key in the memory of the process that publishes it")
	}
	for _, needle := range k.private {
		searchFiles(t, dataDir, needle)
	}
}

// memoryOf is what can be read of a process's memory.
func memoryOf(t *testing.T, pid int) (all []byte) {
	t.Helper()
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Fatalf("read the memory of process %d: %v", pid, err)
	}
	defer mem.Close()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(maps)) {
		var from, to int64
		var mode string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &mode); err != nil || mode[0] != 'r' || strings.Contains(line, " /") {
			continue // files are searched as files
		}
		part := make([]byte, to-from)
		n, _ := mem.ReadAt(part, from) // [vvar] and the like cannot be read
		all = append(all, part[:n]...)
	}
	return all
}

// signerOf is the supervisor's child that runs `verdant signer`. One that was
// killed is started again, so it is waited for.
func signerOf(t *testing.T, supervisor int) int {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		files, err := filepath.Glob("/proc/[0-9]*/stat")
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			stat, err := os.ReadFile(file)
			if err != nil {
				continue // it has ended
			}
			fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
			line, _ := os.ReadFile(filepath.Join(filepath.Dir(file), "cmdline"))
			if fields[1] == strconv.Itoa(supervisor) && bytes.Contains(line, []byte("\x00signer\x00")) {
				pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
				return pid
			}
		}
	}
	t.Fatalf("the supervisor %d has no signer process", supervisor)
	return 0
}

func searchFiles(t *testing.T, dir string, secret []byte) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		raw, err := os.ReadFile(path)
		if bytes.Contains(raw, secret) {
			t.Errorf("%s holds a secret of the token", path)
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
}
