//go:build !cgo

package pkcs11

import (
	"context"

	"verdant/hsm"
)

// Token is an open token; in this build there is none.
type Token struct{ hsm.Token }

// Open returns ErrNoCgo.
func Open(context.Context, Config, []byte) (*Token, error) { return nil, ErrNoCgo }

// Close does nothing.
func (*Token) Close() error { return nil }

// Bare is the module alone; in this build there is none.
type Bare struct{}

// OpenBare returns ErrNoCgo.
func OpenBare(Config, []byte) (*Bare, error) { return nil, ErrNoCgo }

// Sessions is 0.
func (*Bare) Sessions() int { return 0 }

// Signer returns ErrNoCgo.
func (*Bare) Signer(context.Context, hsm.KeyID) (func() error, error) { return nil, ErrNoCgo }

// Close does nothing.
func (*Bare) Close() error { return nil }
