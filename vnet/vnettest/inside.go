package vnettest

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"verdant/vnet"
)

// insideEnv tells a test binary that it runs as a supervisor of that driver.
const insideEnv = "VERDANT_VNETTEST_INSIDE"

// RequireEnv is set where the kernel drivers are known to work, as in CI: a
// driver that does not is then a failure. Without it a broken driver looks like
// a machine without namespaces, and its tests are skipped.
const RequireEnv = "VERDANT_REQUIRE_NAMESPACES"

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
	if err != nil && os.Getenv(RequireEnv) != "" && (d != vnet.Root || os.Geteuid() == 0) {
		t.Fatalf("%v; %s forbids to skip", err, RequireEnv)
	}
	if err != nil {
		t.Skip(err)
	}
	if len(found.Limits) > 0 {
		t.Logf("%s: %s", d, strings.Join(found.Limits, "; "))
	}
	name := "^" + strings.ReplaceAll(t.Name(), "/", "$/^") + "$"
	said := again(t, d, "-test.run="+name, "-test.v=true", "-test.count=1")
	if !strings.Contains(said, "--- PASS: "+t.Name()) {
		t.Errorf("inside %s the test did not run:\n%s", d, said)
	} else {
		t.Logf("inside %s:\n%s", d, said)
	}
}

// InsideBench is Inside for a benchmark; the figures are those that the inner
// run prints.
func InsideBench(b *testing.B, d vnet.Driver, body func(b *testing.B)) {
	b.Helper()
	if d == vnet.Loopback || os.Getenv(insideEnv) == string(d) {
		body(b)
		return
	}
	b.ReportMetric(0, "ns/op") // The outer run has no figure of its own,
	if b.N > 1 {
		return // and is made longer for nothing.
	}
	if _, err := vnet.Choose(b.Context(), string(d)); err != nil {
		b.Skip(err)
	}
	name := "^" + strings.ReplaceAll(b.Name(), "/", "$/^") + "$"
	said := again(b, d, "-test.run=^$", "-test.bench="+name,
		"-test.benchtime="+flag.Lookup("test.benchtime").Value.String())
	for line := range strings.Lines(said) {
		if strings.Contains(line, "ns/op") {
			fmt.Fprint(os.Stderr, line)
		}
	}
}

// again runs this test binary inside d and returns what it says.
func again(tb testing.TB, d vnet.Driver, args ...string) string {
	tb.Helper()
	reader, writer, err := os.Pipe()
	if err != nil {
		tb.Fatal(err)
	}
	child, err := vnet.Reexec(tb.Context(), vnet.ReexecConfig{
		Driver: d, Args: args, Env: append(os.Environ(), insideEnv+"="+string(d)),
		Stdout: writer, Stderr: writer,
	})
	_ = writer.Close()
	if err != nil {
		tb.Fatal(err)
	}
	var said bytes.Buffer
	_, _ = io.Copy(&said, reader)
	_ = reader.Close()
	if err := child.Wait(); err != nil {
		tb.Fatalf("inside %s: %v\n%s", d, err, said.String())
	}
	return said.String()
}
