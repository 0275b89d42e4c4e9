package rbac

import (
	"errors"
	"strings"
	"testing"
)

const (
	writeAssignment  = "Microsoft.Authorization/roleAssignments/write"
	deleteAssignment = "Microsoft.Authorization/roleAssignments/delete"
)

func TestConditionsDecideByWhatTheRequestTells(t *testing.T) {
	const role, type_ = "@Request[Microsoft.Authorization/roleAssignments:RoleDefinitionId] ", "@Request[Microsoft.Authorization/roleAssignments:PrincipalType] "
	request := AssignmentAttributes("/providers/Microsoft.Authorization/roleDefinitions/"+strings.ToUpper(KeyVaultReader), "44444444-4444-4444-8444-444444444444", "Group")
	resource := AssignmentAttributes(Owner, "", "")
	for condition, want := range map[string]truth{
		role + "ForAnyOfAnyValues:GuidEquals {" + KeyVaultReader + ", " + KeyVaultCryptoUser + "}":                       yes,
		role + "ForAnyOfAnyValues:GuidEquals{'" + strings.ToUpper(KeyVaultReader) + "'}":                                 yes,
		role + "ForAnyOfAnyValues:GuidEquals {" + Owner + "}":                                                            no,
		role + "ForAnyOfAllValues:GuidNotEquals {" + Owner + ", " + Contributor + "}":                                    yes,
		role + "ForAnyOfAllValues:GuidNotEquals {" + Owner + ", " + KeyVaultReader + "}":                                 no,
		role + "ForAnyOfAnyValues:GuidNotEquals {" + Owner + ", " + KeyVaultReader + "}":                                 yes,
		role + "ForAllOfAllValues:GuidNotEquals {" + KeyVaultReader + "}":                                                no,
		role + "GuidEquals " + KeyVaultReader:                                                                            yes,
		type_ + "StringEquals 'Group'":                                                                                   yes,
		type_ + "StringEquals 'group'":                                                                                   no,
		type_ + "StringEqualsIgnoreCase 'group'":                                                                         yes,
		type_ + "ForAnyOfAnyValues:StringEqualsIgnoreCase {'User', 'Group'}":                                             yes,
		type_ + "StringNotEqualsIgnoreCase 'user'":                                                                       yes,
		type_ + "StringLike 'G*p'":                                                                                       yes,
		type_ + "StringNotLike 'G??'":                                                                                    yes,
		type_ + "StringStartsWith 'Gr'":                                                                                  yes,
		"@Resource[Microsoft.Authorization/roleAssignments:RoleDefinitionId] GuidEquals " + Owner:                        yes,
		"@resource[microsoft.authorization/ROLEASSIGNMENTS:roledefinitionid] GuidEquals " + Owner:                        yes,
		"Exists @Request[Microsoft.Authorization/roleAssignments:PrincipalType]":                                         yes,
		"NotExists @Request[Microsoft.Authorization/roleAssignments:PrincipalType]":                                      no,
		"Exists @Resource[Microsoft.Authorization/roleAssignments:PrincipalType]":                                        unknown,
		"NotExists @Resource[Microsoft.Authorization/roleAssignments:PrincipalType]":                                     unknown,
		"@Principal[Microsoft.Directory/CustomSecurityAttributes/Id:Team_Name] StringEquals 'x'":                         unknown,
		"@Principal[Microsoft.Directory/CustomSecurityAttributes/Id:Team_Name] StringNotEquals 'x'":                      unknown,
		"NOT @Environment[isPrivateLink] StringEquals 'true'":                                                            unknown,
		"ActionMatches{'Microsoft.Authorization/roleAssignments/*'}":                                                     yes,
		"!(ActionMatches{'microsoft.authorization/roleassignments/WRITE'})":                                              no,
		"! ActionMatches{'a/b','Microsoft.Authorization/roleAssignments/write'}":                                         no,
		"ActionMatches{'x'} OR ActionMatches{'*'}":                                                                       yes,
		"ActionMatches{'x'} AND @Request[unheard:Of] StringEquals 'x'":                                                   no,
		"ActionMatches{'*'} && @Request[unheard:Of] StringEquals 'x'":                                                    unknown,
		"ActionMatches{'*'} || @Request[unheard:Of] StringEquals 'x'":                                                    yes,
		"(ActionMatches{'x'} OR ActionMatches{'*'}) AND NOT (ActionMatches{'y'} OR ActionMatches{'z'})":                  yes,
		"@Request[Microsoft.Authorization/roleAssignments:PrincipalType] StringEquals 'it''s'":                           no,
		"\n(\n\tActionMatches{'*'}\n)\n AND\n (" + role + "ForAnyOfAnyValues:GuidEquals {\n" + KeyVaultReader + "\n}\n)": yes,
	} {
		c, err := ParseCondition(condition)
		if err != nil {
			t.Errorf("%s: %v", condition, err)
			continue
		}
		if got := c.met(writeAssignment, Attributes{Request: request, Resource: resource}); got != want {
			t.Errorf("%s: got %d, want %d", condition, got, want)
		}
	}
}

