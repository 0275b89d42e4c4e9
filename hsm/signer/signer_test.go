//go:build cgo && linux

package signer_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"verdant/hsm"
	"verdant/hsm/hsmtest"
	"verdant/hsm/pkcs11"
	"verdant/hsm/signer"
)

// TestMain is also the other processes of these tests.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch args := os.Args[2:]; os.Args[1] {
		case "signer-process":
			err := signer.Run(context.Background(), func(ctx context.Context, pin []byte) (signer.Token, error) {
				return pkcs11.Open(ctx, pkcs11.Config{Module: args[0], Token: args[1]}, pin)
			})
			exit(err)
		case "service-process":
			exit(service(args))
		}
	}
	os.Exit(m.Run())
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func config(module, label, pinFile string) signer.Config {
	return signer.Config{Path: "/proc/self/exe", Args: []string{"signer-process", module, label}, PINSource: pinFile,
		Env: append(os.Environ(), "GORACE=atexit_sleep_ms=0")} // the race detector's processes would linger a second
}

func open(t testing.TB, s hsmtest.SoftHSM) *signer.Signer {
	t.Helper()
	token, err := signer.Open(context.Background(), config(s.Module, s.Label, s.PINFile))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = token.Close() })
	return token
}

func TestATokenInAnotherProcessIsAToken(t *testing.T) {
	s, dir := hsmtest.NewSoftHSM(t), t.TempDir()
	hsmtest.Run(t, func(t *testing.T) hsm.Token {
		soft, err := hsm.OpenSoftware(t.Context(), dir, [32]byte{1})
		if err != nil {
			t.Fatal(err)
		}
		return hsm.Split(open(t, s), soft)
	})
}

func read(t *testing.T, pid int, file string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), file))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func TestOnlyTheSignerProcessLoadsTheModule(t *testing.T) {
	s := hsmtest.NewSoftHSM(t)
	token := open(t, s)
	if _, err := token.Generate(t.Context(), hsm.NewKeyID(), hsm.KeySpec{Type: hsm.EC, Curve: hsm.P256}); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(read(t, os.Getpid(), "maps"), "softhsm") {
		t.Error("the service's process has loaded the module")
	}
	if os.Getuid() == 0 && !strings.Contains(read(t, token.PID(), "maps"), "softhsm") {
		t.Error("the signer process has not: this test does not see what it looks for")
	}
}

func TestTheSignerProcessHasNoPrivilegesAndShowsNoPIN(t *testing.T) {
	s := hsmtest.NewSoftHSM(t)
	pid := open(t, s).PID()
	status := read(t, pid, "status")
	for _, want := range []string{"NoNewPrivs:\t1", "CapEff:\t0000000000000000", "CapPrm:\t0000000000000000", "CapInh:\t0000000000000000", "CapAmb:\t0000000000000000"} {
		if !strings.Contains(status, want+"\n") {
			t.Errorf("want %q in\n%s", want, status)
		}
	}
	if strings.Contains(read(t, pid, "cmdline"), s.PIN) {
		t.Error("the PIN is an argument")
	}
	if os.Getuid() == 0 { // another user cannot read what is not dumpable
		if strings.Contains(read(t, pid, "environ"), s.PIN) {
			t.Error("the PIN is in the environment")
		}
		if limits := read(t, pid, "limits"); !strings.Contains(limits, "Max core file size        0                    0 ") {
			t.Errorf("core dumps are allowed:\n%s", limits)
		}
	}
}

func TestAKilledSignerProcessIsStartedAgainAndKeysSurvive(t *testing.T) {
	s := hsmtest.NewSoftHSM(t)
	token := open(t, s)
	k, err := token.Generate(t.Context(), hsm.NewKeyID(), hsm.KeySpec{Type: hsm.EC, Curve: hsm.P256})
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("m"))
	var signed, refused atomic.Int64
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 8 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				sig, err := k.Sign(nil, digest[:], crypto.SHA256)
				switch {
				case errors.Is(err, hsm.ErrUnavailable):
					refused.Add(1)
				case err != nil:
					t.Error(err)
					return
				case !ecdsa.VerifyASN1(k.Public().(*ecdsa.PublicKey), digest[:], sig):
					t.Error("a signature does not verify")
					return
				default:
					signed.Add(1)
				}
			}
		})
	}
	for range 3 {
		pid := token.PID()
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		for before := signed.Load(); token.PID() == pid || token.PID() == 0 || signed.Load() < before+100; {
			time.Sleep(time.Millisecond)
		}
	}
	close(stop)
	wg.Wait()
	if n := refused.Load(); n == 0 || n > 3*8*4 {
		t.Errorf("%d calls were refused, want those in flight at 3 deaths", n)
	}
	found, err := token.Key(t.Context(), k.ID())
	if err != nil || !found.Public().(*ecdsa.PublicKey).Equal(k.Public()) {
		t.Errorf("the key afterwards: %v", err)
	}
}

