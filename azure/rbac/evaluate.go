package rbac

import (
	"path"
	"strings"
)

// Where a condition's attributes come from.
const (
	sourceRequest     = "Request"
	sourceResource    = "Resource"
	sourcePrincipal   = "Principal"
	sourceEnvironment = "Environment"
)

// Names of the attributes of a role assignment that is being written
// (@Request) or deleted (@Resource).
const (
	AttributeRoleDefinitionID = "Microsoft.Authorization/roleAssignments:RoleDefinitionId"
	AttributePrincipalID      = "Microsoft.Authorization/roleAssignments:PrincipalId"
	AttributePrincipalType    = "Microsoft.Authorization/roleAssignments:PrincipalType"
)

// Attributes are what is known of a request besides its action and scope, for
// conditions to look at. An attribute without a value is one that is not
// known: a comparison with it is neither true nor false, and a condition that
// hangs on it is not met.
type Attributes struct {
	Request, Resource AttributeSet
}

// AttributeSet holds values by name; AttributeSet(nil) has none.
type AttributeSet map[string][]string

// AssignmentAttributes are those of a role assignment. What is empty is not
// known.
func AssignmentAttributes(roleDefinitionID, principalID, principalType string) AttributeSet {
	set := AttributeSet{}
	for name, value := range map[string]string{AttributeRoleDefinitionID: guidOf(roleDefinitionID), AttributePrincipalID: principalID, AttributePrincipalType: principalType} {
		if value != "" {
			set[strings.ToLower(name)] = []string{value}
		}
	}
	return set
}

// truth is three-valued: what cannot be decided stays unknown through NOT,
// and AND and OR give a verdict only where the unknown part cannot change it.
type truth int8

const (
	unknown truth = iota
	yes
	no
)

func truthOf(b bool) truth {
	if b {
		return yes
	}
	return no
}

// facts are what a condition is held against. action is as the caller spelt
// it.
type facts struct {
	action string
	Attributes
}

// node is a part of a condition. Evaluation has no side effect.
type node interface{ eval(f *facts) truth }

// met evaluates a condition; none at all is met. Only an actual condition
// costs an allocation.
func (c *Condition) met(action string, attributes Attributes) truth {
	if c == nil {
		return yes
	}
	return c.root.eval(&facts{action, attributes})
}

type constant truth

func (c constant) eval(*facts) truth { return truth(c) }

type not struct{ node }

func (n not) eval(f *facts) truth {
	switch n.node.eval(f) {
	case yes:
		return no
	case no:
		return yes
	}
	return unknown
}

type allOf []node

func (a allOf) eval(f *facts) truth {
	verdict := yes
	for _, n := range a {
		switch n.eval(f) {
		case no:
			return no
		case unknown:
			verdict = unknown
		}
	}
	return verdict
}

type anyOf []node

func (a anyOf) eval(f *facts) truth {
	verdict := no
	for _, n := range a {
		switch n.eval(f) {
		case yes:
			return yes
		case unknown:
			verdict = unknown
		}
	}
	return verdict
}

type actionMatches []pattern

func (a actionMatches) eval(f *facts) truth { return truthOf(anyMatches(a, f.action)) }

// attributeRef is an attribute's source and folded name.
type attributeRef struct{ source, name string }

func reference(t conditionToken) attributeRef {
	return attributeRef{t.source, strings.ToLower(t.text)}
}

func (r attributeRef) values(f *facts) []string {
	switch r.source {
	case sourceRequest:
		return f.Request[r.name]
	case sourceResource:
		return f.Resource[r.name]
	}
	return nil // of principals and the environment nothing is known yet
}

// exists is true of an attribute that has a value. That one has none cannot be
// told from its not being known.
type exists struct{ attributeRef }

func (e exists) eval(f *facts) truth {
	if len(e.values(f)) > 0 {
		return yes
	}
	return unknown
}

// comparison holds an attribute's values against the condition's.
type comparison struct {
	attribute  attributeRef
	quantified bool
	allLeft    bool // every value of the attribute, not any
	allRight   bool // against every value of the condition, not any
	test       func(have, want string) bool
	values     []string
}

// quantify reads a prefix such as ForAnyOfAllValues.
func (c *comparison) quantify(prefix string) bool {
	c.quantified = true
	switch strings.ToLower(prefix) {
	case "foranyofanyvalues":
	case "forallofanyvalues":
		c.allLeft = true
	case "foranyofallvalues":
		c.allRight = true
	case "forallofallvalues":
		c.allLeft, c.allRight = true, true
	default:
		return false
	}
	return true
}

func (c comparison) eval(f *facts) truth {
	have := c.attribute.values(f)
	if len(have) == 0 {
		return unknown
	}
	for _, v := range have {
		if c.holds(v) != c.allLeft {
			return truthOf(!c.allLeft)
		}
	}
	return truthOf(c.allLeft)
}

// holds compares one value of the attribute.
func (c comparison) holds(have string) bool {
	for _, want := range c.values {
		if c.test(have, want) != c.allRight {
			return !c.allRight
		}
	}
	return c.allRight
}

// operatorNamed returns the test of an operator, nil if there is none of that
// name.
func operatorNamed(name string) func(have, want string) bool {
	name = strings.ToLower(name)
	if rest, negated := strings.CutPrefix(name, "stringnot"); negated {
		if test := operatorNamed("string" + rest); test != nil && !strings.HasPrefix(rest, "not") {
			return func(have, want string) bool { return !test(have, want) }
		}
		return nil
	}
	if name == "guidnotequals" {
		return func(have, want string) bool { return guidOf(have) != guidOf(want) }
	}
	var test func(have, want string) bool
	base, ignoreCase := strings.CutSuffix(name, "ignorecase")
	switch base {
	case "guidequals":
		if ignoreCase {
			return nil
		}
		return func(have, want string) bool { return guidOf(have) == guidOf(want) }
	case "stringequals":
		test = func(have, want string) bool { return have == want }
	case "stringstartswith":
		test = strings.HasPrefix
	case "stringlike":
		test = like
	default:
		return nil
	}
	if ignoreCase {
		return func(have, want string) bool { return test(strings.ToLower(have), strings.ToLower(want)) }
	}
	return test
}

// like matches * for any run and ? for one character.
func like(have, want string) bool {
	// path.Match keeps * from crossing a slash, which here it may.
	hide := strings.NewReplacer("/", "\x00", "[", "\\[", "\\", "\\\\")
	ok, err := path.Match(hide.Replace(want), strings.ReplaceAll(have, "/", "\x00"))
	return err == nil && ok
}
