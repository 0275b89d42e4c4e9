//go:build cgo

package pkcs11

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"fmt"
	"io"

	p11 "github.com/miekg/pkcs11"

	"verdant/hsm"
)

// key is a handle on a key in the token.
type key struct {
	token  *Token
	id     hsm.KeyID
	spec   hsm.KeySpec
	public crypto.PublicKey
}

func (k *key) ID() hsm.KeyID            { return k.id }
func (k *key) Spec() hsm.KeySpec        { return k.spec }
func (k *key) Public() crypto.PublicKey { return k.public }

// Format says which key it is and nothing about it.
func (k *key) Format(f fmt.State, _ rune) { _, _ = fmt.Fprintf(f, "hsm key %s", string(k.id)) }

// MarshalJSON refuses: a handle means nothing elsewhere.
func (k *key) MarshalJSON() ([]byte, error) {
	return nil, fmt.Errorf("marshal key %s: %w", k.id, hsm.ErrNotExportable)
}

// Sign implements hsm.Key; the token has its own randomness.
func (k *key) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if opts == nil || !opts.HashFunc().Available() || len(digest) != opts.HashFunc().Size() {
		return nil, fmt.Errorf("sign with key %s: %w: the digest does not fit its hash", k.id, hsm.ErrOperation)
	}
	if k.spec.Type == hsm.Oct {
		return nil, fmt.Errorf("sign with key %s: %w", k.id, hsm.ErrOperation)
	}
	mechanism, input, err := k.signature(digest, opts)
	if err != nil {
		return nil, fmt.Errorf("sign with key %s: %w", k.id, err)
	}
	var sig []byte
	lib := k.token.device.lib
	err = k.token.with(context.Background(), k.id, func(s p11.SessionHandle, o *object) error {
		if err := lib.SignInit(s, []*p11.Mechanism{mechanism}, o.handle); err != nil {
			return err
		}
		sig, err = lib.Sign(s, input)
		return err
	})
	if err == nil && k.spec.Type == hsm.EC {
		sig, err = asn1Signature(sig)
	}
	if err != nil {
		return nil, fmt.Errorf("sign with key %s: %w", k.id, err)
	}
	return sig, nil
}

// signature is the mechanism and what it is given.
func (k *key) signature(digest []byte, opts crypto.SignerOpts) (*p11.Mechanism, []byte, error) {
	hash := opts.HashFunc()
	pss, isPSS := opts.(*rsa.PSSOptions)
	switch {
	case k.spec.Type == hsm.EC && isPSS:
		return nil, nil, fmt.Errorf("%w: PSS is for RSA keys", hsm.ErrOperation)
	case k.spec.Type == hsm.EC:
		// FIPS 186-5, section 6.4: the leftmost bits of a digest that is longer
		// than the curve's order. Not every token does that itself.
		if n := (k.public.(*ecdsa.PublicKey).Curve.Params().BitSize + 7) / 8; len(digest) > n {
			digest = digest[:n]
		}
		return p11.NewMechanism(p11.CKM_ECDSA, nil), digest, nil
	case !isPSS:
		info, err := digestInfo(hash, digest)
		return p11.NewMechanism(p11.CKM_RSA_PKCS, nil), info, err
	}
	h, ok := hashes()[hash]
	if !ok {
		return nil, nil, fmt.Errorf("%w: no PSS over %v", hsm.ErrOperation, hash)
	}
	salt := pss.SaltLength
	switch salt {
	case rsa.PSSSaltLengthEqualsHash:
		salt = hash.Size()
	case rsa.PSSSaltLengthAuto: // the longest that fits
		salt = k.spec.Bits/8 - 2 - hash.Size()
	}
	if salt < 0 || salt > k.spec.Bits/8-2-hash.Size() {
		return nil, nil, fmt.Errorf("%w: a salt of %d bytes", hsm.ErrOperation, salt)
	}
	return p11.NewMechanism(p11.CKM_RSA_PKCS_PSS, p11.NewPSSParams(h.mechanism, h.mgf, uint(salt))), digest, nil
}

