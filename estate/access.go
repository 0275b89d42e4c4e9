package estate

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"verdant/azure/rbac"
	"verdant/azure/rest"
	"verdant/estate/control"
	"verdant/internal/route"
)

const vaultActions = "Microsoft.KeyVault/vaults/"

// Access implements control.Backend: it answers from the policy that the
// vaults ask, so that the answer is what a request would meet.
func (s *supervisor) Access(_ context.Context, q control.AccessQuestion) (control.Access, error) {
	action := q.Action
	if !strings.HasPrefix(strings.ToLower(action), "microsoft.") {
		action = vaultActions + action
	}
	if strings.Contains(action, "*") || !s.known(action) {
		return control.Access{}, fmt.Errorf("no operation of a vault needs the action %.200q; name one in full, such as %ssecrets/getSecret/action", q.Action, vaultActions)
	}
	scope, region, err := s.names.objectScope(q.Object)
	if err != nil {
		return control.Access{}, err
	}
	out := control.Access{Action: action, Scope: scope, Allows: []control.Grant{}}
	var who rbac.Principal
	var asked []string // the principal and its groups
	if q.Principal != "" {
		p, groups, err := s.names.principal(q.Principal, region)
		if err != nil {
			return control.Access{}, err
		}
		out.Principal, asked = &p, append([]string{p.ID}, groups...)
		who = rbac.Principal{ObjectID: p.ID, Groups: groups}
	}
	if isDataAction(action) && rest.SameID(s.names.VaultID(region), vaultOf(scope)) {
		out.From = s.waysIn(region)
	}
	for _, d := range s.policy.Denied(who, action, isDataAction(action), scope) {
		out.Denials = append(out.Denials, s.denial(d))
	}
	for _, alternative := range sufficient(action) {
		for _, f := range s.policy.Explain(alternative, isDataAction(alternative), scope, asked...) {
			g := s.grant(f)
			if alternative != action {
				g.Action = alternative
			}
			if f.Why == "" {
				s.withhold(&g, who, action, alternative, scope)
			}
			f.Why = g.Why
			switch {
			case f.Why == "":
				out.Allows = append(out.Allows, g)
			case asked != nil && alternative == action || strings.HasPrefix(f.Why, deniedBy):
				out.Others = append(out.Others, g)
			}
		}
	}
	out.Allowed = len(out.Allows) > 0 // what is denied is not among them
	out.Others = slices.DeleteFunc(out.Others, func(g control.Grant) bool {
		return slices.ContainsFunc(out.Allows, func(a control.Grant) bool { return a.AssignmentID == g.AssignmentID })
	})
	return out, nil
}

const deniedBy = "denied by "

// withhold takes from a grant what deny assignments forbid: all of it if they
// are about the grant's principal or, where somebody in particular is asked
// about, about that; else from those members of a group that they are about. A
// deny assignment on the action asked about also closes the way through
// another that would suffice.
func (s *supervisor) withhold(g *control.Grant, who rbac.Principal, action, alternative, scope string) {
	first := func(who rbac.Principal) (rbac.DenyAssignment, bool) {
		for _, a := range []string{action, alternative} {
			if found := s.policy.Denied(who, a, isDataAction(a), scope); len(found) > 0 {
				return found[0], true
			}
		}
		return rbac.DenyAssignment{}, false
	}
	if who.ObjectID == "" {
		who = rbac.Principal{ObjectID: g.Principal.ID, Groups: s.names.membership(g.Principal.ID)}
	}
	if d, denied := first(who); denied && g.Principal.Type != "Group" || denied && who.ObjectID != g.Principal.ID {
		g.Why = deniedBy + d.Name
		return
	}
	denied := 0
	for i, m := range g.Members {
		if d, ok := first(rbac.Principal{ObjectID: m.ID, Groups: s.names.membership(m.ID)}); ok {
			g.Members[i].DeniedBy = d.Name
			denied++
		}
	}
	if denied > 0 && denied == len(g.Members) {
		g.Why = deniedBy + g.Members[0].DeniedBy
	}
}

// membership are the groups of a user or managed identity.
func (n Names) membership(objectID string) []string {
	for _, u := range n.Users() {
		if u.ObjectID == objectID {
			return u.Groups
		}
	}
	for _, id := range n.Identities() {
		if id.PrincipalID == objectID {
			return n.groupsOf(id)
		}
	}
	return nil
}

func (s *supervisor) denial(d rbac.DenyAssignment) control.Denial {
	named := func(ids []string) []control.Principal {
		var out []control.Principal
		for _, id := range ids {
			p, _, err := s.names.principal(id, IE)
			switch {
			case id == rbac.Everyone:
				p = control.Principal{ID: id, Name: "everyone"}
			case err != nil:
				p = control.Principal{ID: id}
			}
			out = append(out, p)
		}
		return out
	}
	return control.Denial{ID: d.ID, Name: d.Name, Scope: d.Scope, Condition: d.Condition, Principals: named(d.Principals), Excluded: named(d.ExcludePrincipals)}
}

// waysIn says from where requests reach a region's vault.
func (s *supervisor) waysIn(r Region) []string {
	var ways []string
	for _, link := range s.names.PrivateLinks(r) {
		if rest.SameID(link.Target, s.names.VaultID(r)) {
			ways = append(ways, fmt.Sprintf("the private endpoint %s in %s and %s", link.Address, s.names.VNet(r), s.names.DevVNet(r)))
		}
	}
	return append(ways, s.vaults[r].Network().Describe()...)
}

// vaultOf cuts an object's scope back to its vault.
func vaultOf(scope string) string {
	parts := strings.Split(scope, "/")
	return strings.Join(parts[:min(len(parts), 9)], "/")
}

