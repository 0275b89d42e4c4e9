package keyvault

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"verdant/internal/route"
)

// rotationPolicy is a key's rotation policy as it is on the wire; the key's
// Object keeps it as its Meta.
type rotationPolicy struct {
	ID         string             `json:"id,omitempty"`
	Actions    []rotationAction   `json:"lifetimeActions"`
	Attributes rotationAttributes `json:"attributes"`
	// Noted is the notice that was given last; it stays in the store.
	Noted string `json:"noted,omitempty"`
}

type rotationAction struct {
	Trigger struct {
		AfterCreate  string `json:"timeAfterCreate,omitempty"`
		BeforeExpiry string `json:"timeBeforeExpiry,omitempty"`
	} `json:"trigger"`
	Action struct {
		Type string `json:"type"`
	} `json:"action"`
}

type rotationAttributes struct {
	ExpiryTime string `json:"expiryTime,omitempty"`
	Created    int64  `json:"created,omitempty"`
	Updated    int64  `json:"updated,omitempty"`
}

const (
	minExpiry  = 28 // days
	minTrigger = 7  // days
)

func (s *Server) rotationRoutes(add adder) {
	const path, action = "/keys/{name}/rotationpolicy", actions + "keyrotationpolicies/"
	add("KeyRotationPolicyGet", http.MethodGet, path, action+"read", route.NoBody, quick, s.getRotationPolicy)
	add("KeyRotationPolicySet", http.MethodPut, path, action+"write", normalBody, quick, s.setRotationPolicy)
}

// notify is the action that every policy has: a notice thirty days before the
// end.
func notify() (a rotationAction) {
	a.Trigger.BeforeExpiry, a.Action.Type = "P30D", "Notify"
	return a
}

func (s *Server) getRotationPolicy(c *call, r *http.Request) (int, any, error) {
	o, _, _, err := find[keyRecord](r.Context(), s, Keys, c.name, "")
	if err != nil {
		return 0, nil, err
	}
	c.objectID = s.url("keys", o.Name)
	p, err := readRotationPolicy(o)
	p.ID, p.Noted = s.url("keys", o.Name, "rotationpolicy"), ""
	return http.StatusOK, p, err
}

func readRotationPolicy(o Object) (p rotationPolicy, err error) {
	p.Actions = []rotationAction{notify()}
	if len(o.Meta) > 0 {
		p.Actions = nil
		if err = json.Unmarshal(o.Meta, &p); err != nil {
			err = fmt.Errorf("key %s: stored rotation policy: %w", o.Name, err)
		}
	}
	return p, err
}

func (s *Server) setRotationPolicy(c *call, r *http.Request) (int, any, error) {
	var in rotationPolicy
	if err := decode(r, &in, false); err != nil {
		return 0, nil, err
	}
	if err := in.complete(); err != nil {
		return 0, nil, err
	}
	now := s.now().Unix()
	in.Attributes.Created, in.Attributes.Updated = now, now
	err := s.update(r.Context(), c.name, func(tx Tx) error {
		o, err := live(tx, Keys, c.name)
		if err != nil {
			return err
		}
		if managed, err := isManaged(tx, Keys, c.name); err != nil || managed {
			return errors.Join(err, onlyIf(managed, managedBy("set rotation policy", Keys)))
		}
		old, err := readRotationPolicy(o)
		if err != nil {
			return err
		}
		if old.Attributes.Created != 0 {
			in.Attributes.Created = old.Attributes.Created
		}
		in.ID, in.Noted = "", old.Noted
		if o.Meta, err = json.Marshal(in); err != nil {
			return err
		}
		in.Noted = ""
		in.ID, c.objectID = s.url("keys", o.Name, "rotationpolicy"), s.url("keys", o.Name)
		return tx.Put(o)
	})
	return http.StatusOK, in, err
}

