package signer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"verdant/hsm"
	"verdant/hsm/remote"
)

// Descriptors that the signer process inherits.
const (
	connFD = 3 + iota
	pinFD
)

// maxPIN bounds a PIN; CK_TOKEN_INFO.ulMaxPinLen is 255 in SoftHSM.
const maxPIN = 256

// Token is what the process serves.
type Token interface {
	hsm.Token
	io.Closer
}

// Run is the signer process: it takes the PIN and the connection from the
// descriptors that it inherited, opens the token, and answers until the other
// end closes the connection. Why the token does not open is told to the other
// end, and is no error here.
func Run(ctx context.Context, open func(ctx context.Context, pin []byte) (Token, error)) error {
	if err := harden(); err != nil {
		return fmt.Errorf("signer process: %w", err)
	}
	file := os.NewFile(connFD, "connection")
	conn, err := net.FileConn(file)
	if err != nil {
		return fmt.Errorf("signer process: descriptor %d is no connection; `verdant up` starts this command: %w", connFD, err)
	}
	_ = file.Close()
	defer conn.Close()
	token, err := openWithPIN(ctx, os.NewFile(pinFD, "PIN"), open)
	if err != nil {
		return remote.Refuse(conn, err)
	}
	return errors.Join(remote.Serve(ctx, conn, token), token.Close())
}

func openWithPIN(ctx context.Context, file *os.File, open func(context.Context, []byte) (Token, error)) (Token, error) {
	pin, err := readPIN(file)
	if err != nil {
		return nil, err
	}
	defer clear(pin)
	return open(ctx, pin)
}

// readPIN reads a PIN: the file's content without the line's end.
func readPIN(file *os.File) ([]byte, error) {
	defer file.Close()
	raw, err := io.ReadAll(io.LimitReader(file, maxPIN+3))
	if err != nil {
		return nil, fmt.Errorf("%w: read the token's PIN: %w", hsm.ErrRefused, err)
	}
	pin := bytes.TrimSuffix(bytes.TrimSuffix(raw, []byte("\n")), []byte("\r"))
	if len(pin) == 0 || len(pin) > maxPIN || bytes.ContainsAny(pin, "\x00\n") {
		clear(raw)
		return nil, fmt.Errorf("%w: the file with the token's PIN must hold one line of 1 to %d bytes", hsm.ErrRefused, maxPIN)
	}
	return pin, nil
}