func TestAWrongConditionIsNamedWithItsPlace(t *testing.T) {
	for condition, want := range map[string]string{
		"":                                      "line 1, column 1: expected a comparison, found the end",
		"ActionMatches{'a'} AND":                "line 1, column 23: expected a comparison",
		"ActionMatches{'a'}\nAND ?":             "line 2, column 5: unexpected character '?'",
		"ActionMatches 'a'":                     "column 15: expected \"{\"",
		"ActionMatches{'a'":                     "column 18: expected \"}\"",
		"ActionMatches{'a}":                     "column 15: the string has no end",
		"ActionMatches{}":                       "column 15: expected a value",
		"(ActionMatches{'a'}":                   "column 20: expected \")\"",
		"ActionMatches{'a'} ActionMatches{'b'}": "column 20: expected AND, OR or the end",
		"ActionMatches{'a'} AND ActionMatches{'b'} OR ActionMatches{'c'}": "column 43: AND and OR are mixed",
		"@Request[a:b] StringEquals":                                      "column 27: expected a value",
		"@Request[a:b] NumericEquals 1":                                   "column 15: the operator \"NumericEquals\" is not supported",
		"@Request[a:b] StringNotNotEquals 'a'":                            "is not supported",
		"@Request[a:b] GuidEqualsIgnoreCase 'a'":                          "is not supported",
		"@Request[a:b] ForMostValues:StringEquals {'a'}":                  "column 15: unknown operator prefix",
		"@Request[a:b] ForAnyOfAnyValues:StringEquals 'a'":                "expected \"{\"",
		"@Request[a:b StringEquals 'a'":                                   "the attribute's name has no end",
		"@Subject[a:b] StringEquals 'a'":                                  "column 1: unknown attribute source \"Subject\"",
		"@Request[]":                                                      "is no attribute name",
		"@Request StringEquals 'a'":                                       "an attribute is written",
		"SubOperationMatches{'Blob.List'}":                                "column 1: expected a comparison",
		"Exists 'a'":                                                      "column 8: expected an attribute",
		strings.Repeat("(", 40) + "ActionMatches{'a'}":                    "more than 32 levels",
		strings.Repeat("!", 40) + "ActionMatches{'a'}":                    "more than 32 levels",
		strings.Repeat(" ", maxCondition+1):                               "at most 8192 bytes",
	} {
		_, err := ParseCondition(condition)
		var at *ConditionError
		if !errors.As(err, &at) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: got %v, want %s", condition, err, want)
		}
	}
}

// TestTheDataAccessAdministratorGivesEightRolesAndNoOther asks for every
// built-in role, by writing and by deleting.
func TestTheDataAccessAdministratorGivesEightRolesAndNoOther(t *testing.T) {
	p := NewPolicy(BuiltIn(), []Assignment{at(vaultID, KeyVaultDataAccessAdministrator, "daa")})
	assignable := []string{KeyVaultAdministrator, KeyVaultCertificatesOfficer, KeyVaultCryptoOfficer, KeyVaultCryptoServiceEncryption,
		KeyVaultCryptoUser, KeyVaultReader, KeyVaultSecretsOfficer, KeyVaultSecretsUser}
	for _, d := range BuiltIn() {
		want := strings.Contains(strings.Join(assignable, " "), d.ID)
		set := AssignmentAttributes(d.ID, "p", "User")
		for name, got := range map[string]bool{
			"writes":  p.CheckWith(Principal{ObjectID: "daa"}, writeAssignment, false, vaultID, Attributes{Request: set}).Allowed,
			"deletes": p.CheckWith(Principal{ObjectID: "daa"}, deleteAssignment, false, vaultID, Attributes{Resource: set}).Allowed,
		} {
			if got != want {
				t.Errorf("%s %s: got %v, want %v", name, d.Name, got, want)
			}
		}
		if p.CheckWith(Principal{ObjectID: "daa"}, deleteAssignment, false, vaultID, Attributes{Request: set}).Allowed {
			t.Errorf("deletes %s because the request says so", d.Name)
		}
	}
	if p.Check(Principal{ObjectID: "daa"}, writeAssignment, false, vaultID).Allowed {
		t.Error("writes an assignment of no role")
	}
	for _, action := range []string{"Microsoft.Authorization/roleDefinitions/write", "Microsoft.Authorization/denyAssignments/write", "Microsoft.KeyVault/vaults/write"} {
		if p.Check(Principal{ObjectID: "daa"}, action, false, vaultID).Allowed {
			t.Errorf("may %s", action)
		}
	}
	if !p.Check(Principal{ObjectID: "daa"}, "Microsoft.Authorization/roleAssignments/read", false, vaultID).Allowed {
		t.Error("may not read assignments, which the condition does not restrict")
	}
}

// FuzzConditions: no text makes the parser panic or hang, and what parses can
// be evaluated, never to yes together with its own negation.
func FuzzConditions(f *testing.F) {
	for _, d := range BuiltIn() {
		if d.Condition != "" {
			f.Add(d.Condition)
		}
	}
	for _, s := range []string{"ActionMatches{'a*b'} OR NOT Exists @Request[a:b]", "@Resource[a:b] ForAllOfAllValues:StringNotLikeIgnoreCase {'[', '\\', '*?'}", "!!(((", "@Request[a:b] StringEquals 'it''s'"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ParseCondition(text)
		var at *ConditionError
		if err != nil {
			if !errors.As(err, &at) || at.Line < 1 || at.Column < 1 {
				t.Fatalf("an error without a place: %v", err)
			}
			return
		}
		attributes := Attributes{Request: AssignmentAttributes(Owner, "a", "User")}
		if c.met(text, attributes) == yes && (&Condition{not{c.root}}).met(text, attributes) == yes {
			t.Fatal("met together with its negation")
		}
	})
}
