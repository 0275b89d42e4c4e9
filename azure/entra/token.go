package entra

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"slices"
	"strings"
	"sync"
	"time"
)

// principal is who a token speaks for and through which client. Exactly one
// of user (with app), app alone, and identity is what the token is about.
type principal struct {
	user     *User
	app      *App // the client; nil for a managed identity
	identity *ManagedIdentity
	// credential is how the client authenticated: "0" not at all, "1" by
	// secret, "2" by certificate.
	credential string
	authTime   time.Time
	// tokenID is the id that the next access token must bear; empty means a
	// new one.
	tokenID string
}

func (p principal) clientID() string {
	if p.identity != nil {
		return p.identity.ClientID
	}
	return p.app.ClientID
}

func (p principal) objectID() string {
	switch {
	case p.user != nil:
		return p.user.ObjectID
	case p.identity != nil:
		return p.identity.PrincipalID
	}
	return p.app.ObjectID
}

func (p principal) groups() []string {
	switch {
	case p.user != nil:
		return p.user.Groups
	case p.identity != nil:
		return p.identity.Groups
	}
	return p.app.Groups
}

// minted is an access token and what is known about it.
type minted struct {
	token, id     string
	from, expires time.Time
	fresh         bool // made now, not taken from the cache
}

func (m minted) seconds(now time.Time) int64 { return max(0, int64(m.expires.Sub(now)/time.Second)) }

const (
	identityLife = 24 * time.Hour
	userLife     = time.Hour // and up to userLifeMore
	userLifeMore = 30 * time.Minute
	idTokenLife  = time.Hour
)

// accessToken makes a token, or finds one made for an application in the last
// minute. It decides about assignment; it does not decide about the client.
func (s *Server) accessToken(ctx context.Context, e exchange, p principal, a ask) (minted, error) {
	roles, err := s.assigned(p, a.resource)
	if err != nil {
		return minted{}, err
	}
	key := ""
	if p.user == nil {
		key = strings.Join([]string{p.objectID(), p.clientID(), p.credential, a.audience}, "\x00")
		if m, ok := s.mint.get(key, e.at); ok {
			return m, nil
		}
	}
	life := userLife + time.Duration(binary.BigEndian.Uint16(s.random(2)))*userLifeMore/(1<<16)
	if p.identity != nil {
		life = identityLife
	}
	m := minted{id: p.tokenID, from: e.at.Truncate(time.Second), fresh: true}
	if m.id == "" {
		m.id = s.newTokenID()
	}
	m.expires = m.from.Add(life)
	version := 1
	if a.resource.app != nil && a.resource.app.V2Tokens {
		version = 2
	}
	claims := s.claims(e, p, version, m.from, m.expires)
	claims["uti"] = m.id
	claims["aud"] = a.audience
	if version == 2 {
		claims["aud"] = a.resource.appID
	}
	if len(roles) > 0 {
		claims["roles"] = roles
	}
	if groups := p.groups(); len(groups) > 0 {
		claims["groups"] = groups
	}
	if p.user != nil {
		claims["scp"] = strings.Join(a.scp(), " ")
	}
	if m.token, err = s.keys.sign(claims); err != nil {
		return minted{}, err
	}
	if key != "" {
		s.mint.put(key, m, e.at)
	}
	return m, nil
}

func (s *Server) newTokenID() string { return base64.RawURLEncoding.EncodeToString(s.random(16)) }

// scp are the delegated permissions of the token. A token for the resource
// that stands for sign-in alone carries the OpenID scopes.
func (a ask) scp() []string {
	if len(a.permissions) > 0 {
		return a.permissions
	}
	return slices.DeleteFunc(strings.Fields(strings.ToLower(a.text)), func(s string) bool { return s == "offline_access" })
}

// assigned returns the principal's roles on the resource, or refuses one that
// needs an assignment and has none.
func (s *Server) assigned(p principal, r *resource) ([]string, error) {
	ids := append([]string{p.objectID()}, p.groups()...)
	roles, ok := r.roles(ids...)
	if ok || !r.app.AssignmentRequired {
		return roles, nil
	}
	if p.user != nil {
		return nil, notAssigned(r.app)
	}
	return nil, fail("invalid_grant", 501051, "Application '%s' is not assigned to a role for the application '%s'(%s).", p.clientID(), r.appID, r.name)
}

