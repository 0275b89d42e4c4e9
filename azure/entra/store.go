package entra

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// Schema is the ordered list of statements that makes the service's tables,
// for sqlstore.Open.
var Schema = []string{
	`CREATE TABLE entra_key (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
		 CREATE TABLE entra_password (user TEXT PRIMARY KEY, hash TEXT NOT NULL) WITHOUT ROWID;
		 CREATE TABLE entra_code (digest BLOB PRIMARY KEY, client TEXT NOT NULL, data BLOB NOT NULL,
			expires INTEGER NOT NULL, used INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
		 CREATE INDEX entra_code_expires ON entra_code (expires);
		 CREATE TABLE entra_refresh (digest BLOB PRIMARY KEY, family BLOB NOT NULL, client TEXT NOT NULL, data BLOB NOT NULL,
			expires INTEGER NOT NULL, used INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
		 CREATE INDEX entra_refresh_family ON entra_refresh (family);
		 CREATE INDEX entra_refresh_expires ON entra_refresh (expires);
		 CREATE TABLE entra_session (digest BLOB PRIMARY KEY, user TEXT NOT NULL, since INTEGER NOT NULL,
			expires INTEGER NOT NULL) WITHOUT ROWID;
		 CREATE INDEX entra_session_expires ON entra_session (expires);
		 CREATE TABLE entra_attempt (name BLOB PRIMARY KEY, failures INTEGER NOT NULL, locked INTEGER NOT NULL,
			expires INTEGER NOT NULL) WITHOUT ROWID;
		 CREATE INDEX entra_attempt_expires ON entra_attempt (expires);`,
}

// store keeps what must survive a crash. Secrets that clients hold are kept
// as SHA-256 digests only. Times are microseconds since 1970.
type store struct{ db *sql.DB }

func digestOf(secret string) []byte {
	sum := sha256.Sum256([]byte(secret))
	return sum[:]
}

// grant is what a code or a refresh token stands for.
type grant struct {
	User        string    `json:"user"`
	RedirectURI string    `json:"redirect,omitempty"`
	Challenge   string    `json:"challenge,omitempty"`
	Nonce       string    `json:"nonce,omitempty"`
	Scope       string    `json:"scope,omitempty"`
	Resource    string    `json:"resource,omitempty"`
	AuthTime    time.Time `json:"auth_time"`
	Session     string    `json:"session,omitempty"`
	// TokenID is the id that the sign-in's row announced; the first access
	// token bears it.
	TokenID string `json:"token_id,omitempty"`
}

// formKey returns the key that sign-in forms are bound to browsers with, made
// on first use.
func (s *store) formKey(ctx context.Context, random io.Reader) ([]byte, error) {
	fresh := make([]byte, 32)
	if _, err := io.ReadFull(random, fresh); err != nil {
		return nil, err
	}
	var key []byte
	if _, err := s.db.ExecContext(ctx, `INSERT OR IGNORE INTO entra_key (name, value) VALUES ('form', ?)`, fresh); err != nil {
		return nil, fmt.Errorf("key of the sign-in form: %w", err)
	}
	if err := s.db.QueryRowContext(ctx, `SELECT value FROM entra_key WHERE name = 'form'`).Scan(&key); err != nil {
		return nil, fmt.Errorf("key of the sign-in form: %w", err)
	}
	return key, nil
}

func (s *store) password(ctx context.Context, user string) (hash string, err error) {
	err = s.db.QueryRowContext(ctx, `SELECT hash FROM entra_password WHERE user = ?`, user).Scan(&hash)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return hash, err
}

func (s *store) setPassword(ctx context.Context, user, hash string) error {
	_, err := s.db.ExecContext(ctx, `INSERT INTO entra_password (user, hash) VALUES (?, ?)
		ON CONFLICT (user) DO UPDATE SET hash = excluded.hash`, user, hash)
	return err
}

// keepUsed is how long a used code is remembered, so that its second use is
// recognised.
const keepUsed = time.Hour

func (s *store) addCode(ctx context.Context, code, client string, g grant, now time.Time, life time.Duration) error {
	data, err := json.Marshal(g)
	if err != nil {
		return err
	}
	return s.inTx(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM entra_code WHERE expires < ?`, now.Add(-keepUsed).UnixMicro()); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO entra_code (digest, client, data, expires) VALUES (?, ?, ?, ?)`,
			digestOf(code), client, data, now.Add(life).UnixMicro())
		return err
	})
}

// Outcomes of presenting a code or a refresh token.
var (
	errNoGrant      = errors.New("no such code or refresh token")
	errGrantExpired = errors.New("code or refresh token has expired")
	errGrantReused  = errors.New("code or refresh token was used before")
)

// useCode takes a code: of any number of callers, also across a crash, one
// gets its grant. Presenting it again revokes the refresh tokens made from
// it.
func (s *store) useCode(ctx context.Context, code, client string, now time.Time) (grant, error) {
	digest := digestOf(code)
	var data []byte
	err := s.db.QueryRowContext(ctx, `UPDATE entra_code SET used = ? WHERE digest = ? AND client = ? AND used = 0 AND expires > ? RETURNING data`,
		now.UnixMicro(), digest, client, now.UnixMicro()).Scan(&data)
	if errors.Is(err, sql.ErrNoRows) {
		return grant{}, s.whyNotCode(ctx, digest, client)
	}
	if err != nil {
		return grant{}, err
	}
	return decodeGrant(data)
}

