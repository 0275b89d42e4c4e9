package keyvault

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"

	"verdant/hsm"
)

// Schema is the ordered list of statements that makes the tables of SQLStore
// in SQLite.
var Schema = []string{
	`CREATE TABLE kv_object (
		vault TEXT NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL,
		shown TEXT NOT NULL, state INTEGER NOT NULL, current TEXT NOT NULL,
		deleted_on INTEGER NOT NULL, purge_on INTEGER NOT NULL, meta BLOB,
		PRIMARY KEY (vault, kind, name))`,
	`CREATE INDEX kv_object_list ON kv_object (vault, kind, state, name)`,
	`CREATE INDEX kv_object_due ON kv_object (vault, state, purge_on)`,
	`CREATE TABLE kv_version (
		vault TEXT NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL, version TEXT NOT NULL,
		created INTEGER NOT NULL, data BLOB NOT NULL, value BLOB,
		PRIMARY KEY (vault, kind, name, version))`,
	`CREATE TABLE kv_doomed (vault TEXT NOT NULL, key_id TEXT NOT NULL, since INTEGER NOT NULL, PRIMARY KEY (vault, key_id))`,
	`CREATE TABLE kv_cursor (vault TEXT NOT NULL PRIMARY KEY, seq INTEGER NOT NULL)`,
	`CREATE TABLE kv_vault (vault TEXT NOT NULL PRIMARY KEY, revision INTEGER NOT NULL)`,
	`CREATE TABLE kv_change (
		vault TEXT NOT NULL, revision INTEGER NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL, tag BLOB NOT NULL,
		PRIMARY KEY (vault, revision, kind, name))`,
}

// SQLStore is a Store in a database that is durable on commit. It keeps its
// prepared statements for the life of the database. The statements are those
// that SQLite and MySQL have in common; what differs is in dialect.
type SQLStore struct {
	db      *sql.DB
	vault   string
	reader  string // under which the cursor is kept
	dialect dialect

	writing sync.Mutex // one transaction at a time; the databases have one writer a vault anyway
	mu      sync.Mutex
	stmts   map[string]*sql.Stmt
}

// dialect is what a database, or sharing it, makes different.
type dialect struct {
	// shared says that other servers have the vault open: transactions begin
	// with lock, and their writes are told to the others.
	shared bool
	// lock reads a vault's revision and keeps other writers out until the end
	// of the transaction; enter makes the row that lock reads.
	lock, enter string
	isolation   sql.IsolationLevel
	// transient reports whether the same thing may work when done again; nil
	// for never.
	transient func(error) bool
}

// NewSQLStore returns the store of one vault in a SQLite database with Schema,
// which no other server has open.
func NewSQLStore(db *sql.DB, vault string) *SQLStore {
	return newStore(db, vault, "", dialect{isolation: sql.LevelSerializable})
}

func newStore(db *sql.DB, vault, replica string, d dialect) *SQLStore {
	s := &SQLStore{db: db, vault: strings.ToLower(vault), dialect: d, stmts: map[string]*sql.Stmt{}}
	s.reader = s.vault
	if replica != "" {
		s.reader += "/" + replica
	}
	return s
}

func fold(name string) string { return strings.ToLower(name) }

// prepared returns a statement that the pool keeps compiled.
func (s *SQLStore) prepared(ctx context.Context, query string) (*sql.Stmt, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.stmts[query]; st != nil {
		return st, nil
	}
	st, err := s.db.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	s.stmts[query] = st
	return st, nil
}

