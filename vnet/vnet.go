// Package vnet decides who reaches whom and by what name.
//
// A Fabric holds virtual networks, the pods in them, the private endpoints
// that let a service be reached from a network, the few public addresses of
// the platform, and private name resolution. It hands out listeners and
// connections; the connections carry conninfo.Info, made from the socket on
// which they were accepted and never from what the peer sent.
//
// Three drivers stand behind one type:
//
//   - Root and Rootless (Linux): a virtual network is a network namespace with
//     a bridge, a pod is a child process in a network, mount, pid, ipc and uts
//     namespace of its own without capabilities. The kernel enforces every
//     promise. Namespaces are anonymous: when the process ends, however it
//     ends, nothing is left. Rootless does the same inside a user namespace.
//   - Loopback (anywhere): pods are ordinary child processes that reach their
//     network through an HTTP proxy with a credential of their own. What goes
//     through the proxy follows the same rules; what a pod does beside it is
//     not enforced, and Limits says so.
//
// What it refuses: a network that no rule opens. There is no route between
// networks that are not peered, none over two peerings, none from a pod to the
// host, and no way out. A private endpoint that is not approved drops packets.
//
// The semantics follow Azure Private Link and Azure private DNS: a private
// zone is authoritative for the networks linked to it, the resolver of every
// network is 168.63.129.16 and the instance metadata address of every pod
// 169.254.169.254.
package vnet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
)

// Driver names a way to build networks.
type Driver string

const (
	// Root builds networks from kernel namespaces with root's own privileges.
	Root Driver = "root"
	// Rootless builds them inside a user namespace of an ordinary user.
	Rootless Driver = "rootless"
	// Loopback imitates them with listeners of this host.
	Loopback Driver = "loopback"
)

var (
	// ResolverAddr is where every network's name resolution answers.
	ResolverAddr = netip.MustParseAddr("168.63.129.16")
	// MetadataAddr is the instance metadata address on each pod's own loopback.
	MetadataAddr = netip.MustParseAddr("169.254.169.254")
	// DefaultPublicPrefix holds the platform's simulated public addresses
	// (RFC 5737 TEST-NET-3).
	DefaultPublicPrefix = netip.MustParsePrefix("203.0.113.0/24")
)

var (
	// ErrUnreachable is wrapped by errors that mean "no rule lets this network
	// reach that address"; its text says why.
	ErrUnreachable = errors.New("not reachable from this network")
	// ErrNoSuchName is wrapped when a name does not exist as seen from a
	// network (NXDOMAIN).
	ErrNoSuchName = errors.New("no such name")
	// ErrUnknownNetwork is wrapped when a network was never created.
	ErrUnknownNetwork = errors.New("unknown network")
)

// Config configures a Fabric.
type Config struct {
	// Driver is required. Root and Rootless work only in a process started by
	// Reexec with the same driver.
	Driver Driver
	// PublicPrefix holds the public addresses; default DefaultPublicPrefix.
	PublicPrefix netip.Prefix
}

// Fabric is a set of virtual networks. Its methods may be called from any
// goroutine. It owns every listener, pod and namespace that it made until
// Close.
type Fabric struct {
	kind    Driver
	backend backend
	public  netip.Prefix
	zones   *zoneTable

	mu        sync.Mutex
	closed    bool
	networks  map[string]*network
	listeners map[*hub]struct{}
	publics   map[*hub]struct{}
	endpoints map[string]*Endpoint
	pods      map[*Pod]struct{}
}

// backend is what a driver does. The Fabric validates first, so a backend is
// never asked for an address that belongs to somebody else. Methods are called
// with the Fabric's lock held, except dial and those of pods.
type backend interface {
	createNetwork(n *network) error
	peer(a, b *network) error
	// claim makes addr an address of n. Nothing answers on it until open.
	claim(n *network, addr netip.Addr) error
	// guard drops every packet to addr while shut is true.
	guard(n *network, addr netip.Addr, shut bool) error
	// open accepts TCP connections on at until stop is called, and hands each
	// to deliver.
	open(n *network, at netip.AddrPort, deliver deliverFunc) (stop func(), err error)
	dial(ctx context.Context, n *network, dst netip.AddrPort) (net.Conn, error)
	// dialSource is the address from which dial's connections come.
	dialSource(n *network) netip.Addr
	addPod(n *network, p *Pod) (podBackend, error)
	limits() []string
	close() error
}

