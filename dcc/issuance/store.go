package issuance

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// schema is the service's part of the database, in the SQL that MariaDB and
// the embedded server share. Hashes are hex; times are microseconds since
// 1970, 0 for never. No column says who a certificate is about.
var schema = []string{
	`CREATE TABLE IF NOT EXISTS dgci (
		dgci_hash VARCHAR(64) NOT NULL PRIMARY KEY,
		cert_hash VARCHAR(64) NOT NULL, hashed_tan VARCHAR(64) NOT NULL,
		certificate_type VARCHAR(16) NOT NULL, kid VARCHAR(16) NOT NULL,
		created_at BIGINT NOT NULL, expires_at BIGINT NOT NULL,
		signed INT NOT NULL, claimed INT NOT NULL, retry_counter INT NOT NULL,
		locked INT NOT NULL, revoked INT NOT NULL, public_key BLOB NOT NULL)`,
}

// record is one certificate as the service remembers it.
type record struct {
	dgciHash  string
	certHash  string // empty while signed is false
	hashedTAN string
	kind      string
	kid       string
	created   time.Time
	expires   time.Time

	signed, claimed, locked, revoked bool
	retries                          int
	publicKey                        []byte // SubjectPublicKeyInfo; empty until claimed
}

// store keeps the records. Inserts that come together share one statement and
// one commit.
type store struct {
	db *sql.DB

	mu      sync.Mutex
	pending []*insertion
	busy    bool // somebody is writing, and will hand over
}

// insertion is one record waiting to be written.
type insertion struct {
	rec  record
	done chan error    // gets the outcome
	lead chan struct{} // tells the owner to write the next batch
}

func openStore(ctx context.Context, db *sql.DB) (*store, error) {
	for _, stmt := range schema {
		if _, err := db.ExecContext(ctx, stmt); err != nil {
			return nil, fmt.Errorf("create the issuance service's tables: %w", err)
		}
	}
	return &store{db: db}, nil
}

const (
	maxBatch     = 64
	writeTimeout = 20 * time.Second
)

// insert writes a record and returns when it is committed, also if ctx ends
// meanwhile: the outcome is known within writeTimeout of the batch's turn.
func (s *store) insert(ctx context.Context, rec record) error {
	in := &insertion{rec, make(chan error, 1), make(chan struct{}, 1)}
	s.mu.Lock()
	s.pending = append(s.pending, in)
	lead := !s.busy
	s.busy = true
	s.mu.Unlock()
	if !lead {
		select {
		case err := <-in.done:
			return err
		case <-in.lead:
		}
	}
	// The batch holds other callers' records, so it does not end with ours.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
	defer cancel()
	s.writeBatch(ctx)
	return <-in.done
}

// writeBatch writes what is pending and makes the next one waiting write
// after it. The caller's own record is the first of what is pending.
func (s *store) writeBatch(ctx context.Context) {
	s.mu.Lock()
	n := min(len(s.pending), maxBatch)
	batch := s.pending[:n:n]
	s.pending = s.pending[n:]
	s.mu.Unlock()

	err := s.write(ctx, batch)

	s.mu.Lock()
	if len(s.pending) > 0 {
		s.pending[0].lead <- struct{}{}
	} else {
		s.busy, s.pending = false, nil
	}
	s.mu.Unlock()
	for _, in := range batch {
		in.done <- err
	}
}

func (s *store) write(ctx context.Context, batch []*insertion) error {
	const columns = 13
	args := make([]any, 0, columns*len(batch))
	for _, in := range batch {
		r := in.rec
		args = append(args, r.dgciHash, r.certHash, r.hashedTAN, r.kind, r.kid, r.created.UnixMicro(), r.expires.UnixMicro(),
			flag(r.signed), 0, 0, 0, 0, []byte{})
	}
	row := ", (" + strings.Repeat("?, ", columns-1) + "?)"
	_, err := s.db.ExecContext(ctx, `INSERT INTO dgci (dgci_hash, cert_hash, hashed_tan, certificate_type, kid, created_at, expires_at, signed, claimed, retry_counter, locked, revoked, public_key) VALUES `+
		strings.Repeat(row, len(batch))[2:], args...)
	return err
}

func flag(b bool) int {
	if b {
		return 1
	}
	return 0
}

// find returns the record of a UVCI's hash; nil if there is none.
func (s *store) find(ctx context.Context, dgciHash string) (*record, error) {
	r := record{dgciHash: dgciHash}
	var created, expires int64
	err := s.db.QueryRowContext(ctx, `SELECT cert_hash, hashed_tan, certificate_type, kid, created_at, expires_at, signed, claimed, retry_counter, locked, revoked, public_key FROM dgci WHERE dgci_hash = ?`, dgciHash).
		Scan(&r.certHash, &r.hashedTAN, &r.kind, &r.kid, &created, &expires, &r.signed, &r.claimed, &r.retries, &r.locked, &r.revoked, &r.publicKey)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	r.created, r.expires = time.UnixMicro(created), time.UnixMicro(expires)
	return &r, err
}

// finish records the signature of a reserved UVCI; false if it has one.
func (s *store) finish(ctx context.Context, dgciHash, certHash, hashedTAN string) (bool, error) {
	return s.one(ctx, `UPDATE dgci SET cert_hash = ?, hashed_tan = ?, signed = 1 WHERE dgci_hash = ? AND signed = 0`, certHash, hashedTAN, dgciHash)
}

// attempt counts an attempt to claim; false if there were too many failures.
// It is counted before the TAN is looked at, so that attempts at the same
// time cannot slip under the limit.
func (s *store) attempt(ctx context.Context, dgciHash string) (bool, error) {
	return s.one(ctx, `UPDATE dgci SET retry_counter = retry_counter + 1 WHERE dgci_hash = ? AND retry_counter < ?`, dgciHash, maxWrongTANs)
}

// claim binds a certificate to a wallet's key and puts the next TAN in the
// place of the one that was used; false if that was used in the meantime.
func (s *store) claim(ctx context.Context, dgciHash, usedTAN, nextTAN string, publicKey []byte) (bool, error) {
	return s.one(ctx, `UPDATE dgci SET hashed_tan = ?, public_key = ?, claimed = 1, retry_counter = 0 WHERE dgci_hash = ? AND hashed_tan = ?`, nextTAN, publicKey, dgciHash, usedTAN)
}

func (s *store) one(ctx context.Context, query string, args ...any) (bool, error) {
	res, err := s.db.ExecContext(ctx, query, args...)
	if err != nil {
		return false, err
	}
	n, err := res.RowsAffected()
	return n == 1, err
}
