package keyvault_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/keyvault/azcertificates"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"software.sslmate.com/src/go-pkcs12"

	"verdant/hsm"
)

func ecPolicy(issuer string, exportable bool) *azcertificates.CertificatePolicy {
	return &azcertificates.CertificatePolicy{
		IssuerParameters: &azcertificates.IssuerParameters{Name: &issuer},
		KeyProperties: &azcertificates.KeyProperties{KeyType: to.Ptr(azcertificates.JSONWebKeyTypeEC), Curve: to.Ptr(azcertificates.JSONWebKeyCurveNameP256),
			Exportable: &exportable, ReuseKey: to.Ptr(false)},
		SecretProperties: &azcertificates.SecretProperties{ContentType: to.Ptr("application/x-pem-file")},
		X509CertificateProperties: &azcertificates.X509CertificateProperties{Subject: to.Ptr(`CN=IE DSC, O="Dept, of Health", C=IE`), ValidityInMonths: to.Ptr(int32(24)),
			KeyUsage: []*azcertificates.KeyUsageType{to.Ptr(azcertificates.KeyUsageTypeDigitalSignature)}, EKUs: []*string{to.Ptr("1.3.6.1.4.1.1847.2021.1.1")},
			SubjectAlternativeNames: &azcertificates.SubjectAlternativeNames{DNSNames: []*string{to.Ptr("dsc.example")}}},
	}
}

func TestASelfSignedCertificateHasItsKeyAndSecret(t *testing.T) {
	w := newWorld(t)
	ctx, certs := t.Context(), w.certificates(admin)
	op := must(certs.CreateCertificate(ctx, "trustanchor", azcertificates.CreateCertificateParameters{CertificatePolicy: ecPolicy("Self", false)}, nil))(t)
	if *op.Status != "inProgress" || len(op.CSR) == 0 || *op.RequestID == "" || *op.StatusDetails == "" || *op.CancellationRequested {
		t.Errorf("got %+v", op.CertificateOperation)
	}
	done := must(certs.GetCertificateOperation(ctx, "trustanchor", nil))(t)
	if *done.Status != "completed" || *done.Target != vaultURL+"/certificates/trustanchor" {
		t.Errorf("got %+v", done.CertificateOperation)
	}
	got := must(certs.GetCertificate(ctx, "trustanchor", "", nil))(t)
	c := must(x509.ParseCertificate(got.CER))(t)
	if err := c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature); err != nil {
		t.Error(err)
	}
	if c.Subject.CommonName != "IE DSC" || c.Subject.Organization[0] != "Dept, of Health" || c.Subject.Country[0] != "IE" || c.IsCA || c.DNSNames[0] != "dsc.example" ||
		c.KeyUsage != x509.KeyUsageDigitalSignature || c.UnknownExtKeyUsage[0].String() != "1.3.6.1.4.1.1847.2021.1.1" {
		t.Errorf("got subject %s, usage %v, EKU %v", c.Subject, c.KeyUsage, c.UnknownExtKeyUsage)
	}
	if now := w.clock.Now(); c.NotBefore.After(now) || c.NotAfter.Before(now.AddDate(0, 23, 0)) || !got.Attributes.Expires.Equal(c.NotAfter) || !got.Attributes.NotBefore.Equal(c.NotBefore) {
		t.Errorf("got validity %v to %v, attributes %v", c.NotBefore, c.NotAfter, got.Attributes.Expires)
	}
	v := got.ID.Version()
	if *got.KID != vaultURL+"/keys/trustanchor/"+v || *got.SID != vaultURL+"/secrets/trustanchor/"+v || len(got.X509Thumbprint) != 20 {
		t.Errorf("got kid %s sid %s", *got.KID, *got.SID)
	}
	key := must(w.keys(admin).GetKey(ctx, "trustanchor", v, nil))(t)
	if !*key.Managed || !bytes.Contains(c.RawSubjectPublicKeyInfo, append(key.Key.X, key.Key.Y...)) {
		t.Errorf("got key %+v", key.Key)
	}
	digest := sha256.Sum256([]byte("m"))
	sig := must(w.keys(admin).Sign(ctx, "trustanchor", "", azkeys.SignParameters{Algorithm: to.Ptr(azkeys.SignatureAlgorithmES256), Value: digest[:]}, nil))(t)
	if r, s := new(big.Int).SetBytes(sig.Result[:32]), new(big.Int).SetBytes(sig.Result[32:]); !ecdsa.Verify(c.PublicKey.(*ecdsa.PublicKey), digest[:], r, s) {
		t.Error("the managed key's signature does not verify with the certificate")
	}
	secret := must(w.secrets(admin).GetSecret(ctx, "trustanchor", "", nil))(t)
	if !*secret.Managed || string(*secret.KID) != *got.KID || strings.Contains(*secret.Value, "PRIVATE KEY") || !strings.Contains(*secret.Value, "BEGIN CERTIFICATE") {
		t.Errorf("got secret %+v", *secret.Value)
	}
}

