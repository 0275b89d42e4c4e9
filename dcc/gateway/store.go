package gateway

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"verdant/trustlist"
)

// schema is the gateway's part of the database dgc, in the SQL that MariaDB
// and the embedded server share. Times are microseconds since 1970, 0 for
// never; kids are hex, because base64 compares without case in MySQL.
var schema = []string{
	`CREATE TABLE IF NOT EXISTS trusted_party (
		id VARCHAR(96) NOT NULL PRIMARY KEY,
		created_at BIGINT NOT NULL, deleted_at BIGINT NOT NULL,
		country VARCHAR(2) NOT NULL, certificate_type VARCHAR(16) NOT NULL, thumbprint VARCHAR(64) NOT NULL,
		raw_data LONGBLOB NOT NULL, signature LONGBLOB NOT NULL)`,
	`CREATE TABLE IF NOT EXISTS signer_information (
		thumbprint VARCHAR(64) NOT NULL PRIMARY KEY,
		kid VARCHAR(16) NOT NULL, country VARCHAR(2) NOT NULL,
		created_at BIGINT NOT NULL, deleted_at BIGINT NOT NULL,
		raw_data LONGBLOB NOT NULL, signature LONGBLOB NOT NULL,
		UNIQUE (kid))`,
	`CREATE TABLE IF NOT EXISTS validation_rule (
		id VARCHAR(96) NOT NULL PRIMARY KEY,
		rule_id VARCHAR(32) NOT NULL, version VARCHAR(32) NOT NULL, country VARCHAR(2) NOT NULL,
		position BIGINT NOT NULL, created_at BIGINT NOT NULL,
		valid_from BIGINT NOT NULL, valid_to BIGINT NOT NULL, cms LONGBLOB NOT NULL)`,
	`CREATE TABLE IF NOT EXISTS valueset (
		id VARCHAR(100) NOT NULL PRIMARY KEY, json LONGBLOB NOT NULL)`,
	`CREATE TABLE IF NOT EXISTS audit_event (
		id VARCHAR(40) NOT NULL PRIMARY KEY, happened_at BIGINT NOT NULL,
		country VARCHAR(2) NOT NULL, uploader_sha256 VARCHAR(64) NOT NULL, authentication_sha256 VARCHAR(64) NOT NULL,
		event VARCHAR(64) NOT NULL, description VARCHAR(64) NOT NULL)`,
	`CREATE TABLE IF NOT EXISTS revision (
		name VARCHAR(32) NOT NULL PRIMARY KEY, value BIGINT NOT NULL)`,
}

// store is the gateway's database. Every change of the trust list raises its
// revision in the same transaction, so that a reader needs one small query to
// know that what it has in memory is current.
type store struct{ db *sql.DB }

func openStore(ctx context.Context, db *sql.DB) (*store, error) {
	for _, stmt := range schema {
		if _, err := db.ExecContext(ctx, stmt); err != nil {
			return nil, fmt.Errorf("create the gateway's tables: %w", err)
		}
	}
	s := &store{db}
	if _, err := s.revision(ctx); errors.Is(err, sql.ErrNoRows) {
		// Two gateways may start at once; the loser's insert fails and the
		// row is there.
		_, _ = db.ExecContext(ctx, `INSERT INTO revision (name, value) VALUES ('trustlist', 1)`)
	}
	if _, err := s.revision(ctx); err != nil {
		return nil, fmt.Errorf("read the trust list's revision: %w", err)
	}
	return s, nil
}

func (s *store) revision(ctx context.Context) (n int64, err error) {
	err = s.db.QueryRowContext(ctx, `SELECT value FROM revision WHERE name = 'trustlist'`).Scan(&n)
	return n, err
}

// partyRow is a trusted party as stored, unverified.
type partyRow struct {
	created, deleted   int64
	country            string
	kind               trustlist.CertificateType
	thumbprint         string
	rawData, signature []byte
}

// signerRow is a document signer as stored, unverified. Raw data and
// signature of a tombstone are empty.
type signerRow struct {
	thumbprint, kid, country string
	created, deleted         int64
	rawData, signature       []byte
}