type hashNames struct{ mechanism, mgf uint }

func hashes() map[crypto.Hash]hashNames {
	return map[crypto.Hash]hashNames{
		crypto.SHA1:   {p11.CKM_SHA_1, p11.CKG_MGF1_SHA1},
		crypto.SHA256: {p11.CKM_SHA256, p11.CKG_MGF1_SHA256},
		crypto.SHA384: {p11.CKM_SHA384, p11.CKG_MGF1_SHA384},
		crypto.SHA512: {p11.CKM_SHA512, p11.CKG_MGF1_SHA512},
	}
}

// Decrypt implements hsm.Key.
func (k *key) Decrypt(_ io.Reader, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	plaintext, err := k.decrypt(ciphertext, opts)
	if err != nil {
		return nil, fmt.Errorf("decrypt with key %s: %w", k.id, err)
	}
	return plaintext, nil
}

func (k *key) decrypt(ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	if k.spec.Type != hsm.RSA {
		return nil, hsm.ErrOperation
	}
	if len(ciphertext) != k.spec.Bits/8 {
		return nil, rsa.ErrDecryption
	}
	switch o := opts.(type) {
	case nil:
		return k.run(p11.NewMechanism(p11.CKM_RSA_PKCS, nil), ciphertext)
	case *rsa.OAEPOptions:
		return k.oaep(ciphertext, o)
	}
	return nil, fmt.Errorf("%w: options of type %T", hsm.ErrOperation, opts)
}

func (k *key) oaep(ciphertext []byte, o *rsa.OAEPOptions) ([]byte, error) {
	hash, mgf := o.Hash, o.MGFHash
	if mgf == 0 {
		mgf = hash
	}
	h, okHash := hashes()[hash]
	g, okMGF := hashes()[mgf]
	if !okHash || !okMGF || !hash.Available() || !mgf.Available() {
		return nil, fmt.Errorf("%w: no OAEP with %v and %v", hsm.ErrOperation, hash, mgf)
	}
	// SoftHSM takes a label and forgets it: with one the padding is ours.
	if len(o.Label) == 0 && k.token.padsItself(hash, mgf) {
		params := p11.NewOAEPParams(h.mechanism, g.mgf, p11.CKZ_DATA_SPECIFIED, o.Label)
		plaintext, err := k.run(p11.NewMechanism(p11.CKM_RSA_PKCS_OAEP, params), ciphertext)
		if !is(err, p11.CKR_ARGUMENTS_BAD, p11.CKR_MECHANISM_PARAM_INVALID, p11.CKR_MECHANISM_INVALID) {
			return plaintext, err
		}
		k.token.padBare(hash, mgf)
	}
	padded, err := k.run(p11.NewMechanism(p11.CKM_RSA_X_509, nil), ciphertext)
	if err != nil {
		return nil, err
	}
	em := make([]byte, k.spec.Bits/8)
	if len(padded) > len(em) {
		return nil, fmt.Errorf("the token returned %d bytes for a raw RSA operation", len(padded))
	}
	copy(em[len(em)-len(padded):], padded) // some tokens leave leading zeros out
	clear(padded)
	defer clear(em)
	return openOAEP(em, hash, mgf, o.Label)
}

// run decrypts in the token. That the ciphertext is not good is one error,
// whatever the token calls it.
func (k *key) run(mechanism *p11.Mechanism, ciphertext []byte) (plaintext []byte, err error) {
	lib := k.token.device.lib
	err = k.token.with(context.Background(), k.id, func(s p11.SessionHandle, o *object) error {
		if err := lib.DecryptInit(s, []*p11.Mechanism{mechanism}, o.handle); err != nil {
			return err
		}
		var err error
		if plaintext, err = lib.Decrypt(s, ciphertext); tokenError(err) && !lost(err) {
			return rsa.ErrDecryption
		}
		return err
	})
	return plaintext, err
}
