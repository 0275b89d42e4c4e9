package trustlist

import (
	"context"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"errors"
	"io"
	"testing"
	"time"

	"verdant/hcert"
)

// network is a trust network of its own: an anchor and the parties of some
// countries.
type network struct {
	anchor *CMSSigner
	upload map[string]*CMSSigner
	csca   map[string]Authority
	items  []Item
}

func newNetwork(t testing.TB, countries ...string) *network {
	t.Helper()
	now := func() time.Time { return start }
	key := newKey(t)
	der, err := NewAnchorCertificate(t.Context(), key, Subject{Country: "EU", CommonName: "trust anchor"}, start)
	if err != nil {
		t.Fatal(err)
	}
	n := &network{anchor: &CMSSigner{parse(t, der), key, now}, upload: map[string]*CMSSigner{}, csca: map[string]Authority{}}
	for _, c := range countries {
		n.upload[c] = newSigner(t, c, "upload")
		key := newKey(t)
		der, err := NewCSCA(t.Context(), key, Subject{Country: c, Organization: "Health", CommonName: "CSCA"}, start)
		if err != nil {
			t.Fatal(err)
		}
		n.csca[c] = Authority{parse(t, der), key}
		n.add(t, Upload, n.upload[c].Certificate)
		n.add(t, CSCA, n.csca[c].Certificate)
	}
	return n
}

func (n *network) add(t testing.TB, typ CertificateType, cert *x509.Certificate) {
	t.Helper()
	i, err := SignParty(t.Context(), n.anchor, typ, cert)
	if err != nil {
		t.Fatal(err)
	}
	n.items = append(n.items, i)
}

func (n *network) parties(t testing.TB) *Parties {
	t.Helper()
	v := NewAnchor(n.anchor.Certificate).Verify(n.items)
	for _, r := range v.Rejected {
		t.Fatalf("%s %s: %v", r.Item.Country, r.Item.Type, r.Err)
	}
	return v.Parties
}

// dsc makes a document signer and its upload.
func (n *network) dsc(t testing.TB, csca Authority, uploader *CMSSigner, country string) (crypto.Signer, *Envelope) {
	t.Helper()
	key := newKey(t)
	der, err := NewDSC(t.Context(), csca, key.Public(), Subject{Country: country, CommonName: "DSC"}, hcert.UsageVaccination, start)
	if err != nil {
		t.Fatal(err)
	}
	text, err := uploader.SignBase64(t.Context(), der)
	if err != nil {
		t.Fatal(err)
	}
	env, err := ParseCMSBase64(text)
	if err != nil {
		t.Fatal(err)
	}
	return key, env
}