const (
	objectColumns = `o.shown, o.state, o.current, o.deleted_on, o.purge_on, o.meta`
	getCurrent    = `SELECT ` + objectColumns + `, coalesce(v.version, ''), coalesce(v.created, 0), v.data, v.value FROM kv_object o
		LEFT JOIN kv_version v ON v.vault = o.vault AND v.kind = o.kind AND v.name = o.name AND v.version = o.current
		WHERE o.vault = ? AND o.kind = ? AND o.name = ?`
	getVersion = `SELECT ` + objectColumns + `, coalesce(v.version, ''), coalesce(v.created, 0), v.data, v.value FROM kv_object o
		LEFT JOIN kv_version v ON v.vault = o.vault AND v.kind = o.kind AND v.name = o.name AND v.version = ?
		WHERE o.vault = ? AND o.kind = ? AND o.name = ?`
	listObjects = `SELECT ` + objectColumns + `, coalesce(v.version, ''), coalesce(v.created, 0), v.data FROM kv_object o
		LEFT JOIN kv_version v ON v.vault = o.vault AND v.kind = o.kind AND v.name = o.name AND v.version = o.current
		WHERE o.vault = ? AND o.kind = ? AND o.state = ? AND o.name > ? ORDER BY o.name LIMIT ?`
	listVersions = `SELECT version, created, data FROM kv_version
		WHERE vault = ? AND kind = ? AND name = ? AND version > ? ORDER BY version LIMIT ?`
	listDue = `SELECT o.kind, ` + objectColumns + ` FROM kv_object o
		WHERE o.vault = ? AND o.state = 1 AND o.purge_on <= ? ORDER BY o.purge_on LIMIT ?`
)

// Get implements Store.
func (s *SQLStore) Get(ctx context.Context, kind Kind, name, version string) (Object, Version, error) {
	query, args := getCurrent, []any{s.vault, string(kind), fold(name)}
	if version != "" {
		query, args = getVersion, append([]any{version}, args...)
	}
	var o Object
	var v Version
	err := s.again(ctx, func() error {
		st, err := s.prepared(ctx, query)
		if err != nil {
			return err
		}
		o, v = Object{Kind: kind}, Version{}
		return st.QueryRowContext(ctx, args...).Scan(&o.Name, &o.State, &o.Current, &o.DeletedOn, &o.PurgeOn, &o.Meta, &v.ID, &v.Created, &v.Data, &v.Value)
	})
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return Object{}, Version{}, s.wrap("get", kind, name, ErrNoObject)
	case err != nil:
		return Object{}, Version{}, s.wrap("get", kind, name, err)
	case v.ID == "" && (version != "" || o.Current != ""):
		return o, Version{}, s.wrap("get", kind, name, ErrNoVersion)
	}
	return o, v, nil
}

// List implements Store.
func (s *SQLStore) List(ctx context.Context, kind Kind, state State, after string, limit int) ([]Entry, error) {
	return query(ctx, s, "list", kind, "", listObjects, []any{s.vault, string(kind), int(state), fold(after), limit},
		func(scan func(...any) error) (e Entry, err error) {
			o, v := &e.Object, &e.Version
			o.Kind = kind
			err = scan(&o.Name, &o.State, &o.Current, &o.DeletedOn, &o.PurgeOn, &o.Meta, &v.ID, &v.Created, &v.Data)
			return e, err
		})
}

// Versions implements Store.
func (s *SQLStore) Versions(ctx context.Context, kind Kind, name, after string, limit int) ([]Version, error) {
	return query(ctx, s, "list versions of", kind, name, listVersions, []any{s.vault, string(kind), fold(name), after, limit}, scanVersion)
}

func scanVersion(scan func(...any) error) (v Version, err error) {
	err = scan(&v.ID, &v.Created, &v.Data)
	return v, err
}

// Due implements Store.
func (s *SQLStore) Due(ctx context.Context, now int64, limit int) ([]Object, error) {
	return query(ctx, s, "list what is due of", "objects", "", listDue, []any{s.vault, now, limit},
		func(scan func(...any) error) (o Object, err error) {
			err = scan(&o.Kind, &o.Name, &o.State, &o.Current, &o.DeletedOn, &o.PurgeOn, &o.Meta)
			return o, err
		})
}

// Doomed implements Store.
func (s *SQLStore) Doomed(ctx context.Context, before int64) ([]hsm.KeyID, error) {
	return query(ctx, s, "list doomed", Keys, "", `SELECT key_id FROM kv_doomed WHERE vault = ? AND since < ?`, []any{s.vault, before},
		func(scan func(...any) error) (id hsm.KeyID, err error) { return id, scan(&id) })
}

