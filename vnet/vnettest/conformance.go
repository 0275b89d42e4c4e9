// Package vnettest holds every driver of package vnet against the same table
// of expectations.
//
// A package that uses it calls Main from TestMain, because pods are the test
// binary started again, and Conformance inside Inside, because namespaces can
// only be built in a process of their own.
package vnettest

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"verdant/internal/conninfo"
	"verdant/vnet"
)

// The world of the tests: two regions that use the same addresses, each peered
// with a development network, as the reference architecture has them.
const (
	vaultEU    = "/vaults/eu"
	vaultIE    = "/vaults/ie"
	pendingIE  = "/vaults/pending"
	vaultAddr  = "192.168.5.10"
	publicAddr = "203.0.113.10"
)

var privateZone = "privatelink.vaultcore.azure.net"

// World is a fabric with the networks, pods, endpoints and zones of the tests.
type World struct {
	Fabric    *vnet.Fabric
	Endpoints map[string]*vnet.Endpoint
	Pods      map[string]*vnet.Pod // by "network/name"
}

// Build opens a fabric with driver d and fills it. Everything ends with t.
func Build(t *testing.T, d vnet.Driver) *World {
	t.Helper()
	f, err := vnet.Open(vnet.Config{Driver: d})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	w := &World{Fabric: f, Endpoints: map[string]*vnet.Endpoint{}, Pods: map[string]*vnet.Pod{}}
	w.networks(t)
	w.listeners(t)
	w.zones(t)
	for _, p := range []struct{ network, name, subnet string }{
		{"eu", "gateway", ""}, {"ie", "issuance", ""}, {"ie", "verifier", ""},
		{"eu-dev", "jumpbox", ""}, {"ie-dev", "jumpbox", ""}, {"corp", "guest", "guests"}, {"corp", "desk", "desks"},
	} {
		pod, err := f.AddPod(vnet.PodConfig{Name: p.name, Network: p.network, Subnet: p.subnet})
		if err != nil {
			t.Fatal(err)
		}
		w.Pods[p.network+"/"+p.name] = pod
	}
	for _, name := range []string{"eu/gateway", "ie/issuance", "corp/desk"} {
		w.serve(t, name)
	}
	return w
}

func (w *World) networks(t *testing.T) {
	region, dev := netip.MustParsePrefix("192.168.4.0/22"), netip.MustParsePrefix("192.168.0.0/22")
	for _, name := range []string{"eu", "ie"} {
		for _, n := range []vnet.Network{
			{Name: name, Prefixes: []netip.Prefix{region}, Subnets: []vnet.Subnet{{Name: "aks", Prefix: netip.MustParsePrefix("192.168.4.0/23")}}},
			{Name: name + "-dev", Prefixes: []netip.Prefix{dev}, Subnets: []vnet.Subnet{{Name: "dev", Prefix: netip.MustParsePrefix("192.168.0.0/24")}}},
		} {
			if err := w.Fabric.CreateNetwork(n); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Fabric.Peer(name, name+"-dev"); err != nil {
			t.Fatal(err)
		}
	}
	corp := vnet.Network{Name: "corp", Prefixes: []netip.Prefix{netip.MustParsePrefix("10.9.0.0/16")}, Subnets: []vnet.Subnet{
		{Name: "guests", Prefix: netip.MustParsePrefix("10.9.0.0/24")}, {Name: "desks", Prefix: netip.MustParsePrefix("10.9.1.0/24")},
	}}
	if err := w.Fabric.CreateNetwork(corp); err != nil {
		t.Fatal(err)
	}
	if err := w.Fabric.Peer("corp", "eu-dev"); err != nil {
		t.Fatal(err)
	}
}

// describe answers with the network's evidence about the connection.
var describe = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	info, ok := conninfo.From(r.Context())
	if !ok {
		http.Error(w, "no evidence", http.StatusInternalServerError)
		return
	}
	_ = json.NewEncoder(w).Encode(reply{
		Kind: string(info.Kind), VNet: info.VNet, Endpoint: info.PrivateEndpoint,
		LinkID: info.LinkID, Source: info.Source.Addr().String(),
	})
})

