package mysql

import (
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// command runs a client program against the fixture, with the token where the
// program looks for a password.
func (f *fixture) command(t *testing.T, stdin, name string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = append(os.Environ(), "MYSQL_PWD="+f.token(issuanceID, nil), "HOME="+t.TempDir())
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestTheMariaDBCommandLineWorks(t *testing.T) {
	path, err := exec.LookPath("mariadb")
	if err != nil {
		t.Skip("the mariadb command line is not installed (Debian: mariadb-client)")
	}
	f := newFixture(t)
	_, port, err := net.SplitHostPort(f.addr)
	if err != nil {
		t.Fatal(err)
	}
	base := []string{"--host=127.0.0.1", "--protocol=tcp", "--port=" + port, "--user=issuance", "--ssl-ca=" + f.caPEM, "--ssl-verify-server-cert"}
	script := `
		CREATE TABLE t (id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, name VARCHAR(40), made DATETIME(6) DEFAULT CURRENT_TIMESTAMP(6), body BLOB);
		INSERT INTO t (name, body) VALUES ('Gráinne "Mhaol"', x'00ff'), (NULL, '');
		START TRANSACTION; INSERT INTO t (name) VALUES ('undone'); ROLLBACK;
		SELECT id, name, HEX(body) FROM t ORDER BY id;
		SHOW TABLES; DESCRIBE t; SHOW DATABASES;
\s
`
	out, err := f.command(t, script, path, append(base, "--table", "issuance-service")...)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"| Gráinne \"Mhaol\"  | 00FF", "| HEX(body) |", "Threads: ", "NULL", "| t ", "issuance@127.0.0.1", "Cipher in use is", "8.0.36-verdant", "varchar(40)", "issuance-service"} {
		if !strings.Contains(out, want) {
			t.Errorf("the output lacks %q:\n%s", want, out)
		}
	}
	if strings.Contains(out, "undone") {
		t.Errorf("a rolled back row is in the output:\n%s", out)
	}
	// With the table and column names read for completion, and USE.
	out, err = f.command(t, "USE issuance-service\nSELECT COUNT(*) AS n FROM t;\nSELECT nope;\n", path, append(base, "--auto-rehash", "--force", "--batch")...)
	if !strings.Contains(out, "n\n2\n") || !strings.Contains(out, "ERROR 1054 (42S22)") {
		t.Errorf("%v\n%s", err, out)
	}
	out, err = f.command(t, "SELECT 1", path, append(base[:4:4], "--skip-ssl")...)
	if err == nil || !strings.Contains(out, "3159") && !strings.Contains(out, "insecure transport") {
		t.Errorf("without TLS: %v\n%s", err, out)
	}
}

const pymysqlScript = `
import os, sys, datetime, pymysql
port, ca = int(sys.argv[1]), sys.argv[2]
def connect(**more):
    return pymysql.connect(host="localhost", port=port, user="issuance", password=os.environ["MYSQL_PWD"], database="issuance-service", ssl_ca=ca, ssl_verify_cert=True, ssl_verify_identity=True, **more)
c = connect()
with c.cursor() as cur:
    cur.execute("CREATE TABLE t (id BIGINT PRIMARY KEY, name VARCHAR(40), body LONGBLOB, made DATETIME(6), score DOUBLE)")
    rows = [(1, "Gráinne 'Mhaol' \\ %s", b"\x00\xff\\'\"\n\x1a", datetime.datetime(2021, 7, 1, 12, 0, 0, 250000), 0.5), (2, None, b"", None, None)]
    cur.executemany("INSERT INTO t VALUES (%s, %s, %s, %s, %s)", rows)
    c.commit()
    cur.execute("INSERT INTO t (id) VALUES (3)")
    c.rollback()
    cur.execute("SELECT * FROM t ORDER BY id")
    got = list(cur.fetchall())
    assert got == rows, got
    d = connect()                       # autocommit is off in c: what it does not commit nobody sees
    cur.execute("UPDATE t SET score = score + 1")
    assert cur.rowcount == 2, cur.rowcount
    with d.cursor() as other:
        other.execute("SELECT score FROM t WHERE id = 1")
        assert other.fetchone() == (0.5,)
        c.commit()
        other.execute("SELECT score FROM t WHERE id = 1")
        assert other.fetchone() == (1.5,)
    for sql, number in (("INSERT INTO t (id) VALUES (1)", 1062), ("SELECT * FROM nope", 1146), ("SELEC", 1064)):
        try:
            cur.execute(sql)
        except pymysql.MySQLError as e:
            assert e.args[0] == number, e.args
        else:
            raise AssertionError(sql)
    c.ping()
    try:
        connect(local_infile=True).cursor().execute("LOAD DATA LOCAL INFILE '/etc/passwd' INTO TABLE t")
    except pymysql.MySQLError as e:
        assert e.args[0] == 1235, e.args
print("ok")
`

func TestPyMySQLWorks(t *testing.T) {
	path, err := exec.LookPath("python3")
	if err == nil {
		err = exec.CommandContext(t.Context(), path, "-c", "import pymysql").Run()
	}
	if err != nil {
		t.Skip("PyMySQL is not installed (pip install pymysql)")
	}
	f := newFixture(t)
	_, port, err := net.SplitHostPort(f.addr)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := f.command(t, pymysqlScript, path, "-", port, f.caPEM); err != nil || out != "ok\n" {
		t.Errorf("%v\n%s", err, out)
	}
}
