package remote

import (
	"bufio"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"verdant/hsm"
)

const (
	// answerWithin bounds the wait for an operation on a key.
	answerWithin = 30 * time.Second
	// makeWithin bounds the wait for a new key: hardware takes its time to
	// find the primes of an RSA-4096 key.
	makeWithin = 2 * time.Minute
	// maxAsking bounds the requests on the way. They fit in a socket's buffer,
	// so that a token that hangs delays no caller beyond its own wait.
	maxAsking = 128
)

// Client is one connection to a served token. It does not reconnect: package
// signer does. Its methods are safe for concurrent use.
type Client struct {
	conn   net.Conn
	gone   chan struct{} // closed when the connection has ended
	asking chan struct{} // one element a request on the way

	out     outbox
	mu      sync.Mutex
	last    uint64
	waiting map[uint64]chan answer
	cause   error // set before gone is closed
}

type answer struct {
	status status
	body   *fields
}

// Connect waits for the server's greeting on conn and returns its client,
// which owns conn from then on. When the server could not open its token the
// error says why. It waits until ctx ends.
func Connect(ctx context.Context, conn net.Conn) (*Client, error) {
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	in := bufio.NewReaderSize(conn, maxMessage)
	err := greeting(in)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("open the token: %w", errors.Join(ctx.Err(), err))
	}
	c := &Client{conn: conn, out: outbox{conn: conn, within: answerWithin}, gone: make(chan struct{}), asking: make(chan struct{}, maxAsking), waiting: map[uint64]chan answer{}}
	go c.read(in) // Ends with the connection.
	return c, nil
}

func greeting(in *bufio.Reader) error {
	number, code, body, err := receive(in)
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: its process ended before it was ready", hsm.ErrUnavailable)
	case err != nil:
		return err
	case number != 0:
		return fmt.Errorf("%w: answer %d before any request", ErrProtocol, number)
	case status(code) != statusOK:
		return errorOf(status(code), body)
	}
	return body.end()
}

// Gone is closed when the connection has ended; from then on every request
// returns hsm.ErrUnavailable.
func (c *Client) Gone() <-chan struct{} { return c.gone }

// Close ends the connection and with it what Serve does on the other end.
func (c *Client) Close() error {
	err := c.conn.Close()
	<-c.gone
	return err
}

func (c *Client) read(in *bufio.Reader) {
	for {
		number, code, body, err := receive(in)
		c.mu.Lock()
		if err != nil {
			c.cause = err
			close(c.gone)
			c.mu.Unlock()
			_ = c.conn.Close()
			return
		}
		ch := c.waiting[number]
		delete(c.waiting, number)
		c.mu.Unlock()
		if ch != nil { // else its caller has given up
			ch <- answer{status(code), body}
		}
	}
}

// ask sends a request and waits for its answer. An answer of another status
// than OK is an error.
func (c *Client) ask(ctx context.Context, op operation, id hsm.KeyID, within time.Duration, fields func(message) message) (*fields, error) {
	if err := errors.Join(ctx.Err(), id.Check()); err != nil {
		return nil, err
	}
	m := newMessage(0, byte(op)).field([]byte(id))
	if fields != nil {
		m = fields(m)
	}
	if len(m) > maxMessage {
		return nil, fmt.Errorf("%w: the request has %d bytes, more than the %d that fit", hsm.ErrOperation, len(m), maxMessage)
	}
	timeout := time.NewTimer(within)
	defer timeout.Stop()
	select {
	case c.asking <- struct{}{}:
		defer func() { <-c.asking }()
	case <-c.gone:
		return nil, c.lost()
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-timeout.C:
		return nil, fmt.Errorf("%w: it has been busy for %s", hsm.ErrUnavailable, within)
	}
	ch := make(chan answer, 1)
	number, err := c.send(m, ch)
	if err != nil {
		<-c.gone // the connection is closed: when the caller knows, so does Gone
		return nil, err
	}
	select {
	case a := <-ch:
		return c.open(a)
	case <-c.gone:
		select { // the answer may have come last
		case a := <-ch:
			return c.open(a)
		default:
		}
		return nil, c.lost()
	case <-ctx.Done():
		err = ctx.Err()
	case <-timeout.C:
		err = fmt.Errorf("%w: no answer within %s", hsm.ErrUnavailable, within)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.waiting, number)
	return nil, err
}

func (c *Client) open(a answer) (*fields, error) {
	if a.status != statusOK {
		return nil, errorOf(a.status, a.body)
	}
	return a.body, nil
}

