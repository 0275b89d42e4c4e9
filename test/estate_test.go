// Package test holds the whole-estate tests: scripts against the real binary,
// stock clients over the wire, crash loops. Nothing imports it.
//
// With VERDANT_FULL=1 the suites run that need real parts or minutes; with
// VERDANT_REQUIRE_PARTS=1 a missing part is a failure instead of a skip.
package test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// binary is built once for all tests of the package.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "verdant-test-bin-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "verdant")
	out, err := exec.Command("go", "build", "-o", path, "verdant/cmd/verdant").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", err
	}
	return path, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if path, err := binary(); err == nil {
		_ = os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

func full(t *testing.T) {
	t.Helper()
	if os.Getenv("VERDANT_FULL") == "" {
		t.Skip("takes minutes or needs real parts; set VERDANT_FULL=1")
	}
}

// need skips the test if a program is not installed, or fails where parts are
// required.
func need(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err == nil {
		return path
	}
	if os.Getenv("VERDANT_REQUIRE_PARTS") != "" {
		t.Fatalf("%s is not installed and VERDANT_REQUIRE_PARTS is set", program)
	}
	t.Skipf("%s is not installed", program)
	return ""
}

// estateUnderTest is a running estate of the real binary.
type estateUnderTest struct {
	t       *testing.T
	binary  string
	dataDir string
	network string
	// varFile is its terraform.tfvars; empty for none.
	varFile string
	// upOutput is what the last `verdant up` printed.
	upOutput string
}

// startEstate brings an estate up in a temporary directory and takes it down
// when the test ends, and then looks for what it left behind.
func startEstate(t *testing.T, network string) *estateUnderTest {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	e := &estateUnderTest{t: t, binary: path, dataDir: filepath.Join(t.TempDir(), "estate"), network: network}
	e.up()
	t.Cleanup(e.down)
	return e
}

func (e *estateUnderTest) up() {
	e.t.Helper()
	args := []string{"up", "--detach", "--network", e.network, "--ingress-addr", "127.0.0.1:0", "--jumpbox-addr", "127.0.0.1:0"}
	if e.varFile != "" {
		args = append(args, "--var-file", e.varFile)
	}
	out, err := e.try(args...)
	if err != nil {
		e.t.Fatalf("up: %v\n%s", err, out)
	}
	e.upOutput = out
}

func (e *estateUnderTest) down() {
	e.t.Helper()
	status, err := e.status()
	if err != nil {
		return // already stopped by the test
	}
	if out, err := e.try("down"); err != nil {
		e.t.Errorf("down: %v\n%s", err, out)
	}
	for _, pid := range status.pids() {
		waitGone(e.t, pid)
	}
}

// try runs a command of the binary on this estate and returns what it printed
// to both streams.
func (e *estateUnderTest) try(args ...string) (string, error) {
	stdout, stderr, err := e.run(nil, args...)
	return stdout + stderr, err
}

// must is try that fails the test; it returns standard output alone.
func (e *estateUnderTest) must(args ...string) string {
	e.t.Helper()
	stdout, stderr, err := e.run(nil, args...)
	if err != nil {
		e.t.Fatalf("verdant %s: %v\n%s%s", strings.Join(args, " "), err, stdout, stderr)
	}
	return stdout
}

func (e *estateUnderTest) run(stdin []byte, args ...string) (stdout, stderr string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	at := len(args)
	for i, a := range args {
		if a == "--" {
			at = i
			break
		}
	}
	full := append(append(append([]string{}, args[:at]...), "--data-dir", e.dataDir), args[at:]...)
	cmd := exec.CommandContext(ctx, e.binary, full...)
	var o, s bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &o, &s
	err = cmd.Run()
	return o.String(), s.String(), err
}

func exitCode(err error) int {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	if err != nil {
		return -1
	}
	return 0
}

// estateStatus is the part of `verdant status -o json` that tests read.
type estateStatus struct {
	Ready       bool
	PID, Parent int
	Network     string
	MemoryBytes int64
	Addresses   []struct{ Name, URL string }
	Pods        []struct {
		Name, Region, Address, State string
		PID                          int
	}
	PrivateEndpoints    []struct{ Region, Name, Address, State string }
	CustomerManagedKeys []struct{ Region, Key, State, Reason string }
	Rows                []struct{ Table, Region, Row, State, Detail string }
}

func (s estateStatus) pids() []int {
	pids := []int{s.Parent, s.PID}
	for _, p := range s.Pods {
		if p.PID != 0 {
			pids = append(pids, p.PID)
		}
	}
	return pids
}

func (e *estateUnderTest) status() (estateStatus, error) {
	var s estateStatus
	stdout, stderr, err := e.run(nil, "status", "-o", "json")
	if err != nil {
		return s, fmt.Errorf("%w: %s", err, stderr)
	}
	return s, json.Unmarshal([]byte(stdout), &s)
}

func (s estateStatus) address(name string) string {
	for _, a := range s.Addresses {
		if a.Name == name {
			return a.URL
		}
	}
	return ""
}

// waitGone waits until no process has the pid.
func waitGone(t *testing.T, pid int) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(raw), ") Z ") {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("process %d is still there: %s", pid, raw)
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// eventually tries until ok or the deadline.
func eventually(t *testing.T, within time.Duration, what string, ok func() (bool, string)) {
	t.Helper()
	deadline := time.Now().Add(within)
	for {
		done, detail := ok()
		if done {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %s: %s: %s", within, what, detail)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// plain runs a command that talks to no estate.
func (e *estateUnderTest) plain(args ...string) (stdout, stderr string, err error) {
	cmd := exec.Command(e.binary, args...)
	var o, s bytes.Buffer
	cmd.Stdout, cmd.Stderr = &o, &s
	err = cmd.Run()
	return o.String(), s.String(), err
}
