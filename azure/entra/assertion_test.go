package entra_test

import (
	"crypto/rand"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"maps"
	"math/big"
	"net/url"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"verdant/azure/entra"
)

func TestAssertionsAreTakenOnlyWhole(t *testing.T) {
	key, err := signingKey()
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "robot"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, func(c *entra.Config) { c.Apps[2].Certificates = []*x509.Certificate{cert} })
	sum := sha1.Sum(der)
	thumb := base64.RawURLEncoding.EncodeToString(sum[:])
	endpoint := "https://" + loginHost + "/" + tenantID + "/oauth2/v2.0/token"
	now := w.now().Unix()
	good := map[string]any{"iss": robotID, "sub": robotID, "aud": endpoint, "exp": now + 600, "nbf": now}
	with := func(name string, value any) map[string]any {
		c := maps.Clone(good)
		c[name] = value
		return c
	}
	for name, c := range map[string]struct {
		claims map[string]any
		alg    jose.SignatureAlgorithm
		key    any
		header map[string]any
		code   int
	}{
		"RS256 with x5t":                      {good, jose.RS256, key, map[string]any{"x5t": thumb}, 0},
		"PS256 with x5t in padded base64":     {good, jose.PS256, key, map[string]any{"x5t": base64.StdEncoding.EncodeToString(sum[:])}, 0},
		"a hexadecimal kid":                   {good, jose.PS256, key, map[string]any{"kid": hex.EncodeToString(sum[:])}, 0},
		"no name of the certificate":          {good, jose.RS256, key, nil, 0},
		"several audiences":                   {with("aud", []string{"x", endpoint}), jose.RS256, key, nil, 0},
		"another certificate's name":          {good, jose.RS256, key, map[string]any{"x5t": base64.RawURLEncoding.EncodeToString(make([]byte, 20))}, 700027},
		"HS256 with the public key as secret": {good, jose.HS256, x509.MarshalPKCS1PublicKey(&key.PublicKey), nil, 50027},
		"RS512":                               {good, jose.RS512, key, nil, 50027},
		"another issuer":                      {with("iss", portalID), jose.RS256, key, nil, 700021},
		"another subject":                     {with("sub", portalID), jose.RS256, key, nil, 700021},
		"another service's endpoint":          {with("aud", "https://evil.test/"+tenantID+"/oauth2/v2.0/token"), jose.RS256, key, nil, 700023},
		"no audience":                         {with("aud", ""), jose.RS256, key, nil, 700023},
		"an end long ago":                     {with("exp", now-301), jose.RS256, key, nil, 700024},
		"no end":                              {with("exp", 0), jose.RS256, key, nil, 700024},
		"an end in a year":                    {with("exp", now+365*24*3600), jose.RS256, key, nil, 700024},
		"a start later":                       {with("nbf", now+301), jose.RS256, key, nil, 700024},
		"claims of the wrong kind":            {with("exp", "soon"), jose.RS256, key, nil, 50027},
	} {
		opts := &jose.SignerOptions{}
		for k, v := range c.header {
			opts.WithHeader(jose.HeaderKey(k), v)
		}
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: c.alg, Key: c.key}, opts)
		if err != nil {
			t.Fatal(err)
		}
		payload, err := json.Marshal(c.claims)
		if err != nil {
			t.Fatal(err)
		}
		jws, err := signer.Sign(payload)
		if err != nil {
			t.Fatal(err)
		}
		assertion, err := jws.CompactSerialize()
		if err != nil {
			t.Fatal(err)
		}
		_, body := w.post(t, "/oauth2/v2.0/token", url.Values{"grant_type": {"client_credentials"}, "client_id": {robotID}, "scope": {"https://vault.azure.net/.default"},
			"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}, "client_assertion": {assertion + "\n"}})
		if got := errorCode(body); got != c.code || (c.code == 0) != (body["access_token"] != nil) {
			t.Errorf("%s: got %d %v, want %d", name, got, body["error_description"], c.code)
		}
	}
}
