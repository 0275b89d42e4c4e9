package vnet

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"verdant/internal/conninfo"
)

// Network describes a virtual network.
type Network struct {
	// Name is unique in the Fabric.
	Name string
	// Prefixes is the address space: IPv4, without overlap. Different networks
	// may use the same ranges as long as they are not peered.
	Prefixes []netip.Prefix
	// Subnets divide the address space. At least one is required; the address
	// after a subnet's first is its gateway, and as in Azure the first four and
	// the last address are nobody's.
	Subnets []Subnet
}

// Subnet is a named part of a network's address space.
type Subnet struct {
	Name   string
	Prefix netip.Prefix
}

// gateway is the subnet's router address.
func (s Subnet) gateway() netip.Addr { return s.Prefix.Addr().Next() }

// last is the subnet's broadcast address.
func (s Subnet) last() netip.Addr {
	b := s.Prefix.Addr().As4()
	for i := s.Prefix.Bits(); i < 32; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	return netip.AddrFrom4(b)
}

// usable reports whether the subnet may give addr to a pod or an endpoint.
func (s Subnet) usable(addr netip.Addr) bool {
	first := s.Prefix.Addr().As4()
	first[3] |= 4 // Prefixes are /29 or larger, so this cannot overflow.
	return s.Prefix.Contains(addr) && !addr.Less(netip.AddrFrom4(first)) && addr != s.last()
}

// network is a network of the Fabric. Its fields are guarded by Fabric.mu.
type network struct {
	Network
	peers []*network
	// owners says who has an address: a pod, an endpoint, or a plain listener.
	owners map[netip.Addr]string
	// impl is the driver's part.
	impl any
}

func (n *network) contains(addr netip.Addr) bool {
	return slices.ContainsFunc(n.Prefixes, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// route returns the network that owns addr as seen from n: n itself, a direct
// peer, or nil.
func (n *network) route(addr netip.Addr) *network {
	if n.contains(addr) {
		return n
	}
	for _, p := range n.peers {
		if p.contains(addr) {
			return p
		}
	}
	return nil
}

func (n *network) subnet(name string) (Subnet, error) {
	if name == "" {
		return n.Subnets[0], nil
	}
	for _, s := range n.Subnets {
		if s.Name == name {
			return s, nil
		}
	}
	return Subnet{}, fmt.Errorf("network %s has no subnet %q", n.Name, name)
}

// take gives addr, or the next free address of the named subnet if addr is
// zero, to owner.
func (n *network) take(subnetName string, addr netip.Addr, owner string) (netip.Addr, Subnet, error) {
	s, err := n.subnet(subnetName)
	if err != nil {
		return addr, s, err
	}
	if addr.IsValid() {
		if subnetName == "" {
			if i := slices.IndexFunc(n.Subnets, func(s Subnet) bool { return s.Prefix.Contains(addr) }); i >= 0 {
				s = n.Subnets[i]
			}
		}
		if !s.usable(addr) {
			return addr, s, fmt.Errorf("address %s is not a usable address of subnet %s (%s)", addr, s.Name, s.Prefix)
		}
		if who, taken := n.owners[addr]; taken {
			return addr, s, fmt.Errorf("address %s of %s belongs to %s", addr, n.Name, who)
		}
		n.owners[addr] = owner
		return addr, s, nil
	}
	for a := s.Prefix.Addr(); s.Prefix.Contains(a); a = a.Next() {
		if _, taken := n.owners[a]; !taken && s.usable(a) {
			n.owners[a] = owner
			return a, s, nil
		}
	}
	return addr, s, fmt.Errorf("subnet %s (%s) of %s has no free address", s.Name, s.Prefix, n.Name)
}

// CreateNetwork makes a network, with its resolver and the public addresses
// that ListenPublic opened.
func (f *Fabric) CreateNetwork(spec Network) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return fmt.Errorf("create network %s: fabric is closed", spec.Name)
	}
	if _, exists := f.networks[spec.Name]; exists {
		return fmt.Errorf("create network %s: it exists already", spec.Name)
	}
	if err := f.validate(spec); err != nil {
		return fmt.Errorf("create network %q: %w", spec.Name, err)
	}
	n := &network{Network: spec, owners: map[netip.Addr]string{}}
	n.Prefixes, n.Subnets = slices.Clone(spec.Prefixes), slices.Clone(spec.Subnets)
	if err := f.backend.createNetwork(n); err != nil {
		return fmt.Errorf("create network %s: %w", spec.Name, err)
	}
	f.networks[n.Name] = n
	for h := range f.publics {
		if err := f.attach(h, n); err != nil {
			return fmt.Errorf("create network %s: public address %s: %w", n.Name, h.at, err)
		}
	}
	return nil
}

