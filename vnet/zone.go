package vnet

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Zone is a DNS zone as data.
type Zone struct {
	// ID is the zone's ARM id, unique in the Fabric. Different zones may bear
	// the same name as long as no network is linked to two of them.
	ID string
	// Name is the zone's name, such as privatelink.vaultcore.azure.net.
	Name string
	// Public zones are seen by every network; Links is ignored for them.
	Public  bool
	Links   []Link
	Records []Record
}

// Link makes a private zone visible to a network, for which the zone is then
// authoritative.
type Link struct {
	// Network is the name of the network.
	Network string
	// NXDomainRedirect asks the public zones for a name that the zone lacks,
	// instead of denying that it exists.
	NXDomainRedirect bool
}

// RecordType is the type of a record set.
type RecordType string

// The record types that zones hold.
const (
	A     RecordType = "A"
	CNAME RecordType = "CNAME"
	TXT   RecordType = "TXT"
)

// Record is a record set.
type Record struct {
	// Name is relative to the zone; "@" is the zone itself and a first label
	// "*" a wildcard.
	Name string
	Type RecordType
	// Values are IPv4 addresses, one canonical name, or texts.
	Values []string
}

// TTL is the time to live of every answer, in seconds.
const TTL = 10

// maxChain bounds the CNAMEs that one question follows.
const maxChain = 8

// zone is a Zone indexed by name. It is immutable.
type zone struct {
	Zone
	origin string // lower case, without the final dot
	names  map[string]map[RecordType][]string
}

// zoneTable holds all zones. It has its own lock, so that resolution never
// waits for the network.
type zoneTable struct {
	mu    sync.RWMutex
	zones map[string]*zone
}

func newZoneTable() *zoneTable { return &zoneTable{zones: map[string]*zone{}} }

// PutZone adds a zone or replaces the one with its ID. It takes effect for the
// next question.
func (f *Fabric) PutZone(z Zone) error {
	built, err := newZone(z)
	if err != nil {
		return fmt.Errorf("zone %s (%s): %w", z.Name, z.ID, err)
	}
	t := f.zones
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, other := range t.zones {
		if other.ID == z.ID || other.origin != built.origin || other.Public != z.Public {
			continue
		}
		if z.Public {
			return fmt.Errorf("zone %s (%s): %s is a public zone of that name", z.Name, z.ID, other.ID)
		}
		for _, l := range z.Links {
			if _, linked := other.link(l.Network); linked {
				return fmt.Errorf("zone %s (%s): network %s is linked to %s of the same name", z.Name, z.ID, l.Network, other.ID)
			}
		}
	}
	t.zones[z.ID] = built
	return nil
}

// DeleteZone removes the zone with that ID; no error if there is none.
func (f *Fabric) DeleteZone(id string) {
	f.zones.mu.Lock()
	defer f.zones.mu.Unlock()
	delete(f.zones.zones, id)
}

func newZone(z Zone) (*zone, error) {
	origin, ok := canonical(z.Name)
	if z.ID == "" || !ok || origin == "" {
		return nil, fmt.Errorf("an id and a domain name are needed")
	}
	z.Links, z.Records = slices.Clone(z.Links), slices.Clone(z.Records)
	built := &zone{Zone: z, origin: origin, names: map[string]map[RecordType][]string{origin: {}}}
	for _, r := range z.Records {
		name := origin
		if r.Name != "@" && r.Name != "" {
			if name, ok = canonical(r.Name + "." + origin); !ok {
				return nil, fmt.Errorf("record %q: not a domain name", r.Name)
			}
		}
		values, err := checkValues(r)
		if err != nil {
			return nil, fmt.Errorf("record %s %s: %w", r.Name, r.Type, err)
		}
		if built.names[name] == nil {
			built.names[name] = map[RecordType][]string{}
		}
		built.names[name][r.Type] = append(built.names[name][r.Type], values...)
		// What lies between the name and the origin exists too (RFC 4592).
		for parent := name; parent != origin; {
			_, parent, _ = strings.Cut(parent, ".")
			if built.names[parent] == nil {
				built.names[parent] = map[RecordType][]string{}
			}
		}
	}
	for name, sets := range built.names {
		if n := len(sets[CNAME]); n > 1 || n == 1 && (len(sets) > 1 || name == origin) {
			return nil, fmt.Errorf("record %s: a canonical name stands alone and not at the zone's top", name)
		}
	}
	return built, nil
}

func checkValues(r Record) ([]string, error) {
	if len(r.Values) == 0 {
		return nil, fmt.Errorf("no value")
	}
	values := slices.Clone(r.Values)
	for i, v := range values {
		switch r.Type {
		case A:
			if addr, err := netip.ParseAddr(v); err != nil || !addr.Is4() {
				return nil, fmt.Errorf("%q is not an IPv4 address", v)
			}
		case CNAME:
			name, ok := canonical(v)
			if !ok || name == "" {
				return nil, fmt.Errorf("%q is not a domain name", v)
			}
			values[i] = name
		case TXT:
			if len(v) > 255 {
				return nil, fmt.Errorf("a text is longer than 255 bytes")
			}
		default:
			return nil, fmt.Errorf("unknown type; known are A, CNAME and TXT")
		}
	}
	return values, nil
}

