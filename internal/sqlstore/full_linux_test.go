package sqlstore

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

const fullDir = "VERDANT_SQLSTORE_FULL_DIR"

// TestAFullDiskRefusesNewRowsAndKeepsTheOld runs itself again in a user and
// mount namespace, on a file system of half a megabyte.
func TestAFullDiskRefusesNewRowsAndKeepsTheOld(t *testing.T) {
	if dir := os.Getenv(fullDir); dir != "" {
		fillDisk(t, dir)
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), fullDir+"="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}, GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}}
	out, err := cmd.CombinedOutput()
	if err != nil && (strings.Contains(err.Error(), "fork/exec") || strings.Contains(string(out), "mount:")) {
		t.Skipf("this machine gives no namespace with a small file system: %v", err)
	}
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func fillDisk(t *testing.T, dir string) {
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=512k"); err != nil {
		t.Fatalf("mount: %v", err)
	}
	path := filepath.Join(dir, "a.db")
	db := open(t, path, schema)
	written := 0
	var err error
	for ; err == nil && written < 2000; written++ {
		_, err = db.Exec(`INSERT INTO person (name) VALUES (?)`, fmt.Sprint(written, strings.Repeat("x", 1000)))
	}
	if !Full(err) {
		t.Fatalf("after %d rows: got %v, want an error that Full recognises", written, err)
	}
	if got := count(t, db); got != written-1 {
		t.Errorf("got %d rows, want the %d acknowledged", got, written-1)
	}
	if err := db.Close(); err != nil {
		t.Logf("close on the full disk: %v", err)
	}
	again, err := Open(context.Background(), path, key, schema)
	if err != nil {
		t.Fatalf("open on the full disk: %v", err)
	}
	defer again.Close()
	if got := count(t, again); got != written-1 {
		t.Errorf("after opening again: got %d rows, want %d", got, written-1)
	}
}
