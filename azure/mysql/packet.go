package mysql

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

const (
	// maxFrame is the payload of a full packet; a payload of that length is
	// continued in the next packet.
	maxFrame = 1<<24 - 1
	// maxPacket bounds a command (max_allowed_packet). It is one full packet,
	// so a command that needs two is over the limit.
	maxPacket = maxFrame - 1
	// maxHandshake bounds a packet before the client is authenticated: an
	// access token of at most 16 KiB and little else.
	maxHandshake = 32 << 10
	// maxDrain bounds what is read and thrown away to answer a command that is
	// too large, rather than to cut the client off in the middle of it.
	maxDrain = 256 << 20
)

var (
	errTooLarge = errors.New("packet is too large")
	errSequence = errors.New("packets are out of order")
)

// packetConn frames packets on a connection: three bytes of length, one of
// sequence, the payload. Reading is unbuffered until startTLS, so that nothing
// sent in clear behind the TLS request is ever taken for part of the session.
type packetConn struct {
	conn  net.Conn
	r     io.Reader
	w     *bufio.Writer
	seq   byte
	limit int
	// writeTimeout bounds every flush: a client that does not read its
	// results loses its connection.
	writeTimeout time.Duration
}

func newPacketConn(conn net.Conn) *packetConn {
	return &packetConn{conn: conn, r: conn, w: bufio.NewWriterSize(conn, 4096), limit: maxHandshake, writeTimeout: 30 * time.Second}
}

// startTLS goes on with the same sequence on the encrypted connection.
func (p *packetConn) startTLS(conn net.Conn) {
	p.conn, p.r = conn, bufio.NewReaderSize(conn, 4096)
	p.w.Reset(conn)
}

// read returns the next packet, which must be next in sequence. The slice is
// the caller's.
func (p *packetConn) read() ([]byte, error) {
	n, err := p.header()
	if err != nil {
		return nil, err
	}
	if n > p.limit {
		if p.limit < maxPacket {
			return nil, errTooLarge // an unknown client gets no more of our time
		}
		return nil, p.drain(n)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(p.r, body); err != nil {
		return nil, fmt.Errorf("read packet: %w", err)
	}
	return body, nil
}

func (p *packetConn) header() (n int, err error) {
	var head [4]byte
	if _, err := io.ReadFull(p.r, head[:]); err != nil {
		return 0, err
	}
	if head[3] != p.seq {
		return 0, errSequence
	}
	p.seq++
	return int(head[0]) | int(head[1])<<8 | int(head[2])<<16, nil
}

// drain reads away a payload that is over the limit, with its continuations,
// and returns errTooLarge.
func (p *packetConn) drain(n int) error {
	for total := n; ; total += n {
		if total > maxDrain {
			return fmt.Errorf("%w to even read away", errTooLarge)
		}
		if _, err := io.CopyN(io.Discard, p.r, int64(n)); err != nil {
			return err
		}
		if n < maxFrame {
			return errTooLarge
		}
		var err error
		if n, err = p.header(); err != nil {
			return err
		}
	}
}

// write queues a packet, split where it is longer than a full one.
func (p *packetConn) write(body []byte) error {
	for {
		n := min(len(body), maxFrame)
		var head [4]byte
		binary.LittleEndian.PutUint32(head[:], uint32(n))
		head[3] = p.seq
		p.seq++
		if err := p.conn.SetWriteDeadline(time.Now().Add(p.writeTimeout)); err != nil {
			return err
		}
		if _, err := p.w.Write(head[:]); err != nil {
			return err
		}
		if _, err := p.w.Write(body[:n]); err != nil {
			return err
		}
		body = body[n:]
		if n < maxFrame {
			return nil
		}
	}
}

func (p *packetConn) flush() error { return p.w.Flush() }

// A reader takes a packet apart. After the first thing that is missing, all it
// returns is zero and bad is true.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if r.bad || n < 0 || n > len(r.b) {
		r.bad = true
		return nil
	}
	out := r.b[:n:n]
	r.b = r.b[n:]
	return out
}

// uint is a little-endian integer of n bytes.
func (r *reader) uint(n int) (v uint64) {
	for i, c := range r.take(n) {
		v |= uint64(c) << (8 * i)
	}
	return v
}

// lenenc is a length-encoded integer. The markers for NULL and for errors are
// not lengths.
func (r *reader) lenenc() uint64 {
	switch first := r.uint(1); first {
	case 0xfc:
		return r.uint(2)
	case 0xfd:
		return r.uint(3)
	case 0xfe:
		return r.uint(8)
	case 0xfb, 0xff:
		r.bad = true
		return 0
	default:
		return first
	}
}

func (r *reader) lenencBytes() []byte {
	n := r.lenenc()
	if n > uint64(len(r.b)) {
		r.bad = true
		return nil
	}
	return r.take(int(n))
}

// nul is a string up to its zero byte.
func (r *reader) nul() string {
	for i, c := range r.b {
		if c == 0 {
			s := string(r.take(i))
			r.take(1)
			return s
		}
	}
	r.bad = true
	return ""
}

func appendLenenc(b []byte, n uint64) []byte {
	switch {
	case n < 0xfb:
		return append(b, byte(n))
	case n < 1<<16:
		return append(b, 0xfc, byte(n), byte(n>>8))
	case n < 1<<24:
		return append(b, 0xfd, byte(n), byte(n>>8), byte(n>>16))
	default:
		return binary.LittleEndian.AppendUint64(append(b, 0xfe), n)
	}
}

func appendLenencString[S string | []byte](b []byte, s S) []byte {
	return append(appendLenenc(b, uint64(len(s))), s...)
}