func TestASigningRequestIsMergedWithItsCertificate(t *testing.T) {
	w := newWorld(t)
	ctx, certs := t.Context(), w.certificates(admin)
	must(certs.CreateCertificate(ctx, "dsc-key-store", azcertificates.CreateCertificateParameters{CertificatePolicy: ecPolicy("Unknown", false), Tags: map[string]*string{"a": to.Ptr("b")}}, nil))(t)
	op := must(certs.GetCertificateOperation(ctx, "dsc-key-store", nil))(t)
	csr := must(x509.ParseCertificateRequest(op.CSR))(t)
	if err := csr.CheckSignature(); err != nil || *op.Status != "inProgress" || csr.Subject.CommonName != "IE DSC" || csr.DNSNames[0] != "dsc.example" {
		t.Errorf("got %v, %v", csr.Subject, err)
	}
	waiting := must(certs.GetCertificate(ctx, "dsc-key-store", "", nil))(t)
	if *waiting.Attributes.Enabled || waiting.CER != nil || waiting.KID != nil || waiting.SID != nil || waiting.Policy == nil || *waiting.Tags["a"] != "b" {
		t.Errorf("got %+v; want a disabled version that has a policy and no certificate yet", waiting.CertificateBundle)
	}
	_, err := certs.GetCertificate(ctx, "dsc-key-store", strings.Repeat("0", 32), nil)
	refused(t, err, http.StatusNotFound, "CertificateNotFound")
	_, err = certs.CreateCertificate(ctx, "dsc-key-store", azcertificates.CreateCertificateParameters{CertificatePolicy: ecPolicy("Unknown", false)}, nil)
	refused(t, err, http.StatusConflict, "Conflict")
	w.restart() // the request survives
	certs = w.certificates(admin)

	csca := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	caTemplate := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "IE CSCA"}, NotBefore: w.clock.Now(), NotAfter: w.clock.Now().AddDate(4, 0, 0), IsCA: true, BasicConstraintsValid: true}
	ca := must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, caTemplate, caTemplate, &csca.PublicKey, csca))(t)))(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: csr.Subject, NotBefore: w.clock.Now(), NotAfter: w.clock.Now().AddDate(2, 0, 0)}
	leaf := must(x509.CreateCertificate(rand.Reader, template, ca, csr.PublicKey, csca))(t)
	foreign := must(x509.CreateCertificate(rand.Reader, template, ca, &csca.PublicKey, csca))(t)

	for name, x5c := range map[string][][]byte{"another key's certificate": {foreign}, "no certificate": {[]byte("x")}, "nothing": {}} {
		_, err = certs.MergeCertificate(ctx, "dsc-key-store", azcertificates.MergeCertificateParameters{X509Certificates: x5c}, nil)
		if refused(t, err, http.StatusBadRequest, "BadParameter"); t.Failed() {
			t.Fatal(name)
		}
	}
	merged := must(certs.MergeCertificate(ctx, "dsc-key-store", azcertificates.MergeCertificateParameters{X509Certificates: [][]byte{ca.Raw, leaf}}, nil))(t)
	if !bytes.Equal(merged.CER, leaf) || *merged.Tags["a"] != "b" || merged.Policy == nil || *merged.ID != *waiting.ID {
		t.Errorf("got %+v", merged.CertificateBundle)
	}
	if got := must(certs.GetCertificate(ctx, "dsc-key-store", "", nil))(t); !bytes.Equal(got.CER, leaf) {
		t.Error("another certificate is there")
	}
	secret := must(w.secrets(admin).GetSecret(ctx, "dsc-key-store", "", nil))(t)
	block, rest := pem.Decode([]byte(*secret.Value))
	if block.Type != "CERTIFICATE" || !bytes.Equal(block.Bytes, leaf) || strings.Count(string(rest), "BEGIN CERTIFICATE") != 1 {
		t.Errorf("got secret %s", *secret.Value)
	}
	_, err = certs.MergeCertificate(ctx, "dsc-key-store", azcertificates.MergeCertificateParameters{X509Certificates: [][]byte{leaf}}, nil)
	refused(t, err, http.StatusConflict, "Conflict")
	digest := sha256.Sum256([]byte("m"))
	sig := must(w.keys(admin).Sign(ctx, "dsc-key-store", merged.ID.Version(), azkeys.SignParameters{Algorithm: to.Ptr(azkeys.SignatureAlgorithmES256), Value: digest[:]}, nil))(t)
	if r, s := new(big.Int).SetBytes(sig.Result[:32]), new(big.Int).SetBytes(sig.Result[32:]); !ecdsa.Verify(csr.PublicKey.(*ecdsa.PublicKey), digest[:], r, s) {
		t.Error("the signature does not verify with the request's key")
	}
}

