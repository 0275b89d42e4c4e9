package vnet

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"sync"
	"syscall"
)

// loopback is the backend without namespaces. Sockets of the supervisor exist
// only as entries in a table: nothing on the host can connect to them except
// through Dial and through a pod's proxy, so their evidence is as good as the
// proxy's credential. Processes of pods listen on real loopback addresses.
type loopback struct {
	fabric *Fabric
	block  [2]byte // 127.x.y.0/24 of this fabric

	mu     sync.Mutex
	hosts  byte
	served map[place]served
	shut   map[place]bool // by address, port 0
}

// place is an address of a network.
type place struct {
	network *network
	at      netip.AddrPort
}

// served is what answers at a place: a listener of the supervisor, or the real
// address on which a pod's process should listen.
type served struct {
	deliver deliverFunc
	gone    chan struct{}
	real    netip.AddrPort
}

func openLoopback(f *Fabric) (backend, error) {
	l := &loopback{fabric: f, served: map[place]served{}, shut: map[place]bool{}}
	if _, err := rand.Read(l.block[:]); err != nil {
		return nil, err
	}
	// 127.0.0.0/16 is used by people, the rest by nobody.
	l.block[0] |= 1
	l.hosts = 1 // .1 is the source of Dial
	return l, nil
}

func loopbackLimits() []string {
	return []string{
		"isolation is not enforced: pods are ordinary processes of this host and can use its network and files; only what they send through their proxy follows the rules of their network",
		"ports on which pods listen can be reached by every process of this host",
		"whoever can read a pod's environment can act as that pod",
		"files that are mounted into a pod's memory are files of this host, of this user's alone, until the pod ends",
		"what a command leaves running in a session of its own outlives the command, and the estate",
	}
}

func (l *loopback) limits() []string { return loopbackLimits() }

func (l *loopback) createNetwork(*network) error { return nil }

func (l *loopback) peer(_, _ *network) error { return nil }

func (l *loopback) claim(*network, netip.Addr) error { return nil }

func (l *loopback) close() error { return nil }

func (l *loopback) guard(n *network, addr netip.Addr, shut bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shut[place{n, netip.AddrPortFrom(addr, 0)}] = shut
	return nil
}

func (l *loopback) open(n *network, at netip.AddrPort, deliver deliverFunc) (func(), error) {
	key := place{n, at}
	entry := served{deliver: deliver, gone: make(chan struct{})}
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, taken := l.served[key]; taken {
		return nil, syscall.EADDRINUSE
	}
	l.served[key] = entry
	return func() {
		l.mu.Lock()
		delete(l.served, key)
		l.mu.Unlock()
		close(entry.gone)
	}, nil
}

// find returns what answers at dst for somebody in n.
func (l *loopback) find(n *network, dst netip.AddrPort) (served, error) {
	where := n
	if !l.fabric.public.Contains(dst.Addr()) {
		l.fabric.mu.Lock()
		where = n.route(dst.Addr())
		l.fabric.mu.Unlock()
	}
	if where == nil {
		return served{}, fmt.Errorf("%w: there is no route", ErrUnreachable)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.shut[place{where, netip.AddrPortFrom(dst.Addr(), 0)}] {
		return served{}, fmt.Errorf("%w: the private endpoint is not approved", ErrUnreachable)
	}
	entry, ok := l.served[place{where, dst}]
	if !ok {
		return served{}, fmt.Errorf("%w: nothing listens there", ErrUnreachable)
	}
	return entry, nil
}

// self is the address from which Dial connects to pods.
func (l *loopback) self() netip.Addr { return loopbackAddr(l.block, 1) }

func (l *loopback) dialSource(*network) netip.Addr { return l.self() }

func (l *loopback) dial(ctx context.Context, n *network, dst netip.AddrPort) (net.Conn, error) {
	entry, err := l.find(n, dst)
	if err != nil {
		return nil, err
	}
	if entry.deliver == nil {
		return dialFrom(ctx, l.self(), entry.real)
	}
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	source := netip.AddrPortFrom(n.Subnets[0].gateway(), 1)
	entry.deliver(ctx, theirs, source)
	return dialed{ours.(*net.UnixConn), net.TCPAddrFromAddrPort(dst)}, nil
}

// dialed is one end of a socket pair that stands for a TCP connection.
type dialed struct {
	*net.UnixConn
	remote net.Addr
}

func (d dialed) RemoteAddr() net.Addr { return d.remote }

func dialFrom(ctx context.Context, src netip.Addr, dst netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(src, 0))}
	return d.DialContext(ctx, "tcp4", dst.String())
}

