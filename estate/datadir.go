package estate

import (
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"verdant/internal/durable"
)

// dirVersion is the layout that this binary reads and writes.
const dirVersion = 1

// Complaints about a data directory.
var (
	ErrInUse = errors.New("data directory is in use")
	ErrNewer = errors.New("data directory was written by a newer version")
	ErrOther = errors.New("directory holds something else")
	ErrOpen  = errors.New("data directory is open to others")
)

// DataDir is the one directory that holds an estate's state. While it is
// open no other process can open it. The layout:
//
//	estate.json   version and variables, in clear; nothing secret
//	root.key      32 random bytes, mode 0600, or the same sealed by a secret
//	              that is elsewhere: everything else is sealed under keys
//	              derived from it or wrapped by keys in the vaults
//	ca.pem        the estate's TLS root certificate, for clients
//	ca.p12        the same as a trust store for Java
//	control.sock  the running supervisor's control socket
//	csi-*.sock    a region's secrets store provider, in mounted custody
//	state/…       one directory a service
type DataDir struct {
	Path string
	lock *os.File
	root [32]byte
	// Fresh is true if this open created the directory's content.
	Fresh bool
}

type manifest struct {
	Version   int       `json:"version"`
	Variables Variables `json:"variables"`
}

// DefaultDataDir is where an estate lives unless --data-dir says otherwise.
func DefaultDataDir() string {
	if dir := os.Getenv("VERDANT_DATA_DIR"); dir != "" {
		return dir
	}
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "verdant")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ".verdant"
	}
	return filepath.Join(home, ".local", "state", "verdant")
}

// OpenDataDir opens path, making it where there is none. variables are kept
// with a new directory; an existing one must have been made with the same, as
// every name in it is derived from them. seal is what CheckRootSeal returned, or
// "" for what the directory was made with, at first none. It touches nothing that
// it refuses.
func OpenDataDir(ctx context.Context, path string, variables Variables, seal string) (*DataDir, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if err := recognise(path); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(path, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("%w: %s; stop it with `verdant down --data-dir %s` or name another directory", ErrInUse, path, path)
	}
	d := &DataDir{Path: path, lock: lock}
	if err := d.load(ctx, variables, seal); err != nil {
		_ = lock.Close()
		return nil, err
	}
	return d, nil
}

// recognise refuses a directory that has content but is not ours.
func recognise(path string) error {
	entries, err := os.ReadDir(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := checkMode(path); err != nil {
		return err
	}
	if err := checkVersion(path); err != nil {
		return err
	}
	for _, e := range entries {
		switch e.Name() {
		case "estate.json", "lock":
			return nil
		}
	}
	if len(entries) > 0 {
		return fmt.Errorf("%w: %s is not empty and holds no estate.json; name an empty directory", ErrOther, path)
	}
	return nil
}

// checkMode refuses a directory into which other users could put files: they
// could replace the control socket or the TLS root.
func checkMode(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("%w: %s can be written by other users (mode %04o); make it private with `chmod 700 %s`", ErrOpen, path, info.Mode().Perm(), path)
	}
	return nil
}

// checkVersion refuses the layout of a newer version, whatever else it holds.
func checkVersion(path string) error {
	raw, err := os.ReadFile(filepath.Join(path, "estate.json"))
	if err != nil {
		return nil // there is none, or opening the directory will say why
	}
	var m struct {
		Version int `json:"version"`
	}
	if json.Unmarshal(raw, &m) == nil && m.Version > dirVersion {
		return fmt.Errorf("%w: %s has layout %d, this binary knows up to %d; use the newer binary", ErrNewer, path, m.Version, dirVersion)
	}
	return nil
}

