package mysql

import (
	"bytes"
	"context"
	"crypto/tls"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"verdant/cmk"
	"verdant/internal/conninfo"
	"verdant/internal/telemetry"
)

func TestWhoMayLogIn(t *testing.T) {
	f := newFixture(t)
	for name, c := range map[string]struct {
		user, objectID, database string
		claims                   func(map[string]any)
		password                 string
		want                     uint16
		says                     string
	}{
		"the account's own token":              {user: "issuance", objectID: issuanceID, database: "issuance-service"},
		"without a database":                   {user: "issuance", objectID: issuanceID},
		"an administrator, any database":       {user: "mysql-aadadmin", objectID: adminID, database: "verifier-service"},
		"another principal's token":            {user: "issuance", objectID: verifierID, want: 1045, says: "not that of the account's principal"},
		"an administrator's token for another": {user: "issuance", objectID: adminID, want: 1045, says: "principal"},
		"an account that does not exist":       {user: "nobody", objectID: issuanceID, want: 1045, says: "not that of the account's principal"},
		"an account in another case":           {user: "Issuance", objectID: issuanceID, want: 1045, says: "principal"},
		"another account's database":           {user: "issuance", objectID: issuanceID, database: "verifier-service", want: 1044},
		"a database that does not exist":       {user: "issuance", objectID: issuanceID, database: "nope", want: 1044},
		"the same, for an administrator":       {user: "mysql-aadadmin", objectID: adminID, database: "nope", want: 1049},
		"an expired token":                     {user: "issuance", objectID: issuanceID, claims: func(c map[string]any) { c["exp"] = time.Now().Unix() - 3600 }, want: 1045, says: "expired"},
		"a token for another service":          {user: "issuance", objectID: issuanceID, claims: func(c map[string]any) { c["aud"] = "https://vault.azure.net" }, want: 1045, says: "audience"},
		"a token of another issuer":            {user: "issuance", objectID: issuanceID, claims: func(c map[string]any) { c["iss"] = "https://evil/" }, want: 1045, says: "issuer"},
		"a password that is no token":          {user: "issuance", password: "mysql-pw", want: 1045, says: "not a JWT"},
		"a forged signature":                   {user: "issuance", password: "tampered", want: 1045, says: "signature"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := f.dsn(c.user, c.objectID, c.database)
			switch c.password {
			case "":
				cfg.Passwd = f.token(c.objectID, c.claims)
			case "tampered":
				token := f.token(issuanceID, nil)
				cfg.Passwd = token[:len(token)-4] + "AAAA"
			default:
				cfg.Passwd = c.password
			}
			err := f.openDSN(cfg).Ping()
			if code(err) != c.want || c.want == 0 && err != nil {
				t.Fatalf("got %v, want error %d", err, c.want)
			}
			if err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %q does not say %q", err, c.says)
			}
			if err != nil && cfg.Passwd != "" && strings.Contains(err.Error(), cfg.Passwd) {
				t.Error("the error repeats the password")
			}
		})
	}
}

func TestAVerifierForAnotherAudienceLetsNobodyIn(t *testing.T) {
	f := newFixture(t, func(_ *Config, d *Deps) { d.Verifier = wrongAudience{d.Verifier} })
	if err := f.openDSN(f.dsn("issuance", issuanceID, "")).Ping(); code(err) != 1045 {
		t.Errorf("got %v, want 1045", err)
	}
}

func TestOnlyAPrivateEndpointLeadsToTheServer(t *testing.T) {
	f := newFixture(t)
	for _, kind := range []conninfo.Kind{"", conninfo.VNet, conninfo.Public, conninfo.Ingress} {
		cfg := f.dsn("issuance", issuanceID, "")
		cfg.Addr = f.listen(kind)
		if err := f.openDSN(cfg).Ping(); code(err) != 1130 {
			t.Errorf("%q: got %v, want 1130", kind, err)
		}
	}
}

