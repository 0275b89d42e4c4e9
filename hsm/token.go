// Package hsm is the only place where private key bytes exist. Everybody else
// holds a Key: a crypto.Signer and crypto.Decrypter without a way to print,
// marshal or copy what is in it.
//
// A Token keeps keys under ids that its caller chooses. It promises that a key
// is on stable storage before Generate or Import returns, that a key not
// created exportable never leaves, and that Delete is final. Software is the
// token of blobs sealed under a root key, in files or in another Blobs; a PKCS#11 token fits behind the same
// interface, and package hsmtest holds any token against it; Split joins the two.
//
// It refuses RSA other than 2048, 3072 and 4096 bits, curves other than P-256,
// P-384, P-521 (FIPS 186-5) and P-256K (SEC 2), and keys whose parts do not belong together.
package hsm

import (
	"context"
	"crypto"
	"crypto/fips140"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Token keeps keys. It is safe for concurrent use.
type Token interface {
	// Generate makes a new key under id, or returns ErrExists.
	Generate(ctx context.Context, id KeyID, spec KeySpec) (Key, error)
	// Import keeps material under id, or returns ErrExists. exportable says
	// whether Export gives it out again. The material is not the token's to
	// keep: the caller wipes it.
	Import(ctx context.Context, id KeyID, m *Material, exportable bool) (Key, error)
	// Key returns the key with the given id, or ErrNotFound.
	Key(ctx context.Context, id KeyID) (Key, error)
	// Delete destroys the key with the given id; deleting a key that is not
	// there is no error. Keys handed out before may work until they are
	// dropped.
	Delete(ctx context.Context, id KeyID) error
	// Export returns the material of a key that was made exportable, and
	// ErrNotExportable for any other.
	Export(ctx context.Context, id KeyID) (*Material, error)
}

// Forgetter is a Token that several may have open at a time, each with keys in
// memory.
type Forgetter interface {
	// Forget drops what is in memory of a key that another one deleted.
	Forget(id KeyID)
}

// Key is a handle on a key in a token. It is safe for concurrent use.
type Key interface {
	// Public returns *rsa.PublicKey, *ecdsa.PublicKey or, on P-256K,
	// *PublicP256K; nil for an Oct key.
	Public() crypto.PublicKey
	// Sign makes a signature over a digest as crypto.Signer says: ASN.1 for
	// EC; PKCS #1 v1.5 or, with *rsa.PSSOptions, PSS for RSA. A token may take
	// its randomness from elsewhere than rand.
	Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error)
	// Decrypt opens an RSA ciphertext as crypto.Decrypter says. opts is
	// *rsa.OAEPOptions, or nil for PKCS #1 v1.5, whose padding errors tell a
	// caller who may ask freely too much: it is for old ciphertexts only.
	Decrypt(rand io.Reader, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error)
	// Seal encrypts with an Oct key: AES-GCM (NIST SP 800-38D) with associated
	// data, a fresh nonce of 96 bits in front of the ciphertext and a tag of 128
	// behind it. Nobody else chooses the nonce: one used twice gives the
	// plaintexts away.
	Seal(plaintext, associated []byte) ([]byte, error)
	// Open is the inverse of Seal, or ErrOpen.
	Open(sealed, associated []byte) ([]byte, error)
	// Encipher encrypts with an Oct key as mode says, up to MaxEncipher bytes.
	Encipher(mode Mode, iv, plaintext []byte) ([]byte, error)
	// Decipher is the inverse of Encipher, or ErrOpen.
	Decipher(mode Mode, iv, ciphertext []byte) ([]byte, error)
	// Spec says what the key is.
	Spec() KeySpec
	// ID is the key's id in its token.
	ID() KeyID
}

var (
	// ErrExists is wrapped when a key with the id is there already.
	ErrExists = errors.New("a key with this id exists")
	// ErrNotFound is wrapped when there is no key with the id.
	ErrNotFound = errors.New("no such key in the token")
	// ErrNotExportable is wrapped when a key was not made exportable.
	ErrNotExportable = errors.New("the key does not leave the token")
	// ErrSpec is wrapped for a key type, size or curve that is refused.
	ErrSpec = errors.New("key specification refused")
	// ErrMaterial is wrapped for key material that is damaged or whose parts
	// do not belong together.
	ErrMaterial = errors.New("key material refused")
	// ErrOperation is wrapped for an operation that the kind of key cannot do.
	ErrOperation = errors.New("this kind of key cannot do that")
	// ErrUnavailable is wrapped when the token cannot be reached just now: the
	// caller may try again later, and no key is lost.
	ErrUnavailable = errors.New("the token is not available")
	// ErrRefused is wrapped when the token refused the PIN or its settings:
	// trying again would not help and could lock it.
	ErrRefused = errors.New("the token will not open; mend its settings and start again")
)

