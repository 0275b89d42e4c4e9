package vnet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"time"

	"github.com/miekg/dns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// bridgeName is the device in every router namespace to which pods are wired;
// cables to peers are called peerPrefix and a number.
const (
	bridgeName = "br0"
	peerPrefix = "peer"
)

// kernel is the backend over Linux namespaces. A network is a router
// namespace: a bridge that holds the subnets' gateways, the addresses of
// endpoints and platform on the loopback device, and a packet filter.
type kernel struct {
	fabric  *Fabric
	routers []*router
	cables  int // numbers for device names and peering addresses
}

// router is the namespace of one network.
type router struct {
	thread *nsThread
	links  *netlink.Handle
	filter *filter
	local  map[netip.Addr]bool
	source netip.Addr
	dns    []*dns.Server
}

func openKernel(f *Fabric) (backend, error) {
	if err := insideNamespaces(); err != nil {
		return nil, err
	}
	// What pods mount must not reach the host, whatever the host's default.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return nil, fmt.Errorf("separate the mounts from the host's: %w", err)
	}
	links, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open rtnetlink: %w", err)
	}
	defer links.Close()
	if err := up(links, "lo"); err != nil {
		return nil, err
	}
	return &kernel{fabric: f}, nil
}

func (k *kernel) limits() []string { return podLimits() }

func (k *kernel) close() error {
	for _, r := range k.routers {
		r.close()
	}
	k.routers = nil
	return nil
}

func (r *router) close() {
	for _, s := range r.dns {
		_ = s.Shutdown()
	}
	if r.filter != nil {
		r.filter.close()
	}
	if r.links != nil {
		r.links.Close()
	}
	r.thread.stop()
}

func routerOf(n *network) *router { return n.impl.(*router) }

func (k *kernel) createNetwork(n *network) error {
	thread, err := newNSThread()
	if err != nil {
		return err
	}
	r := &router{thread: thread, local: map[netip.Addr]bool{}, source: n.Subnets[0].gateway()}
	if err := thread.do(func() error { return r.setUp(n, k.fabric.public) }); err != nil {
		r.close()
		return err
	}
	if err := r.serveDNS(k.fabric.zones.dnsHandler(n.Name)); err != nil {
		r.close()
		return err
	}
	n.impl = r
	k.routers = append(k.routers, r)
	return nil
}

// setUp runs on the router's thread.
func (r *router) setUp(n *network, public netip.Prefix) (err error) {
	if err := sysctls("net/ipv4/ip_forward=1", "net/ipv4/conf/all/rp_filter=1", "net/ipv4/conf/default/rp_filter=1",
		"net/ipv4/conf/all/send_redirects=0", "net/ipv4/conf/default/send_redirects=0"); err != nil {
		return err
	}
	quietIPv6()
	// The filter stands before the first device does.
	if r.filter, err = newFilter(public); err != nil {
		return err
	}
	if r.links, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return fmt.Errorf("open rtnetlink: %w", err)
	}
	if err := up(r.links, "lo"); err != nil {
		return err
	}
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: bridgeName}}
	if err := r.links.LinkAdd(bridge); err != nil {
		return fmt.Errorf("add bridge: %w", err)
	}
	for _, s := range n.Subnets {
		if err := addAddr(r.links, bridgeName, netip.PrefixFrom(s.gateway(), s.Prefix.Bits())); err != nil {
			return err
		}
		r.local[s.gateway()] = true
	}
	if err := up(r.links, bridgeName); err != nil {
		return err
	}
	return r.claim(ResolverAddr)
}

func (r *router) claim(addr netip.Addr) error {
	if r.local[addr] {
		return nil
	}
	if err := addAddr(r.links, "lo", netip.PrefixFrom(addr, 32)); err != nil {
		return err
	}
	r.local[addr] = true
	return nil
}