// TestATokenNeverCrossesTheWireInClear records every byte of a client that
// does not use TLS.
func TestATokenNeverCrossesTheWireInClear(t *testing.T) {
	f := newFixture(t)
	cfg := f.dsn("issuance", issuanceID, "")
	cfg.TLS = nil
	var sent recorder
	cfg.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, addr)
		sent.Conn = c
		return &sent, err
	}
	err := f.openDSN(cfg).Ping()
	if code(err) != 3159 || !strings.Contains(err.Error(), "TLS") {
		t.Errorf("got %v, want 3159", err)
	}
	if sent.Len() == 0 || strings.Contains(sent.String(), cfg.Passwd[:20]) {
		t.Errorf("of %d bytes sent in clear, the token is part", sent.Len())
	}
}

type recorder struct {
	net.Conn
	bytes.Buffer
}

func (r *recorder) Write(b []byte) (int, error) { r.Buffer.Write(b); return r.Conn.Write(b) }
func (r *recorder) Read(b []byte) (int, error)  { return r.Conn.Read(b) }

func TestWhenTheKeyIsRefusedConnectionsDieAndNewOnesSayWhy(t *testing.T) {
	f := newFixture(t)
	db := f.open()
	mustExec(t, db, "CREATE TABLE t (id BIGINT PRIMARY KEY)")
	mustExec(t, db, "INSERT INTO t VALUES (1)")
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	mustExec(t, tx, "INSERT INTO t VALUES (2)")
	f.guard.set(cmk.State{Refused: true, Reason: "the vault refused: unwrap with key https://kv.vault.azure.net/keys/mysql-encryption-key/1: 403 Forbidden (ForbiddenByRbac)"})
	eventually(t, "every session is cut", func() bool { return f.Sessions() == 0 })
	if err := tx.Commit(); err == nil {
		t.Error("a transaction was committed after the key was refused")
	}
	err = db.Ping()
	if code(err) != 3185 || !strings.Contains(err.Error(), "mysql-encryption-key") || !strings.Contains(err.Error(), "ForbiddenByRbac") {
		t.Errorf("got %v, want 3185 naming the key and the reason", err)
	}
	f.guard.set(cmk.State{Available: true})
	var n int
	if err := db.QueryRow("SELECT COUNT(*) FROM t").Scan(&n); err != nil || n != 1 {
		t.Errorf("after recovery: got %d, %v; want the one committed row", n, err)
	}
}

