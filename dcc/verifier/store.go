package verifier

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"time"

	"verdant/dcc/wire"
	"verdant/trustlist"
)

// schema is the service's database, in the SQL that MariaDB and the embedded
// server share. Times are microseconds since 1970, 0 for never. A position is
// never used twice: it is the resume token of the apps' download.
var schema = []string{
	`CREATE TABLE IF NOT EXISTS signer_information (
		position BIGINT NOT NULL PRIMARY KEY,
		thumbprint VARCHAR(64) NOT NULL, kid VARCHAR(16) NOT NULL, country VARCHAR(2) NOT NULL,
		created_at BIGINT NOT NULL, deleted_at BIGINT NOT NULL, raw_data BLOB NOT NULL)`,
}

// signer is one document signer as the service remembers it.
type signer struct {
	wire.DocumentSigner
	position   int64
	thumbprint string
	created    time.Time
	deleted    time.Time // zero while it is trusted
}

// store is the service's database.
type store struct{ db *sql.DB }

func openStore(ctx context.Context, db *sql.DB) (*store, error) {
	for _, stmt := range schema {
		if _, err := db.ExecContext(ctx, stmt); err != nil {
			return nil, fmt.Errorf("create the verifier service's tables: %w", err)
		}
	}
	return &store{db}, nil
}

// all returns every signer that was ever known, by position.
func (s *store) all(ctx context.Context) ([]signer, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT position, thumbprint, kid, country, created_at, deleted_at, raw_data FROM signer_information ORDER BY position`)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var out []signer
	for rows.Next() {
		var r signer
		var kid string
		var created, deleted int64
		var raw []byte
		if err := rows.Scan(&r.position, &r.thumbprint, &kid, &r.Country, &created, &deleted, &raw); err != nil {
			return nil, err
		}
		r.KID, r.RawData = kidFromHex(kid), encode64(raw)
		r.created = time.UnixMicro(created)
		if deleted != 0 {
			r.deleted = time.UnixMicro(deleted)
		}
		out = append(out, r)
	}
	return out, rows.Err()
}

// apply makes the trusted signers of the database those of the list: it adds
// the new ones at the end and marks the others as deleted.
func (s *store) apply(ctx context.Context, list *trustlist.List, now time.Time) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	live, last, err := livePositions(ctx, tx)
	if err != nil {
		return err
	}
	for _, d := range list.DSCs() {
		if _, ok := live[d.Thumbprint()]; ok {
			delete(live, d.Thumbprint())
			continue
		}
		last++
		if _, err := tx.ExecContext(ctx, `INSERT INTO signer_information (position, thumbprint, kid, country, created_at, deleted_at, raw_data) VALUES (?, ?, ?, ?, ?, 0, ?)`,
			last, d.Thumbprint(), kidToHex(d.KID()), d.Country(), now.UnixMicro(), d.Certificate().Raw); err != nil {
			return err
		}
	}
	for _, position := range live {
		if _, err := tx.ExecContext(ctx, `UPDATE signer_information SET deleted_at = ? WHERE position = ?`, now.UnixMicro(), position); err != nil {
			return err
		}
	}
	return tx.Commit()
}

func livePositions(ctx context.Context, tx *sql.Tx) (live map[string]int64, last int64, err error) {
	rows, err := tx.QueryContext(ctx, `SELECT position, thumbprint, deleted_at FROM signer_information`)
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = rows.Close() }()
	live = map[string]int64{}
	for rows.Next() {
		var position, deleted int64
		var thumbprint string
		if err := rows.Scan(&position, &thumbprint, &deleted); err != nil {
			return nil, 0, err
		}
		last = max(last, position)
		if deleted == 0 {
			live[thumbprint] = position
		}
	}
	return live, last, rows.Err()
}

var errToken = errors.New("the resume token is a number")

// parseToken reads a resume token; the empty one is the beginning.
func parseToken(v string) (int64, error) {
	if v == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n < 0 {
		return 0, errToken
	}
	return n, nil
}
