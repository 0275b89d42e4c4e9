package estate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"verdant/hsm"
	"verdant/hsm/pkcs11"
	"verdant/hsm/tpm"
	"verdant/internal/durable"
)

// What can seal a root key: words that begin a --root-seal.
const (
	sealFile       = "file"
	sealPassphrase = "passphrase"
	sealPKCS11     = "pkcs11"
	sealTPM        = "tpm"
)

// ErrRootSeal is wrapped for a root seal that is refused: not one, or not the
// one that the root key has.
var ErrRootSeal = errors.New("root seal refused")

// maxRootFile bounds the file with the root key.
const maxRootFile = 64 << 10

// sealedRoot is the file root.key of a root key that is sealed. An unsealed one
// is its 32 bytes.
type sealedRoot struct {
	Version int `json:"version"`
	// Seal is what seals it, as CheckRootSeal returns it.
	Seal   string `json:"seal"`
	Sealed []byte `json:"sealed"`
}

// CheckRootSeal reads what shall seal a root key, and returns it in the form in
// which it is remembered:
//
//	file                    nothing: the root key lies beside the data
//	passphrase:FILE         a passphrase, the one line of FILE
//	pkcs11:token=…?…        a key in a PKCS #11 token (RFC 7512)
//	tpm:PATH?pcrs=0,7       the TPM 2.0 at a device or Unix socket; pcrs, which
//	                        may be left out, are the registers it is bound to
func CheckRootSeal(text string) (string, error) {
	kind, where, _ := strings.Cut(text, ":")
	switch kind {
	case sealFile:
		if text == sealFile {
			return text, nil
		}
	case sealPassphrase:
		if filepath.IsAbs(where) && filepath.Clean(where) == where {
			return text, nil
		}
		return "", fmt.Errorf("%w: passphrase: needs the absolute path of the file with the passphrase", ErrRootSeal)
	case sealPKCS11:
		uri, err := CheckHSM(text)
		if err != nil {
			return "", fmt.Errorf("%w: %w", ErrRootSeal, err)
		}
		return uri, nil
	case sealTPM:
		if _, err := parseTPM(where); err != nil {
			return "", fmt.Errorf("%w: %w", ErrRootSeal, err)
		}
		return text, nil
	}
	return "", fmt.Errorf("%w: %.20q is none of file, passphrase:FILE, tpm:PATH, pkcs11:URI", ErrRootSeal, text)
}

// parseTPM reads PATH or PATH?pcrs=0,7.
func parseTPM(where string) (tpm.Seal, error) {
	path, query, bound := strings.Cut(where, "?")
	if !filepath.IsAbs(path) || filepath.Clean(path) != path {
		return tpm.Seal{}, errors.New("tpm: needs the absolute path of a device or socket, as tpm:/dev/tpmrm0")
	}
	s := tpm.Seal{Path: path}
	if !bound {
		return s, nil
	}
	list, ok := strings.CutPrefix(query, "pcrs=")
	if !ok {
		return s, errors.New("tpm: after the path there may be ?pcrs= and numbers of registers, as tpm:/dev/tpmrm0?pcrs=0,7")
	}
	for text := range strings.SplitSeq(list, ",") {
		n, err := strconv.ParseUint(text, 10, 8)
		if err != nil {
			return s, fmt.Errorf("tpm: %.10q is no number of a register", text)
		}
		s.PCRs = append(s.PCRs, uint(n))
	}
	return s, tpm.CheckPCRs(s.PCRs)
}

// openRootSeal returns what seals the root key in file. Close ends the processes
// that it needs.
func openRootSeal(ctx context.Context, file, seal string) (s hsm.RootSeal, closeSeal func() error, err error) {
	none := func() error { return nil }
	kind, where, _ := strings.Cut(seal, ":")
	switch kind {
	case sealFile:
		return hsm.Unsealed{}, none, nil
	case sealPassphrase:
		if err := apart(file, where); err != nil {
			return nil, nil, err
		}
		return hsm.PassphraseSeal{Read: func() ([]byte, error) { return readPassphrase(where) }}, none, nil
	case sealTPM:
		s, err := parseTPM(where)
		return s, none, err
	case sealPKCS11:
		cfg, err := pkcs11.ParseURI(seal)
		if err != nil {
			return nil, nil, err
		}
		if err := apart(file, cfg.PINSource); err != nil {
			return nil, nil, err
		}
		token, err := startSigner(ctx, seal)
		if err != nil {
			return nil, nil, err
		}
		return hsm.TokenSeal{Token: token}, token.Close, nil
	}
	return nil, nil, fmt.Errorf("%w: %.60q", ErrRootSeal, seal)
}

