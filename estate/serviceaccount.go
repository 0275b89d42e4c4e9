package estate

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"verdant/azure/entra"
	"verdant/hsm"
)

// accountTokenLife is how long a service account token lives: it is asked for
// and exchanged in one breath.
const accountTokenLife = 10 * time.Minute

// federationAudience is the audience of tokens that are exchanged at the
// identity service.
const federationAudience = "api://AzureADTokenExchange"

// accountIssuer makes the service account tokens of a region's cluster
// (RFC 7519, as Kubernetes projects them into pods). The identity service
// trusts it for the cluster's own pods.
type accountIssuer struct {
	issuer string
	signer crypto.Signer
	kid    string
	now    func() time.Time
}

func (p *platform) openAccountIssuer(ctx context.Context, tokens *hsm.Software, r Region) (*accountIssuer, error) {
	signer, err := tokens.EnsureSigner(ctx, "service-accounts-"+string(r), hsm.KeySpec{Type: hsm.RSA, Bits: 2048})
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(signer.Public())
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(der)
	return &accountIssuer{issuer: p.names.AccountIssuer(r), signer: signer, kid: hex.EncodeToString(sum[:8]), now: p.now}, nil
}

// AccountIssuer is the issuer of service account tokens of a region's cluster.
func (n Names) AccountIssuer(r Region) string {
	return "https://oidc." + n.v.ParentDNSZone + "/" + n.guid("cluster", string(r)) + "/"
}

// accountSubject is what a pod's service account is called in tokens.
func accountSubject(r Region, pod string) string {
	return "system:serviceaccount:" + string(r) + ":" + pod
}

// token makes a token of a pod's service account.
func (i *accountIssuer) token(r Region, pod string) (string, error) {
	now := i.now()
	part := func(v any) string {
		raw, err := json.Marshal(v)
		if err != nil {
			panic(err) // maps of strings and numbers
		}
		return base64.RawURLEncoding.EncodeToString(raw)
	}
	signed := part(map[string]string{"alg": "RS256", "typ": "JWT", "kid": i.kid}) + "." + part(map[string]any{
		"iss": i.issuer, "sub": accountSubject(r, pod), "aud": []string{federationAudience},
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(accountTokenLife).Unix(),
		"kubernetes.io": map[string]any{"namespace": string(r), "pod": map[string]string{"name": pod}, "serviceaccount": map[string]string{"name": pod}},
	})
	sum := sha256.Sum256([]byte(signed))
	signature, err := i.signer.Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil {
		return "", fmt.Errorf("service account token of %s: %w", pod, err)
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}

// TokenKey lets the identity service check the tokens.
func (i *accountIssuer) TokenKey(_ context.Context, kid string) (*rsa.PublicKey, error) {
	public, ok := i.signer.Public().(*rsa.PublicKey)
	if !ok || kid != i.kid {
		return nil, errors.New("the cluster has no such key")
	}
	return public, nil
}

// federated are the service accounts that stand for an identity: that of the
// one pod whose identity it is, and only where bundles are mounted.
func (n Names) federated(id Identity) []entra.FederatedCredential {
	if !n.mounted() {
		return nil
	}
	for _, p := range PodsOf(id.Region) {
		if p.Identity == id.Name {
			return []entra.FederatedCredential{{Issuer: n.AccountIssuer(id.Region), Subject: accountSubject(id.Region, p.Name), Audience: federationAudience}}
		}
	}
	return nil
}
