package vnettest

import (
	"bytes"
	"io"
	"os"
	"strings"
	"testing"

	"verdant/vnet"
)

// insideEnv tells a test binary that it runs as a supervisor of that driver.
const insideEnv = "VERDANT_VNETTEST_INSIDE"

// Inside runs body where the driver can be opened: for a kernel driver in this
// test binary started again in namespaces of its own, for just the test t. It
// skips, with the reason, where the driver does not work.
func Inside(t *testing.T, d vnet.Driver, body func(t *testing.T)) {
	t.Helper()
	if d == vnet.Loopback || os.Getenv(insideEnv) == string(d) {
		body(t)
		return
	}
	if inside := os.Getenv(insideEnv); inside != "" {
		t.Skipf("runs inside %s only", d)
	}
	found, err := vnet.Choose(t.Context(), string(d))
	if err != nil {
		t.Skip(err)
	}
	if len(found.Limits) > 0 {
		t.Logf("%s: %s", d, strings.Join(found.Limits, "; "))
	}
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"-test.run=^" + strings.ReplaceAll(t.Name(), "/", "$/^") + "$", "-test.v=true", "-test.count=1"}
	child, err := vnet.Reexec(t.Context(), vnet.ReexecConfig{
		Driver: d, Args: args, Env: append(os.Environ(), insideEnv+"="+string(d)),
		Stdout: writer, Stderr: writer,
	})
	_ = writer.Close()
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	_, _ = io.Copy(&said, reader)
	if err := child.Wait(); err != nil {
		t.Errorf("inside %s: %v\n%s", d, err, said.String())
	} else if !strings.Contains(said.String(), "--- PASS: "+t.Name()) {
		t.Errorf("inside %s the test did not run:\n%s", d, said.String())
	} else {
		t.Logf("inside %s:\n%s", d, said.String())
	}
}