func (c *Client) send(m message, ch chan answer) (uint64, error) {
	c.mu.Lock()
	select {
	case <-c.gone:
		c.mu.Unlock()
		return 0, c.lost()
	default:
	}
	c.last++
	number := c.last
	binary.BigEndian.PutUint64(m[4:], number)
	c.waiting[number] = ch
	c.mu.Unlock()
	if err := c.out.send(m); err != nil {
		c.mu.Lock()
		delete(c.waiting, number)
		c.mu.Unlock()
		_ = c.conn.Close() // a message that was cut short ends the conversation
		return 0, fmt.Errorf("%w: its process does not listen: %w", hsm.ErrUnavailable, err)
	}
	return number, nil
}

// lost is the error of a request whose connection ended. The cause was set
// before gone was closed.
func (c *Client) lost() error {
	if errors.Is(c.cause, ErrProtocol) {
		return fmt.Errorf("%w: %w", hsm.ErrUnavailable, c.cause)
	}
	return fmt.Errorf("%w: its process ended before it answered; the key is safe, try again", hsm.ErrUnavailable)
}

// Generate implements hsm.Token.
func (c *Client) Generate(ctx context.Context, id hsm.KeyID, spec hsm.KeySpec) (hsm.Key, error) {
	if err := errors.Join(spec.Check(), refuse(spec)); err != nil {
		return nil, fmt.Errorf("generate key %s: %w", id, err)
	}
	f, err := c.ask(ctx, opGenerate, id, makeWithin, func(m message) message { return m.spec(spec) })
	return c.key("generate", id, f, err)
}

// Import implements hsm.Token.
func (c *Client) Import(ctx context.Context, id hsm.KeyID, m *hsm.Material, exportable bool) (hsm.Key, error) {
	spec := m.Spec()
	spec.Exportable = exportable
	if err := refuse(spec); err != nil {
		return nil, fmt.Errorf("import key %s: %w", id, err)
	}
	encode, symmetric := m.PKCS8, byte(0)
	if spec.Type == hsm.Oct {
		encode, symmetric = m.Octets, 1
	}
	private, err := encode()
	if err != nil {
		return nil, fmt.Errorf("import key %s: %w", id, err)
	}
	defer clear(private)
	var sent message
	f, err := c.ask(ctx, opImport, id, makeWithin, func(m message) message {
		sent = append(append(make(message, 0, len(m)+len(private)+3), m...), symmetric).field(private) // does not grow: no copy stays behind
		return sent
	})
	clear(sent)
	return c.key("import", id, f, err)
}

// Key implements hsm.Token.
func (c *Client) Key(ctx context.Context, id hsm.KeyID) (hsm.Key, error) {
	f, err := c.ask(ctx, opKey, id, answerWithin, nil)
	return c.key("find", id, f, err)
}

// Delete implements hsm.Token.
func (c *Client) Delete(ctx context.Context, id hsm.KeyID) error {
	f, err := c.ask(ctx, opDelete, id, answerWithin, nil)
	if err == nil {
		err = f.end()
	}
	if err != nil {
		return fmt.Errorf("delete key %s: %w", id, err)
	}
	return nil
}

// Export implements hsm.Token: it refuses.
func (c *Client) Export(ctx context.Context, id hsm.KeyID) (*hsm.Material, error) {
	if _, err := c.Key(ctx, id); err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("export key %s: %w", id, hsm.ErrNotExportable)
}

// key reads a key's description.
func (c *Client) key(what string, id hsm.KeyID, f *fields, err error) (hsm.Key, error) {
	var k *key
	if err == nil {
		k, err = describedKey(id, f)
	}
	if err != nil {
		return nil, fmt.Errorf("%s key %s: %w", what, id, err)
	}
	k.client = c
	return k, nil
}

func describedKey(id hsm.KeyID, f *fields) (*key, error) {
	k := &key{id: id, spec: f.spec()}
	der := f.bytes()
	if err := f.end(); err != nil {
		return nil, err
	}
	if k.spec.Type == hsm.Oct && k.spec.Check() == nil && len(der) == 0 {
		return k, nil
	}
	var err error
	if k.public, err = x509.ParsePKIXPublicKey(der); err != nil {
		return nil, fmt.Errorf("%w: a public key that does not parse", ErrProtocol)
	}
	ok := k.spec.Check() == nil
	switch p := k.public.(type) {
	case *rsa.PublicKey:
		ok = ok && k.spec.Type == hsm.RSA && p.N.BitLen() == k.spec.Bits
	case *ecdsa.PublicKey:
		ok = ok && k.spec.Type == hsm.EC && p.Curve.Params().Name == string(k.spec.Curve)
	default:
		ok = false
	}
	if !ok {
		return nil, fmt.Errorf("%w: a public key that is not what the token says it is", ErrProtocol)
	}
	return k, nil
}

