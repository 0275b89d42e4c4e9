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
	"time"

	"verdant/azure/rest"
	"verdant/hsm"
)

// A full backup is a folder of blobs: parts with keys, in the order of their
// names, and a manifest, written last, that lists the parts and holds the
// roles. Each is sealed under the HSM's root for its place in its backup, so
// that parts of two backups do not mix; private keys in a part are sealed once
// more, inside package hsm.
type manifest struct {
	Version int    `json:"version"`
	ID      string `json:"id"`
	HSM     string `json:"hsm"`
	Created int64  `json:"created"`

	Parts       []manifestPart    `json:"parts"`
	Roles       []customRole      `json:"roles"`
	Assignments []localAssignment `json:"assignments"`
	Settings    map[string]string `json:"settings,omitempty"`
}

// manifestPart names a part: the folded names of its first and last key, and
// the SHA-256 of the blob.
type manifestPart struct {
	Blob   string `json:"blob"`
	First  string `json:"first"`
	Last   string `json:"last"`
	SHA256 string `json:"sha256"`
}

// savedKey is a key in a part, deleted ones too.
type savedKey struct {
	backupPart
	State     State `json:"state,omitempty"`
	DeletedOn int64 `json:"deletedOn,omitempty"`
	PurgeOn   int64 `json:"purgeOn,omitempty"`
}

const (
	manifestBlob    = "manifest"
	manifestVersion = 1
	partSize        = 2 << 20 // of JSON, about
	keyVersions     = 100_000 // of one key, in a full backup
)

var manifestPlace = []byte("managed HSM full backup, manifest")

func partPlace(id, blob string) []byte { return []byte("managed HSM full backup " + id + ", " + blob) }

func badBackup() error {
	return rest.Errorf(http.StatusBadRequest, "BadBackup",
		"The backup does not open in this managed HSM: it was made under another security domain, or changed.")
}

// backUpAll writes a full backup.
func (s *Server) backUpAll(ctx context.Context, job *hsmJob, c *container) error {
	key, token, err := s.backupKey(ctx)
	if err != nil {
		return err
	}
	v, err := s.view(ctx)
	if err != nil {
		return err
	}
	m := manifest{Version: manifestVersion, ID: job.ID, HSM: s.cfg.Name, Created: job.Start, Roles: v.roles, Assignments: v.assignments, Settings: v.state.Settings}
	w := partWriter{s: s, c: c, key: key, folder: job.Folder, manifest: &m}
	names, err := s.keyNames(ctx)
	if err != nil {
		return err
	}
	for _, name := range names {
		saved, err := s.saveKey(ctx, name, token, key.ID())
		if errors.Is(err, ErrNoObject) {
			continue // purged in the meantime
		}
		if err != nil {
			return err
		}
		if err := w.add(ctx, job, saved); err != nil {
			return err
		}
	}
	if err := w.flush(ctx, job); err != nil {
		return err
	}
	plain, err := json.Marshal(m)
	if err != nil {
		return err
	}
	sealed, err := key.Seal(plain, manifestPlace)
	if err != nil {
		return err
	}
	return c.put(ctx, job.Folder+"/"+manifestBlob, sealed)
}

