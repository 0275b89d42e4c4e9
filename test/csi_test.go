package test

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"verdant/azure/csi"
)

// TestTheProviderRunsBesideADriver starts `verdant csi-provider` as a node of a
// cluster would and asks it over its socket.
func TestTheProviderRunsBesideADriver(t *testing.T) {
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "csi") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	socket := filepath.Join(dir, "azure.sock")
	start := func(env ...string) (*exec.Cmd, *bufio.Scanner) {
		cmd := exec.Command(path, "csi-provider")
		cmd.Env = append([]string{"AZURE_AUTHORITY_HOST=https://login.verdant.localhost/"}, env...)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd, bufio.NewScanner(out)
	}
	if cmd, _ := start(); cmd.Wait() == nil {
		t.Error("without CSI_ENDPOINT: it ended well")
	}
	for round := range 2 { // the second finds the socket of the first, which was killed
		cmd, lines := start("CSI_ENDPOINT=" + socket)
		if !lines.Scan() || !strings.Contains(lines.Text(), "ready") {
			t.Fatalf("it said %q", lines.Text())
		}
		driver, err := csi.NewDriver(socket)
		if err != nil {
			t.Fatal(err)
		}
		_, err = driver.Mount(t.Context(), &csi.MountRequest{Attributes: `{"keyvaultName":"../x"}`})
		if err == nil || !strings.Contains(err.Error(), "InvalidArgument") || !strings.Contains(err.Error(), "keyvaultName") {
			t.Errorf("a class without a vault: got %v", err)
		}
		_ = driver.Close()
		end := syscall.SIGKILL
		if round == 1 {
			end = syscall.SIGTERM
		}
		if err := cmd.Process.Signal(end); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() {
			if !strings.Contains(lines.Text(), "mount refused") {
				t.Errorf("it said %q", lines.Text())
			}
		}
		if err := cmd.Wait(); round == 1 && err != nil {
			t.Errorf("asked to end: %v", err)
		}
	}
	if _, err := os.Stat(socket); err == nil {
		t.Error("the socket is still there")
	}
}
