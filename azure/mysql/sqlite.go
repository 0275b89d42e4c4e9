package mysql

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/ncruces/go-sqlite3"

	"verdant/cmk"
	"verdant/internal/sqlstore"
)

// Guard is what the store needs of a *cmk.Guard.
type Guard interface {
	// Key returns the data key, or an error that wraps cmk.ErrInaccessible.
	Key() ([32]byte, error)
	// Watch returns the state and a channel closed at its next change.
	Watch() (cmk.State, <-chan struct{})
}

// sqliteBackend keeps each database in one encrypted SQLite file. A session
// has one SQLite connection, opened with the key that the guard has at that
// moment; nothing else keeps the key. Writers of a database queue for its one
// place, so SQLite's own lock is never contended.
type sqliteBackend struct {
	databases map[string]*sqliteDatabase
	names     []string
	guard     Guard
	now       func() time.Time
	limits    Limits
	system    map[string]Value // read only
}

type sqliteDatabase struct {
	path string
	// writer holds one token: who has it may write.
	writer chan struct{}
}

var databaseName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_-]{0,63}$`)

func newSQLite(dir string, names []string, guard Guard, limits Limits, now func() time.Time) (*sqliteBackend, error) {
	b := &sqliteBackend{databases: map[string]*sqliteDatabase{}, guard: guard, limits: limits, now: now, system: systemVariables()}
	for _, name := range names {
		if !databaseName.MatchString(name) {
			return nil, fmt.Errorf("database name %q: want 1 to 64 letters, digits, _ or -", name)
		}
		for other := range b.databases {
			if strings.EqualFold(other, name) {
				return nil, fmt.Errorf("database name %q is given twice", name)
			}
		}
		b.databases[name] = &sqliteDatabase{path: filepath.Join(dir, name+".db"), writer: make(chan struct{}, 1)}
		b.names = append(b.names, name)
	}
	return b, nil
}

func (b *sqliteBackend) Databases() []string { return b.names }

func (b *sqliteBackend) Open(ctx context.Context, who Identity, database string) (Session, error) {
	s := &sqliteSession{backend: b, who: who}
	s.forget()
	if database != "" {
		if err := s.Use(ctx, database); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// sqliteSession is one client's session.
type sqliteSession struct {
	backend *sqliteBackend
	who     Identity
	name    string // current database
	db      *sqliteDatabase
	conn    *sqlite3.Conn

	autocommit bool
	readOnly   bool // inside START TRANSACTION READ ONLY
	writing    bool // holds the database's writer token
	defining   bool // a translated CREATE, ALTER or DROP is running
	// doomed: SQLite undid the whole transaction because a statement in it
	// failed (interrupted, disk full, out of memory). The client still believes
	// in it, so nothing runs until it has heard and begun anew.
	doomed       bool
	variables    map[string]Value
	lastInsertID int64
	rowCount     int64
}

func (s *sqliteSession) Database() string { return s.name }

func (s *sqliteSession) forget() {
	s.autocommit, s.lastInsertID, s.rowCount = true, 0, -1
	s.variables = map[string]Value{}
}

// Use opens the database's file. The old one is closed first: a session never
// holds two.
func (s *sqliteSession) Use(ctx context.Context, name string) error {
	db := s.backend.databases[name]
	if db == nil {
		return errUnknownDatabase(name)
	}
	if s.conn != nil && s.db == db {
		return nil
	}
	if err := s.Close(); err != nil {
		return s.failed(err)
	}
	key, err := s.backend.guard.Key()
	if err != nil {
		return err
	}
	conn, err := sqlstore.OpenConn(ctx, db.path, key)
	clear(key[:])
	if err != nil {
		return s.failed(err)
	}
	s.conn, s.db, s.name = conn, db, name
	return s.confine()
}

// confine takes away from the connection what no statement needs. The
// translation lets nothing of it through; this holds where the translation
// errs.
func (s *sqliteSession) confine() error {
	c := s.conn
	for _, off := range []sqlite3.DBConfig{sqlite3.DBCONFIG_ENABLE_LOAD_EXTENSION, sqlite3.DBCONFIG_ENABLE_TRIGGER, sqlite3.DBCONFIG_ENABLE_VIEW,
		sqlite3.DBCONFIG_DQS_DDL, sqlite3.DBCONFIG_DQS_DML, sqlite3.DBCONFIG_WRITABLE_SCHEMA, sqlite3.DBCONFIG_TRUSTED_SCHEMA} {
		if _, err := c.Config(off, false); err != nil {
			return s.failed(err)
		}
	}
	if _, err := c.Config(sqlite3.DBCONFIG_DEFENSIVE, true); err != nil {
		return s.failed(err)
	}
	c.Limit(sqlite3.LIMIT_ATTACHED, 0)
	c.Limit(sqlite3.LIMIT_LENGTH, maxPacket+1)
	c.Limit(sqlite3.LIMIT_SQL_LENGTH, maxPacket+1)
	c.Limit(sqlite3.LIMIT_WORKER_THREADS, 0)
	c.HardHeapLimit(s.backend.limits.Memory)
	if err := s.register(); err != nil {
		return s.failed(err)
	}
	return s.failed(c.SetAuthorizer(s.authorize))
}

// authorize is SQLite's question, for each thing a statement would do, whether
// it may. Reading and changing tables may; the definition of tables and
// indexes only while a translated definition runs; files, settings, modules,
// triggers, views and temporary objects never.
func (s *sqliteSession) authorize(act sqlite3.AuthorizerActionCode, third, fourth, schema, _ string) sqlite3.AuthorizerReturnCode {
	allowed := false
	switch act {
	case sqlite3.AUTH_SELECT, sqlite3.AUTH_RECURSIVE, sqlite3.AUTH_TRANSACTION, sqlite3.AUTH_SAVEPOINT:
		allowed = true
	case sqlite3.AUTH_FUNCTION:
		allowed = s.defining || allowedFunctions[fourth]
	case sqlite3.AUTH_READ, sqlite3.AUTH_INSERT, sqlite3.AUTH_UPDATE, sqlite3.AUTH_DELETE:
		// The name is empty where a statement only counts a table's rows, and
		// a WITH table has no schema.
		allowed = s.defining || (schema == "main" || schema == "") && !strings.HasPrefix(strings.ToLower(third), "sqlite_")
	case sqlite3.AUTH_CREATE_TABLE, sqlite3.AUTH_CREATE_INDEX, sqlite3.AUTH_DROP_TABLE, sqlite3.AUTH_DROP_INDEX, sqlite3.AUTH_REINDEX:
		allowed = s.defining && schema == "main"
	case sqlite3.AUTH_ALTER_TABLE:
		allowed = s.defining && third == "main"
	case sqlite3.AUTH_PRAGMA: // ADD COLUMN checks the rows there are; SHOW COLUMNS
		allowed = s.defining && (third == "quick_check" || third == "integrity_check" || third == "table_info")
	}
	if allowed {
		return sqlite3.AUTH_OK
	}
	return sqlite3.AUTH_DENY
}

// allowedFunctions is read only.
var allowedFunctions = sqliteFunctions()

// Close rolls back and closes the file.
func (s *sqliteSession) Close() error {
	if s.conn == nil {
		return nil
	}
	db := s.db
	defer func() { // also where SQLite panics: the writers behind must go on
		if s.writing {
			<-db.writer
			s.writing = false
		}
	}()
	for stmt := range s.conn.Stmts() {
		_ = stmt.Reset()
	}
	err := s.rollback()
	var open []*sqlite3.Stmt
	for stmt := range s.conn.Stmts() {
		open = append(open, stmt)
	}
	for _, stmt := range open {
		err = errors.Join(err, stmt.Close())
	}
	err = errors.Join(err, s.conn.Close())
	s.conn, s.db, s.name = nil, nil, ""
	return err
}

// Reset is COM_RESET_CONNECTION.
func (s *sqliteSession) Reset(context.Context) error {
	err := s.rollback()
	s.forget()
	return s.failed(err)
}

// Status is the transaction state.
func (s *sqliteSession) Status() Status {
	var st Status
	if s.autocommit {
		st |= StatusAutocommit
	}
	if s.inTransaction() || s.doomed {
		st |= StatusInTransaction
		if s.readOnly {
			st |= StatusReadOnlyTransaction
		}
	}
	return st
}

func (s *sqliteSession) inTransaction() bool { return s.conn != nil && !s.conn.GetAutocommit() }

// acquire waits for the database's writer place.
func (s *sqliteSession) acquire(ctx context.Context) error {
	if s.writing {
		return nil
	}
	timer := time.NewTimer(s.backend.limits.LockWait)
	defer timer.Stop()
	select {
	case s.db.writer <- struct{}{}:
		s.writing = true
		return nil
	default:
	}
	select {
	case s.db.writer <- struct{}{}:
		s.writing = true
		return nil
	case <-timer.C:
		return errLockWait()
	case <-ctx.Done():
		return errInterrupted()
	}
}

func errDoomed() *Error {
	return errorf(1213, "40001", "The server undid this transaction when a statement in it failed; start the transaction again")
}

func errLockWait() *Error {
	return errorf(1205, "HY000", "Lock wait timeout exceeded; try restarting transaction")
}

func errInterrupted() *Error {
	return errorf(3024, "HY000", "Query execution was interrupted, maximum statement execution time exceeded")
}

func (s *sqliteSession) release() {
	if s.writing {
		<-s.db.writer
		s.writing = false
	}
}

// settle gives the writer place back where no transaction holds it any more.
func (s *sqliteSession) settle() {
	if !s.inTransaction() {
		s.release()
		s.readOnly = false
	}
}

// begin starts a transaction; the one before is committed first, as in MySQL.
// A transaction that may write takes the writer place at once: then it never
// fails half way because another one wrote first.
func (s *sqliteSession) begin(ctx context.Context, readOnly bool) error {
	if err := s.commit(); err != nil {
		return err
	}
	if readOnly {
		s.readOnly = true
		return s.failed(s.conn.Exec("BEGIN DEFERRED"))
	}
	if err := s.acquire(ctx); err != nil {
		return err
	}
	err := s.conn.Exec("BEGIN IMMEDIATE")
	s.settle()
	return s.failed(err)
}

// commit returns after the transaction is on disk. It is not interrupted: the
// client is told what happened, not that its time is over.
func (s *sqliteSession) commit() error {
	defer s.settle()
	if !s.inTransaction() {
		return nil
	}
	old := s.conn.SetInterrupt(context.Background())
	defer s.conn.SetInterrupt(old)
	if err := s.conn.Exec("COMMIT"); err != nil {
		return s.failed(errors.Join(err, s.rollback()))
	}
	return nil
}

func (s *sqliteSession) rollback() error {
	defer s.settle()
	s.doomed = false
	if !s.inTransaction() {
		return nil
	}
	old := s.conn.SetInterrupt(context.Background())
	defer s.conn.SetInterrupt(old)
	return s.conn.Exec("ROLLBACK")
}