// KeyID names a key in its token: 1 to 64 lower-case letters, digits and
// dashes.
type KeyID string

// NewKeyID returns a random id.
func NewKeyID() KeyID {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never returns an error (crypto/rand)
	return KeyID(hex.EncodeToString(b[:]))
}

// LabelID returns the id that EnsureSigner gives to a label.
func LabelID(label string) KeyID {
	sum := sha256.Sum256([]byte("verdant key label\x00" + label))
	return KeyID(labelPrefix + hex.EncodeToString(sum[:16]))
}

// labelPrefix begins the ids of LabelID; no id of NewKeyID has a dash.
const labelPrefix = "label-"

func (id KeyID) labelled() bool { return strings.HasPrefix(string(id), labelPrefix) }

// Check refuses, with ErrSpec, what is no key id.
func (id KeyID) Check() error {
	ok := len(id) > 0 && len(id) <= 64
	for _, c := range id {
		ok = ok && (c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-')
	}
	if !ok {
		return fmt.Errorf("key id %q: %w: use 1 to 64 lower-case letters, digits and dashes", string(id), ErrSpec)
	}
	return nil
}

// KeyType is the family of a key.
type KeyType string

// The key types.
const (
	RSA KeyType = "RSA"
	EC  KeyType = "EC"
	Oct KeyType = "oct"
)

// Curve is a NIST curve.
type Curve string

// The curves.
const (
	P256 Curve = "P-256"
	P384 Curve = "P-384"
	P521 Curve = "P-521"
)

// KeySpec says what a key is or shall be.
type KeySpec struct {
	Type KeyType
	// Bits is the size of an RSA modulus (2048, 3072, 4096) or of an Oct key
	// (128, 192, 256); 0 for EC.
	Bits int
	// Curve is the curve of an EC key.
	Curve Curve
	// Exportable lets Export give the key out. It cannot be changed later.
	Exportable bool
}

// Check refuses, with ErrSpec, a key that no token makes.
func (s KeySpec) Check() error {
	switch {
	case s.Curve == P256K && fips140.Enforced():
		return fmt.Errorf("%w: FIPS 140-3 has no curve P-256K, and GODEBUG=fips140=only allows nothing else", ErrSpec)
	case s.Type == RSA && (s.Bits == 2048 || s.Bits == 3072 || s.Bits == 4096) && s.Curve == "":
	case s.Type == EC && s.Bits == 0 && (s.Curve == P256K || s.Curve.elliptic() != nil):
	case s.Type == Oct && (s.Bits == 128 || s.Bits == 192 || s.Bits == 256) && s.Curve == "":
	default:
		return fmt.Errorf("%w: type %q, %d bits, curve %q", ErrSpec, s.Type, s.Bits, s.Curve)
	}
	return nil
}

// EnsureSigner returns the key with the given label, made on first use. A key
// that is there but of another type, size or curve is an error: it is not
// replaced.
func EnsureSigner(ctx context.Context, t Token, label string, spec KeySpec) (crypto.Signer, error) {
	k, err := Ensure(ctx, t, label, spec)
	if err != nil {
		return nil, err
	}
	if k.Public() == nil {
		return nil, fmt.Errorf("key %q: %w: a key of type %s does not sign", label, ErrOperation, spec.Type)
	}
	return k, nil
}

// Ensure is EnsureSigner for any kind of key.
func Ensure(ctx context.Context, t Token, label string, spec KeySpec) (Key, error) {
	id := LabelID(label)
	k, err := t.Key(ctx, id)
	if errors.Is(err, ErrNotFound) {
		if k, err = t.Generate(ctx, id, spec); errors.Is(err, ErrExists) {
			k, err = t.Key(ctx, id) // another caller was faster
		}
	}
	if err != nil {
		return nil, fmt.Errorf("key %q: %w", label, err)
	}
	if got := k.Spec(); got != spec {
		return nil, fmt.Errorf("key %q: %w: it is of type %s, %d bits, curve %q, exportable %v, and was asked for as %s, %d bits, curve %q, exportable %v",
			label, ErrSpec, got.Type, got.Bits, got.Curve, got.Exportable, spec.Type, spec.Bits, spec.Curve, spec.Exportable)
	}
	return k, nil
}
