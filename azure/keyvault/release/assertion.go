package release

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

var (
	// ErrAssertion is wrapped for a token that is refused. The text says why,
	// never what the token said.
	ErrAssertion = errors.New("attestation token refused")
	// ErrUnreachable is wrapped when an authority that is trusted does not
	// answer as an authority does.
	ErrUnreachable = errors.New("the attestation authority cannot be reached")
)

const (
	maxToken = 64 << 10
	maxKeys  = 256 << 10 // the authority's answers
	// skew is how far apart the authority's clock and ours may be.
	skew = 5 * time.Minute
	// keysAge is how long an authority's keys serve; keysPause the least time
	// between two fetches, so that invented key ids cost it nothing.
	keysAge      = time.Hour
	keysPause    = 10 * time.Second
	fetchWithin  = 10 * time.Second
	minTargetKey = 2048 // bits of the environment's key
	maxTargetKey = 8192
)

// Assertion is what an authority attested of an environment.
type Assertion struct {
	authority string
	claims    map[string]any
	key       *rsa.PublicKey
	keyID     string
}

// Key is the public key, and its id, of which the authority says that only the
// environment has the private one.
func (a *Assertion) Key() (key *rsa.PublicKey, id string) { return a.key, a.keyID }

// Verifier checks attestation tokens. It is safe for concurrent use.
type Verifier struct {
	client *http.Client
	now    func() time.Time
	known  map[string]*authority
}

// NewVerifier trusts the given authorities: https origins that publish OpenID
// Connect metadata (OpenID Connect Discovery 1.0 section 4) on their own host.
// They are asked through client, without following redirects. now is the
// clock.
func NewVerifier(authorities []string, client *http.Client, now func() time.Time) (*Verifier, error) {
	v := &Verifier{now: now, known: map[string]*authority{}}
	for _, address := range authorities {
		origin, err := Origin(address)
		if err != nil {
			return nil, fmt.Errorf("attestation authority %.100q: %w", address, err)
		}
		v.known[origin] = &authority{origin: origin}
	}
	if client == nil && len(v.known) > 0 {
		return nil, errors.New("attestation authorities need an HTTP client to reach them")
	}
	if client != nil {
		straight := *client
		straight.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		v.client = &straight
	}
	return v, nil
}

// Trusts reports whether the verifier was made with the authority.
func (v *Verifier) Trusts(origin string) bool { return v.known[origin] != nil }

// Verify checks a token and what it must have to be released to.
func (v *Verifier) Verify(ctx context.Context, token string) (*Assertion, error) {
	refuse := func(why string) (*Assertion, error) { return nil, fmt.Errorf("%w: %s", ErrAssertion, why) }
	if len(token) > maxToken {
		return refuse("too long")
	}
	jws, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512})
	if err != nil || len(jws.Signatures) != 1 {
		return refuse("not a JSON web token with a signature of a public key")
	}
	// The issuer is read before it is believed, to know whose keys to take: a
	// lie here makes the signature fail.
	var said struct {
		Issuer string `json:"iss"`
	}
	if err := json.Unmarshal(jws.UnsafePayloadWithoutVerification(), &said); err != nil {
		return refuse("its payload is no JSON object")
	}
	origin, err := Origin(said.Issuer)
	if err != nil || v.known[origin] == nil {
		return refuse("issued by an authority that this vault does not trust")
	}
	key, err := v.key(ctx, v.known[origin], jws.Signatures[0].Header.KeyID)
	if err != nil {
		return nil, err
	}
	payload, err := jws.Verify(key)
	if err != nil {
		return refuse("its signature does not verify")
	}
	claims, err := claimsOf(payload)
	if err != nil {
		return refuse("its payload is no JSON object")
	}
	if err := v.inTime(claims); err != nil {
		return nil, err
	}
	a := &Assertion{authority: origin, claims: claims}
	if a.key, a.keyID, err = targetKey(claims); err != nil {
		return nil, err
	}
	return a, nil
}

func claimsOf(payload []byte) (map[string]any, error) {
	in := json.NewDecoder(bytes.NewReader(payload))
	in.UseNumber()
	var claims map[string]any
	if err := in.Decode(&claims); err != nil {
		return nil, err
	}
	if claims == nil {
		return nil, errors.New("null")
	}
	return claims, nil
}

// inTime checks exp, which must be there, and nbf (RFC 7519 section 4.1).
func (v *Verifier) inTime(claims map[string]any) error {
	at := func(name string) (time.Time, bool, error) {
		value, there := claims[name]
		if !there {
			return time.Time{}, false, nil
		}
		number, _ := value.(json.Number)
		seconds, err := number.Float64()
		if err != nil || seconds < 0 || seconds > 1<<40 {
			return time.Time{}, true, fmt.Errorf("%w: its %s is no time", ErrAssertion, name)
		}
		return time.Unix(int64(seconds), 0), true, nil
	}
	expires, there, err := at("exp")
	if err != nil {
		return err
	}
	if now := v.now(); !there || now.After(expires.Add(skew)) {
		return fmt.Errorf("%w: it has expired, or never does", ErrAssertion)
	}
	begins, there, err := at("nbf")
	if err == nil && there && v.now().Add(skew).Before(begins) {
		err = fmt.Errorf("%w: it is not valid yet", ErrAssertion)
	}
	return err
}

// webKey is a JSON web key with what is read of it.
type webKey struct {
	KID    string   `json:"kid"`
	Type   string   `json:"kty"`
	Use    string   `json:"use"`
	KeyUse string   `json:"key_use"`
	Ops    []string `json:"key_ops"`
	N      string   `json:"n"`
	E      string   `json:"e"`
	Curve  string   `json:"crv"`
	X      string   `json:"x"`
	Y      string   `json:"y"`
	X5C    []string `json:"x5c"`
}

