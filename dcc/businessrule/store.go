package businessrule

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"fmt"

	"verdant/dcc/connector"
)

// schema is the service's database, in the SQL that MariaDB and the embedded
// server share. Hashes are lower-case hex SHA-256 of the JSON.
var schema = []string{
	`CREATE TABLE IF NOT EXISTS business_rule (
		hash VARCHAR(64) NOT NULL PRIMARY KEY, country VARCHAR(2) NOT NULL,
		identifier VARCHAR(32) NOT NULL, version VARCHAR(32) NOT NULL, json LONGBLOB NOT NULL)`,
	`CREATE TABLE IF NOT EXISTS value_set (
		id VARCHAR(100) NOT NULL PRIMARY KEY, hash VARCHAR(64) NOT NULL, json LONGBLOB NOT NULL)`,
	`CREATE TABLE IF NOT EXISTS country (code VARCHAR(2) NOT NULL PRIMARY KEY)`,
}

type storedRule struct {
	hash, country, identifier, version string
	json                               []byte
}

type storedSet struct {
	id, hash string
	json     []byte
}

// store is the service's database.
type store struct{ db *sql.DB }

func openStore(ctx context.Context, db *sql.DB) (*store, error) {
	for _, stmt := range schema {
		if _, err := db.ExecContext(ctx, stmt); err != nil {
			return nil, fmt.Errorf("create the business rule service's tables: %w", err)
		}
	}
	return &store{db}, nil
}

func hashOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func (s *store) rules(ctx context.Context) (out []storedRule, err error) {
	rows, err := s.db.QueryContext(ctx, `SELECT hash, country, identifier, version, json FROM business_rule ORDER BY identifier, version, hash`)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var r storedRule
		if err := rows.Scan(&r.hash, &r.country, &r.identifier, &r.version, &r.json); err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, rows.Err()
}

func (s *store) sets(ctx context.Context) (out []storedSet, err error) {
	rows, err := s.db.QueryContext(ctx, `SELECT id, hash, json FROM value_set ORDER BY id`)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var v storedSet
		if err := rows.Scan(&v.id, &v.hash, &v.json); err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, rows.Err()
}

func (s *store) countries(ctx context.Context) (out []string, err error) {
	rows, err := s.db.QueryContext(ctx, `SELECT code FROM country ORDER BY code`)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var c string
		if err := rows.Scan(&c); err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, rows.Err()
}

// download is what one round brought. A part that is nil was not downloaded
// and stays as it is.
type download struct {
	countries []string
	rules     map[string][]connector.Rule // by country
	sets      map[string][]byte           // by id
}

// put replaces what was downloaded, all or nothing.
func (s *store) put(ctx context.Context, d download) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	exec := func(query string, args ...any) {
		if err == nil {
			_, err = tx.ExecContext(ctx, query, args...)
		}
	}
	if d.countries != nil {
		exec(`DELETE FROM country`)
		for _, c := range d.countries {
			exec(`INSERT INTO country (code) VALUES (?)`, c)
		}
	}
	for country, rules := range d.rules {
		exec(`DELETE FROM business_rule WHERE country = ?`, country)
		seen := map[string]bool{}
		for _, r := range rules {
			if hash := hashOf(r.JSON); !seen[hash] {
				seen[hash] = true
				exec(`INSERT INTO business_rule (hash, country, identifier, version, json) VALUES (?, ?, ?, ?, ?)`, hash, r.Country, r.Identifier, r.Version, r.JSON)
			}
		}
	}
	if d.sets != nil {
		exec(`DELETE FROM value_set`)
		for id, body := range d.sets {
			exec(`INSERT INTO value_set (id, hash, json) VALUES (?, ?, ?)`, id, hashOf(body), body)
		}
	}
	if err != nil {
		return err
	}
	return tx.Commit()
}
