// Package sqlstore opens SQLite databases whose files are encrypted.
//
// It promises that every byte of a database on disk (main file and write-ahead
// log) is encrypted under the key given, that a commit which returned nil is
// durable (WAL with synchronous=FULL), that writers wait for each other rather
// than fail, and that the schema is brought to the version the caller knows by
// an ordered list of statements. It refuses, without touching the files, a
// database made by a newer version (ErrNewer) and one that the key does not
// open (ErrKey).
//
// The cipher is Adiantum over 4 KiB blocks, as the VFS of ncruces/go-sqlite3
// implements it: length-preserving and deterministic, so it hides contents but
// does not detect tampering or the replay of an older file, and somebody with
// two copies can tell which blocks changed. The write-ahead log's index (-shm)
// holds page numbers and checksums, no contents, and is not encrypted.
package sqlstore

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/driver"

	"verdant/internal/durable"
)

var (
	// ErrNewer is wrapped when a database was written by a newer version.
	ErrNewer = errors.New("database was written by a newer version")
	// ErrKey is wrapped when the key does not open the database. A damaged
	// first page looks the same.
	ErrKey = errors.New("key does not open the database (wrong key or damaged file)")
)

// BusyTimeout is how long a writer waits for another one before its statement
// fails.
const BusyTimeout = 30 * time.Second

// maxConns bounds the connections of one pool. Readers do not block each other
// or the one writer; more connections than this only cost memory.
const maxConns = 4

// Open opens the database at path, making it on first use with mode 0600, and
// applies those of schema's statements that it has not seen yet, all in one
// transaction. Statements are never changed or removed once released, only
// appended: the database's user_version counts them. The caller closes the DB.
func Open(ctx context.Context, path string, key [32]byte, schema []string) (*sql.DB, error) {
	if err := migrate(ctx, path, key, schema); err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	db, err := driver.Open(uri(path), func(c *sqlite3.Conn) error { return prepare(c, path, key) })
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	db.SetMaxOpenConns(maxConns)
	db.SetMaxIdleConns(2)
	db.SetConnMaxIdleTime(time.Minute)
	return db, nil
}

// OpenConn opens one connection to the database at path, making the file on
// first use. It is for callers that map their own sessions onto connections;
// everybody else uses Open. The connection is not safe for concurrent use and
// the caller closes it.
func OpenConn(ctx context.Context, path string, key [32]byte) (*sqlite3.Conn, error) {
	c, err := connect(ctx, path, key)
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	return c, nil
}

func connect(ctx context.Context, path string, key [32]byte) (*sqlite3.Conn, error) {
	if err := touch(path); err != nil {
		return nil, err
	}
	c, err := sqlite3.OpenContext(ctx, uri(path))
	if err != nil {
		return nil, err
	}
	if err := prepare(c, path, key); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// Full reports whether err says that the disk is full. The statement that got
// it changed nothing, and what was committed before is still there.
func Full(err error) bool {
	return errors.Is(err, sqlite3.FULL) || errors.Is(err, sqlite3.IOERR_SHMSIZE) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// uri names the database for SQLite, which knows %20 but not + for a space.
// The key is not in it: URI parameters stay readable for as long as the
// connection lives.
func uri(path string) string {
	register()
	query := url.Values{"vfs": {vfsName}, "modeof": {path}}.Encode()
	u := url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: strings.ReplaceAll(query, "+", "%20")}
	return u.String()
}

// touch makes the file with the right mode where it does not exist, and its
// directory entry durable. The write-ahead log takes its mode from the
// database (modeof above), the log's index would not.
func touch(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(path))
}

// prepare gives a fresh connection its key, proves that the key is right and
// sets the pragmas of the promises above. Until the key has been proved, the
// connection may not check-point on close: with a wrong key SQLite takes the
// write-ahead log for an empty one and would delete committed data with it.
func prepare(c *sqlite3.Conn, path string, key [32]byte) error {
	if err := touch(path + "-shm"); err != nil {
		return err
	}
	if _, err := c.Config(sqlite3.DBCONFIG_NO_CKPT_ON_CLOSE, true); err != nil {
		return err
	}
	if err := c.BusyTimeout(BusyTimeout); err != nil {
		return err
	}
	if err := c.Exec(`PRAGMA hexkey='` + hex.EncodeToString(key[:]) + `'`); err != nil {
		return fmt.Errorf("set the key: %w", errors.Join(ErrKey, err))
	}
	if err := c.Exec(`SELECT count(*) FROM sqlite_schema`); err != nil {
		if errors.Is(err, sqlite3.NOTADB) || errors.Is(err, sqlite3.CORRUPT) {
			return fmt.Errorf("%w: %w", ErrKey, err)
		}
		return err
	}
	// cache_size bounds the page cache of a connection to 512 KiB; temporary
	// tables and sorts stay in memory, never in a file.
	if err := c.Exec(`PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA temp_store=MEMORY;
		PRAGMA cache_size=-512; PRAGMA foreign_keys=ON; PRAGMA trusted_schema=OFF;`); err != nil {
		return err
	}
	_, err := c.Config(sqlite3.DBCONFIG_NO_CKPT_ON_CLOSE, false)
	return err
}

// migrate looks at the version first and in a way that leaves a newer
// database's files as they are.
func migrate(ctx context.Context, path string, key [32]byte, schema []string) (err error) {
	c, err := connect(ctx, path, key)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	c.SetInterrupt(ctx)
	version, err := userVersion(c)
	if err != nil || version == len(schema) {
		return err
	}
	if version > len(schema) {
		if _, err := c.Config(sqlite3.DBCONFIG_NO_CKPT_ON_CLOSE, true); err != nil {
			return err
		}
		return fmt.Errorf("%w: its schema is version %d, this program knows %d", ErrNewer, version, len(schema))
	}
	if err := c.Exec(`BEGIN IMMEDIATE`); err != nil {
		return err
	}
	if err := apply(c, schema); err != nil {
		c.SetInterrupt(context.Background())
		return errors.Join(err, c.Exec(`ROLLBACK`))
	}
	return c.Exec(`COMMIT`)
}

// apply runs inside the write transaction and reads the version again: another
// process may have migrated between the look and the lock.
func apply(c *sqlite3.Conn, schema []string) error {
	version, err := userVersion(c)
	if err != nil {
		return err
	}
	for i := version; i < len(schema); i++ {
		if err := c.Exec(schema[i]); err != nil {
			return fmt.Errorf("migrate the schema to version %d: %w", i+1, err)
		}
	}
	return c.Exec(`PRAGMA user_version=` + strconv.Itoa(max(version, len(schema))))
}

func userVersion(c *sqlite3.Conn) (int, error) {
	s, _, err := c.Prepare(`PRAGMA user_version`)
	if err != nil {
		return 0, err
	}
	defer s.Close()
	s.Step()
	version := s.ColumnInt(0)
	return version, s.Err()
}
