package arm

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"verdant/azure/rbac"
	"verdant/azure/rest"
)

// Schema is the ordered list of statements that makes the service's tables,
// for sqlstore.Open.
var Schema = []string{
	`CREATE TABLE arm_assignment (id TEXT PRIMARY KEY, data BLOB NOT NULL) WITHOUT ROWID;
	 CREATE TABLE arm_seed (id TEXT PRIMARY KEY) WITHOUT ROWID;`,
	`CREATE TABLE arm_document (kind TEXT NOT NULL, id TEXT NOT NULL, data BLOB NOT NULL, PRIMARY KEY (kind, id)) WITHOUT ROWID;
	 INSERT INTO arm_document (kind, id, data) SELECT 'assignment', id, data FROM arm_assignment;
	 DROP TABLE arm_assignment;
	 CREATE TABLE arm_version (one INTEGER PRIMARY KEY, version INTEGER NOT NULL);
	 INSERT INTO arm_version (one, version) VALUES (1, 1);`,
}

// MySQLSchema makes the same tables in a MySQL or MariaDB database, one
// statement each and harmless where they exist, so that replicas on several
// machines can follow one control plane.
var MySQLSchema = []string{
	`CREATE TABLE IF NOT EXISTS arm_seed (id VARCHAR(700) CHARACTER SET ascii COLLATE ascii_bin PRIMARY KEY) ENGINE=InnoDB`,
	`CREATE TABLE IF NOT EXISTS arm_document (kind VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
	 id VARCHAR(700) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, data MEDIUMBLOB NOT NULL, PRIMARY KEY (kind, id)) ENGINE=InnoDB`,
	`CREATE TABLE IF NOT EXISTS arm_version (one INTEGER PRIMARY KEY, version BIGINT NOT NULL) ENGINE=InnoDB`,
	`INSERT IGNORE INTO arm_version (one, version) VALUES (1, 1)`,
}

// Kinds of documents.
const (
	kindAssignment = "assignment"
	kindDefinition = "definition"
	kindDenial     = "denial"
	kindResource   = "resource"
)

// assignment is a role assignment as it is stored: the engine's part and what
// only the control plane shows.
type assignment struct {
	rbac.Assignment
	PrincipalType                      string
	Description                        string
	ConditionVersion                   string
	DelegatedManagedIdentityResourceID string
	CreatedBy                          string
	UpdatedOn                          time.Time
	UpdatedBy                          string
}

// definition is a custom role as it is stored.
type definition struct {
	rbac.RoleDefinition
	CreatedOn, UpdatedOn time.Time
	CreatedBy, UpdatedBy string
}

// store keeps what the control plane can change, as documents by kind and id,
// and counts the changes. Ids are folded to lower case in the key; the data
// keeps the canonical spelling. Its statements mean the same to SQLite and to
// MySQL.
type store struct{ db *sql.DB }

// querier is a database or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// change runs fn in a transaction that also counts up the version: the row of
// the version makes writers wait for each other.
func (s *store) change(ctx context.Context, fn func(*sql.Tx) error) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	if _, err := tx.ExecContext(ctx, `UPDATE arm_version SET version = version + 1 WHERE one = 1`); err != nil {
		return err
	}
	if err := fn(tx); err != nil {
		return err
	}
	return tx.Commit()
}

func (s *store) put(ctx context.Context, kind, id string, v any) error {
	return s.change(ctx, func(tx *sql.Tx) error { return putDocument(ctx, tx, kind, id, v) })
}

func putDocument(ctx context.Context, tx *sql.Tx, kind, id string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `REPLACE INTO arm_document (kind, id, data) VALUES (?, ?, ?)`, kind, strings.ToLower(id), data)
	return err
}