// apart refuses a secret that lies in the directory of the root key that it
// opens: whoever takes the directory would have both.
func apart(file, secret string) error {
	dir, err := filepath.EvalSymlinks(filepath.Dir(file))
	if err != nil {
		return err
	}
	if resolved, err := filepath.EvalSymlinks(secret); err == nil {
		secret = resolved
	}
	if below, err := filepath.Rel(dir, secret); err == nil && below != ".." && !strings.HasPrefix(below, ".."+string(filepath.Separator)) {
		return fmt.Errorf("%w: %s lies in the directory with the root key that it opens; keep it elsewhere", ErrRootSeal, secret)
	}
	return nil
}

// readPassphrase reads the one line of a file, which may be an open descriptor
// (/dev/fd/3, /dev/stdin).
func readPassphrase(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("passphrase of the root key: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("passphrase of the root key: %w", err)
	}
	if info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%w: others may read the passphrase in %s: chmod 600", ErrRootSeal, path)
	}
	text, err := io.ReadAll(io.LimitReader(f, 4096))
	if err != nil {
		return nil, fmt.Errorf("passphrase of the root key: %w", err)
	}
	line := bytes.TrimSuffix(bytes.TrimSuffix(text, []byte("\n")), []byte("\r"))
	if len(line) == 0 || bytes.ContainsAny(line, "\n\x00") {
		clear(text)
		return nil, fmt.Errorf("%w: %s must hold the passphrase in one line", ErrRootSeal, path)
	}
	return line, nil
}

// parseRoot reads the file of a root key.
func parseRoot(file string) (sealedRoot, error) {
	f, err := os.Open(file)
	if err != nil {
		return sealedRoot{}, fmt.Errorf("root key: %w", err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxRootFile+1))
	if err != nil {
		return sealedRoot{}, fmt.Errorf("root key: %w", err)
	}
	if len(raw) == 32 {
		return sealedRoot{1, sealFile, raw}, nil
	}
	if len(raw) == 0 || len(raw) > maxRootFile || raw[0] != '{' {
		return sealedRoot{}, fmt.Errorf("root key %s has %d bytes, want 32; restore it from your backup", file, len(raw))
	}
	var r sealedRoot
	if err := json.Unmarshal(raw, &r); err != nil {
		return r, fmt.Errorf("root key %s is damaged: %w; restore it from your backup", file, err)
	}
	if r.Version != 1 {
		return r, fmt.Errorf("%w: root key %s was sealed by version %d of the format, this binary knows 1", ErrNewer, file, r.Version)
	}
	if _, err := CheckRootSeal(r.Seal); err != nil {
		return r, fmt.Errorf("root key %s: %w", file, err)
	}
	return r, nil
}

// readRoot opens the root key in file with what seals it, or with seal where
// that is not "": it must be of the same kind, and may be at another place.
func readRoot(ctx context.Context, file, seal string) (root [32]byte, err error) {
	r, err := parseRoot(file)
	if err != nil {
		return root, err
	}
	if seal == "" {
		seal = r.Seal
	}
	if kind, _, _ := strings.Cut(r.Seal, ":"); kind != strings.SplitN(seal, ":", 2)[0] {
		return root, fmt.Errorf("%w: root key %s is sealed by %s and not by %s; start without --root-seal, or change the seal with `verdant reseal %s --to …`", ErrRootSeal, file, r.Seal, seal, file)
	}
	s, closeSeal, err := openRootSeal(ctx, file, seal)
	if err != nil {
		return root, fmt.Errorf("root key %s: %w", file, err)
	}
	root, err = s.Open(ctx, r.Sealed)
	if err = errors.Join(err, closeSeal()); err != nil {
		return [32]byte{}, fmt.Errorf("root key %s, sealed by %s: %w", file, seal, err)
	}
	return root, nil
}

// writeRoot puts a root key into file under seal.
func writeRoot(ctx context.Context, file, seal string, root [32]byte) error {
	s, closeSeal, err := openRootSeal(ctx, file, seal)
	if err != nil {
		return fmt.Errorf("root key %s: %w", file, err)
	}
	sealed, err := s.Seal(ctx, root)
	if err = errors.Join(err, closeSeal()); err != nil {
		return fmt.Errorf("root key %s: %w", file, err)
	}
	if seal != sealFile {
		if sealed, err = json.Marshal(sealedRoot{1, seal, sealed}); err != nil {
			return err
		}
		sealed = append(sealed, '\n')
	}
	return durable.WriteFile(file, sealed)
}

// Reseal changes what seals the root key in file. from is "" or where that
// which seals it is now, if it has moved. The key itself stays the same: who
// had it before, or has an old copy of the file and what sealed that, has it
// still. An estate that is running is not disturbed.
func Reseal(ctx context.Context, file, from, to string) error {
	root, err := readRoot(ctx, file, from)
	if err != nil {
		return err
	}
	defer clear(root[:])
	return writeRoot(ctx, file, to, root)
}
