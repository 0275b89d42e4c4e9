package entra

import (
	"fmt"
	"slices"
	"strings"
)

// directory answers who and what there is in the tenant. It does not change
// after New, so it needs no lock.
type directory struct {
	usersByID   map[string]*User
	usersByName map[string]*User
	apps        map[string]*App // by client id
	identities  map[string]*ManagedIdentity
	resources   map[string]*resource // by canonical audience and by app id
}

// resource is something that tokens are issued for: an API of the platform or
// an app.
type resource struct {
	name  string
	appID string
	// app is nil for the platform's own APIs.
	app    *App
	scopes []string
}

func newDirectory(c *Config) (*directory, error) {
	d := &directory{usersByID: map[string]*User{}, usersByName: map[string]*User{}, apps: map[string]*App{},
		identities: map[string]*ManagedIdentity{}, resources: map[string]*resource{}}
	for i := range c.Users {
		u := &c.Users[i]
		name := strings.ToLower(u.UPN)
		if d.usersByID[u.ObjectID] != nil || d.usersByName[name] != nil {
			return nil, fmt.Errorf("user %s is defined twice", u.UPN)
		}
		d.usersByID[u.ObjectID], d.usersByName[name] = u, u
	}
	platform := c.Resources
	if platform == nil {
		platform = AzureResources()
	}
	for _, p := range platform {
		r := &resource{name: p.Name, appID: p.AppID, scopes: []string{p.Scope}}
		if err := d.addResource(r, append([]string{p.AppID}, p.URIs...)); err != nil {
			return nil, err
		}
	}
	for i := range c.Apps {
		a := &c.Apps[i]
		if a.ObjectID == "" {
			a.ObjectID = a.ClientID
		}
		if d.apps[a.ClientID] != nil {
			return nil, fmt.Errorf("app %s: client id %s is in use", a.Name, a.ClientID)
		}
		d.apps[a.ClientID] = a
		r := &resource{name: a.Name, appID: a.ClientID, app: a, scopes: a.Scopes}
		if len(r.scopes) == 0 {
			r.scopes = []string{"user_impersonation"}
		}
		if err := d.addResource(r, append([]string{a.ClientID}, a.IdentifierURIs...)); err != nil {
			return nil, err
		}
	}
	for i := range c.ManagedIdentities {
		m := &c.ManagedIdentities[i]
		if d.identities[m.PrincipalID] != nil {
			return nil, fmt.Errorf("managed identity %s: principal id %s is in use", m.Name, m.PrincipalID)
		}
		d.identities[m.PrincipalID] = m
	}
	return d, nil
}

func (d *directory) addResource(r *resource, names []string) error {
	for _, name := range names {
		key := audienceKey(name)
		if d.resources[key] != nil {
			return fmt.Errorf("audience %s of %s is in use", name, r.name)
		}
		d.resources[key] = r
	}
	return nil
}

// audienceKey makes spellings of one audience equal.
func audienceKey(audience string) string {
	return strings.ToLower(strings.TrimRight(audience, "/"))
}

// resource finds what an audience names, or nil.
func (d *directory) resource(audience string) *resource { return d.resources[audienceKey(audience)] }

// user finds a user by object id or sign-in name, or nil.
func (d *directory) user(name string) *User {
	if u := d.usersByID[name]; u != nil {
		return u
	}
	return d.usersByName[strings.ToLower(strings.TrimSpace(name))]
}

// roles returns the roles of r that any of the principals has, sorted, and
// whether there is an assignment at all.
func (r *resource) roles(principals ...string) (roles []string, assigned bool) {
	if r.app == nil {
		return nil, true
	}
	return r.app.rolesOf(principals...)
}

func (a *App) rolesOf(principals ...string) (roles []string, assigned bool) {
	for _, as := range a.Assignments {
		if !slices.Contains(principals, as.PrincipalID) {
			continue
		}
		assigned = true
		if as.Role != "" && !slices.Contains(roles, as.Role) {
			roles = append(roles, as.Role)
		}
	}
	slices.Sort(roles)
	return roles, assigned
}

// principals are the ids under which a user can be assigned.
func (u *User) principals() []string { return append([]string{u.ObjectID}, u.Groups...) }

// mayAsk reports whether the app may obtain tokens for r on behalf of a user.
func (a *App) mayAsk(r *resource) bool {
	return a.FirstParty || r.app == a || r.appID == graphAppID || slices.ContainsFunc(a.Permissions, func(p string) bool {
		return audienceKey(p) == audienceKey(r.appID) || (r.app != nil && slices.ContainsFunc(r.app.IdentifierURIs, func(u string) bool { return audienceKey(u) == audienceKey(p) }))
	})
}
