// Package durable writes files so that they survive a crash: after WriteFile
// returned nil the contents and the name are on disk, and at any moment before
// a reader sees the old file or the new one, never a part.
package durable

import (
	"errors"
	"os"
	"path/filepath"
)

// WriteFile replaces path with data, mode 0600. The temporary file beside it
// has a fixed name (".tmp-" and the base name): a crash leaves at most one a
// path, which the next write takes over, and one writer at a time is the
// caller's duty.
func WriteFile(path string, data []byte) error {
	dir, base := filepath.Split(path)
	temp := filepath.Join(dir, ".tmp-"+base)
	if err := write(temp, data); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	if err := os.Rename(temp, path); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return SyncDir(filepath.Dir(path))
}

func write(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

// SyncDir makes the entries of dir durable: what was created, renamed or
// removed in it stays so after a crash.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
