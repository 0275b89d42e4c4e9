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
)

// Schema is the ordered list of statements that makes the service's tables,
// for sqlstore.Open.
var Schema = []string{
	`CREATE TABLE arm_assignment (id TEXT PRIMARY KEY, data BLOB NOT NULL) WITHOUT ROWID;
	 CREATE TABLE arm_seed (id TEXT PRIMARY KEY) WITHOUT ROWID;`,
}

// assignment is a role assignment as it is stored: the engine's part and what
// only the control plane shows.
type assignment struct {
	rbac.Assignment
	PrincipalType    string
	Description      string
	ConditionVersion string
	CreatedBy        string
	UpdatedOn        time.Time
	UpdatedBy        string
}

// assignmentStore keeps role assignments. Their ids are folded to lower case
// in the key; the data keeps the canonical spelling.
type assignmentStore struct{ db *sql.DB }

// load adds those of seeds that this database has never seen, and returns
// everything.
func (s *assignmentStore) load(ctx context.Context, seeds []assignment) ([]assignment, error) {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = tx.Rollback() }()
	for _, seed := range seeds {
		key := strings.ToLower(seed.ID)
		r, err := tx.ExecContext(ctx, `INSERT OR IGNORE INTO arm_seed (id) VALUES (?)`, key)
		if err != nil {
			return nil, err
		}
		if n, err := r.RowsAffected(); err != nil || n == 0 {
			if err != nil {
				return nil, err
			}
			continue
		}
		data, err := json.Marshal(seed)
		if err != nil {
			return nil, err
		}
		if _, err := tx.ExecContext(ctx, `INSERT OR IGNORE INTO arm_assignment (id, data) VALUES (?, ?)`, key, data); err != nil {
			return nil, err
		}
	}
	all, err := readAssignments(ctx, tx)
	if err != nil {
		return nil, err
	}
	return all, tx.Commit()
}

func readAssignments(ctx context.Context, tx *sql.Tx) ([]assignment, error) {
	rows, err := tx.QueryContext(ctx, `SELECT id, data FROM arm_assignment ORDER BY id`)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var all []assignment
	for rows.Next() {
		var id string
		var data []byte
		if err := rows.Scan(&id, &data); err != nil {
			return nil, err
		}
		var a assignment
		if err := json.Unmarshal(data, &a); err != nil {
			return nil, fmt.Errorf("stored assignment %s: %w", id, err)
		}
		all = append(all, a)
	}
	return all, rows.Err()
}

func (s *assignmentStore) get(ctx context.Context, id string) (a assignment, ok bool, err error) {
	var data []byte
	err = s.db.QueryRowContext(ctx, `SELECT data FROM arm_assignment WHERE id = ?`, strings.ToLower(id)).Scan(&data)
	if errors.Is(err, sql.ErrNoRows) {
		return a, false, nil
	}
	if err != nil {
		return a, false, err
	}
	if err := json.Unmarshal(data, &a); err != nil {
		return a, false, fmt.Errorf("stored assignment %s: %w", id, err)
	}
	return a, true, nil
}

func (s *assignmentStore) put(ctx context.Context, a assignment) error {
	data, err := json.Marshal(a)
	if err != nil {
		return err
	}
	_, err = s.db.ExecContext(ctx, `INSERT INTO arm_assignment (id, data) VALUES (?, ?)
		ON CONFLICT (id) DO UPDATE SET data = excluded.data`, strings.ToLower(a.ID), data)
	return err
}

func (s *assignmentStore) delete(ctx context.Context, id string) error {
	_, err := s.db.ExecContext(ctx, `DELETE FROM arm_assignment WHERE id = ?`, strings.ToLower(id))
	return err
}
