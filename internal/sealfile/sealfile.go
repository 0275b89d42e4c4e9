// Package sealfile keeps small files that are sealed at rest.
//
// A file is one AES-256-GCM message under the directory's key with a fresh
// random nonce; its name is bound as associated data, so a sealed file cannot
// be passed off under another name. Box is the sealing alone, Files the files
// alone, for those who keep the one in the place of the other. A write is atomic and durable: after Write
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
	// maxOverhead is at least what sealing adds to a file.
	maxOverhead = 64
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

// Box seals contents that are kept under a name. It is safe for concurrent
// use.
type Box struct{ aead cipher.AEAD }

// NewBox returns the box of a key.
func NewBox(key [32]byte) Box {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic("aes refuses a 32-byte key: " + err.Error()) // cannot happen: the length is in the type
	}
	aead, err := cipher.NewGCMWithRandomNonce(block) // the nonce is in front of what it seals
	if err != nil {
		panic("gcm refuses aes: " + err.Error()) // cannot happen: the block size is 16
	}
	return Box{aead}
}

func (b Box) overhead() int { return len(magic) + b.aead.Overhead() }

// Seal encrypts what shall be kept under name.
func (b Box) Seal(name string, data []byte) ([]byte, error) {
	if len(data) > maxSize {
		return nil, fmt.Errorf("seal %s: %w", name, ErrTooLarge)
	}
	sealed := append(make([]byte, 0, len(data)+b.overhead()), magic...)
	return b.aead.Seal(sealed, nil, data, associated(name)), nil
}

// Open decrypts what was kept under name, or returns ErrSeal.
func (b Box) Open(name string, sealed []byte) ([]byte, error) {
	if len(sealed) < b.overhead() || string(sealed[:len(magic)]) != magic {
		return nil, fmt.Errorf("open sealed %s: %w", name, ErrSeal)
	}
	data, err := b.aead.Open(nil, nil, sealed[len(magic):], associated(name))
	if err != nil {
		return nil, fmt.Errorf("open sealed %s: %w", name, ErrSeal)
	}
	return data, nil
}

// Files is a directory of small files as they are, with the promises on writes
// of the package. It is safe for concurrent use; of concurrent writes to one
// name, one wins. One Files owns the directory for writing; others may read.
type Files struct {
	dir     string
	writing sync.Mutex // held from the temporary file to its rename
}

// NewFiles returns the directory at dir, which is made with mode 0700 on the
// first write.
func NewFiles(dir string) *Files { return &Files{dir: dir} }

// Write replaces the contents of name with data.
func (f *Files) Write(name string, data []byte) error {
	if err := f.prepare(name); err != nil {
		return err
	}
	f.writing.Lock()
	defer f.writing.Unlock()
	return f.write(name, data)
}

// Create is Write for a name that is free; else the error wraps fs.ErrExist.
func (f *Files) Create(name string, data []byte) error {
	if err := f.prepare(name); err != nil {
		return err
	}
	f.writing.Lock()
	defer f.writing.Unlock()
	if _, err := os.Lstat(filepath.Join(f.dir, name)); !errors.Is(err, fs.ErrNotExist) {
		if err == nil {
			err = fs.ErrExist
		}
		return fmt.Errorf("make file %s: %w", name, err)
	}
	return f.write(name, data)
}

func (f *Files) prepare(name string) error {
	if err := check(name); err != nil {
		return err
	}
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return fmt.Errorf("write file %s: %w", name, err)
	}
	return nil
}

func (f *Files) write(name string, data []byte) error {
	if err := durable.WriteFile(filepath.Join(f.dir, name), data); err != nil {
		return fmt.Errorf("write file %s: %w", name, err)
	}
	return nil
}

// Read returns the contents of name; the error wraps fs.ErrNotExist where
// there is no such file.
func (f *Files) Read(name string) ([]byte, error) {
	if err := check(name); err != nil {
		return nil, err
	}
	file, err := os.Open(filepath.Join(f.dir, name))
	if err != nil {
		return nil, fmt.Errorf("read file %s: %w", name, err)
	}
	defer file.Close()
	const limit = maxSize + maxOverhead
	data, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read file %s: %w", name, err)
	}
	if len(data) > limit {
		return nil, fmt.Errorf("read file %s: %w", name, ErrTooLarge)
	}
	return data, nil
}

// Remove deletes name durably, and what an interrupted write of it left; the
// error wraps fs.ErrNotExist where there is no such file.
func (f *Files) Remove(name string) error {
	if err := check(name); err != nil {
		return err
	}
	f.writing.Lock()
	defer f.writing.Unlock()
	if err := os.Remove(filepath.Join(f.dir, tempPrefix+name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove file %s: %w", name, err)
	}
	if err := os.Remove(filepath.Join(f.dir, name)); err != nil {
		return fmt.Errorf("remove file %s: %w", name, err)
	}
	if err := durable.SyncDir(f.dir); err != nil {
		return fmt.Errorf("remove file %s: %w", name, err)
	}
	return nil
}

// List returns the names of the files, sorted; none if the directory does not
// exist. It does not open them.
func (f *Files) List() ([]string, error) {
	entries, err := os.ReadDir(f.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list files: %w", err)
	}
	var names []string
	for _, e := range entries {
		if e.Type().IsRegular() && check(e.Name()) == nil {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// Dir is a directory of sealed files: Files through a Box.
type Dir struct {
	files *Files
	box   Box
}

// New returns the directory at dir, which is made with mode 0700 on the first
// write. Nothing is read or checked before the first use.
func New(dir string, key [32]byte) *Dir { return &Dir{NewFiles(dir), NewBox(key)} }

// Write replaces the contents of name with data.
func (d *Dir) Write(name string, data []byte) error {
	sealed, err := d.box.Seal(name, data)
	if err != nil {
		return err
	}
	return d.files.Write(name, sealed)
}

// Read returns the contents of name; the error wraps fs.ErrNotExist where
// there is no such file.
func (d *Dir) Read(name string) ([]byte, error) {
	sealed, err := d.files.Read(name)
	if err != nil {
		return nil, err
	}
	return d.box.Open(name, sealed)
}

// Remove deletes name durably; the error wraps fs.ErrNotExist where there is
// no such file.
func (d *Dir) Remove(name string) error { return d.files.Remove(name) }

// List returns the names of the files, sorted; none if the directory does not
// exist. It does not open them.
func (d *Dir) List() ([]string, error) { return d.files.List() }

// check accepts one path element that is not hidden from List.
func check(name string) error {
	if name == "" || name == "." || name == ".." || len(name) > 200 || strings.HasPrefix(name, tempPrefix) || strings.ContainsAny(name, "/\\\x00") {
		return fmt.Errorf("%w: %q", ErrName, name)
	}
	return nil
}

func associated(name string) []byte { return []byte("verdant sealed file\x00" + name) }
