package entra

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"golang.org/x/crypto/argon2"
)

// Cost of a password hash: Argon2id as OWASP's password storage cheat sheet
// sets it, 19 MiB and two passes.
const (
	argonMemory  = 19 * 1024
	argonPasses  = 2
	argonThreads = 1
	argonKey     = 32
	maxPassword  = 256
)

// HashPassword returns the Argon2id hash of a password in the PHC string
// format.
func HashPassword(password string) (string, error) {
	if password == "" || len(password) > maxPassword {
		return "", fmt.Errorf("a password has 1 to %d bytes", maxPassword)
	}
	var salt [16]byte
	if _, err := rand.Read(salt[:]); err != nil {
		return "", err
	}
	return encodeHash(salt[:], argonHash(password, salt[:])), nil
}

func argonHash(password string, salt []byte) []byte {
	return argon2.IDKey([]byte(password), salt, argonPasses, argonMemory, argonThreads, argonKey)
}

func encodeHash(salt, key []byte) string {
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, argonMemory, argonPasses, argonThreads,
		b64.EncodeToString(salt), b64.EncodeToString(key))
}

// decodeHash reads a hash of exactly our cost.
func decodeHash(hash string) (salt, key []byte, err error) {
	prefix := strings.TrimSuffix(encodeHash(nil, nil), "$")
	rest, ok := strings.CutPrefix(hash, prefix)
	s, k, both := strings.Cut(rest, "$")
	if !ok || !both {
		return nil, nil, errors.New("not an Argon2id hash of the cost in use")
	}
	if salt, err = base64.RawStdEncoding.DecodeString(s); err != nil || len(salt) < 8 {
		return nil, nil, errors.New("hash has no salt")
	}
	if key, err = base64.RawStdEncoding.DecodeString(k); err != nil || len(key) != argonKey {
		return nil, nil, errors.New("hash has the wrong length")
	}
	return salt, key, nil
}

// initialPasswords hashes the passwords of users who have none in the
// database yet.
func (s *Server) initialPasswords(ctx context.Context) error {
	for i := range s.cfg.Users {
		u := &s.cfg.Users[i]
		password, hash := u.Password, u.PasswordHash
		u.Password, u.PasswordHash = "", ""
		if password == "" && hash == "" {
			continue
		}
		known, err := s.store.password(ctx, u.ObjectID)
		if err != nil {
			return fmt.Errorf("password of %s: %w", u.UPN, err)
		}
		if known != "" {
			continue
		}
		if hash == "" {
			hash, err = HashPassword(password)
		} else {
			_, _, err = decodeHash(hash)
		}
		if err == nil {
			err = s.store.setPassword(ctx, u.ObjectID, hash)
		}
		if err != nil {
			return fmt.Errorf("password of %s: %w", u.UPN, err)
		}
	}
	return nil
}

// Lock-out: after lockAfter failures in a row a name is locked for a minute,
// and for twice as long with each further lockAfter failures, up to an hour.
const (
	lockAfter   = 10
	lockFirst   = time.Minute
	lockMost    = time.Hour
	attemptLife = 24 * time.Hour
	// maxAttempts bounds the names under watch, so that invented names cannot
	// fill the disk. Beyond it invented names count as locked; users' names
	// are always watched.
	maxAttempts = 10_000
)

var (
	errBadPassword = fail("invalid_grant", 50126, "Error validating credentials due to invalid username or password.")
	errLocked      = fail("invalid_grant", 50053, "The account is locked, you've tried to sign in too many times with an incorrect user ID or password.").withStatus(http.StatusTooManyRequests)
)

// authenticate checks a sign-in name and password. Names that do not exist
// cost the same time and are locked the same way, so that an answer does not
// tell which exist; user is set in a refusal where it does.
func (s *Server) authenticate(ctx context.Context, name, password string) (user *User, err error) {
	user = s.dir.user(name)
	now := s.now()
	account := strings.ToLower(strings.TrimSpace(name))
	if user != nil {
		account = user.ObjectID
	}
	if locked, err := s.store.locked(ctx, account, now); err != nil || locked {
		if err == nil {
			err = errLocked
		}
		return user, err
	}
	select {
	case s.check <- struct{}{}:
		defer func() { <-s.check }()
	case <-ctx.Done():
		return user, fail("temporarily_unavailable", 90033, "The service is temporarily unavailable. Please retry later.").withStatus(http.StatusServiceUnavailable)
	}
	// The attempt counts before the hash is computed: of many guesses made at
	// once no more get through than one after the other.
	locked, err := s.store.attempt(ctx, account, user != nil, now)
	switch {
	case err != nil:
		return user, err
	case locked:
		return user, errLocked
	}
	ok, err := s.passwordMatches(ctx, user, password)
	switch {
	case err != nil:
		return user, err
	case !ok:
		return user, errBadPassword
	}
	if user.Disabled {
		return user, fail("invalid_grant", 50057, "The user account is disabled.")
	}
	return user, s.store.forgive(ctx, account)
}

func (s *Server) passwordMatches(ctx context.Context, user *User, password string) (bool, error) {
	salt, want := make([]byte, 16), make([]byte, argonKey)
	known := false
	if user != nil {
		hash, err := s.store.password(ctx, user.ObjectID)
		if err != nil {
			return false, err
		}
		if hash != "" {
			if salt, want, err = decodeHash(hash); err != nil {
				return false, fmt.Errorf("stored password of %s: %w", user.ObjectID, err)
			}
			known = true
		}
	}
	if len(password) > maxPassword {
		password = ""
	}
	got := argonHash(password, salt)
	return subtle.ConstantTimeCompare(got, want) == 1 && known && password != "", nil
}

func accountKey(account string) []byte {
	sum := sha256.Sum256([]byte("account\x00" + account))
	return sum[:]
}

func (s *store) locked(ctx context.Context, account string, now time.Time) (bool, error) {
	var until int64
	err := s.db.QueryRowContext(ctx, `SELECT locked FROM entra_attempt WHERE name = ?`, accountKey(account)).Scan(&until)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return until > now.UnixMicro(), err
}

// attempt counts one attempt as failed until forgive says otherwise, and
// reports whether the account was locked meanwhile. known says that the
// account is a user's.
func (s *store) attempt(ctx context.Context, account string, known bool, now time.Time) (locked bool, err error) {
	key := accountKey(account)
	err = s.inTx(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM entra_attempt WHERE expires < ?`, now.UnixMicro()); err != nil {
			return err
		}
		var failures, until int64
		err := tx.QueryRowContext(ctx, `SELECT failures, locked FROM entra_attempt WHERE name = ?`, key).Scan(&failures, &until)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if errors.Is(err, sql.ErrNoRows) && !known {
			var n int
			if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM entra_attempt`).Scan(&n); err != nil {
				return err
			}
			if locked = n >= maxAttempts; locked {
				return nil
			}
		}
		if locked = until > now.UnixMicro(); locked {
			return nil
		}
		failures++
		if failures%lockAfter == 0 {
			pause := min(lockFirst<<min(failures/lockAfter-1, 6), lockMost)
			until = now.Add(pause).UnixMicro()
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO entra_attempt (name, failures, locked, expires) VALUES (?, ?, ?, ?)
			ON CONFLICT (name) DO UPDATE SET failures = excluded.failures, locked = excluded.locked, expires = excluded.expires`,
			key, failures, until, now.Add(attemptLife).UnixMicro())
		return err
	})
	return locked, err
}

func (s *store) forgive(ctx context.Context, account string) error {
	_, err := s.db.ExecContext(ctx, `DELETE FROM entra_attempt WHERE name = ?`, accountKey(account))
	return err
}
