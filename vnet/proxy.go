package vnet

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"time"
)

// proxy is one pod's door to its network in the loopback driver: an HTTP proxy
// (RFC 9110 §9.3.6 CONNECT, and absolute-form requests for plain HTTP) that
// knows only this pod's credential and reaches only what its network reaches.
// A destination that the network does not reach is a 403 with the reason; one
// that it reaches and that does not answer is a 502.
type proxy struct {
	pod    *loopbackPod
	addr   netip.AddrPort
	server *http.Server
	plain  *httputil.ReverseProxy
	idle   func()
	ended  chan struct{}
}

func startProxy(lp *loopbackPod) (*proxy, error) {
	ln, err := listenOn(lp.addr)
	if err != nil {
		return nil, err
	}
	p := &proxy{pod: lp, addr: addrPort(ln.Addr()), ended: make(chan struct{})}
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, hostport string) (net.Conn, error) {
			return p.dial(ctx, hostport)
		},
		IdleConnTimeout: time.Minute,
	}
	p.idle = transport.CloseIdleConnections
	silent := log.New(io.Discard, "", 0)
	p.plain = &httputil.ReverseProxy{
		Rewrite:      func(r *httputil.ProxyRequest) { r.Out.Host = r.In.Host },
		Transport:    transport,
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) { refuse(w, err) },
		ErrorLog:     silent,
	}
	p.server = &http.Server{
		Handler:           p,
		ReadHeaderTimeout: 10 * time.Second,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          silent,
	}
	go func() { // Ends with close.
		_ = p.server.Serve(ln)
		close(p.ended)
	}()
	return p, nil
}

func (p *proxy) close() {
	_ = p.server.Close()
	<-p.ended
	p.idle()
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !p.authentic(r) {
		w.Header().Set("Proxy-Authenticate", `Basic realm="pod"`)
		http.Error(w, "this proxy belongs to a pod; present its credential", http.StatusProxyAuthRequired)
		return
	}
	switch {
	case r.Method == http.MethodConnect:
		p.connect(w, r)
	case r.URL.Scheme == "http":
		p.plain.ServeHTTP(w, r)
	default:
		http.Error(w, "this is a proxy: use CONNECT or an absolute http URL", http.StatusBadRequest)
	}
}

// authentic compares digests, so that neither content nor length is told by
// the time that it takes.
func (p *proxy) authentic(r *http.Request) bool {
	probe := http.Request{Header: http.Header{"Authorization": r.Header["Proxy-Authorization"]}}
	_, secret, _ := probe.BasicAuth()
	got, want := sha256.Sum256([]byte(secret)), sha256.Sum256([]byte(p.pod.secret))
	return subtle.ConstantTimeCompare(got[:], want[:]) == 1
}

// refuse answers a request that did not get through.
func refuse(w http.ResponseWriter, err error) {
	status := http.StatusBadGateway
	if errors.Is(err, ErrUnreachable) || errors.Is(err, ErrNoSuchName) {
		status = http.StatusForbidden
	}
	http.Error(w, err.Error(), status)
}

// route finds what answers at hostport for the pod.
func (p *proxy) route(hostport string) (served, error) {
	lp := p.pod
	addrs, err := lp.driver.fabric.lookup(lp.pod.config.Network, hostport)
	if err == nil {
		var entry served
		for _, a := range addrs {
			if entry, err = lp.driver.find(lp.pod.network, a); err == nil {
				return entry, nil
			}
		}
	}
	return served{}, fmt.Errorf("pod %s to %s: %w", lp.pod.config.Name, hostport, err)
}

// dial connects the pod to hostport.
func (p *proxy) dial(ctx context.Context, hostport string) (net.Conn, error) {
	entry, err := p.route(hostport)
	if err != nil {
		return nil, err
	}
	if entry.deliver == nil {
		return dialFrom(ctx, p.pod.addr, entry.real)
	}
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	entry.deliver(ctx, theirs, netip.AddrPortFrom(p.pod.pod.config.Addr, 1))
	return ours, nil
}

func (p *proxy) connect(w http.ResponseWriter, r *http.Request) {
	entry, err := p.route(r.Host)
	if err != nil {
		refuse(w, err)
		return
	}
	var upstream net.Conn
	if entry.deliver == nil {
		ctx, cancel := context.WithTimeout(r.Context(), 10*time.Second)
		defer cancel()
		if upstream, err = dialFrom(ctx, p.pod.addr, entry.real); err != nil {
			refuse(w, fmt.Errorf("pod %s to %s: %w", p.pod.pod.config.Name, r.Host, err))
			return
		}
	}
	client, buffered, err := http.NewResponseController(w).Hijack()
	if err == nil {
		_, err = io.WriteString(client, "HTTP/1.1 200 Connection established\r\n\r\n")
	}
	if err != nil {
		if client != nil {
			_ = client.Close()
		}
		if upstream != nil {
			_ = upstream.Close()
		}
		return
	}
	source := addrPort(client.RemoteAddr())
	if n := buffered.Reader.Buffered(); n > 0 {
		early, _ := buffered.Reader.Peek(n)
		client = &prefixed{Conn: client, early: early}
	}
	if upstream != nil {
		splice(client, upstream)
		return
	}
	// The pod's own connection becomes the service's: nothing is copied.
	entry.deliver(context.Background(), client, netip.AddrPortFrom(p.pod.pod.config.Addr, source.Port()))
}

// prefixed is a connection of which some bytes were read already.
type prefixed struct {
	net.Conn
	early []byte
}

func (c *prefixed) Read(b []byte) (int, error) {
	if len(c.early) > 0 {
		n := copy(b, c.early)
		c.early = c.early[n:]
		return n, nil
	}
	return c.Conn.Read(b)
}

func (c *prefixed) CloseWrite() error { return closeWrite(c.Conn) }

// splice copies both ways until both sides have ended, and closes them.
func splice(a, b net.Conn) {
	done := make(chan struct{})
	oneWay := func(dst, src net.Conn) {
		if _, err := io.Copy(dst, src); err != nil {
			_ = dst.Close()
			_ = src.Close()
		}
		_ = closeWrite(dst)
	}
	go func() { // Ends when b's peer ends or either side breaks.
		oneWay(a, b)
		close(done)
	}()
	oneWay(b, a)
	<-done
	_ = a.Close()
	_ = b.Close()
}