// serveOn answers TLS on ln until the end of the test.
func serveOn(t *testing.T, ln net.Listener) {
	t.Helper()
	server := httptest.NewUnstartedServer(describe)
	_ = server.Listener.Close()
	server.Listener = ln
	server.Config.ConnContext = conninfo.ConnContext
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // Connections are cut on purpose.
	server.StartTLS()
	t.Cleanup(server.Close)
}

func (w *World) listeners(t *testing.T) {
	for i, e := range []vnet.EndpointConfig{
		{ID: vaultEU, Network: "eu", Addr: netip.MustParseAddr(vaultAddr), State: vnet.Approved},
		{ID: vaultIE, Network: "ie", Addr: netip.MustParseAddr(vaultAddr), State: vnet.Approved},
		{ID: pendingIE, Network: "ie", Addr: netip.MustParseAddr("192.168.5.11")},
	} {
		e.Ports, e.LinkID = []uint16{443}, uint32(i+1)
		endpoint, err := w.Fabric.AddEndpoint(e)
		if err != nil {
			t.Fatal(err)
		}
		serveOn(t, endpoint.Listener(443))
		w.Endpoints[e.ID] = endpoint
	}
	public, err := w.Fabric.ListenPublic(netip.MustParseAddrPort(publicAddr + ":443"))
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, public)
}

func (w *World) zones(t *testing.T) {
	zones := []vnet.Zone{{
		ID: "public", Name: "vault.azure.net", Public: true, Records: []vnet.Record{
			{Name: "kv-eu", Type: vnet.CNAME, Values: []string{"kv-eu." + privateZone}},
			{Name: "kv-ie", Type: vnet.CNAME, Values: []string{"kv-ie." + privateZone}},
		},
	}, {
		ID: "public-estate", Name: "verdant.localhost", Public: true, Records: []vnet.Record{
			{Name: "login", Type: vnet.A, Values: []string{publicAddr}},
		},
	}}
	for _, region := range []string{"eu", "ie"} {
		zones = append(zones, vnet.Zone{
			ID: "private-" + region, Name: privateZone,
			Links:   []vnet.Link{{Network: region}, {Network: region + "-dev"}},
			Records: []vnet.Record{{Name: "kv-" + region, Type: vnet.A, Values: []string{vaultAddr}}},
		})
	}
	for _, z := range zones {
		if err := w.Fabric.PutZone(z); err != nil {
			t.Fatal(err)
		}
	}
}

func (w *World) serve(t *testing.T, name string) {
	t.Helper()
	pod := w.Pods[name]
	addr, err := pod.ListenAddr(8080)
	if err != nil {
		t.Fatal(err)
	}
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := Command("serve", addr, name)
	cmd.Stdout = writer
	process, err := pod.Start(cmd)
	_ = writer.Close()
	if err != nil {
		t.Fatal(err)
	}
	line := make([]byte, len("serving\n"))
	if _, err := io.ReadFull(reader, line); err != nil {
		t.Fatalf("pod %s did not come up: %v, %v", name, err, process.Wait())
	}
	_ = reader.Close()
}

// Run runs a program in a pod to its end and decodes what it says.
func (w *World) Run(t *testing.T, pod *vnet.Pod, into any, program string, args ...string) {
	t.Helper()
	said := w.Output(t, pod.Start, Command(program, args...))
	if err := json.Unmarshal(said, into); err != nil {
		t.Fatalf("%s in %s said %q: %v", program, pod.Name(), said, err)
	}
}

// Output runs a command to its end and returns what it says.
func (w *World) Output(t *testing.T, start func(vnet.Command) (*vnet.Process, error), cmd vnet.Command) []byte {
	t.Helper()
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout = writer
	if w.Fabric.Driver() == vnet.Loopback {
		cmd.Env = append(cmd.Env, hostEnv+"=1")
	}
	process, err := start(cmd)
	_ = writer.Close()
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	_, _ = io.Copy(&said, reader)
	_ = reader.Close()
	if err := process.Wait(); err != nil {
		t.Fatalf("%s: %v; it said %s", cmd.Path, err, said.String())
	}
	return said.Bytes()
}

