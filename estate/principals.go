package estate

import (
	"strings"

	"verdant/azure/rbac"
)

// Who there is in the tenant, and what each may do. There are two variants, by
// key custody. In direct custody a service signs with a key object and never
// reads a key bundle, and no service reads the vault as a whole: what it needs
// is granted object by object, so that a verifier cannot so much as look at the
// signing key. In mounted custody the roles are the reference deployment's.

// User is a person of the demo tenant.
type User struct {
	ObjectID, UPN, Name string
	Groups              []string // object ids
}

// Group of the demo tenant.
type Group struct {
	ObjectID, Name string
}

// The names of the demo tenant's people.
const (
	AdminUser        = "admin"
	ProfessionalUser = "professional"
	AuditorUser      = "auditor"
	CitizenUser      = "citizen"
)

// UPN is the sign-in name of a demo user.
func (n Names) UPN(user string) string { return user + "@" + n.v.ParentDNSZone }

// AdminsGroup, ProfessionalsGroup and AuditorsGroup are the tenant's groups.
func (n Names) AdminsGroup() Group {
	return Group{n.v.AdministratorGroup, "eudcc-administrators"}
}

// ProfessionalsGroup may issue certificates in the portal.
func (n Names) ProfessionalsGroup() Group {
	return Group{n.guid("group", "professionals"), "health-professionals"}
}

// AuditorsGroup may query the workspaces.
func (n Names) AuditorsGroup() Group { return Group{n.guid("group", "auditors"), "auditors"} }

// Users lists the demo tenant's people. The citizen belongs to no group, so
// that every door can be shown to stay shut.
func (n Names) Users() []User {
	user := func(name, display string, groups ...Group) User {
		u := User{ObjectID: n.guid("user", name), UPN: n.UPN(name), Name: display}
		for _, g := range groups {
			u.Groups = append(u.Groups, g.ObjectID)
		}
		return u
	}
	return []User{
		user(AdminUser, "Aoife Admin", n.AdminsGroup()),
		user(ProfessionalUser, "Niamh Professional", n.ProfessionalsGroup()),
		user(AuditorUser, "Cormac Auditor", n.AuditorsGroup()),
		user(CitizenUser, "Ciara Citizen"),
	}
}

// Identity is a managed identity: a pod's, or that of a platform service.
type Identity struct {
	Name        string
	Region      Region
	ResourceID  string // of the identity, or of the resource that it belongs to
	ClientID    string
	PrincipalID string
	System      bool // assigned by the system to ResourceID
}

// Names of the identities of platform services.
const (
	DatabaseIdentity = "mysql"               // system-assigned, of the MySQL server
	DiskIdentity     = "disk-encryption-set" // of the cluster's disks
	DatabaseAdmin    = "mysql-aadadmin"
	// DeploymentIdentity makes what a deployment makes and looks after it; it
	// is a member of the administrators' group.
	DeploymentIdentity = "deployment"
)

// Identity derives the managed identity called name in a region.
func (n Names) Identity(r Region, name string) Identity {
	id := Identity{Name: name, Region: r,
		ResourceID:  n.ID(r, "Microsoft.ManagedIdentity/userAssignedIdentities", n.ResourceGroup(r)+"-"+name),
		ClientID:    n.guid("client", string(r)+"/"+name),
		PrincipalID: n.guid("principal", string(r)+"/"+name)}
	switch name {
	case DatabaseIdentity:
		id.System, id.ResourceID = true, n.DatabaseID(r)
	case DiskIdentity:
		id.System = true
		id.ResourceID = n.ID(r, "Microsoft.Compute/diskEncryptionSets", n.ResourceGroup(r)+"-aks-des")
	}
	return id
}

// Identities lists every managed identity of the estate.
func (n Names) Identities() []Identity {
	var ids []Identity
	for _, r := range Regions() {
		for _, p := range PodsOf(r) {
			ids = append(ids, n.Identity(r, p.Identity))
		}
		for _, name := range []string{DatabaseIdentity, DiskIdentity, DatabaseAdmin, DeploymentIdentity} {
			ids = append(ids, n.Identity(r, name))
		}
	}
	return ids
}

// Grant is one role assignment of the reference deployment.
type Grant struct {
	Principal string // object id
	Role      string // GUID of the role definition
	Scope     string // ARM id
}

// AssignmentID is the grant's fixed ARM id.
func (n Names) AssignmentID(g Grant) string {
	return g.Scope + "/providers/Microsoft.Authorization/roleAssignments/" + n.guid("assignment", g.Principal+g.Role+g.Scope)
}

// connectorSecrets are what a service needs to talk to the EU gateway.
func connectorSecrets() []string {
	return []string{"trustanchor-content", "dgc-gateway-connector-trustanchor-password", "dgc-gateway-connector-trustanchor-alias",
		"tls-trust-store-content", "dgc-gateway-connector-tlstruststore-password", "dgc-gateway-connector-tlskeystore-alias"}
}

// vaultUse is what one identity may do in its region's vault.
type vaultUse struct {
	reader   bool // reads the description of everything in the vault
	secrets  []string
	signing  []string // certificates whose public part is read and whose key signs
	bundles  []string // certificates that are read with their private key, and looked after
	wrapping []string // keys that wrap and unwrap
}

// mounted reports whether the estate has the reference's key custody.
func (n Names) mounted() bool { return n.v.KeyCustody == CustodyMounted }

