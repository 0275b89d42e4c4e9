package hsm

import (
	"bytes"
	"context"
	"crypto/fips140"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"

	"golang.org/x/crypto/argon2"

	"verdant/internal/sealfile"
)

// RootSeal keeps the root key of a software token. What Seal returns may lie
// beside the token's blobs; whether that is enough to have the keys is what the
// implementations differ in. An error of Open wraps ErrRootSeal when the secret
// or the device is not the one that sealed, or the sealed bytes were changed.
type RootSeal interface {
	Seal(ctx context.Context, root [32]byte) ([]byte, error)
	Open(ctx context.Context, sealed []byte) ([32]byte, error)
}

// ErrRootSeal is wrapped when a sealed root key does not open.
var ErrRootSeal = errors.New("the root key does not open")

// sealedName is the name under which a root key is sealed.
const sealedName = "root.key"

// Unsealed is the seal that does nothing: whoever has the file has the key.
type Unsealed struct{}

// Seal implements RootSeal.
func (Unsealed) Seal(_ context.Context, root [32]byte) ([]byte, error) {
	return bytes.Clone(root[:]), nil
}

// Open implements RootSeal.
func (Unsealed) Open(_ context.Context, sealed []byte) ([32]byte, error) {
	if len(sealed) != 32 {
		return [32]byte{}, fmt.Errorf("%w: it has %d bytes, want 32", ErrRootSeal, len(sealed))
	}
	return [32]byte(sealed), nil
}

// PassphraseSeal seals under a key derived from a passphrase: with Argon2id
// (RFC 9106), or with PBKDF2-HMAC-SHA-256 (NIST SP 800-132) where the FIPS 140-3
// module is on. The parameters are kept with the sealed key, so that what one
// build sealed another opens, except that one that enforces FIPS 140-3 does not
// do Argon2id.
type PassphraseSeal struct {
	// Read returns the passphrase. It is asked once for a Seal or Open, and
	// what it returned is wiped.
	Read func() ([]byte, error)
}

const (
	// minPassphrase is the least that Seal takes: whoever has the sealed key
	// can try passphrases at leisure.
	minPassphrase = 12
	maxPassphrase = 1024
	saltSize      = 16

	kdfArgon2id = "argon2id"
	kdfPBKDF2   = "pbkdf2-hmac-sha256"
)

// kdf is a derivation and its parameters.
type kdf struct {
	Name string `json:"kdf"`
	Salt []byte `json:"salt"`
	// Time is the passes of Argon2id or the iterations of PBKDF2.
	Time    uint32 `json:"time"`
	Memory  uint32 `json:"memory,omitempty"`  // KiB
	Threads uint8  `json:"threads,omitempty"` // lanes
}

type passphraseRecord struct {
	kdf
	Sealed []byte `json:"sealed"`
}

// newKDF is the second choice of RFC 9106, section 4, or as many iterations of
// PBKDF2 as OWASP recommended in 2023.
func newKDF() kdf {
	d := kdf{Name: kdfArgon2id, Salt: make([]byte, saltSize), Time: 3, Memory: 64 << 10, Threads: 4}
	if fips140.Enabled() {
		d = kdf{Name: kdfPBKDF2, Salt: d.Salt, Time: 600_000}
	}
	_, _ = rand.Read(d.Salt) // never returns an error (crypto/rand)
	return d
}

// derive refuses parameters that a changed record could use to exhaust memory
// or time.
func (d kdf) derive(passphrase []byte) (key [32]byte, err error) {
	switch {
	case len(d.Salt) != saltSize:
		return key, fmt.Errorf("%w: a salt of %d bytes, want %d", ErrRootSeal, len(d.Salt), saltSize)
	case d.Name == kdfArgon2id && d.Time >= 1 && d.Time <= 16 && d.Memory >= 8<<10 && d.Memory <= 1<<20 && d.Threads >= 1:
		if fips140.Enforced() {
			return key, fmt.Errorf("%w: it was sealed with Argon2id, which FIPS 140-3 does not allow; seal it anew with `verdant reseal` in a process with GODEBUG=fips140=on", ErrRootSeal)
		}
		copy(key[:], argon2.IDKey(passphrase, d.Salt, d.Time, d.Memory, d.Threads, 32))
	case d.Name == kdfPBKDF2 && d.Time >= 1000 && d.Time <= 10_000_000:
		raw, err := pbkdf2.Key(sha256.New, string(passphrase), d.Salt, int(d.Time), 32)
		if err != nil {
			return key, fmt.Errorf("derive a key from the passphrase: %w", err)
		}
		copy(key[:], raw)
		clear(raw)
	default:
		return key, fmt.Errorf("%w: derivation %.40q with these parameters is refused", ErrRootSeal, d.Name)
	}
	return key, nil
}

