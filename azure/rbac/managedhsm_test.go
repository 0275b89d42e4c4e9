package rbac_test

import (
	"slices"
	"strings"
	"testing"

	"verdant/azure/rbac"
)

func TestBuiltInRolesOfAManagedHSMGiveWhatTheirTableSays(t *testing.T) {
	// Columns: Administrator, Crypto Officer, Crypto User, Policy Administrator,
	// Crypto Service Encryption User, Backup, Crypto Auditor, Release, Restore.
	columns := []string{rbac.ManagedHSMAdministrator, rbac.ManagedHSMCryptoOfficer, rbac.ManagedHSMCryptoUser, rbac.ManagedHSMPolicyAdministrator,
		rbac.ManagedHSMCryptoServiceEncryption, rbac.ManagedHSMBackup, rbac.ManagedHSMCryptoAuditor, rbac.ManagedHSMCryptoServiceRelease, rbac.ManagedHSMRestore}
	table := map[string]string{
		"securitydomain/download/action": "X........", "securitydomain/download/read": "X........", "securitydomain/upload/action": "X........",
		"securitydomain/upload/read": "X........", "securitydomain/transferkey/read": "X........",
		"keys/read/action": "..X.X.X..", "keys/write/action": "..X......", "keys/rotate/action": "..X......", "keys/create": "..X......", "keys/delete": "..X......",
		"keys/deletedKeys/read/action": ".X....X..", "keys/deletedKeys/recover/action": ".X.......", "keys/deletedKeys/delete": ".X.......",
		"keys/backup/action": "..X..X...", "keys/restore/action": "..X.....X", "keys/release/action": "..X....X.", "keys/import/action": "..X......",
		"keys/export/action": ".X.......", "keys/derive/action": "..X......", "rng/action": "..X......",
		"keys/encrypt/action": "..X......", "keys/decrypt/action": "..X......", "keys/wrap/action": "..X.X....", "keys/unwrap/action": "..X.X....",
		"keys/sign/action": "..X......", "keys/verify/action": "..X......",
		"roleAssignments/read/action": "XXXX..X..", "roleAssignments/write/action": "XX.X.....", "roleAssignments/delete/action": "XX.X.....",
		"roleDefinitions/read/action": "XXXX..X..", "roleDefinitions/write/action": "XX.X.....", "roleDefinitions/delete/action": "XX.X.....",
		"backup/start/action": "X....X...", "backup/status/action": "X....X...", "restore/start/action": "X.......X", "restore/status/action": "X.......X",
		"settings/read/action": "X........", "settings/write/action": "X........",
	}
	known := rbac.ManagedHSMActions()
	if len(known) != len(table) || len(rbac.ManagedHSM()) != len(columns) {
		t.Fatalf("got %d actions and %d roles, want %d and %d", len(known), len(rbac.ManagedHSM()), len(table), len(columns))
	}
	for action, row := range table {
		name := "Microsoft.KeyVault/managedHsm/" + action
		if !slices.Contains(known, name) {
			t.Errorf("%s is not among the actions", name)
		}
		for i, role := range columns {
			p := rbac.NewPolicy(rbac.ManagedHSM(), []rbac.Assignment{{ID: "/a", RoleDefinitionID: role, PrincipalID: "p", Scope: "/"}})
			got := p.Check(rbac.Principal{ObjectID: "p"}, name, true, "/keys/k").Allowed
			if want := row[i] == 'X'; got != want {
				t.Errorf("%s for role %s: got %v, want %v", action, role, got, want)
			}
		}
	}
	for _, r := range rbac.ManagedHSM() {
		for _, action := range r.DataActions {
			if !slices.Contains(known, action) || strings.Contains(action, "*") {
				t.Errorf("role %s names %s, which is no known action", r.Name, action)
			}
		}
	}
}
