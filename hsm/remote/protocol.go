// Package remote lets a token live in another process: Serve answers for an
// hsm.Token on one end of a connection, and Client is an hsm.Token on the
// other.
//
// It promises that no message carries a private key back: there is no export,
// and Client refuses one without asking. A key that is imported travels
// towards the token only. Every message is bounded, and what does not parse
// ends the connection: the two ends are one program, so it is damage and not
// disagreement. The connection is trusted; it is meant to be a socket pair that
// nobody else can open. Exportable keys and keys on P-256K are refused:
// hsm.Split keeps them elsewhere.
//
// A message is a length (4 bytes, big-endian) and that many bytes: the number
// of the request (8 bytes), an operation or a status (1 byte), and fields. A
// field of bytes has its length (2 bytes) in front. Answers come in any order.
// The first message is the server's, with number 0: a status and what went
// wrong, when it could not open its token.
package remote

import (
	"bufio"
	"crypto"
	"crypto/rsa"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"verdant/hsm"
)

const (
	maxMessage = 16 << 10 // an RSA-4096 key to import has 2.4 kB
	maxText    = 500      // bytes of an error's text
	headerSize = 9        // number and operation
	smallParts = 512      // what a message has besides its largest fields
)

type operation byte

const (
	opGenerate operation = 1 + iota
	opImport
	opKey
	opDelete
	opSign
	opDecrypt
	opSeal
	opOpen
	opEncipher
	opDecipher
)

// ErrProtocol is wrapped when the other end sent what is no message.
var ErrProtocol = errors.New("the other end of the token's connection broke its protocol")

// status says how a request ended.
type status byte

const (
	statusOK status = iota
	statusFailed
)

// kinds are the errors that keep their identity across the connection; the
// status is statusFailed+1+index.
func kinds() []error {
	return []error{hsm.ErrExists, hsm.ErrNotFound, hsm.ErrNotExportable, hsm.ErrSpec, hsm.ErrMaterial, hsm.ErrOperation,
		hsm.ErrUnavailable, hsm.ErrRefused, rsa.ErrDecryption, hsm.ErrOpen}
}

func statusOf(err error) status {
	if err == nil {
		return statusOK
	}
	for i, kind := range kinds() {
		if errors.Is(err, kind) {
			return statusFailed + 1 + status(i)
		}
	}
	return statusFailed
}

// remoteError is the other end's error: its text and its kind.
type remoteError struct {
	text string
	kind error
}

func (e *remoteError) Error() string { return e.text }
func (e *remoteError) Unwrap() error { return e.kind }

// errorOf reads the answer to a request that did not end well.
func errorOf(s status, body *fields) error {
	text := string(body.bytes())
	if err := body.end(); err != nil {
		return err
	}
	e := &remoteError{text: text}
	if i := int(s) - int(statusFailed) - 1; i >= 0 {
		if i >= len(kinds()) {
			return fmt.Errorf("%w: status %d", ErrProtocol, s)
		}
		e.kind = kinds()[i]
	}
	return e
}

// message is one message being written. Its bytes begin with room for the
// length.
type message []byte

func newMessage(number uint64, code byte) message {
	m := make(message, 4, 512)
	m = binary.BigEndian.AppendUint64(m, number)
	return append(m, code)
}

func (m message) field(b []byte) message {
	return append(binary.BigEndian.AppendUint16(m, uint16(len(b))), b...)
}

func (m message) spec(s hsm.KeySpec) message {
	m = m.field([]byte(s.Type))
	m = binary.BigEndian.AppendUint16(m, uint16(s.Bits))
	return m.field([]byte(s.Curve))
}

// fits reports whether b can be a field beside the others of a message.
func fits(b ...[]byte) bool {
	n := 0
	for _, part := range b {
		n += len(part)
	}
	return n <= maxMessage-smallParts
}

// finish fills the length in.
func (m message) finish() { binary.BigEndian.PutUint32(m, uint32(len(m)-4)) }

// receive reads one message and takes its header off. The bytes are the
// caller's.
func receive(r *bufio.Reader) (number uint64, code byte, body *fields, err error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return 0, 0, nil, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n < headerSize || n > maxMessage {
		return 0, 0, nil, fmt.Errorf("%w: a message of %d bytes", ErrProtocol, n)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return 0, 0, nil, err
	}
	return binary.BigEndian.Uint64(b), b[8], &fields{rest: b[headerSize:]}, nil
}

// fields takes a message's body apart. After the first field that is not there
// all others are empty and end says so.
type fields struct {
	rest []byte
	bad  bool
}

func (f *fields) take(n int) []byte {
	if f.bad || len(f.rest) < n {
		f.bad = true
		return make([]byte, min(n, 2))
	}
	b := f.rest[:n:n]
	f.rest = f.rest[n:]
	return b
}

func (f *fields) byte() byte        { return f.take(1)[0] }
func (f *fields) number() int       { return int(binary.BigEndian.Uint16(f.take(2))) }
func (f *fields) id() hsm.KeyID     { return hsm.KeyID(f.bytes()) }
func (f *fields) signed() int       { return int(int16(f.number())) }
func (f *fields) hash() crypto.Hash { return crypto.Hash(f.byte()) }

func (f *fields) bytes() []byte {
	n := f.number()
	if f.bad || len(f.rest) < n {
		f.bad = true
		return nil
	}
	return f.take(n)
}

func (f *fields) spec() hsm.KeySpec {
	return hsm.KeySpec{Type: hsm.KeyType(f.bytes()), Bits: f.number(), Curve: hsm.Curve(f.bytes())}
}

func (f *fields) end() error {
	if f.bad || len(f.rest) > 0 {
		return fmt.Errorf("%w: fields that do not fit their message", ErrProtocol)
	}
	return nil
}
