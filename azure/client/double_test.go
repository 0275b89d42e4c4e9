package client

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

// world is a small network for tests: names served over TLS by a CA of its
// own, reached through a CONNECT proxy as in the loopback network.
type world struct {
	t        *testing.T
	key      *ecdsa.PrivateKey
	ca       *x509.Certificate
	certFile string
	proxy    *httptest.Server
	refuse   atomic.Bool

	mu    sync.Mutex
	names map[string]string // host:port to address
}

func newWorld(t *testing.T) *world {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test root"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, key: key, ca: ca, names: map[string]string{}, certFile: filepath.Join(t.TempDir(), "ca.pem")}
	if err := os.WriteFile(w.certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	w.proxy = httptest.NewServer(http.HandlerFunc(w.tunnel))
	t.Cleanup(w.proxy.Close)
	return w
}

// tunnel answers CONNECT and copies both ways.
func (w *world) tunnel(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	addr := w.names[r.Host]
	w.mu.Unlock()
	if r.Method != http.MethodConnect || addr == "" || w.refuse.Load() {
		http.Error(rw, "no such host", http.StatusBadGateway)
		return
	}
	up, err := net.Dial("tcp", addr)
	if err != nil {
		http.Error(rw, "unreachable", http.StatusBadGateway)
		return
	}
	down, buf, err := rw.(http.Hijacker).Hijack()
	if err != nil {
		_ = up.Close()
		return
	}
	_, _ = io.WriteString(down, "HTTP/1.1 200 OK\r\n\r\n")
	go func() { defer up.Close(); defer down.Close(); _, _ = io.Copy(up, bufio.NewReader(buf)) }()
	defer up.Close()
	defer down.Close()
	_, _ = io.Copy(down, up)
}

// certificate makes a server or client certificate of the world's CA.
func (w *world) certificate(name string, public any) *x509.Certificate {
	w.t.Helper()
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name, Country: []string{"IE"}}, DNSNames: []string{name},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, w.ca, public, w.key)
	if err != nil {
		w.t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

func (w *world) tlsConfig(name string) *tls.Config {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		w.t.Fatal(err)
	}
	c := w.certificate(name, &key.PublicKey)
	roots := x509.NewCertPool()
	roots.AddCert(w.ca)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{c.Raw}, PrivateKey: key}}, ClientCAs: roots}
}

// serve answers https://name with h.
func (w *world) serve(name string, h http.Handler, clientAuth tls.ClientAuthType) {
	w.t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.TLS = w.tlsConfig(name)
	s.TLS.ClientAuth = clientAuth
	s.StartTLS()
	w.t.Cleanup(s.Close)
	w.name(name+":443", s.Listener.Addr().String())
}

func (w *world) name(hostPort, addr string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.names[hostPort] = addr
}

// platform is a pod of this world.
func (w *world) platform(opts ...Option) *Platform {
	w.t.Helper()
	env := map[string]string{"VERDANT_POD": "dgca-test", "VERDANT_REGION": "eudcc-ie", "AZURE_TENANT_ID": "tid",
		"AZURE_AUTHORITY_HOST": "https://login.verdant.localhost/", "SSL_CERT_FILE": w.certFile, "KEYVAULT_URL": "https://kv.vault.azure.net",
		"MYSQL_HOST": "db.mysql.database.azure.com", "MYSQL_PORT": "3306", "MYSQL_DATABASE": "dgc", "MYSQL_USER": "pod",
		"HTTPS_PROXY": w.proxy.URL}
	cfg, err := configFromEnv(func(k string) string { return env[k] })
	if err != nil {
		w.t.Fatal(err)
	}
	p, err := New(cfg, append([]Option{WithCredential(&staticCredential{})}, opts...)...)
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// staticCredential hands out "token-1 <scope>", "token-2 <scope>", …
type staticCredential struct{ n atomic.Int64 }

func (c *staticCredential) GetToken(_ context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	c.n.Add(1)
	return azcore.AccessToken{Token: "token:" + o.Scopes[0], ExpiresOn: time.Now().Add(time.Hour)}, nil
}
