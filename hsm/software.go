package hsm

import (
	"context"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"verdant/internal/sealfile"
)

// ErrRoot is wrapped when the root key is not the one the token was made with,
// or the token's directory was changed.
var ErrRoot = errors.New("the root key does not open this token")

const (
	// checkName is the blob that tells a wrong root key from a damaged key
	// before any key is used. It is no KeyID: those have no dots.
	checkName = "token.check"
	checkText = "verdant software token 1\n"
	// maxParsed bounds the keys kept parsed in memory (an RSA-4096 key takes
	// about 8 kB, an EC key 0.5 kB).
	maxParsed = 8192
)

// Software is a Token of sealed blobs: one blob a key, AES-256-GCM under the
// root key with the key's id as associated data, kept durably in a Blobs before
// the key is acknowledged. It opens in constant time and parses a key on its
// first use. Delete removes the blob; bytes that the place leaves behind are
// sealed. Whoever has the root key and the blobs has the keys: it is as safe as
// the place where the root key is kept.
type Software struct {
	blobs Blobs
	box   sealfile.Box

	mu        sync.RWMutex
	parsed    map[KeyID]*softKey
	deletions uint64 // counts deletions, so that a reader overtaken by one keeps nothing
}

// OpenSoftware opens the token in the files of dir, making it on first use.
func OpenSoftware(ctx context.Context, dir string, root [32]byte) (*Software, error) {
	s, err := OpenBlobs(ctx, FileBlobs(dir), root)
	if err != nil {
		return nil, fmt.Errorf("token in %s: %w", dir, err)
	}
	return s, nil
}

