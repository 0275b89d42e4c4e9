package gateway

import (
	"bytes"
	"context"
	"crypto/x509"
	"database/sql"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"verdant/trustlist"
)

// onboard makes trusted parties of the certificates under OnboardingDir,
// signed by the trust anchor. It changes nothing about those that are trusted
// parties already, so it may run at every start.
func (s *Server) onboard(ctx context.Context) error {
	if err := s.seedValueSets(ctx); err != nil {
		return err
	}
	if s.cfg.OnboardingDir == "" {
		return nil
	}
	dir := os.DirFS(s.cfg.OnboardingDir)
	found, err := onboardingFiles(dir)
	if err != nil {
		return fmt.Errorf("onboarding directory %s: %w", s.cfg.OnboardingDir, err)
	}
	known, err := s.trust.current(ctx)
	if err != nil {
		return err
	}
	for _, f := range found {
		certs, err := readPEM(dir, f.name)
		if err != nil {
			return fmt.Errorf("onboard %s: %w", f.name, err)
		}
		for _, cert := range certs {
			if isParty(known.parties, f.country, f.kind, cert) {
				continue
			}
			if err := s.onboardParty(ctx, f, cert); err != nil {
				return fmt.Errorf("onboard %s: %w", f.name, err)
			}
		}
	}
	return nil
}

// onboardingFile is one PEM file and what its name says about it.
type onboardingFile struct {
	name, country string
	kind          trustlist.CertificateType
}

// onboardingFiles finds <CC>/{auth,upload,csca}*.pem.
func onboardingFiles(dir fs.FS) ([]onboardingFile, error) {
	names, err := fs.Glob(dir, "*/*.pem")
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		if _, err := fs.Stat(dir, "."); err != nil {
			return nil, err
		}
	}
	var out []onboardingFile
	for _, name := range names {
		country, ok := countryCode(path.Dir(name))
		if !ok {
			return nil, fmt.Errorf("%s is not in a directory named after a country", name)
		}
		base := strings.ToLower(path.Base(name))
		f := onboardingFile{name: name, country: country}
		switch {
		case strings.HasPrefix(base, "auth"):
			f.kind = trustlist.Authentication
		case strings.HasPrefix(base, "upload"):
			f.kind = trustlist.Upload
		case strings.HasPrefix(base, "csca"):
			f.kind = trustlist.CSCA
		default:
			return nil, fmt.Errorf("%s: the name must begin with auth, upload or csca", name)
		}
		out = append(out, f)
	}
	return out, nil
}

func readPEM(dir fs.FS, name string) ([]*x509.Certificate, error) {
	rest, err := fs.ReadFile(dir, name)
	if err != nil {
		return nil, err
	}
	var certs []*x509.Certificate
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("holds a %s, and only certificates are onboarded", block.Type)
		}
		c, err := trustlist.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		certs = append(certs, c)
	}
	if len(certs) == 0 {
		return nil, errors.New("holds no PEM certificate")
	}
	return certs, nil
}

func isParty(parties *trustlist.Parties, country string, kind trustlist.CertificateType, cert *x509.Certificate) bool {
	for _, p := range parties.Of(country, kind) {
		if bytes.Equal(p.Certificate().Raw, cert.Raw) {
			return true
		}
	}
	return false
}

// onboardParty has the trust anchor sign a certificate and stores it.
func (s *Server) onboardParty(ctx context.Context, f onboardingFile, cert *x509.Certificate) error {
	if s.anchorKey == nil {
		return errors.New("there is no trust anchor key to sign it with")
	}
	signer := &trustlist.CMSSigner{Certificate: s.anchor.Certificate(), Key: s.anchorKey, Now: s.now}
	item, err := trustlist.SignParty(ctx, signer, f.kind, cert)
	if err != nil {
		return fmt.Errorf("sign with the trust anchor: %w", err)
	}
	if item.Country != f.country {
		return fmt.Errorf("the certificate is of %s, the directory of %s", item.Country, f.country)
	}
	signature, err := base64.StdEncoding.DecodeString(item.Signature)
	if err != nil {
		return err
	}
	row := partyRow{created: s.now().UnixMicro(), country: f.country, kind: f.kind, thumbprint: item.Thumbprint, rawData: cert.Raw, signature: signature}
	err = s.store.change(ctx, func(tx *sql.Tx) error {
		if err := putParty(ctx, tx, row); err != nil {
			return err
		}
		return s.audit(ctx, tx, auditEvent{caller: caller{country: f.country, thumbprint: item.Thumbprint}, event: "TRUSTED_PARTY_ONBOARDED", description: string(f.kind)})
	})
	if err != nil {
		return err
	}
	s.log.Info("trusted party onboarded", "country", f.country, "type", string(f.kind), "thumbprint", item.Thumbprint)
	return nil
}
