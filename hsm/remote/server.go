package remote

import (
	"bufio"
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"verdant/hsm"
)

// maxServing bounds the requests that Serve works on at once; more wait in the
// connection.
const maxServing = 64

// Refuse tells the client why there will be no token on conn.
func Refuse(conn net.Conn, err error) error { return hello(conn, err) }

func hello(conn net.Conn, err error) error {
	return (&outbox{conn: conn}).send(answerOf(0, nil, err))
}

// answerOf is the answer to request number: body's fields, or err.
func answerOf(number uint64, body func(message) message, err error) message {
	m := newMessage(number, byte(statusOf(err)))
	if err != nil {
		text := err.Error()
		return m.field([]byte(text[:min(len(text), maxText)]))
	}
	if body != nil {
		m = body(m)
	}
	return m
}

// Serve answers for token on conn until the other end closes it or ctx ends,
// then closes conn. It returns nil when the other end closed; requests being
// worked on are waited for, except when ctx ended.
func Serve(ctx context.Context, conn net.Conn, token hsm.Token) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	defer conn.Close()
	s := &server{token: token, out: outbox{conn: conn}}
	if err := hello(conn, nil); err != nil {
		return fmt.Errorf("greet the token's client: %w", err)
	}
	in := bufio.NewReaderSize(conn, maxMessage)
	var working sync.WaitGroup
	defer working.Wait()
	jobs, workers := make(chan job), 0
	defer close(jobs)
	for {
		number, code, body, err := receive(in)
		if errors.Is(err, io.EOF) || err != nil && ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read a request to the token: %w", err)
		}
		work, err := s.parse(operation(code), body)
		if err != nil {
			return fmt.Errorf("request %d to the token: %w", number, err)
		}
		next := job{number, work}
		if workers < maxServing {
			select {
			case jobs <- next: // somebody has nothing to do
			default:
				workers++
				working.Go(func() { s.serve(ctx, next, jobs) }) // Ends when jobs is closed.
			}
			continue
		}
		jobs <- next
	}
}

// job is a request that was understood.
type job struct {
	number uint64
	work   work
}

// serve does a job and then those that come. Goroutines are kept because a
// vendor's module is called on a deep stack, which grows slowly.
func (s *server) serve(ctx context.Context, next job, jobs <-chan job) {
	for more := true; more; next, more = <-jobs {
		fields, err := next.work(ctx)
		if ctx.Err() == nil { // else conn closes, which says it better than "canceled"
			s.answer(answerOf(next.number, fields, err))
		}
	}
}

type server struct {
	token hsm.Token

	out outbox
}

// answer sends m. An error means that the client is gone, which the reader
// sees too.
func (s *server) answer(m message) { _ = s.out.send(m) }

// work is what a request asks for.
type work func(context.Context) (func(message) message, error)

func (s *server) parse(op operation, f *fields) (work, error) {
	id := f.id()
	var w work
	switch op {
	case opGenerate:
		spec := f.spec()
		w = func(ctx context.Context) (func(message) message, error) {
			if err := refuse(spec); err != nil {
				return nil, err
			}
			return describe(s.token.Generate(ctx, id, spec))
		}
	case opImport:
		symmetric, bytes := f.byte() != 0, f.bytes()
		w = func(ctx context.Context) (func(message) message, error) {
			return s.importKey(ctx, id, symmetric, bytes)
		}
	case opKey:
		w = func(ctx context.Context) (func(message) message, error) { return describe(s.token.Key(ctx, id)) }
	case opDelete:
		w = func(ctx context.Context) (func(message) message, error) { return nil, s.token.Delete(ctx, id) }
	case opSign:
		pss, hash, salt, digest := f.byte(), f.hash(), f.signed(), f.bytes()
		var opts crypto.SignerOpts = hash
		if pss != 0 {
			opts = &rsa.PSSOptions{Hash: hash, SaltLength: salt}
		}
		w = s.with(id, func(k hsm.Key) ([]byte, error) { return k.Sign(nil, digest, opts) })
	case opDecrypt:
		oaep, hash, mgf, label, ciphertext := f.byte(), f.hash(), f.hash(), f.bytes(), f.bytes()
		var opts crypto.DecrypterOpts
		if oaep != 0 {
			opts = &rsa.OAEPOptions{Hash: hash, MGFHash: mgf, Label: label}
		}
		w = s.with(id, func(k hsm.Key) ([]byte, error) { return k.Decrypt(nil, ciphertext, opts) })
	case opSeal, opOpen:
		associated, value := f.bytes(), f.bytes()
		w = s.with(id, func(k hsm.Key) ([]byte, error) {
			if op == opSeal {
				return k.Seal(value, associated)
			}
			return k.Open(value, associated)
		})
	case opEncipher, opDecipher:
		mode, iv, value := hsm.Mode(f.byte()), f.bytes(), f.bytes()
		w = s.with(id, func(k hsm.Key) ([]byte, error) {
			if op == opEncipher {
				return k.Encipher(mode, iv, value)
			}
			return k.Decipher(mode, iv, value)
		})
	default:
		return nil, fmt.Errorf("%w: operation %d", ErrProtocol, op)
	}
	return w, f.end()
}

// with is an operation of a key whose answer is its result.
func (s *server) with(id hsm.KeyID, use func(hsm.Key) ([]byte, error)) work {
	return func(ctx context.Context) (func(message) message, error) {
		k, err := s.token.Key(ctx, id)
		if err != nil {
			return nil, err
		}
		out, err := use(k)
		return func(m message) message { return m.field(out) }, err
	}
}

// refuse keeps out what the protocol has no messages for.
func refuse(spec hsm.KeySpec) error {
	if spec.Exportable {
		return fmt.Errorf("%w: a token behind a connection keeps no exportable keys", hsm.ErrSpec)
	}
	if spec.Curve == hsm.P256K {
		return fmt.Errorf("%w: a token behind a connection keeps no keys on %s", hsm.ErrSpec, hsm.P256K)
	}
	return nil
}

func (s *server) importKey(ctx context.Context, id hsm.KeyID, symmetric bool, bytes []byte) (func(message) message, error) {
	var m *hsm.Material
	var err error
	if symmetric {
		m, err = hsm.FromPrivateKey(bytes)
	} else {
		m, err = hsm.FromPKCS8(bytes)
	}
	clear(bytes)
	if err != nil {
		return nil, err
	}
	defer m.Wipe()
	return describe(s.token.Import(ctx, id, m, false))
}

// describe answers with what a handle shows of a key.
func describe(k hsm.Key, err error) (func(message) message, error) {
	if err != nil {
		return nil, err
	}
	spec := k.Spec()
	if err := refuse(spec); err != nil {
		return nil, err
	}
	var public []byte
	if spec.Type != hsm.Oct {
		var err error
		if public, err = x509.MarshalPKIXPublicKey(k.Public()); err != nil {
			return nil, fmt.Errorf("public part of key %s: %w", k.ID(), err)
		}
	}
	return func(m message) message { return m.spec(spec).field(public) }, nil
}
