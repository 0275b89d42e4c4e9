package hsm

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
)

// DomainKeeper is a Token that gives the root key of its backups away as a
// security domain: sealed under a key that is split over certificates, so that
// a quorum of their holders can bring it into another token and nobody else
// can read it, the token's own administrators included. The format is that of
// Azure's managed HSM, which the Azure CLI reads and writes.
type DomainKeeper interface {
	// ExportDomain returns the security domain with the 256-bit Oct key root,
	// for a quorum (2 to 10) of the holders (3 to 10, RSA of at least 2048
	// bits, no key twice).
	ExportDomain(ctx context.Context, root KeyID, holders []*x509.Certificate, quorum int) ([]byte, error)
	// ImportDomain takes into the token, under the id root, what the holders
	// sealed for the certificate of the RSA key transfer. ErrExists and
	// ErrMaterial are as in Token.
	ImportDomain(ctx context.Context, root KeyID, transfer Key, certificate *x509.Certificate, sealed []byte) (Key, error)
}

// rootTag names the root key among the domain's data. It is the label of its
// key's derivation, so one datum does not pass for another.
const rootTag = "verdant-backup-root"

// MinHolders is the least number of certificates that a security domain is
// split over.
const MinHolders = 3

type domainDatum struct {
	JWE string `json:"compact_jwe"`
	Tag string `json:"tag"`
}

type domainData struct {
	Data []domainDatum `json:"data"`
	KDF  string        `json:"kdf"`
}

type domainShare struct {
	EncKey     string `json:"enc_key"`
	Thumbprint string `json:"x5t_256"`
}

// securityDomain is what a download gives.
type securityDomain struct {
	EncData    domainData `json:"EncData"`
	SharedKeys struct {
		Shares    []domainShare `json:"enc_shares"`
		Algorithm string        `json:"key_algorithm"`
		Required  int           `json:"required"`
	} `json:"SharedKeys"`
}

// domainUpload is what the holders make of it for another token.
type domainUpload struct {
	EncData    domainData  `json:"EncData"`
	WrappedKey domainShare `json:"WrappedKey"`
}

const domainKDF = "sp108_kdf"

func thumbprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// checkHolders refuses a set of certificates that would not keep the promise
// of the quorum: a key that is there twice counts for two holders.
func checkHolders(holders []*x509.Certificate, quorum int) error {
	if n := len(holders); n < MinHolders || n > maxShares || quorum < minQuorum || quorum > n {
		return fmt.Errorf("%w: a quorum of %d from %d certificates; %d to %d certificates and a quorum of %d or more of them are possible",
			ErrSpec, quorum, n, MinHolders, maxShares, minQuorum)
	}
	for i, c := range holders {
		pub, ok := c.PublicKey.(*rsa.PublicKey)
		if !ok || pub.N.BitLen() < 2048 || pub.N.BitLen() > 8192 {
			return fmt.Errorf("%w: certificate %d has no RSA key of 2048 to 8192 bits", ErrSpec, i+1)
		}
		for j, other := range holders[:i] {
			if pub.N.Cmp(other.PublicKey.(*rsa.PublicKey).N) == 0 {
				return fmt.Errorf("%w: certificates %d and %d have the same key", ErrSpec, j+1, i+1)
			}
		}
	}
	return nil
}

// ExportDomain implements DomainKeeper.
func (s *Software) ExportDomain(ctx context.Context, root KeyID, holders []*x509.Certificate, quorum int) ([]byte, error) {
	if err := checkHolders(holders, quorum); err != nil {
		return nil, fmt.Errorf("export security domain: %w", err)
	}
	k, err := s.find(ctx, root)
	if err != nil {
		return nil, fmt.Errorf("export security domain: %w", err)
	}
	if k.aead == nil {
		return nil, fmt.Errorf("export security domain: key %s: %w", root, errSeal)
	}
	record, err := k.m.encode()
	if err != nil {
		return nil, fmt.Errorf("export security domain: %w", err)
	}
	defer clear(record)
	master := make([]byte, 32)
	_, _ = rand.Read(master)
	defer clear(master)
	var d securityDomain
	if d.EncData, err = sealDomain(master, record); err != nil {
		return nil, fmt.Errorf("export security domain: %w", err)
	}
	d.SharedKeys.Algorithm, d.SharedKeys.Required = "shamir_share", quorum
	shares, err := splitSecret(master, len(holders), quorum)
	if err != nil {
		return nil, fmt.Errorf("export security domain: %w", err)
	}
	for i, share := range shares {
		sealed, err := sealTo(holders[i].PublicKey.(*rsa.PublicKey), share, thumbprint(holders[i]))
		clear(share)
		if err != nil {
			return nil, fmt.Errorf("export security domain: share %d: %w", i+1, err)
		}
		d.SharedKeys.Shares = append(d.SharedKeys.Shares, domainShare{EncKey: sealed, Thumbprint: thumbprint(holders[i])})
	}
	return json.Marshal(d)
}