func TestACertificateIsVerifiedUpToTheAnchor(t *testing.T) {
	n := newNetwork(t, "IE", "DE")
	key, env := n.dsc(t, n.csca["IE"], n.upload["IE"], "IE")
	d, item, err := n.parties(t).VerifyUpload(env, "IE", start)
	if err != nil {
		t.Fatal(err)
	}
	n.items = append([]Item{item}, n.items...) // a DSC before its parties must not matter

	// Over the wire and back.
	wire, err := json.Marshal(n.items)
	if err != nil {
		t.Fatal(err)
	}
	var items []Item
	if err := json.Unmarshal(wire, &items); err != nil {
		t.Fatal(err)
	}
	v := NewAnchor(n.anchor.Certificate).Verify(items)
	if len(v.Rejected) > 0 || len(v.List.DSCs()) != 1 {
		t.Fatalf("got %d DSCs, rejected %v", len(v.List.DSCs()), v.Rejected)
	}
	got := v.List.DSCs()[0]
	if got.Thumbprint() != d.Thumbprint() || got.Country() != "IE" || got.Key().Country != "IE" {
		t.Error("the listed DSC is another than the uploaded one")
	}
	if !got.CSCA().Certificate().Equal(n.csca["IE"].Certificate) || !got.Uploader().Certificate().Equal(n.upload["IE"].Certificate) {
		t.Error("wrong authority or uploader")
	}

	issuer, err := hcert.NewIssuer(hcert.IssuerConfig{Country: "IE", Certificate: d.Certificate(), Signer: key})
	if err != nil {
		t.Fatal(err)
	}
	dcc := &hcert.DCC{Version: "1.3.0", Name: hcert.Name{FamilyStandardised: "MURPHY"}, DateOfBirth: "1980-01-01",
		Vaccinations: []hcert.Vaccination{{Target: "840539006", Prophylaxis: "1119349007", Product: "EU/1/20/1528",
			Manufacturer: "ORG-100030215", Dose: 1, Doses: 2, Date: "2026-01-10", Country: "IE", Issuer: "HSE", ID: "URN:UVCI:01:IE:1"}}}
	out, err := issuer.Issue(t.Context(), dcc, start, start.Add(24*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	verifier := hcert.NewVerifier(v.List, func() time.Time { return start.Add(time.Hour) }, hcert.Limits{})
	ok, _, err := verifier.Verify(out.Text)
	if err != nil {
		t.Fatal(err)
	}
	if ok.Key().Country != "IE" || ok.DCC().Name.FamilyStandardised != "MURPHY" {
		t.Error("verified something else")
	}
	if _, _, err := hcert.NewVerifier(NewList(), verifier.Now, hcert.Limits{}).Verify(out.Text); !errors.Is(err, hcert.UnknownSigner) {
		t.Errorf("with an empty list: got %v, want %v", err, hcert.UnknownSigner)
	}
}

func TestPartiesAreRefusedForTheRightReason(t *testing.T) {
	n := newNetwork(t, "IE")
	foreign := newNetwork(t, "IE")
	valid := n.items[0]
	for _, c := range []struct {
		name string
		item Item
		want Reason
	}{
		{"another anchor", foreign.items[0], NotByAnchor},
		{"another country", with(valid, func(i *Item) { i.Country = "DE" }), WrongCountry},
		{"no country", with(valid, func(i *Item) { i.Country = "" }), WrongCountry},
		{"a signature of another certificate", with(valid, func(i *Item) { i.Signature = n.items[1].Signature }), BadSignature},
		{"another thumbprint", with(valid, func(i *Item) { i.Thumbprint = n.items[1].Thumbprint }), WrongThumbprint},
		{"another kid", with(valid, func(i *Item) { i.KID = n.items[1].KID }), WrongKID},
		{"a DSC", with(valid, func(i *Item) { i.Type = DSCType }), WrongType},
		{"an unknown type", with(valid, func(i *Item) { i.Type = "ROOT" }), WrongType},
		{"a deleted entry", valid.Tombstone(), Tombstone},
		{"no base64", with(valid, func(i *Item) { i.RawData = "?" }), NotBase64},
		{"no certificate", with(valid, func(i *Item) { i.RawData = "AAAA" }), NotCertificate},
	} {
		if _, err := NewAnchor(n.anchor.Certificate).VerifyParty(c.item); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
	}
	if _, err := NewAnchor(n.anchor.Certificate).VerifyParty(valid); err != nil {
		t.Errorf("the valid entry: %v", err)
	}
}

func with(i Item, edit func(*Item)) Item {
	edit(&i)
	return i
}

func TestDocumentSignersAreRefusedForTheRightReason(t *testing.T) {
	n := newNetwork(t, "IE", "DE")
	parties := n.parties(t)
	stranger := newSigner(t, "IE", "stranger")
	for _, c := range []struct {
		name     string
		csca     Authority
		uploader *CMSSigner
		subject  string
		country  string
		want     Reason
	}{
		{"an uploader that is not listed", n.csca["IE"], stranger, "IE", "IE", UnknownUploader},
		{"the uploader of another country", n.csca["IE"], n.upload["DE"], "IE", "IE", UnknownUploader},
		{"the authority of another country", n.csca["DE"], n.upload["IE"], "IE", "IE", UnknownCSCA},
		{"an authority that is not listed", Authority{stranger.Certificate, stranger.Key}, n.upload["IE"], "IE", "IE", UnknownCSCA},
		{"a subject of another country", n.csca["IE"], n.upload["IE"], "DE", "IE", WrongCountry},
	} {
		_, env := n.dsc(t, c.csca, c.uploader, c.subject)
		if _, _, err := parties.VerifyUpload(env, c.country, start); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
	}
	// Something other than a certificate.
	text, err := n.upload["IE"].SignBase64(t.Context(), []byte("no certificate"))
	if err != nil {
		t.Fatal(err)
	}
	env, err := ParseCMSBase64(text)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := parties.VerifyUpload(env, "IE", start); !errors.Is(err, NotCertificate) {
		t.Errorf("no certificate: got %v, want %v", err, NotCertificate)
	}
	opened, err := env.Open()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parties.VerifyUploader(opened, "IE"); err != nil {
		t.Errorf("uploader of text: %v", err)
	}
	if _, err := parties.VerifyUploader(opened, "DE"); !errors.Is(err, UnknownUploader) {
		t.Errorf("uploader of text for another country: got %v, want %v", err, UnknownUploader)
	}
}

func TestATombstoneIsListedWithNulls(t *testing.T) {
	n := newNetwork(t, "IE")
	data, err := json.Marshal(n.items[0].Tombstone())
	if err != nil {
		t.Fatal(err)
	}
	var raw map[string]any
	if err := json.Unmarshal(data, &raw); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"signature", "rawData"} {
		if v, ok := raw[key]; !ok || v != nil {
			t.Errorf("%s: got %v, want null", key, v)
		}
	}
	if got, want := raw["timestamp"], "2026-01-15T12:00:00Z"; got != want {
		t.Errorf("timestamp: got %v, want %v", got, want)
	}
	var back Item
	if err := json.Unmarshal(data, &back); err != nil || !back.Deleted() {
		t.Errorf("a tombstone does not read back as one: %v", err)
	}
}

func TestSeveralKeysUnderOneKID(t *testing.T) {
	n := newNetwork(t, "IE")
	parties := n.parties(t)
	_, env := n.dsc(t, n.csca["IE"], n.upload["IE"], "IE")
	a, _, err := parties.VerifyUpload(env, "IE", start)
	if err != nil {
		t.Fatal(err)
	}
	_, env = n.dsc(t, n.csca["IE"], n.upload["IE"], "IE")
	b, _, err := parties.VerifyUpload(env, "IE", start)
	if err != nil {
		t.Fatal(err)
	}
	b.key.KID = a.key.KID
	if got := NewList(a, b).KeysFor(a.KID()); len(got) != 2 {
		t.Errorf("got %d keys, want 2", len(got))
	}
}

func TestExplicitParametersAreRefusedClearly(t *testing.T) {
	// A certificate of which only the key matters: an EC key whose parameters
	// are a SEQUENCE.
	explicit, err := asn1.Marshal(struct{ Version int }{1})
	if err != nil {
		t.Fatal(err)
	}
	cert := selfSigned(t, newKey(t), "IE", "upload")
	var outer struct {
		TBS       asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}
	if err := unmarshal(cert.Raw, &outer); err != nil {
		t.Fatal(err)
	}
	var tbs tbsCertificate
	if _, err := asn1.Unmarshal(outer.TBS.FullBytes, &tbs); err != nil {
		t.Fatal(err)
	}
	tbs.PublicKey.Algorithm.Parameters = asn1.RawValue{FullBytes: explicit}
	if outer.TBS.FullBytes, err = asn1.Marshal(tbs); err != nil {
		t.Fatal(err)
	}
	der, err := asn1.Marshal(outer)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseCertificate(der); !errors.Is(err, ExplicitParameters) {
		t.Errorf("got %v, want %v", err, ExplicitParameters)
	}
}

// vault signs elsewhere: it has no use for randomness and wants the context.
type vault struct {
	crypto.Signer
	calls int
}

func (v *vault) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("called without a context")
}

