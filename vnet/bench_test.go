package vnet_test

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"

	"verdant/vnet"
	"verdant/vnet/vnettest"
)

func eachDriver(b *testing.B, body func(b *testing.B, d vnet.Driver)) {
	for _, d := range []vnet.Driver{vnet.Root, vnet.Rootless, vnet.Loopback} {
		b.Run(string(d), func(b *testing.B) {
			vnettest.InsideBench(b, d, func(b *testing.B) { body(b, d) })
		})
	}
}

func open(b *testing.B, d vnet.Driver, networks int) *vnet.Fabric {
	b.Helper()
	f, err := vnet.Open(vnet.Config{Driver: d})
	if err != nil {
		b.Fatal(err)
	}
	prefix := netip.MustParsePrefix("192.168.4.0/22")
	for i := range networks {
		n := vnet.Network{Name: fmt.Sprint(i), Prefixes: []netip.Prefix{prefix}, Subnets: []vnet.Subnet{{Name: "s", Prefix: prefix}}}
		if err := f.CreateNetwork(n); err != nil {
			b.Fatal(err)
		}
	}
	return f
}

// BenchmarkTwoNetworks: two networks with the same addresses, from nothing to
// resolver and packet filter, and down again (down is not counted).
func BenchmarkTwoNetworks(b *testing.B) {
	eachDriver(b, func(b *testing.B, d vnet.Driver) {
		for b.Loop() {
			f := open(b, d, 2)
			b.StopTimer()
			if err := f.Close(); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
	})
}

// BenchmarkPod: a place for a pod, a process in it, its end.
func BenchmarkPod(b *testing.B) {
	eachDriver(b, func(b *testing.B, d vnet.Driver) {
		f := open(b, d, 1)
		defer func() { _ = f.Close() }()
		for b.Loop() {
			pod, err := f.AddPod(vnet.PodConfig{Name: "p", Network: "0"})
			if err != nil {
				b.Fatal(err)
			}
			p, err := pod.Start(vnet.Command{Path: "/bin/true", Env: []string{}})
			if err != nil {
				b.Fatal(err)
			}
			if err := p.Wait(); err != nil {
				b.Fatal(err)
			}
			if err := pod.Close(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// greeter is a private endpoint that sends one byte and keeps the connection.
func greeter(b *testing.B, f *vnet.Fabric) (*vnet.Endpoint, netip.AddrPort) {
	b.Helper()
	e, err := f.AddEndpoint(vnet.EndpointConfig{ID: "e", Network: "0", Ports: []uint16{443}, State: vnet.Rejected})
	if err != nil {
		b.Fatal(err)
	}
	ln := e.Listener(443)
	go func() { // Ends with the fabric.
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte{1})
		}
	}()
	return e, netip.AddrPortFrom(e.Addr(), 443)
}

func firstByte(b *testing.B, f *vnet.Fabric, at netip.AddrPort) net.Conn {
	b.Helper()
	c, err := f.Dial(b.Context(), "0", at)
	if err == nil {
		_, err = io.ReadFull(c, make([]byte, 1))
	}
	if err != nil {
		b.Fatal(err)
	}
	return c
}

// BenchmarkApprove: from the approval to the first byte of a new connection.
func BenchmarkApprove(b *testing.B) {
	eachDriver(b, func(b *testing.B, d vnet.Driver) {
		f := open(b, d, 1)
		defer func() { _ = f.Close() }()
		e, at := greeter(b, f)
		for b.Loop() {
			if err := e.SetState(vnet.Approved, ""); err != nil {
				b.Fatal(err)
			}
			c := firstByte(b, f, at)
			b.StopTimer()
			_ = c.Close()
			if err := e.SetState(vnet.Rejected, ""); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
	})
}

// BenchmarkRevoke: from the refusal until the peers of 100 live connections
// have seen their end.
func BenchmarkRevoke(b *testing.B) {
	eachDriver(b, func(b *testing.B, d vnet.Driver) {
		f := open(b, d, 1)
		defer func() { _ = f.Close() }()
		e, at := greeter(b, f)
		for b.Loop() {
			b.StopTimer()
			if err := e.SetState(vnet.Approved, ""); err != nil {
				b.Fatal(err)
			}
			live := make([]net.Conn, 100)
			for i := range live {
				live[i] = firstByte(b, f, at)
			}
			b.StartTimer()
			if err := e.SetState(vnet.Rejected, ""); err != nil {
				b.Fatal(err)
			}
			for _, c := range live {
				if _, err := c.Read(make([]byte, 1)); err == nil {
					b.Fatal("a connection lives")
				}
			}
			b.StopTimer()
			for _, c := range live {
				_ = c.Close()
			}
			b.StartTimer()
		}
	})
}

// BenchmarkConnect: one connection from the router, a byte, its end.
func BenchmarkConnect(b *testing.B) {
	eachDriver(b, func(b *testing.B, d vnet.Driver) {
		f := open(b, d, 1)
		defer func() { _ = f.Close() }()
		e, at := greeter(b, f)
		if err := e.SetState(vnet.Approved, ""); err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			_ = firstByte(b, f, at).Close()
		}
	})
}
