// Package arm is a thin control plane: Azure Resource Manager for one tenant.
//
// It serves the estate's resources by id, by resource group and by type, and
// lets callers change what Config.Changes allows of them; the built-in role
// definitions and a tenant's own; and role and deny assignments at any scope.
// A change is announced in AzureActivity before it is made, and it is durable
// and in effect for every service that shares the Policy before the answer
// leaves. Processes elsewhere follow the same database with a Replica, where a
// change is in effect within a fraction of a second or nobody is let in.
//
// It denies by default: every operation but the cloud's metadata needs a
// token, and what a caller may not read is left out of lists and refused by
// id before its existence is looked at. Conditions on role assignments are
// held against the role, principal and type that a request names; the type is
// the tenant's word and not the caller's. It does not create or delete
// resources. Ids compare without regard to case and are echoed in their
// canonical spelling. One control plane writes to a database.
//
// Specifications: Azure Resource Manager REST conventions, Microsoft.Authorization
// 2022-04-01 (roleAssignments, roleDefinitions, denyAssignments),
// Microsoft.Resources (lists), and the metadata/endpoints document that clouds
// describe themselves with.
package arm
