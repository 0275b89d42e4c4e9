package rest

import (
	"cmp"
	"context"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Caller is who a verified access token speaks for. Authorise on TenantID and
// ObjectID; names are for people.
type Caller struct {
	TenantID string // tid
	ObjectID string // oid of the user, service principal or managed identity
	AppID    string // appid or azp: the client application
	Name     string // upn or preferred_username; empty for applications
	Issuer   string
	Audience string
	Groups   []string // object ids of the groups in the token
	Roles    []string // app roles
	Scopes   []string // delegated scopes
	// MIResource is the ARM id of the managed identity or its host (xms_mirid).
	MIResource string
	// App is true for app-only tokens (idtyp "app").
	App bool
	// TokenID is the token's unique id (uti).
	TokenID string
	// Expires is when the token ends.
	Expires time.Time
}

// KeySource finds the public key that an issuer signs tokens with.
type KeySource interface {
	// TokenKey returns the key with the given id, or an error that says it is
	// unknown.
	TokenKey(ctx context.Context, kid string) (*rsa.PublicKey, error)
}

// Verifier checks access tokens. The zero value refuses everything.
type Verifier struct {
	// Issuers are the iss values accepted.
	Issuers []string
	// Audiences are the aud values accepted. A trailing slash does not matter.
	Audiences []string
	// Keys finds signing keys.
	Keys KeySource
	// Now is the clock; nil refuses every token.
	Now func() time.Time
}

// Skew is how far apart the issuer's clock and ours may be.
const Skew = 5 * time.Minute

// ErrToken is wrapped by every refusal of a token.
var ErrToken = errors.New("access token refused")

// maxToken bounds a token; Azure's own limit on a header line is near 16 kB.
const maxToken = 16 << 10

type claims struct {
	Issuer    string   `json:"iss"`
	Audience  string   `json:"aud"`
	Expires   int64    `json:"exp"`
	NotBefore int64    `json:"nbf"`
	TenantID  string   `json:"tid"`
	ObjectID  string   `json:"oid"`
	AppID     string   `json:"appid"`
	AZP       string   `json:"azp"`
	UPN       string   `json:"upn"`
	Preferred string   `json:"preferred_username"`
	Groups    []string `json:"groups"`
	Roles     []string `json:"roles"`
	Scopes    string   `json:"scp"`
	Type      string   `json:"idtyp"`
	MIRID     string   `json:"xms_mirid"`
	UTI       string   `json:"uti"`
}

// Verify checks token and returns its caller. The error says what was wrong,
// never what the token said.
func (v *Verifier) Verify(ctx context.Context, token string) (Caller, error) {
	refuse := func(format string, args ...any) (Caller, error) {
		return Caller{}, fmt.Errorf("%w: %s", ErrToken, fmt.Sprintf(format, args...))
	}
	if v.Keys == nil || v.Now == nil {
		return refuse("this service has no keys to check it with")
	}
	if len(token) > maxToken {
		return refuse("longer than %d bytes", maxToken)
	}
	jws, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil || len(jws.Signatures) != 1 {
		return refuse("not a JWT signed with RS256")
	}
	key, err := v.Keys.TokenKey(ctx, jws.Signatures[0].Header.KeyID)
	if err != nil {
		return refuse("signed with a key that the issuer does not publish")
	}
	payload, err := jws.Verify(key)
	if err != nil {
		return refuse("signature does not verify")
	}
	var c claims
	if err := json.Unmarshal(payload, &c); err != nil {
		return refuse("claims are not well formed")
	}
	now := v.Now()
	expires := time.Unix(c.Expires, 0)
	switch {
	case !slices.Contains(v.Issuers, c.Issuer):
		return refuse("issuer is not trusted")
	case !v.accepts(c.Audience):
		return refuse("audience is another service")
	case !now.Before(expires.Add(Skew)):
		return refuse("expired")
	case c.NotBefore != 0 && now.Add(Skew).Before(time.Unix(c.NotBefore, 0)):
		return refuse("not valid yet")
	case c.ObjectID == "" || c.TenantID == "":
		return refuse("has no oid or tid claim")
	}
	return c.caller(expires), nil
}

func (v *Verifier) accepts(audience string) bool {
	audience = strings.TrimRight(audience, "/")
	return audience != "" && slices.ContainsFunc(v.Audiences, func(a string) bool {
		return strings.TrimRight(a, "/") == audience
	})
}

func (c claims) caller(expires time.Time) Caller {
	return Caller{
		TenantID: c.TenantID, ObjectID: c.ObjectID, AppID: cmp.Or(c.AppID, c.AZP), Name: cmp.Or(c.UPN, c.Preferred),
		Issuer: c.Issuer, Audience: c.Audience, Groups: c.Groups, Roles: c.Roles,
		Scopes: strings.Fields(c.Scopes), MIResource: c.MIRID, App: c.Type == "app", TokenID: c.UTI, Expires: expires,
	}
}

// Bearer returns the bearer token of a request, or false without one.
func Bearer(r *http.Request) (string, bool) {
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") || token == "" {
		return "", false
	}
	return strings.TrimSpace(token), true
}

type callerKey struct{}

// WithCaller returns a context that carries a verified caller.
func WithCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// CallerFrom returns the verified caller of a request's context.
func CallerFrom(ctx context.Context) (Caller, bool) {
	c, ok := ctx.Value(callerKey{}).(Caller)
	return c, ok
}
