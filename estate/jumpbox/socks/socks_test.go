package socks

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/proxy"
)

// conversation plays a client's bytes and keeps the answers.
type conversation struct {
	io.Reader
	answers bytes.Buffer
}

func (c *conversation) Write(p []byte) (int, error) { return c.answers.Write(p) }

const accepted = "\x05\x00"

func refusal(code byte) string {
	return "\x05" + string([]byte{code}) + "\x00\x01" + strings.Repeat("\x00", 6)
}

func TestGreeting(t *testing.T) {
	name := func(cmd, kind byte, host, port string) string {
		return "\x05\x01\x00" + "\x05" + string([]byte{cmd, 0, kind}) + host + port
	}
	for _, tt := range []struct{ name, in, address, answers string }{
		{"a host name travels unresolved", name(1, 3, "\x0bkv.internal", "\x01\xbb"), "kv.internal:443", accepted},
		{"an IPv4 address", name(1, 1, "\xc0\xa8\x04\x05", "\x1f\x90"), "192.168.4.5:8080", accepted},
		{"an IPv6 address", name(1, 4, strings.Repeat("\x00", 15)+"\x01", "\x00\x50"), "[::1]:80", accepted},
		{"none among several methods", "\x05\x02\x02\x00\x05\x01\x00\x03\x01a\x00\x50", "a:80", accepted},
		{"only passwords", "\x05\x01\x02", "", "\x05\xff"},
		{"no methods", "\x05\x00", "", "\x05\xff"},
		{"SOCKS4", "\x04\x01\x00\x50\x7f\x00\x00\x01\x00", "", "\x05\xff"},
		{"an HTTP request, as a web page could send", "GET / HTTP/1.1\r\n", "", "\x05\xff"},
		{"BIND", name(2, 3, "\x01a", "\x00\x50"), "", accepted + refusal(7)},
		{"UDP ASSOCIATE", name(3, 3, "\x01a", "\x00\x50"), "", accepted + refusal(7)},
		{"an unknown address type", name(1, 2, "", ""), "", accepted + refusal(8)},
		{"an empty name", name(1, 3, "\x00", "\x00\x50"), "", accepted + refusal(2)},
		{"a name with a colon", name(1, 3, "\x04a:22", "\x00\x50"), "", accepted + refusal(2)},
		{"port 0", name(1, 3, "\x01a", "\x00\x00"), "", accepted + refusal(2)},
		{"the end in the middle", "\x05\x01\x00\x05\x01", "", accepted},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := &conversation{Reader: strings.NewReader(tt.in)}
			got, err := greet(c)
			if got != tt.address || (err == nil) != (tt.address != "") {
				t.Errorf("got %q, %v, want %q", got, err, tt.address)
			}
			if c.answers.String() != tt.answers {
				t.Errorf("answered %q, want %q", c.answers.String(), tt.answers)
			}
		})
	}
}

func FuzzGreeting(f *testing.F) {
	f.Add([]byte("\x05\x01\x00\x05\x01\x00\x03\x0bkv.internal\x01\xbb"))
	f.Add([]byte("\x05\x01\x00\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x50"))
	f.Add([]byte("\x05\x01\x00\x05\x01\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x7f\x00\x00\x01\x00\x50"))
	f.Fuzz(func(t *testing.T, in []byte) {
		address, err := greet(&conversation{Reader: bytes.NewReader(in)})
		if err != nil {
			return
		}
		host, port, err := net.SplitHostPort(address)
		number, perr := strconv.ParseUint(port, 10, 16)
		if err != nil || perr != nil || host == "" || number == 0 {
			t.Fatalf("accepted %q", address)
		}
		// What was accepted is what the client wrote, at its place.
		methods := int(in[1])
		request := in[2+methods:]
		switch request[3] {
		case 3:
			if host != string(request[5:5+int(request[4])]) {
				t.Fatalf("host %q from %q", host, request)
			}
		case 1:
			if a, _ := netip.AddrFromSlice(request[4:8]); host != a.String() {
				t.Fatalf("host %q from %q", host, request)
			}
		}
	})
}

// start serves with dial and returns a client's way through it.
func start(t *testing.T, dial Dialer) proxy.Dialer {
	t.Helper()
	ln, err := Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, ln, dial) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	client, err := proxy.SOCKS5("tcp", ln.Addr().String(), nil, &net.Dialer{Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func TestAStockClientsBytesGoBothWaysAndItsEndIsPassedOn(t *testing.T) {
	asked := make(chan string, 1)
	client := start(t, func(_ context.Context, address string) (net.Conn, error) {
		asked <- address
		a, b := net.Pipe()
		go func() {
			defer b.Close()
			in := make([]byte, 4)
			_, _ = io.ReadFull(b, in)
			_, _ = b.Write(bytes.ToUpper(in))
		}()
		return a, nil
	})
	conn, err := client.Dial("tcp", "eudcc-ie-kv-g1.vault.azure.net:443")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got := <-asked; got != "eudcc-ie-kv-g1.vault.azure.net:443" {
		t.Errorf("dialled %q", got)
	}
	_, _ = io.WriteString(conn, "ping")
	if got, err := io.ReadAll(conn); string(got) != "PING" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestARefusedDialIsTheClientsError(t *testing.T) {
	client := start(t, func(context.Context, string) (net.Conn, error) { return nil, errors.New("no such name") })
	if _, err := client.Dial("tcp", "nowhere:443"); err == nil || !strings.Contains(err.Error(), "host unreachable") {
		t.Errorf("got %v", err)
	}
}

func TestOnlyLoopbackAddressesAreListenedOn(t *testing.T) {
	for _, address := range []string{"0.0.0.0:0", "[::]:0", "192.0.2.1:0", "localhost:0", ":0", ""} {
		if ln, err := Listen(t.Context(), address); !errors.Is(err, ErrAddress) {
			t.Errorf("%q: %v", address, err)
			if err == nil {
				_ = ln.Close()
			}
		}
	}
}

func TestServingEndsWithItsConnections(t *testing.T) {
	ln, err := Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	far := make(chan net.Conn, 1)
	done := make(chan error, 1)
	go func() {
		done <- Serve(ctx, ln, func(context.Context, string) (net.Conn, error) {
			a, b := net.Pipe()
			far <- b
			return a, nil
		})
	}()
	client, _ := proxy.SOCKS5("tcp", ln.Addr().String(), nil, nil)
	conn, err := client.Dial("tcp", "a:80")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	cancel()
	if err := <-done; err != nil {
		t.Errorf("serve: %v", err)
	}
	if _, err := (<-far).Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the target's connection is still open: %v", err)
	}
}