func query[T any](ctx context.Context, s *SQLStore, verb string, kind Kind, name, q string, args []any, row func(func(...any) error) (T, error)) (found []T, err error) {
	err = s.again(ctx, func() error {
		st, err := s.prepared(ctx, q)
		if err != nil {
			return err
		}
		rows, err := st.QueryContext(ctx, args...)
		if err != nil {
			return err
		}
		found, err = collect(rows, row)
		return err
	})
	if err != nil {
		return nil, s.wrap(verb, kind, name, err)
	}
	return found, nil
}

func collect[T any](rows *sql.Rows, row func(func(...any) error) (T, error)) (found []T, err error) {
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		v, err := row(rows.Scan)
		if err != nil {
			return nil, err
		}
		found = append(found, v)
	}
	return found, rows.Err()
}

func (s *SQLStore) wrap(verb string, kind Kind, name string, err error) error {
	return fmt.Errorf("vault %s: %s %s %s: %w", s.vault, verb, kind, name, err)
}

// Update implements Store.
func (s *SQLStore) Update(ctx context.Context, fn func(Tx) error) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	return s.again(ctx, func() error { return s.once(ctx, fn) })
}

// once runs one transaction. An error of its commit that leaves it open
// whether the database has the transaction is settled before once returns.
func (s *SQLStore) once(ctx context.Context, fn func(Tx) error) (err error) {
	tx, err := s.db.BeginTx(ctx, &sql.TxOptions{Isolation: s.dialect.isolation})
	if err != nil {
		return fmt.Errorf("vault %s: begin: %w", s.vault, err)
	}
	defer func() {
		if err != nil {
			if rerr := tx.Rollback(); rerr != nil && !errors.Is(rerr, sql.ErrTxDone) {
				err = errors.Join(err, rerr)
			}
		}
	}()
	t := &sqlTx{ctx: ctx, s: s, tx: tx}
	if err := t.begin(); err != nil {
		return err
	}
	if err := fn(t); err != nil {
		return err
	}
	if err := t.tell(); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return t.settle(fmt.Errorf("vault %s: commit: %w", s.vault, err))
	}
	return nil
}

// again does something once more, with growing pauses, while its error is one
// that may pass.
func (s *SQLStore) again(ctx context.Context, fn func() error) error {
	return again(ctx, s.dialect.transient, fn)
}

// Cursor implements Store.
func (s *SQLStore) Cursor(ctx context.Context) (uint64, error) {
	var seq int64
	err := s.again(ctx, func() error {
		return s.db.QueryRowContext(ctx, `SELECT seq FROM kv_cursor WHERE vault = ?`, s.reader).Scan(&seq)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("vault %s: read the audit cursor: %w", s.vault, err)
	}
	return uint64(seq), nil
}

// SetCursor implements Store.
func (s *SQLStore) SetCursor(ctx context.Context, seq uint64) error {
	err := s.again(ctx, func() error {
		_, err := s.db.ExecContext(ctx, `REPLACE INTO kv_cursor (vault, seq) VALUES (?, ?)`, s.reader, int64(seq))
		return err
	})
	if err != nil {
		return fmt.Errorf("vault %s: keep the audit cursor: %w", s.vault, err)
	}
	return nil
}

// sqlTx lives inside one Update, whose context it carries.
type sqlTx struct {
	ctx context.Context
	s   *SQLStore
	tx  *sql.Tx

	// Of a shared store: the revision that this transaction found, what it
	// changed, and the tag by which it is known again.
	revision int64
	changes  map[Change]bool
	tag      []byte
}

func (t *sqlTx) Object(kind Kind, name string) (Object, error) {
	o := Object{Kind: kind}
	err := t.tx.QueryRowContext(t.ctx, `SELECT `+objectColumns+` FROM kv_object o WHERE o.vault = ? AND o.kind = ? AND o.name = ?`, t.s.vault, string(kind), fold(name)).
		Scan(&o.Name, &o.State, &o.Current, &o.DeletedOn, &o.PurgeOn, &o.Meta)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNoObject
	}
	if err != nil {
		return Object{}, t.s.wrap("read", kind, name, err)
	}
	return o, nil
}

func (t *sqlTx) Version(kind Kind, name, version string) (Version, error) {
	v := Version{ID: version}
	err := t.tx.QueryRowContext(t.ctx, `SELECT created, data, value FROM kv_version WHERE vault = ? AND kind = ? AND name = ? AND version = ?`, t.s.vault, string(kind), fold(name), version).
		Scan(&v.Created, &v.Data, &v.Value)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNoVersion
	}
	if err != nil {
		return Version{}, t.s.wrap("read a version of", kind, name, err)
	}
	return v, nil
}

