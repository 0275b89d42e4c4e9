package dcc

import (
	"database/sql"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
)

// mariaDB starts a MariaDB of its own, reachable only by a socket in a
// temporary directory, and returns how to open a fresh database on it.
func mariaDB(t *testing.T) func(*testing.T, string) *sql.DB {
	t.Helper()
	server, err := exec.LookPath("mariadbd")
	if err != nil {
		t.Skip("mariadbd is not installed")
	}
	install, err := exec.LookPath("mariadb-install-db")
	if err != nil {
		t.Skip("mariadb-install-db is not installed")
	}
	dir, err := os.MkdirTemp("", "mdb") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	data, socket := filepath.Join(dir, "data"), filepath.Join(dir, "s")
	args := []string{"--no-defaults", "--datadir=" + data}
	if os.Geteuid() == 0 {
		args = append(args, "--user=root")
	}
	if out, err := exec.CommandContext(t.Context(), install, append(args, "--auth-root-authentication-method=normal", "--skip-test-db")...).CombinedOutput(); err != nil {
		t.Fatalf("mariadb-install-db: %v\n%s", err, out)
	}
	cmd := exec.Command(server, append(args, "--socket="+socket, "--pid-file="+filepath.Join(dir, "pid"), "--skip-networking", "--innodb-buffer-pool-size=16M")...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	open := func(name string) *sql.DB {
		cfg := mysql.NewConfig()
		cfg.Net, cfg.Addr, cfg.User, cfg.DBName = "unix", socket, "root", name
		cfg.Logger = &mysql.NopLogger{}
		connector, err := mysql.NewConnector(cfg)
		if err != nil {
			t.Fatal(err)
		}
		db := sql.OpenDB(connector)
		t.Cleanup(func() { _ = db.Close() })
		return db
	}
	root := open("")
	for deadline := time.Now().Add(30 * time.Second); root.PingContext(t.Context()) != nil; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("MariaDB does not come up")
		}
	}
	return func(t *testing.T, name string) *sql.DB {
		t.Helper()
		if _, err := root.ExecContext(t.Context(), "CREATE DATABASE `"+name+"`"); err != nil {
			t.Fatal(err)
		}
		return open(name)
	}
}

func TestTheServicesWorkOnMariaDB(t *testing.T) {
	exchange(t, newMember(t, mariaDB(t)))
}
