package entra_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"maps"
	"net/url"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/go-jose/go-jose/v4"

	"verdant/azure/entra"
)

// cluster is an issuer of service account tokens.
type cluster struct{ key *rsa.PrivateKey }

const (
	clusterIssuer = "https://oidc.test/cluster/"
	serviceAcct   = "system:serviceaccount:dgc:web"
)

func (c cluster) TokenKey(_ context.Context, kid string) (*rsa.PublicKey, error) {
	if kid != "sa" {
		return nil, errors.New("no such key")
	}
	return &c.key.PublicKey, nil
}

func sign(t *testing.T, alg jose.SignatureAlgorithm, key any, kid string, claims map[string]any) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, (&jose.SignerOptions{}).WithHeader("kid", kid))
	if err != nil {
		t.Fatal(err)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	jws, err := signer.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	text, err := jws.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestAServiceAccountTokenStandsForItsIdentityAlone(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	w.issuers = entra.TrustedIssuers{clusterIssuer: cluster{key}, "https://oidc.test/other/": cluster{other}}
	federate := func(c *entra.Config) {
		c.ManagedIdentities[0].Federated = []entra.FederatedCredential{{Issuer: clusterIssuer, Subject: serviceAcct}}
	}
	w.start(t, federate)
	now := w.now().Unix()
	good := map[string]any{"iss": clusterIssuer, "sub": serviceAcct, "aud": []string{"api://AzureADTokenExchange"}, "exp": now + 600, "nbf": now}
	with := func(name string, value any) map[string]any {
		c := maps.Clone(good)
		c[name] = value
		return c
	}

	cred, err := azidentity.NewClientAssertionCredential(tenantID, identityApp,
		func(context.Context) (string, error) { return sign(t, jose.RS256, key, "sa", good), nil },
		&azidentity.ClientAssertionCredentialOptions{DisableInstanceDiscovery: true, ClientOptions: azcore.ClientOptions{Transport: w,
			Cloud: cloud.Configuration{ActiveDirectoryAuthorityHost: "https://" + loginHost + "/"}}})
	if err != nil {
		t.Fatal(err)
	}
	token, err := cred.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{"https://vault.azure.net/.default"}})
	if err != nil {
		t.Fatal(err)
	}
	jws, err := jose.ParseSignedCompact(token.Token, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		t.Fatal(err)
	}
	var claims struct{ OID, Appid, Idtyp, Aud string }
	if err := json.Unmarshal(jws.UnsafePayloadWithoutVerification(), &claims); err != nil || claims.OID != identityID || claims.Appid != identityApp || claims.Idtyp != "app" || claims.Aud != "https://vault.azure.net" {
		t.Errorf("got %+v, %v", claims, err)
	}
	if row := w.rows.last(t); row.table != "AADManagedIdentitySignInLogs" {
		t.Errorf("recorded in %s", row.table)
	}

	form := func(assertion string) url.Values {
		return url.Values{"grant_type": {"client_credentials"}, "client_id": {identityApp}, "scope": {"https://vault.azure.net/.default"},
			"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}, "client_assertion": {assertion}}
	}
	for name, c := range map[string]struct {
		assertion string
		change    func(url.Values)
		code      int
	}{
		"as it should be":                     {sign(t, jose.RS256, key, "sa", good), nil, 0},
		"another pod's service account":       {sign(t, jose.RS256, key, "sa", with("sub", "system:serviceaccount:dgc:gateway")), nil, 700213},
		"a subject that only begins alike":    {sign(t, jose.RS256, key, "sa", with("sub", serviceAcct+"2")), nil, 700213},
		"another issuer that is trusted":      {sign(t, jose.RS256, other, "sa", with("iss", "https://oidc.test/other/")), nil, 700211},
		"an issuer that nobody knows":         {sign(t, jose.RS256, other, "sa", with("iss", "https://evil.test/")), nil, 700211},
		"another issuer's key":                {sign(t, jose.RS256, other, "sa", good), nil, 50013},
		"a key that is not the issuer's":      {sign(t, jose.RS256, key, "xx", good), nil, 50013},
		"HS256 with the public key as secret": {sign(t, jose.HS256, x509.MarshalPKCS1PublicKey(&key.PublicKey), "sa", good), nil, 50027},
		"a token for something else":          {sign(t, jose.RS256, key, "sa", with("aud", "https://kubernetes.default.svc")), nil, 700212},
		"no audience":                         {sign(t, jose.RS256, key, "sa", with("aud", nil)), nil, 700212},
		"an old token":                        {sign(t, jose.RS256, key, "sa", with("exp", now-301)), nil, 700024},
		"a token without end":                 {sign(t, jose.RS256, key, "sa", with("exp", 0)), nil, 700024},
		"a token of the future":               {sign(t, jose.RS256, key, "sa", with("nbf", now+301)), nil, 700024},
		"no token":                            {"", nil, 7000218},
		"something else":                      {"a.b.c", nil, 50027},
		"a password":                          {"", func(f url.Values) { f.Set("client_secret", "x") }, 7000215},
		"a user's grant":                      {sign(t, jose.RS256, key, "sa", good), func(f url.Values) { f.Set("grant_type", "refresh_token") }, 700016},
	} {
		f := form(c.assertion)
		if c.change != nil {
			c.change(f)
		}
		_, body := w.post(t, "/oauth2/v2.0/token", f)
		if got := errorCode(body); got != c.code || (c.code == 0) != (body["access_token"] != nil) {
			t.Errorf("%s: got %d %v, want %d", name, got, body["error_description"], c.code)
		}
	}
	// Without a federated credential the identity is unknown at this endpoint.
	w.start(t)
	if _, body := w.post(t, "/oauth2/v2.0/token", form(sign(t, jose.RS256, key, "sa", good))); errorCode(body) != 700016 {
		t.Errorf("an identity that trusts nobody: got %v", body)
	}
}