func (r *router) serveDNS(h dns.Handler) error {
	at := netip.AddrPortFrom(ResolverAddr, 53)
	var packets *net.UDPConn
	err := r.thread.do(func() (err error) {
		packets, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at))
		return err
	})
	if err != nil {
		return fmt.Errorf("open the resolver: %w", err)
	}
	streams, err := r.thread.listen(*net.TCPAddrFromAddrPort(at))
	if err != nil {
		_ = packets.Close()
		return fmt.Errorf("open the resolver: %w", err)
	}
	if err := r.filter.admit(at, true); err != nil {
		return err
	}
	for _, s := range []*dns.Server{{PacketConn: packets, Handler: h}, {Listener: streams, Handler: h}} {
		ready := make(chan struct{})
		s.NotifyStartedFunc = func() { close(ready) }
		// Ends with Shutdown in close; there is no error that is not its end.
		go func() { _ = s.ActivateAndServe() }()
		<-ready
		r.dns = append(r.dns, s)
	}
	return nil
}

// peer lays a cable between two routers and routes the other's prefixes into
// it. The filter forwards between a bridge and a cable, never between cables.
func (k *kernel) peer(a, b *network) error {
	ra, rb := routerOf(a), routerOf(b)
	k.cables++
	if k.cables > 1<<14 {
		return errors.New("more cables than the transfer network has addresses")
	}
	name := fmt.Sprintf("%s%d", peerPrefix, k.cables)
	// 169.254.128.0/17 is the transfer network; it is never routed.
	first := netip.AddrFrom4([4]byte{169, 254, byte(128 + k.cables>>7), byte(k.cables << 1)})
	cable := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: name,
		PeerNamespace: netlink.NsFd(int(rb.thread.ns.Fd())),
	}
	if err := ra.links.LinkAdd(cable); err != nil {
		return fmt.Errorf("lay a cable: %w", err)
	}
	ends := []struct {
		r           *router
		addr, other netip.Addr
		to          []netip.Prefix
	}{{ra, first, first.Next(), b.Prefixes}, {rb, first.Next(), first, a.Prefixes}}
	for _, end := range ends {
		if err := addAddr(end.r.links, name, netip.PrefixFrom(end.addr, 31)); err != nil {
			return err
		}
		if err := up(end.r.links, name); err != nil {
			return err
		}
		for _, prefix := range end.to {
			if err := addRoute(end.r.links, name, prefix, end.other, end.r.source); err != nil {
				return err
			}
		}
	}
	return nil
}

func (k *kernel) claim(n *network, addr netip.Addr) error { return routerOf(n).claim(addr) }

func (k *kernel) guard(n *network, addr netip.Addr, shut bool) error {
	return routerOf(n).filter.guard(addr, shut)
}

func (k *kernel) open(n *network, at netip.AddrPort, deliver deliverFunc) (func(), error) {
	r := routerOf(n)
	ln, err := r.thread.listen(*net.TCPAddrFromAddrPort(at))
	if err != nil {
		return nil, err
	}
	if err := r.filter.admit(at, true); err != nil {
		_ = ln.Close()
		return nil, err
	}
	stop := acceptAll(ln, deliver)
	return func() {
		// Without a socket the rule admits nobody, so an error changes nothing.
		_ = r.filter.admit(at, false)
		stop()
	}, nil
}

func (k *kernel) dialSource(n *network) netip.Addr { return routerOf(n).source }

func (k *kernel) dial(ctx context.Context, n *network, dst netip.AddrPort) (net.Conn, error) {
	r := routerOf(n)
	var fd int
	err := r.thread.do(func() (err error) {
		fd, err = startConnect(r.source, dst)
		return err
	})
	if errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EHOSTUNREACH) {
		return nil, fmt.Errorf("%w: there is no route", ErrUnreachable)
	}
	if err != nil {
		return nil, err
	}
	return finishConnect(ctx, fd)
}

