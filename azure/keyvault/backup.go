package keyvault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"verdant/azure/rest"
	"verdant/hsm"
)

// A backup is all versions of an object, with its twins if it is a
// certificate, as JSON sealed under a key of the token that stands for the
// tenant and the geography: it opens in a vault of both that shares the token,
// and nowhere else. Private keys in it are sealed once more, inside package
// hsm, so that their bytes are never here.
type backup struct {
	Parts []backupPart `json:"parts"`
}

type backupPart struct {
	Kind     Kind            `json:"kind"`
	Name     string          `json:"name"`
	Current  string          `json:"current"`
	Meta     []byte          `json:"meta,omitempty"`
	Versions []backupVersion `json:"versions"`
}

type backupVersion struct {
	ID      string          `json:"id"`
	Created int64           `json:"created"`
	Data    json.RawMessage `json:"data"`
	Key     []byte          `json:"key,omitempty"`   // sealed by the token
	Value   string          `json:"value,omitempty"` // of a secret
}

const (
	maxBackupVersions = 500
	maxBackup         = 6 << 20
	backupBody        = maxBackup/3*4 + 1024
)

type sealedBackup struct {
	Value b64 `json:"value"`
}

func (s *Server) backupRoutes(add adder, kinds []Kind) {
	shows := map[Kind]func(context.Context, Object) (any, error){Keys: s.deletedKey, Secrets: s.deletedSecret, Certificates: s.deletedCertificate}
	for _, kind := range kinds {
		show := shows[kind]
		action := actions + string(kind) + "/"
		add(kind.noun()+"Backup", http.MethodPost, "/"+string(kind)+"/{name}/backup", action+"backup/action", smallBody, slow, s.backUp(kind))
		add(kind.noun()+"Restore", http.MethodPost, "/"+string(kind)+"/restore", action+"restore/action", backupBody, slow, s.putBack(kind, show))
	}
}

// backupLabel names the key of backups. Azure restores within a geography; a
// region is as much as the configuration says, so it stands for it.
func (s *Server) backupLabel() string {
	return "key vault backup " + strings.ToLower(s.cfg.TenantID+" "+s.cfg.Location)
}

func (s *Server) backupKey(ctx context.Context) (hsm.Key, hsm.Backuper, error) {
	token, ok := s.token.(hsm.Backuper)
	if !ok {
		return nil, nil, backupNotSupported()
	}
	if s.local != nil { // what an HSM's holders took out opens its backups, and no other HSM does
		root, err := s.root(ctx)
		if err != nil {
			return nil, nil, err
		}
		k, err := s.token.Key(ctx, root)
		return k, token, err
	}
	k, err := hsm.Ensure(ctx, s.token, s.backupLabel(), hsm.KeySpec{Type: hsm.Oct, Bits: 256})
	return k, token, err
}

func backupNotSupported() error {
	return rest.Errorf(http.StatusBadRequest, "NotSupported", "The HSM of this vault does not let its keys be backed up.")
}

func backupPlace(kind Kind) []byte { return []byte("backup of " + string(kind)) }

var backupKeyPlace = []byte("key in a backup")

func (s *Server) backUp(kind Kind) operation {
	return func(c *call, r *http.Request) (int, any, error) {
		ctx := r.Context()
		key, token, err := s.backupKey(ctx)
		if err != nil {
			return 0, nil, err
		}
		var b backup
		// A transaction that writes nothing sees the versions of one moment.
		err = s.store.Update(ctx, func(tx Tx) error {
			b = backup{}
			if _, err := live(tx, kind, c.name); err != nil {
				return err
			}
			if managed, err := isManaged(tx, kind, c.name); err != nil || managed {
				return errors.Join(err, onlyIf(managed, managedBy("backup", kind)))
			}
			for _, kind := range twins(kind) {
				part, err := s.backUpPart(ctx, tx, kind, c.name, token, key.ID(), maxBackupVersions)
				if err != nil {
					return err
				}
				b.Parts = append(b.Parts, part)
			}
			return nil
		})
		if errors.Is(err, hsm.ErrOperation) {
			err = backupNotSupported()
		}
		if err != nil {
			return 0, nil, err
		}
		c.objectID = s.url(string(kind), b.Parts[0].Name)
		plain, err := json.Marshal(b)
		if err != nil {
			return 0, nil, err
		}
		defer clear(plain)
		if len(plain) > maxBackup {
			return 0, nil, badParameter("The %s has too many versions to be backed up.", strings.ToLower(kind.noun()))
		}
		sealed, err := key.Seal(plain, backupPlace(kind))
		return http.StatusOK, sealedBackup{sealed}, err
	}
}