// load reads the directory's content and opens its root key, or makes both.
func (d *DataDir) load(ctx context.Context, variables Variables, seal string) error {
	file := filepath.Join(d.Path, "estate.json")
	raw, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return d.create(ctx, file, variables, seal)
	}
	if err != nil {
		return err
	}
	var m manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrOther, file, err)
	}
	if m.Variables.HSM != variables.HSM {
		return fmt.Errorf("%s was made with its vaults' keys in %s and cannot move them to %s; use the same --hsm or another --data-dir", d.Path, placeOfKeys(m.Variables.HSM), placeOfKeys(variables.HSM))
	}
	if m.Variables != variables {
		return fmt.Errorf("%s was made with other variables (prefix %q, generation %d, zone %s, …); use the same terraform.tfvars or another --data-dir", d.Path, m.Variables.Prefix, m.Variables.Generation, m.Variables.ParentDNSZone)
	}
	d.root, err = readRoot(ctx, d.rootFile(), seal)
	return err
}

func placeOfKeys(hsm string) string {
	if hsm == "" {
		return "software"
	}
	return hsm
}

func (d *DataDir) rootFile() string { return filepath.Join(d.Path, "root.key") }

// create writes the root key before the manifest: a directory with a manifest
// always has its key.
func (d *DataDir) create(ctx context.Context, file string, variables Variables, seal string) error {
	d.Fresh = true
	if _, err := rand.Read(d.root[:]); err != nil {
		return err
	}
	if seal == "" {
		seal = sealFile
	}
	if err := writeRoot(ctx, d.rootFile(), seal, d.root); err != nil {
		return err
	}
	raw, err := json.MarshalIndent(manifest{dirVersion, variables}, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(file, append(raw, '\n'))
}

// SavedVariables reads the variables with which path was made; false if path
// holds no estate.
func SavedVariables(path string) (Variables, bool) {
	raw, err := os.ReadFile(filepath.Join(path, "estate.json"))
	if err != nil {
		return Variables{}, false
	}
	var m manifest
	if json.Unmarshal(raw, &m) != nil {
		return Variables{}, false
	}
	return m.Variables, true
}

// Key derives the 32-byte key for a purpose from the root key.
func (d *DataDir) Key(purpose string) [32]byte {
	out, err := hkdf.Key(sha256.New, d.root[:], nil, "verdant/v1/"+purpose, 32)
	if err != nil {
		panic(err) // only lengths that no caller can pass make hkdf fail
	}
	return [32]byte(out)
}

// Secret derives a password of n characters for a purpose: text that the
// estate can show again without keeping it. n is 32 at most.
func (d *DataDir) Secret(purpose string, n int) string {
	const alphabet = "abcdefghijkmnpqrstuvwxyz23456789" // 5 bits a character
	key := d.Key("secret/" + purpose)
	var b strings.Builder
	for _, c := range key[:n] {
		b.WriteByte(alphabet[c&31])
	}
	return b.String()
}

// State returns the directory of a service's state, made if need be.
func (d *DataDir) State(parts ...string) (string, error) {
	dir := filepath.Join(append([]string{d.Path, "state"}, parts...)...)
	return dir, os.MkdirAll(dir, 0o700)
}

// Socket is the path of the control socket.
func (d *DataDir) Socket() string { return filepath.Join(d.Path, "control.sock") }

// InUse reports whether a process has the data directory at path open.
func InUse(path string) bool {
	lock, err := os.OpenFile(filepath.Join(path, "lock"), os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer lock.Close()
	return syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil
}

// LockFile gives the lock to a child process: the directory stays locked as
// long as one of the two lives.
func (d *DataDir) LockFile() *os.File { return d.lock }

// RootFile gives the root key to a child process: a pipe from which Adopt reads
// it once. What seals the key may be there for one reader only.
func (d *DataDir) RootFile() (*os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	_, err = w.Write(d.root[:]) // fits into the pipe
	if err = errors.Join(err, w.Close()); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// Adopt is OpenDataDir in a child process that was given the lock and the root
// key.
func Adopt(path string, lock, root *os.File) (*DataDir, error) {
	d := &DataDir{Path: path, lock: lock}
	_, err := io.ReadFull(root, d.root[:])
	if err = errors.Join(err, root.Close()); err != nil {
		return nil, fmt.Errorf("take over the root key: %w", err)
	}
	return d, nil
}

// Close unlocks the directory.
func (d *DataDir) Close() error {
	clear(d.root[:])
	runtime.KeepAlive(d)
	return d.lock.Close()
}
