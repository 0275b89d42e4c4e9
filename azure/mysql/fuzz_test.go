package mysql

import (
	"bytes"
	"encoding/binary"
	"math"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// FuzzTranslate runs whatever the translation lets through against a real
// session: nothing may panic, leave the file, or reach what is SQLite's own.
func FuzzTranslate(f *testing.F) {
	for _, seed := range []string{
		"SELECT * FROM t WHERE id = 'a\\'b' AND n <=> ? -- x", "INSERT INTO t (id) VALUES (1), (X'00') ON DUPLICATE KEY UPDATE n = VALUES(n)",
		"CREATE TABLE u (id BIGINT NOT NULL AUTO_INCREMENT, s VARCHAR(10) DEFAULT 'x', PRIMARY KEY (id), KEY k (s(5))) ENGINE=InnoDB", "ALTER TABLE t ADD COLUMN c INT, DROP COLUMN n",
		"SET NAMES utf8mb4", "SET @@session.autocommit = 0", "SHOW TABLES LIKE '%'", "SELECT @@version, COUNT(*) FROM `d`.`t`", "SELECT CAST(1 AS CHAR(3)), 1/2||!0",
		"BEGIN", "ROLLBACK TO SAVEPOINT x", "SELECT [x]", "SELECT/*!1*/1", "SELECT 1;SELECT 2", "ATTACH 'x' AS y", "SELECT * FROM pragma_database_list", "\x00", "'", "`", "SELECT 'a' 'b'",
		"SELECT ((((((((((1))))))))))", "WITH x AS (SELECT 1) SELECT * FROM x FOR UPDATE", "SELECT 5--5", "SELECT 1 /* */*1", "SELECT CASE WHEN ? THEN 1 END AS `a``b`",
	} {
		f.Add(seed)
	}
	dir := f.TempDir()
	backend, err := newSQLite(dir, []string{"d"}, newGuard(), Limits{LockWait: time.Second, Memory: 16 << 20}.withDefaults(), time.Now)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, query string) {
		text := withoutLiterals(query)
		if len(text) > 2*maxSQLText+len(query) {
			t.Fatalf("the audit text of %d bytes has %d", len(query), len(text))
		}
		session, err := backend.Open(t.Context(), Identity{MayUse: func(string) bool { return true }}, "d")
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := session.Close(); err != nil {
				t.Error(err)
			}
		}()
		if st, err := session.Prepare(t.Context(), "CREATE TABLE IF NOT EXISTS t (id BIGINT PRIMARY KEY, n INT)"); err != nil {
			t.Fatal(err)
		} else if _, err := st.Run(t.Context(), nil, discard{}); err != nil {
			t.Fatal(err)
		}
		st, err := session.Prepare(t.Context(), query)
		if err != nil {
			return
		}
		defer func() { _ = st.Close() }()
		_, _ = st.Run(t.Context(), make([]Value, st.Params()), discard{})
		found, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil || len(found) > 3 {
			t.Errorf("%q made a file: %v", query, found)
		}
	})
}

type discard struct{}

func (discard) Columns([]Column) error { return nil }
func (discard) Row([]Value) error      { return nil }

// FuzzLexer: what the lexer takes apart covers the statement, and a string
// literal written as SQLite's has the value it was read with.
func FuzzLexer(f *testing.F) {
	f.Add("SELECT 'a''b\\n', \"x\", `y`, 0x41, b'1', 1.5e3, @a, @@b.c -- z")
	f.Add("/* */ # \n --\t")
	f.Fuzz(func(t *testing.T, query string) {
		tokens, err := lex(query)
		if err != nil {
			return
		}
		end := 0
		for _, tok := range tokens {
			if tok.at != end || tok.end <= tok.at {
				t.Fatalf("%q: token %+v does not begin at %d", query, tok, end)
			}
			end = tok.end
			if tok.kind != kindString || strings.ContainsRune(tok.text, 0) {
				continue
			}
			again, err := lex("'" + strings.NewReplacer(`\`, `\\`, "'", "''").Replace(tok.text) + "'")
			if err != nil || len(again) != 1 || again[0].text != tok.text {
				t.Fatalf("%q comes back as %+v, %v", tok.text, again, err)
			}
		}
	})
}

func FuzzParseLogin(f *testing.F) {
	caps := clientCaps | capConnectWithDB | capConnectAttrs
	f.Add(append(append(sslRequest(caps), "user\x00\x03abcdb\x00"...), "plugin\x00\x05\x01a\x02bb"...))
	f.Add(sslRequest(0xffffffff))
	f.Fuzz(func(t *testing.T, packet []byte) {
		l, err := parseLogin(packet)
		if err == nil && (l.caps&required != required || strings.ContainsAny(l.user+l.database, "\x00\n")) {
			t.Errorf("got %+v", l)
		}
	})
}

func FuzzReadParameters(f *testing.F) {
	packet := []byte{0, 1, 0x08, 0, 0xfd, 0}
	packet = binary.LittleEndian.AppendUint64(packet, 5)
	f.Add(2, append(packet, 2, 'h', 'i'))
	f.Add(1, []byte{0, 1, 0x0c, 0, 11, 0xe5, 7, 7, 1, 12, 0, 0, 1, 0, 0, 0})
	f.Add(1, []byte{0, 1, 0x0b, 0, 12, 1, 1, 0, 0, 0, 12, 0, 0, 1, 0, 0, 0})
	f.Fuzz(func(t *testing.T, n int, packet []byte) {
		if n < 0 || n > 65535 {
			return
		}
		var known []parameterType
		args, err := readParameters(&reader{b: packet}, n, &known, nil)
		if err == nil && len(args) != n {
			t.Errorf("%d arguments for %d placeholders", len(args), n)
		}
	})
}

func TestLengthEncodedNumbersComeBack(t *testing.T) {
	for _, n := range []uint64{0, 250, 251, 252, 65535, 65536, 1<<24 - 1, 1 << 24, math.MaxUint64} {
		r := &reader{b: appendLenenc(nil, n)}
		if got := r.lenenc(); got != n || r.bad || len(r.b) != 0 {
			t.Errorf("%d: got %d, bad %t, %d bytes left", n, got, r.bad, len(r.b))
		}
	}
	for _, b := range [][]byte{{}, {0xfb}, {0xff}, {0xfc, 1}, {0xfd, 1, 2}, {0xfe, 1}} {
		r := &reader{b: b}
		if r.lenenc(); !r.bad {
			t.Errorf("%x was accepted", b)
		}
	}
}

func TestAPacketOfExactlyAFullFrameIsFollowedByAnEmptyOne(t *testing.T) {
	for _, size := range []int{maxFrame - 1, maxFrame, maxFrame + 1} {
		var wire bytes.Buffer
		p := newPacketConn(nopConn{})
		p.w.Reset(&wire)
		if err := p.write(make([]byte, size)); err != nil || p.flush() != nil {
			t.Fatal(err)
		}
		frames := 1 + size/maxFrame
		if got := wire.Len(); got != size+4*frames || int(p.seq) != frames {
			t.Errorf("%d bytes: got %d on the wire in %d frames, want %d frames", size, got, p.seq, frames)
		}
	}
}