func (s *Server) backUpPart(ctx context.Context, tx Tx, kind Kind, name string, token hsm.Backuper, under hsm.KeyID, limit int) (backupPart, error) {
	o, err := tx.Object(kind, name)
	if errors.Is(err, ErrNoObject) {
		return backupPart{}, badParameter("A certificate that is not complete cannot be backed up.")
	}
	if err != nil {
		return backupPart{}, err
	}
	versions, err := tx.Versions(kind, name)
	if err != nil {
		return backupPart{}, err
	}
	if len(versions) > limit {
		return backupPart{}, badParameter("The %s has over %d versions: it cannot be backed up.", strings.ToLower(kind.noun()), limit)
	}
	part := backupPart{Kind: kind, Name: o.Name, Current: o.Current, Meta: o.Meta}
	if kind == Certificates { // a pending operation stays behind: its key has no version yet
		meta, err := readMeta(o)
		if err != nil {
			return backupPart{}, err
		}
		meta.Pending = nil
		if part.Meta, err = json.Marshal(meta); err != nil {
			return backupPart{}, err
		}
	}
	for _, v := range versions {
		out := backupVersion{ID: v.ID, Created: v.Created, Data: v.Data}
		switch kind {
		case Keys:
			var k keyRecord
			if err := json.Unmarshal(v.Data, &k); err != nil {
				return backupPart{}, fmt.Errorf("key %s: stored record: %w", name, err)
			}
			if out.Key, err = token.Backup(ctx, k.Token, under, backupKeyPlace); err != nil {
				return backupPart{}, err
			}
		case Secrets:
			whole, err := tx.Version(Secrets, name, v.ID) // lists leave the value out
			if err != nil {
				return backupPart{}, err
			}
			if out.Value, err = s.unseal(ctx, Secrets, o.Name, v.ID, whole.Value); err != nil {
				return backupPart{}, err
			}
		}
		part.Versions = append(part.Versions, out)
	}
	return part, nil
}

