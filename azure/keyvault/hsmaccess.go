package keyvault

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"verdant/azure/rbac"
	"verdant/azure/rest"
	"verdant/hsm"
	"verdant/internal/route"
)

// What a managed HSM keeps about itself are objects of kinds that no route
// names.
const (
	kindState      Kind = "hsmstate"
	kindRole       Kind = "hsmrole"
	kindAssignment Kind = "hsmassignment"
	kindJob        Kind = "hsmjob"

	stateName = "state"
)

// hsmState is the one record of a managed HSM. Every change of it or of a role
// is one transaction that counts Generation up.
type hsmState struct {
	Generation uint64 `json:"generation"`
	// Active says that the security domain is in its holders' hands.
	Active bool `json:"active"`
	// Root is the key that backups are sealed under; "" until it is needed.
	Root hsm.KeyID `json:"root,omitempty"`
	// Transfer is the key that an upload of a security domain is sealed for.
	Transfer     hsm.KeyID `json:"transfer,omitempty"`
	TransferCert []byte    `json:"transferCert,omitempty"`
	// Restoring is the job that replaces the HSM's whole content.
	Restoring string `json:"restoring,omitempty"`
	// Administrators are the names of the assignments of the administrator
	// role at "/": one must always be left.
	Administrators []string          `json:"administrators"`
	Settings       map[string]string `json:"settings,omitempty"`
}

// localAccess is what a managed HSM has besides a vault: its own access
// control, as this replica knows it, and its jobs.
type localAccess struct {
	view atomic.Pointer[localView]
	mu   sync.Mutex // one reader of the store; a writer waits for it

	jobs         chan struct{} // holds one when there may be a new job
	blobs        *http.Client  // nil if there is no storage
	storageToken func(context.Context) (string, error)
}

// localView is one moment of the HSM's state and roles. It is never changed.
type localView struct {
	at          time.Time
	state       hsmState
	roles       []customRole
	assignments []localAssignment
	policy      *rbac.Policy
}

// viewTrust is how long a view is believed without asking the store: a change
// that another replica made bites within a second. A replica's own changes
// bite at once.
const viewTrust = 400 * time.Millisecond

// view returns the HSM's state and roles.
func (s *Server) view(ctx context.Context) (*localView, error) {
	if v := s.local.view.Load(); s.isFresh(v) {
		return v, nil
	}
	s.local.mu.Lock()
	defer s.local.mu.Unlock()
	old := s.local.view.Load()
	if s.isFresh(old) {
		return old, nil
	}
	v, err := s.readView(ctx, old)
	if err != nil {
		return nil, fmt.Errorf("managed HSM %s: read its roles: %w", s.cfg.Name, err)
	}
	s.local.view.Store(v)
	return v, nil
}

func (s *Server) isFresh(v *localView) bool {
	if v == nil {
		return false
	}
	age := s.now().Sub(v.at)
	return age >= 0 && age < viewTrust
}

// forgetView makes the next request read what was just written.
func (s *Server) forgetView() {
	s.local.mu.Lock()
	defer s.local.mu.Unlock()
	s.local.view.Store(nil)
}

// readView reads state and roles of one moment: again, if they changed in
// between.
func (s *Server) readView(ctx context.Context, old *localView) (*localView, error) {
	for range 8 {
		v := &localView{at: s.now()}
		var err error
		if v.state, err = s.readState(ctx); err != nil {
			return nil, err
		}
		if old != nil && old.state.Generation == v.state.Generation {
			same := *old
			same.at = v.at
			return &same, nil
		}
		if v.roles, err = readAll[customRole](ctx, s.store, kindRole); err != nil {
			return nil, err
		}
		if v.assignments, err = readAll[localAssignment](ctx, s.store, kindAssignment); err != nil {
			return nil, err
		}
		after, err := s.readState(ctx)
		if err != nil {
			return nil, err
		}
		if after.Generation == v.state.Generation {
			v.policy = v.compile()
			return v, nil
		}
	}
	return nil, errors.New("they change faster than they can be read")
}

