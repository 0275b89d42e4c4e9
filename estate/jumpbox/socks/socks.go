// Package socks lets programs that speak SOCKS5 (browsers, curl) use a dialer
// of ours: RFC 1928, CONNECT only, without authentication.
//
// It promises that a host name travels to the dialer unresolved, and that a
// connection's parts end together. It refuses to listen on anything but a
// loopback address, BIND and UDP ASSOCIATE, and clients that insist on
// authentication. It cannot tell the users of one machine apart.
package socks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"
)

const (
	version          = 5
	maxConnections   = 256
	handshakeTimeout = 10 * time.Second
)

// Reply codes of RFC 1928 §6.
const (
	succeeded          = 0
	notAllowed         = 2
	hostUnreachable    = 4
	commandUnsupported = 7
	addressUnsupported = 8
	noMethod           = 0xff
)

// ErrAddress is wrapped when the address to listen on is not loopback.
var ErrAddress = errors.New("not a loopback address")

// ErrProtocol is wrapped by what a client did wrong.
var ErrProtocol = errors.New("SOCKS5 protocol")

// Listen opens a listener on an IP address of the loopback and a port.
func Listen(ctx context.Context, address string) (net.Listener, error) {
	at, err := netip.ParseAddrPort(address)
	if err != nil || !at.Addr().Unmap().IsLoopback() {
		return nil, fmt.Errorf("%w: %q; write it as 127.0.0.1:1080", ErrAddress, address)
	}
	var config net.ListenConfig
	return config.Listen(ctx, "tcp", address)
}

// Dialer connects to a host name or IP address and port.
type Dialer func(ctx context.Context, address string) (net.Conn, error)

// Serve answers on ln until ctx ends, closes it, and returns when every
// connection has ended.
func Serve(ctx context.Context, ln net.Listener, dial Dialer) error {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	defer stop()
	defer ln.Close()
	var connections sync.WaitGroup
	defer connections.Wait()
	defer cancel()
	slots := make(chan struct{}, maxConnections)
	for {
		conn, err := ln.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("SOCKS proxy on %s: %w", ln.Addr(), err)
		}
		select {
		case slots <- struct{}{}:
			connections.Go(func() {
				defer func() { <-slots }()
				handle(ctx, conn, dial)
			})
		default:
			_ = conn.Close()
		}
	}
}

func handle(ctx context.Context, client net.Conn, dial Dialer) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer client.Close()
	stop := context.AfterFunc(ctx, func() { _ = client.Close() })
	defer stop()
	_ = client.SetDeadline(time.Now().Add(handshakeTimeout))
	address, err := greet(client)
	if err != nil {
		return
	}
	_ = client.SetDeadline(time.Time{})
	target, err := dial(ctx, address)
	if err != nil {
		_ = reply(client, hostUnreachable)
		return
	}
	defer target.Close()
	if reply(client, succeeded) != nil {
		return
	}
	splice(ctx, client, target)
}

// greet reads a client's greeting and request, answers what cannot be served,
// and returns the address asked for.
func greet(client io.ReadWriter) (string, error) {
	if err := readGreeting(client); err != nil {
		if errors.Is(err, ErrProtocol) {
			_, _ = client.Write([]byte{version, noMethod})
		}
		return "", err
	}
	if _, err := client.Write([]byte{version, 0}); err != nil {
		return "", err
	}
	address, code, err := readRequest(client)
	if err != nil {
		if errors.Is(err, ErrProtocol) {
			_ = reply(client, code)
		}
		return "", err
	}
	return address, nil
}

// readGreeting reads the methods that the client offers; "none" must be among
// them.
func readGreeting(r io.Reader) error {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	if head[0] != version {
		return fmt.Errorf("%w: version %d", ErrProtocol, head[0])
	}
	methods := make([]byte, head[1])
	if _, err := io.ReadFull(r, methods); err != nil {
		return err
	}
	for _, m := range methods {
		if m == 0 {
			return nil
		}
	}
	return fmt.Errorf("%w: the client insists on authentication", ErrProtocol)
}

// readRequest reads a request. With an ErrProtocol comes the reply to send.
func readRequest(r io.Reader) (address string, code byte, err error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return "", 0, err
	}
	if head[0] != version {
		return "", notAllowed, fmt.Errorf("%w: version %d", ErrProtocol, head[0])
	}
	host, code, err := readHost(r, head[3])
	if err != nil {
		return "", code, err
	}
	var port [2]byte
	if _, err := io.ReadFull(r, port[:]); err != nil {
		return "", 0, err
	}
	number := int(port[0])<<8 | int(port[1])
	switch {
	case head[1] != 1:
		return "", commandUnsupported, fmt.Errorf("%w: command %d; only CONNECT is served", ErrProtocol, head[1])
	case number == 0:
		return "", notAllowed, fmt.Errorf("%w: port 0", ErrProtocol)
	}
	return net.JoinHostPort(host, strconv.Itoa(number)), succeeded, nil
}

// readHost reads an address of the given type.
func readHost(r io.Reader, kind byte) (host string, code byte, err error) {
	size := 0
	switch kind {
	case 1:
		size = 4
	case 4:
		size = 16
	case 3:
		var length [1]byte
		if _, err := io.ReadFull(r, length[:]); err != nil {
			return "", 0, err
		}
		size = int(length[0])
	default:
		return "", addressUnsupported, fmt.Errorf("%w: address type %d", ErrProtocol, kind)
	}
	raw := make([]byte, size)
	if _, err := io.ReadFull(r, raw); err != nil {
		return "", 0, err
	}
	if kind != 3 {
		addr, _ := netip.AddrFromSlice(raw) // 4 or 16 bytes
		return addr.Unmap().String(), 0, nil
	}
	for _, c := range raw {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.') {
			return "", notAllowed, fmt.Errorf("%w: the host name has characters that no host name has", ErrProtocol)
		}
	}
	if size == 0 {
		return "", notAllowed, fmt.Errorf("%w: no host name", ErrProtocol)
	}
	return string(raw), 0, nil
}

// reply answers a request. The bound address is not given away.
func reply(w io.Writer, code byte) error {
	_, err := w.Write([]byte{version, code, 0, 1, 0, 0, 0, 0, 0, 0})
	return err
}

// splice copies both ways until both directions are at their end, or ctx is.
func splice(ctx context.Context, client, target net.Conn) {
	stop := context.AfterFunc(ctx, func() { _ = target.Close() })
	defer stop()
	done := make(chan struct{})
	go func() { // Ends with either connection.
		pump(target, client)
		close(done)
	}()
	pump(client, target)
	<-done
}

// pump copies until src's end, which it passes on; a broken direction ends
// both.
func pump(dst, src net.Conn) {
	_, err := io.Copy(dst, src)
	if half, ok := dst.(interface{ CloseWrite() error }); ok && err == nil {
		_ = half.CloseWrite()
		return
	}
	_ = dst.Close()
	_ = src.Close()
}