// key is a handle on a key behind a connection.
type key struct {
	id     hsm.KeyID
	spec   hsm.KeySpec
	public crypto.PublicKey
	client *Client
}

// On returns the key k, which came from a Client, by way of another client of
// the same token: keys outlive the connection on which they were found.
func On(c *Client, k hsm.Key) hsm.Key {
	before, ok := k.(*key)
	if !ok {
		return k
	}
	after := *before
	after.client = c
	return &after
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
	var pss byte
	salt := 0
	if o, ok := opts.(*rsa.PSSOptions); ok {
		pss, salt = 1, o.SaltLength
		if salt < rsa.PSSSaltLengthEqualsHash || salt > 512 {
			return nil, fmt.Errorf("sign with key %s: %w: a salt of %d bytes", k.id, hsm.ErrOperation, salt)
		}
	}
	if pss != 0 && k.spec.Type != hsm.RSA {
		return nil, fmt.Errorf("sign with key %s: %w: PSS is for RSA keys", k.id, hsm.ErrOperation)
	}
	return k.operate("sign", opSign, func(m message) message {
		m = append(m, pss, byte(opts.HashFunc()))
		m = binary.BigEndian.AppendUint16(m, uint16(int16(salt)))
		return m.field(digest)
	})
}

// Decrypt implements hsm.Key.
func (k *key) Decrypt(_ io.Reader, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	if k.spec.Type != hsm.RSA {
		return nil, fmt.Errorf("decrypt with key %s: %w", k.id, hsm.ErrOperation)
	}
	var oaep rsa.OAEPOptions
	var padding byte
	switch o := opts.(type) {
	case nil:
	case *rsa.OAEPOptions:
		oaep, padding = *o, 1
	default:
		return nil, fmt.Errorf("decrypt with key %s: %w: options of type %T", k.id, hsm.ErrOperation, opts)
	}
	if !fits(oaep.Label, ciphertext) || len(ciphertext) != k.spec.Bits/8 {
		return nil, fmt.Errorf("decrypt with key %s: %w", k.id, rsa.ErrDecryption)
	}
	return k.operate("decrypt", opDecrypt, func(m message) message {
		return append(m, padding, byte(oaep.Hash), byte(oaep.MGFHash)).field(oaep.Label).field(ciphertext)
	})
}

func (k *key) operate(what string, op operation, fields func(message) message) ([]byte, error) {
	f, err := k.client.ask(context.Background(), op, k.id, answerWithin, fields)
	var out []byte
	if err == nil {
		out = f.bytes()
		err = f.end()
	}
	if err != nil {
		return nil, fmt.Errorf("%s with key %s: %w", what, k.id, err)
	}
	return out, nil
}

// Seal implements hsm.Key, for what fits into a message.
func (k *key) Seal(plaintext, associated []byte) ([]byte, error) {
	return k.authenticated("seal", opSeal, associated, plaintext)
}

// Open implements hsm.Key.
func (k *key) Open(sealed, associated []byte) ([]byte, error) {
	return k.authenticated("open", opOpen, associated, sealed)
}

func (k *key) authenticated(what string, op operation, associated, value []byte) ([]byte, error) {
	if k.spec.Type != hsm.Oct || !fits(associated, value) {
		return nil, fmt.Errorf("%s with key %s: %w: no oct key, or more than fits into a message", what, k.id, hsm.ErrOperation)
	}
	return k.operate(what, op, func(m message) message { return m.field(associated).field(value) })
}

// Encipher implements hsm.Key.
func (k *key) Encipher(mode hsm.Mode, iv, plaintext []byte) ([]byte, error) {
	if err := hsm.CheckEncipher(k.spec, mode, iv, plaintext); err != nil {
		return nil, fmt.Errorf("encipher with key %s: %w", k.id, err)
	}
	return k.operate("encipher", opEncipher, func(m message) message { return append(m, byte(mode)).field(iv).field(plaintext) })
}

// Decipher implements hsm.Key.
func (k *key) Decipher(mode hsm.Mode, iv, ciphertext []byte) ([]byte, error) {
	if err := hsm.CheckDecipher(k.spec, mode, iv, ciphertext); err != nil {
		return nil, fmt.Errorf("decipher with key %s: %w", k.id, err)
	}
	return k.operate("decipher", opDecipher, func(m message) message { return append(m, byte(mode)).field(iv).field(ciphertext) })
}

var _ hsm.Token = (*Client)(nil)