func TestATokenThatDoesNotOpenSaysWhy(t *testing.T) {
	s := hsmtest.NewSoftHSM(t)
	wrong := filepath.Join(t.TempDir(), "pin")
	for text, want := range map[string]error{"wrong-pin\n": hsm.ErrRefused, "": hsm.ErrRefused, "two\nlines\n": hsm.ErrRefused, strings.Repeat("9", 300): hsm.ErrRefused} {
		if err := os.WriteFile(wrong, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := signer.Open(t.Context(), config(s.Module, s.Label, wrong))
		if !errors.Is(err, want) {
			t.Errorf("PIN %.10q: got %v, want %v", text, err, want)
		}
		if text != "" && err != nil && strings.Contains(err.Error(), strings.TrimSpace(text)) {
			t.Errorf("the error shows the PIN: %v", err)
		}
	}
	for name, c := range map[string]signer.Config{
		"no PIN file":                         config(s.Module, s.Label, wrong+"x"),
		"no module":                           config("/no/such/module.so", s.Label, s.PINFile),
		"another label":                       config(s.Module, "another", s.PINFile),
		"no program":                          {Path: "/no/such/program", PINSource: s.PINFile},
		"another program, which ends at once": {Path: "/proc/self/exe", Args: []string{"-test.run", "^$"}, PINSource: s.PINFile},
	} {
		if token, err := signer.Open(t.Context(), c); err == nil {
			t.Errorf("%s: it opens", name)
			_ = token.Close()
		}
	}
}

func TestAPINThatWasChangedIsTriedOnce(t *testing.T) {
	s := hsmtest.NewSoftHSM(t)
	token := open(t, s)
	if err := os.WriteFile(s.PINFile, []byte("wrong-pin\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(token.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for {
		_, err := token.Key(t.Context(), "k")
		if errors.Is(err, hsm.ErrRefused) {
			break
		}
		if !errors.Is(err, hsm.ErrUnavailable) && !errors.Is(err, hsm.ErrNotFound) {
			t.Fatalf("got %v, want ErrRefused in the end", err)
		}
	}
	if err := token.Close(); err != nil { // returns at once: nothing is being tried
		t.Error(err)
	}
}

// service is the service's process: it uses the key until its standard input
// ends. With the word "software" it holds the key itself, from a file.
func service(args []string) error {
	id := hsm.KeyID(args[1])
	var token hsm.Token
	switch args[0] {
	case "software":
		raw, err := os.ReadFile(args[2])
		if err != nil {
			return err
		}
		block, _ := pem.Decode(raw)
		m, err := hsm.FromPKCS8(block.Bytes)
		if err != nil {
			return err
		}
		soft, err := hsm.OpenSoftware(context.Background(), args[3], [32]byte{1})
		if err != nil {
			return err
		}
		if _, err := soft.Import(context.Background(), id, m, false); err != nil {
			return err
		}
		token = soft
	default:
		s, err := signer.Open(context.Background(), config(args[0], args[2], args[3]))
		if err != nil {
			return err
		}
		defer s.Close()
		fmt.Println(s.PID())
		token = s
	}
	k, err := token.Key(context.Background(), id)
	if err != nil {
		return err
	}
	ct, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, k.Public().(*rsa.PublicKey), []byte("dek"), nil)
	if err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() { _, _ = io.Copy(io.Discard, os.Stdin); close(ended) }()
	digest := sha256.Sum256(nil)
	for n := 0; ; n++ {
		select {
		case <-ended:
			return nil
		default:
		}
		if _, err := k.Sign(nil, digest[:], crypto.SHA256); err != nil {
			return err
		}
		if _, err := k.Decrypt(nil, ct, &rsa.OAEPOptions{Hash: crypto.SHA256}); err != nil {
			return err
		}
		if n == 50 {
			fmt.Println("ready")
		}
	}
}

// startService starts the service's process and waits until it has used the
// key. It returns the lines that it printed before.
func startService(t *testing.T, args ...string) (*exec.Cmd, []string, func()) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", append([]string{"service-process"}, args...)...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end := sync.OnceFunc(func() { _ = in.Close(); _ = cmd.Wait() })
	t.Cleanup(end)
	var lines []string
	for scan := bufio.NewScanner(out); scan.Scan(); {
		if scan.Text() == "ready" {
			return cmd, lines, end
		}
		lines = append(lines, scan.Text())
	}
	t.Fatal("the service's process did not get ready")
	return nil, nil, nil
}