func (v *localView) compile() *rbac.Policy {
	p := rbac.NewPolicy(rbac.ManagedHSM(), nil)
	for _, r := range v.roles {
		p.PutRole(rbac.RoleDefinition{ID: r.Name, Name: r.RoleName, Description: r.Description, DataActions: r.effective()})
	}
	for _, a := range v.assignments {
		p.Put(rbac.Assignment{ID: a.id(), RoleDefinitionID: a.Role, PrincipalID: a.Principal, Scope: a.Scope})
	}
	return p
}

// readState returns the state, making it on first use.
func (s *Server) readState(ctx context.Context) (hsmState, error) {
	o, _, err := s.store.Get(ctx, kindState, stateName, "")
	if errors.Is(err, ErrNoObject) {
		if err := s.store.Update(ctx, s.seed); err != nil {
			return hsmState{}, err
		}
		o, _, err = s.store.Get(ctx, kindState, stateName, "")
	}
	if err != nil {
		return hsmState{}, err
	}
	var st hsmState
	err = json.Unmarshal(o.Meta, &st)
	return st, err
}

// seed writes the state of a new HSM: its first administrators, and nothing
// else. They are seeded once; who is taken away later stays away.
func (s *Server) seed(tx Tx) error {
	switch _, err := tx.Object(kindState, stateName); {
	case err == nil:
		return nil // another replica was faster
	case !errors.Is(err, ErrNoObject):
		return err
	}
	st := hsmState{Active: !s.cfg.NeedsActivation}
	for _, principal := range s.cfg.InitialAdministrators {
		a := localAssignment{Name: guidFor(s.cfg.ResourceID, principal), Role: rbac.ManagedHSMAdministrator, Principal: principal, Scope: "/"}
		st.Administrators = append(st.Administrators, a.Name)
		if err := putRecord(tx, kindAssignment, a.Name, a); err != nil {
			return err
		}
	}
	return putState(tx, st)
}

// guidFor is a GUID that stands for its parts (in the manner of RFC 9562
// version 8).
func guidFor(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.ToLower(strings.Join(parts, "\x00"))))
	sum[6], sum[8] = sum[6]&0x0f|0x80, sum[8]&0x3f|0x80
	h := hex.EncodeToString(sum[:16])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

func putState(tx Tx, st hsmState) error {
	st.Generation++
	return putRecord(tx, kindState, stateName, st)
}

func putRecord(tx Tx, kind Kind, name string, record any) error {
	meta, err := json.Marshal(record)
	if err != nil {
		return err
	}
	return tx.Put(Object{Kind: kind, Name: name, Meta: meta})
}

func getRecord[R any](tx Tx, kind Kind, name string) (record R, err error) {
	o, err := tx.Object(kind, name)
	if err != nil {
		return record, err
	}
	err = json.Unmarshal(o.Meta, &record)
	return record, err
}

// readAll reads every record of a kind.
func readAll[R any](ctx context.Context, store Store, kind Kind) ([]R, error) {
	var all []R
	for after := ""; ; {
		entries, err := store.List(ctx, kind, Live, after, 200)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			var r R
			if err := json.Unmarshal(e.Object.Meta, &r); err != nil {
				return nil, fmt.Errorf("%s %s: stored record: %w", kind, e.Object.Name, err)
			}
			all = append(all, r)
			after = fold(e.Object.Name)
		}
		if len(entries) == 0 {
			return all, nil
		}
	}
}

// changeState runs a transaction on the HSM's state and roles. It takes effect
// for every request that starts after it returned.
func (s *Server) changeState(ctx context.Context, fn func(tx Tx, st *hsmState) error) error {
	defer s.forgetView()
	return s.store.Update(ctx, func(tx Tx) error {
		st, err := getRecord[hsmState](tx, kindState, stateName)
		if err != nil {
			return err
		}
		if err := fn(tx, &st); err != nil {
			return err
		}
		return putState(tx, st)
	})
}

// errMoved stops a change that was decided on a view which is no longer true.
var errMoved = errors.New("the view is old")

