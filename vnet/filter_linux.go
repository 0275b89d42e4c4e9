package vnet

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// filter is the packet filter of one router namespace. It is stateless: TCP is
// judged by its first packet, everything after it belongs to a socket that
// exists or is answered with a reset.
//
//	input   (to the router's own addresses; default drop)
//	  to an endpoint that is not approved         drop
//	  from the router itself                      accept
//	  from a peer, to the resolver or the public  drop
//	  UDP to the resolver's port 53               accept
//	  first packet of TCP to an open listener     accept
//	  first packet of TCP                         drop
//	  later packets of TCP, ICMP                  accept
//	forward (between devices; default drop)
//	  between subnets, to and from one peer       accept
//
// A network security group is a further chain before the accepts of both, and
// one of the bridge family for pods of the same subnet, which never pass here.
type filter struct {
	mu      sync.Mutex
	conn    *nftables.Conn
	guarded *nftables.Set
	open    *nftables.Set
	shut    map[netip.Addr]bool
}

// newFilter works in the calling thread's network namespace.
func newFilter(public netip.Prefix) (*filter, error) {
	conn, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	f := &filter{conn: conn, shut: map[netip.Addr]bool{}}
	table := conn.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: "verdant"})
	f.guarded = &nftables.Set{Table: table, Name: "guarded", KeyType: nftables.TypeIPAddr}
	f.open = &nftables.Set{
		Table: table, Name: "open", Concatenation: true,
		KeyType: nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetService),
	}
	for _, set := range []*nftables.Set{f.guarded, f.open} {
		if err := conn.AddSet(set, nil); err != nil {
			return nil, fmt.Errorf("nftables set %s: %w", set.Name, err)
		}
	}
	chain := func(name string, hook *nftables.ChainHook, rules ...[]expr.Any) {
		drop := nftables.ChainPolicyDrop
		c := conn.AddChain(&nftables.Chain{
			Name: name, Table: table, Type: nftables.ChainTypeFilter,
			Hooknum: hook, Priority: nftables.ChainPriorityFilter, Policy: &drop,
		})
		for _, r := range rules {
			conn.AddRule(&nftables.Rule{Table: table, Chain: c, Exprs: r})
		}
	}
	resolver := netip.PrefixFrom(ResolverAddr, 32)
	chain("input", nftables.ChainHookInput,
		rule(expr.VerdictDrop, ipv4(), destination(1), inSet(f.guarded, 1)),
		rule(expr.VerdictAccept, device(expr.MetaKeyIIFNAME, "lo\x00")),
		rule(expr.VerdictDrop, device(expr.MetaKeyIIFNAME, peerPrefix), ipv4(), to(resolver)),
		rule(expr.VerdictDrop, device(expr.MetaKeyIIFNAME, peerPrefix), ipv4(), to(public)),
		rule(expr.VerdictAccept, ipv4(), to(resolver), protocol(unix.IPPROTO_UDP), destinationPort(1), equal(1, 0, 53)),
		rule(expr.VerdictAccept, ipv4(), protocol(unix.IPPROTO_TCP), firstPacket(),
			destination(unix.NFT_REG32_00), destinationPort(unix.NFT_REG32_01), inSet(f.open, unix.NFT_REG32_00)),
		rule(expr.VerdictDrop, protocol(unix.IPPROTO_TCP), firstPacket()),
		rule(expr.VerdictAccept, ipv4(), protocol(unix.IPPROTO_TCP)),
		rule(expr.VerdictAccept, ipv4(), protocol(unix.IPPROTO_ICMP)),
	)
	in, out := expr.MetaKeyIIFNAME, expr.MetaKeyOIFNAME
	chain("forward", nftables.ChainHookForward,
		rule(expr.VerdictAccept, ipv4(), device(in, bridgeName+"\x00"), device(out, bridgeName+"\x00")),
		rule(expr.VerdictAccept, ipv4(), device(in, bridgeName+"\x00"), device(out, peerPrefix)),
		rule(expr.VerdictAccept, ipv4(), device(in, peerPrefix), device(out, bridgeName+"\x00")),
	)
	if err := conn.Flush(); err != nil {
		return nil, fmt.Errorf("load the packet filter (does this kernel have nf_tables?): %w", err)
	}
	return f, nil
}

func (f *filter) close() { _ = f.conn.CloseLasting() }

// guard drops every packet to addr while shut.
func (f *filter) guard(addr netip.Addr, shut bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.shut[addr] == shut {
		return nil
	}
	if err := f.change(f.guarded, addr.AsSlice(), shut); err != nil {
		return err
	}
	f.shut[addr] = shut
	return nil
}

// admit lets connections to a listener in, or no longer.
func (f *filter) admit(at netip.AddrPort, open bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	// Each part of a concatenation fills whole registers of four bytes.
	key := binary.BigEndian.AppendUint16(at.Addr().AsSlice(), at.Port())
	return f.change(f.open, append(key, 0, 0), open)
}

func (f *filter) change(set *nftables.Set, key []byte, present bool) error {
	elements := []nftables.SetElement{{Key: key}}
	var err error
	if present {
		err = f.conn.SetAddElements(set, elements)
	} else {
		err = f.conn.SetDeleteElements(set, elements)
	}
	if err == nil {
		err = f.conn.Flush()
	}
	if err != nil {
		return fmt.Errorf("packet filter set %s: %w", set.Name, err)
	}
	return nil
}

// rule joins matches and ends with a verdict.
func rule(verdict expr.VerdictKind, matches ...[]expr.Any) []expr.Any {
	var all []expr.Any
	for _, m := range matches {
		all = append(all, m...)
	}
	return append(all, &expr.Verdict{Kind: verdict})
}

func equal(register uint32, data ...byte) []expr.Any {
	return []expr.Any{&expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: data}}
}

func ipv4() []expr.Any {
	return append([]expr.Any{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}}, equal(1, unix.NFPROTO_IPV4)...)
}

func protocol(number byte) []expr.Any {
	return append([]expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}}, equal(1, number)...)
}

// device matches a device's name, or its beginning unless name ends with NUL.
func device(key expr.MetaKey, name string) []expr.Any {
	return append([]expr.Any{&expr.Meta{Key: key, Register: 1}}, equal(1, []byte(name)...)...)
}

func destination(register uint32) []expr.Any {
	return []expr.Any{&expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4}}
}

func destinationPort(register uint32) []expr.Any {
	return []expr.Any{&expr.Payload{DestRegister: register, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2}}
}

func to(p netip.Prefix) []expr.Any {
	mask := binaryutil.BigEndian.PutUint32(^uint32(0) << (32 - p.Bits()))
	return append(destination(1),
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: mask, Xor: []byte{0, 0, 0, 0}},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: p.Masked().Addr().AsSlice()})
}

// firstPacket matches SYN without ACK.
func firstPacket() []expr.Any {
	const syn, ack = 0x02, 0x10
	return append([]expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 13, Len: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{syn | ack}, Xor: []byte{0}},
	}, equal(1, syn)...)
}

func inSet(set *nftables.Set, register uint32) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: register, SetName: set.Name, SetID: set.ID}}
}
