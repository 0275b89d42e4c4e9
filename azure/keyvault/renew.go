package keyvault

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

const (
	renewEvery = 10 * time.Minute
	renewBatch = 200
	// nearExpiry is when a notice is given where no policy says when.
	nearExpiry = 30 * day
)

// renew runs Renew every ten minutes. It ends with ctx.
func (s *Server) renew(ctx context.Context) error {
	for ctx.Err() == nil {
		s.Renew(ctx)
		wait(ctx, renewEvery)
	}
	return nil
}

// Renew does what the rotation policies of keys and the lifetime actions of
// certificates say is due, by the vault's clock: it rotates keys, renews
// certificates of issuer Self, and records that something is about to expire or
// has. Run does it every ten minutes; what cannot be done now is tried again
// then. Each thing is done once, also where several servers have the store
// open, but for a notice, of which a crash may leave two. Everything is an
// audit record, by nobody.
func (s *Server) Renew(ctx context.Context) {
	s.eachCurrent(ctx, Keys, func(e Entry) error { return s.renewKey(ctx, e) })
	if !s.cfg.ManagedHSM {
		s.eachCurrent(ctx, Certificates, func(e Entry) error { return s.renewCertificate(ctx, e) })
	}
}

// eachCurrent calls fn for every live object of a kind that has a version. An
// error of one does not keep the others waiting.
func (s *Server) eachCurrent(ctx context.Context, kind Kind, fn func(Entry) error) {
	for after := ""; ctx.Err() == nil; {
		entries, err := s.store.List(ctx, kind, Live, after, renewBatch)
		if err != nil || len(entries) == 0 {
			return
		}
		for _, e := range entries {
			after = strings.ToLower(e.Object.Name)
			if e.Version.ID != "" {
				_ = fn(e) // its audit record says what went wrong
			}
		}
	}
}

func (s *Server) renewKey(ctx context.Context, e Entry) error {
	var k keyRecord
	if err := json.Unmarshal(e.Version.Data, &k); err != nil {
		return fmt.Errorf("key %s: stored record: %w", e.Object.Name, err)
	}
	if k.Managed || !k.Attributes.Enabled {
		return nil // a certificate's key goes with its certificate
	}
	policy, err := readRotationPolicy(e.Object)
	if err != nil {
		return err
	}
	expires := k.Attributes.Expires
	now := s.now()
	notice := int64(0)
	for i := range policy.Actions {
		a := &policy.Actions[i]
		at, err := a.due(e.Version.Created, expires)
		switch {
		case err != nil:
			return err
		case at == 0: // it waits for an expiry that there is not
		case a.Action.Type == "Notify":
			notice = at
		case at <= now.Unix():
			return s.byItself(ctx, "KeyRotate", e, "", s.rotateKey)
		}
	}
	return s.notify(ctx, e, expires, notice, policy.Noted)
}

// due is when an action is triggered for a version made and expiring at the
// given times, or 0 if never.
func (a *rotationAction) due(made int64, expires *int64) (int64, error) {
	after, before := a.Trigger.AfterCreate, a.Trigger.BeforeExpiry
	if before != "" && expires == nil {
		return 0, nil
	}
	p, err := parsePeriod("trigger", after+before)
	if err != nil {
		return 0, err
	}
	if after != "" {
		return time.Unix(made, 0).UTC().AddDate(p.years, p.months, p.rest).Unix(), nil
	}
	return time.Unix(*expires, 0).UTC().AddDate(-p.years, -p.months, -p.rest).Unix(), nil
}

func (s *Server) renewCertificate(ctx context.Context, e Entry) error {
	var k certRecord
	if err := json.Unmarshal(e.Version.Data, &k); err != nil {
		return fmt.Errorf("certificate %s: stored record: %w", e.Object.Name, err)
	}
	meta, err := readMeta(e.Object)
	if err != nil || k.Attributes.Expires == nil || !k.Attributes.Enabled {
		return err
	}
	begun := k.Attributes.Created
	if k.Attributes.NotBefore != nil {
		begun = *k.Attributes.NotBefore
	}
	policy := meta.Policy
	on := policy.Attributes == nil || policy.Attributes.Enabled == nil || *policy.Attributes.Enabled
	notice := *k.Attributes.Expires - nearExpiry
	for _, a := range policy.Lifetime {
		at := a.due(begun, *k.Attributes.Expires)
		switch {
		case a.Action.Type == "EmailContacts":
			notice = at
		case at > s.now().Unix() || !on:
		case !strings.EqualFold(policy.Issuer.Name, "Self"):
			notice = at // nobody but people can have it signed
		case meta.Pending == nil || meta.Pending.Status != inProgress:
			body, err := json.Marshal(createCertIn{Policy: &policy, Tags: k.Tags})
			if err != nil {
				return err
			}
			return s.byItself(ctx, "CertificateRenew", e, string(body), s.createCertificate)
		}
	}
	return s.notify(ctx, e, k.Attributes.Expires, notice, meta.Noted)
}

