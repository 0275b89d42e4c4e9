package tpm_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"

	"verdant/hsm"
	"verdant/hsm/tpm"
)

// newTPM starts an emulated TPM and returns its socket.
func newTPM(t *testing.T) string {
	t.Helper()
	program, err := exec.LookPath("swtpm")
	if err != nil {
		if os.Getenv("VERDANT_REQUIRE_PARTS") != "" {
			t.Fatal("swtpm is not installed and VERDANT_REQUIRE_PARTS is set")
		}
		t.Skip("swtpm is not installed (Debian package swtpm)")
	}
	dir, err := os.MkdirTemp("", "tpm") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	cmd := exec.Command(program, "socket", "--tpm2", "--tpmstate", "dir="+dir, "--server", "type=unixio,path="+socket, "--flags", "not-need-init,startup-clear")
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for range 2000 {
		if conn, err := net.Dial("unix", socket); err == nil {
			_ = conn.Close()
			return socket
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("swtpm does not answer: %s", complaints.String())
	return ""
}

func extend(t *testing.T, socket string, pcr uint32) {
	t.Helper()
	conn, err := linuxudstpm.Open(socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, err = tpm2.PCRExtend{
		PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(pcr), Auth: tpm2.PasswordAuth(nil)},
		Digests:   tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: bytes.Repeat([]byte{1}, 32)}}},
	}.Execute(conn)
	if err != nil {
		t.Fatal(err)
	}
}

var root = [32]byte([]byte("0123456789abcdefghijklmnopqrstuv"))

func TestARootKeyOpensInTheTPMThatSealedItAndInNoOther(t *testing.T) {
	one, other := tpm.Seal{Path: newTPM(t)}, tpm.Seal{Path: newTPM(t)}
	sealed, err := one.Seal(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(sealed, root[:16]) {
		t.Error("the sealed root key shows the root key")
	}
	for range 5 { // what it loads it flushes: a TPM has room for three objects
		if got, err := one.Open(t.Context(), sealed); err != nil || got != root {
			t.Fatalf("got %x, %v", got, err)
		}
	}
	if _, err := other.Open(t.Context(), sealed); !errors.Is(err, hsm.ErrRootSeal) {
		t.Errorf("another TPM: got %v, want ErrRootSeal", err)
	}
	var record map[string]any
	if err := json.Unmarshal(sealed, &record); err != nil {
		t.Fatal(err)
	}
	for _, field := range []string{"private", "public", "primary"} {
		text := record[field].(string)
		record[field] = "AAAA" + text[4:]
		changed, _ := json.Marshal(record)
		record[field] = text
		if _, err := one.Open(t.Context(), changed); err == nil {
			t.Errorf("with its %s changed it opens", field)
		}
	}
	for _, bad := range []string{"", "{}", "null", `{"pcrs":[24]}`} {
		if _, err := one.Open(t.Context(), []byte(bad)); err == nil {
			t.Errorf("%q opens", bad)
		}
	}
}

func TestARootKeyBoundToRegistersOpensOnlyWhileTheyStay(t *testing.T) {
	s := tpm.Seal{Path: newTPM(t), PCRs: []uint{7, 14}}
	sealed, err := s.Seal(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	extend(t, s.Path, 15)
	if got, err := (tpm.Seal{Path: s.Path}).Open(t.Context(), sealed); err != nil || got != root {
		t.Fatalf("after another register changed: got %x, %v", got, err)
	}
	extend(t, s.Path, 14)
	if got, err := s.Open(t.Context(), sealed); !errors.Is(err, hsm.ErrRootSeal) || got != [32]byte{} {
		t.Errorf("after a register changed: got %x, %v; want ErrRootSeal", got, err)
	}
	var record map[string]any
	_ = json.Unmarshal(sealed, &record)
	delete(record, "pcrs") // the thief leaves the registers out
	changed, _ := json.Marshal(record)
	if _, err := s.Open(t.Context(), changed); !errors.Is(err, hsm.ErrRootSeal) {
		t.Errorf("with the registers left out: got %v, want ErrRootSeal", err)
	}
}

// TestTheRootKeyCrossesTheBusEncrypted listens on the bus.
func TestTheRootKeyCrossesTheBusEncrypted(t *testing.T) {
	socket := newTPM(t)
	tap := filepath.Join(filepath.Dir(socket), "tap")
	ln, err := net.Listen("unix", tap)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var seen bytes.Buffer
	var relays sync.WaitGroup
	defer relays.Wait()
	defer ln.Close()
	relays.Go(func() { // Ends when the listener is closed.
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			up, err := net.Dial("unix", socket)
			if err != nil {
				_ = conn.Close()
				continue
			}
			var both sync.WaitGroup
			for _, way := range [][2]net.Conn{{conn, up}, {up, conn}} {
				both.Go(func() {
					defer way[1].Close()
					_, _ = io.Copy(way[1], io.TeeReader(way[0], writer(func(p []byte) {
						mu.Lock()
						defer mu.Unlock()
						seen.Write(p)
					})))
				})
			}
			both.Wait()
		}
	})
	for _, s := range []tpm.Seal{{Path: tap}, {Path: tap, PCRs: []uint{7}}} {
		sealed, err := s.Seal(t.Context(), root)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := s.Open(t.Context(), sealed); err != nil || got != root {
			t.Fatalf("got %x, %v", got, err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if seen.Len() < 1000 || bytes.Contains(seen.Bytes(), root[:8]) || bytes.Contains(seen.Bytes(), root[24:]) {
		t.Errorf("of %d bytes on the bus some are the root key, or the tap heard nothing", seen.Len())
	}
}

type writer func([]byte)

func (w writer) Write(p []byte) (int, error) { w(p); return len(p), nil }
