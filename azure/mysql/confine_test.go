package mysql

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/ncruces/go-sqlite3"
)

// The two layers that keep a client away from what is SQLite's own are tested
// each by itself, since each hides a hole in the other.

func TestTheTranslationAloneRefusesSQLitesNames(t *testing.T) {
	for _, query := range []string{"SELECT * FROM sqlite_schema", "SELECT * FROM `SQLITE_master`", "SELECT name FROM t JOIN pragma_database_list", "SELECT vd_now()", "DROP TABLE sqlite_sequence",
		"SELECT 1 AS sqlite_x", "ATTACH 'x' AS y", "PRAGMA x", "SELECT load_extension('x')", "SELECT hex(readfile('x'))", "SELECT glob('*', 'x')", "SELECT typeof(1)"} {
		if p, err := translate(query, environment{database: "d"}); err == nil {
			t.Errorf("%s became %q", query, p.sql)
		}
	}
}

func TestTheAuthorizerAloneRefusesSQLitesMeans(t *testing.T) {
	backend, err := newSQLite(t.TempDir(), []string{"d"}, newGuard(), Limits{}.withDefaults(), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	opened, err := backend.Open(t.Context(), Identity{}, "d")
	if err != nil {
		t.Fatal(err)
	}
	s := opened.(*sqliteSession)
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := s.define(t.Context(), []string{"CREATE TABLE t (id INTEGER)"}); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(t.TempDir(), "other.db")
	for _, sql := range []string{"ATTACH '" + other + "' AS x", "DETACH main", "PRAGMA journal_mode=DELETE", "PRAGMA hexkey='00'", "PRAGMA writable_schema=1", "VACUUM INTO '" + other + "'",
		"SELECT * FROM sqlite_schema", "SELECT * FROM pragma_database_list", "DELETE FROM sqlite_schema", "SELECT load_extension('x')", "SELECT randomblob(1)", "SELECT sqlite_version()",
		"CREATE TABLE u (id INTEGER)", "CREATE TEMP TABLE u (id INTEGER)", "CREATE VIEW v AS SELECT 1", "CREATE TRIGGER x AFTER INSERT ON t BEGIN SELECT 1; END",
		"CREATE VIRTUAL TABLE v USING fts5(x)", "DROP TABLE t", "ALTER TABLE t ADD COLUMN x", "CREATE INDEX i ON t (id)", "ANALYZE"} {
		if err := s.conn.Exec(sql); err == nil {
			t.Errorf("%s was carried out", sql)
		} else if !errors.Is(err, sqlite3.AUTH) && !errors.Is(err, sqlite3.ERROR) {
			t.Errorf("%s: got %v, want a refusal", sql, err)
		}
	}
	if found, err := filepath.Glob(other + "*"); err != nil || len(found) > 0 {
		t.Errorf("a file was made: %v", found)
	}
	if err := s.conn.Exec("INSERT INTO t VALUES (1); SELECT count(*) FROM t"); err != nil {
		t.Errorf("what clients do: %v", err)
	}
}