func TestAStatementThatRunsTooLongIsInterruptedAndTheSessionGoesOn(t *testing.T) {
	f := newFixture(t, func(c *Config, _ *Deps) { c.Limits.Statement = 50 * time.Millisecond })
	db := f.open()
	db.SetMaxOpenConns(1)
	const endless = "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n) SELECT COUNT(*) FROM n"
	if _, err := db.Exec(endless); code(err) != 3024 {
		t.Errorf("got %v, want 3024", err)
	}
	if _, err := db.Exec("SELECT 1"); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestAStatementThatWantsTooMuchMemoryOrResultIsRefused(t *testing.T) {
	f := newFixture(t, func(c *Config, _ *Deps) { c.Limits.Memory, c.Limits.ResultRows = 4<<20, 100 })
	db := f.open()
	mustExec(t, db, "CREATE TABLE t (id BIGINT PRIMARY KEY)")
	x := func(c string) string { return strings.Repeat(c, 100) }
	greedy := fmt.Sprintf("SELECT LENGTH(REPLACE(REPLACE(REPLACE('%s', 'a', '%s'), 'b', '%s'), 'c', 'dddddddddd'))", x("a"), x("b"), x("c"))
	if _, err := db.Exec(greedy); code(err) != 1037 && code(err) != 1406 {
		t.Errorf("memory: got %v, want 1037 or 1406", err)
	}
	db = f.open() // running out of memory ended the other connection
	rows, err := db.Query("WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 101) SELECT i FROM n")
	if err == nil {
		for rows.Next() {
		}
		err = rows.Err()
		_ = rows.Close()
	}
	if code(err) != 1104 {
		t.Errorf("rows: got %v, want 1104", err)
	}
	mustExec(t, db, "INSERT INTO t VALUES (1)")
}

func TestTooManyConnectionsAreRefusedByName(t *testing.T) {
	f := newFixture(t, func(c *Config, _ *Deps) { c.Limits.Connections, c.Limits.AccountConnections = 3, 2 })
	hold := func(user, id string) error {
		c, err := f.openDSN(f.dsn(user, id, "")).Conn(t.Context())
		if err == nil {
			t.Cleanup(func() { _ = c.Close() })
		}
		return err
	}
	for i, want := range []uint16{0, 0, 1203} {
		if err := hold("issuance", issuanceID); code(err) != want {
			t.Errorf("connection %d of the account: got %v, want %d", i+1, err, want)
		}
	}
	eventually(t, "the refused one has left", func() bool { return f.Sessions() == 2 })
	for i, want := range []uint16{0, 1040} {
		if err := hold("verifier", verifierID); code(err) != want {
			t.Errorf("connection %d of all: got %v, want %d", i+3, err, want)
		}
	}
}

func TestPacketsOverTheLimitAreRefused(t *testing.T) {
	f := newFixture(t)
	cfg := f.dsn("issuance", issuanceID, "issuance-service")
	cfg.InterpolateParams, cfg.MaxAllowedPacket = true, 64<<20
	db := f.openDSN(cfg)
	for _, size := range []int{maxPacket, maxFrame, 20 << 20, 2*maxFrame - len("\x03SELECT LENGTH('') AS n")} {
		_, err := db.Exec("SELECT LENGTH(?) AS n", strings.Repeat("x", size))
		if code(err) != 1153 {
			t.Errorf("%d bytes: got %v, want 1153", size, err)
		}
	}
	var n int
	if err := db.QueryRow("SELECT LENGTH(?) AS n", strings.Repeat("x", 8<<20)).Scan(&n); err != nil || n != 8<<20 {
		t.Errorf("8 MiB: got %d, %v", n, err)
	}
}

func TestALargeValueGoesInAndOutThroughAPreparedStatement(t *testing.T) {
	f := newFixture(t)
	db := f.open()
	mustExec(t, db, "CREATE TABLE t (id BIGINT PRIMARY KEY, a LONGBLOB, b LONGBLOB)")
	a, b := bytes.Repeat([]byte{0xff, 1}, 3<<20), bytes.Repeat([]byte("text"), 2<<20)
	mustExec(t, db, "INSERT INTO t VALUES (?, ?, ?)", 1, a, b[:1<<20])
	mustExec(t, db, "UPDATE t SET b = ? WHERE id = ?", b, 1)
	var gotA, gotB []byte
	if err := db.QueryRow("SELECT a, b FROM t WHERE id = ?", 1).Scan(&gotA, &gotB); err != nil || !bytes.Equal(a, gotA) || !bytes.Equal(b, gotB) {
		t.Errorf("got %d and %d bytes, %v", len(gotA), len(gotB), err)
	}
}

// raw is a client that the test drives packet by packet.
type raw struct {
	*packetConn
	t testing.TB
}

func (f *fixture) raw() *raw {
	f.t.Helper()
	c, err := net.Dial("tcp", f.addr)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	r := &raw{newPacketConn(c), f.t}
	if greeting := r.receive(); greeting[0] != 10 || bytes.Contains(greeting, []byte(clearPlugin)) {
		f.t.Fatalf("greeting %q", greeting)
	}
	return r
}

func (r *raw) receive() []byte {
	r.t.Helper()
	b, err := r.read()
	if err != nil {
		r.t.Fatal(err)
	}
	return b
}

func (r *raw) send(b []byte) {
	r.t.Helper()
	if err := errors.Join(r.write(b), r.flush()); err != nil {
		r.t.Fatal(err)
	}
}

func sslRequest(caps uint32) []byte {
	return append(binary.LittleEndian.AppendUint32(nil, caps), make([]byte, 28)...)
}

const clientCaps = uint32(required | capPluginLenenc | capTransactions)

// logIn brings a raw client to the command phase.
func (f *fixture) logIn() *raw {
	f.t.Helper()
	r := f.raw()
	r.send(sslRequest(clientCaps))
	secure := tls.Client(r.conn, &tls.Config{RootCAs: f.roots, ServerName: serverName})
	r.startTLS(secure)
	r.send(append(append(sslRequest(clientCaps), "issuance\x00\x00"...), greetingPlugin+"\x00"...))
	if b := r.receive(); b[0] != 0xfe || string(b[1:]) != clearPlugin+"\x00" {
		f.t.Fatalf("got %q, want the switch to %s", b, clearPlugin)
	}
	r.send([]byte(f.token(issuanceID, nil) + "\x00"))
	if b := r.receive(); b[0] != 0 {
		f.t.Fatalf("login: got %q", b)
	}
	return r
}

func errorNumber(b []byte) uint16 {
	if len(b) < 3 || b[0] != 0xff {
		return 0
	}
	return binary.LittleEndian.Uint16(b[1:])
}

func TestAHandshakeOutOfOrderIsRefused(t *testing.T) {
	f := newFixture(t)
	for name, c := range map[string]struct {
		first []byte
		want  uint16
	}{
		"the old protocol":           {sslRequest(capSSL), 1251},
		"no TLS":                     {append(sslRequest(clientCaps&^capSSL), "u\x00\x00"...), 3159},
		"the login with the request": {append(sslRequest(clientCaps), "issuance\x00\x00"...), 3159},
		"too short":                  {[]byte{1}, 1251},
		"a large packet":             {make([]byte, maxHandshake+1), 1153},
	} {
		t.Run(name, func(t *testing.T) {
			r := f.raw()
			_ = errors.Join(r.write(c.first), r.flush()) // the server may have hung up on the large one
			b, err := r.read()
			if err == nil && errorNumber(b) != c.want {
				t.Errorf("got %q, want error %d", b, c.want)
			}
			if _, err := r.read(); err == nil {
				t.Error("the connection goes on")
			}
		})
	}
	t.Run("a sequence number that is skipped", func(t *testing.T) {
		r := f.raw()
		r.seq++
		r.send(sslRequest(clientCaps))
		r.seq = 1
		if b := r.receive(); errorNumber(b) != 1156 {
			t.Errorf("got %q, want 1156", b)
		}
	})
	t.Run("commands in clear behind the TLS request", func(t *testing.T) {
		r := f.raw()
		_ = r.write(sslRequest(clientCaps))
		_ = r.write(append(append(sslRequest(clientCaps), "issuance\x00\x00"...), greetingPlugin+"\x00"...))
		_ = r.flush()
		answer, _ := io.ReadAll(r.conn)
		if bytes.Contains(answer, []byte(clearPlugin)) {
			t.Error("a login in clear was taken for one inside TLS")
		}
	})
}

func TestCommandsThatAreNotOffered(t *testing.T) {
	f := newFixture(t)
	for name, c := range map[string]struct {
		body []byte
		want uint16
		ends bool
	}{
		"COM_CHANGE_USER":            {[]byte("\x11issuance\x00"), 1235, true},
		"COM_BINLOG_DUMP":            {[]byte{0x12, 0, 0, 0, 0}, 1047, false},
		"COM_PROCESS_KILL":           {[]byte{0x0c, 1, 0, 0, 0}, 1047, false},
		"COM_SHUTDOWN":               {[]byte{0x08}, 1047, false},
		"several statements":         {[]byte{0x1b, 0, 0}, 1235, false},
		"a statement unknown":        {[]byte{0x17, 9, 0, 0, 0, 0, 1, 0, 0, 0}, 1243, false},
		"a truncated execution":      {[]byte{0x17, 9}, 1243, false},
		"LOCAL INFILE":               {[]byte("\x03LOAD DATA LOCAL INFILE '/etc/passwd' INTO TABLE t"), 1235, false},
		"a placeholder in COM_QUERY": {[]byte("\x03SELECT ?"), 1064, false},
		"a database of another":      {[]byte("\x02verifier-service"), 1044, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := f.logIn()
			r.seq = 0
			r.send(c.body)
			if b := r.receive(); errorNumber(b) != c.want {
				t.Fatalf("got %q, want error %d", b, c.want)
			}
			r.seq = 0
			if c.ends {
				if _, err := r.read(); err == nil {
					t.Error("the connection goes on")
				}
				return
			}
			r.send([]byte{comPing})
			if b := r.receive(); b[0] != 0 {
				t.Errorf("ping afterwards: got %q", b)
			}
		})
	}
}

