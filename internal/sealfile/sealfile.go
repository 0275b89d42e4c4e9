// Package sealfile keeps small files that are sealed at rest.
//
// A file is one AES-256-GCM message under the directory's key with a fresh
// random nonce; its name is bound as associated data, so a sealed file cannot
// be passed off under another name. A write is atomic and durable: after Write
// returned nil the new contents survive a crash, and at any moment a reader
// sees the old contents or the new, never a mixture. The replay of an older
// file under the same name is not detected.
//
// Random 96-bit nonces bound the writes under one key to 2^32 (NIST SP
// 800-38D, section 8.3), far beyond what a directory of settings sees.
package sealfile

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"verdant/internal/durable"
)

const (
	// magic starts every sealed file: format and version.
	magic = "VSEAL1\n\x00"
	// maxSize bounds a file; larger things belong into a database.
	maxSize = 64 << 20
	// tempPrefix marks unfinished writes of package durable; no name may
	// start with it.
	tempPrefix = ".tmp-"
)

var (
	// ErrName is wrapped for a name that is not one plain path element.
	ErrName = errors.New("not a file name")
	// ErrSeal is wrapped when a file does not open: another key, another name,
	// or changed bytes.
	ErrSeal = errors.New("file is not sealed under this key and name, or was changed")
	// ErrTooLarge is wrapped for contents over 64 MiB.
	ErrTooLarge = errors.New("file is over 64 MiB")
)

// Dir is a directory of sealed files. It is safe for concurrent use; of
// concurrent writes to one name, one wins. One Dir owns the directory for
// writing; others may read.
type Dir struct {
	dir     string
	aead    cipher.AEAD
	writing sync.Mutex // held from the temporary file to its rename
}

// New returns the directory at dir, which is made with mode 0700 on the first
// write. Nothing is read or checked before the first use.
func New(dir string, key [32]byte) *Dir {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic("aes refuses a 32-byte key: " + err.Error()) // cannot happen: the length is in the type
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic("gcm refuses aes: " + err.Error()) // cannot happen: the block size is 16
	}
	return &Dir{dir: dir, aead: aead}
}

// Write replaces the contents of name with data.
func (d *Dir) Write(name string, data []byte) error {
	if err := check(name); err != nil {
		return err
	}
	if len(data) > maxSize {
		return fmt.Errorf("seal %s: %w", name, ErrTooLarge)
	}
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return fmt.Errorf("seal %s: %w", name, err)
	}
	sealed := make([]byte, len(magic)+d.aead.NonceSize(), len(magic)+d.aead.NonceSize()+len(data)+d.aead.Overhead())
	copy(sealed, magic)
	nonce := sealed[len(magic):]
	if _, err := rand.Read(nonce); err != nil {
		return fmt.Errorf("seal %s: %w", name, err)
	}
	if err := d.replace(name, d.aead.Seal(sealed, nonce, data, associated(name))); err != nil {
		return fmt.Errorf("seal %s: %w", name, err)
	}
	return nil
}

func (d *Dir) replace(name string, sealed []byte) error {
	d.writing.Lock()
	defer d.writing.Unlock()
	return durable.WriteFile(filepath.Join(d.dir, name), sealed)
}

// Read returns the contents of name; the error wraps fs.ErrNotExist where
// there is no such file.
func (d *Dir) Read(name string) ([]byte, error) {
	if err := check(name); err != nil {
		return nil, err
	}
	f, err := os.Open(filepath.Join(d.dir, name))
	if err != nil {
		return nil, fmt.Errorf("open sealed file %s: %w", name, err)
	}
	defer f.Close()
	overhead := len(magic) + d.aead.NonceSize() + d.aead.Overhead()
	sealed, err := io.ReadAll(io.LimitReader(f, int64(maxSize+overhead+1)))
	if err != nil {
		return nil, fmt.Errorf("open sealed file %s: %w", name, err)
	}
	if len(sealed) > maxSize+overhead {
		return nil, fmt.Errorf("open sealed file %s: %w", name, ErrTooLarge)
	}
	if len(sealed) < overhead || string(sealed[:len(magic)]) != magic {
		return nil, fmt.Errorf("open sealed file %s: %w", name, ErrSeal)
	}
	nonce, body := sealed[len(magic):len(magic)+d.aead.NonceSize()], sealed[len(magic)+d.aead.NonceSize():]
	data, err := d.aead.Open(nil, nonce, body, associated(name))
	if err != nil {
		return nil, fmt.Errorf("open sealed file %s: %w", name, ErrSeal)
	}
	return data, nil
}

// Remove deletes name durably; the error wraps fs.ErrNotExist where there is
// no such file.
func (d *Dir) Remove(name string) error {
	if err := check(name); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(d.dir, name)); err != nil {
		return fmt.Errorf("remove sealed file %s: %w", name, err)
	}
	if err := durable.SyncDir(d.dir); err != nil {
		return fmt.Errorf("remove sealed file %s: %w", name, err)
	}
	return nil
}

// List returns the names of the files, sorted; none if the directory does not
// exist. It does not open them.
func (d *Dir) List() ([]string, error) {
	entries, err := os.ReadDir(d.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list sealed files: %w", err)
	}
	var names []string
	for _, e := range entries {
		if e.Type().IsRegular() && check(e.Name()) == nil {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// check accepts one path element that is not hidden from List.
func check(name string) error {
	if name == "" || name == "." || name == ".." || len(name) > 200 || strings.HasPrefix(name, tempPrefix) || strings.ContainsAny(name, "/\\\x00") {
		return fmt.Errorf("%w: %q", ErrName, name)
	}
	return nil
}

func associated(name string) []byte { return []byte("verdant sealed file\x00" + name) }
