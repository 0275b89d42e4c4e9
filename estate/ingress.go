package estate

import (
	"context"
	"crypto/tls"
	"crypto/x509/pkix"
	"encoding/hex"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"time"
)

// frontDoor is everything that is reachable from outside a private network:
// the ingress controllers of both regions, the identity service, the control
// plane and the log query API. It answers by host name and knows no other
// door. The same handler serves the host's ingress listener and the public
// addresses inside the virtual networks.
type frontDoor struct {
	authority *authority
	hosts     map[string]http.Handler
	// asking holds the hosts at which the TLS handshake asks for a client
	// certificate.
	asking map[string]bool
}

func newFrontDoor(a *authority) *frontDoor {
	return &frontDoor{authority: a, hosts: map[string]http.Handler{}, asking: map[string]bool{}}
}

func (f *frontDoor) add(host string, h http.Handler) { f.hosts[strings.ToLower(host)] = h }

// addPod routes host to a pod.
func (f *frontDoor) addPod(host string, p podRoute) {
	f.asking[strings.ToLower(host)] = p.clientCertificates
	f.add(host, podProxy(p))
}

// podRoute is the way from the front door to a pod.
type podRoute struct {
	// clientCertificates passes the client certificate's digest and subject on.
	clientCertificates bool
	// secret proves to the pod that the ingress speaks, where the pod cannot
	// see that from the peer's address; else empty.
	secret string
	// dial connects from the ingress controller's address in the pod's network.
	dial func(context.Context) (net.Conn, error)
}

func (f *frontDoor) tlsConfig() *tls.Config {
	names := make([]string, 0, len(f.hosts))
	for name := range f.hosts {
		names = append(names, name)
	}
	plain := f.authority.config(names...)
	plain.NextProtos = []string{"h2", "http/1.1"}
	asking := plain.Clone()
	// Possession is proven here; whether the certificate is trusted is the
	// gateway's decision, since only it knows the onboarded parties.
	asking.ClientAuth = tls.RequestClientCert
	plain.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if f.asking[strings.ToLower(hello.ServerName)] {
			return asking, nil
		}
		return nil, nil
	}
	return plain
}

func (f *frontDoor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	// One connection, one name: a request may not reach another service than
	// the one whose certificate (and client certificate) the handshake used.
	if r.TLS == nil || !strings.EqualFold(r.TLS.ServerName, host) {
		http.Error(w, "The host name is not the one of the TLS connection.", http.StatusMisdirectedRequest)
		return
	}
	handler, ok := f.hosts[host]
	if !ok {
		http.Error(w, "No service has this name.", http.StatusNotFound)
		return
	}
	handler.ServeHTTP(w, r)
}

// Headers by which the ingress tells a pod about the client certificate. A
// client's own are always removed.
const (
	headerClientDigest  = "X-SSL-Client-SHA256"
	headerClientSubject = "X-SSL-Client-DN"
	headerIngressSecret = "X-Ingress-Secret"
)

func podProxy(p podRoute) http.Handler {
	transport := &http.Transport{
		DialContext:           func(ctx context.Context, _, _ string) (net.Conn, error) { return p.dial(ctx) },
		MaxIdleConnsPerHost:   64,
		IdleConnTimeout:       time.Minute,
		ResponseHeaderTimeout: time.Minute,
		DisableCompression:    true,
	}
	return &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.SetURL(&url.URL{Scheme: "http", Host: "pod"})
			pr.Out.Host = pr.In.Host
			pr.SetXForwarded()
			pr.Out.Header.Del(headerClientDigest)
			pr.Out.Header.Del(headerClientSubject)
			pr.Out.Header.Del(headerIngressSecret)
			if p.secret != "" {
				pr.Out.Header.Set(headerIngressSecret, p.secret)
			}
			if p.clientCertificates && pr.In.TLS != nil && len(pr.In.TLS.PeerCertificates) > 0 {
				peer := pr.In.TLS.PeerCertificates[0]
				sum := digest(peer.Raw)
				pr.Out.Header.Set(headerClientDigest, hex.EncodeToString(sum[:]))
				pr.Out.Header.Set(headerClientSubject, url.QueryEscape(subject(peer.Subject)))
			}
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) {
			http.Error(w, "The service behind this name is not running.", http.StatusBadGateway)
		},
	}
}

// subject writes a name as "C=IE,O=…,CN=…". Values are free of commas and
// equal signs afterwards, so that none can pass for another attribute.
func subject(name pkix.Name) string {
	clean := strings.NewReplacer(",", " ", "=", " ", "+", " ", "\"", " ", "\\", " ")
	var parts []string
	add := func(key string, values ...string) {
		for _, v := range values {
			if v != "" {
				parts = append(parts, key+"="+clean.Replace(v))
			}
		}
	}
	add("C", name.Country...)
	add("O", name.Organization...)
	add("OU", name.OrganizationalUnit...)
	add("CN", name.CommonName)
	return strings.Join(parts, ",")
}
