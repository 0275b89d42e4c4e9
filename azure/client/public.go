package client

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/keyvault/azcertificates"
	"software.sslmate.com/src/go-pkcs12"
)

const (
	// publicAge is how long a public part is believed before the vault is
	// asked again, and so how late a renewal is noticed.
	publicAge = 5 * time.Minute
	// publicStale is how long a public part serves while the vault does not
	// answer.
	publicStale = time.Hour
)

// publicPart is what the vault says in the open about a key: its current
// version, and its certificate if it has one. It is not changed once made.
type publicPart struct {
	version string
	key     crypto.PublicKey
	cert    *x509.Certificate // nil for a key without a certificate
	// secret is the version of the secret behind the certificate if it holds
	// no private key, which is then the place of the chain; else empty.
	secret string
	asked  time.Time
}

// publicCache keeps public parts by name. A name's entry is asked for by one
// caller at a time; the others wait for it.
type publicCache struct {
	mu      sync.Mutex
	entries map[string]*publicEntry
}

type publicEntry struct {
	asking chan struct{} // holds a token while somebody asks
	part   *publicPart   // under asking
}

func (c *publicCache) entry(name string) *publicEntry {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.entries == nil {
		c.entries = map[string]*publicEntry{}
	}
	e := c.entries[name]
	if e == nil {
		e = &publicEntry{asking: make(chan struct{}, 1)}
		c.entries[name] = e
	}
	return e
}

// publicPart returns the public part of the certificate or key called name as
// the vault described it at most publicAge ago. While the vault does not
// answer, what is known serves for publicStale; a refusal, or that the object
// is gone, ends it at once.
func (v *Vault) publicPart(ctx context.Context, name string) (*publicPart, error) {
	e := v.public.entry(name)
	select {
	case e.asking <- struct{}{}:
		defer func() { <-e.asking }()
	case <-ctx.Done():
		return nil, fmt.Errorf("certificate or key %s: %w", name, ctx.Err())
	}
	if e.part != nil && v.now().Sub(e.part.asked) < publicAge {
		return e.part, nil
	}
	part, err := v.askPublicPart(ctx, name)
	switch {
	case err == nil:
		e.part = part
	case e.part == nil || definite(err) || ctx.Err() != nil || v.now().Sub(e.part.asked) >= publicStale:
		if definite(err) {
			e.part = nil
		}
		return nil, err
	}
	return e.part, nil
}

// definite reports whether the vault itself decided against the request, as
// opposed to being busy or away.
func definite(err error) bool {
	var r *Refusal
	if errors.Is(err, ErrNotFound) {
		return true
	}
	return errors.As(err, &r) && r.Code != IdentityFailed && (r.Status == http.StatusForbidden || r.Status == http.StatusNotFound || r.Status == http.StatusUnauthorized)
}

func (v *Vault) askPublicPart(ctx context.Context, name string) (*publicPart, error) {
	asked := v.now()
	r, err := v.certs.GetCertificate(ctx, name, "", nil)
	if isStatus(err, http.StatusNotFound) || err == nil && unsigned(r.CertificateBundle) {
		return v.askKey(ctx, name, asked)
	}
	if err != nil {
		return nil, fmt.Errorf("certificate %s: %w", name, AsRefusal(err))
	}
	cert, keyID, err := readCertificate(name, r.CertificateBundle)
	if err != nil {
		return nil, err
	}
	p := &publicPart{version: versionOf(keyID), key: cert.PublicKey, cert: cert, asked: asked}
	if r.Policy != nil && r.Policy.KeyProperties != nil && r.Policy.KeyProperties.Exportable != nil && !*r.Policy.KeyProperties.Exportable && r.SID != nil {
		p.secret = versionOf(*r.SID)
	}
	return p, nil
}

func (v *Vault) askKey(ctx context.Context, name string, asked time.Time) (*publicPart, error) {
	public, version, err := v.PublicKey(ctx, name, "")
	if err != nil {
		return nil, err
	}
	return &publicPart{version: version, key: public, asked: asked}, nil
}

// readCertificate takes the certificate and its key's identifier out of the
// vault's answer.
func readCertificate(name string, b azcertificates.CertificateBundle) (cert *x509.Certificate, keyID string, err error) {
	if cert, err = x509.ParseCertificate(b.CER); err != nil {
		return nil, "", fmt.Errorf("certificate %s: the vault sent no DER certificate: %w", name, err)
	}
	if b.KID != nil {
		keyID = *b.KID
	}
	return cert, keyID, nil
}

// chain returns the issuers of a certificate, nearest first, as the secret
// behind it lists them. It is empty for a self-signed certificate, for one
// whose secret this identity may not read, and for one whose private key is
// exportable: that secret holds the private key, which has no business here.
func (v *Vault) chain(ctx context.Context, name string, p *publicPart) ([]*x509.Certificate, error) {
	if p.secret == "" || bytes.Equal(p.cert.RawIssuer, p.cert.RawSubject) {
		return nil, nil
	}
	r, err := v.secrets.GetSecret(ctx, name, p.secret, nil)
	if isStatus(err, http.StatusForbidden) || isStatus(err, http.StatusNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("chain of certificate %s: %w", name, AsRefusal(err))
	}
	if r.Value == nil {
		return nil, nil
	}
	certs := bundled(*r.Value)
	var chain []*x509.Certificate
	for _, c := range certs {
		if !c.Equal(p.cert) {
			chain = append(chain, c)
		}
	}
	return chain, nil
}

// bundled reads the certificates of a bundle in PEM, or in PKCS #12 without a
// password. What is neither holds none.
func bundled(value string) []*x509.Certificate {
	if pfx, err := base64.StdEncoding.DecodeString(value); err == nil {
		certs, err := pkcs12.DecodeTrustStore(pfx, "")
		if err != nil {
			return nil
		}
		return certs
	}
	var certs []*x509.Certificate
	for rest := []byte(value); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return certs
		}
		if c, err := x509.ParseCertificate(block.Bytes); err == nil && block.Type == "CERTIFICATE" {
			certs = append(certs, c)
		}
	}
}

// versionOf cuts the version out of https://<vault>/<kind>/<name>/<version>.
func versionOf(id string) string {
	u, err := url.Parse(id)
	if err != nil {
		return ""
	}
	parts := strings.Split(strings.Trim(u.Path, "/"), "/")
	if len(parts) != 3 {
		return ""
	}
	return parts[2]
}