// startConnect opens a socket in the calling thread's namespace and begins to
// connect it.
func startConnect(src netip.Addr, dst netip.AddrPort) (int, error) {
	if !dst.Addr().Is4() {
		return -1, unix.EAFNOSUPPORT
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	// The port is chosen at connect, where the whole quadruple is known.
	_ = unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	err = unix.Bind(fd, &unix.SockaddrInet4{Addr: src.As4()})
	if err == nil {
		err = unix.Connect(fd, &unix.SockaddrInet4{Addr: dst.Addr().As4(), Port: int(dst.Port())})
	}
	if err != nil && err != unix.EINPROGRESS {
		_ = unix.Close(fd)
		return -1, os.NewSyscallError("connect", err)
	}
	return fd, nil
}

// finishConnect waits, on any thread, for the connect of fd and takes fd over.
func finishConnect(ctx context.Context, fd int) (net.Conn, error) {
	file := os.NewFile(uintptr(fd), "connection")
	defer func() { _ = file.Close() }() // net.FileConn duplicates it.
	raw, err := file.SyscallConn()
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = file.SetWriteDeadline(time.Unix(1, 0)) })
	defer stop()
	var outcome error
	err = raw.Write(func(fd uintptr) bool {
		// The state is asked for, not inferred from one readiness event: the
		// event of before the poller's reset is lost.
		if _, err := unix.Getpeername(int(fd)); err == nil {
			return true
		}
		code, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		if err != nil {
			outcome = err
		} else if code != 0 {
			outcome = unix.Errno(code)
		}
		return outcome != nil
	})
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case errors.Is(outcome, unix.ENETUNREACH) || errors.Is(outcome, unix.EHOSTUNREACH):
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, outcome)
	case outcome != nil:
		return nil, os.NewSyscallError("connect", outcome)
	case err != nil:
		return nil, err
	}
	return net.FileConn(file)
}

// sysctls sets name=value pairs of the calling thread's network namespace.
func sysctls(settings ...string) error {
	for _, s := range settings {
		name, value, _ := cutSetting(s)
		if err := os.WriteFile("/proc/sys/"+name, []byte(value), 0); err != nil {
			return fmt.Errorf("set %s: %w (is /proc/sys read-only here?)", name, err)
		}
	}
	return nil
}

func cutSetting(s string) (name, value string, ok bool) {
	for i := range s {
		if s[i] == '=' {
			return s[:i], s[i+1:], true
		}
	}
	return s, "", false
}

// quietIPv6 keeps link-local addresses and neighbour discovery off the wires.
// A kernel without IPv6 needs no quieting.
func quietIPv6() {
	_ = sysctls("net/ipv6/conf/default/disable_ipv6=1")
}

func up(links *netlink.Handle, name string) error {
	link, err := links.LinkByName(name)
	if err != nil {
		return fmt.Errorf("device %s: %w", name, err)
	}
	if err := links.LinkSetUp(link); err != nil {
		return fmt.Errorf("device %s: set up: %w", name, err)
	}
	return nil
}

func addAddr(links *netlink.Handle, device string, addr netip.Prefix) error {
	link, err := links.LinkByName(device)
	if err != nil {
		return fmt.Errorf("device %s: %w", device, err)
	}
	if err := links.AddrAdd(link, &netlink.Addr{IPNet: ipNet(addr)}); err != nil {
		return fmt.Errorf("device %s: add address %s: %w", device, addr, err)
	}
	return nil
}

// addRoute routes to through the neighbour via; packets made here bear src.
func addRoute(links *netlink.Handle, device string, to netip.Prefix, via, src netip.Addr) error {
	link, err := links.LinkByName(device)
	if err != nil {
		return fmt.Errorf("device %s: %w", device, err)
	}
	route := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(to), Gw: via.AsSlice(), Src: src.AsSlice()}
	if err := links.RouteAdd(route); err != nil {
		return fmt.Errorf("device %s: route %s via %s: %w", device, to, via, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), 32)}
}

// keepThread runs start on a thread that lives until ended is closed: a parent
// death signal is sent when the thread dies that started the child, not the
// process.
func keepThread(start func() error, ended <-chan struct{}) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := start()
		result <- err
		if err == nil {
			<-ended
		}
	}()
	return <-result
}