// domainKey is the content key of the datum with the given tag.
func domainKey(master []byte, tag string) []byte { return deriveSP800108(master, tag, "", 8*cekSize) }

func sealDomain(master, record []byte) (domainData, error) {
	key := domainKey(master, rootTag)
	defer clear(key)
	sealed, err := sealUnder(key, record, rootTag)
	return domainData{Data: []domainDatum{{JWE: sealed, Tag: rootTag}}, KDF: domainKDF}, err
}

// maxDomain bounds a security domain: one datum and a wrapped key are 3 kB.
const maxDomain = 64 << 10

// ImportDomain implements DomainKeeper.
func (s *Software) ImportDomain(ctx context.Context, root KeyID, transfer Key, certificate *x509.Certificate, sealed []byte) (Key, error) {
	record, err := openDomain(transfer, certificate, sealed)
	if err != nil {
		return nil, fmt.Errorf("import security domain: %w", err)
	}
	defer clear(record)
	k, err := decode(root, record)
	if err != nil || k.aead == nil {
		return nil, fmt.Errorf("import security domain: %w: it holds no backup root of ours", ErrMaterial)
	}
	return s.create(ctx, root, k.m.spec.Exportable, func() (*Material, error) { return k.m, nil })
}

func openDomain(transfer Key, certificate *x509.Certificate, sealed []byte) ([]byte, error) {
	if len(sealed) > maxDomain {
		return nil, fmt.Errorf("%w: it is over %d bytes", ErrMaterial, maxDomain)
	}
	var u domainUpload
	if err := json.NewDecoder(bytes.NewReader(sealed)).Decode(&u); err != nil {
		return nil, fmt.Errorf("%w: it is not the JSON of a security domain", ErrMaterial)
	}
	if subtle.ConstantTimeCompare([]byte(u.WrappedKey.Thumbprint), []byte(thumbprint(certificate))) != 1 {
		return nil, fmt.Errorf("%w: it was sealed for another transfer key", ErrMaterial)
	}
	if u.EncData.KDF != domainKDF {
		return nil, fmt.Errorf("%w: its key derivation is not %s", ErrMaterial, domainKDF)
	}
	master, err := openJWE(u.WrappedKey.EncKey, "RSA-OAEP-256", func(wrapped []byte) ([]byte, error) {
		return transfer.Decrypt(nil, wrapped, &rsa.OAEPOptions{Hash: crypto.SHA256})
	})
	if err != nil {
		return nil, fmt.Errorf("%w: its wrapped key: %w", ErrMaterial, err)
	}
	defer clear(master)
	for _, datum := range u.EncData.Data {
		if datum.Tag != rootTag {
			continue
		}
		record, err := openJWE(datum.JWE, "dir", func([]byte) ([]byte, error) { return domainKey(master, rootTag), nil })
		if err != nil {
			return nil, fmt.Errorf("%w: its root: %w", ErrMaterial, err)
		}
		return record, nil
	}
	return nil, fmt.Errorf("%w: it holds no backup root of ours", ErrMaterial)
}

// ExportDomain implements DomainKeeper with the software token: roots of
// backups are Oct keys, which live there.
func (s *split) ExportDomain(ctx context.Context, root KeyID, holders []*x509.Certificate, quorum int) ([]byte, error) {
	home, ok := s.software.(DomainKeeper)
	if !ok {
		return nil, errNoBackup
	}
	return home.ExportDomain(ctx, root, holders, quorum)
}

// ImportDomain implements DomainKeeper; the transfer key may be in hardware.
func (s *split) ImportDomain(ctx context.Context, root KeyID, transfer Key, certificate *x509.Certificate, sealed []byte) (Key, error) {
	home, ok := s.software.(DomainKeeper)
	if !ok {
		return nil, errNoBackup
	}
	return home.ImportDomain(ctx, root, transfer, certificate, sealed)
}

var (
	_ DomainKeeper = (*Software)(nil)
	_ DomainKeeper = (*split)(nil)
)