func notAssigned(a *App) *failure {
	return fail("access_denied", 50105, "Your administrator has configured the application %s ('%s') to block users unless they are specifically granted ('assigned') access to the application. The signed in user is blocked because they are not a direct member of a group with access, nor had access directly assigned by an administrator. Please contact your administrator to assign access to this application.", a.Name, a.ClientID)
}

// claims are what the tokens of one version about one principal share.
func (s *Server) claims(e exchange, p principal, version int, from, to time.Time) map[string]any {
	c := map[string]any{
		"iss": s.issuer(version), "iat": from.Unix(), "nbf": from.Unix(), "exp": to.Unix(),
		"tid": s.cfg.TenantID, "oid": p.objectID(), "ver": map[int]string{1: "1.0", 2: "2.0"}[version],
		"aio": base64.RawURLEncoding.EncodeToString(s.random(24)), "rh": "0." + base64.RawURLEncoding.EncodeToString(s.random(12)),
	}
	if version == 1 {
		c["appid"], c["appidacr"] = p.clientID(), p.credential
		c["idp"] = s.issuer(1)
	} else {
		c["azp"], c["azpacr"] = p.clientID(), p.credential
	}
	if p.user == nil {
		c["sub"], c["idtyp"] = p.objectID(), "app"
		if p.identity != nil {
			c["xms_mirid"] = p.identity.ResourceID
		}
		return c
	}
	c["sub"], c["idtyp"], c["name"] = s.pairwise(p.clientID(), p.user), "user", p.user.DisplayName
	if e.ip != "" {
		c["ipaddr"] = e.ip
	}
	if version == 1 {
		c["upn"], c["unique_name"] = p.user.UPN, p.user.UPN
		c["acr"], c["amr"] = "1", []string{"pwd"}
		delete(c, "idp")
	} else {
		c["preferred_username"] = p.user.UPN
	}
	return c
}

// pairwise is the user's subject identifier for one client: stable, and
// without meaning to any other.
func (s *Server) pairwise(clientID string, u *User) string {
	sum := sha256.Sum256([]byte("sub\x00" + s.cfg.TenantID + "\x00" + clientID + "\x00" + u.ObjectID))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// idToken makes the ID token of a sign-in.
func (s *Server) idToken(e exchange, p principal, a ask, version int, nonce string) (string, error) {
	from := e.at.Truncate(time.Second)
	c := s.claims(e, p, version, from, from.Add(idTokenLife))
	for _, name := range []string{"appid", "appidacr", "azp", "azpacr", "acr", "idtyp"} {
		delete(c, name)
	}
	c["aud"] = p.app.ClientID
	c["uti"] = s.newTokenID()
	if !p.authTime.IsZero() {
		c["auth_time"] = p.authTime.Unix()
	}
	if nonce != "" {
		c["nonce"] = nonce
	}
	if version == 2 && !a.profile {
		delete(c, "name")
		delete(c, "preferred_username")
	}
	if roles, _ := p.app.rolesOf(p.user.principals()...); len(roles) > 0 {
		c["roles"] = roles
	}
	return s.keys.sign(c)
}

// mintCache gives applications that ask again within a minute the token they
// have: a signature costs about a millisecond.
type mintCache struct {
	mu      sync.Mutex
	entries map[string]minted
}

const (
	mintCacheAge  = time.Minute
	mintCacheSize = 1024
)

func newMintCache() *mintCache { return &mintCache{entries: map[string]minted{}} }

func (c *mintCache) get(key string, now time.Time) (minted, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m, ok := c.entries[key]
	if !ok || !young(m, now) {
		return minted{}, false
	}
	m.fresh = false
	return m, true
}

func (c *mintCache) put(key string, m minted, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.entries) >= mintCacheSize {
		for k, old := range c.entries {
			if !young(old, now) {
				delete(c.entries, k)
			}
		}
	}
	if len(c.entries) < mintCacheSize {
		c.entries[key] = m
	}
}

func young(m minted, now time.Time) bool {
	age := now.Sub(m.from)
	return age >= 0 && age < mintCacheAge
}
