package hcert_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"log"
	"math/big"
	"time"

	"verdant/hcert"
)

// Example issues a certificate and verifies it. In real use the signing key is
// in a vault and the verifier's keys come from package trustlist.
func Example() {
	now := time.Date(2026, 1, 15, 12, 0, 0, 0, time.UTC)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		log.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{Country: []string{"IE"}},
		NotBefore: now, NotAfter: now.AddDate(2, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		log.Fatal(err)
	}
	dsc, err := x509.ParseCertificate(der)
	if err != nil {
		log.Fatal(err)
	}

	dcc, err := hcert.ParseDCC([]byte(`{
		"ver": "1.3.0", "dob": "1980-02-29",
		"nam": {"fn": "Ní Mhurchú", "fnt": "NI<MHURCHU", "gn": "Áine", "gnt": "AINE"},
		"r": [{"tg": "840539006", "fr": "2026-01-01", "co": "IE", "is": "HSE",
			"df": "2026-01-12", "du": "2026-06-30", "ci": "URN:UVCI:01:IE:1"}]}`))
	if err != nil {
		log.Fatal(err)
	}
	uvci, err := hcert.NewUVCI("IE", rand.Reader)
	if err != nil {
		log.Fatal(err)
	}
	dcc.SetID(uvci)

	issuer, err := hcert.NewIssuer(hcert.IssuerConfig{Country: "IE", Certificate: dsc, Signer: key})
	if err != nil {
		log.Fatal(err)
	}
	issued, err := issuer.Issue(context.Background(), dcc, now, now.AddDate(0, 6, 0))
	if err != nil {
		log.Fatal(err)
	}

	trusted, err := hcert.NewKey(dsc)
	if err != nil {
		log.Fatal(err)
	}
	verifier := hcert.NewVerifier(hcert.NewKeySet(trusted), func() time.Time { return now.AddDate(0, 1, 0) }, hcert.Limits{})
	ok, _, err := verifier.Verify(issued.Text)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(ok.Kind(), "of", ok.DCC().Name.GivenStandardised, "by", ok.Claims().Issuer)
	// Output: recovery of AINE by IE
}

// A diagnosis shows how far a certificate got and why it was refused.
func ExampleDecoder_Decode() {
	var d hcert.Decoder
	u, err := d.Decode("HC1:6BFOXN")
	var refusal *hcert.Error
	if errors.As(err, &refusal) {
		fmt.Println("stage: ", refusal.Stage)
		fmt.Println("reason:", refusal.Reason)
	}
	fmt.Println("base45 decoded:", u.Compressed != nil, "inflated:", u.COSE != "")
	// Output:
	// stage:  zlib
	// reason: invalid zlib stream
	// base45 decoded: true inflated: false
}

// The errors of a payload name each field.
func ExampleParseDCC() {
	_, err := hcert.ParseDCC([]byte(`{"ver": "1.3.0", "nam": {"fnt": "Murphy"}, "dob": "1980-02-29"}`))
	var schema *hcert.SchemaError
	if errors.As(err, &schema) {
		for _, issue := range schema.Issues {
			fmt.Println(issue.Path, issue.Why)
		}
	}
	// Output:
	// nam.fnt must consist of A to Z and <
	// v, t, r exactly one of them must be present
}
