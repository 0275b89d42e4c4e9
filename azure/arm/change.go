package arm

import (
	"io"
	"net/http"
	"strings"

	"verdant/azure/rest"
)

// Permission is an action at a scope.
type Permission struct{ Action, Scope string }

// Change says what can be changed of the resources of one type.
type Change struct {
	// Update checks the body of a PUT (whole) or PATCH and returns the
	// resource as it shall be. What it may not change it must refuse with a
	// *rest.Error.
	Update func(current rest.Resource, body []byte, whole bool) (rest.Resource, error)
	// Needs lists permissions beyond <type>/write that the caller needs for
	// the new state; may be nil.
	Needs func(changed rest.Resource) []Permission
	// Apply puts the new state in effect in this process, at once; it is
	// durable by then. Replicas elsewhere learn of it by following the
	// database. May be nil.
	Apply func(changed rest.Resource)
}

// changeResource answers PUT and PATCH of a resource: of types that something
// can be changed of, and of those that exist. When it answers, the change is
// durable and in effect.
func (s *Server) changeResource(w http.ResponseWriter, r *http.Request) {
	c := callOf(r)
	id := "/" + strings.Trim(r.URL.Path, "/")
	typ, name, ok := typeOf(id)
	if !ok || name == "" {
		rest.WriteError(w, rest.Errorf(http.StatusNotFound, "InvalidResourceType", "The path does not name a resource type that this control plane knows."), c.id)
		return
	}
	c.action, c.scope = typ+"/write", id
	change, changeable := s.cfg.Changes[strings.ToLower(typ)]
	if !s.may(c, c.action, id) {
		s.deny(w, r, c)
		return
	}
	if !changeable {
		rest.WriteError(w, rest.Errorf(http.StatusMethodNotAllowed, "HttpMethodNotSupported", "Resources of the type '%.200s' cannot be changed here.", typ), c.id)
		return
	}
	res, err := s.update(r, c, id, change)
	if err != nil {
		s.failChange(w, r, c, id, err)
		return
	}
	s.activity(r, c, res.ID, "Success", nil)
	rest.WriteJSON(w, http.StatusOK, res)
}

func (s *Server) update(r *http.Request, c *call, id string, change Change) (rest.Resource, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return rest.Resource{}, err
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	current, found := s.Resource(id)
	if !found {
		typ, name, _ := typeOf(id)
		return rest.Resource{}, notFound(id, typ, name)
	}
	res, err := change.Update(current, body, r.Method == http.MethodPut)
	if err != nil {
		return res, err
	}
	if change.Needs != nil {
		for _, need := range change.Needs(res) {
			if !s.may(c, need.Action, need.Scope) {
				return res, s.forbidden(c, need.Action, need.Scope)
			}
		}
	}
	if err := s.announce(r, c, res.ID); err != nil {
		return res, err
	}
	for _, base := range s.cfg.Resources {
		if rest.SameID(base.ID, res.ID) {
			if err := s.store.put(r.Context(), kindResource, res.ID, difference(base, res)); err != nil {
				return res, err
			}
		}
	}
	s.resources.Store(s.resources.Load().with(res))
	if change.Apply != nil {
		change.Apply(res)
	}
	return res, nil
}
