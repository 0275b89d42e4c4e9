package vnet

import (
	"context"
	"net"
	"net/netip"
	"sync"

	"verdant/internal/conninfo"
)

// Backbone is the platform's own network to one of its services. It lives in
// this process and has no address, so that nothing outside leads to it: a
// connection on it was made by whoever holds the Backbone. Its connections
// carry conninfo.Platform.
type Backbone struct {
	arriving chan net.Conn
	closed   chan struct{}
	once     sync.Once
}

// NewBackbone makes a backbone; it is a net.Listener for the service.
func NewBackbone() *Backbone {
	return &Backbone{arriving: make(chan net.Conn), closed: make(chan struct{})}
}

// Dial connects to the service, and waits until it accepts.
func (b *Backbone) Dial(ctx context.Context) (net.Conn, error) {
	near, far := net.Pipe()
	var err error
	select {
	case b.arriving <- &conn{Conn: far, info: conninfo.Info{Kind: conninfo.Platform}}:
		return near, nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-b.closed:
		err = net.ErrClosed
	}
	_, _ = near.Close(), far.Close()
	return nil, &net.OpError{Op: "dial", Net: "backbone", Addr: b.Addr(), Err: err}
}

// Accept implements net.Listener.
func (b *Backbone) Accept() (net.Conn, error) {
	select {
	case c := <-b.arriving:
		return c, nil
	case <-b.closed:
		return nil, &net.OpError{Op: "accept", Net: "backbone", Addr: b.Addr(), Err: net.ErrClosed}
	}
}

// Close implements net.Listener. Connections that were accepted live on.
func (b *Backbone) Close() error {
	b.once.Do(func() { close(b.closed) })
	return nil
}

// Addr implements net.Listener; a backbone has no address.
func (b *Backbone) Addr() net.Addr { return net.TCPAddrFromAddrPort(netip.AddrPort{}) }
