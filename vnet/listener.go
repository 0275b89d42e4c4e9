package vnet

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"verdant/internal/conninfo"
)

// backlog is how many accepted connections wait for a service's Accept before
// the sockets behind the listener stop accepting.
const backlog = 64

// hub is a listener whose sockets come and go: a private endpoint's open with
// its approval, a public address has one in every network. Accept outlives
// them all, so a server started on a hub need not know.
type hub struct {
	fabric *Fabric
	at     netip.AddrPort
	queue  chan *conn
	done   chan struct{}

	mu     sync.Mutex
	closed bool
	stops  []func()
	// gate is closed when the sockets are, so that no delivery waits for them.
	gate chan struct{}
	live map[*conn]struct{}
}

func (f *Fabric) newHub(at netip.AddrPort) *hub {
	return &hub{
		fabric: f, at: at,
		queue: make(chan *conn, backlog),
		done:  make(chan struct{}),
		gate:  make(chan struct{}),
		live:  map[*conn]struct{}{},
	}
}

// open adds a socket, opened by open, whose connections carry info.
func (h *hub) open(open func(deliverFunc) (stop func(), err error), info conninfo.Info) error {
	h.mu.Lock()
	gate, closed := h.gate, h.closed
	h.mu.Unlock()
	if closed {
		return net.ErrClosed
	}
	stop, err := open(func(ctx context.Context, c net.Conn, source netip.AddrPort) {
		info := info
		info.Source = source
		h.deliver(ctx, gate, c, info)
	})
	if err != nil {
		return err
	}
	h.mu.Lock()
	closed = h.closed
	if !closed {
		h.stops = append(h.stops, stop)
	}
	h.mu.Unlock()
	if closed {
		stop()
		return net.ErrClosed
	}
	return nil
}

// acceptAll delivers what ln accepts until stop closes it.
func acceptAll(ln net.Listener, deliver deliverFunc) (stop func()) {
	go func() { // Ends with ln.
		for {
			c, err := ln.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				// Out of descriptors, or the peer gave up while queued: the
				// listener itself is sound.
				time.Sleep(time.Millisecond)
				continue
			}
			deliver(context.Background(), c, addrPort(c.RemoteAddr()))
		}
	}()
	return func() { _ = ln.Close() }
}

// deliver queues c, accepted by a socket that lives as long as gate is open.
func (h *hub) deliver(ctx context.Context, gate chan struct{}, inner net.Conn, info conninfo.Info) {
	c := &conn{Conn: inner, info: info, hub: h}
	h.mu.Lock()
	select {
	case <-gate:
		h.mu.Unlock()
		c.abort()
		return
	default:
	}
	h.live[c] = struct{}{}
	h.mu.Unlock()
	select {
	case h.queue <- c:
		select {
		case <-h.done:
			c.abort() // It came after Close had emptied the queue.
		default:
		}
	case <-gate:
		c.abort()
	case <-ctx.Done():
		c.abort()
	}
}

// cut closes every socket and kills every connection, accepted or not. The
// hub can be opened again.
func (h *hub) cut() {
	h.mu.Lock()
	stops, live, gate := h.stops, h.live, h.gate
	h.stops, h.live, h.gate = nil, map[*conn]struct{}{}, make(chan struct{})
	close(gate)
	h.mu.Unlock()
	for _, stop := range stops {
		stop()
	}
	for c := range live {
		c.abort()
	}
}

// shut ends the hub for good.
func (h *hub) shut() {
	h.mu.Lock()
	first := !h.closed
	h.closed = true
	h.mu.Unlock()
	if first {
		close(h.done)
		h.cut()
	}
}

// Accept returns the next connection that is still alive.
func (h *hub) Accept() (net.Conn, error) {
	for {
		select {
		case <-h.done:
			return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: h.Addr(), Err: net.ErrClosed}
		case c := <-h.queue:
			h.mu.Lock()
			_, alive := h.live[c]
			h.mu.Unlock()
			if alive {
				return c, nil
			}
		}
	}
}

// Close stops listening. Connections that were accepted already go on; those
// in the queue are closed.
func (h *hub) Close() error {
	h.fabric.mu.Lock()
	delete(h.fabric.listeners, h)
	delete(h.fabric.publics, h)
	h.fabric.mu.Unlock()
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return nil
	}
	h.closed = true
	stops := h.stops
	h.stops = nil
	close(h.done)
	close(h.gate)
	h.gate = make(chan struct{})
	h.mu.Unlock()
	for _, stop := range stops {
		stop()
	}
	for {
		select {
		case c := <-h.queue:
			c.abort()
		default:
			return nil
		}
	}
}

func (h *hub) Addr() net.Addr { return net.TCPAddrFromAddrPort(h.at) }

// conn is a connection with the network's evidence about it.
type conn struct {
	net.Conn
	info conninfo.Info
	hub  *hub // nil for connections of the host
}

// ConnInfo implements conninfo.Carrier.
func (c *conn) ConnInfo() conninfo.Info { return c.info }

func (c *conn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.info.Source) }

func (c *conn) LocalAddr() net.Addr {
	if c.hub == nil {
		return c.Conn.LocalAddr()
	}
	return c.hub.Addr()
}

func (c *conn) Close() error {
	c.leave()
	return c.Conn.Close()
}

func (c *conn) leave() {
	if c.hub != nil {
		c.hub.mu.Lock()
		delete(c.hub.live, c)
		c.hub.mu.Unlock()
	}
}

// abort resets the connection: nothing that is still buffered leaves.
func (c *conn) abort() {
	c.leave()
	if t, ok := c.Conn.(interface{ SetLinger(int) error }); ok {
		_ = t.SetLinger(0)
	}
	_ = c.Conn.Close()
}

// CloseWrite ends the outgoing half, where the connection beneath can.
func (c *conn) CloseWrite() error { return closeWrite(c.Conn) }

func closeWrite(c net.Conn) error {
	if w, ok := c.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return syscall.ENOTSUP
}

// SyscallConn and the two copying methods let the kernel splice between
// sockets as if there were no wrapper.
func (c *conn) SyscallConn() (syscall.RawConn, error) {
	if s, ok := c.Conn.(syscall.Conn); ok {
		return s.SyscallConn()
	}
	return nil, syscall.ENOTSUP
}

func (c *conn) ReadFrom(r io.Reader) (int64, error) {
	if other, ok := r.(*conn); ok {
		r = other.Conn
	}
	return io.Copy(c.Conn, r)
}

func (c *conn) WriteTo(w io.Writer) (int64, error) {
	if other, ok := w.(*conn); ok {
		w = other.Conn
	}
	return io.Copy(w, c.Conn)
}

// ingress marks the connections of a listener on the host.
type ingress struct{ net.Listener }

// Ingress wraps a listener that the host may reach, such as the ingress
// controllers' or the jump-box's: its connections carry conninfo.Ingress.
func Ingress(ln net.Listener) net.Listener { return ingress{ln} }

func (l ingress) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c, info: conninfo.Info{Kind: conninfo.Ingress, Source: addrPort(c.RemoteAddr())}}, nil
}

// addrPort is the numeric form of a TCP address; zero for any other.
func addrPort(a net.Addr) netip.AddrPort {
	if t, ok := a.(*net.TCPAddr); ok {
		ap := t.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	return netip.AddrPort{}
}

func (h *hub) isClosed() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.closed
}
