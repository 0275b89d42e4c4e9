//go:build cgo

package pkcs11

import (
	"context"
	"crypto/aes"
	"crypto/rand"
	"errors"
	"fmt"

	p11 "github.com/miekg/pkcs11"

	"verdant/hsm"
)

const (
	nonceSize = 12
	tagBits   = 128
)

// Seal implements hsm.Key. A token that makes its own nonce is believed.
func (k *key) Seal(plaintext, associated []byte) ([]byte, error) {
	if k.spec.Type != hsm.Oct {
		return nil, fmt.Errorf("seal with key %s: %w", k.id, hsm.ErrOperation)
	}
	var sealed []byte
	err := k.in(func(lib *p11.Ctx, s p11.SessionHandle, key p11.ObjectHandle) error {
		nonce := make([]byte, nonceSize)
		_, _ = rand.Read(nonce) // never returns an error (crypto/rand)
		params := p11.NewGCMParams(nonce, associated, tagBits)
		defer params.Free()
		if err := lib.EncryptInit(s, []*p11.Mechanism{p11.NewMechanism(p11.CKM_AES_GCM, params)}, key); err != nil {
			return err
		}
		out, err := lib.Encrypt(s, plaintext)
		if err != nil {
			return err
		}
		if used := params.IV(); len(used) == nonceSize {
			nonce = used
		}
		sealed = append(nonce, out...)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("seal with key %s: %w", k.id, err)
	}
	return sealed, nil
}

// Open implements hsm.Key.
func (k *key) Open(sealed, associated []byte) ([]byte, error) {
	if k.spec.Type != hsm.Oct {
		return nil, fmt.Errorf("open with key %s: %w", k.id, hsm.ErrOperation)
	}
	if len(sealed) < nonceSize+tagBits/8 {
		return nil, fmt.Errorf("open with key %s: %w", k.id, hsm.ErrOpen)
	}
	var plaintext []byte
	err := k.in(func(lib *p11.Ctx, s p11.SessionHandle, key p11.ObjectHandle) error {
		params := p11.NewGCMParams(sealed[:nonceSize], associated, tagBits)
		defer params.Free()
		if err := lib.DecryptInit(s, []*p11.Mechanism{p11.NewMechanism(p11.CKM_AES_GCM, params)}, key); err != nil {
			return err
		}
		var err error
		plaintext, err = lib.Decrypt(s, sealed[nonceSize:])
		return notOpened(err)
	})
	if err != nil {
		return nil, fmt.Errorf("open with key %s: %w", k.id, err)
	}
	return plaintext, nil
}

// notOpened makes one error of whatever the token says of a ciphertext, and
// leaves what it says of the key, the mechanism or itself.
func notOpened(err error) error {
	if !tokenError(err) || lost(err) || unknownHandle(err) || translate(err) != err {
		return err
	}
	return hsm.ErrOpen
}

// in makes a call with the key's handle.
func (k *key) in(call func(lib *p11.Ctx, s p11.SessionHandle, key p11.ObjectHandle) error) error {
	return k.token.with(context.Background(), k.id, func(s p11.SessionHandle, o *object) error {
		return call(k.token.device.lib, s, o.handle)
	})
}

// Encipher implements hsm.Key.
func (k *key) Encipher(mode hsm.Mode, iv, plaintext []byte) ([]byte, error) {
	err := hsm.CheckEncipher(k.spec, mode, iv, plaintext)
	var out []byte
	switch {
	case err != nil:
	case mode == hsm.KeyWrap:
		out, err = k.wrap(plaintext)
	case mode == hsm.KeyWrapPad:
		out, err = k.wrapPad(plaintext)
	default:
		if mode == hsm.CBCPad {
			plaintext = hsm.Pad(plaintext)
		}
		err = k.in(func(lib *p11.Ctx, s p11.SessionHandle, key p11.ObjectHandle) error {
			if err := lib.EncryptInit(s, []*p11.Mechanism{p11.NewMechanism(p11.CKM_AES_CBC, iv)}, key); err != nil {
				return err
			}
			var err error
			out, err = lib.Encrypt(s, plaintext)
			return err
		})
	}
	if err != nil {
		return nil, fmt.Errorf("encipher with key %s: %w", k.id, err)
	}
	return out, nil
}

// Decipher implements hsm.Key. The padding of CBC is removed here, in constant
// time: what a token does about that is not known.
func (k *key) Decipher(mode hsm.Mode, iv, ciphertext []byte) ([]byte, error) {
	err := hsm.CheckDecipher(k.spec, mode, iv, ciphertext)
	var out []byte
	switch {
	case err != nil:
	case mode == hsm.KeyWrap:
		out, err = k.unwrap(ciphertext)
	case mode == hsm.KeyWrapPad:
		out, err = k.unwrapPad(ciphertext)
	default:
		err = k.in(func(lib *p11.Ctx, s p11.SessionHandle, key p11.ObjectHandle) error {
			if err := lib.DecryptInit(s, []*p11.Mechanism{p11.NewMechanism(p11.CKM_AES_CBC, iv)}, key); err != nil {
				return err
			}
			var err error
			out, err = lib.Decrypt(s, ciphertext)
			return notOpened(err)
		})
		if err == nil && mode == hsm.CBCPad {
			out, err = hsm.Unpad(out)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("decipher with key %s: %w", k.id, err)
	}
	return out, nil
}

func wrapping() []*p11.Mechanism {
	return []*p11.Mechanism{p11.NewMechanism(p11.CKM_AES_KEY_WRAP, nil)}
}

// payload is an object for bytes that come from a caller, or go to one: it
// lives for one call, in its session.
func payload(more ...*p11.Attribute) []*p11.Attribute {
	return append([]*p11.Attribute{
		p11.NewAttribute(p11.CKA_CLASS, p11.CKO_SECRET_KEY), p11.NewAttribute(p11.CKA_KEY_TYPE, p11.CKK_GENERIC_SECRET),
		p11.NewAttribute(p11.CKA_TOKEN, false), p11.NewAttribute(p11.CKA_PRIVATE, true),
		p11.NewAttribute(p11.CKA_SENSITIVE, false), p11.NewAttribute(p11.CKA_EXTRACTABLE, true),
	}, more...)
}

func (k *key) wrap(plaintext []byte) (out []byte, err error) {
	err = k.in(func(lib *p11.Ctx, s p11.SessionHandle, key p11.ObjectHandle) error {
		value := p11.NewAttribute(p11.CKA_VALUE, plaintext)
		h, err := lib.CreateObject(s, payload(value))
		if err != nil {
			return err
		}
		out, err = lib.WrapKey(s, wrapping(), key, h)
		return errors.Join(err, lib.DestroyObject(s, h))
	})
	return out, err
}

func (k *key) unwrap(ciphertext []byte) (out []byte, err error) {
	err = k.in(func(lib *p11.Ctx, s p11.SessionHandle, key p11.ObjectHandle) error {
		h, err := lib.UnwrapKey(s, wrapping(), key, ciphertext, payload())
		if err != nil {
			return notOpened(err)
		}
		found, err := lib.GetAttributeValue(s, h, []*p11.Attribute{p11.NewAttribute(p11.CKA_VALUE, nil)})
		if err == nil {
			out = found[0].Value
		}
		return errors.Join(err, lib.DestroyObject(s, h))
	})
	return out, err
}

// wrapPad has the token encrypt block for block: its CKM_AES_KEY_WRAP_PAD is not
// used, as SoftHSM 2.6 fills up with zeros first and forgets the length.
func (k *key) wrapPad(plaintext []byte) (out []byte, err error) {
	err = k.in(func(lib *p11.Ctx, s p11.SessionHandle, key p11.ObjectHandle) (err error) {
		out, err = hsm.WrapPad(oneBlock(s, key, lib.EncryptInit, lib.Encrypt), plaintext)
		return err
	})
	return out, err
}

func (k *key) unwrapPad(ciphertext []byte) (out []byte, err error) {
	err = k.in(func(lib *p11.Ctx, s p11.SessionHandle, key p11.ObjectHandle) (err error) {
		out, err = hsm.UnwrapPad(oneBlock(s, key, lib.DecryptInit, lib.Decrypt), ciphertext)
		return err
	})
	return out, err
}

// oneBlock is AES on one block: CBC with an initial vector of zeros.
func oneBlock(s p11.SessionHandle, key p11.ObjectHandle, begin func(p11.SessionHandle, []*p11.Mechanism, p11.ObjectHandle) error,
	crypt func(p11.SessionHandle, []byte) ([]byte, error)) hsm.Block {
	mechanism := []*p11.Mechanism{p11.NewMechanism(p11.CKM_AES_CBC, make([]byte, aes.BlockSize))}
	return func(b []byte) error {
		if err := begin(s, mechanism, key); err != nil {
			return err
		}
		out, err := crypt(s, b)
		if err == nil && len(out) != len(b) {
			err = fmt.Errorf("the token returned %d bytes for a block", len(out))
		}
		copy(b, out)
		return err
	}
}