// Conformance holds driver d against the table.
func Conformance(t *testing.T, d vnet.Driver) {
	w := Build(t, d)
	t.Run("a network reaches what its rules open and nothing else", w.matrix)
	t.Run("names mean to a network what its zones say", w.names)
	t.Run("an endpoint serves while it is approved", w.states)
	t.Run("the metadata address knows which pod asks", w.metadata)
	t.Run("the supervisor dials as the network's router", w.dial)
	t.Run("an operator's command runs in the pod's network", w.exec)
	t.Run("a closed listener and a closed pod answer no more", w.closing)
}

// targets are what every pod of the matrix tries to reach.
var targets = []string{
	"https://192.168.5.10/", "https://192.168.5.11/", "https://192.168.5.10:8443/", // endpoints
	"https://203.0.113.10/", "https://203.0.113.11/", "https://203.0.113.10:80/", // public addresses
	"http://192.168.4.4:8080/", "http://192.168.4.5:8080/", "http://192.168.0.4:8080/", // pods
	"http://10.9.1.4:8080/", "http://10.9.0.4:8080/",
	"http://192.168.4.1:8080/", "http://192.168.0.1:8080/", "http://192.168.6.1:8080/", // routers, nobody
	"http://168.63.129.16:80/", "http://10.0.0.1:8080/", "https://198.51.100.1/", "http://169.254.128.2:53/",
	"https://kv-eu.vault.azure.net/", "https://kv-ie.vault.azure.net/",
	"https://login.verdant.localhost/", "https://example.com/",
}

func (w *World) matrix(t *testing.T) {
	for _, c := range []struct {
		pod     string
		reaches map[string]string // and no other target
	}{
		{"eu/gateway", map[string]string{
			"https://192.168.5.10/": "private-endpoint " + vaultEU, "https://kv-eu.vault.azure.net/": "private-endpoint " + vaultEU,
			"https://203.0.113.10/": "public eu", "https://login.verdant.localhost/": "public eu",
			"http://192.168.4.4:8080/": "pod eu/gateway",
		}},
		{"ie/verifier", map[string]string{
			"https://192.168.5.10/": "private-endpoint " + vaultIE, "https://kv-ie.vault.azure.net/": "private-endpoint " + vaultIE,
			"https://203.0.113.10/": "public ie", "https://login.verdant.localhost/": "public ie",
			"http://192.168.4.4:8080/": "pod ie/issuance",
		}},
		{"eu-dev/jumpbox", map[string]string{ // peered with both eu and corp
			"https://192.168.5.10/": "private-endpoint " + vaultEU, "https://kv-eu.vault.azure.net/": "private-endpoint " + vaultEU,
			"https://203.0.113.10/": "public eu-dev", "https://login.verdant.localhost/": "public eu-dev",
			"http://192.168.4.4:8080/": "pod eu/gateway", "http://10.9.1.4:8080/": "pod corp/desk",
		}},
		{"ie-dev/jumpbox", map[string]string{
			"https://192.168.5.10/": "private-endpoint " + vaultIE, "https://kv-ie.vault.azure.net/": "private-endpoint " + vaultIE,
			"https://203.0.113.10/": "public ie-dev", "https://login.verdant.localhost/": "public ie-dev",
			"http://192.168.4.4:8080/": "pod ie/issuance",
		}},
		{"corp/guest", map[string]string{ // peered with eu-dev alone, in another subnet than the desk
			"https://203.0.113.10/": "public corp", "https://login.verdant.localhost/": "public corp",
			"http://10.9.1.4:8080/": "pod corp/desk",
		}},
	} {
		t.Run(c.pod, func(t *testing.T) {
			t.Parallel()
			var got map[string]outcome
			w.Run(t, w.Pods[c.pod], &got, "get", targets...)
			for _, url := range targets {
				o := got[url]
				said := strings.TrimSpace(o.Kind + " " + o.Name + o.Endpoint)
				if o.Kind == string(conninfo.Public) {
					said = o.Kind + " " + o.VNet
				}
				if said != c.reaches[url] {
					t.Errorf("%s: got %q (%s), want %q", url, said, o.Refused, c.reaches[url])
				}
				if strings.Contains(url, vaultAddr+":8443") && strings.HasPrefix(c.pod, "eu") && w.Fabric.Driver() != vnet.Loopback && !strings.Contains(o.Refused, "i/o timeout") {
					t.Errorf("%s: got %s, want silence at a port that the endpoint does not have", url, o.Refused)
				}
				if o.Kind == string(conninfo.PrivateEndpoint) && o.Source != w.Pods[c.pod].Addr().String() {
					t.Errorf("%s: the service saw source %s, want %s", url, o.Source, w.Pods[c.pod].Addr())
				}
			}
		})
	}
}

