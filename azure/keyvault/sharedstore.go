package keyvault

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"time"
)

const (
	// maxChanges is how many changes a reader is told one by one.
	maxChanges = 4096
	// keptRevisions is how far back changes are remembered: a reader that is
	// further behind is told that anything may have changed.
	keptRevisions = 1 << 14
	pruneEvery    = 256 // revisions
)

// SharedStore is a SQLStore that several servers have open at a time, in this
// process or in others. A transaction begins by locking the vault's row, so
// that transactions of all servers happen one after the other, and ends by
// raising the revision in that row and writing down what it changed.
type SharedStore struct{ *SQLStore }

// NewSharedSQLStore returns the store of one vault in a SQLite database with
// Schema that several servers on one machine have open. Each has a replica name
// of its own.
func NewSharedSQLStore(db *sql.DB, vault, replica string) SharedStore {
	return SharedStore{newStore(db, vault, replica, dialect{shared: true, isolation: sql.LevelSerializable,
		lock:  `SELECT revision FROM kv_vault WHERE vault = ?`, // the transaction is the only writer from its begin
		enter: `INSERT OR IGNORE INTO kv_vault (vault, revision) VALUES (?, 0)`})}
}

// Changes implements Shared.
func (s SharedStore) Changes(ctx context.Context, after uint64) (Changes, error) {
	var c Changes
	type row struct {
		newest, revision int64
		Change
	}
	// One statement, so that revision and changes are of one moment.
	rows, err := query(ctx, s.SQLStore, "follow", "changes", "", `SELECT v.revision, coalesce(c.revision, 0), coalesce(c.kind, ''), coalesce(c.name, '') FROM kv_vault v
		LEFT JOIN kv_change c ON c.vault = v.vault AND c.revision > ? WHERE v.vault = ? ORDER BY c.revision LIMIT ?`,
		[]any{int64(min(after, math.MaxInt64)), s.vault, maxChanges + 1}, func(scan func(...any) error) (r row, err error) {
			return r, scan(&r.newest, &r.revision, &r.Kind, &r.Name)
		})
	if err != nil || len(rows) == 0 { // no row: nothing was ever written
		return c, err
	}
	c.Revision = uint64(rows[0].newest)
	if c.Revision == after {
		return c, nil
	}
	if len(rows) > maxChanges || rows[0].revision != int64(after)+1 {
		c.All = true
		return c, nil
	}
	for _, r := range rows {
		c.Objects = append(c.Objects, r.Change)
	}
	return c, nil
}

// begin takes the vault's lock.
func (t *sqlTx) begin() error {
	if !t.s.dialect.shared {
		return nil
	}
	for entered := false; ; entered = true {
		err := t.tx.QueryRowContext(t.ctx, t.s.dialect.lock, t.s.vault).Scan(&t.revision)
		if errors.Is(err, sql.ErrNoRows) && !entered {
			_, err = t.tx.ExecContext(t.ctx, t.s.dialect.enter, t.s.vault)
			if err == nil {
				continue
			}
		}
		if err != nil {
			return fmt.Errorf("vault %s: lock: %w", t.s.vault, err)
		}
		return nil
	}
}

// changed notes what the other servers must hear of.
func (t *sqlTx) changed(kind Kind, folded string) {
	if !t.s.dialect.shared {
		return
	}
	if t.changes == nil {
		t.changes = map[Change]bool{}
	}
	t.changes[Change{kind, folded}] = true
}

// tell writes the changes down under the next revision.
func (t *sqlTx) tell() error {
	if len(t.changes) == 0 {
		return nil
	}
	t.tag = make([]byte, 16)
	_, _ = rand.Read(t.tag) // never returns an error (crypto/rand)
	next := t.revision + 1
	for c := range t.changes {
		if _, err := t.exec("note the change of", c.Kind, c.Name, `INSERT INTO kv_change (vault, revision, kind, name, tag) VALUES (?, ?, ?, ?, ?)`,
			t.s.vault, next, string(c.Kind), c.Name, t.tag); err != nil {
			return err
		}
	}
	if _, err := t.exec("raise the revision of", "vault", t.s.vault, `UPDATE kv_vault SET revision = ? WHERE vault = ?`, next, t.s.vault); err != nil {
		return err
	}
	if next%pruneEvery != 0 {
		return nil
	}
	_, err := t.exec("forget old changes of", "vault", t.s.vault, `DELETE FROM kv_change WHERE vault = ? AND revision <= ?`, t.s.vault, next-keptRevisions)
	return err
}

// settle finds out whether a commit that returned an error took place: whoever
// has the vault's lock after it sees its tag or never will. It returns nil if
// it did. A transaction without changes may be done again either way.
func (t *sqlTx) settle(failure error) error {
	if t.tag == nil || t.s.dialect.transient == nil || !t.s.dialect.transient(failure) {
		return failure
	}
	var found int
	err := t.s.again(t.ctx, func() error {
		tx, err := t.s.db.BeginTx(t.ctx, &sql.TxOptions{Isolation: t.s.dialect.isolation})
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }() // it only reads
		look := &sqlTx{ctx: t.ctx, s: t.s, tx: tx}
		if err := look.begin(); err != nil {
			return err
		}
		return tx.QueryRowContext(t.ctx, `SELECT count(*) FROM kv_change WHERE vault = ? AND revision = ? AND tag = ?`, t.s.vault, t.revision+1, t.tag).Scan(&found)
	})
	if err != nil {
		return &unsettledError{errors.Join(failure, err)}
	}
	if found > 0 {
		return nil
	}
	return failure
}

// unsettledError is a commit of which it is not known whether it took place.
// It hides its cause from transient: the transaction must not be done again.
type unsettledError struct{ cause error }

func (e *unsettledError) Error() string {
	return "it is not known whether the database kept the change: " + e.cause.Error()
}

const (
	firstPause = 2 * time.Millisecond
	lastPause  = 500 * time.Millisecond
	patience   = 15 * time.Second
)

// again does something until it returns nil or an error that is not transient,
// ctx ends, or patience does.
func again(ctx context.Context, transient func(error) bool, fn func() error) error {
	begun := time.Now()
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		err := fn()
		if err == nil || transient == nil || !transient(err) || ctx.Err() != nil || time.Since(begun) > patience {
			return err
		}
		wait(ctx, pause)
	}
}

var (
	_ Store  = (*SQLStore)(nil)
	_ Shared = SharedStore{}
)
