package test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestAFullDiskRefusesNewWritesAndKeepsTheOld issues certificates into a small
// file system of its own until that is full.
func TestAFullDiskRefusesNewWritesAndKeepsTheOld(t *testing.T) {
	full(t)
	if os.Getuid() != 0 {
		t.Skip("only root can mount a small file system")
	}
	unshare := need(t, "unshare")
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	// The mount lives in a mount namespace that ends with the estate. The
	// control socket is below it, so this test talks to the estate through
	// /proc/<pid>/root.
	mount := t.TempDir()
	script := `mount -t tmpfs -o size=40m,mode=0700 tmpfs "$1" && exec "$2" up --data-dir "$1/estate" --ingress-addr 127.0.0.1:0 --jumpbox-addr 127.0.0.1:0`
	up := exec.Command(unshare, "--mount", "--propagation", "private", "sh", "-c", script, "sh", mount, path)
	var output bytes.Buffer
	up.Stdout, up.Stderr = &output, &output
	if err := up.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- up.Wait() }()
	stopped := false
	stop := func() {
		if !stopped {
			stopped = true
			_ = up.Process.Signal(syscall.SIGTERM)
			if err := <-ended; err != nil {
				t.Errorf("the estate ended with %v:\n%s", err, output.String())
			}
		}
	}
	defer stop()
	root := filepath.Join("/proc", strconv.Itoa(up.Process.Pid), "root")
	e := &estateUnderTest{t: t, binary: path, dataDir: filepath.Join(root, mount, "estate"), network: "auto"}
	eventually(t, 30*time.Second, "the estate to be ready", func() (bool, string) {
		s, err := e.status()
		return err == nil && s.Ready, output.String()
	})
	record := filepath.Join(t.TempDir(), "acknowledged")
	refused := ""
	for deadline := time.Now().Add(3 * time.Minute); refused == "" && time.Now().Before(deadline); {
		out, err := e.try("bench", "issue", "--seconds", "20", "--record", record)
		if exitCode(err) != 0 {
			refused = out
		}
	}
	acknowledged := lines(t, record)
	if refused == "" || len(acknowledged) < 100 {
		t.Fatalf("the disk never filled: %d certificates", len(acknowledged))
	}
	t.Logf("after %d certificates: %s", len(acknowledged), strings.TrimSpace(refused))
	if missing := e.missing(t, acknowledged); len(missing) > 0 {
		t.Errorf("%d of %d acknowledged certificates are lost, for example %s", len(missing), len(acknowledged), missing[0])
	}
	if out, err := e.try("cert", "issue", "--file", examples(t)["vaccination"]); exitCode(err) != 1 || !strings.Contains(out, "no space left on device") {
		t.Errorf("issuing on a full disk: exit %d, %s", exitCode(err), out)
	}
	status, err := e.status()
	if err != nil {
		t.Fatal(err)
	}
	stop()
	for _, pid := range status.pids() {
		waitGone(t, pid)
	}
}
