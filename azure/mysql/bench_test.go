package mysql

import (
	"strings"
	"testing"
)

// BenchmarkClient measures a whole client: stock driver, TLS, this server, the
// encrypted file, an fsync a commit.
func BenchmarkClient(b *testing.B) {
	f := newFixture(b)
	db := f.open()
	mustExec(b, db, "CREATE TABLE t (id BIGINT PRIMARY KEY, body LONGBLOB)")
	body := []byte(strings.Repeat("x", 500))
	insert, err := db.Prepare("INSERT INTO t VALUES (?, ?)")
	if err != nil {
		b.Fatal(err)
	}
	id := 0
	b.Run("insert and commit", func(b *testing.B) {
		for b.Loop() {
			id++
			if _, err := insert.Exec(id, body); err != nil {
				b.Fatal(err)
			}
		}
	})
	read, err := db.Prepare("SELECT body FROM t WHERE id = ?")
	if err != nil {
		b.Fatal(err)
	}
	b.Run("prepared point select", func(b *testing.B) {
		for b.Loop() {
			var got []byte
			if err := read.QueryRow(1).Scan(&got); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("select one row unprepared", func(b *testing.B) {
		for b.Loop() {
			var got []byte
			if err := db.QueryRow("SELECT body FROM t WHERE id = 1").Scan(&got); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("log in", func(b *testing.B) {
		for b.Loop() {
			one := f.openDSN(f.dsn("issuance", issuanceID, "issuance-service"))
			if err := one.Ping(); err != nil {
				b.Fatal(err)
			}
			_ = one.Close()
		}
	})
}
