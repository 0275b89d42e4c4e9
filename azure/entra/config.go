package entra

import (
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// Config describes the tenant. It is copied by New.
type Config struct {
	// TenantID is the tenant's GUID.
	TenantID string
	// TenantName is what the sign-in page calls the organisation.
	TenantName string
	// Domain is the tenant's verified domain; it may stand for the tenant in
	// a path, as "common" and "organizations" may.
	Domain string
	// Hosts are the host names, with a port where it is not 443, at which the
	// service answers. The first is canonical: every issuer is made from it.
	Hosts []string
	// Users, Groups, Apps and ManagedIdentities are the directory.
	Users             []User
	Groups            []Group
	Apps              []App
	ManagedIdentities []ManagedIdentity
	// Resources are the APIs of the platform that tokens can be asked for;
	// nil means AzureResources. Apps are resources too.
	Resources []Resource
}

// User is a person who can sign in.
type User struct {
	ObjectID    string
	UPN         string // sign-in name, compared without regard to case
	DisplayName string
	Groups      []string // object ids
	// Password is the initial password. Its hash is made once and kept in the
	// database; changing it here later has no effect. Empty together with
	// PasswordHash means that the user cannot sign in with a password.
	Password string
	// PasswordHash is the initial password's hash as HashPassword writes it.
	PasswordHash string
	// Disabled users are refused (AADSTS50057).
	Disabled bool
}

// Group is a set of users, or of service principals.
type Group struct {
	ObjectID, DisplayName string
}

// App is a registered application together with its service principal.
type App struct {
	ClientID string // application id
	// ObjectID is the service principal's; empty means ClientID.
	ObjectID string
	Name     string
	// IdentifierURIs are the audiences under which the app is a resource,
	// such as "api://dgca-issuance-web".
	IdentifierURIs []string
	// RedirectURIs are where browsers may be sent. One with the host
	// "localhost" or a loopback address matches every port.
	RedirectURIs []string
	// Public apps cannot keep a credential: they must use PKCE and may not
	// present one.
	Public bool
	// Secrets and Certificates are the credentials of an app that is not
	// public; public parts and digests only.
	Secrets      []Secret
	Certificates []*x509.Certificate
	// Roles are the app roles that can be assigned.
	Roles []string
	// Scopes are the delegated permissions that the app offers as a resource.
	Scopes []string
	// AssignmentRequired refuses principals without an assignment
	// (AADSTS50105 for users, AADSTS501051 for applications).
	AssignmentRequired bool
	// Assignments say who has which role.
	Assignments []Assignment
	// Permissions are the resources, by identifier URI, for which the app may
	// obtain tokens on behalf of a user without asking. The app itself and
	// the OpenID scopes are always allowed.
	Permissions []string
	// FirstParty apps may obtain tokens for every resource.
	FirstParty bool
	// V2Tokens makes access tokens for this app version 2; the default is 1.
	V2Tokens bool
	// Groups are the groups of the service principal.
	Groups []string
}

// Assignment gives a principal (user, group, or service principal) an app
// role. The empty role is the default access.
type Assignment struct {
	PrincipalID, Role string
}

// Secret is a client secret's digest.
type Secret struct {
	// Digest is the secret's SHA-256. A secret has at least 32 random
	// characters, so a fast digest is enough.
	Digest [sha256.Size]byte
	// Expires is when it ends; zero means never.
	Expires time.Time
}

// NewSecret returns the digest of a secret for an App.
func NewSecret(secret string) (Secret, error) {
	if len(secret) < 32 {
		return Secret{}, fmt.Errorf("client secret has %d characters: use at least 32 random ones", len(secret))
	}
	return Secret{Digest: sha256.Sum256([]byte(secret))}, nil
}

// ManagedIdentity is a service principal whose tokens only the platform hands
// out.
type ManagedIdentity struct {
	Name string
	// ResourceID is the ARM id of the identity or, if System, of the resource
	// that it belongs to.
	ResourceID  string
	ClientID    string
	PrincipalID string
	System      bool
	// Location is reported by the instance metadata.
	Location string
	Groups   []string
	// Federated are the tokens of other issuers that stand for this identity at
	// the token endpoint. Without any, its tokens come from the metadata service
	// alone.
	Federated []FederatedCredential
}

// Resource is an API of the platform that tokens can be asked for.
type Resource struct {
	Name  string
	AppID string
	// URIs are the audiences; a trailing slash does not matter.
	URIs []string
	// Scope is the delegated permission that users' tokens carry.
	Scope string
}

// Client ids of Microsoft's own clients, which users expect to be known.
const (
	AzureCLI        = "04b07795-8ddb-461a-bbee-02f9e1bf7b46"
	AzurePowerShell = "1950a258-227b-4e31-a9cf-717495945fc2"
)

const graphAppID = "00000003-0000-0000-c000-000000000000"

// AzureResources lists the APIs of Azure that the platform stands for.
func AzureResources() []Resource {
	return []Resource{
		{"Azure Key Vault", "cfa8b339-82a2-471a-a3c9-0fc0be7a4093", []string{"https://vault.azure.net"}, "user_impersonation"},
		{"Azure Key Vault Managed HSM", "589d5083-6f11-4d30-a62a-a4b316a14abf", []string{"https://managedhsm.azure.net"}, "user_impersonation"},
		{"Windows Azure Service Management API", "797f4846-ba00-4fd7-ba43-dac1f8f63013",
			[]string{"https://management.azure.com/", "https://management.core.windows.net/"}, "user_impersonation"},
		{"Log Analytics API", "ca7f3f0b-7d91-482c-8e09-c5d840d0eac5",
			[]string{"https://api.loganalytics.io", "https://api.loganalytics.azure.com"}, "Data.Read"},
		{"Azure OSSRDBMS Database", "123cd850-d9df-40bd-94d5-c9f07b7fa203",
			[]string{"https://ossrdbms-aad.database.windows.net"}, "user_impersonation"},
		{"Azure Container Registry", "6a0ec4d3-30cb-4a83-91c0-ae56bc0e3d26", []string{"https://containerregistry.azure.net"}, "user_impersonation"},
		{"Azure Monitor", "6f2d169c-08f3-4a4c-a982-bcaf2d038c45", []string{"https://monitor.azure.com"}, "user_impersonation"},
		{"Microsoft Graph", graphAppID, []string{"https://graph.microsoft.com"}, "User.Read"},
	}
}

// maxGroups is the most groups that a token can carry; Entra replaces more by
// a link, which is not built.
const maxGroups = 200

var guidPattern = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

func (c *Config) check() error {
	var errs []error
	complain := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	guid := func(what, id string) {
		if !guidPattern.MatchString(id) {
			complain("%s %q is not a lower-case GUID", what, id)
		}
	}
	guid("TenantID", c.TenantID)
	if len(c.Hosts) == 0 {
		complain("Hosts is empty: name the host of the issuer")
	}
	for _, h := range c.Hosts {
		if u, err := url.Parse("https://" + h); err != nil || u.Host != h || h != strings.ToLower(h) || h == "" {
			complain("host %q is not a lower-case host name with an optional port", h)
		}
	}
	for _, u := range c.Users {
		guid("object id of user "+u.UPN, u.ObjectID)
		if len(u.Groups) > maxGroups {
			complain("user %s is in %d groups, a token carries at most %d", u.UPN, len(u.Groups), maxGroups)
		}
	}
	for _, g := range c.Groups {
		guid("object id of group "+g.DisplayName, g.ObjectID)
	}
	for i := range c.Apps {
		errs = append(errs, c.Apps[i].check())
	}
	for _, m := range c.ManagedIdentities {
		guid("client id of identity "+m.Name, m.ClientID)
		guid("principal id of identity "+m.Name, m.PrincipalID)
	}
	return errors.Join(errs...)
}

func (a *App) check() error {
	if !guidPattern.MatchString(a.ClientID) {
		return fmt.Errorf("client id %q of app %s is not a lower-case GUID", a.ClientID, a.Name)
	}
	if a.Public && len(a.Secrets)+len(a.Certificates) > 0 {
		return fmt.Errorf("app %s is public and has credentials: choose one", a.Name)
	}
	for _, raw := range a.RedirectURIs {
		u, err := url.Parse(raw)
		switch {
		case err != nil || u.Scheme == "" || u.Fragment != "" || u.User != nil:
			return fmt.Errorf("redirect address %q of app %s is not an absolute URL without fragment", raw, a.Name)
		case u.Scheme == "http" && !loopback(u.Hostname()), u.Scheme != "http" && u.Scheme != "https":
			return fmt.Errorf("redirect address %q of app %s: only https, or http on a loopback address", raw, a.Name)
		}
	}
	for _, cert := range a.Certificates {
		if cert == nil || cert.PublicKeyAlgorithm != x509.RSA {
			return fmt.Errorf("app %s has a certificate without an RSA key", a.Name)
		}
	}
	return nil
}