func TestAnExportableCertificateGivesItsKeyThroughTheSecretOnly(t *testing.T) {
	w := newWorld(t)
	ctx, certs := t.Context(), w.certificates(admin)
	p := ecPolicy("Self", true)
	p.SecretProperties = nil // PKCS #12 is the default
	must(certs.CreateCertificate(ctx, "c", azcertificates.CreateCertificateParameters{CertificatePolicy: p}, nil))(t)
	secret := must(w.secrets(admin).GetSecret(ctx, "c", "", nil))(t)
	if *secret.ContentType != "application/x-pkcs12" {
		t.Errorf("got content type %s", *secret.ContentType)
	}
	pfx := must(base64.StdEncoding.DecodeString(*secret.Value))(t)
	key, leaf, err := pkcs12.Decode(pfx, "")
	if err != nil || !key.(*ecdsa.PrivateKey).PublicKey.Equal(leaf.PublicKey) {
		t.Fatalf("got %v", err)
	}
	// The bundle imports elsewhere, as PFX and as PEM.
	m, _, err := hsm.FromPFX(pfx, "")
	if err != nil {
		t.Fatal(err)
	}
	text := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must(m.PKCS8())(t)})) + string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw}))
	encoded := base64.StdEncoding.EncodeToString([]byte(text))
	public := &azcertificates.CertificatePolicy{KeyProperties: &azcertificates.KeyProperties{
		Exportable: to.Ptr(false), KeyType: to.Ptr(azcertificates.JSONWebKeyTypeEC), Curve: to.Ptr(azcertificates.JSONWebKeyCurveNameP256)}}
	for name, in := range map[string]azcertificates.ImportCertificateParameters{
		"as-pfx":           {Base64EncodedCertificate: secret.Value, CertificateAttributes: &azcertificates.CertificateAttributes{Enabled: to.Ptr(true)}},
		"as-pem":           {Base64EncodedCertificate: &text, CertificatePolicy: public},
		"as-pem-in-base64": {Base64EncodedCertificate: &encoded, CertificatePolicy: public},
	} {
		got := must(certs.ImportCertificate(ctx, name, in, nil))(t)
		if !bytes.Equal(got.CER, leaf.Raw) {
			t.Errorf("%s: another certificate", name)
		}
		value := must(w.secrets(admin).GetSecret(ctx, name, "", nil))(t).Value
		if hasKey := strings.Contains(*value, "PRIVATE KEY") || name == "as-pfx" && len(*value) > 1000; hasKey != (name == "as-pfx") {
			t.Errorf("%s: got secret %s", name, *value)
		}
	}
	for name, in := range map[string]string{"not base64": "???", "not a PFX": "AAAA", "PEM without a key": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw})), "nothing": ""} {
		_, err := certs.ImportCertificate(ctx, "bad", azcertificates.ImportCertificateParameters{Base64EncodedCertificate: &in}, nil)
		if refused(t, err, http.StatusBadRequest, "BadParameter"); t.Failed() {
			t.Fatal(name)
		}
	}
	_, err = certs.ImportCertificate(ctx, "bad", azcertificates.ImportCertificateParameters{Base64EncodedCertificate: secret.Value, Password: to.Ptr("wrong")}, nil)
	refused(t, err, http.StatusBadRequest, "BadParameter")
}