// deliverFunc takes ownership of an accepted connection that came from source.
// It blocks while the service is slow to accept, until ctx ends or the listener
// is gone; then it closes the connection.
type deliverFunc func(ctx context.Context, c net.Conn, source netip.AddrPort)

// Open makes an empty Fabric. Close releases it.
func Open(cfg Config) (*Fabric, error) {
	public := cfg.PublicPrefix
	if !public.IsValid() {
		public = DefaultPublicPrefix
	}
	if !public.Addr().Is4() || public != public.Masked() {
		return nil, fmt.Errorf("open network fabric: public prefix %s is not an IPv4 network address", public)
	}
	f := &Fabric{
		kind:      cfg.Driver,
		public:    public,
		zones:     newZoneTable(),
		networks:  map[string]*network{},
		listeners: map[*hub]struct{}{},
		publics:   map[*hub]struct{}{},
		endpoints: map[string]*Endpoint{},
		pods:      map[*Pod]struct{}{},
	}
	var err error
	switch cfg.Driver {
	case Root, Rootless:
		f.backend, err = openKernel(f)
	case Loopback:
		f.backend, err = openLoopback(f)
	default:
		err = fmt.Errorf("unknown driver %q; known are %q, %q and %q", cfg.Driver, Root, Rootless, Loopback)
	}
	if err != nil {
		return nil, fmt.Errorf("open network fabric: %w", err)
	}
	return f, nil
}

// Driver names the driver in use.
func (f *Fabric) Driver() Driver { return f.kind }

// Limits lists in plain words what this driver cannot enforce; empty if it
// enforces every promise of the package.
func (f *Fabric) Limits() []string { return f.backend.limits() }

// Close ends every pod, closes every listener and connection, and releases all
// networks. It waits for what it ends.
func (f *Fabric) Close() error {
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		return nil
	}
	f.closed = true
	pods, hubs := f.pods, f.listeners
	f.pods, f.listeners = map[*Pod]struct{}{}, map[*hub]struct{}{}
	f.mu.Unlock()

	var errs []error
	for p := range pods {
		errs = append(errs, p.release())
	}
	for h := range hubs {
		h.shut()
	}
	errs = append(errs, f.backend.close())
	return errors.Join(errs...)
}

// network looks a network up; the lock must be held.
func (f *Fabric) network(name string) (*network, error) {
	if f.closed {
		return nil, fmt.Errorf("network fabric: %w", net.ErrClosed)
	}
	n := f.networks[name]
	if n == nil {
		return nil, fmt.Errorf("%w %q", ErrUnknownNetwork, name)
	}
	return n, nil
}

// Listen accepts connections on an address of the network: one inside its
// prefixes that no pod or endpoint has, or a public one. The listener's
// connections carry conninfo.VNet or conninfo.Public.
func (f *Fabric) Listen(networkName string, at netip.AddrPort) (net.Listener, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.network(networkName)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", at, err)
	}
	h := f.newHub(at)
	if err := f.attach(h, n); err != nil {
		h.shut()
		return nil, fmt.Errorf("listen on %s in %s: %w", at, networkName, err)
	}
	f.listeners[h] = struct{}{}
	return h, nil
}

// Dial connects to dst from the network's own router, as an ingress controller
// or a jump-box in that network would. It reaches what the network reaches.
func (f *Fabric) Dial(ctx context.Context, networkName string, dst netip.AddrPort) (net.Conn, error) {
	f.mu.Lock()
	n, err := f.network(networkName)
	f.mu.Unlock()
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", dst, err)
	}
	c, err := f.backend.dial(ctx, n, dst)
	if err != nil {
		return nil, fmt.Errorf("dial %s in %s: %w", dst, networkName, err)
	}
	return c, nil
}

// DialName resolves the host of hostport as the network sees it and connects
// to the first address that answers.
func (f *Fabric) DialName(ctx context.Context, networkName, hostport string) (net.Conn, error) {
	addrs, err := f.lookup(networkName, hostport)
	if err != nil {
		return nil, fmt.Errorf("dial %s in %s: %w", hostport, networkName, err)
	}
	var errs []error
	for _, a := range addrs {
		c, err := f.Dial(ctx, networkName, a)
		if err == nil {
			return c, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// DialSource is the address that peers see on connections made by Dial: pods
// believe forwarded headers from it and from nowhere else.
func (f *Fabric) DialSource(networkName string) (netip.Addr, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.network(networkName)
	if err != nil {
		return netip.Addr{}, err
	}
	return f.backend.dialSource(n), nil
}