func (s *store) whyNotCode(ctx context.Context, digest []byte, client string) error {
	var used int64
	err := s.db.QueryRowContext(ctx, `SELECT used FROM entra_code WHERE digest = ? AND client = ?`, digest, client).Scan(&used)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return errNoGrant
	case err != nil:
		return err
	case used == 0:
		return errGrantExpired
	}
	if err := s.revokeCode(ctx, digest); err != nil {
		return err
	}
	return errGrantReused
}

// codeRevoked marks a code that was presented twice.
const codeRevoked = -1

func (s *store) revokeCode(ctx context.Context, digest []byte) error {
	return s.inTx(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `UPDATE entra_code SET used = ? WHERE digest = ?`, codeRevoked, digest); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `DELETE FROM entra_refresh WHERE family = ?`, digest)
		return err
	})
}

// addRefresh keeps the first refresh token of a family. The family's id is
// the digest of the code that began it. If the code was presented again
// meanwhile there is no family to begin.
func (s *store) addRefresh(ctx context.Context, token, code, client string, g grant, now time.Time, life time.Duration) error {
	family := digestOf(code)
	return s.inTx(ctx, func(tx *sql.Tx) error {
		if err := insertRefresh(ctx, tx, token, family, client, g, now, life); err != nil {
			return err
		}
		var used int64
		if err := tx.QueryRowContext(ctx, `SELECT used FROM entra_code WHERE digest = ?`, family).Scan(&used); err != nil {
			return err
		}
		if used == codeRevoked {
			return errGrantReused
		}
		return nil
	})
}

func insertRefresh(ctx context.Context, tx *sql.Tx, token string, family []byte, client string, g grant, now time.Time, life time.Duration) error {
	data, err := json.Marshal(g)
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `DELETE FROM entra_refresh WHERE expires < ?`, now.UnixMicro()); err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO entra_refresh (digest, family, client, data, expires) VALUES (?, ?, ?, ?, ?)`,
		digestOf(token), family, client, data, now.Add(life).UnixMicro())
	return err
}

// refresh looks at a refresh token without using it.
func (s *store) refresh(ctx context.Context, token, client string, now time.Time) (grant, error) {
	var data, family []byte
	var expires, used int64
	err := s.db.QueryRowContext(ctx, `SELECT data, family, expires, used FROM entra_refresh WHERE digest = ? AND client = ?`,
		digestOf(token), client).Scan(&data, &family, &expires, &used)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return grant{}, errNoGrant
	case err != nil:
		return grant{}, err
	case used != 0:
		if err := s.revokeFamily(ctx, family); err != nil {
			return grant{}, err
		}
		return grant{}, errGrantReused
	case expires <= now.UnixMicro():
		return grant{}, errGrantExpired
	}
	return decodeGrant(data)
}

// rotate replaces a refresh token by the next of its family. If somebody else
// has used it, the whole family is revoked.
func (s *store) rotate(ctx context.Context, old, next, client string, g grant, now time.Time, life time.Duration) error {
	var family []byte
	err := s.inTx(ctx, func(tx *sql.Tx) error {
		err := tx.QueryRowContext(ctx, `UPDATE entra_refresh SET used = ? WHERE digest = ? AND client = ? AND used = 0 RETURNING family`,
			now.UnixMicro(), digestOf(old), client).Scan(&family)
		if err != nil {
			return err
		}
		return insertRefresh(ctx, tx, next, family, client, g, now, life)
	})
	if errors.Is(err, sql.ErrNoRows) {
		_, err = s.refresh(ctx, old, client, now)
		if err == nil {
			err = errNoGrant
		}
	}
	return err
}

func (s *store) revokeFamily(ctx context.Context, family []byte) error {
	_, err := s.db.ExecContext(ctx, `DELETE FROM entra_refresh WHERE family = ?`, family)
	return err
}

// session is a browser's sign-in.
type session struct {
	user  string
	since time.Time
}

func (s *store) addSession(ctx context.Context, id, user string, now time.Time, life time.Duration) error {
	return s.inTx(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM entra_session WHERE expires < ?`, now.UnixMicro()); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO entra_session (digest, user, since, expires) VALUES (?, ?, ?, ?)`,
			digestOf(id), user, now.UnixMicro(), now.Add(life).UnixMicro())
		return err
	})
}

func (s *store) session(ctx context.Context, id string, now time.Time) (session, bool, error) {
	var out session
	var since int64
	err := s.db.QueryRowContext(ctx, `SELECT user, since FROM entra_session WHERE digest = ? AND expires > ?`,
		digestOf(id), now.UnixMicro()).Scan(&out.user, &since)
	if errors.Is(err, sql.ErrNoRows) {
		return session{}, false, nil
	}
	out.since = time.UnixMicro(since)
	return out, err == nil, err
}

func (s *store) endSession(ctx context.Context, id string) error {
	_, err := s.db.ExecContext(ctx, `DELETE FROM entra_session WHERE digest = ?`, digestOf(id))
	return err
}

func (s *store) inTx(ctx context.Context, fn func(*sql.Tx) error) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := fn(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

func decodeGrant(data []byte) (grant, error) {
	var g grant
	if err := json.Unmarshal(data, &g); err != nil {
		return grant{}, fmt.Errorf("stored grant: %w", err)
	}
	return g, nil
}