// canonical is name in lower case without the final dot; ok is false for what
// is no domain name.
func canonical(name string) (string, bool) {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if len(name) > 253 {
		return "", false
	}
	if name == "" {
		return "", true
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_*") != "" {
			return "", false
		}
	}
	return name, true
}

func (z *zone) link(networkName string) (Link, bool) {
	i := slices.IndexFunc(z.Links, func(l Link) bool { return l.Network == networkName })
	if i < 0 {
		return Link{}, false
	}
	return z.Links[i], true
}

// find returns the record sets at name, a name in the zone.
func (z *zone) find(name string) (sets map[RecordType][]string, exists bool) {
	if sets, exists = z.names[name]; exists {
		return sets, true
	}
	for parent := name; parent != z.origin; {
		_, parent, _ = strings.Cut(parent, ".")
		if sets, ok := z.names["*."+parent]; ok {
			return sets, true
		}
		if _, ok := z.names[parent]; ok {
			return nil, false // RFC 4592: the closest encloser decides
		}
	}
	return nil, false
}

// closest returns the zone with the longest origin that holds name.
func closest(zones map[string]*zone, name string, visible func(*zone) bool) *zone {
	var best *zone
	for _, z := range zones {
		if (name == z.origin || strings.HasSuffix(name, "."+z.origin)) &&
			(best == nil || len(z.origin) > len(best.origin)) && visible(z) {
			best = z
		}
	}
	return best
}

// hop is one step of a resolution: the record set at a name.
type hop struct {
	name   string
	kind   RecordType
	values []string
}

// resolution is the answer to one question.
type resolution struct {
	hops   []hop
	exists bool   // whether the last name exists
	origin string // the zone that spoke last; empty for none
}

// resolve answers what (name, kind) is as seen from a network. name is
// canonical.
func (t *zoneTable) resolve(networkName, name string, kind RecordType) resolution {
	t.mu.RLock()
	defer t.mu.RUnlock()
	var r resolution
	for range maxChain {
		sets, origin, exists := t.sets(networkName, name)
		r.exists, r.origin = exists, origin
		if values := sets[kind]; len(values) > 0 {
			r.hops = append(r.hops, hop{name, kind, values})
			return r
		}
		target := sets[CNAME]
		if len(target) == 0 {
			return r
		}
		r.hops = append(r.hops, hop{name, CNAME, target})
		name = target[0]
	}
	r.exists = false // A loop leads nowhere.
	return r
}

func (t *zoneTable) sets(networkName, name string) (sets map[RecordType][]string, origin string, exists bool) {
	z := closest(t.zones, name, func(z *zone) bool {
		_, linked := z.link(networkName)
		return !z.Public && linked
	})
	if z != nil {
		sets, exists = z.find(name)
		if link, _ := z.link(networkName); exists || !link.NXDomainRedirect {
			return sets, z.origin, exists
		}
	}
	if z = closest(t.zones, name, func(z *zone) bool { return z.Public }); z == nil {
		return nil, "", false
	}
	sets, exists = z.find(name)
	return sets, z.origin, exists
}

// Answer is what a name means to a network.
type Answer struct {
	// CNAMEs are the canonical names on the way, in order.
	CNAMEs []string
	// Addrs are the addresses; none if the name exists without an address.
	Addrs []netip.Addr
}

// Resolve answers for name as the network's own resolver does. A name that
// does not exist there is ErrNoSuchName; the answer then still holds the
// CNAMEs that led to it.
func (f *Fabric) Resolve(networkName, name string) (Answer, error) {
	f.mu.Lock()
	_, err := f.network(networkName)
	f.mu.Unlock()
	if err != nil {
		return Answer{}, fmt.Errorf("resolve %s: %w", name, err)
	}
	canonicalName, ok := canonical(name)
	if !ok {
		return Answer{}, fmt.Errorf("resolve %q: %w: not a domain name", name, ErrNoSuchName)
	}
	r := f.zones.resolve(networkName, canonicalName, A)
	var a Answer
	for _, h := range r.hops {
		if h.kind == CNAME {
			a.CNAMEs = append(a.CNAMEs, h.values[0])
			continue
		}
		for _, v := range h.values {
			a.Addrs = append(a.Addrs, netip.MustParseAddr(v))
		}
	}
	if !r.exists {
		return a, fmt.Errorf("resolve %s in %s: %w", name, networkName, ErrNoSuchName)
	}
	return a, nil
}

// lookup turns host:port, with a name or an address, into addresses.
func (f *Fabric) lookup(networkName, hostport string) ([]netip.AddrPort, error) {
	host, portText, err := net.SplitHostPort(hostport)
	if err != nil {
		return nil, errors.New("want host:port")
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil || port == 0 {
		return nil, errors.New("want a port between 1 and 65535")
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		return []netip.AddrPort{netip.AddrPortFrom(addr.Unmap(), uint16(port))}, nil
	}
	answer, err := f.Resolve(networkName, host)
	if err != nil {
		return nil, err
	}
	if len(answer.Addrs) == 0 {
		return nil, fmt.Errorf("%s has no address in %s: %w", host, networkName, ErrNoSuchName)
	}
	addrs := make([]netip.AddrPort, len(answer.Addrs))
	for i, a := range answer.Addrs {
		addrs[i] = netip.AddrPortFrom(a, uint16(port))
	}
	return addrs, nil
}
