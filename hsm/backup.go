package hsm

import (
	"context"
	"errors"
	"fmt"
)

// Backuper is a Token whose keys, exportable or not, can leave it sealed under
// another key of the same token (AES-256-GCM): for a backup that only a token
// with that key takes back. A token in hardware may not be one.
type Backuper interface {
	// Backup returns the key sealed under the 256-bit Oct key under. The
	// associated data must be given to Restore again.
	Backup(ctx context.Context, id, under KeyID, associated []byte) ([]byte, error)
	// Restore takes a backup back under a new id, or returns ErrExists. What
	// does not open is ErrMaterial.
	Restore(ctx context.Context, id, under KeyID, sealed, associated []byte) (Key, error)
}

// Backup implements Backuper.
func (s *Software) Backup(ctx context.Context, id, under KeyID, associated []byte) ([]byte, error) {
	k, err := s.find(ctx, id)
	if err != nil {
		return nil, err
	}
	sealer, err := s.find(ctx, under)
	if err != nil {
		return nil, err
	}
	record, err := k.m.encode()
	if err != nil {
		return nil, fmt.Errorf("back up key %s: %w", id, err)
	}
	defer clear(record)
	return sealer.Seal(record, associated)
}

// Restore implements Backuper.
func (s *Software) Restore(ctx context.Context, id, under KeyID, sealed, associated []byte) (Key, error) {
	sealer, err := s.find(ctx, under)
	if err != nil {
		return nil, err
	}
	record, err := sealer.Open(sealed, associated)
	if err != nil {
		return nil, fmt.Errorf("restore key %s: %w: the backup does not open in this token", id, ErrMaterial)
	}
	defer clear(record)
	k, err := decode(id, record)
	if err != nil {
		return nil, fmt.Errorf("restore key %s: %w: %w", id, ErrMaterial, err)
	}
	return s.create(ctx, id, k.m.spec.Exportable, func() (*Material, error) { return k.m, nil })
}

// Backup implements Backuper for the keys in the software token; those in
// hardware do not leave it.
func (s *split) Backup(ctx context.Context, id, under KeyID, associated []byte) ([]byte, error) {
	home, ok := s.software.(Backuper)
	if !ok {
		return nil, errNoBackup
	}
	sealed, err := home.Backup(ctx, id, under, associated)
	if errors.Is(err, ErrNotFound) {
		return nil, errNoBackup
	}
	return sealed, err
}

// Restore implements Backuper.
func (s *split) Restore(ctx context.Context, id, under KeyID, sealed, associated []byte) (Key, error) {
	home, ok := s.software.(Backuper)
	if !ok {
		return nil, errNoBackup
	}
	return home.Restore(ctx, id, under, sealed, associated)
}

var errNoBackup = fmt.Errorf("%w: keys in this token are not backed up through it", ErrOperation)

var (
	_ Backuper = (*Software)(nil)
	_ Backuper = (*split)(nil)
)