// Seal implements RootSeal.
func (p PassphraseSeal) Seal(ctx context.Context, root [32]byte) ([]byte, error) {
	record := passphraseRecord{kdf: newKDF()}
	box, err := p.box(ctx, record.kdf, minPassphrase)
	if err == nil {
		record.Sealed, err = box.Seal(sealedName, root[:])
	}
	if err != nil {
		return nil, fmt.Errorf("seal the root key by a passphrase: %w", err)
	}
	return json.Marshal(record)
}

// Open implements RootSeal.
func (p PassphraseSeal) Open(ctx context.Context, sealed []byte) ([32]byte, error) {
	var record passphraseRecord
	if err := json.Unmarshal(sealed, &record); err != nil {
		return [32]byte{}, fmt.Errorf("open the root key by a passphrase: %w: %w", ErrRootSeal, err)
	}
	box, err := p.box(ctx, record.kdf, 1)
	if err != nil {
		return [32]byte{}, fmt.Errorf("open the root key by a passphrase: %w", err)
	}
	root, err := box.Open(sealedName, record.Sealed)
	if err != nil || len(root) != 32 {
		return [32]byte{}, fmt.Errorf("%w: the passphrase is wrong, or the sealed key was changed", ErrRootSeal)
	}
	defer clear(root)
	return [32]byte(root), nil
}

func (p PassphraseSeal) box(ctx context.Context, d kdf, atLeast int) (box sealfile.Box, err error) {
	if err := ctx.Err(); err != nil {
		return box, err
	}
	passphrase, err := p.Read()
	if err != nil {
		return box, err
	}
	defer clear(passphrase)
	if len(passphrase) < atLeast || len(passphrase) > maxPassphrase {
		return box, fmt.Errorf("%w: the passphrase must have %d to %d bytes", ErrRootSeal, atLeast, maxPassphrase)
	}
	key, err := d.derive(passphrase)
	if err != nil {
		return box, err
	}
	defer clear(key[:])
	return sealfile.NewBox(key), nil
}

// TokenSeal seals under an AES key that is made in another token, for this, and
// never leaves it. Sealing anew makes a new key; the old one stays, as what it
// sealed may be in a backup.
type TokenSeal struct{ Token Token }

type tokenRecord struct {
	Key    KeyID  `json:"key"`
	Sealed []byte `json:"sealed"`
}

// Seal implements RootSeal.
func (t TokenSeal) Seal(ctx context.Context, root [32]byte) ([]byte, error) {
	record := tokenRecord{Key: NewKeyID()}
	key, err := t.Token.Generate(ctx, record.Key, KeySpec{Type: Oct, Bits: 256})
	if err == nil {
		record.Sealed, err = key.Seal(root[:], []byte(sealedName))
	}
	if err != nil {
		return nil, fmt.Errorf("seal the root key by a token: %w", err)
	}
	return json.Marshal(record)
}

// Open implements RootSeal.
func (t TokenSeal) Open(ctx context.Context, sealed []byte) ([32]byte, error) {
	var record tokenRecord
	if err := json.Unmarshal(sealed, &record); err != nil {
		return [32]byte{}, fmt.Errorf("open the root key by a token: %w: %w", ErrRootSeal, err)
	}
	key, err := t.Token.Key(ctx, record.Key)
	if errors.Is(err, ErrNotFound) {
		return [32]byte{}, fmt.Errorf("%w: the token does not hold the key %.64q that sealed it; is it the right token?", ErrRootSeal, string(record.Key))
	}
	if err != nil {
		return [32]byte{}, fmt.Errorf("open the root key by a token: %w", err)
	}
	root, err := key.Open(record.Sealed, []byte(sealedName))
	if errors.Is(err, ErrOpen) || err == nil && len(root) != 32 {
		return [32]byte{}, fmt.Errorf("%w: the token's key %s did not seal it, or it was changed", ErrRootSeal, record.Key)
	}
	if err != nil {
		return [32]byte{}, fmt.Errorf("open the root key by a token: %w", err)
	}
	defer clear(root)
	return [32]byte(root), nil
}
