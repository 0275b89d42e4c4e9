package hcert

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"testing"
	"time"
)

var start = time.Date(2026, 1, 15, 12, 0, 0, 0, time.UTC)

// newDSC makes a self-signed document signer, valid for a year.
func newDSC(t testing.TB, key crypto.Signer, usage Usage) *x509.Certificate {
	t.Helper()
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{Country: []string{"IE"}, CommonName: "DSC"},
		NotBefore: start, NotAfter: start.AddDate(1, 0, 0),
	}
	for _, u := range []Usage{UsageTest, UsageVaccination, UsageRecovery} {
		if usage&u != 0 {
			tmpl.UnknownExtKeyUsage = append(tmpl.UnknownExtKeyUsage, asn1.ObjectIdentifier(u.OID()))
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func ecKey(t testing.TB, c elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func rsaKey(t testing.TB, bits int) *rsa.PrivateKey {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// signer is an issuer and the keys that verify what it issues.
type signer struct {
	*Issuer
	key  *Key
	keys KeySet
}

func newSigner(t testing.TB, k crypto.Signer, usage Usage) signer {
	t.Helper()
	cert := newDSC(t, k, usage)
	i, err := NewIssuer(IssuerConfig{Country: "IE", Certificate: cert, Signer: k})
	if err != nil {
		t.Fatal(err)
	}
	key, err := NewKey(cert)
	if err != nil {
		t.Fatal(err)
	}
	return signer{i, key, NewKeySet(key)}
}

func vaccination() *DCC {
	return &DCC{
		Version:     "1.3.0",
		Name:        Name{Family: "Ní Mhurchú", FamilyStandardised: "NI<MHURCHU", Given: "Áine", GivenStandardised: "AINE"},
		DateOfBirth: "1980-02-29",
		Vaccinations: []Vaccination{{Target: "840539006", Prophylaxis: "1119349007", Product: "EU/1/20/1528",
			Manufacturer: "ORG-100030215", Dose: 2, Doses: 2, Date: "2026-01-10", Country: "IE",
			Issuer: "Health Service Executive", ID: "URN:UVCI:01:IE:52D0DC929C884CF8998A7987#2"}},
	}
}

func testResult() *DCC {
	return &DCC{
		Version:     "1.3.0",
		Name:        Name{FamilyStandardised: "MURPHY", GivenStandardised: "SEAN"},
		DateOfBirth: "1980",
		Tests: []Test{{Target: "840539006", Type: "LP6464-4", Name: "NAA", Collected: "2026-01-14T09:30:00Z",
			Result: "260415000", Centre: "Dublin", Country: "IE", Issuer: "HSE", ID: "URN:UVCI:01:IE:1"}},
	}
}

func recovery() *DCC {
	return &DCC{
		Version:     "1.3.0",
		Name:        Name{GivenStandardised: "SUKARNO", FamilyStandardised: ""},
		DateOfBirth: "",
		Recoveries: []Recovery{{Target: "840539006", FirstPositive: "2026-01-01", Country: "IE", Issuer: "HSE",
			ValidFrom: "2026-01-12", ValidUntil: "2026-06-30", ID: "URN:UVCI:01:IE:2"}},
	}
}

func ecKeyP256(t testing.TB) *ecdsa.PrivateKey { return ecKey(t, elliptic.P256()) }
