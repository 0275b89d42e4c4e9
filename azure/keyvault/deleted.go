package keyvault

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"verdant/hsm"
)

const day = 24 * 60 * 60

// deletion is what a deleted object shows besides itself.
type deletion struct {
	RecoveryID         string `json:"recoveryId,omitempty"`
	DeletedDate        int64  `json:"deletedDate,omitempty"`
	ScheduledPurgeDate int64  `json:"scheduledPurgeDate,omitempty"`
}

func (s *Server) deletion(o Object) deletion {
	return deletion{s.url("deleted"+string(o.Kind), o.Name), o.DeletedOn, o.PurgeOn}
}

// twins are the kinds that share an object's fate: a certificate goes with its
// key and its secret.
func twins(kind Kind) []Kind {
	if kind == Certificates {
		return []Kind{Certificates, Keys, Secrets}
	}
	return []Kind{kind}
}

// isManaged reports whether an object belongs to a certificate.
func isManaged(tx Tx, kind Kind, name string) (bool, error) {
	if kind == Certificates {
		return false, nil
	}
	_, err := tx.Object(Certificates, name)
	if errors.Is(err, ErrNoObject) {
		return false, nil
	}
	return err == nil, err
}

// setState moves an object and its twins to another state, inside a
// transaction.
func (s *Server) setState(tx Tx, o Object, state State) (Object, error) {
	for _, kind := range twins(o.Kind) {
		twin, err := tx.Object(kind, o.Name)
		if errors.Is(err, ErrNoObject) {
			continue
		}
		if err != nil {
			return Object{}, err
		}
		twin.State, twin.DeletedOn, twin.PurgeOn = state, 0, 0
		if state == Deleted {
			twin.DeletedOn = s.now().Unix()
			twin.PurgeOn = twin.DeletedOn + int64(s.cfg.RetentionDays)*day
		}
		if err := tx.Put(twin); err != nil {
			return Object{}, err
		}
		if kind == o.Kind {
			o = twin
		}
	}
	return o, nil
}

// remove soft-deletes a name.
func (s *Server) remove(kind Kind, show func(context.Context, Object) (any, error)) operation {
	return func(c *call, r *http.Request) (int, any, error) {
		var o Object
		err := s.update(r.Context(), c.name, func(tx Tx) (err error) {
			if o, err = live(tx, kind, c.name); err != nil {
				return err
			}
			if managed, err := isManaged(tx, kind, c.name); err != nil || managed {
				return errors.Join(err, onlyIf(managed, managedBy("delete", kind)))
			}
			o, err = s.setState(tx, o, Deleted)
			return err
		})
		if err != nil {
			return 0, nil, err
		}
		body, err := show(r.Context(), o)
		return http.StatusOK, body, err
	}
}

func onlyIf(cond bool, err error) error {
	if cond {
		return err
	}
	return nil
}

// deleted reads a deleted object; one whose time has come is gone.
func (s *Server) deleted(ctx context.Context, kind Kind, name string) (Object, error) {
	o, _, err := s.store.Get(ctx, kind, name, "")
	if errors.Is(err, ErrNoObject) || err == nil && (o.State != Deleted || o.PurgeOn <= s.now().Unix()) {
		return Object{}, deletedNotFound(kind, name)
	}
	return o, err
}

// getDeleted shows a deleted object.
func (s *Server) getDeleted(kind Kind, show func(context.Context, Object) (any, error)) operation {
	return func(c *call, r *http.Request) (int, any, error) {
		o, err := s.deleted(r.Context(), kind, c.name)
		if err != nil {
			return 0, nil, err
		}
		body, err := show(r.Context(), o)
		return http.StatusOK, body, err
	}
}

// restore recovers a deleted object ("recover" in the API).
func (s *Server) restore(kind Kind, show func(context.Context, Object) (any, error)) operation {
	return func(c *call, r *http.Request) (int, any, error) {
		var o Object
		err := s.update(r.Context(), c.name, func(tx Tx) (err error) {
			if o, err = s.deletedIn(tx, kind, c.name, "recover"); err != nil {
				return err
			}
			o, err = s.setState(tx, o, Live)
			return err
		})
		if err != nil {
			return 0, nil, err
		}
		body, err := show(r.Context(), o)
		return http.StatusOK, body, err
	}
}

func (s *Server) deletedIn(tx Tx, kind Kind, name, op string) (Object, error) {
	o, err := tx.Object(kind, name)
	if errors.Is(err, ErrNoObject) || err == nil && (o.State != Deleted || o.PurgeOn <= s.now().Unix()) {
		return Object{}, deletedNotFound(kind, name)
	}
	if err != nil {
		return Object{}, err
	}
	managed, err := isManaged(tx, kind, name)
	return o, errors.Join(err, onlyIf(managed, managedBy(op, kind)))
}