func (w *World) names(t *testing.T) {
	for _, c := range []struct{ network, name, want string }{
		{"eu", "kv-eu.vault.azure.net", vaultAddr},
		{"eu-dev", "KV-EU.vault.azure.net.", vaultAddr},
		{"eu", "kv-ie.vault.azure.net", "none"},
		{"ie", "kv-ie.vault.azure.net", vaultAddr},
		{"ie", "login.verdant.localhost", publicAddr},
		{"ie", "example.com", "none"},
	} {
		answer, err := w.Fabric.Resolve(c.network, c.name)
		got := "none"
		if err == nil {
			got = fmt.Sprint(answer.Addrs[0])
		} else if !errors.Is(err, vnet.ErrNoSuchName) {
			t.Errorf("%s in %s: %v", c.name, c.network, err)
		}
		if got != c.want {
			t.Errorf("%s in %s: got %s, want %s", c.name, c.network, got, c.want)
		}
	}
	if _, err := w.Fabric.Resolve("nowhere", "example.com"); !errors.Is(err, vnet.ErrUnknownNetwork) {
		t.Errorf("unknown network: got %v", err)
	}
}

func (w *World) states(t *testing.T) {
	e, pod := w.Endpoints[pendingIE], w.Pods["ie/verifier"]
	url := "https://" + e.Addr().String() + "/"
	reach := func() outcome {
		t.Helper()
		var got map[string]outcome
		w.Run(t, pod, &got, "get", url)
		return got[url]
	}
	set := func(s vnet.EndpointState) {
		t.Helper()
		if err := e.SetState(s, "for the test"); err != nil {
			t.Fatal(err)
		}
	}
	// Packets are dropped, so that the peer learns nothing by a reset.
	silent := func(got outcome, s vnet.EndpointState) {
		t.Helper()
		want := "i/o timeout"
		if w.Fabric.Driver() == vnet.Loopback {
			want = "Forbidden" // of the proxy
		}
		if !strings.Contains(got.Refused, want) {
			t.Errorf("%s: got %+v, want %s", s, got, want)
		}
	}
	silent(reach(), vnet.Pending)
	// A connection of before the change must not survive it.
	set(vnet.Approved)
	if got := reach(); got.Endpoint != pendingIE || got.LinkID != e.LinkID() {
		t.Fatalf("approved: got %+v", got)
	}
	live, err := w.Fabric.Dial(t.Context(), "ie", netip.AddrPortFrom(e.Addr(), 443))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = live.Close() }()
	tlsConn := tls.Client(live, &tls.Config{InsecureSkipVerify: true})
	if err := tlsConn.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	set(vnet.Rejected)
	_ = live.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := tlsConn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("revoked: a live connection read %v, want it dead", err)
	}
	silent(reach(), vnet.Rejected)
	for _, from := range []string{"ie", "ie-dev"} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		c, err := w.Fabric.Dial(ctx, from, netip.AddrPortFrom(e.Addr(), 443))
		if err == nil {
			_ = c.Close()
		}
		if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, vnet.ErrUnreachable) {
			t.Errorf("rejected: the supervisor in %s got %v", from, err)
		}
		cancel()
	}
	set(vnet.Approved)
	if got := reach(); got.Endpoint != pendingIE {
		t.Errorf("approved again: got %+v", got)
	}
	set(vnet.Disconnected)
	silent(reach(), vnet.Disconnected)
	if err := e.SetState(vnet.Approved, ""); err == nil {
		t.Error("a disconnected endpoint came back")
	}
	if s, description := e.State(); s != vnet.Disconnected || description != "for the test" {
		t.Errorf("got %s %q", s, description)
	}
}