func (t *sqlTx) Versions(kind Kind, name string) ([]Version, error) {
	rows, err := t.tx.QueryContext(t.ctx, listVersions, t.s.vault, string(kind), fold(name), "", math.MaxInt32)
	if err != nil {
		return nil, t.s.wrap("read the versions of", kind, name, err)
	}
	found, err := collect(rows, scanVersion)
	if err != nil {
		return nil, t.s.wrap("read the versions of", kind, name, err)
	}
	return found, nil
}

// exec returns how many rows the statement changed.
func (t *sqlTx) exec(verb string, kind Kind, name, q string, args ...any) (int64, error) {
	result, err := t.tx.ExecContext(t.ctx, q, args...)
	if err != nil {
		return 0, t.s.wrap(verb, kind, name, err)
	}
	n, err := result.RowsAffected()
	if err != nil {
		return 0, t.s.wrap(verb, kind, name, err)
	}
	return n, nil
}

func (t *sqlTx) Put(o Object) error {
	t.changed(o.Kind, fold(o.Name))
	_, err := t.exec("write", o.Kind, o.Name, `REPLACE INTO kv_object (vault, kind, name, shown, state, current, deleted_on, purge_on, meta) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		t.s.vault, string(o.Kind), fold(o.Name), o.Name, int(o.State), o.Current, o.DeletedOn, o.PurgeOn, o.Meta)
	return err
}

func (t *sqlTx) PutVersion(kind Kind, name string, v Version) error {
	t.changed(kind, fold(name))
	_, err := t.exec("write a version of", kind, name, `REPLACE INTO kv_version (vault, kind, name, version, created, data, value) VALUES (?, ?, ?, ?, ?, ?, ?)`,
		t.s.vault, string(kind), fold(name), v.ID, v.Created, v.Data, v.Value)
	return err
}

func (t *sqlTx) Delete(kind Kind, name string) error {
	t.changed(kind, fold(name))
	_, verr := t.exec("delete the versions of", kind, name, `DELETE FROM kv_version WHERE vault = ? AND kind = ? AND name = ?`, t.s.vault, string(kind), fold(name))
	_, err := t.exec("delete", kind, name, `DELETE FROM kv_object WHERE vault = ? AND kind = ? AND name = ?`, t.s.vault, string(kind), fold(name))
	return errors.Join(verr, err)
}

func (t *sqlTx) Doom(id hsm.KeyID, since int64) error {
	_, err := t.exec("doom", Keys, string(id), `REPLACE INTO kv_doomed (vault, key_id, since) VALUES (?, ?, ?)`, t.s.vault, string(id), max(since, condemned+1))
	return err
}

func (t *sqlTx) Spare(id hsm.KeyID) error {
	n, err := t.exec("spare", Keys, string(id), `DELETE FROM kv_doomed WHERE vault = ? AND key_id = ? AND since > ?`, t.s.vault, string(id), condemned)
	if err == nil && n == 0 {
		err = t.s.wrap("spare", Keys, string(id), ErrCondemned)
	}
	return err
}

// condemned is since of a key whose destruction has begun.
const condemned = 0

func (t *sqlTx) Condemn(id hsm.KeyID) (bool, error) {
	var since int64
	err := t.tx.QueryRowContext(t.ctx, `SELECT since FROM kv_doomed WHERE vault = ? AND key_id = ?`, t.s.vault, string(id)).Scan(&since)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, t.s.wrap("condemn", Keys, string(id), err)
	}
	t.changed(TokenKeys, string(id))
	_, err = t.exec("condemn", Keys, string(id), `UPDATE kv_doomed SET since = ? WHERE vault = ? AND key_id = ?`, condemned, t.s.vault, string(id))
	return true, err
}

func (t *sqlTx) Destroyed(id hsm.KeyID) error {
	_, err := t.exec("forget", Keys, string(id), `DELETE FROM kv_doomed WHERE vault = ? AND key_id = ? AND since = ?`, t.s.vault, string(id), condemned)
	return err
}