// purge destroys a deleted object at once, unless the vault forbids it.
func (s *Server) purge(kind Kind) operation {
	return func(c *call, r *http.Request) (int, any, error) {
		var gone []hsm.KeyID
		err := s.update(r.Context(), c.name, func(tx Tx) error {
			o, err := s.deletedIn(tx, kind, c.name, "purge")
			if err != nil {
				return err
			}
			if s.cfg.PurgeProtection {
				return forbidden("", "Operation \"purge\" is not allowed because purge protection is enabled for this vault. Key Vault service will automatically purge it after the retention period has passed.\r\nVault: %s;location=%s",
					s.cfg.Name, s.cfg.Location)
			}
			gone, err = s.keysOf(tx, o)
			return errors.Join(err, s.purgeIn(tx, o))
		})
		if err != nil {
			return 0, nil, err
		}
		s.destroy(context.WithoutCancel(r.Context()), gone...)
		return http.StatusNoContent, nil, nil
	}
}

// purgeIn removes an object and its twins and dooms their keys, inside a
// transaction. The keys are destroyed after it, or at the next start.
func (s *Server) purgeIn(tx Tx, o Object) error {
	ids, err := s.keysOf(tx, o)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if err := tx.Doom(id, s.now().UnixNano()); err != nil {
			return err
		}
	}
	for _, kind := range twins(o.Kind) {
		if err := tx.Delete(kind, o.Name); err != nil {
			return err
		}
	}
	return nil
}

// keysOf lists the token's keys that an object owns.
func (s *Server) keysOf(tx Tx, o Object) ([]hsm.KeyID, error) {
	if o.Kind == Secrets {
		return nil, nil
	}
	versions, err := tx.Versions(Keys, o.Name)
	if err != nil {
		return nil, err
	}
	var ids []hsm.KeyID
	for _, v := range versions {
		var k keyRecord
		if err := json.Unmarshal(v.Data, &k); err != nil {
			return nil, err
		}
		if k.Token != "" {
			ids = append(ids, k.Token)
		}
	}
	if o.Kind == Certificates {
		meta, err := readMeta(o)
		if err != nil {
			return nil, err
		}
		if p := meta.Pending; p != nil && p.Token != "" {
			ids = append(ids, p.Token)
		}
	}
	return ids, nil
}

const (
	sweepEvery = time.Minute
	sweepBatch = 100
	// orphaned is how long a key may be without an owner until it counts as
	// left behind. One that is still wanted after that fails to get its owner,
	// and no harm is done.
	orphaned = 10 * time.Minute
)

// sweep runs Sweep every minute. It ends with ctx.
func (s *Server) sweep(ctx context.Context) error {
	for ctx.Err() == nil {
		s.Sweep(ctx)
		wait(ctx, sweepEvery)
	}
	return nil
}

// Sweep destroys keys that have no owner (those doomed before this server
// started, if it is the only one, and those doomed long ago) and purges deleted
// objects whose retention is over, by the vault's clock. Run does it every
// minute; what cannot be done now is done the next time.
func (s *Server) Sweep(ctx context.Context) {
	before := s.now().Add(-orphaned)
	if s.shared == nil && before.Before(s.born) {
		before = s.born
	}
	if ids, err := s.store.Doomed(ctx, before.UnixNano()); err == nil {
		s.destroy(ctx, ids...)
	}
	for ctx.Err() == nil {
		due, err := s.store.Due(ctx, s.now().Unix(), sweepBatch)
		if err != nil || len(due) == 0 {
			return
		}
		for _, o := range due {
			if !s.sweepOne(ctx, o) {
				return
			}
		}
	}
}

func (s *Server) sweepOne(ctx context.Context, o Object) bool {
	var gone []hsm.KeyID
	err := s.update(ctx, o.Name, func(tx Tx) error {
		gone = nil
		now, err := tx.Object(o.Kind, o.Name)
		if errors.Is(err, ErrNoObject) {
			return nil // its twin took it along
		}
		if err != nil || now.State != Deleted || now.PurgeOn > s.now().Unix() {
			return err
		}
		if managed, err := isManaged(tx, o.Kind, o.Name); err != nil {
			return err
		} else if managed {
			now.Kind = Certificates // the certificate is due at the same time
		}
		gone, err = s.keysOf(tx, now)
		return errors.Join(err, s.purgeIn(tx, now))
	})
	if err != nil {
		return false
	}
	s.destroy(ctx, gone...)
	return true
}
