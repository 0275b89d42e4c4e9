//go:build cgo

package pkcs11

import (
	"context"
	"fmt"

	p11 "github.com/miekg/pkcs11"

	"verdant/hsm"
)

// Bare is the module without this package's pool, recovery and checks: what
// signing through it is measured against. It is for measurements only.
type Bare struct{ device *device }

// OpenBare loads the module and logs in, as Open does.
func OpenBare(cfg Config, pin []byte) (*Bare, error) {
	d, err := openDevice(cfg, pin)
	if err != nil {
		return nil, fmt.Errorf("open PKCS #11 token: %w", err)
	}
	return &Bare{d}, nil
}

// Sessions is how many a Token would have.
func (b *Bare) Sessions() int { return b.device.sessions() }

// Signer opens a session and returns a function that signs in it, in nothing
// but the two calls that PKCS #11 has for that: an input as long as a DigestInfo
// of SHA-256 with CKM_RSA_PKCS, or of 32 bytes with CKM_ECDSA. The function is
// for one goroutine at a time.
func (b *Bare) Signer(ctx context.Context, id hsm.KeyID) (sign func() error, err error) {
	t := &Token{device: b.device}
	var o *object
	if err := t.with(ctx, id, func(_ p11.SessionHandle, found *object) error { o = found; return nil }); err != nil {
		return nil, fmt.Errorf("sign with key %s: %w", id, err)
	}
	s, err := b.device.session()
	if err != nil {
		return nil, fmt.Errorf("sign with key %s: %w", id, err)
	}
	mechanism, input := uint(p11.CKM_RSA_PKCS), make([]byte, 19+32)
	if o.spec.Type == hsm.EC {
		mechanism, input = p11.CKM_ECDSA, make([]byte, 32)
	}
	lib := b.device.lib
	return func() error {
		if err := lib.SignInit(s, []*p11.Mechanism{p11.NewMechanism(mechanism, nil)}, o.handle); err != nil {
			return err
		}
		_, err := lib.Sign(s, input)
		return err
	}, nil
}

// Close finalizes the module.
func (b *Bare) Close() error {
	b.device.close()
	return nil
}
