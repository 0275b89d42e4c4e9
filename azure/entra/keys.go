package entra

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/go-jose/go-jose/v4"
)

// keyRing signs tokens with one key and publishes several. A key's id is its
// RFC 7638 thumbprint, so it is the same for ever.
type keyRing struct {
	signer  crypto.Signer
	kid     string
	publics map[string]*rsa.PublicKey
	set     jose.JSONWebKeySet
}

func newKeyRing(signer crypto.Signer, published []*rsa.PublicKey) (*keyRing, error) {
	active, ok := signer.Public().(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("signing key is a %T: use an RSA key", signer.Public())
	}
	k := &keyRing{signer: signer, publics: map[string]*rsa.PublicKey{}}
	for i, public := range append([]*rsa.PublicKey{active}, published...) {
		if public.N.BitLen() < 2048 {
			return nil, fmt.Errorf("signing key has %d bits: use at least 2048", public.N.BitLen())
		}
		jwk := jose.JSONWebKey{Key: public, Use: "sig", Algorithm: string(jose.RS256)}
		sum, err := jwk.Thumbprint(crypto.SHA256)
		if err != nil {
			return nil, fmt.Errorf("thumbprint of the signing key: %w", err)
		}
		jwk.KeyID = base64.RawURLEncoding.EncodeToString(sum)
		if k.publics[jwk.KeyID] != nil {
			continue
		}
		if i == 0 {
			k.kid = jwk.KeyID
		}
		k.publics[jwk.KeyID] = public
		k.set.Keys = append(k.set.Keys, jwk)
	}
	return k, nil
}

func (k *keyRing) public(kid string) (*rsa.PublicKey, error) {
	if key := k.publics[kid]; key != nil {
		return key, nil
	}
	return nil, errors.New("no signing key has this id")
}

// sign makes a compact JWT.
func (k *keyRing) sign(claims map[string]any) (string, error) {
	h, err := json.Marshal(map[string]string{"typ": "JWT", "alg": string(jose.RS256), "kid": k.kid})
	if err != nil {
		return "", err
	}
	c, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	input := base64.RawURLEncoding.EncodeToString(h) + "." + base64.RawURLEncoding.EncodeToString(c)
	digest := sha256.Sum256([]byte(input))
	// PKCS #1 v1.5 signatures take no randomness.
	signature, err := k.signer.Sign(nil, digest[:], crypto.SHA256)
	if err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	return input + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}