func TestACertificateTakesItsKeyAndSecretAlong(t *testing.T) {
	w := newWorld(t)
	ctx, certs, keys, secrets := t.Context(), w.certificates(admin), w.keys(admin), w.secrets(admin)
	must(certs.CreateCertificate(ctx, "c", azcertificates.CreateCertificateParameters{CertificatePolicy: ecPolicy("Self", false)}, nil))(t)
	first := must(certs.GetCertificate(ctx, "c", "", nil))(t)

	_, err := keys.DeleteKey(ctx, "c", nil)
	refused(t, err, http.StatusForbidden, "Forbidden")
	_, err = secrets.DeleteSecret(ctx, "c", nil)
	refused(t, err, http.StatusForbidden, "Forbidden")
	_, err = keys.CreateKey(ctx, "c", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeEC)}, nil)
	refused(t, err, http.StatusForbidden, "Forbidden")
	if r := w.adminRaw("PUT", "/secrets/c", `{"value":"x"}`); r.status != 403 {
		t.Errorf("set the managed secret: got %d %s", r.status, r.text)
	}
	must(keys.CreateKey(ctx, "plain", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeEC)}, nil))(t)
	_, err = certs.CreateCertificate(ctx, "plain", azcertificates.CreateCertificateParameters{CertificatePolicy: ecPolicy("Self", false)}, nil)
	refused(t, err, http.StatusConflict, "Conflict")

	must(certs.CreateCertificate(ctx, "c", azcertificates.CreateCertificateParameters{CertificatePolicy: ecPolicy("Self", false)}, nil))(t)
	second := must(certs.GetCertificate(ctx, "c", "", nil))(t)
	if *first.ID == *second.ID || bytes.Equal(first.CER, second.CER) {
		t.Error("a renewal made no new version")
	}
	must(certs.UpdateCertificate(ctx, "c", "", azcertificates.UpdateCertificateParameters{CertificateAttributes: &azcertificates.CertificateAttributes{Enabled: to.Ptr(false)}}, nil))(t)
	_, err = secrets.GetSecret(ctx, "c", "", nil)
	refused(t, err, http.StatusForbidden, "Forbidden")
	must(secrets.GetSecret(ctx, "c", first.ID.Version(), nil))(t)

	gone := must(certs.DeleteCertificate(ctx, "c", nil))(t)
	if *gone.RecoveryID != vaultURL+"/deletedcertificates/c" || *gone.ID != *second.ID || !bytes.Equal(gone.CER, second.CER) {
		t.Errorf("got %+v", gone.DeletedCertificateBundle)
	}
	_, err = keys.GetKey(ctx, "c", first.ID.Version(), nil)
	refused(t, err, http.StatusNotFound, "KeyNotFound")
	_, err = keys.PurgeDeletedKey(ctx, "c", nil)
	refused(t, err, http.StatusForbidden, "Forbidden")
	must(certs.RecoverDeletedCertificate(ctx, "c", nil))(t)
	must(keys.GetKey(ctx, "c", first.ID.Version(), nil))(t)
	must(certs.DeleteCertificate(ctx, "c", nil))(t)
	must(certs.PurgeDeletedCertificate(ctx, "c", nil))(t)
	for _, path := range []string{"/deletedkeys/c", "/deletedsecrets/c", "/deletedcertificates/c", "/keys/c", "/secrets/c", "/certificates/c"} {
		if r := w.adminRaw("GET", path, ""); r.status != 404 {
			t.Errorf("%s: got %d %s", path, r.status, r.text)
		}
	}
}

