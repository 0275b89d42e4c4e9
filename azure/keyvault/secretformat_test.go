package keyvault_test

import (
	"encoding/base64"
	"encoding/pem"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"
)

func TestTheSecretOfACertificateIsConvertedToPEM(t *testing.T) {
	w := newWorld(t)
	ctx, secrets := t.Context(), w.secrets(admin)
	create := func(name, kind string, exportable string) {
		t.Helper()
		body := `{"policy":{"key_props":{"kty":"EC","exportable":` + exportable + `},"secret_props":{"contentType":"` + kind + `"},"x509_props":{"subject":"CN=x"},"issuer":{"name":"Self"}}}`
		if r := w.adminRaw("POST", "/certificates/"+name+"/create", body); r.status != 202 {
			t.Fatalf("got %d %s", r.status, r.text)
		}
	}
	create("pfx", "application/x-pkcs12", "true")
	create("kept", "application/x-pkcs12", "false")
	create("pem", "application/x-pem-file", "true")
	blocks := func(name string) (kinds []string) {
		got := must(secrets.GetSecret(ctx, name, "", &azsecrets.GetSecretOptions{OutContentType: to.Ptr(azsecrets.ContentTypePEM)}))(t)
		if *got.ContentType != "application/x-pem-file" {
			t.Errorf("%s: got contentType %s", name, *got.ContentType)
		}
		for block, rest := pem.Decode([]byte(*got.Value)); block != nil; block, rest = pem.Decode(rest) {
			kinds = append(kinds, block.Type)
		}
		return kinds
	}
	for name, want := range map[string]string{"pfx": "PRIVATE KEY CERTIFICATE", "kept": "CERTIFICATE", "pem": "PRIVATE KEY CERTIFICATE"} {
		if got := strings.Join(blocks(name), " "); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
	first := must(secrets.GetSecret(ctx, "pfx", "", &azsecrets.GetSecretOptions{OutContentType: to.Ptr(azsecrets.ContentTypePFX)}))(t)
	if _, err := base64.StdEncoding.DecodeString(*first.Value); err != nil || *first.ContentType != "application/x-pkcs12" || first.PreviousVersion != nil {
		t.Errorf("as it is: got %v, %s, previous %v", err, *first.ContentType, first.PreviousVersion)
	}
	create("pfx", "application/x-pkcs12", "true")
	second := must(secrets.GetSecret(ctx, "pfx", "", nil))(t)
	if second.PreviousVersion == nil || *second.PreviousVersion != first.ID.Version() {
		t.Errorf("got previous version %v, want %s", second.PreviousVersion, first.ID.Version())
	}
	w.adminRaw("PUT", "/secrets/plain", `{"value":"v","contentType":"text/plain"}`)
	w.adminRaw("PUT", "/secrets/bare", `{"value":"v"}`)
	w.adminRaw("PUT", "/secrets/broken", `{"value":"AAAA","contentType":"application/x-pkcs12"}`)
	for _, c := range []struct {
		name, path, version string
		status              int
	}{
		{"PEM to PFX", "/secrets/pem?outContentType=application/x-pkcs12", "2025-07-01", 400},
		{"another form", "/secrets/pfx?outContentType=application/json", "2026-04-01", 400},
		{"a secret of another content type", "/secrets/plain?outContentType=application/x-pem-file", "2026-04-01", 400},
		{"a secret without a content type", "/secrets/bare?outContentType=application/x-pem-file", "2026-04-01", 400},
		{"a secret that is no PFX", "/secrets/broken?outContentType=application/x-pem-file", "2026-04-01", 400},
		{"an empty wish", "/secrets/plain?outContentType=", "2026-04-01", 200},
		{"a version that does not know it", "/secrets/plain?outContentType=application/x-pem-file", "7.4", 200},
	} {
		r := w.raw("GET", c.path+"&api-version="+c.version, w.mint(map[string]any{"oid": admin}), "")
		if code, _ := r.code(); r.status != c.status || c.status == 400 && code != "BadParameter" {
			t.Errorf("%s: got %d %s, want %d", c.name, r.status, r.text, c.status)
		}
	}
}