func (n Names) vaultUses(r Region) map[string]vaultUse {
	if n.mounted() {
		return referenceUses(r)
	}
	return directUses(r)
}

// referenceUses are the reference deployment's: bundles are mounted into pods,
// so pods may read them.
func referenceUses(r Region) map[string]vaultUse {
	uses := map[string]vaultUse{
		DatabaseIdentity: {wrapping: []string{"mysql-encryption-key"}},
		DiskIdentity:     {wrapping: []string{"aks-encryption-key"}},
	}
	if r == EU {
		uses["dgc-gateway"] = vaultUse{reader: true, secrets: []string{"dgc-trustanchor-certificatealias"}, bundles: []string{"trustanchor"}}
		return uses
	}
	reader := vaultUse{reader: true, secrets: connectorSecrets(), bundles: []string{"tls-key-store"}}
	uses["dgca-businessrule-service"] = reader
	uses["dgca-verifier-service"] = reader
	issuance := vaultUse{reader: true, secrets: append(connectorSecrets(), "dgc-gateway-connector-uploadkeystore-alias", "issuance-certalias"),
		bundles: []string{"tls-key-store", "upload-key-store", "dsc-key-store"}}
	uses["dgca-issuance-service"] = issuance
	uses["dgca-issuance-service-public"] = issuance // alike in the reference
	uses["dgca-issuance-web"] = vaultUse{secrets: []string{"msal-authentication-client-secret"}}
	return uses
}

func directUses(r Region) map[string]vaultUse {
	platform := map[string]vaultUse{
		DatabaseIdentity: {wrapping: []string{"mysql-encryption-key"}},
		DiskIdentity:     {wrapping: []string{"aks-encryption-key"}},
	}
	if r == EU {
		platform["dgc-gateway"] = vaultUse{secrets: []string{"dgc-trustanchor-certificatealias"}, signing: []string{"trustanchor"}}
		return platform
	}
	reader := vaultUse{secrets: connectorSecrets(), signing: []string{"tls-key-store"}}
	platform["dgca-businessrule-service"] = reader
	platform["dgca-verifier-service"] = reader
	platform["dgca-issuance-service"] = vaultUse{
		secrets: append(connectorSecrets(), "dgc-gateway-connector-uploadkeystore-alias", "issuance-certalias"),
		signing: []string{"tls-key-store", "upload-key-store", "dsc-key-store"},
	}
	platform["dgca-issuance-web"] = vaultUse{secrets: []string{"msal-authentication-client-secret"}}
	return platform
}

// Grants lists the role assignments of the reference deployment.
func (n Names) Grants() []Grant {
	grants := []Grant{{n.AdminsGroup().ObjectID, rbac.Owner, n.Subscription()},
		{n.AdminsGroup().ObjectID, rbac.VirtualMachineAdministratorLogin, n.Subscription()}}
	for _, r := range Regions() {
		vault := n.VaultID(r)
		grants = append(grants,
			Grant{n.AdminsGroup().ObjectID, rbac.KeyVaultAdministrator, vault},
			Grant{n.AuditorsGroup().ObjectID, rbac.LogAnalyticsReader, n.WorkspaceID(r)})
		uses := n.vaultUses(r)
		for _, id := range n.Identities() {
			use, ok := uses[id.Name]
			if !ok || id.Region != r {
				continue
			}
			if use.reader {
				grants = append(grants, Grant{id.PrincipalID, rbac.KeyVaultReader, vault})
			}
			for _, name := range use.bundles {
				grants = append(grants,
					Grant{id.PrincipalID, rbac.KeyVaultCertificatesOfficer, vault + "/certificates/" + name},
					Grant{id.PrincipalID, rbac.KeyVaultSecretsUser, vault + "/secrets/" + name},
					Grant{id.PrincipalID, rbac.KeyVaultCryptoUser, vault + "/keys/" + name})
			}
			for _, name := range use.secrets {
				grants = append(grants, Grant{id.PrincipalID, rbac.KeyVaultSecretsUser, vault + "/secrets/" + name})
			}
			for _, name := range use.signing {
				grants = append(grants,
					Grant{id.PrincipalID, rbac.KeyVaultCertificateUser, vault + "/certificates/" + name},
					Grant{id.PrincipalID, rbac.KeyVaultCryptoUser, vault + "/keys/" + name})
			}
			for _, name := range use.wrapping {
				grants = append(grants, Grant{id.PrincipalID, rbac.KeyVaultCryptoServiceEncryption, vault + "/keys/" + name})
			}
		}
	}
	return grants
}

// GrantOf finds the grant of a managed identity on a key, secret or
// certificate of its region's vault.
func (n Names) GrantOf(r Region, identity, object string) (Grant, bool) {
	principal := n.Identity(r, identity).PrincipalID
	for _, g := range n.Grants() {
		if g.Principal == principal && strings.HasSuffix(g.Scope, "/"+object) {
			return g, true
		}
	}
	return Grant{}, false
}

// principalType is what the control plane calls a principal of the tenant; ""
// if it is none.
func (n Names) principalType(objectID string) string {
	for _, g := range n.groups() {
		if g.ObjectID == objectID {
			return "Group"
		}
	}
	for _, u := range n.Users() {
		if u.ObjectID == objectID {
			return "User"
		}
	}
	for _, id := range n.Identities() {
		if id.PrincipalID == objectID {
			return "ServicePrincipal"
		}
	}
	return ""
}