func (f *Fabric) validate(spec Network) error {
	if spec.Name == "" {
		return fmt.Errorf("it needs a name")
	}
	if len(spec.Prefixes) == 0 || len(spec.Subnets) == 0 {
		return fmt.Errorf("it needs at least one prefix and one subnet")
	}
	reserved := []netip.Prefix{
		f.public, netip.PrefixFrom(ResolverAddr, 32),
		netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("127.0.0.0/8"),
		netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("224.0.0.0/3"),
	}
	for i, p := range spec.Prefixes {
		if !p.IsValid() || !p.Addr().Is4() || p != p.Masked() {
			return fmt.Errorf("prefix %s is not an IPv4 network address", p)
		}
		for _, r := range reserved {
			if p.Overlaps(r) {
				return fmt.Errorf("prefix %s overlaps %s, which the platform uses", p, r)
			}
		}
		for _, q := range spec.Prefixes[:i] {
			if p.Overlaps(q) {
				return fmt.Errorf("prefixes %s and %s overlap", q, p)
			}
		}
	}
	for i, s := range spec.Subnets {
		if s.Name == "" || !s.Prefix.IsValid() || s.Prefix != s.Prefix.Masked() || s.Prefix.Bits() > 29 {
			return fmt.Errorf("subnet %q (%s) needs a name and a network address of at least eight addresses", s.Name, s.Prefix)
		}
		inside := func(p netip.Prefix) bool { return p.Contains(s.Prefix.Addr()) && p.Bits() <= s.Prefix.Bits() }
		if !slices.ContainsFunc(spec.Prefixes, inside) {
			return fmt.Errorf("subnet %s (%s) lies outside the address space", s.Name, s.Prefix)
		}
		for _, t := range spec.Subnets[:i] {
			if s.Name == t.Name || s.Prefix.Overlaps(t.Prefix) {
				return fmt.Errorf("subnets %s (%s) and %s (%s) overlap", t.Name, t.Prefix, s.Name, s.Prefix)
			}
		}
	}
	return nil
}

// Peer lets two networks reach each other. Peering is two-way and does not
// reach through to a third network. Overlapping address spaces are refused, and
// so is a peer whose range overlaps that of an existing peer, because a packet
// could not know where to go.
func (f *Fabric) Peer(a, b string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	na, err := f.network(a)
	if err != nil {
		return fmt.Errorf("peer %s with %s: %w", a, b, err)
	}
	nb, err := f.network(b)
	if err != nil {
		return fmt.Errorf("peer %s with %s: %w", a, b, err)
	}
	if na == nb {
		return fmt.Errorf("peer %s with itself: not possible", a)
	}
	if slices.Contains(na.peers, nb) {
		return fmt.Errorf("peer %s with %s: they are peered already", a, b)
	}
	for _, side := range [][2]*network{{na, nb}, {nb, na}} {
		for _, other := range append([]*network{side[0]}, side[0].peers...) {
			if p, q, clash := overlap(side[1].Prefixes, other.Prefixes); clash {
				return fmt.Errorf("peer %s with %s: %s of %s overlaps %s of %s", a, b, p, side[1].Name, q, other.Name)
			}
		}
	}
	if err := f.backend.peer(na, nb); err != nil {
		return fmt.Errorf("peer %s with %s: %w", a, b, err)
	}
	na.peers, nb.peers = append(na.peers, nb), append(nb.peers, na)
	return nil
}

func overlap(ps, qs []netip.Prefix) (p, q netip.Prefix, clash bool) {
	for _, p := range ps {
		for _, q := range qs {
			if p.Overlaps(q) {
				return p, q, true
			}
		}
	}
	return p, q, false
}

// attach opens h's address in n and feeds h from it. The lock must be held.
func (f *Fabric) attach(h *hub, n *network) error {
	at := h.at
	if at.Port() == 0 {
		return fmt.Errorf("a port is needed")
	}
	kind := conninfo.VNet
	if f.public.Contains(at.Addr()) {
		kind = conninfo.Public
	} else if !n.contains(at.Addr()) {
		return fmt.Errorf("address %s is neither in the network nor public", at.Addr())
	}
	const owner = "a listener"
	if who, taken := n.owners[at.Addr()]; taken && who != owner {
		return fmt.Errorf("the address belongs to %s", who)
	} else if !taken {
		if kind == conninfo.VNet {
			if _, _, err := n.take("", at.Addr(), owner); err != nil {
				return err
			}
		}
		if err := f.backend.claim(n, at.Addr()); err != nil {
			return err
		}
		n.owners[at.Addr()] = owner
	}
	open := func(deliver deliverFunc) (func(), error) { return f.backend.open(n, at, deliver) }
	return h.open(open, conninfo.Info{Kind: kind, VNet: n.Name})
}

// ListenPublic accepts connections on a public address in every network that
// exists or will be created.
func (f *Fabric) ListenPublic(at netip.AddrPort) (net.Listener, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, fmt.Errorf("listen on public address %s: %w", at, net.ErrClosed)
	}
	if !f.public.Contains(at.Addr()) {
		return nil, fmt.Errorf("listen on public address %s: it is not in %s", at, f.public)
	}
	h := f.newHub(at)
	for _, n := range f.networks {
		if err := f.attach(h, n); err != nil {
			h.shut()
			return nil, fmt.Errorf("listen on public address %s in %s: %w", at, n.Name, err)
		}
	}
	f.publics[h], f.listeners[h] = struct{}{}, struct{}{}
	return h, nil
}
