package vnet_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"verdant/internal/conninfo"
	"verdant/vnet"
)

// proxyOf reads a pod's proxy from the environment that it would get.
func proxyOf(t *testing.T, p *vnet.Pod) *url.URL {
	t.Helper()
	for _, entry := range p.Env() {
		if value, ok := strings.CutPrefix(entry, "HTTPS_PROXY="); ok {
			u, err := url.Parse(value)
			if err != nil {
				t.Fatal(err)
			}
			return u
		}
	}
	t.Fatal("the pod has no proxy")
	return nil
}

func TestAPodsProxyServesThatPodAndReachesWhatItsNetworkReaches(t *testing.T) {
	f := loopback(t, "a", "b") // 10.0/16 and 10.1/16, not peered
	var pods []*vnet.Pod
	for _, name := range []string{"one", "two"} {
		p, err := f.AddPod(vnet.PodConfig{Name: name, Network: "a"})
		if err != nil {
			t.Fatal(err)
		}
		pods = append(pods, p)
	}
	for _, network := range []string{"a", "b"} {
		at := netip.MustParseAddrPort(map[string]string{"a": "10.0.1.1:80", "b": "10.1.1.1:80"}[network])
		ln, err := f.Listen(network, at)
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{ConnContext: conninfo.ConnContext, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			info, _ := conninfo.From(r.Context())
			_, _ = fmt.Fprint(w, info.Source.Addr(), " ", r.Header.Get("Proxy-Authorization"))
		})}
		go func() { _ = server.Serve(ln) }()
		t.Cleanup(func() { _ = server.Close() })
	}
	// A port on which the second pod says it will listen, and does not.
	if _, err := pods[1].ListenAddr(8080); err != nil {
		t.Fatal(err)
	}
	silent := netip.AddrPortFrom(pods[1].Addr(), 8080).String()

	own := proxyOf(t, pods[0])
	with := func(user *url.Userinfo) *url.URL {
		u := *own
		u.User = user
		return &u
	}
	for _, c := range []struct {
		why    string
		proxy  *url.URL
		target string
		status int
		says   string
	}{
		{"its own network", own, "10.0.1.1:80", 200, pods[0].Addr().String()},
		{"another network", own, "10.1.1.1:80", 403, "no route"},
		{"an address at which nobody is", own, "10.0.1.2:80", 403, "nothing listens there"},
		{"a name that does not exist", own, "example.com:80", 403, "no such name"},
		{"the host", own, "127.0.0.1:22", 403, "no route"},
		{"a pod that does not answer", own, silent, 502, "refused"},
		{"without credential", with(nil), "10.0.1.1:80", 407, "credential"},
		{"with a wrong one", with(url.UserPassword("pod", "guess")), "10.0.1.1:80", 407, "credential"},
		{"with another pod's", with(proxyOf(t, pods[1]).User), "10.0.1.1:80", 407, "credential"},
	} {
		t.Run(c.why+", plain", func(t *testing.T) {
			client := http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(c.proxy), DisableKeepAlives: true}}
			response, err := client.Get("http://" + c.target + "/")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = response.Body.Close() }()
			body, _ := io.ReadAll(response.Body)
			if response.StatusCode != c.status || !strings.Contains(string(body), c.says) {
				t.Errorf("got %s %q, want %d %q", response.Status, body, c.status, c.says)
			}
			secret, _ := own.User.Password()
			if strings.Contains(string(body), secret) || strings.Contains(string(body), "Basic") {
				t.Error("the credential went on to the service")
			}
		})
		t.Run(c.why+", tunnelled", func(t *testing.T) {
			conn, err := net.Dial("tcp", c.proxy.Host)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			request := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: c.target}, Host: c.target, Header: http.Header{}}
			if c.proxy.User != nil {
				password, _ := c.proxy.User.Password()
				request.SetBasicAuth(c.proxy.User.Username(), password)
				request.Header.Set("Proxy-Authorization", request.Header.Get("Authorization"))
				request.Header.Del("Authorization")
			}
			// The request inside the tunnel comes before the tunnel is granted.
			if err := request.Write(conn); err != nil {
				t.Fatal(err)
			}
			if c.status == 200 {
				_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			}
			reader := bufio.NewReader(conn)
			response, err := http.ReadResponse(reader, request)
			if err != nil {
				t.Fatal(err)
			}
			if response.StatusCode != c.status {
				t.Fatalf("got %s, want %d", response.Status, c.status)
			}
			if c.status == 200 {
				if response, err = http.ReadResponse(reader, nil); err != nil {
					t.Fatal(err)
				}
			}
			body, _ := io.ReadAll(response.Body)
			if !strings.Contains(string(body), c.says) {
				t.Errorf("got %q, want %q", body, c.says)
			}
		})
	}
	response, err := http.Get("http://" + own.User.String() + "@" + own.Host + "/")
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusProxyAuthRequired {
		t.Errorf("a request to the proxy itself: %s", response.Status)
	}
}