func TestPendingOperationsAreCancelledAndDeleted(t *testing.T) {
	w := newWorld(t)
	ctx, certs := t.Context(), w.certificates(admin)
	must(certs.CreateCertificate(ctx, "c", azcertificates.CreateCertificateParameters{CertificatePolicy: ecPolicy("Unknown", false)}, nil))(t)
	if page := must(certs.NewListCertificatesPager(nil).NextPage(ctx))(t); len(page.Value) != 0 {
		t.Errorf("listed %d certificates", len(page.Value))
	}
	if page := must(certs.NewListCertificatesPager(&azcertificates.ListCertificatesOptions{IncludePending: to.Ptr(true)}).NextPage(ctx))(t); len(page.Value) != 1 {
		t.Errorf("listed %d certificates with those pending, want 1", len(page.Value))
	}
	must(certs.UpdateCertificateOperation(ctx, "c", azcertificates.UpdateCertificateOperationParameter{CancellationRequested: to.Ptr(true)}, nil))(t)
	if op := must(certs.GetCertificateOperation(ctx, "c", nil))(t); !*op.CancellationRequested || *op.Status != "cancelled" {
		t.Errorf("got %+v", op.CertificateOperation)
	}
	must(certs.DeleteCertificateOperation(ctx, "c", nil))(t)
	_, err := certs.GetCertificateOperation(ctx, "c", nil)
	refused(t, err, http.StatusNotFound, "PendingCertificateNotFound")
	must(certs.CreateCertificate(ctx, "c", azcertificates.CreateCertificateParameters{CertificatePolicy: ecPolicy("Self", false)}, nil))(t)
}

func TestPoliciesKeepWhatTheyAreGivenAndFillInTheRest(t *testing.T) {
	w := newWorld(t)
	ctx, certs := t.Context(), w.certificates(admin)
	must(certs.CreateCertificate(ctx, "c", azcertificates.CreateCertificateParameters{CertificatePolicy: &azcertificates.CertificatePolicy{
		IssuerParameters: &azcertificates.IssuerParameters{Name: to.Ptr("self")}, X509CertificateProperties: &azcertificates.X509CertificateProperties{Subject: to.Ptr("CN=Default")}}}, nil))(t)
	p := must(certs.GetCertificatePolicy(ctx, "c", nil))(t)
	if *p.KeyProperties.KeyType != "RSA" || *p.KeyProperties.KeySize != 2048 || !*p.KeyProperties.Exportable || *p.SecretProperties.ContentType != "application/x-pkcs12" ||
		*p.X509CertificateProperties.ValidityInMonths != 12 || *p.IssuerParameters.Name != "self" || len(p.LifetimeActions) != 1 || *p.ID != vaultURL+"/certificates/c/policy" {
		t.Errorf("got %+v", p.CertificatePolicy)
	}
	u := must(certs.UpdateCertificatePolicy(ctx, "c", azcertificates.CertificatePolicy{KeyProperties: &azcertificates.KeyProperties{
		KeyType: to.Ptr(azcertificates.JSONWebKeyTypeECHSM), Curve: to.Ptr(azcertificates.JSONWebKeyCurveNameP384), ReuseKey: to.Ptr(true), Exportable: to.Ptr(false)}}, nil))(t)
	if *u.KeyProperties.KeyType != "EC-HSM" || *u.X509CertificateProperties.Subject != "CN=Default" {
		t.Errorf("got %+v", u.CertificatePolicy)
	}
	for name, body := range map[string]string{
		"no policy":              `{}`,
		"no subject":             `{"policy":{"issuer":{"name":"Self"}}}`,
		"a bad subject":          `{"policy":{"x509_props":{"subject":"nonsense"},"issuer":{"name":"Self"}}}`,
		"an unknown issuer":      `{"policy":{"x509_props":{"subject":"CN=x"},"issuer":{"name":"DigiCert"}}}`,
		"an exportable HSM key":  `{"policy":{"key_props":{"kty":"RSA-HSM","exportable":true},"x509_props":{"subject":"CN=x"},"issuer":{"name":"Self"}}}`,
		"a bad key usage":        `{"policy":{"x509_props":{"subject":"CN=x","key_usage":["fly"]},"issuer":{"name":"Self"}}}`,
		"a bad EKU":              `{"policy":{"x509_props":{"subject":"CN=x","ekus":["1.x"]},"issuer":{"name":"Self"}}}`,
		"a bad validity":         `{"policy":{"x509_props":{"subject":"CN=x","validity_months":0},"issuer":{"name":"Self"}}}`,
		"a bad content type":     `{"policy":{"secret_props":{"contentType":"text/html"},"x509_props":{"subject":"CN=x"},"issuer":{"name":"Self"}}}`,
		"an unsupported curve":   `{"policy":{"key_props":{"kty":"EC","crv":"P-256K"},"x509_props":{"subject":"CN=x"},"issuer":{"name":"Self"}}}`,
		"a name that is no host": `{"policy":{"x509_props":{"sans":{"dns_names":["é"]}},"issuer":{"name":"Self"}}}`,
	} {
		if r := w.adminRaw("POST", "/certificates/bad/create", body); r.status != 400 {
			t.Errorf("%s: got %d %s", name, r.status, r.text)
		}
	}
}