func TestAnIdleClientIsToldWhyItIsCutOff(t *testing.T) {
	f := newFixture(t, func(c *Config, _ *Deps) {
		c.Limits.Idle, c.Limits.TransactionIdle = 20*time.Millisecond, 20*time.Millisecond
	})
	r := f.logIn()
	r.seq = 0
	if b := r.receive(); errorNumber(b) != 4031 {
		t.Errorf("got %q, want 4031", b)
	}
}

func TestTheAuditLogHasEveryLoginAndStatementAndNoLiteral(t *testing.T) {
	f := newFixture(t)
	db := f.open()
	mustExec(t, db, "CREATE TABLE person (id BIGINT PRIMARY KEY, name VARCHAR(50))")
	mustExec(t, db, "INSERT INTO person VALUES (17, 'Gráinne Mhaol')")
	mustExec(t, db, "INSERT INTO person VALUES (?, ?)", 18, "Medb")
	_, _ = db.Exec("INSERT INTO person VALUES (17, 'Gráinne Mhaol'")
	_, _ = db.Exec("SELECT 'Mhaol")
	_ = f.openDSN(f.dsn("issuance", verifierID, "")).Ping()
	want := map[string]bool{
		"connection_log CONNECT issuance 0":                                              true,
		"connection_log FAILED CONNECT issuance 1045":                                    true,
		"general_log LOG INSERT INTO person VALUES (?, ?) 0":                             true,
		"general_log ERROR INSERT INTO person VALUES (?, ? 1064":                         true,
		"general_log ERROR SELECT  … (does not parse) 1064":                              true,
		"general_log LOG CREATE TABLE person (id BIGINT PRIMARY KEY, name VARCHAR(?)) 0": true,
	}
	eventually(t, "all rows are there", func() bool {
		got := map[string]bool{}
		for _, row := range f.sink.all() {
			text := row["SqlText"]
			if row["EventClass"] == "connection_log" {
				text = row["User"]
			}
			got[fmt.Sprintf("%s %s %s %d", row["EventClass"], row["EventSubclass"], text, row["ErrorCode"])] = true
		}
		for w := range want {
			if !got[w] {
				return false
			}
		}
		return true
	})
	for _, row := range f.sink.all() {
		line := fmt.Sprint(row)
		if strings.Contains(line, "Mhaol") || strings.Contains(line, "Medb") || strings.Contains(line, "17") && strings.Contains(fmt.Sprint(row["SqlText"]), "17") {
			t.Errorf("a literal is in the audit log: %s", line)
		}
		if row["_ResourceId"] == "" || row["TimeGenerated"] == nil || row["Ip"] != "127.0.0.1" {
			t.Errorf("incomplete row %v", row)
		}
	}
}

