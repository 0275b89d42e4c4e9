package mysql

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"verdant/internal/conninfo"
)

const crashDir = "VERDANT_MYSQL_CRASH_DIR"

// TestMain turns a re-executed test binary into the server that is killed.
func TestMain(m *testing.M) {
	if os.Getenv(crashDir) == "" {
		os.Exit(m.Run())
	}
	if err := crashServer(); err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
}

// crashServer serves the directory on loopback until it is killed. It prints
// its address. The login is not what is tested: everybody is the principal.
func crashServer() error {
	f := &fixture{guard: newGuard(), sink: &memorySink{}}
	tlsConfig, err := selfSigned(f)
	if err != nil {
		return err
	}
	s, err := New(Config{Name: "crash", Databases: []string{"issuance-service"}, TLS: tlsConfig,
		Accounts: []Account{{Name: "issuance", ObjectID: issuanceID, Databases: []string{"issuance-service"}}}},
		Deps{Verifier: anybody{}, Guard: f.guard, Dir: os.Getenv(crashDir), Sink: f.sink, Now: time.Now})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println("ready", l.Addr())
	return s.Serve(context.Background(), endpointListener{l, conninfo.PrivateEndpoint})
}

// TestAnAcknowledgedCommitSurvivesKill kills the server with SIGKILL in the
// middle of transactions, ten times over the same files. A transaction is two
// rows: whatever was acknowledged is there afterwards, and never half of one.
func TestAnAcknowledgedCommitSurvivesKill(t *testing.T) {
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	acknowledged := 0
	for round := range 10 {
		cmd := exec.CommandContext(t.Context(), self)
		cmd.Env = append(os.Environ(), crashDir+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		line, _ := bufio.NewReader(out).ReadString('\n')
		addr, ok := strings.CutPrefix(strings.TrimSpace(line), "ready ")
		if !ok {
			t.Fatalf("round %d: the server says %q", round, line)
		}
		acknowledged = crashRound(t, addr, acknowledged, 5+7*round, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
	}
	if acknowledged < 100 {
		t.Errorf("only %d transactions were acknowledged: the test did not test", acknowledged)
	}
	if _, err := os.Stat(filepath.Join(dir, "issuance-service.db")); err != nil {
		t.Error(err)
	}
}

// crashRound checks what the last round acknowledged and then commits until
// the server is gone. It kills the server while a commit is under way.
func crashRound(t *testing.T, addr string, acknowledged, kill int, killNow func()) int {
	t.Helper()
	f := &fixture{t: t, addr: addr}
	cfg := insecureDSN(addr)
	db := f.openDSN(cfg)
	db.SetMaxOpenConns(1)
	mustExec(t, db, "CREATE TABLE IF NOT EXISTS t (id BIGINT NOT NULL, half INT NOT NULL, body LONGBLOB, PRIMARY KEY (id, half))")
	var rows, ids, last int
	if err := db.QueryRow("SELECT COUNT(*), COUNT(DISTINCT id), COALESCE(MAX(id), 0) FROM t").Scan(&rows, &ids, &last); err != nil {
		t.Fatal(err)
	}
	if rows != 2*ids || ids != last || last < acknowledged {
		t.Fatalf("%d rows of %d transactions, the last %d; %d were acknowledged", rows, ids, last, acknowledged)
	}
	for id := last + 1; ; id++ {
		tx, err := db.Begin()
		if err != nil {
			return id - 1
		}
		body := []byte(strings.Repeat(strconv.Itoa(id), 3000))
		for half := range 2 {
			if _, err = tx.Exec("INSERT INTO t VALUES (?, ?, ?)", id, half, body); err != nil {
				return id - 1
			}
		}
		if id == last+kill {
			go killNow()
		}
		if err := tx.Commit(); err != nil {
			return id - 1
		}
	}
}