func (w *World) metadata(t *testing.T) {
	for _, name := range []string{"ie/issuance", "ie/verifier"} {
		pod := w.Pods[name]
		ln, err := pod.Listen(netip.AddrPortFrom(vnet.MetadataAddr, 80))
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			info, _ := conninfo.From(r.Context())
			_ = json.NewEncoder(rw).Encode(reply{Kind: string(info.Kind), VNet: info.VNet, Name: name})
		}), ConnContext: conninfo.ConnContext, ReadHeaderTimeout: time.Second}
		go func() { _ = server.Serve(ln) }()
		t.Cleanup(func() { _ = server.Close() })
		var got map[string]outcome
		url := "http://" + ln.Addr().String() + "/"
		w.Run(t, pod, &got, "get", url)
		if o := got[url]; o.Name != name || o.VNet != "ie" {
			t.Errorf("%s: got %+v", name, o)
		}
	}
}

func (w *World) dial(t *testing.T) {
	source, err := w.Fabric.DialSource("ie")
	if err != nil {
		t.Fatal(err)
	}
	var network string
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
		DialContext: func(ctx context.Context, _, hostport string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, patience)
			defer cancel()
			return w.Fabric.DialName(ctx, network, hostport)
		},
	}}
	for _, c := range []struct{ network, url, want string }{
		{"ie", "http://192.168.4.4:8080/", "ie/issuance"},
		{"eu", "http://192.168.4.4:8080/", "eu/gateway"},
		{"eu-dev", "http://192.168.4.4:8080/", "eu/gateway"},
		{"ie", "http://192.168.0.5:8080/", ""},
		{"ie", "https://kv-ie.vault.azure.net/", vaultIE},
		{"ie", "https://kv-eu.vault.azure.net/", ""},
	} {
		network = c.network
		o := get(client, c.url)
		if got := o.Name + o.Endpoint; got != c.want {
			t.Errorf("%s from %s: got %q (%s), want %q", c.url, c.network, got, o.Refused, c.want)
		}
		if o.Kind == "pod" && c.network == "ie" && o.Source != source.String() {
			t.Errorf("the pod saw %s, want the router %s", o.Source, source)
		}
	}
}

func (w *World) exec(t *testing.T) {
	cmd := Command("get", "https://kv-ie.vault.azure.net/")
	var got map[string]outcome
	if err := json.Unmarshal(w.Output(t, w.Pods["ie/verifier"].Exec, cmd), &got); err != nil {
		t.Fatal(err)
	}
	if o := got["https://kv-ie.vault.azure.net/"]; o.Endpoint != vaultIE {
		t.Errorf("got %+v", o)
	}
	if curl, err := exec.LookPath("curl"); err == nil {
		cmd := vnet.Command{Path: curl, Args: []string{"-sk", "--max-time", "5", "https://kv-ie.vault.azure.net/"}, Env: []string{}}
		var said reply
		if err := json.Unmarshal(w.Output(t, w.Pods["ie/verifier"].Exec, cmd), &said); err != nil || said.Endpoint != vaultIE {
			t.Errorf("curl got %+v, %v", said, err)
		}
	}
	_, err := w.Pods["ie/verifier"].Exec(vnet.Command{Path: "no-such-program-anywhere", Env: []string{}})
	if err == nil {
		t.Error("a program that does not exist was started")
	}
}

func (w *World) closing(t *testing.T) {
	at := netip.MustParseAddrPort("192.168.5.20:9000")
	for range 2 { // The address can be used again.
		ln, err := w.Fabric.Listen("eu", at)
		if err != nil {
			t.Fatal(err)
		}
		c, err := w.Fabric.Dial(t.Context(), "eu", at)
		if err != nil {
			t.Fatal(err)
		}
		accepted, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if info := accepted.(conninfo.Carrier).ConnInfo(); info.Kind != conninfo.VNet || info.VNet != "eu" {
			t.Errorf("got %+v", info)
		}
		_ = accepted.Close()
		_ = c.Close()
		if err := ln.Close(); err != nil {
			t.Error(err)
		}
		if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("accept after close: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		if _, err := w.Fabric.Dial(ctx, "eu", at); err == nil {
			t.Error("a closed listener took a connection")
		}
		cancel()
	}
	pod := w.Pods["eu/gateway"]
	if err := pod.Close(); err != nil {
		t.Error(err)
	}
	if _, err := pod.Start(vnet.Command{}); err == nil {
		t.Error("a closed pod started a process")
	}
}