func (s *store) delete(ctx context.Context, kind, id string) error {
	return s.change(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM arm_document WHERE kind = ? AND id = ?`, kind, strings.ToLower(id))
		return err
	})
}

// getDocument reads one document; ok is false if there is none.
func getDocument[T any](ctx context.Context, q querier, kind, id string) (v T, ok bool, err error) {
	var data []byte
	err = q.QueryRowContext(ctx, `SELECT data FROM arm_document WHERE kind = ? AND id = ?`, kind, strings.ToLower(id)).Scan(&data)
	if errors.Is(err, sql.ErrNoRows) {
		return v, false, nil
	}
	if err != nil {
		return v, false, err
	}
	if err := json.Unmarshal(data, &v); err != nil {
		return v, false, fmt.Errorf("stored %s %s: %w", kind, id, err)
	}
	return v, true, nil
}

// documents reads every document of a kind, by id.
func documents[T any](ctx context.Context, q querier, kind string) ([]T, error) {
	rows, err := q.QueryContext(ctx, `SELECT id, data FROM arm_document WHERE kind = ? ORDER BY id`, kind)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var all []T
	for rows.Next() {
		var id string
		var data []byte
		if err := rows.Scan(&id, &data); err != nil {
			return nil, err
		}
		var v T
		if err := json.Unmarshal(data, &v); err != nil {
			return nil, fmt.Errorf("stored %s %s: %w", kind, id, err)
		}
		all = append(all, v)
	}
	return all, rows.Err()
}

// plant adds those of seeds that this database has never seen.
func (s *store) plant(ctx context.Context, seeds []assignment) error {
	if len(seeds) == 0 {
		return nil
	}
	return s.change(ctx, func(tx *sql.Tx) error {
		for _, seed := range seeds {
			var seen int
			key := strings.ToLower(seed.ID)
			if err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM arm_seed WHERE id = ?`, key).Scan(&seen); err != nil || seen > 0 {
				if err != nil {
					return err
				}
				continue
			}
			if _, err := tx.ExecContext(ctx, `INSERT INTO arm_seed (id) VALUES (?)`, key); err != nil {
				return err
			}
			if _, exists, err := getDocument[assignment](ctx, tx, kindAssignment, key); err != nil || exists {
				if err != nil {
					return err
				}
				continue
			}
			if err := putDocument(ctx, tx, kindAssignment, key, seed); err != nil {
				return err
			}
		}
		return nil
	})
}

// contents is everything that the store holds, at one version.
type contents struct {
	version     int64
	assignments []assignment
	definitions []definition
	denials     []rbac.DenyAssignment
	resources   []rest.Resource
}

func (s *store) version(ctx context.Context) (version int64, err error) {
	err = s.db.QueryRowContext(ctx, `SELECT version FROM arm_version WHERE one = 1`).Scan(&version)
	return version, err
}

// load reads everything as of one moment: the version is read first and last,
// and a change between makes it read again.
func (s *store) load(ctx context.Context) (c contents, err error) {
	for {
		if c.version, err = s.version(ctx); err != nil {
			return c, err
		}
		var errs [4]error
		c.assignments, errs[0] = documents[assignment](ctx, s.db, kindAssignment)
		c.definitions, errs[1] = documents[definition](ctx, s.db, kindDefinition)
		c.denials, errs[2] = documents[rbac.DenyAssignment](ctx, s.db, kindDenial)
		c.resources, errs[3] = documents[rest.Resource](ctx, s.db, kindResource)
		if err := errors.Join(errs[:]...); err != nil {
			return c, err
		}
		if again, err := s.version(ctx); err != nil || again == c.version {
			return c, err
		}
	}
}

// snapshot is the policy of the contents, over the given built-in roles.
func (c contents) snapshot(builtIn []rbac.RoleDefinition) rbac.Snapshot {
	snap := rbac.Snapshot{Roles: append([]rbac.RoleDefinition{}, builtIn...), Denials: c.denials}
	for _, d := range c.definitions {
		snap.Roles = append(snap.Roles, d.RoleDefinition)
	}
	for _, a := range c.assignments {
		snap.Assignments = append(snap.Assignments, a.Assignment)
	}
	return snap
}
