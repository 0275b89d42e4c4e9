package rbac

// GUIDs of the built-in roles of a managed HSM's own access control, the same
// in every HSM.
const (
	ManagedHSMAdministrator           = "a290e904-7015-4bba-90c8-60543313cdb4"
	ManagedHSMCryptoOfficer           = "515eb02d-2335-4d2d-92f2-b1cbdf9c3778"
	ManagedHSMCryptoUser              = "21dbd100-6940-42c2-9190-5d6cb909625b"
	ManagedHSMPolicyAdministrator     = "4bd23610-cdcf-4971-bdee-bdc562cc28e4"
	ManagedHSMCryptoAuditor           = "2c18b078-7c48-4d3a-af88-5a3a1b3f82b3"
	ManagedHSMCryptoServiceEncryption = "33413926-3206-4cdd-b39a-83574fe37a17"
	ManagedHSMCryptoServiceRelease    = "21dbd100-6940-42c2-9190-5d6cb909625c"
	ManagedHSMBackup                  = "7b127d3c-77bd-4e3e-bbe0-dbb8971fa7f8"
	ManagedHSMRestore                 = "6efe6056-5259-49d2-8b3d-d3d73544b20b"
)

// hsmAction is the beginning of every data action of a managed HSM.
const hsmAction = "Microsoft.KeyVault/managedHsm/"

// ManagedHSMActions lists the data actions that a managed HSM knows. A custom
// role of an HSM names some of these.
func ManagedHSMActions() []string {
	return hsmActions(
		"keys/read/action", "keys/write/action", "keys/create", "keys/delete", "keys/rotate/action", "keys/import/action", "keys/export/action",
		"keys/release/action", "keys/backup/action", "keys/restore/action", "keys/encrypt/action", "keys/decrypt/action", "keys/wrap/action",
		"keys/unwrap/action", "keys/sign/action", "keys/verify/action", "keys/derive/action",
		"keys/deletedKeys/read/action", "keys/deletedKeys/recover/action", "keys/deletedKeys/delete",
		"roleAssignments/read/action", "roleAssignments/write/action", "roleAssignments/delete/action",
		"roleDefinitions/read/action", "roleDefinitions/write/action", "roleDefinitions/delete/action",
		"securitydomain/download/action", "securitydomain/download/read", "securitydomain/upload/action", "securitydomain/upload/read",
		"securitydomain/transferkey/read", "backup/start/action", "backup/status/action", "restore/start/action", "restore/status/action",
		"settings/read/action", "settings/write/action", "rng/action")
}

func hsmActions(names ...string) []string {
	out := make([]string, len(names))
	for i, name := range names {
		out[i] = hsmAction + name
	}
	return out
}

// ManagedHSM returns the nine built-in roles of a managed HSM ("Local RBAC
// built-in roles for Managed HSM"). An administrator manages roles, the
// security domain and backups and cannot use a key; a crypto user uses keys
// and cannot give roles away.
func ManagedHSM() []RoleDefinition {
	manageRoles := []string{"roleAssignments/delete/action", "roleAssignments/read/action", "roleAssignments/write/action",
		"roleDefinitions/read/action", "roleDefinitions/write/action", "roleDefinitions/delete/action"}
	role := func(id, name string, actions ...string) RoleDefinition {
		return RoleDefinition{ID: id, Name: "Managed HSM " + name, DataActions: hsmActions(actions...)}
	}
	with := func(more ...string) []string { return append(append([]string{}, manageRoles...), more...) }
	return []RoleDefinition{
		role(ManagedHSMAdministrator, "Administrator", with("securitydomain/download/action", "securitydomain/download/read", "securitydomain/upload/action",
			"securitydomain/upload/read", "securitydomain/transferkey/read", "backup/start/action", "restore/start/action", "backup/status/action",
			"restore/status/action", "settings/read/action", "settings/write/action")...),
		role(ManagedHSMCryptoOfficer, "Crypto Officer", with("keys/deletedKeys/read/action", "keys/deletedKeys/delete", "keys/deletedKeys/recover/action", "keys/export/action")...),
		role(ManagedHSMCryptoUser, "Crypto User", "roleDefinitions/read/action", "roleAssignments/read/action", "keys/read/action", "keys/write/action", "keys/delete",
			"keys/create", "keys/rotate/action", "keys/import/action", "keys/release/action", "keys/backup/action", "keys/restore/action", "keys/encrypt/action",
			"keys/decrypt/action", "keys/wrap/action", "keys/unwrap/action", "keys/sign/action", "keys/verify/action", "keys/derive/action", "rng/action"),
		role(ManagedHSMPolicyAdministrator, "Policy Administrator", manageRoles...),
		role(ManagedHSMCryptoAuditor, "Crypto Auditor", "roleAssignments/read/action", "roleDefinitions/read/action", "keys/read/action", "keys/deletedKeys/read/action"),
		role(ManagedHSMCryptoServiceRelease, "Crypto Service Release User", "keys/release/action"),
		role(ManagedHSMCryptoServiceEncryption, "Crypto Service Encryption User", "keys/read/action", "keys/wrap/action", "keys/unwrap/action"),
		role(ManagedHSMBackup, "Backup User", "backup/start/action", "backup/status/action", "keys/backup/action"),
		role(ManagedHSMRestore, "Restore User", "restore/start/action", "restore/status/action", "keys/restore/action"),
	}
}
