package estate

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"

	"verdant/azure/client"
	"verdant/internal/conninfo"
	"verdant/internal/httpserve"
)

// wire is an estate's platform without networks and pods: its vaults and its
// identity service, served with their own names on loopback. Connections to a
// vault carry the evidence of its private endpoint.
type wire struct {
	*supervisor
	t         *testing.T
	addresses map[string]string // by host name
	http      *http.Client
	later     atomic.Int64 // by how much the platform's clock is ahead
}

// pass lets time pass for the platform.
func (w *wire) pass(d time.Duration) { w.later.Add(int64(d)) }

func newWire(t *testing.T, custody string) *wire {
	t.Helper()
	v := DefaultVariables()
	v.KeyCustody, v.LogAnalytics = custody, false
	dir, err := OpenDataDir(t.Context(), filepath.Join(t.TempDir(), "estate"), v, "")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	w := &wire{t: t, addresses: map[string]string{}}
	p, err := openPlatform(ctx, dir, NamesFor(v), "8443", func() time.Time { return time.Now().Add(time.Duration(w.later.Load())) })
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	quiet, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	w.supervisor = &supervisor{platform: p, podLogs: newPodLogs(time.Now), events: &eventWriter{out: quiet}}
	w.dial = func(ctx context.Context, _ Region, address string) (net.Conn, error) { return w.reach(ctx, address) }
	w.http = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{MaxIdleConnsPerHost: 64, TLSClientConfig: &tls.Config{RootCAs: p.authority.roots()},
			DialContext: func(ctx context.Context, _, address string) (net.Conn, error) { return w.reach(ctx, address) }}}
	var serving sync.WaitGroup
	serve := func(host string, h http.Handler, info conninfo.Info) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		w.addresses[host] = ln.Addr().String()
		serving.Go(func() {
			if err := httpserve.Run(ctx, evident{ln, info}, p.authority.config(host), h); err != nil {
				t.Error(err)
			}
		})
	}
	for _, r := range Regions() {
		serve(w.names.VaultHost(r), p.vaults[r].Handler(), conninfo.Info{Kind: conninfo.PrivateEndpoint, VNet: w.names.VNet(r),
			PrivateEndpoint: w.names.EndpointID(r, w.names.Vault(r)), Source: netip.MustParseAddrPort("192.168.4.20:40000")})
	}
	serve(w.names.LoginHost(), p.identity.Handler(), conninfo.Info{Kind: conninfo.Public})
	t.Cleanup(func() {
		w.http.CloseIdleConnections()
		cancel()
		serving.Wait()
		if err := errors.Join(p.close(), dir.Close(), quiet.Close()); err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *wire) reach(ctx context.Context, address string) (net.Conn, error) {
	host, _, _ := strings.Cut(address, ":")
	at, ok := w.addresses[host]
	if !ok {
		return nil, errors.New("no such host: " + host)
	}
	return (&net.Dialer{}).DialContext(ctx, "tcp", at)
}

// evident is a listener whose connections carry evidence of where they entered.
type evident struct {
	net.Listener
	info conninfo.Info
}

func (e evident) Accept() (net.Conn, error) {
	c, err := e.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return evidentConn{c, e.info}, nil
}

type evidentConn struct {
	net.Conn
	info conninfo.Info
}

func (c evidentConn) ConnInfo() conninfo.Info { return c.info }

// token is a token for the vaults: of a managed identity ("region/name") or of
// a person.
func (w *wire) token(who string) string {
	w.t.Helper()
	var token string
	var err error
	if region, name, ok := strings.Cut(who, "/"); ok {
		token, _, err = w.identity.MintIdentity(w.t.Context(), w.names.Identity(Region(region), name).PrincipalID, vaultAudience)
	} else {
		token, _, err = w.identity.MintUser(w.t.Context(), w.names.UPN(who), vaultAudience, commandLineClient)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return token
}

// vaultAnswer is a vault's answer to a raw request.
type vaultAnswer struct {
	status      int
	code, inner string
	body        []byte
}

func (w *wire) ask(r Region, token, method, path string, body any) (vaultAnswer, error) {
	var content io.Reader = http.NoBody
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return vaultAnswer{}, err
		}
		content = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(w.t.Context(), method, "https://"+w.names.VaultHost(r)+path+"?api-version=2025-07-01", content)
	if err != nil {
		return vaultAnswer{}, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := w.http.Do(req)
	if err != nil {
		return vaultAnswer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	a := vaultAnswer{status: resp.StatusCode}
	if a.body, err = io.ReadAll(resp.Body); err != nil {
		return a, err
	}
	var refusal struct {
		Error struct {
			Code  string `json:"code"`
			Inner struct {
				Code string `json:"code"`
			} `json:"innererror"`
		} `json:"error"`
	}
	_ = json.Unmarshal(a.body, &refusal)
	a.code, a.inner = refusal.Error.Code, refusal.Error.Inner.Code
	return a, nil
}

// secret reads a secret as the administrator.
func (w *wire) secret(r Region, name string) string {
	w.t.Helper()
	a, err := w.ask(r, w.token(AdminUser), http.MethodGet, "/secrets/"+name, nil)
	var bundle struct{ Value string }
	if err != nil || a.status != http.StatusOK || json.Unmarshal(a.body, &bundle) != nil {
		w.t.Fatalf("secret %s: %d %s, %v", name, a.status, a.code, err)
	}
	return bundle.Value
}

// admin changes something in a vault as the administrator.
func (w *wire) admin(r Region, method, path string, body any) []byte {
	w.t.Helper()
	a, err := w.ask(r, w.token(AdminUser), method, path, body)
	if err != nil || a.status >= 300 {
		w.t.Fatalf("%s %s: %d %s, %v", method, path, a.status, a.body, err)
	}
	return a.body
}

// pod is the platform as a workload with an identity sees it.
func (w *wire) pod(r Region, identity string, options ...client.Option) *client.Platform {
	w.t.Helper()
	var credential azcore.TokenCredential = w.identity.Credential(w.names.Identity(r, identity).PrincipalID)
	p, err := client.New(client.Config{Pod: identity, Region: string(r), VaultURL: "https://" + w.names.VaultHost(r)},
		append([]client.Option{client.WithCredential(credential), client.WithHTTPClient(w.http)}, options...)...)
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

func (w *wire) vault(r Region, identity string, options ...client.Option) *client.Vault {
	w.t.Helper()
	v, err := w.pod(r, identity, options...).Vault("")
	if err != nil {
		w.t.Fatal(err)
	}
	return v
}
