package estate

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	mathrand "math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"verdant/azure/keyvault"
	"verdant/azure/rbac"
	"verdant/azure/rest"
	"verdant/hsm"
	"verdant/internal/durable"
	"verdant/internal/journal"
	"verdant/internal/sqlstore"
)

// VaultAtSize is what was measured of a vault with so many objects, in a
// process of its own that serves it and asks it, one request at a time.
type VaultAtSize struct {
	Secrets int `json:"secrets"`
	Keys    int `json:"keys"`
	// Started is the seconds from the start of the process to its first answer.
	Started float64 `json:"started"`
	// Milliseconds, each the least median of some turns, since what else the
	// machine does only adds to it. Objects and pages are picked at random, so
	// that few are in a cache.
	GetSecret  float64 `json:"get_secret"`
	GetKey     float64 `json:"get_key"`
	Sign       float64 `json:"sign"`
	ListFirst  float64 `json:"list_first"`
	ListMiddle float64 `json:"list_middle"`
	// PeakMB is the most memory that the process had, caches filled, in
	// MiB; 0 where the system does not say.
	PeakMB float64 `json:"peak_mb"`
}

// measuredRoots are the root keys of a measured vault's token, store and
// audit. They are in dir, which is temporary.
func measuredRoots(dir string) (roots [3][32]byte, err error) {
	path := filepath.Join(dir, "roots")
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		data = make([]byte, len(roots)*len(roots[0]))
		if _, err := rand.Read(data); err != nil {
			return roots, err
		}
		err = durable.WriteFile(path, data)
	}
	if err == nil && len(data) != len(roots)*len(roots[0]) {
		err = fmt.Errorf("%s does not hold the keys of a measured vault", path)
	}
	for i := range roots {
		if err == nil {
			copy(roots[i][:], data[i*len(roots[i]):])
		}
	}
	return roots, err
}

// GrowMeasuredVault adds secrets and keys to the measured vault in dir, which
// nobody has open: those from the first number up to the second.
func GrowMeasuredVault(ctx context.Context, dir string, secrets, keys [2]int) (err error) {
	roots, err := measuredRoots(dir)
	if err != nil {
		return err
	}
	token, err := hsm.OpenBlobs(ctx, unsynced(filepath.Join(dir, "hsm")), roots[0])
	if err != nil {
		return err
	}
	db, err := sqlstore.Open(ctx, filepath.Join(dir, "vault.db"), roots[1], keyvault.Schema)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	// This vault only fills itself: nobody asks it anything, so that what it
	// would answer with is never used.
	policy := rbac.NewPolicy(nil, nil)
	vault, err := keyvault.New(measuredConfig(), keyvault.Deps{Token: token, DB: db, Audit: &journal.Journal{}, Verifier: &rest.Verifier{}, Policy: policy})
	if err != nil {
		return err
	}
	return errors.Join(vault.Fill(ctx, keyvault.Secrets, secrets[0], secrets[1]), vault.Fill(ctx, keyvault.Keys, keys[0], keys[1]))
}

// unsynced is hsm.FileBlobs without its promise that a key survives a crash:
// a hundred thousand keys would take minutes.
type unsynced string

// Create implements hsm.Blobs.
func (dir unsynced) Create(_ context.Context, name string, sealed []byte) error {
	if err := os.MkdirAll(string(dir), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(string(dir), name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(sealed)
	return errors.Join(err, f.Close())
}

// Read implements hsm.Blobs.
func (dir unsynced) Read(_ context.Context, name string) ([]byte, error) {
	return os.ReadFile(filepath.Join(string(dir), name))
}

// Remove implements hsm.Blobs.
func (dir unsynced) Remove(_ context.Context, name string) error {
	return os.Remove(filepath.Join(string(dir), name))
}

// Empty implements hsm.Blobs.
func (dir unsynced) Empty(ctx context.Context) (bool, error) {
	return hsm.FileBlobs(string(dir)).Empty(ctx)
}

// MeasureVaultAtSize opens the measured vault in dir, which has so many
// objects, and measures it. begun is when the process was started.
func MeasureVaultAtSize(ctx context.Context, dir string, secrets, keys int, begun time.Time) (at VaultAtSize, err error) {
	m, err := OpenMeasuredVault(ctx, dir, "")
	if err != nil {
		return at, err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	at.Secrets, at.Keys = secrets, keys
	if _, err := m.Do(ctx, false, http.MethodGet, "/secrets/"+keyvault.FillName(secrets-1), ""); err != nil {
		return at, err
	}
	at.Started = time.Since(begun).Seconds()
	get := func(kind string, n int) func() error {
		return func() error {
			_, err := m.Do(ctx, false, http.MethodGet, "/"+kind+"/"+keyvault.FillName(mathrand.IntN(n)), "")
			return err
		}
	}
	sign := func() error {
		digest := strings.Repeat("A", 43)
		_, err := m.Do(ctx, false, http.MethodPost, "/keys/"+keyvault.FillName(mathrand.IntN(keys))+"/sign", `{"alg":"ES256","value":"`+digest+`"}`)
		return err
	}
	// many is more than the caches hold.
	const turns, few, many = 5, 300, 10_000
	steps := []struct {
		into  *float64
		times int
		do    func() error
	}{
		{&at.ListFirst, few, func() error { return m.list(ctx, "") }},
		{&at.ListMiddle, few, func() error { return m.list(ctx, keyvault.FillName(mathrand.IntN(secrets))) }},
		{&at.GetSecret, min(many, secrets), get("secrets", secrets)},
		{&at.GetKey, few, get("keys", keys)},
		{&at.Sign, min(many, max(keys, few)), sign},
	}
	for turn := range turns {
		for _, s := range steps {
			median, err := medianOf(s.times/turns, s.do)
			if err != nil {
				return at, err
			}
			if turn == 0 || median < *s.into {
				*s.into = median
			}
		}
	}
	at.PeakMB = peakMemory()
	return at, nil
}

// list asks for a page of secrets, of 25 unless the vault ends.
func (m *MeasuredVault) list(ctx context.Context, after string) error {
	url := "https://" + m.host + "/secrets?api-version=7.4&maxresults=25"
	if after != "" {
		url += "&%24skiptoken=" + base64.RawURLEncoding.EncodeToString([]byte(after))
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+m.token)
	resp, err := m.Client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var page struct{ Value []json.RawMessage }
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&page); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK || after == "" && len(page.Value) != 25 {
		return fmt.Errorf("list secrets: %s with %d items", resp.Status, len(page.Value))
	}
	return nil
}

// medianOf does something so many times and returns the median in
// milliseconds.
func medianOf(times int, do func() error) (float64, error) {
	took := make([]time.Duration, times)
	for i := range took {
		begun := time.Now()
		if err := do(); err != nil {
			return 0, err
		}
		took[i] = time.Since(begun)
	}
	slices.Sort(took)
	return took[times/2].Seconds() * 1000, nil
}

// peakMemory is the process's high-water mark in MiB, as Linux counts it.
func peakMemory() float64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "VmHWM:" {
			kib, _ := strconv.ParseFloat(f[1], 64)
			return kib / 1024
		}
	}
	return 0
}