// complete checks a policy, spells its actions as the service does, and adds
// the notice that it lacks.
func (p *rotationPolicy) complete() error {
	if len(p.Actions) > 2 {
		return badParameter("Property lifetimeActions has over 2 elements.")
	}
	if p.Attributes.ExpiryTime != "" {
		d, err := parsePeriod("expiryTime", p.Attributes.ExpiryTime)
		if err != nil {
			return err
		}
		if d.days() < minExpiry {
			return badParameter("Property expiryTime must be at least %d days.", minExpiry)
		}
	}
	seen := map[string]bool{}
	for i := range p.Actions {
		a := &p.Actions[i]
		for _, kind := range []string{"Rotate", "Notify"} {
			if strings.EqualFold(a.Action.Type, kind) {
				a.Action.Type = kind
			}
		}
		if err := a.check(p.Attributes.ExpiryTime); err != nil {
			return err
		}
		if seen[a.Action.Type] {
			return badParameter("Property lifetimeActions has more than one action of type %s.", a.Action.Type)
		}
		seen[a.Action.Type] = true
	}
	if !seen["Notify"] {
		p.Actions = append(p.Actions, notify())
	}
	return nil
}

func (a *rotationAction) check(expiry string) error {
	after, before := a.Trigger.AfterCreate, a.Trigger.BeforeExpiry
	switch {
	case a.Action.Type != "Rotate" && a.Action.Type != "Notify":
		return badParameter("Property action.type has an invalid value '%s'.", shorten(a.Action.Type))
	case (after == "") == (before == ""):
		return badParameter("An action needs one trigger: timeAfterCreate or timeBeforeExpiry.")
	case a.Action.Type == "Notify" && after != "":
		return badParameter("An action of type Notify is triggered by timeBeforeExpiry.")
	case a.Action.Type == "Rotate" && before != "" && expiry == "":
		return badParameter("The trigger timeBeforeExpiry needs an expiryTime.")
	}
	d, err := parsePeriod("trigger", after+before)
	if err != nil {
		return err
	}
	if d.days() < minTrigger {
		return badParameter("A trigger must be at least %d days.", minTrigger)
	}
	if expiry == "" {
		return nil
	}
	if whole, err := parsePeriod("expiryTime", expiry); err != nil || d.days() > whole.days()-minTrigger && a.Action.Type == "Rotate" {
		return errors.Join(err, badParameter("A rotation must be at least %d days after the creation and before the expiry.", minTrigger))
	}
	return nil
}

// expiry is the end of a version made at the given time, or nil.
func (p *rotationPolicy) expiry(made time.Time) (*int64, error) {
	if p.Attributes.ExpiryTime == "" {
		return nil, nil
	}
	d, err := parsePeriod("expiryTime", p.Attributes.ExpiryTime)
	if err != nil {
		return nil, err
	}
	return ptr(made.UTC().AddDate(d.years, d.months, d.rest).Unix()), nil
}

// period is an ISO 8601 duration of calendar units.
type period struct{ years, months, rest int }

// days is the least number of days that a period can have.
func (p period) days() int { return 365*p.years + 28*p.months + p.rest }

// parsePeriod reads PnYnMnD or PnW; each number has at most four digits.
func parsePeriod(property, text string) (p period, err error) {
	bad := badParameter("Property %s has an invalid value '%s': an ISO 8601 duration such as P90D is expected.", property, shorten(text))
	body, ok := strings.CutPrefix(text, "P")
	if !ok || body == "" {
		return p, bad
	}
	units := "YMWD"
	for body != "" {
		digits := strings.IndexFunc(body, func(r rune) bool { return r < '0' || r > '9' })
		if digits < 1 || digits > 4 {
			return p, bad
		}
		n, err := strconv.Atoi(body[:digits])
		unit := strings.IndexByte(units, body[digits])
		if err != nil || unit < 0 {
			return p, bad
		}
		switch body[digits] {
		case 'Y':
			p.years = n
		case 'M':
			p.months = n
		case 'W':
			p.rest += 7 * n
		case 'D':
			p.rest += n
		}
		units, body = units[unit+1:], body[digits+1:]
	}
	return p, nil
}
