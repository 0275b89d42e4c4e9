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