func (s *store) parties(ctx context.Context) ([]partyRow, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT created_at, deleted_at, country, certificate_type, thumbprint, raw_data, signature FROM trusted_party`)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var out []partyRow
	for rows.Next() {
		var p partyRow
		if err := rows.Scan(&p.created, &p.deleted, &p.country, &p.kind, &p.thumbprint, &p.rawData, &p.signature); err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, rows.Err()
}

func (s *store) signers(ctx context.Context) ([]signerRow, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT thumbprint, kid, country, created_at, deleted_at, raw_data, signature FROM signer_information`)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var out []signerRow
	for rows.Next() {
		var r signerRow
		if err := rows.Scan(&r.thumbprint, &r.kid, &r.country, &r.created, &r.deleted, &r.rawData, &r.signature); err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, rows.Err()
}

// change runs fn in a transaction that raises the trust list's revision. The
// row lock of the revision makes changes follow each other.
func (s *store) change(ctx context.Context, fn func(*sql.Tx) error) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	if _, err := tx.ExecContext(ctx, `UPDATE revision SET value = value + 1 WHERE name = 'trustlist'`); err != nil {
		return err
	}
	if err := fn(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// putParty inserts or replaces a trusted party.
func putParty(ctx context.Context, tx *sql.Tx, p partyRow) error {
	id := string(p.kind) + "/" + p.country + "/" + p.thumbprint
	if _, err := tx.ExecContext(ctx, `DELETE FROM trusted_party WHERE id = ?`, id); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO trusted_party (id, created_at, deleted_at, country, certificate_type, thumbprint, raw_data, signature) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
		id, p.created, p.deleted, p.country, string(p.kind), p.thumbprint, p.rawData, p.signature)
	return err
}

// signerByKID finds a document signer or tombstone; nil if there is none.
func signerByKID(ctx context.Context, tx *sql.Tx, kid string) (*signerRow, error) {
	var r signerRow
	err := tx.QueryRowContext(ctx, `SELECT thumbprint, kid, country, created_at, deleted_at FROM signer_information WHERE kid = ?`, kid).
		Scan(&r.thumbprint, &r.kid, &r.country, &r.created, &r.deleted)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return &r, err
}

// putSigner inserts a document signer, over its own tombstone if there is one.
func putSigner(ctx context.Context, tx *sql.Tx, r signerRow) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM signer_information WHERE thumbprint = ? AND deleted_at <> 0`, r.thumbprint); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO signer_information (thumbprint, kid, country, created_at, deleted_at, raw_data, signature) VALUES (?, ?, ?, ?, 0, ?, ?)`,
		r.thumbprint, r.kid, r.country, r.created, r.rawData, r.signature)
	return err
}

// burySigner turns a document signer into a tombstone.
func burySigner(ctx context.Context, tx *sql.Tx, thumbprint string, at int64) error {
	_, err := tx.ExecContext(ctx, `UPDATE signer_information SET deleted_at = ?, raw_data = ?, signature = ? WHERE thumbprint = ?`, at, []byte{}, []byte{}, thumbprint)
	return err
}

// purge forgets tombstones from before a time and reports whether there were
// any.
func (s *store) purge(ctx context.Context, before time.Time) error {
	var n int
	const old = ` WHERE deleted_at <> 0 AND deleted_at < ?`
	if err := s.db.QueryRowContext(ctx, `SELECT COUNT(*) FROM signer_information`+old, before.UnixMicro()).Scan(&n); err != nil || n == 0 {
		return err
	}
	return s.change(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM signer_information`+old, before.UnixMicro())
		return err
	})
}

// auditEvent is one line of the gateway's audit table.
type auditEvent struct {
	caller
	uploader    string // thumbprint of the upload certificate; may be empty
	event       string
	description string
}

// execer is a *sql.DB or a *sql.Tx.
type execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

func (s *Server) audit(ctx context.Context, to execer, e auditEvent) error {
	_, err := to.ExecContext(ctx, `INSERT INTO audit_event (id, happened_at, country, uploader_sha256, authentication_sha256, event, description) VALUES (?, ?, ?, ?, ?, ?, ?)`,
		newID(), s.now().UnixMicro(), e.country, e.uploader, e.thumbprint, e.event, e.description)
	if err != nil {
		return fmt.Errorf("record audit event %s: %w", e.event, err)
	}
	return nil
}