// targetKey is the first key of the claim x-ms-runtime/keys that is for
// encryption.
func targetKey(claims map[string]any) (*rsa.PublicKey, string, error) {
	runtime, _ := claims["x-ms-runtime"].(map[string]any)
	raw, err := json.Marshal(runtime["keys"])
	var keys []webKey
	if err == nil {
		err = json.Unmarshal(raw, &keys)
	}
	if err != nil {
		return nil, "", fmt.Errorf("%w: its x-ms-runtime/keys is no list of keys", ErrAssertion)
	}
	for _, k := range keys {
		if k.Type != "RSA" || k.KeyUse != "enc" && k.Use != "enc" && !slices.Contains(k.Ops, "encrypt") {
			continue
		}
		key, err := k.rsa()
		if err != nil || key.N.BitLen() < minTargetKey || key.N.BitLen() > maxTargetKey {
			return nil, "", fmt.Errorf("%w: the environment's key is no RSA key of %d to %d bits", ErrAssertion, minTargetKey, maxTargetKey)
		}
		return key, k.KID, nil
	}
	return nil, "", fmt.Errorf("%w: it names no key of the environment for encryption", ErrAssertion)
}

var errKey = errors.New("a key that is not usable")

func (k webKey) rsa() (*rsa.PublicKey, error) {
	n, errN := base64.RawURLEncoding.DecodeString(strings.TrimRight(k.N, "="))
	e, errE := base64.RawURLEncoding.DecodeString(strings.TrimRight(k.E, "="))
	exponent := new(big.Int).SetBytes(e)
	if errN != nil || errE != nil || len(n) == 0 || len(n) > maxTargetKey/8+1 || !exponent.IsInt64() || exponent.Int64() < 3 || exponent.Int64() > 1<<31-1 || exponent.Bit(0) == 0 {
		return nil, errKey
	}
	return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(exponent.Int64())}, nil
}

// public is the key, or that of its certificate: Microsoft's attestation
// service publishes nothing else.
func (k webKey) public() (any, error) {
	switch {
	case k.Type == "RSA" && k.N != "":
		return k.rsa()
	case k.Type == "EC" && k.X != "":
		curve := map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()}[k.Curve]
		x, errX := base64.RawURLEncoding.DecodeString(k.X)
		y, errY := base64.RawURLEncoding.DecodeString(k.Y)
		if curve == nil || errX != nil || errY != nil || len(x) != len(y) {
			return nil, errKey
		}
		return ecdsa.ParseUncompressedPublicKey(curve, append(append([]byte{4}, x...), y...))
	case len(k.X5C) > 0:
		der, err := base64.StdEncoding.DecodeString(k.X5C[0])
		if err != nil {
			return nil, errKey
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, errKey
		}
		return c.PublicKey, nil
	}
	return nil, errKey
}

// authority is one that is trusted, with the keys it published last.
type authority struct {
	origin string

	mu      sync.Mutex
	keys    map[string]any
	fetched time.Time // of the last success
	asked   time.Time // of the last attempt
}

// key finds the authority's key of an id, asking the authority when it is not
// known.
func (v *Verifier) key(ctx context.Context, a *authority, kid string) (any, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := v.now()
	key, fresh := a.keys[kid], now.Sub(a.fetched) < keysAge
	if key != nil && fresh {
		return key, nil
	}
	if a.asked.IsZero() || now.Sub(a.asked) >= keysPause {
		keys, err := v.fetch(ctx, a.origin)
		if ctx.Err() == nil {
			a.asked = now // a caller who went away has not used up the others' attempt
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrUnreachable, a.origin, err)
		}
		a.keys, a.fetched = keys, now
	}
	if key, fresh = a.keys[kid], now.Sub(a.fetched) < keysAge; key == nil || !fresh {
		return nil, fmt.Errorf("%w: signed with a key that its authority does not publish", ErrAssertion)
	}
	return key, nil
}

// fetch reads the authority's metadata and keys. It goes to no other host than
// the authority's.
func (v *Verifier) fetch(ctx context.Context, origin string) (map[string]any, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchWithin)
	defer cancel()
	var metadata struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}
	if err := v.get(ctx, origin+"/.well-known/openid-configuration", &metadata); err != nil {
		return nil, err
	}
	if issuer, err := Origin(metadata.Issuer); err != nil || issuer != origin {
		return nil, errors.New("its metadata is of another issuer")
	}
	if !strings.HasPrefix(strings.ToLower(metadata.Keys), origin+"/") {
		return nil, errors.New("its keys are on another host")
	}
	var set struct {
		Keys []webKey `json:"keys"`
	}
	if err := v.get(ctx, metadata.Keys, &set); err != nil {
		return nil, err
	}
	keys := map[string]any{}
	for _, k := range set.Keys {
		if k.Use == "enc" {
			continue
		}
		if public, err := k.public(); err == nil {
			keys[k.KID] = public
		}
	}
	return keys, nil
}

func (v *Verifier) get(ctx context.Context, address string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	r, err := v.client.Do(req)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	body, err := io.ReadAll(io.LimitReader(r.Body, maxKeys+1))
	switch {
	case err != nil:
		return err
	case r.StatusCode != http.StatusOK:
		return fmt.Errorf("it answers with status %d", r.StatusCode)
	case len(body) > maxKeys:
		return fmt.Errorf("it answers with more than %d bytes", maxKeys)
	}
	return json.Unmarshal(body, into)
}
