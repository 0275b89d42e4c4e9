package keyvault

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"strings"
	"time"

	"verdant/azure/rest"
	"verdant/hsm"
)

// attestor signs what the vault states about its keys: a released key, an
// attestation. Its certificates end at a root of the vault's own token. They
// are computed anew by each process and are always the same bytes: RSA
// signatures of PKCS #1 v1.5 have no randomness, and nothing else in them has.
type attestor struct {
	key    hsm.Key
	chain  [][]byte // DER, leaf first
	header string   // of a JWS, base64url
}

// The certificates are valid as long as a root ought to be; what they vouch for
// has its own times.
func attestorTimes() (from, to time.Time) {
	return time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2070, 1, 1, 0, 0, 0, 0, time.UTC)
}

// attestorKey makes the vault's attestor on first use.
func (s *Server) attestorKey(ctx context.Context) (*attestor, error) {
	s.attesting.Lock()
	defer s.attesting.Unlock()
	if s.attestor != nil {
		return s.attestor, nil
	}
	label := "key vault " + strings.ToLower(s.cfg.Name) + " attestation"
	root, err := hsm.Ensure(ctx, s.token, label+" root", hsm.KeySpec{Type: hsm.RSA, Bits: 3072})
	if err != nil {
		return nil, err
	}
	key, err := hsm.Ensure(ctx, s.token, label, hsm.KeySpec{Type: hsm.RSA, Bits: 2048})
	if err != nil {
		return nil, err
	}
	host, _, err := net.SplitHostPort(s.host)
	if err != nil {
		host = s.host
	}
	authority := certificateOf(root, "Attestation root of "+host)
	authority.IsCA, authority.KeyUsage = true, x509.KeyUsageCertSign
	rootDER, err := x509.CreateCertificate(rand.Reader, authority, authority, root.Public(), root)
	if err != nil {
		return nil, err
	}
	leaf := certificateOf(key, host)
	leaf.DNSNames, leaf.KeyUsage = []string{host}, x509.KeyUsageDigitalSignature
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, authority, key.Public(), root)
	if err != nil {
		return nil, err
	}
	a := &attestor{key: key, chain: [][]byte{leafDER, rootDER}}
	thumb1, thumb256 := sha1.Sum(leafDER), sha256.Sum256(leafDER)
	header, err := json.Marshal(map[string]any{"alg": "RS256", "typ": "JWT", "kid": strings.ToUpper(hex.EncodeToString(thumb1[:])),
		"x5t": b64(thumb1[:]), "x5t#S256": b64(thumb256[:]), "x5c": a.chain})
	if err != nil {
		return nil, err
	}
	a.header = base64.RawURLEncoding.EncodeToString(header)
	s.attestor = a
	return a, nil
}

func certificateOf(key hsm.Key, name string) *x509.Certificate {
	from, to := attestorTimes()
	spki, _ := x509.MarshalPKIXPublicKey(key.Public()) // an RSA key
	sum := sha256.Sum256(spki)
	return &x509.Certificate{SerialNumber: new(big.Int).SetBytes(append([]byte{1}, sum[:15]...)), Subject: pkix.Name{CommonName: name}, SignatureAlgorithm: x509.SHA256WithRSA,
		SubjectKeyId: sum[:20], NotBefore: from, NotAfter: to, BasicConstraintsValid: true}
}

// signStatement is a JWS in compact form (RFC 7515 section 3.1) over a payload.
func (s *Server) signStatement(ctx context.Context, payload any) (string, error) {
	a, err := s.attestorKey(ctx)
	if err != nil {
		return "", err
	}
	body, err := json.Marshal(payload)
	if err != nil {
		return "", err
	}
	signed := a.header + "." + base64.RawURLEncoding.EncodeToString(body)
	digest := sha256.Sum256([]byte(signed))
	sig, err := a.key.Sign(rand.Reader, digest[:], crypto.SHA256)
	return signed + "." + base64.RawURLEncoding.EncodeToString(sig), err
}

// keyAttestation is what a key's attestation consists of.
type keyAttestation struct {
	Certificates b64    `json:"certificatePemFile"`
	Private      b64    `json:"privateKeyAttestation"`
	Public       b64    `json:"publicKeyAttestation,omitempty"`
	Version      string `json:"version"`
}

// statement is what the vault vouches for: that the private part was made in, or
// taken into, its token, and whether it may leave. No vendor of hardware vouches
// with it, so it does not pretend to be in a vendor's form.
type statement struct {
	Issuer     string `json:"iss"`
	IssuedAt   int64  `json:"iat"`
	KID        string `json:"kid"`
	Part       string `json:"part"` // private or public
	Type       string `json:"kty"`
	Size       int    `json:"key_size,omitempty"`
	Exportable bool   `json:"exportable"`
	Origin     string `json:"origin,omitempty"`
	JWK        *jwk   `json:"jwk,omitempty"`
}

// getKeyAttestation answers with the key and the vault's statements about it:
// each a JWS in compact form, whose certificates are in certificatePemFile.
func (s *Server) getKeyAttestation(c *call, r *http.Request) (int, any, error) {
	o, v, k, err := find[keyRecord](r.Context(), s, Keys, c.name, c.version)
	if err != nil {
		return 0, nil, err
	}
	kid := s.url("keys", o.Name, v.ID)
	c.objectID, c.key = kid, k.properties()
	if !k.hardware() {
		return 0, nil, rest.Errorf(http.StatusBadRequest, "NotSupported", "Operation getKeyAttestation is not supported. A key of type %s is not in an HSM.", k.Type)
	}
	bundle := s.keyBundle(o.Name, v.ID, k)
	about := statement{Issuer: s.url(), IssuedAt: s.now().Unix(), KID: kid, Part: "private", Type: k.Type, Size: k.properties().Size, Exportable: k.Exportable, Origin: k.Origin}
	private, err := s.signStatement(r.Context(), about)
	if err != nil {
		return 0, nil, err
	}
	a := keyAttestation{Private: b64(private), Version: "verdant-1"}
	if !k.symmetric() {
		about.Part, about.JWK = "public", &bundle.Key
		public, err := s.signStatement(r.Context(), about)
		if err != nil {
			return 0, nil, err
		}
		a.Public = b64(public)
	}
	signer, err := s.attestorKey(r.Context())
	if err != nil {
		return 0, nil, err
	}
	for _, der := range signer.chain {
		a.Certificates = append(a.Certificates, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	bundle.Attributes.Attestation = &a
	return http.StatusOK, bundle, nil
}