// due is when an action is triggered for a certificate with the given lifetime.
func (a *lifetimeAction) due(begins, ends int64) int64 {
	switch {
	case a.Trigger.Percentage != nil:
		return begins + (ends-begins)/100*int64(*a.Trigger.Percentage)
	case a.Trigger.Days != nil:
		return ends - int64(*a.Trigger.Days)*day
	}
	return ends - nearExpiry
}

// notify records, once a version each, that it is about to expire and that it
// has. noted is what was recorded last.
func (s *Server) notify(ctx context.Context, e Entry, expires *int64, notice int64, noted string) error {
	now := s.now().Unix()
	event := ""
	switch {
	case expires == nil:
	case *expires <= now:
		event = "Expired"
	case notice != 0 && notice <= now:
		event = "NearExpiry"
	}
	mark := event + " " + e.Version.ID
	if event == "" || mark == noted {
		return nil
	}
	return s.byItself(ctx, e.Object.Kind.noun()+event+"EventGridNotification", e, "", func(c *call, r *http.Request) (int, any, error) {
		err := s.update(r.Context(), c.name, func(tx Tx) error {
			o, err := live(tx, e.Object.Kind, c.name)
			if err == nil {
				err = errors.Join(c.stillSo(tx), setNoted(&o, mark))
			}
			if err != nil {
				return err
			}
			return tx.Put(o)
		})
		return http.StatusOK, struct{}{}, err
	})
}

// setNoted writes the mark into what the kind keeps for all versions.
func setNoted(o *Object, mark string) error {
	if o.Kind == Keys {
		p, err := readRotationPolicy(*o)
		if err == nil {
			p.Noted = mark
			o.Meta, err = json.Marshal(p)
		}
		return err
	}
	meta, err := readMeta(*o)
	if err == nil {
		meta.Noted = mark
		o.Meta, err = json.Marshal(meta)
	}
	return err
}

// byItself runs an operation that nobody asked for: with the conditions of one
// that somebody did, with an audit record, and only while the entry's version is
// still the current one.
func (s *Server) byItself(ctx context.Context, name string, e Entry, body string, op operation) error {
	ctx, cancel := context.WithTimeout(ctx, slow)
	defer cancel()
	version := Versions[len(Versions)-1]
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url(string(e.Object.Kind), e.Object.Name)+"?api-version="+version, bytes.NewReader([]byte(body)))
	if err != nil {
		return err
	}
	r.Header.Set("User-Agent", "Key Vault lifetime actions")
	c := &call{id: uuid(), start: s.now(), op: name, api: version, name: e.Object.Name, objectID: s.url(string(e.Object.Kind), e.Object.Name, e.Version.ID),
		answer: answer{header: http.Header{}}}
	c.only = func(tx Tx) error {
		o, err := live(tx, e.Object.Kind, e.Object.Name)
		if err == nil && o.Current != e.Version.ID {
			err = errOvertaken
		}
		return err
	}
	status, _, err := op(c, r)
	if errors.Is(err, errOvertaken) {
		return nil // another server, or somebody, was faster
	}
	c.WriteHeader(status)
	if err != nil {
		c.reset()
		c.fail(err)
	}
	return errors.Join(err, s.record(context.WithoutCancel(ctx), c, r))
}

// errOvertaken says that an object has a newer version than the one whose time
// had come.
var errOvertaken = errors.New("the version is no longer the current one")

// stillSo asks, inside a transaction, whether what made the vault do this by
// itself still holds; what somebody asked for always does.
func (c *call) stillSo(tx Tx) error {
	if c.only == nil {
		return nil
	}
	return c.only(tx)
}
