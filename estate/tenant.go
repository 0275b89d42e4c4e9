package estate

import (
	"context"
	"fmt"

	"verdant/azure/entra"
)

// Application roles and ids of the tenant.
const (
	// issuerRole lets a person issue certificates in the portal.
	issuerRole = "Certificate.Issuer"
	// issueRole lets the portal's identity have certificates signed.
	issueRole = "Certificate.Issue"

	issuanceAudience = "api://dgca-issuance-service"
	databaseAudience = "https://ossrdbms-aad.database.windows.net"
	vaultAudience    = "https://vault.azure.net"
)

// Credential is a demo user's sign-in, as `verdant up` shows it.
type Credential struct {
	UPN      string `json:"upn"`
	Password string `json:"password"`
	Role     string `json:"role"` // what the user may do, in words
}

// credentials derives the demo users' passwords from the root key: they can
// be shown at every start and are kept nowhere.
func credentials(n Names, dir *DataDir) []Credential {
	roles := map[string]string{
		AdminUser:        "administers vaults, roles and logs; may not issue",
		ProfessionalUser: "health professional: issues certificates in the portal",
		AuditorUser:      "reads the audit logs",
		CitizenUser:      "may do nothing",
	}
	var people []Credential
	for _, name := range []string{ProfessionalUser, AdminUser, AuditorUser, CitizenUser} {
		people = append(people, Credential{n.UPN(name), dir.Secret("user/"+name, 16), roles[name]})
	}
	return people
}

// Credentials are the demo users' sign-ins of the estate in a data directory,
// for whoever may open its root key. seal is as for OpenDataDir.
func Credentials(ctx context.Context, dataDir, seal string) ([]Credential, error) {
	variables, ok := SavedVariables(dataDir)
	if !ok {
		return nil, fmt.Errorf("%w: %s holds no estate", ErrOther, dataDir)
	}
	d := &DataDir{Path: dataDir}
	if err := d.load(ctx, variables, seal); err != nil {
		return nil, err
	}
	return credentials(NamesFor(variables), d), nil
}

// portalClientID is the issuance portal's application id.
func (n Names) portalClientID() string { return n.guid("app", "dgca-issuance-web") }

// portalSecret is the portal's client secret; the vault holds it as
// msal-authentication-client-secret.
func portalSecret(dir *DataDir) string { return dir.Secret("msal-authentication-client-secret", 32) }

// tenantConfig describes the demo tenant to the identity service. port is the
// ingress's port on the host, as browsers see it.
func tenantConfig(n Names, dir *DataDir, port string) (entra.Config, error) {
	secret, err := entra.NewSecret(portalSecret(dir))
	if err != nil {
		return entra.Config{}, err
	}
	cfg := entra.Config{
		TenantID: n.v.TenantID, TenantName: "Verdant", Domain: n.v.ParentDNSZone,
		Hosts: []string{n.LoginHost(), n.LoginHost() + ":" + port},
	}
	passwords := map[string]string{}
	for _, c := range credentials(n, dir) {
		passwords[c.UPN] = c.Password
	}
	for _, u := range n.Users() {
		cfg.Users = append(cfg.Users, entra.User{ObjectID: u.ObjectID, UPN: u.UPN, DisplayName: u.Name, Groups: u.Groups, Password: passwords[u.UPN]})
	}
	for _, g := range []Group{n.AdminsGroup(), n.ProfessionalsGroup(), n.AuditorsGroup()} {
		cfg.Groups = append(cfg.Groups, entra.Group{ObjectID: g.ObjectID, DisplayName: g.Name})
	}
	for _, id := range n.Identities() {
		identity := entra.ManagedIdentity{Name: id.Name, ResourceID: id.ResourceID, ClientID: id.ClientID,
			PrincipalID: id.PrincipalID, System: id.System, Location: n.v.Location, Federated: n.federated(id)}
		if id.Name == DeploymentIdentity {
			identity.Groups = []string{n.AdminsGroup().ObjectID}
		}
		cfg.ManagedIdentities = append(cfg.ManagedIdentities, identity)
	}
	portal := "https://" + n.ServiceHost("dgca-issuance-web", IE)
	cfg.Apps = []entra.App{
		{
			ClientID: n.portalClientID(), ObjectID: n.guid("sp", "dgca-issuance-web"), Name: "Issuance portal",
			IdentifierURIs: []string{PortalAudience},
			RedirectURIs:   []string{portal + ":" + port + "/auth/callback", portal + "/auth/callback"},
			Secrets:        []entra.Secret{secret},
			Roles:          []string{issuerRole}, AssignmentRequired: true,
			Assignments: []entra.Assignment{{PrincipalID: n.ProfessionalsGroup().ObjectID, Role: issuerRole}},
		},
		{
			ClientID: n.guid("app", "dgca-issuance-service"), ObjectID: n.guid("sp", "dgca-issuance-service"), Name: "Issuance service",
			IdentifierURIs: []string{issuanceAudience}, Roles: []string{issueRole}, AssignmentRequired: true,
			Assignments: []entra.Assignment{{PrincipalID: n.Identity(IE, "dgca-issuance-web").PrincipalID, Role: issueRole}},
		},
		{ClientID: entra.AzureCLI, Name: "Azure CLI", Public: true, FirstParty: true, RedirectURIs: []string{"http://localhost"}},
	}
	return cfg, nil
}
