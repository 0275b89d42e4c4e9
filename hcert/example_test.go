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
	"verdant/hcert/valueset"
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

// What a schema cannot say is reported with a code and a place, and refuses
// nothing by itself.
func ExampleInspection() {
	tree, err := hcert.ParseTree([]byte(`{"ver": "1.3.0", "dob": "1980-02-29",
		"nam": {"fn": "Ní Mhurchú", "fnt": "NI<MHURCHU", "gn": "Áine", "gnt": "ANNA"},
		"v": [{"tg": "840539006", "vp": "1119349007", "mp": "EU/1/30/9999", "ma": "ORG-100030215", "dn": 3, "sd": 2,
			"dt": "1979-01-10", "co": "IE", "is": "HSE", "ci": "URN:UVCI:01:IE:1#0"}]}`))
	if err != nil {
		log.Fatal(err)
	}
	for _, f := range (hcert.Inspection{ValueSets: valueset.Builtin()}).Inspect(tree) {
		fmt.Println(f.Severity, f.Code, f.Path)
	}
	// Output:
	// doubtful name-match nam.gnt
	// doubtful code-missing v[0].mp
	// wrong dose-order v[0].dn
	// wrong birth-order v[0].dt
	// doubtful uvci-check v[0].ci
}

// Names are written as in the machine readable zone of a passport.
func ExampleStandardiseName() {
	for _, name := range []string{"Müller-Lüdenscheidt", "Юлія", "محمد", "Ευάγγελος"} {
		standard, err := hcert.StandardiseName(name, hcert.NameOptions{Country: "UA"})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(standard)
	}
	fmt.Println(hcert.MatchName("Müller", "MULLER"))
	// Output:
	// MUELLER<LUEDENSCHEIDT
	// YULIIA
	// MXHMD
	// EVANGELOS
	// same
}

// A diagnosis goes on after a failure, so that a person sees all that is wrong.
func ExampleDecoder_Diagnose() {
	var d hcert.Decoder
	_, stages := d.Diagnose("HC1:6BFOXN", hcert.NewKeySet(), time.Now())
	for _, s := range stages[:4] {
		fmt.Printf("%s: %s\n", s.Stage, s.State)
	}
	// Output:
	// prefix: passed
	// base45: passed
	// zlib: failed
	// cose: not reached
}

// The container also carries the WHO's documents, such as a Verifiable Health
// Link.
func ExampleParseDocument() {
	cbor, err := hcert.EncodeContent(hcert.HealthLinks{{URL: "https://health.example/manifest/1", Flag: "P", Label: "Summary"}})
	if err != nil {
		log.Fatal(err)
	}
	doc, err := hcert.ParseDocument(hcert.ProfileHealthLink, cbor, hcert.Limits{})
	if err != nil {
		log.Fatal(err)
	}
	for _, link := range doc.Content.(hcert.HealthLinks) {
		fmt.Println(doc.Profile(), link.URL, link.Label)
	}
	// Output: Verifiable Health Link https://health.example/manifest/1 Summary
}
