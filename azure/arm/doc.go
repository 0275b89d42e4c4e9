// Package arm is a thin control plane: Azure Resource Manager for one tenant.
//
// It serves the estate's resources by id, by resource group and by type, the
// built-in role definitions, and role assignments at any scope, which it
// stores. A role assignment that was written or deleted is durable and in
// effect for every service that shares the Policy before the answer leaves,
// and it is announced in AzureActivity before it is made.
//
// It denies by default: every operation but the cloud's metadata needs a
// token, and what a caller may not read is left out of lists and refused by
// id before its existence is looked at. It does not create or change
// resources other than role assignments yet, and says so. Ids compare without
// regard to case and are echoed in their canonical spelling.
//
// Specifications: Azure Resource Manager REST conventions, Microsoft.Authorization
// 2022-04-01 (roleAssignments, roleDefinitions), Microsoft.Resources (lists),
// and the metadata/endpoints document that clouds describe themselves with.
package arm
