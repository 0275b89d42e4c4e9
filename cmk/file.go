package cmk

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"verdant/internal/durable"
)

// algorithm is how a KEK wraps: RSAES-OAEP with SHA-256 (RFC 8017, named as in
// RFC 7518, section 4.3). The older RSA-OAEP and RSA1_5 are refused.
const algorithm = "RSA-OAEP-256"

// maxFile bounds the file of a wrapped key; a 4096-bit KEK needs under 1 KiB.
const maxFile = 16 << 10

// wrappedKey is the file of a DEK. It holds nothing secret: without the vault
// the wrapped key opens nothing.
type wrappedKey struct {
	// KeyID is the full id, with version, of the key that wrapped it.
	KeyID     string    `json:"kid"`
	Algorithm string    `json:"alg"`
	Wrapped   []byte    `json:"wrapped"`
	Created   time.Time `json:"created"`
}

func (w *wrappedKey) write(path string) error {
	body, err := json.MarshalIndent(w, "", "  ")
	if err != nil {
		return fmt.Errorf("write wrapped key %s: %w", path, err)
	}
	if err := durable.WriteFile(path, append(body, '\n')); err != nil {
		return fmt.Errorf("write wrapped key %s: %w", path, err)
	}
	return nil
}

func readWrapped(path string) (*wrappedKey, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read wrapped key: %w", err)
	}
	defer f.Close()
	body, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read wrapped key %s: %w", path, err)
	}
	w, err := parseWrapped(body)
	if err != nil {
		return nil, fmt.Errorf("read wrapped key %s: %w", path, err)
	}
	return w, nil
}

func parseWrapped(body []byte) (*wrappedKey, error) {
	if len(body) > maxFile {
		return nil, fmt.Errorf("longer than %d bytes", maxFile)
	}
	var w wrappedKey
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&w); err != nil {
		return nil, fmt.Errorf("not the JSON of a wrapped key: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the JSON of the wrapped key")
	}
	switch {
	case w.KeyID == "":
		return nil, errors.New("has no kid")
	case w.Algorithm != algorithm:
		return nil, fmt.Errorf("alg is %q, want %s", w.Algorithm, algorithm)
	case len(w.Wrapped) < 256:
		return nil, errors.New("wrapped is shorter than an RSA 2048 block")
	}
	return &w, nil
}

// isVersionOf reports whether kid is base and one more path element.
func isVersionOf(kid, base string) bool {
	version, ok := strings.CutPrefix(kid, strings.TrimSuffix(base, "/")+"/")
	return ok && version != "" && !strings.Contains(version, "/")
}