// socketPair is a connection within this process, buffered by the kernel.
func socketPair() (a, b net.Conn, err error) {
	syscall.ForkLock.RLock()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fds[0])
		syscall.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	var ends [2]net.Conn
	var errs [2]error
	for i, fd := range fds {
		file := os.NewFile(uintptr(fd), "socketpair")
		ends[i], errs[i] = net.FileConn(file)
		_ = file.Close()
	}
	if err := errors.Join(errs[:]...); err != nil {
		for _, c := range ends {
			if c != nil {
				_ = c.Close()
			}
		}
		return nil, nil, err
	}
	return ends[0], ends[1], nil
}

// loopbackPod is a pod as an ordinary process with a proxy of its own.
type loopbackPod struct {
	driver *loopback
	pod    *Pod
	addr   netip.Addr // of this host
	secret string
	proxy  *proxy

	mu    sync.Mutex
	ports map[uint16]netip.AddrPort
}

func (l *loopback) addPod(_ *network, p *Pod) (podBackend, error) {
	l.mu.Lock()
	if l.hosts == 254 {
		l.mu.Unlock()
		return nil, errors.New("a loopback fabric holds at most 253 pods")
	}
	l.hosts++
	addr := loopbackAddr(l.block, l.hosts)
	l.mu.Unlock()
	secret := make([]byte, 32)
	if _, err := rand.Read(secret); err != nil {
		return nil, err
	}
	lp := &loopbackPod{
		driver: l, pod: p, addr: addr, secret: hex.EncodeToString(secret),
		ports: map[uint16]netip.AddrPort{},
	}
	var err error
	if lp.proxy, err = startProxy(lp); err != nil {
		return nil, fmt.Errorf("open the pod's proxy: %w", err)
	}
	return lp, nil
}

func (lp *loopbackPod) listen(netip.AddrPort) (net.Listener, error) {
	return listenOn(lp.addr)
}

func listenOn(addr netip.Addr) (net.Listener, error) {
	return net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(netip.AddrPortFrom(addr, 0)))
}

// listenAddr finds a free port. The pod opens it a moment later; on an address
// that nobody else uses, nobody takes it meanwhile.
func (lp *loopbackPod) listenAddr(port uint16) (netip.AddrPort, error) {
	lp.mu.Lock()
	defer lp.mu.Unlock()
	if at, known := lp.ports[port]; known {
		return at, nil
	}
	ln, err := listenOn(lp.addr)
	if err != nil {
		return netip.AddrPort{}, err
	}
	at := addrPort(ln.Addr())
	_ = ln.Close()
	l := lp.driver
	l.mu.Lock()
	l.served[place{lp.pod.network, netip.AddrPortFrom(lp.pod.config.Addr, port)}] = served{real: at}
	l.mu.Unlock()
	lp.ports[port] = at
	return at, nil
}

func (lp *loopbackPod) env() []string {
	url := fmt.Sprintf("http://pod:%s@%s", lp.secret, lp.proxy.addr)
	// Addresses only: a name in NO_PROXY also covers what ends with it, and
	// the estate's names end with "localhost".
	direct := "127.0.0.0/8," + lp.addr.String()
	return []string{
		"HTTPS_PROXY=" + url, "HTTP_PROXY=" + url, "NO_PROXY=" + direct,
		"https_proxy=" + url, "http_proxy=" + url, "no_proxy=" + direct,
	}
}

func (lp *loopbackPod) start(cmd Command, sealed bool, ended <-chan struct{}) (c *exec.Cmd, err error) {
	path := cmd.Path
	if path == "" {
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		path = self
	}
	if sealed && len(cmd.Secrets) > 0 {
		if err := placeSecrets(cmd.SecretsDir, cmd.Secrets); err != nil {
			return nil, err
		}
		defer func() {
			if err != nil {
				lp.ended(cmd, sealed)
			}
		}()
	}
	c = exec.Command(path, cmd.Args...)
	if c.Err != nil {
		return nil, c.Err
	}
	c.Env = append(cmd.Env[:len(cmd.Env):len(cmd.Env)], lp.env()...)
	if c.Dir = cmd.Dir; c.Dir == "" {
		c.Dir = "/"
	}
	c.ExtraFiles = cmd.Files
	setStdio(c, cmd)
	tie(c)
	if err := keepThread(c.Start, ended); err != nil {
		return nil, err
	}
	return c, nil
}

func (lp *loopbackPod) ended(cmd Command, sealed bool) {
	if sealed && len(cmd.Secrets) > 0 {
		_ = os.RemoveAll(cmd.SecretsDir) // the next start would say why it cannot
	}
}

func (lp *loopbackPod) close() error {
	lp.proxy.close()
	lp.mu.Lock()
	defer lp.mu.Unlock()
	lp.driver.mu.Lock()
	defer lp.driver.mu.Unlock()
	for port := range lp.ports {
		delete(lp.driver.served, place{lp.pod.network, netip.AddrPortFrom(lp.pod.config.Addr, port)})
	}
	return nil
}
