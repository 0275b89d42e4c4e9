package sqlstore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/ncruces/go-sqlite3"
)

var (
	key    = sha256.Sum256([]byte("test key"))
	schema = []string{`CREATE TABLE person (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)`}
)

func open(t *testing.T, path string, schema []string) *sql.DB {
	t.Helper()
	db, err := Open(t.Context(), path, key, schema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func files(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	contents := map[string][]byte{}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		contents[e.Name()] = data
	}
	return contents
}

func count(t *testing.T, db *sql.DB) (n int) {
	t.Helper()
	if err := db.QueryRow(`SELECT count(*) FROM person`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestNoFileOfADatabaseHoldsClearText(t *testing.T) {
	dir := t.TempDir()
	db := open(t, filepath.Join(dir, "a ?&#%41.db"), schema)
	if _, err := db.Exec(`INSERT INTO person (name) VALUES (?)`, "Gráinne Mhaol"); err != nil {
		t.Fatal(err)
	}
	found := files(t, dir)
	if len(found) != 3 {
		t.Errorf("got %d files, want the database, -wal and -shm", len(found))
	}
	for name, data := range found {
		for _, clear := range []string{"Mhaol", "CREATE TABLE", "SQLite format"} {
			if bytes.Contains(data, []byte(clear)) {
				t.Errorf("%s holds %q in clear", name, clear)
			}
		}
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != 0o600 {
			t.Errorf("%s: got mode %o, want 600", name, got)
		}
		if !strings.HasPrefix(name, "a ?&#%41.db") {
			t.Errorf("file %q is not named after the path", name)
		}
	}
}

func TestSchemaStatementsAreAppliedOnceAndInOrder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	db := open(t, path, schema)
	if _, err := db.Exec(`INSERT INTO person (name) VALUES ('a')`); err != nil {
		t.Fatal(err)
	}
	next := append(schema, `ALTER TABLE person ADD COLUMN born INTEGER`, `UPDATE person SET born = 1900`)
	for range 2 {
		db = open(t, path, next)
		var born int
		if err := db.QueryRow(`SELECT born FROM person`).Scan(&born); err != nil || born != 1900 {
			t.Fatalf("got %d, %v", born, err)
		}
		if _, err := db.Exec(`UPDATE person SET born = 1900`); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAFailingMigrationChangesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	open(t, path, schema)
	bad := append(schema, `CREATE TABLE second (id INTEGER)`, `CREATE TABLE oops (`)
	if _, err := Open(t.Context(), path, key, bad); err == nil || !strings.Contains(err.Error(), "version 3") {
		t.Fatalf("got %v, want the version that did not apply", err)
	}
	if _, err := open(t, path, schema).Exec(`SELECT * FROM second`); err == nil {
		t.Error("half of the migration was kept")
	}
}

// crashed returns a directory whose database was left as kill -9 leaves it:
// committed rows only in the write-ahead log.
func crashed(t *testing.T, schema []string) (dir string) {
	t.Helper()
	live := t.TempDir()
	db := open(t, filepath.Join(live, "a.db"), schema)
	if _, err := db.Exec(`INSERT INTO person (name) VALUES ('only in the log')`); err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	for name, data := range files(t, live) {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestARefusedDatabaseIsLeftAsItWas(t *testing.T) {
	newer := append(schema, `CREATE TABLE future (id INTEGER)`)
	for name, c := range map[string]struct {
		key    [32]byte
		schema []string
		want   error
	}{
		"a wrong key":             {sha256.Sum256([]byte("other")), newer, ErrKey},
		"a newer version":         {key, schema, ErrNewer},
		"a newer version than 0":  {key, nil, ErrNewer},
		"a zero key":              {[32]byte{}, newer, ErrKey},
		"a wrong key and version": {sha256.Sum256([]byte("other")), nil, ErrKey},
	} {
		t.Run(name, func(t *testing.T) {
			dir := crashed(t, newer)
			before := files(t, dir)
			if db, err := Open(t.Context(), filepath.Join(dir, "a.db"), c.key, c.schema); !errors.Is(err, c.want) {
				t.Fatalf("got %v, %v; want %v", db, err, c.want)
			}
			after := files(t, dir)
			for _, name := range []string{"a.db", "a.db-wal"} {
				if !bytes.Equal(before[name], after[name]) {
					t.Errorf("%s changed: %d bytes before, %d after", name, len(before[name]), len(after[name]))
				}
			}
			if got := count(t, open(t, filepath.Join(dir, "a.db"), newer)); got != 1 {
				t.Errorf("afterwards with the right key: got %d rows, want 1", got)
			}
		})
	}
}

func TestAFileThatIsNoDatabaseIsErrKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	if err := os.WriteFile(path, bytes.Repeat([]byte("not a database. "), 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), path, key, schema); !errors.Is(err, ErrKey) {
		t.Fatalf("got %v, want ErrKey", err)
	}
}

func TestConcurrentWritersWaitForEachOther(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	pools := []*sql.DB{open(t, path, schema), open(t, path, schema)}
	const writers, rows = 6, 20
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() {
			db := pools[w%len(pools)]
			for i := range rows {
				tx, err := db.BeginTx(context.Background(), nil)
				if err != nil {
					t.Error(err)
					return
				}
				var n int
				err = tx.QueryRow(`SELECT count(*) FROM person`).Scan(&n)
				if err == nil {
					_, err = tx.Exec(`INSERT INTO person (name) VALUES (?)`, fmt.Sprint(w, "-", i))
				}
				if err := errors.Join(err, tx.Commit()); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	if got := count(t, pools[0]); got != writers*rows {
		t.Errorf("got %d rows, want %d", got, writers*rows)
	}
}

func TestAFullDatabaseRefusesNewRowsAndKeepsTheOld(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "a.db"), schema)
	db.SetMaxOpenConns(1)
	if _, err := db.Exec(`PRAGMA max_page_count=12`); err != nil {
		t.Fatal(err)
	}
	written := 0
	var err error
	for ; err == nil && written < 100; written++ {
		_, err = db.Exec(`INSERT INTO person (name) VALUES (?)`, fmt.Sprint(written, strings.Repeat("x", 2000)))
	}
	if !Full(err) {
		t.Fatalf("got %v, want an error that Full recognises", err)
	}
	if got := count(t, db); got != written-1 {
		t.Errorf("got %d rows, want the %d acknowledged", got, written-1)
	}
}

func TestFullTellsADiskFullFromOtherErrors(t *testing.T) {
	if Full(nil) || Full(sqlite3.BUSY) || !Full(fmt.Errorf("x: %w", sqlite3.FULL)) {
		t.Error("Full does not tell")
	}
}