// known reports whether an action exists, so that a misspelt one is not
// answered with "nobody": a data action is one that an operation of the vaults
// asks for. Of control actions there is no list.
func (s *supervisor) known(action string) bool {
	return !isDataAction(action) || slices.ContainsFunc(s.vaults[IE].Routes(), func(rt route.Route) bool {
		return strings.EqualFold(string(rt.Action), action)
	})
}

// isDataAction tells the vault's data plane from its control plane.
func isDataAction(action string) bool {
	below, ok := strings.CutPrefix(strings.ToLower(action), strings.ToLower(vaultActions))
	kind, _, object := strings.Cut(below, "/")
	return ok && object && kind != "providers" && kind != "accesspolicies" && kind != "deploy" && kind != "eventgridfilters" && !strings.HasPrefix(kind, "privateendpoint")
}

// sufficient are the actions any of which lets a request in: what needs the
// public key alone is open to whoever may read the key.
func sufficient(action string) []string {
	for _, public := range []string{"keys/encrypt/action", "keys/wrap/action", "keys/verify/action"} {
		if strings.EqualFold(action, vaultActions+public) {
			return []string{action, vaultActions + "keys/read"}
		}
	}
	return []string{action}
}

// objectScope turns an address in a vault, or an ARM id, into the scope that
// the vault checks, and says whose region it is.
func (n Names) objectScope(object string) (scope string, r Region, err error) {
	if strings.HasPrefix(object, "/") {
		for _, r := range Regions() {
			if id := n.VaultID(r); strings.HasPrefix(strings.ToLower(object)+"/", strings.ToLower(id)+"/") {
				return strings.TrimRight(object, "/"), r, nil
			}
		}
		return strings.TrimRight(object, "/"), IE, nil
	}
	u, err := url.Parse(object)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return "", "", fmt.Errorf("%.200q is neither an address such as https://%s/keys/NAME nor an ARM id", object, n.VaultHost(IE))
	}
	for _, r := range Regions() {
		if !strings.EqualFold(u.Hostname(), n.VaultHost(r)) {
			continue
		}
		scope := n.VaultID(r)
		parts := strings.FieldsFunc(u.Path, func(c rune) bool { return c == '/' })
		if len(parts) > 1 { // a version is no scope
			scope += "/" + strings.TrimPrefix(parts[0], "deleted") + "/" + parts[1]
		}
		return scope, r, nil
	}
	return "", "", fmt.Errorf("no vault at %s; there are %s and %s", u.Hostname(), n.VaultHost(EU), n.VaultHost(IE))
}

// principal finds who is meant, and the groups they belong to. An object id
// that nobody has is a principal without a name.
func (n Names) principal(who string, r Region) (control.Principal, []string, error) {
	for _, u := range n.Users() {
		if strings.EqualFold(who, u.ObjectID) || strings.EqualFold(who, u.UPN) || strings.EqualFold(n.UPN(who), u.UPN) {
			return control.Principal{ID: u.ObjectID, Name: u.UPN, Type: "User"}, u.Groups, nil
		}
	}
	for _, g := range n.groups() {
		if strings.EqualFold(who, g.ObjectID) || strings.EqualFold(who, g.Name) {
			return control.Principal{ID: g.ObjectID, Name: g.Name, Type: "Group"}, nil, nil
		}
	}
	region, name, qualified := strings.Cut(who, "/")
	for _, id := range n.Identities() {
		named := id.Name == who && id.Region == r || qualified && id.Name == name && string(id.Region) == region
		if named || strings.EqualFold(who, id.PrincipalID) || strings.EqualFold(who, id.ClientID) {
			return control.Principal{ID: id.PrincipalID, Name: string(id.Region) + "/" + id.Name, Type: "ServicePrincipal"}, n.groupsOf(id), nil
		}
	}
	if len(who) == 36 && strings.Count(who, "-") == 4 {
		return control.Principal{ID: who}, nil, nil
	}
	return control.Principal{}, nil, fmt.Errorf("nobody is called %.200q; name a user, a group, a managed identity (REGION/NAME) or an object id", who)
}

func (n Names) groups() []Group {
	return []Group{n.AdminsGroup(), n.ProfessionalsGroup(), n.AuditorsGroup()}
}

// groupsOf are a managed identity's groups, as tenantConfig gives them.
func (n Names) groupsOf(id Identity) []string {
	if id.Name == DeploymentIdentity {
		return []string{n.AdminsGroup().ObjectID}
	}
	return nil
}

// grant describes a finding, with the names of those it is about.
func (s *supervisor) grant(f rbac.Finding) control.Grant {
	g := control.Grant{AssignmentID: f.ID, RoleID: f.RoleDefinitionID[strings.LastIndexByte(f.RoleDefinitionID, '/')+1:], Scope: f.Scope, Why: f.Why, If: f.If, Principal: control.Principal{ID: f.PrincipalID}}
	if d, ok := s.policy.Role(f.RoleDefinitionID); ok {
		g.Role = d.Name
	}
	if p, _, err := s.names.principal(f.PrincipalID, IE); err == nil {
		g.Principal = p
	}
	if g.Principal.Type != "Group" {
		return g
	}
	for _, u := range s.names.Users() {
		if slices.Contains(u.Groups, g.Principal.ID) {
			g.Members = append(g.Members, control.Principal{ID: u.ObjectID, Name: u.UPN, Type: "User"})
		}
	}
	for _, id := range s.names.Identities() {
		if slices.Contains(s.names.groupsOf(id), g.Principal.ID) {
			g.Members = append(g.Members, control.Principal{ID: id.PrincipalID, Name: string(id.Region) + "/" + id.Name, Type: "ServicePrincipal"})
		}
	}
	return g
}