func TestTheDatabaseGoesOnWhileItsLogIsDownAndTheLogSaysWhatItMissed(t *testing.T) {
	sink := &memorySink{fail: errors.New("down")}
	a := newAuditLog("r", sink, time.Now)
	for range auditQueue + 5 {
		a.add(telemetry.Row{"EventClass": "general_log"})
	}
	sink.fail = nil
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() { a.run(ctx) })
	eventually(t, "the queue is handed over", func() bool { return len(sink.all()) == auditQueue+1 })
	cancel()
	done.Wait()
	if got := sink.all()[1]["SqlText"]; got != "5 records were lost while the log could not be reached" {
		t.Errorf("got %q", got)
	}
}

func TestConcurrentClientsNeverSeeABusyDatabase(t *testing.T) {
	f := newFixture(t)
	db := f.open()
	db.SetMaxOpenConns(8)
	mustExec(t, db, "CREATE TABLE counter (id BIGINT PRIMARY KEY, n BIGINT NOT NULL)")
	mustExec(t, db, "INSERT INTO counter VALUES (1, 0)")
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 10 {
				tx, err := db.Begin()
				if err != nil {
					t.Error(err)
					return
				}
				var n int
				err = tx.QueryRow("SELECT n FROM counter WHERE id = ?", 1).Scan(&n)
				if err == nil {
					_, err = tx.Exec("UPDATE counter SET n = ? WHERE id = 1", n+1)
				}
				if err := errors.Join(err, tx.Commit()); err != nil {
					t.Error(err)
				}
				if _, err := db.Exec("UPDATE counter SET n = n + 1 WHERE id = 1"); err != nil {
					t.Error(err)
				}
				if err := db.QueryRow("SELECT n FROM counter").Scan(&n); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	var n int
	if err := db.QueryRow("SELECT n FROM counter").Scan(&n); err != nil || n != 160 {
		t.Errorf("got %d, %v; want 160 (no update lost)", n, err)
	}
}

func TestAWriterThatIsBlockedForTooLongIsToldSo(t *testing.T) {
	f := newFixture(t, func(c *Config, _ *Deps) { c.Limits.LockWait = 10 * time.Millisecond })
	db := f.open()
	mustExec(t, db, "CREATE TABLE t (id BIGINT PRIMARY KEY)")
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("INSERT INTO t VALUES (1)"); code(err) != 1205 {
		t.Errorf("got %v, want 1205", err)
	}
	var n int
	if err := db.QueryRow("SELECT COUNT(*) FROM t").Scan(&n); err != nil {
		t.Errorf("a reader beside the writer: %v", err)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	mustExec(t, db, "INSERT INTO t VALUES (1)")
}

func TestATransactionThatTheServerUndidIsNeverAcknowledged(t *testing.T) {
	f := newFixture(t, func(c *Config, _ *Deps) { c.Limits.Statement = 50 * time.Millisecond })
	db := f.open()
	db.SetMaxOpenConns(1)
	mustExec(t, db, "CREATE TABLE t (id BIGINT PRIMARY KEY)")
	const endless = "INSERT INTO t WITH RECURSIVE n AS (SELECT 10 AS i UNION ALL SELECT i + 1 FROM n) SELECT i FROM n"
	doom := func() interface {
		Exec(string, ...any) (sql.Result, error)
		Commit() error
		Rollback() error
	} {
		tx, err := db.Begin()
		if err != nil {
			t.Fatal(err)
		}
		mustExec(t, tx, "INSERT INTO t VALUES (1)")
		if _, err := tx.Exec(endless); code(err) != 3024 {
			t.Fatalf("got %v, want 3024", err)
		}
		return tx
	}
	tx := doom()
	if _, err := tx.Exec("INSERT INTO t VALUES (2)"); code(err) != 1213 {
		t.Errorf("a statement: got %v, want 1213", err)
	}
	if err := tx.Commit(); code(err) != 1213 {
		t.Errorf("commit: got %v, want 1213", err)
	}
	if err := doom().Rollback(); err != nil {
		t.Errorf("rollback: %v", err)
	}
	var n int
	if err := db.QueryRow("SELECT COUNT(*) FROM t").Scan(&n); err != nil || n != 0 {
		t.Errorf("got %d rows, %v; want none", n, err)
	}
	mustExec(t, db, "INSERT INTO t VALUES (3)")
}

func TestAReadOnlyTransactionCannotWriteAndSeesOneSnapshot(t *testing.T) {
	f := newFixture(t)
	db := f.open()
	mustExec(t, db, "CREATE TABLE t (id BIGINT PRIMARY KEY)")
	tx, err := db.BeginTx(t.Context(), readOnly())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	count := func() (n int) {
		if err := tx.QueryRow("SELECT COUNT(*) FROM t").Scan(&n); err != nil {
			t.Error(err)
		}
		return n
	}
	before := count()
	mustExec(t, db, "INSERT INTO t VALUES (1)")
	if got := count(); got != before {
		t.Errorf("got %d, then %d", before, got)
	}
	if _, err := tx.Exec("INSERT INTO t VALUES (2)"); code(err) != 1792 {
		t.Errorf("got %v, want 1792", err)
	}
}
