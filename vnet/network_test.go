package vnet_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"

	"verdant/internal/conninfo"
	"verdant/vnet"
)

func subnets(prefixes ...string) (s []vnet.Subnet) {
	for _, p := range prefixes {
		s = append(s, vnet.Subnet{Name: p, Prefix: netip.MustParsePrefix(p)})
	}
	return s
}

func prefixes(texts ...string) (p []netip.Prefix) {
	for _, t := range texts {
		p = append(p, netip.MustParsePrefix(t))
	}
	return p
}

func TestANetworkThatCannotBeIsRefused(t *testing.T) {
	f := loopback(t, "taken")
	for _, c := range []struct {
		why string
		n   vnet.Network
	}{
		{"its name is taken", vnet.Network{Name: "taken", Prefixes: prefixes("10.0.0.0/8"), Subnets: subnets("10.0.0.0/24")}},
		{"it has no name", vnet.Network{Prefixes: prefixes("10.0.0.0/8"), Subnets: subnets("10.0.0.0/24")}},
		{"it has no subnet", vnet.Network{Name: "n", Prefixes: prefixes("10.0.0.0/8")}},
		{"its prefixes overlap", vnet.Network{Name: "n", Prefixes: prefixes("10.0.0.0/8", "10.1.0.0/16"), Subnets: subnets("10.0.0.0/24")}},
		{"its subnets overlap", vnet.Network{Name: "n", Prefixes: prefixes("10.0.0.0/8"), Subnets: subnets("10.0.0.0/24", "10.0.0.128/25")}},
		{"a subnet lies outside", vnet.Network{Name: "n", Prefixes: prefixes("10.0.0.0/16"), Subnets: subnets("10.1.0.0/24")}},
		{"a subnet is wider than the prefix", vnet.Network{Name: "n", Prefixes: prefixes("10.0.0.0/24"), Subnets: subnets("10.0.0.0/16")}},
		{"a subnet is too small", vnet.Network{Name: "n", Prefixes: prefixes("10.0.0.0/24"), Subnets: subnets("10.0.0.0/30")}},
		{"a prefix has host bits", vnet.Network{Name: "n", Prefixes: prefixes("10.0.0.1/24"), Subnets: subnets("10.0.0.0/24")}},
		{"a prefix is IPv6", vnet.Network{Name: "n", Prefixes: prefixes("fd00::/64"), Subnets: subnets("10.0.0.0/24")}},
		{"it takes the public addresses", vnet.Network{Name: "n", Prefixes: prefixes("203.0.113.0/25"), Subnets: subnets("203.0.113.0/25")}},
		{"it takes the resolver's address", vnet.Network{Name: "n", Prefixes: prefixes("168.63.0.0/16"), Subnets: subnets("168.63.0.0/24")}},
		{"it takes the metadata address", vnet.Network{Name: "n", Prefixes: prefixes("169.254.169.0/24"), Subnets: subnets("169.254.169.0/24")}},
		{"it takes the loopback network", vnet.Network{Name: "n", Prefixes: prefixes("127.0.0.0/16"), Subnets: subnets("127.0.0.0/24")}},
	} {
		t.Run(c.why, func(t *testing.T) {
			if err := f.CreateNetwork(c.n); err == nil {
				t.Error("it was created")
			}
		})
	}
}

func TestPeeringRefusesWhatWouldBeAmbiguous(t *testing.T) {
	f := loopback(t, "a", "b", "c") // 10.0/16, 10.1/16, 10.2/16
	for name, p := range map[string]string{"like-b": "10.1.0.0/16", "like-a": "10.0.128.0/17"} {
		if err := f.CreateNetwork(vnet.Network{Name: name, Prefixes: prefixes(p), Subnets: subnets(p)}); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ why, a, b, want string }{
		{"two networks", "a", "b", ""},
		{"a third one", "a", "c", ""},
		{"the same again", "b", "a", "peered already"},
		{"itself", "a", "a", "itself"},
		{"an overlapping one", "a", "like-a", "overlaps"},
		{"one that overlaps another peer", "a", "like-b", "overlaps"},
		{"one that overlaps another peer, from its side", "like-b", "a", "overlaps"},
		{"an unknown one", "a", "nobody", "unknown network"},
	} {
		err := f.Peer(c.a, c.b)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q", c.why, err, c.want)
		}
	}
}