func (v *vault) SignContext(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	v.calls++
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return v.Signer.Sign(nil, digest, opts)
}

func TestKeysMayLiveInAVault(t *testing.T) {
	v := &vault{Signer: newKey(t)}
	der, err := NewCSCA(t.Context(), v, Subject{Country: "IE", CommonName: "CSCA"}, start)
	if err != nil {
		t.Fatal(err)
	}
	cert := parse(t, der)
	s := &CMSSigner{cert, v, func() time.Time { return start }}
	if _, err := s.Sign(t.Context(), []byte("content")); err != nil {
		t.Fatal(err)
	}
	if v.calls != 2 {
		t.Errorf("got %d calls of the vault, want 2", v.calls)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Sign(ctx, []byte("content")); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}

func TestCertificateTemplates(t *testing.T) {
	n := newNetwork(t, "IE")
	csca := n.csca["IE"]
	key := newKey(t)
	der, err := NewDSC(t.Context(), csca, key.Public(), Subject{Country: "IE", CommonName: "DSC"},
		hcert.UsageTest|hcert.UsageRecovery, start.Add(3*year))
	if err != nil {
		t.Fatal(err)
	}
	dsc := parse(t, der)
	if got, want := hcert.UsageOf(dsc), hcert.UsageTest|hcert.UsageRecovery; got != want {
		t.Errorf("usage: got %v, want %v", got, want)
	}
	if dsc.NotAfter.After(csca.Certificate.NotAfter) {
		t.Error("the document signer outlives its authority")
	}
	pool := x509.NewCertPool()
	pool.AddCert(csca.Certificate)
	if _, err := dsc.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: dsc.NotBefore,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		t.Errorf("chain: %v", err)
	}
	der, err = NewAuthentication(t.Context(), csca, key.Public(), Subject{Country: "IE", CommonName: "TLS"}, start)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parse(t, der).Verify(x509.VerifyOptions{Roots: pool, CurrentTime: start,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		t.Errorf("TLS client: %v", err)
	}
	for name, make := range map[string]func() ([]byte, error){
		"no country": func() ([]byte, error) {
			return NewCSCA(t.Context(), key, Subject{CommonName: "CSCA"}, start)
		},
		"no common name": func() ([]byte, error) {
			return NewCSCA(t.Context(), key, Subject{Country: "IE"}, start)
		},
		"DSC without authority": func() ([]byte, error) {
			return NewDSC(t.Context(), Authority{Key: key}, key.Public(), Subject{Country: "IE", CommonName: "DSC"}, 0, start)
		},
		"DSC after its authority": func() ([]byte, error) {
			return NewDSC(t.Context(), csca, key.Public(), Subject{Country: "IE", CommonName: "DSC"}, 0, start.Add(5*year))
		},
	} {
		if _, err := make(); !errors.Is(err, BadTemplate) {
			t.Errorf("%s: got %v, want %v", name, err, BadTemplate)
		}
	}
}