// putBack restores a backup: all versions under their old ids, unless the name
// is in use, deleted objects included.
func (s *Server) putBack(kind Kind, show func(context.Context, Object) (any, error)) operation {
	return func(c *call, r *http.Request) (int, any, error) {
		ctx := r.Context()
		key, token, err := s.backupKey(ctx)
		if err != nil {
			return 0, nil, err
		}
		b, err := readBackup(r, kind, key)
		if err != nil {
			return 0, nil, err
		}
		name := b.Parts[0].Name
		if err := s.isFree(ctx, kind, name); err != nil { // before the work
			return 0, nil, err
		}
		made, abandon, err := s.restoreKeys(ctx, b, token, key.ID())
		if err != nil {
			abandon()
			return 0, nil, err
		}
		err = s.update(ctx, name, func(tx Tx) error {
			for _, part := range b.Parts {
				if err := s.restorePart(ctx, tx, kind, part); err != nil {
					return err
				}
			}
			for _, id := range made {
				if err := tx.Spare(id); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			abandon()
			return 0, nil, err
		}
		c.objectID = s.url(string(kind), name)
		body, err := show(ctx, Object{Kind: kind, Name: name})
		return http.StatusOK, body, err
	}
}

func readBackup(r *http.Request, kind Kind, key hsm.Key) (b backup, err error) {
	var in sealedBackup
	if err := decode(r, &in, false); err != nil {
		return b, err
	}
	plain, err := key.Open(in.Value, backupPlace(kind))
	if err != nil {
		return b, badParameter("The backup is not one of a %s that this vault can open: it was made elsewhere, or changed.", strings.ToLower(kind.noun()))
	}
	defer clear(plain)
	if err := json.Unmarshal(plain, &b); err != nil {
		return b, fmt.Errorf("a backup of our own: %w", err)
	}
	if len(b.Parts) != len(twins(kind)) || b.Parts[0].Kind != kind {
		return b, errors.New("a backup of our own has other parts than it should")
	}
	return b, nil
}

func alreadyThere(kind Kind, name string) error {
	return conflict("", "A %s with the name %s exists in this vault: a backup does not replace it.", strings.ToLower(kind.noun()), name)
}

func (s *Server) isFree(ctx context.Context, kind Kind, name string) error {
	for _, kind := range twins(kind) {
		o, _, err := s.store.Get(ctx, kind, name, "")
		switch {
		case errors.Is(err, ErrNoObject):
		case err != nil:
			return err
		case o.State == Live:
			return alreadyThere(kind, name)
		case o.PurgeOn > s.now().Unix():
			return nameIsDeleted(kind, name)
		}
	}
	return nil
}

// restoreKeys takes the keys of a backup into the token under new ids, and
// writes those into the records. abandon destroys them again.
func (s *Server) restoreKeys(ctx context.Context, b backup, token hsm.Backuper, under hsm.KeyID) (made []hsm.KeyID, abandon func(), err error) {
	abandon = func() { s.destroy(context.WithoutCancel(ctx), made...) }
	for _, part := range b.Parts {
		if part.Kind != Keys {
			continue
		}
		for i := range part.Versions {
			v := &part.Versions[i]
			var record keyRecord
			if err := json.Unmarshal(v.Data, &record); err != nil {
				return made, abandon, err
			}
			k, _, err := s.newKey(ctx, func(id hsm.KeyID) (hsm.Key, error) { return token.Restore(ctx, id, under, v.Key, backupKeyPlace) })
			if err != nil {
				return made, abandon, err
			}
			made = append(made, k.ID())
			record.Token = k.ID()
			if v.Data, err = json.Marshal(record); err != nil {
				return made, abandon, err
			}
		}
	}
	return made, abandon, nil
}

func (s *Server) restorePart(ctx context.Context, tx Tx, kind Kind, part backupPart) error {
	if managed, err := isManaged(tx, part.Kind, part.Name); err != nil || managed && kind == part.Kind {
		return errors.Join(err, onlyIf(managed, alreadyThere(part.Kind, part.Name)))
	}
	o, err := s.forWriting(tx, part.Kind, part.Name)
	if err != nil {
		return err
	}
	if o.Current != "" || o.Meta != nil {
		return alreadyThere(part.Kind, part.Name)
	}
	o.Current, o.Meta = part.Current, part.Meta
	for _, v := range part.Versions {
		out := Version{ID: v.ID, Created: v.Created, Data: v.Data}
		if part.Kind == Secrets {
			if out.Data, err = s.rehome(part.Name, v); err != nil {
				return err
			}
			if out.Value, err = s.seal(ctx, Secrets, part.Name, v.ID, v.Value); err != nil {
				return err
			}
		}
		if err := tx.PutVersion(part.Kind, part.Name, out); err != nil {
			return err
		}
	}
	return tx.Put(o)
}

// rehome makes a secret of a certificate name the key in this vault.
func (s *Server) rehome(name string, v backupVersion) ([]byte, error) {
	var record secretRecord
	if err := json.Unmarshal(v.Data, &record); err != nil {
		return nil, err
	}
	if record.KID == "" {
		return v.Data, nil
	}
	record.KID = s.url("keys", name, v.ID)
	return json.Marshal(record)
}