func TestAnAddressHasOneOwner(t *testing.T) {
	f := loopback(t, "n")
	pod, err := f.AddPod(vnet.PodConfig{Name: "p", Network: "n"})
	if err != nil {
		t.Fatal(err)
	}
	if want := netip.MustParseAddr("10.0.0.4"); pod.Addr() != want {
		t.Errorf("the first address is %s, want %s", pod.Addr(), want)
	}
	endpoint, err := f.AddEndpoint(vnet.EndpointConfig{ID: "e", Network: "n", Ports: []uint16{443}})
	if err != nil {
		t.Fatal(err)
	}
	if want := netip.MustParseAddr("10.0.0.5"); endpoint.Addr() != want {
		t.Errorf("the second address is %s, want %s", endpoint.Addr(), want)
	}
	for _, addr := range []netip.Addr{
		pod.Addr(), endpoint.Addr(), netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.255.255"),
		netip.MustParseAddr("10.1.0.4"), netip.MustParseAddr("127.0.0.1"), vnet.ResolverAddr,
	} {
		if _, err := f.AddPod(vnet.PodConfig{Name: "q", Network: "n", Addr: addr}); err == nil {
			t.Errorf("a pod got %s", addr)
		}
		if _, err := f.AddEndpoint(vnet.EndpointConfig{ID: "f", Network: "n", Addr: addr, Ports: []uint16{1}}); err == nil {
			t.Errorf("an endpoint got %s", addr)
		}
		if _, err := f.Listen("n", netip.AddrPortFrom(addr, 80)); err == nil {
			t.Errorf("a listener got %s", addr)
		}
	}
	for _, name := range []string{"", "-a", "a-", "a.b", "a/b", "a b", strings.Repeat("a", 64), "p"} {
		if _, err := f.AddPod(vnet.PodConfig{Name: name, Network: "n"}); err == nil {
			t.Errorf("a pod is called %q", name)
		}
	}
}

func TestAnEndpointFollowsItsStateMachine(t *testing.T) {
	f := loopback(t, "n")
	states := []vnet.EndpointState{vnet.Pending, vnet.Approved, vnet.Rejected, vnet.Disconnected}
	allowed := map[vnet.EndpointState][]vnet.EndpointState{
		vnet.Pending:      {vnet.Pending, vnet.Approved, vnet.Rejected, vnet.Disconnected},
		vnet.Approved:     {vnet.Approved, vnet.Rejected, vnet.Disconnected},
		vnet.Rejected:     {vnet.Approved, vnet.Rejected, vnet.Disconnected},
		vnet.Disconnected: {vnet.Disconnected},
	}
	for _, from := range states {
		for _, to := range append(states, "Imaginary") {
			e, err := f.AddEndpoint(vnet.EndpointConfig{ID: string(from + to), Network: "n", Ports: []uint16{443}, State: from})
			if err != nil {
				t.Fatal(err)
			}
			want := strings.Contains(strings.Join(strs(allowed[from]), " "), string(to))
			if err := e.SetState(to, "said"); (err == nil) != want {
				t.Errorf("%s to %s: got %v, want allowed %v", from, to, err, want)
			}
			at := netip.AddrPortFrom(e.Addr(), 443)
			state, _ := e.State()
			c, err := f.Dial(t.Context(), "n", at)
			if (err == nil) != (state == vnet.Approved) {
				t.Errorf("%s to %s: dial got %v in state %s", from, to, err, state)
			}
			if err == nil {
				_ = c.Close()
			} else if !errors.Is(err, vnet.ErrUnreachable) {
				t.Errorf("%s to %s: got %v, want ErrUnreachable", from, to, err)
			}
			if err := e.Delete(); err != nil {
				t.Error(err)
			}
			if _, err := e.Listener(443).Accept(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("accept on a deleted endpoint: %v", err)
			}
		}
	}
}

func strs(states []vnet.EndpointState) (s []string) {
	for _, x := range states {
		s = append(s, string(x))
	}
	return s
}

func TestAHostListenerMarksItsConnectionsAsIngress(t *testing.T) {
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln := vnet.Ingress(plain)
	defer func() { _ = ln.Close() }()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	accepted, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = accepted.Close() }()
	info, ok := conninfo.From(conninfo.ConnContext(context.Background(), accepted))
	if !ok || info.Kind != conninfo.Ingress || info.Source.String() != c.LocalAddr().String() {
		t.Errorf("got %+v, want ingress from %s", info, c.LocalAddr())
	}
}
