package keyvault

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"

	"verdant/hsm"
)

// Schema is the ordered list of statements that makes the tables of SQLStore.
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
}

// SQLStore is a Store in a SQLite database that is durable on commit. It keeps
// its prepared statements for the life of the database.
type SQLStore struct {
	db    *sql.DB
	vault string

	writing sync.Mutex // one transaction at a time; SQLite has one writer anyway
	mu      sync.Mutex
	stmts   map[string]*sql.Stmt
}

// NewSQLStore returns the store of one vault in a database with Schema.
func NewSQLStore(db *sql.DB, vault string) *SQLStore {
	return &SQLStore{db: db, vault: strings.ToLower(vault), stmts: map[string]*sql.Stmt{}}
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
	st, err := s.prepared(ctx, query)
	if err != nil {
		return Object{}, Version{}, s.wrap("get", kind, name, err)
	}
	o, v := Object{Kind: kind}, Version{}
	err = st.QueryRowContext(ctx, args...).Scan(&o.Name, &o.State, &o.Current, &o.DeletedOn, &o.PurgeOn, &o.Meta, &v.ID, &v.Created, &v.Data, &v.Value)
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

func query[T any](ctx context.Context, s *SQLStore, verb string, kind Kind, name, q string, args []any, row func(func(...any) error) (T, error)) ([]T, error) {
	st, err := s.prepared(ctx, q)
	if err != nil {
		return nil, s.wrap(verb, kind, name, err)
	}
	rows, err := st.QueryContext(ctx, args...)
	if err != nil {
		return nil, s.wrap(verb, kind, name, err)
	}
	found, err := collect(rows, row)
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
func (s *SQLStore) Update(ctx context.Context, fn func(Tx) error) (err error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	tx, err := s.db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelSerializable})
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
	if err := fn(&sqlTx{ctx: ctx, s: s, tx: tx}); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("vault %s: commit: %w", s.vault, err)
	}
	return nil
}

// Cursor implements Store.
func (s *SQLStore) Cursor(ctx context.Context) (uint64, error) {
	var seq int64
	err := s.db.QueryRowContext(ctx, `SELECT seq FROM kv_cursor WHERE vault = ?`, s.vault).Scan(&seq)
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
	_, err := s.db.ExecContext(ctx, `INSERT INTO kv_cursor (vault, seq) VALUES (?, ?) ON CONFLICT (vault) DO UPDATE SET seq = excluded.seq`, s.vault, int64(seq))
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
	rows, err := t.tx.QueryContext(t.ctx, listVersions, t.s.vault, string(kind), fold(name), "", -1)
	if err != nil {
		return nil, t.s.wrap("read the versions of", kind, name, err)
	}
	found, err := collect(rows, scanVersion)
	if err != nil {
		return nil, t.s.wrap("read the versions of", kind, name, err)
	}
	return found, nil
}

func (t *sqlTx) exec(verb string, kind Kind, name, q string, args ...any) error {
	if _, err := t.tx.ExecContext(t.ctx, q, args...); err != nil {
		return t.s.wrap(verb, kind, name, err)
	}
	return nil
}

func (t *sqlTx) Put(o Object) error {
	return t.exec("write", o.Kind, o.Name, `INSERT INTO kv_object (vault, kind, name, shown, state, current, deleted_on, purge_on, meta) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (vault, kind, name) DO UPDATE SET shown = excluded.shown, state = excluded.state, current = excluded.current,
		deleted_on = excluded.deleted_on, purge_on = excluded.purge_on, meta = excluded.meta`,
		t.s.vault, string(o.Kind), fold(o.Name), o.Name, int(o.State), o.Current, o.DeletedOn, o.PurgeOn, o.Meta)
}

func (t *sqlTx) PutVersion(kind Kind, name string, v Version) error {
	return t.exec("write a version of", kind, name, `INSERT INTO kv_version (vault, kind, name, version, created, data, value) VALUES (?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (vault, kind, name, version) DO UPDATE SET created = excluded.created, data = excluded.data, value = excluded.value`,
		t.s.vault, string(kind), fold(name), v.ID, v.Created, v.Data, v.Value)
}

func (t *sqlTx) Delete(kind Kind, name string) error {
	return errors.Join(
		t.exec("delete the versions of", kind, name, `DELETE FROM kv_version WHERE vault = ? AND kind = ? AND name = ?`, t.s.vault, string(kind), fold(name)),
		t.exec("delete", kind, name, `DELETE FROM kv_object WHERE vault = ? AND kind = ? AND name = ?`, t.s.vault, string(kind), fold(name)))
}

func (t *sqlTx) Doom(id hsm.KeyID, since int64) error {
	return t.exec("doom", Keys, string(id), `INSERT INTO kv_doomed (vault, key_id, since) VALUES (?, ?, ?) ON CONFLICT (vault, key_id) DO UPDATE SET since = excluded.since`, t.s.vault, string(id), since)
}

func (t *sqlTx) Spare(id hsm.KeyID) error {
	return t.exec("spare", Keys, string(id), `DELETE FROM kv_doomed WHERE vault = ? AND key_id = ?`, t.s.vault, string(id))
}