// changeOn is changeState for a change that depends on roles which fn does not
// read inside the transaction: the view is the one that the change is made on.
func (s *Server) changeOn(ctx context.Context, fn func(v *localView, tx Tx, st *hsmState) error) error {
	for range 8 {
		v, err := s.view(ctx)
		if err != nil {
			return err
		}
		err = s.changeState(ctx, func(tx Tx, st *hsmState) error {
			if st.Generation != v.state.Generation {
				return errMoved
			}
			return fn(v, tx, st)
		})
		if !errors.Is(err, errMoved) {
			return err
		}
	}
	return conflict("ConcurrentModification", "The roles of the managed HSM are being changed by others at this moment: try again.")
}

// hsmNames are the data actions of a managed HSM that differ from a vault's by
// more than their beginning, by operation.
var hsmNames = map[string]string{
	"KeyCreate": "keys/create", "KeyDelete": "keys/delete", "KeyUpdate": "keys/write/action", "KeyRotate": "keys/rotate/action",
	"KeyGet": "keys/read/action", "KeyList": "keys/read/action", "KeyListVersions": "keys/read/action", "KeyAttestationGet": "keys/read/action",
	"KeyListDeleted": "keys/deletedKeys/read/action", "KeyGetDeleted": "keys/deletedKeys/read/action",
	"KeyRecover": "keys/deletedKeys/recover/action", "KeyPurge": "keys/deletedKeys/delete",
	"KeyRotationPolicyGet": "keys/read/action", "KeyRotationPolicySet": "keys/write/action",
}

// actionsHSM starts every data action of a managed HSM.
const actionsHSM = "Microsoft.KeyVault/managedHsm/"

// hsmAction is what an operation of the table needs on a managed HSM. New
// refuses an HSM with an operation whose action it does not know.
func hsmAction(name, action string) string {
	if own, ok := hsmNames[name]; ok {
		return actionsHSM + own
	}
	if rest, ok := strings.CutPrefix(action, actions); ok {
		return actionsHSM + rest
	}
	return action
}

// checkActions holds the table against the actions that roles can name.
func checkActions(routes []route.Route) error {
	known := rbac.ManagedHSMActions()
	for _, rt := range routes {
		if !slices.Contains(known, string(rt.Action)) {
			return fmt.Errorf("operation %s: no role of a managed HSM can name its action %s", rt.Name, rt.Action)
		}
	}
	return nil
}

// localScope is what an operation is about in the HSM's own access control:
// "/", "/keys" or one key.
func localScope(rt route.Route, name string) string {
	path := strings.TrimPrefix(strings.TrimPrefix(rt.Path, "/deleted"), "/")
	switch {
	case path != "keys" && !strings.HasPrefix(path, "keys/"):
		return "/"
	case name == "":
		return "/keys"
	}
	return "/keys/" + name
}

// authoriseLocally asks the roles of a managed HSM: they alone decide, whatever
// roles the caller has in the control plane.
func (s *Server) authoriseLocally(ctx context.Context, c *call, rt route.Route) error {
	v, err := s.view(ctx)
	if err != nil {
		return err
	}
	scope := localScope(rt, c.name)
	c.checked = true
	c.decision = v.policy.Check(rbac.Principal{ObjectID: c.caller.ObjectID, Groups: c.caller.Groups}, string(rt.Action), true, scope)
	if !c.decision.Allowed {
		return &rest.Error{Status: http.StatusForbidden, Code: "Forbidden", Inner: "ForbiddenByRbac",
			Message: "Caller is not authorized to perform action on resource.\r\n" + c.who() + "Action: '" + string(rt.Action) + "'\r\nResource: '" + scope + "'\r\n" +
				"Assignment: (not found)\r\nDecisionReason: '" + c.decision.Reason + "' \r\nHsm: " + s.cfg.Name + ";location=" + s.cfg.Location + "\r\n"}
	}
	return v.state.admits(rt)
}

// admits says whether the HSM's state lets an operation in.
func (st hsmState) admits(rt route.Route) error {
	switch {
	case !st.Active && !strings.HasPrefix(rt.Path, "/securitydomain/"):
		return forbidden("HsmNotActivated", "The managed HSM is provisioned and not active: download its security domain, or upload one, first.")
	case st.Restoring != "" && !strings.HasSuffix(rt.Path, "/pending"):
		return conflict("HsmInRestoreMode", "The managed HSM is being restored by job %s: nothing but its status is to be had until that has ended.", st.Restoring)
	}
	return nil
}