// OpenBlobs opens the token whose sealed keys are in blobs, making it on first
// use. Several may have the same blobs open: what one makes or deletes, the
// others have at once, but for a key that one holds in memory and another
// deletes, which works until Forget.
func OpenBlobs(ctx context.Context, blobs Blobs, root [32]byte) (*Software, error) {
	s := &Software{blobs: blobs, box: sealfile.NewBox(root), parsed: map[KeyID]*softKey{}}
	err := s.check(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		if err = s.initialise(ctx); errors.Is(err, fs.ErrExist) {
			err = s.check(ctx) // another opener was faster
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open token: %w", err)
	}
	return s, nil
}

// check proves the root key.
func (s *Software) check(ctx context.Context) error {
	text, err := s.read(ctx, checkName)
	if errors.Is(err, sealfile.ErrSeal) || err == nil && string(text) != checkText {
		return ErrRoot
	}
	return err
}

// initialise makes a new token, unless there are keys already: then the check
// file was taken away and the root key cannot be proved right.
func (s *Software) initialise(ctx context.Context) error {
	empty, err := s.blobs.Empty(ctx)
	if err == nil && !empty {
		err = fmt.Errorf("%w: it holds keys but no %s", ErrRoot, checkName)
	}
	if err != nil {
		return err
	}
	return s.write(ctx, checkName, []byte(checkText))
}

func (s *Software) read(ctx context.Context, name string) ([]byte, error) {
	sealed, err := s.blobs.Read(ctx, name)
	if err != nil {
		return nil, err
	}
	return s.box.Open(name, sealed)
}

func (s *Software) write(ctx context.Context, name string, data []byte) error {
	sealed, err := s.box.Seal(name, data)
	if err != nil {
		return err
	}
	return s.blobs.Create(ctx, name, sealed)
}

// EnsureSigner returns the key with the given label, made on first use.
func (s *Software) EnsureSigner(ctx context.Context, label string, spec KeySpec) (crypto.Signer, error) {
	return EnsureSigner(ctx, s, label, spec)
}

// Generate implements Token.
func (s *Software) Generate(ctx context.Context, id KeyID, spec KeySpec) (Key, error) {
	return s.create(ctx, id, spec.Exportable, func() (*Material, error) { return generate(spec) })
}

// Import implements Token.
func (s *Software) Import(ctx context.Context, id KeyID, m *Material, exportable bool) (Key, error) {
	return s.create(ctx, id, exportable, func() (*Material, error) { return m.clone() })
}

// create makes and keeps a key. Of two callers with one id, the one whose blob
// comes second gets ErrExists.
func (s *Software) create(ctx context.Context, id KeyID, exportable bool, make func() (*Material, error)) (Key, error) {
	if err := errors.Join(ctx.Err(), id.Check()); err != nil {
		return nil, err
	}
	if _, err := s.Key(ctx, id); !errors.Is(err, ErrNotFound) { // before the work of making a key
		if err == nil {
			err = ErrExists
		}
		return nil, fmt.Errorf("create key %s: %w", id, err)
	}
	m, err := make()
	if err != nil {
		return nil, fmt.Errorf("create key %s: %w", id, err)
	}
	m.spec.Exportable = exportable
	k := newSoftKey(id, m)
	record, err := m.encode()
	if err != nil {
		return nil, fmt.Errorf("create key %s: %w", id, err)
	}
	defer clear(record)
	if err := s.write(ctx, string(id), record); err != nil {
		if errors.Is(err, fs.ErrExist) {
			err = ErrExists
		}
		return nil, fmt.Errorf("create key %s: %w", id, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remember(k)
	return k, nil
}

// remember keeps a parsed key. The caller holds mu.
func (s *Software) remember(k *softKey) {
	if len(s.parsed) >= maxParsed {
		for id := range s.parsed { // some key: it will be parsed again when it is used
			delete(s.parsed, id)
			break
		}
	}
	s.parsed[k.id] = k
}

// Key implements Token.
func (s *Software) Key(ctx context.Context, id KeyID) (Key, error) {
	k, err := s.find(ctx, id)
	if err != nil {
		return nil, err
	}
	return k, nil
}

func (s *Software) find(ctx context.Context, id KeyID) (*softKey, error) {
	s.mu.RLock()
	k, deletions := s.parsed[id], s.deletions
	s.mu.RUnlock()
	if k != nil {
		return k, nil
	}
	if err := errors.Join(ctx.Err(), id.Check()); err != nil {
		return nil, err
	}
	record, err := s.read(ctx, string(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("key %s: %w", id, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", id, err)
	}
	defer clear(record)
	if k, err = decode(id, record); err != nil {
		return nil, fmt.Errorf("key %s: %w", id, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.deletions == deletions {
		s.remember(k)
	}
	return k, nil
}

// Delete implements Token.
func (s *Software) Delete(ctx context.Context, id KeyID) error {
	if err := errors.Join(ctx.Err(), id.Check()); err != nil {
		return err
	}
	defer s.Forget(id) // again: a reader may have been at the blob
	s.Forget(id)
	if err := s.blobs.Remove(ctx, string(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("delete key %s: %w", id, err)
	}
	return nil
}

// Forget drops what is in memory of a key, for those who learn that another
// opener of the same blobs deleted it.
func (s *Software) Forget(id KeyID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deletions++
	delete(s.parsed, id)
}

// Export implements Token.
func (s *Software) Export(ctx context.Context, id KeyID) (*Material, error) {
	k, err := s.find(ctx, id)
	if err != nil {
		return nil, err
	}
	if !k.m.spec.Exportable {
		return nil, fmt.Errorf("export key %s: %w", id, ErrNotExportable)
	}
	return k.m.clone()
}

// softKey is a Key in memory. The material is a field and not embedded: its
// methods would be the key's, and give it away.
type softKey struct {
	id   KeyID
	m    *Material
	aead cipher.AEAD // of an oct key; nil for others
}

func newSoftKey(id KeyID, m *Material) *softKey {
	k := &softKey{id: id, m: m}
	if len(m.oct) > 0 {
		if block, err := aes.NewCipher(m.oct); err == nil {
			k.aead, _ = cipher.NewGCMWithRandomNonce(block)
		}
	}
	return k
}

func (k *softKey) ID() KeyID                { return k.id }
func (k *softKey) Spec() KeySpec            { return k.m.spec }
func (k *softKey) Public() crypto.PublicKey { return k.m.Public() }

// Format keeps key material out of every verb of package fmt.
func (k *softKey) Format(f fmt.State, _ rune) { _, _ = fmt.Fprintf(f, "hsm key %s", string(k.id)) }

// MarshalJSON refuses, as Material does.
func (k *softKey) MarshalJSON() ([]byte, error) { return k.m.MarshalJSON() }

func (k *softKey) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if opts == nil || !opts.HashFunc().Available() || len(digest) != opts.HashFunc().Size() {
		return nil, fmt.Errorf("sign with key %s: %w: the digest does not fit its hash", k.id, ErrOperation)
	}
	switch {
	case k.m.rsa != nil:
		return k.m.rsa.Sign(randomness(random), digest, opts)
	case k.m.ec != nil:
		return k.m.ec.Sign(randomness(random), digest, opts)
	case k.m.k256 != nil:
		return signP256K(k.m.k256, digest)
	}
	return nil, fmt.Errorf("sign with key %s: %w", k.id, ErrOperation)
}

func (k *softKey) Decrypt(random io.Reader, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	if k.m.rsa == nil {
		return nil, fmt.Errorf("decrypt with key %s: %w", k.id, ErrOperation)
	}
	return k.m.rsa.Decrypt(randomness(random), ciphertext, opts)
}

func randomness(r io.Reader) io.Reader {
	if r == nil {
		return rand.Reader
	}
	return r
}

var errSeal = fmt.Errorf("%w: only an oct key seals", ErrOperation)

func (k *softKey) Seal(plaintext, associated []byte) ([]byte, error) {
	if k.aead == nil {
		return nil, fmt.Errorf("seal with key %s: %w", k.id, errSeal)
	}
	return k.aead.Seal(nil, nil, plaintext, associated), nil
}

func (k *softKey) Open(sealed, associated []byte) ([]byte, error) {
	if k.aead == nil {
		return nil, fmt.Errorf("open with key %s: %w", k.id, errSeal)
	}
	plaintext, err := k.aead.Open(nil, nil, sealed, associated)
	if err != nil {
		return nil, fmt.Errorf("open with key %s: %w", k.id, ErrOpen)
	}
	return plaintext, nil
}

// A key's record: a version byte, a flag byte, the type's length and name, and
// the key (PKCS #8, or the bytes of an Oct key).
const (
	recordVersion  = 1
	flagExportable = 1
)

func (m *Material) encode() ([]byte, error) {
	body, kind := m.oct, []byte(m.spec.Type)
	switch {
	case m.k256 != nil:
		body, kind = m.k256.Serialize(), []byte(kindP256K)
		defer clear(body)
	case m.oct == nil:
		der, err := m.PKCS8()
		if err != nil {
			return nil, err
		}
		defer clear(der)
		body = der
	}
	flags := byte(0)
	if m.spec.Exportable {
		flags |= flagExportable
	}
	out := make([]byte, 0, 8+len(kind)+len(body))
	out = append(out, recordVersion, flags, byte(len(kind)))
	out = append(out, kind...)
	out = binary.BigEndian.AppendUint32(out, uint32(len(body)))
	return append(out, body...), nil
}

var errRecord = errors.New("the key's record has an unknown form")

func decode(id KeyID, record []byte) (*softKey, error) {
	if len(record) < 3 || record[0] != recordVersion || len(record) < 7+int(record[2]) {
		return nil, errRecord
	}
	n := 3 + int(record[2])
	kind, body := KeyType(record[3:n]), record[n+4:]
	if uint64(binary.BigEndian.Uint32(record[n:])) != uint64(len(body)) {
		return nil, errRecord
	}
	var m *Material
	var err error
	switch kind {
	case Oct:
		m, err = FromPrivateKey(body)
	case kindP256K:
		m, err = p256kFromBytes(body)
	default:
		m, err = FromPKCS8(body)
	}
	if err != nil {
		return nil, err
	}
	m.spec.Exportable = record[1]&flagExportable != 0
	return newSoftKey(id, m), nil
}

// clone copies key material through its encoding, so that wiping one copy
// leaves the other.
func (m *Material) clone() (*Material, error) {
	if m.oct != nil {
		return FromPrivateKey(m.oct)
	}
	if m.k256 != nil {
		d := m.k256.Serialize()
		defer clear(d)
		return p256kFromBytes(d)
	}
	der, err := m.PKCS8()
	if err != nil {
		return nil, err
	}
	defer clear(der)
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, err
	}
	return FromPrivateKey(key)
}

var (
	_ Token            = (*Software)(nil)
	_ Forgetter        = (*Software)(nil)
	_ crypto.Signer    = (Key)(nil)
	_ crypto.Decrypter = (Key)(nil)
)