func TestACertificateThatMaySignCertificatesIsACA(t *testing.T) {
	w := newWorld(t)
	certs := w.certificates(admin)
	p := ecPolicy("Self", false)
	p.X509CertificateProperties.KeyUsage = []*azcertificates.KeyUsageType{to.Ptr(azcertificates.KeyUsageTypeKeyCertSign), to.Ptr(azcertificates.KeyUsageTypeCRLSign)}
	must(certs.CreateCertificate(t.Context(), "csca-key-store", azcertificates.CreateCertificateParameters{CertificatePolicy: p}, nil))(t)
	c := must(x509.ParseCertificate(must(certs.GetCertificate(t.Context(), "csca-key-store", "", nil))(t).CER))(t)
	if !c.IsCA || c.KeyUsage != x509.KeyUsageCertSign|x509.KeyUsageCRLSign || c.NotAfter.Sub(c.NotBefore) < 700*24*time.Hour {
		t.Errorf("got CA %v, usage %v", c.IsCA, c.KeyUsage)
	}
}

func TestTheListOfCertificatesHasItsShape(t *testing.T) {
	w := newWorld(t)
	must(w.certificates(admin).CreateCertificate(t.Context(), "tls-key-store", azcertificates.CreateCertificateParameters{CertificatePolicy: ecPolicy("Self", false)}, nil))(t)
	r := w.adminRaw("GET", "/certificates", "")
	items, _ := r.body["value"].([]any)
	if r.status != 200 || len(items) != 1 {
		t.Fatalf("got %d %s", r.status, r.text)
	}
	item := items[0].(map[string]any)
	attrs := item["attributes"].(map[string]any)
	if item["id"] != vaultURL+"/certificates/tls-key-store" || item["x5t"] == "" || attrs["enabled"] != true || attrs["exp"] == nil || attrs["recoveryLevel"] != "CustomizedRecoverable+Purgeable" {
		t.Errorf("got %s", r.text)
	}
	versions := must(w.certificates(admin).NewListCertificateVersionsPager("tls-key-store", nil).NextPage(t.Context()))(t)
	if len(versions.Value) != 1 || versions.Value[0].ID.Version() == "" {
		t.Errorf("got %+v", versions.Value)
	}
}