func TestTheSignerProcessDiesWithTheService(t *testing.T) {
	s := hsmtest.NewSoftHSM(t)
	token := open(t, s)
	k, err := token.Generate(t.Context(), "k", hsm.KeySpec{Type: hsm.RSA, Bits: 2048})
	if err != nil {
		t.Fatal(err)
	}
	cmd, lines, _ := startService(t, s.Module, string(k.ID()), s.Label, s.PINFile)
	pid, err := strconv.Atoi(lines[0])
	if err != nil || syscall.Kill(pid, 0) != nil {
		t.Fatalf("the service's signer process %v: %v", lines, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for gone := false; !gone; {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		gone = err != nil || strings.Contains(string(raw), ") Z ")
		time.Sleep(time.Millisecond)
	}
}

// TestNoPrivateKeyBytesOutsideTheToken uses a key whose bytes are known,
// brought into the token by another program, and looks for them in the whole
// memory of the service's process and in every file that is not the token's.
func TestNoPrivateKeyBytesOutsideTheToken(t *testing.T) {
	s := hsmtest.NewSoftHSM(t)
	work := t.TempDir()
	rk, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(rk)
	if err != nil {
		t.Fatal(err)
	}
	pemFile := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(pemFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	s.Import(t, pemFile, hex.EncodeToString([]byte("known")))
	var needles [][]byte
	for _, secret := range [][]byte{rk.D.Bytes(), rk.Primes[0].Bytes(), rk.Primes[1].Bytes()} {
		reversed := bytes.Clone(secret)
		slices.Reverse(reversed) // as big numbers lie in memory
		needles = append(needles, secret[32:56], reversed[32:56])
	}

	cmd, _, end := startService(t, "software", "known", pemFile, filepath.Join(t.TempDir(), "soft"))
	if searchMemory(t, cmd.Process.Pid, needles) == 0 {
		t.Fatal("the search does not find the keys of a process that has them")
	}
	end()

	cmd, _, _ = startService(t, s.Module, "known", s.Label, s.PINFile)
	if n := searchMemory(t, cmd.Process.Pid, needles); n != 0 {
		t.Errorf("the service's memory holds parts of the private key %d times", n)
	}
	if n := searchMemory(t, cmd.Process.Pid, [][]byte{[]byte(s.PIN)}); n != 0 {
		t.Error("the service's memory holds the PIN")
	}
	if err := os.Remove(pemFile); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{work, filepath.Dir(s.Dir)} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() && path == s.Dir {
				return errors.Join(err, fs.SkipDir)
			}
			if d.IsDir() {
				return nil
			}
			raw, err := os.ReadFile(path)
			for _, needle := range needles {
				if bytes.Contains(raw, needle) {
					t.Errorf("%s holds a part of the private key", path)
				}
			}
			return err
		})
		if err != nil && !errors.Is(err, fs.SkipDir) {
			t.Fatal(err)
		}
	}
}

// searchMemory counts needles in what can be read of a process's memory.
func searchMemory(t *testing.T, pid int, needles [][]byte) (found int) {
	t.Helper()
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Skipf("this machine does not let a parent read its child's memory: %v", err)
	}
	defer mem.Close()
	total := 0
	buffer := make([]byte, 1<<20)
	for line := range strings.Lines(read(t, pid, "maps")) {
		var from, to int64
		var mode string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &mode); err != nil || mode[0] != 'r' {
			continue
		}
		const overlap = 64
		for at := from; at < to; at += int64(len(buffer)) - overlap {
			n, err := mem.ReadAt(buffer[:min(int64(len(buffer)), to-at)], at)
			if err != nil {
				break // [vvar] and the like
			}
			total += n
			for _, needle := range needles {
				found += bytes.Count(buffer[:n], needle)
			}
		}
	}
	if total < 1<<20 {
		t.Fatalf("read only %d bytes of the process's memory", total)
	}
	return found
}
