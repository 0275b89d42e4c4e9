// Package mariadbtest gives a test a MariaDB server of its own: in a temporary
// directory, reachable by a Unix socket only, gone when the test ends. A test
// on a machine without MariaDB is skipped.
package mariadbtest

import (
	"context"
	"database/sql"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
)

// User may do everything, without a password.
const User = "root"

// Server is a running server. It belongs to the test's goroutine.
type Server struct {
	// Socket is where it listens.
	Socket string

	t    testing.TB
	args []string
	cmd  *exec.Cmd
	root *sql.DB
}

// Start starts a server and ends it with the test.
func Start(t testing.TB) *Server {
	t.Helper()
	for _, program := range []string{"mariadbd", "mariadb-install-db"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not installed", program)
		}
	}
	dir, err := os.MkdirTemp("", "mdb") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := &Server{t: t, Socket: filepath.Join(dir, "s")}
	args := []string{"--no-defaults", "--datadir=" + filepath.Join(dir, "data")}
	if os.Geteuid() == 0 {
		args = append(args, "--user=root")
	}
	install := exec.Command("mariadb-install-db", append(args, "--auth-root-authentication-method=normal", "--skip-test-db")...)
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("mariadb-install-db: %v\n%s", err, out)
	}
	s.args = append(args, "--socket="+s.Socket, "--pid-file="+filepath.Join(dir, "pid"), "--skip-networking", "--innodb-buffer-pool-size=16M")
	s.root = s.Open("")
	s.start()
	t.Cleanup(func() {
		_ = s.cmd.Process.Signal(syscall.SIGTERM)
		_ = s.cmd.Wait()
	})
	return s
}

func (s *Server) start() {
	s.t.Helper()
	s.cmd = exec.Command("mariadbd", s.args...)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); s.root.PingContext(context.Background()) != nil; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatal("MariaDB does not come up")
		}
	}
}

// Crash kills the server and starts it again.
func (s *Server) Crash() {
	s.t.Helper()
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	s.start()
}

// Database makes a database and returns a pool of connections to it.
func (s *Server) Database(name string) *sql.DB {
	s.t.Helper()
	if _, err := s.root.ExecContext(context.Background(), "CREATE DATABASE `"+name+"`"); err != nil {
		s.t.Fatal(err)
	}
	return s.Open(name)
}

// Open returns a pool of connections to a database that is there, or to none.
func (s *Server) Open(name string) *sql.DB {
	s.t.Helper()
	cfg := mysql.NewConfig()
	cfg.Net, cfg.Addr, cfg.User, cfg.DBName = "unix", s.Socket, User, name
	cfg.Logger = &mysql.NopLogger{}
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	s.t.Cleanup(func() { _ = db.Close() })
	return db
}