// keyNames lists the folded names of all keys, deleted ones too, in order.
func (s *Server) keyNames(ctx context.Context) ([]string, error) {
	var names []string
	for _, state := range []State{Live, Deleted} {
		for after := ""; ; {
			entries, err := s.store.List(ctx, Keys, state, after, 500)
			if err != nil {
				return nil, err
			}
			if len(entries) == 0 {
				break
			}
			for _, e := range entries {
				after = fold(e.Object.Name)
				names = append(names, after)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// saveKey reads one key as it is at one moment.
func (s *Server) saveKey(ctx context.Context, name string, token hsm.Backuper, under hsm.KeyID) (saved savedKey, err error) {
	err = s.store.Update(ctx, func(tx Tx) error {
		o, err := tx.Object(Keys, name)
		if err != nil {
			return err
		}
		saved = savedKey{State: o.State, DeletedOn: o.DeletedOn, PurgeOn: o.PurgeOn}
		saved.backupPart, err = s.backUpPart(ctx, tx, Keys, name, token, under, keyVersions)
		return err
	})
	if errors.Is(err, hsm.ErrOperation) {
		err = backupNotSupported()
	}
	return saved, err
}

// partWriter gathers keys into blobs.
type partWriter struct {
	s        *Server
	c        *container
	key      hsm.Key
	folder   string
	manifest *manifest
	pending  []json.RawMessage
	size     int
	first    string
	last     string
}

func (w *partWriter) add(ctx context.Context, job *hsmJob, k savedKey) error {
	one, err := json.Marshal(k)
	if err != nil {
		return err
	}
	if len(w.pending) == 0 {
		w.first = fold(k.Name)
	}
	w.last = fold(k.Name)
	w.pending, w.size = append(w.pending, one), w.size+len(one)
	if w.size < partSize {
		return nil
	}
	return w.flush(ctx, job)
}

func (w *partWriter) flush(ctx context.Context, job *hsmJob) error {
	if len(w.pending) == 0 {
		return nil
	}
	if err := w.s.keep(ctx, job, nil); err != nil {
		return err
	}
	blob := fmt.Sprintf("part-%06d", len(w.manifest.Parts)+1)
	plain, err := json.Marshal(w.pending)
	if err != nil {
		return err
	}
	sealed, err := w.key.Seal(plain, partPlace(w.manifest.ID, blob))
	if err != nil {
		return err
	}
	if err := w.c.put(ctx, w.folder+"/"+blob, sealed); err != nil {
		return err
	}
	sum := sha256.Sum256(sealed)
	w.manifest.Parts = append(w.manifest.Parts, manifestPart{Blob: blob, First: w.first, Last: w.last, SHA256: hex.EncodeToString(sum[:])})
	w.pending, w.size = nil, 0
	return nil
}

// errLost stops a server that was too slow for its lease.
var errLost = errors.New("another server does the job by now")

// keep renews the lease of a job, and says of keys that were made for it that
// they are still to get an owner.
func (s *Server) keep(ctx context.Context, job *hsmJob, made []hsm.KeyID) error {
	if time.Duration(job.Lease-s.now().Unix())*time.Second > jobLease/2 {
		return nil
	}
	mine, err := s.lease(ctx, job)
	if err == nil && !mine {
		err = errLost
	}
	if err != nil || len(made) == 0 {
		return err
	}
	return s.store.Update(ctx, func(tx Tx) error {
		for _, id := range made {
			if err := tx.Doom(id, s.now().UnixNano()); err != nil {
				return err
			}
		}
		return nil
	})
}

// checkStorage finds out whether a full backup could be written now.
func (s *Server) checkStorage(ctx context.Context, job *hsmJob, c *container) error {
	if _, _, err := s.backupKey(ctx); err != nil {
		return err
	}
	blob := job.Folder + "/check"
	if err := c.put(ctx, blob, []byte("check\n")); err != nil {
		return err
	}
	return c.delete(ctx, blob)
}

// openBackup reads the manifest of a backup.
func (s *Server) openBackup(ctx context.Context, job *hsmJob, c *container) (manifest, hsm.Key, hsm.Backuper, error) {
	var m manifest
	key, token, err := s.backupKey(ctx)
	if err != nil {
		return m, nil, nil, err
	}
	sealed, err := c.get(ctx, job.Folder+"/"+manifestBlob)
	if err != nil {
		return m, nil, nil, err
	}
	plain, err := key.Open(sealed, manifestPlace)
	if err != nil {
		return m, nil, nil, badBackup()
	}
	if err := json.Unmarshal(plain, &m); err != nil || m.Version != manifestVersion {
		return m, nil, nil, badBackup()
	}
	return m, key, token, nil
}

func (s *Server) openPart(ctx context.Context, job *hsmJob, c *container, m *manifest, key hsm.Key, p manifestPart) ([]savedKey, error) {
	if !folderPattern.MatchString(p.Blob) {
		return nil, badBackup()
	}
	sealed, err := c.get(ctx, job.Folder+"/"+p.Blob)
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(sealed); hex.EncodeToString(sum[:]) != p.SHA256 {
		return nil, badBackup()
	}
	plain, err := key.Open(sealed, partPlace(m.ID, p.Blob))
	if err != nil {
		return nil, badBackup()
	}
	var saved []savedKey
	if err := json.Unmarshal(plain, &saved); err != nil {
		return nil, badBackup()
	}
	return saved, nil
}

// checkBackup finds out whether a full restore could succeed: the backup is
// whole, and this HSM opens it.
func (s *Server) checkBackup(ctx context.Context, job *hsmJob, c *container) error {
	m, key, _, err := s.openBackup(ctx, job, c)
	if err != nil {
		return err
	}
	for _, p := range m.Parts {
		if err := s.keep(ctx, job, nil); err != nil {
			return err
		}
		if _, err := s.openPart(ctx, job, c, &m, key, p); err != nil {
			return err
		}
	}
	return nil
}

// restoreAll makes the HSM what it was when the backup was made. Everything is
// read, checked and in the token before one transaction puts it in the place of
// what is there: a failure, or the server's end, before that changes nothing.
func (s *Server) restoreAll(ctx context.Context, job *hsmJob, c *container) (details string, err error) {
	m, key, token, err := s.openBackup(ctx, job, c)
	if err != nil {
		return "", err
	}
	var administrators []string
	for _, a := range m.Assignments {
		if a.administers() {
			administrators = append(administrators, a.Name)
		}
	}
	if len(administrators) == 0 {
		return "", badBackup()
	}
	var all []savedKey
	var made []hsm.KeyID
	done := false
	defer func() {
		if !done {
			s.destroy(context.WithoutCancel(ctx), made...)
		}
	}()
	for _, p := range m.Parts {
		saved, err := s.openPart(ctx, job, c, &m, key, p)
		if err != nil {
			return "", err
		}
		for i := range saved {
			new, _, err := s.restoreKeys(ctx, backup{Parts: []backupPart{saved[i].backupPart}}, token, key.ID())
			made = append(made, new...)
			if err != nil {
				return "", err
			}
			if err := s.keep(ctx, job, made); err != nil {
				return "", err
			}
		}
		all = append(all, saved...)
	}
	gone, err := s.replaceAll(ctx, job, m, all, made, administrators)
	if err != nil {
		return "", err
	}
	done = true
	s.destroy(context.WithoutCancel(ctx), gone...)
	return restored(len(made), 0), nil
}

func restored(added, kept int) string {
	return fmt.Sprintf("Number of successful key versions restored: %d, Number of key versions could not overwrite: %d", added, kept)
}

// replaceAll is the transaction of a full restore. It returns the token's keys
// that have no owner any more.
func (s *Server) replaceAll(ctx context.Context, job *hsmJob, m manifest, all []savedKey, made []hsm.KeyID, administrators []string) (gone []hsm.KeyID, err error) {
	names, err := s.keyNames(ctx)
	if err != nil {
		return nil, err
	}
	defer func() {
		for _, name := range names {
			s.cache.drop(Keys, name)
		}
		for _, k := range all {
			s.cache.drop(Keys, k.Name)
		}
	}()
	v, err := s.view(ctx)
	if err != nil {
		return nil, err
	}
	err = s.changeState(ctx, func(tx Tx, st *hsmState) error {
		gone = nil
		if now, err := getRecord[hsmJob](tx, kindJob, job.ID); err != nil || now.Lease != job.Lease {
			return errors.Join(err, errLost)
		}
		for _, name := range names {
			o, err := tx.Object(Keys, name)
			if errors.Is(err, ErrNoObject) {
				continue
			}
			if err != nil {
				return err
			}
			ids, err := s.keysOf(tx, o)
			if err != nil {
				return err
			}
			gone = append(gone, ids...)
			if err := s.purgeIn(tx, o); err != nil {
				return err
			}
		}
		for _, k := range all {
			if err := putSaved(tx, k); err != nil {
				return err
			}
		}
		for _, id := range made {
			if err := tx.Spare(id); err != nil {
				return err
			}
		}
		st.Administrators, st.Settings = administrators, m.Settings
		return replaceRoles(tx, v, m)
	})
	return gone, err
}

func putSaved(tx Tx, k savedKey) error {
	for _, version := range k.Versions {
		if err := tx.PutVersion(Keys, k.Name, Version{ID: version.ID, Created: version.Created, Data: version.Data}); err != nil {
			return err
		}
	}
	return tx.Put(Object{Kind: Keys, Name: k.Name, State: k.State, Current: k.Current, DeletedOn: k.DeletedOn, PurgeOn: k.PurgeOn, Meta: k.Meta})
}

func replaceRoles(tx Tx, v *localView, m manifest) error {
	for _, r := range v.roles {
		if err := tx.Delete(kindRole, r.Name); err != nil {
			return err
		}
	}
	for _, a := range v.assignments {
		if err := tx.Delete(kindAssignment, a.Name); err != nil {
			return err
		}
	}
	for _, r := range m.Roles {
		if err := putRecord(tx, kindRole, r.Name, r); err != nil {
			return err
		}
	}
	for _, a := range m.Assignments {
		if err := putRecord(tx, kindAssignment, a.Name, a); err != nil {
			return err
		}
	}
	return nil
}

// restoreKey adds the versions of one key that the HSM does not have. What is
// there stays as it is.
func (s *Server) restoreKey(ctx context.Context, job *hsmJob, c *container) (details string, err error) {
	m, key, token, err := s.openBackup(ctx, job, c)
	if err != nil {
		return "", err
	}
	name := fold(job.Key)
	at := slices.IndexFunc(m.Parts, func(p manifestPart) bool { return p.First <= name && name <= p.Last })
	if at < 0 {
		return "", rest.Errorf(http.StatusNotFound, "KeyNotFound", "The backup holds no key %s.", job.Key)
	}
	saved, err := s.openPart(ctx, job, c, &m, key, m.Parts[at])
	if err != nil {
		return "", err
	}
	i := slices.IndexFunc(saved, func(k savedKey) bool { return fold(k.Name) == name })
	if i < 0 {
		return "", rest.Errorf(http.StatusNotFound, "KeyNotFound", "The backup holds no key %s.", job.Key)
	}
	return s.addVersions(ctx, saved[i], token, key.ID())
}

func (s *Server) addVersions(ctx context.Context, k savedKey, token hsm.Backuper, under hsm.KeyID) (details string, err error) {
	have, err := s.store.Versions(ctx, Keys, k.Name, "", keyVersions)
	if err != nil {
		return "", err
	}
	total := len(k.Versions)
	k.Versions = slices.DeleteFunc(k.Versions, func(v backupVersion) bool {
		return slices.ContainsFunc(have, func(h Version) bool { return h.ID == v.ID })
	})
	made, abandon, err := s.restoreKeys(ctx, backup{Parts: []backupPart{k.backupPart}}, token, under)
	if err != nil {
		abandon()
		return "", err
	}
	err = s.update(ctx, k.Name, func(tx Tx) error {
		o, err := s.forWriting(tx, Keys, k.Name)
		if err != nil {
			return err
		}
		if o.Current == "" {
			o.Name, o.Current, o.Meta = k.Name, k.Current, k.Meta
		}
		for _, v := range k.Versions {
			switch _, err := tx.Version(Keys, k.Name, v.ID); {
			case err == nil:
				return conflict("", "The key %s was changed while it was restored: try again.", k.Name)
			case !errors.Is(err, ErrNoVersion):
				return err
			}
			if err := tx.PutVersion(Keys, k.Name, Version{ID: v.ID, Created: v.Created, Data: v.Data}); err != nil {
				return err
			}
		}
		for _, id := range made {
			if err := tx.Spare(id); err != nil {
				return err
			}
		}
		return tx.Put(o)
	})
	if err != nil {
		abandon()
		return "", err
	}
	return restored(len(k.Versions), total-len(k.Versions)), nil
}
