package gateway

import (
	"context"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// The headers in which the ingress hands on the client certificate.
const (
	headerThumbprint = "X-SSL-Client-SHA256"
	headerSubject    = "X-SSL-Client-DN"
)

// caller is the member state that a request comes from.
type caller struct {
	country    string
	thumbprint string // of its authentication certificate
}

type callerKey struct{}

func callerOf(ctx context.Context) caller {
	c, _ := ctx.Value(callerKey{}).(caller)
	return c
}

// authenticate finds the caller of a request, in the order and with the codes
// of the upstream service.
func (s *Server) authenticate(r *http.Request) (caller, error) {
	thumbprints, subjects := r.Header.Values(headerThumbprint), r.Header.Values(headerSubject)
	if !s.fromIngress(r) || len(thumbprints) != 1 || len(subjects) > 1 {
		return caller{}, problemf(http.StatusUnauthorized, "0x400", "No client certificate", "", "the request carries no client certificate from the ingress")
	}
	thumbprint, ok := normaliseThumbprint(thumbprints[0])
	if !ok {
		return caller{}, problemf(http.StatusUnauthorized, "0x400", "No client certificate", "", "the client certificate's SHA-256 is neither hex nor base64")
	}
	country, ok := "", false
	if len(subjects) == 1 {
		country, ok = countryOfDN(subjects[0])
	}
	if !ok {
		return caller{}, problemf(http.StatusBadRequest, "0x401", "Client certificate without country", "", "the client certificate's subject has no country (C)")
	}
	list, err := s.trust.current(r.Context())
	if err != nil {
		return caller{}, err
	}
	row := list.authentication[thumbprint]
	if row == nil || row.country != country || s.now().After(row.cert.NotAfter) || s.now().Before(row.cert.NotBefore) {
		return caller{}, problemf(http.StatusUnauthorized, "0x402", "Client is not authorized", country, "no valid trusted party of %s has this client certificate", country)
	}
	return caller{country, thumbprint}, nil
}

// headerIngressSecret carries the ingress's proof where its address is none.
const headerIngressSecret = "X-Ingress-Secret"

// fromIngress reports whether the peer is the ingress itself: by its address
// and, where every process of the host could have that, by its secret too.
func (s *Server) fromIngress(r *http.Request) bool {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !slices.Contains(s.cfg.Ingress, peer.Addr().Unmap()) {
		return false
	}
	return s.cfg.IngressSecret == "" ||
		subtle.ConstantTimeCompare([]byte(r.Header.Get(headerIngressSecret)), []byte(s.cfg.IngressSecret)) == 1
}

// normaliseThumbprint returns a SHA-256 as lower-case hex. It takes 64 hex
// digits, or base64 of the 32 bytes, perhaps percent-encoded.
func normaliseThumbprint(v string) (string, bool) {
	v = strings.TrimSpace(v)
	if len(v) == 64 {
		b, err := hex.DecodeString(v)
		return hex.EncodeToString(b), err == nil
	}
	if strings.Contains(v, "%") {
		u, err := url.PathUnescape(v)
		if err != nil {
			return "", false
		}
		v = u
	}
	b, err := base64.StdEncoding.DecodeString(v)
	if err != nil || len(b) != 32 {
		return "", false
	}
	return hex.EncodeToString(b), true
}

// countryOfDN returns the country of a subject written as "C=IE,O=HSE": parts
// with more than one "=" are dropped, the first C wins, quotes that a proxy
// put around the value are none of it. A subject in the form "/C=IE/O=HSE" has
// no country, as upstream has it.
func countryOfDN(dn string) (string, bool) {
	if strings.Contains(dn, "%") {
		u, err := url.PathUnescape(dn)
		if err != nil {
			return "", false
		}
		dn = u
	}
	for part := range strings.SplitSeq(dn, ",") {
		name, value, ok := strings.Cut(part, "=")
		if !ok || strings.Contains(value, "=") || !strings.EqualFold(strings.TrimSpace(name), "C") {
			continue
		}
		return countryCode(strings.Trim(strings.TrimSpace(value), `"'`))
	}
	return "", false
}

// countryCode returns a two-letter country in capitals.
func countryCode(s string) (string, bool) {
	if len(s) != 2 {
		return "", false
	}
	s = strings.ToUpper(s)
	return s, s[0] >= 'A' && s[0] <= 'Z' && s[1] >= 'A' && s[1] <= 'Z'
}
