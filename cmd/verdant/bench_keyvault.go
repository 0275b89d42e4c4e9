package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"verdant/estate"
)

// vaultOperation is one operation of the vault and the bare crypto that it
// cannot do without (nil if none).
type vaultOperation struct {
	name, method, path, body string
	raw                      func(context.Context, time.Duration) (perSecond float64, err error)
}

// benchSlice is how long one of an operation's three rates is measured before
// it is the next one's turn: what else the machine does then hits all alike.
const benchSlice = 200 * time.Millisecond

// vaultWorkers is how many requests to the vault are in flight: enough that
// the processor, and not the wait for the disk, decides.
const vaultWorkers = 128

// benchKeyVault measures one vault, server and client in this one process, and
// a second one that has its keys in hardware.
func benchKeyVault(ctx context.Context, flags benchFlags) (figures []figure, err error) {
	defer estate.TuneProcess()()
	dir, err := os.MkdirTemp("", "verdant-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	vault, err := estate.OpenMeasuredVault(ctx, filepath.Join(dir, "software"), "")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, vault.Close()) }()
	operations, err := vaultOperations(ctx, vault)
	if err != nil {
		return nil, err
	}
	d := time.Duration(flags.seconds) * time.Second
	for _, op := range operations {
		measured, err := op.measure(ctx, vault, dir, d)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", op.name, err)
		}
		figures = append(figures, measured...)
	}
	if flags.hsm == "" {
		return figures, nil
	}
	measured, err := benchHardware(ctx, dir, flags.hsm, d)
	return append(figures, measured...), err
}

// benchHardware measures a vault whose keys are in a PKCS #11 token. The keys
// that it makes there are destroyed at the end.
func benchHardware(ctx context.Context, dir, uri string, d time.Duration) (figures []figure, err error) {
	vault, err := estate.OpenMeasuredVault(ctx, filepath.Join(dir, "hardware"), uri)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, vault.Close()) }()
	module, err := estate.StartBareModule(ctx, uri)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, module.Close()) }()
	digest := base64.RawURLEncoding.EncodeToString(make([]byte, 32))
	for _, k := range []struct {
		name, alg, key, create string
	}{
		{"RS256 sign, RSA 2048, PKCS #11", "RS256", "rsa", `{"kty":"RSA-HSM","key_size":2048}`},
		{"ES256 sign, P-256, PKCS #11", "ES256", "ec", `{"kty":"EC-HSM","crv":"P-256"}`},
	} {
		id, remove, err := vault.BareKey(ctx, k.alg)
		if err != nil {
			return nil, err
		}
		if _, err := vault.Do(ctx, false, "POST", "/keys/"+k.key+"/create", k.create); err != nil {
			return nil, err
		}
		threads := 0
		op := vaultOperation{k.name, "POST", "/keys/" + k.key + "/sign", `{"alg":"` + k.alg + `","value":"` + digest + `"}`,
			func(_ context.Context, d time.Duration) (perSecond float64, err error) {
				perSecond, threads, err = module.Rate(id, d)
				return perSecond, err
			}}
		measured, err := op.measure(ctx, vault, dir, d)
		err = errors.Join(err, remove(context.WithoutCancel(ctx)))
		for _, path := range []string{"/keys/", "/deletedkeys/"} {
			_, deleted := vault.Do(context.WithoutCancel(ctx), false, "DELETE", path+k.key, "")
			err = errors.Join(err, deleted)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", k.name, err)
		}
		measured[0].Beside["raw threads"] = float64(threads)
		figures = append(figures, measured...)
	}
	return figures, nil
}

// onAllCores is the rate of work on every processor.
func onAllCores(work func() error) func(context.Context, time.Duration) (float64, error) {
	return func(ctx context.Context, d time.Duration) (float64, error) {
		return sustained(ctx, d, runtime.NumCPU(), func(context.Context) error { return work() })
	}
}

// vaultOperations fills the vault and prepares what is measured.
func vaultOperations(ctx context.Context, vault *estate.MeasuredVault) ([]vaultOperation, error) {
	digest := sha256.Sum256([]byte("verdant"))
	text := base64.RawURLEncoding.EncodeToString(digest[:])
	var wrapped struct {
		Value string `json:"value"`
	}
	for _, step := range []struct{ method, path, body string }{
		{"POST", "/keys/rsa/create", `{"kty":"RSA-HSM","key_size":2048}`},
		{"POST", "/keys/ec/create", `{"kty":"EC-HSM","crv":"P-256"}`},
		{"PUT", "/secrets/password", `{"value":"correct horse battery staple"}`},
		{"POST", "/keys/rsa/wrapkey", `{"alg":"RSA-OAEP-256","value":"` + text + `"}`},
	} {
		out, err := vault.Do(ctx, false, step.method, step.path, step.body)
		if err != nil {
			return nil, err
		}
		if step.path == "/keys/rsa/wrapkey" {
			if err := json.Unmarshal(out, &wrapped); err != nil {
				return nil, err
			}
		}
	}
	// Keys of the bare operations are made here and forgotten.
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	sealed, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, &rsaKey.PublicKey, digest[:], nil)
	if err != nil {
		return nil, err
	}
	return []vaultOperation{
		{"RS256 sign, RSA 2048", "POST", "/keys/rsa/sign", `{"alg":"RS256","value":"` + text + `"}`, onAllCores(func() error {
			_, err := rsaKey.Sign(rand.Reader, digest[:], crypto.SHA256)
			return err
		})},
		{"RSA-OAEP-256 unwrap, RSA 2048", "POST", "/keys/rsa/unwrapkey", `{"alg":"RSA-OAEP-256","value":"` + wrapped.Value + `"}`, onAllCores(func() error {
			_, err := rsa.DecryptOAEP(sha256.New(), nil, rsaKey, sealed, nil)
			return err
		})},
		{"ES256 sign, P-256", "POST", "/keys/ec/sign", `{"alg":"ES256","value":"` + text + `"}`, onAllCores(func() error {
			_, err := ecdsa.SignASN1(rand.Reader, ecKey, digest[:])
			return err
		})},
		{"secret get", "GET", "/secrets/password", "", nil},
	}, nil
}

// measure gives the operation's rate beside its bound 1/(1/raw + 1/http), and
// its median and 99th percentile at half that rate.
func (op vaultOperation) measure(ctx context.Context, vault *estate.MeasuredVault, dir string, d time.Duration) ([]figure, error) {
	if _, err := vault.Keep(ctx, op.method, op.path, op.body); err != nil {
		return nil, err
	}
	ask := func(constant bool) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := vault.Do(ctx, constant, op.method, op.path, op.body)
			return err
		}
	}
	http := func(constant bool) func(context.Context, time.Duration) (float64, error) {
		return func(ctx context.Context, d time.Duration) (float64, error) {
			return sustained(ctx, d, vaultWorkers, ask(constant))
		}
	}
	turns := []func(context.Context, time.Duration) (float64, error){http(false), http(true)}
	if op.raw != nil {
		turns = append(turns, op.raw)
	}
	taken := make([][]float64, len(turns)) // seconds an operation takes
	for range max(int(d/benchSlice), 5) {
		for i, turn := range turns {
			r, err := turn(ctx, benchSlice)
			if err != nil {
				return nil, err
			}
			taken[i] = append(taken[i], 1/r)
		}
	}
	rateOf, limit, name := 1/median(taken[0]), median(taken[1]), "the same server returning a constant"
	beside := map[string]float64{"http": 1 / median(taken[1])}
	if op.raw != nil {
		limit += median(taken[2])
		name = "1/(1/raw + 1/http)"
		beside["raw"] = 1 / median(taken[2])
	}
	f := rate(op.name, rateOf, "1/s", name, 1/limit)
	f.Beside = beside
	at, err := latencies(ctx, dir, d, rateOf/2, ask(false), ask(true))
	for i := range at {
		at[i].Name = op.name + ", " + at[i].Name
	}
	return append([]figure{f}, at...), err
}

// latencies are the median and the 99th percentile of work at a steady rate.
// Beside them are those of the constant at this rate, which is what the machine
// and HTTP take, and those of bare writes made durable, one after the other.
func latencies(ctx context.Context, dir string, d time.Duration, perSecond float64, work, constant func(context.Context) error) ([]figure, error) {
	took, err := paced(ctx, d, perSecond, work)
	if err != nil {
		return nil, err
	}
	bare, err := paced(ctx, d, perSecond, constant)
	if err != nil {
		return nil, err
	}
	disk, err := durableWrites(dir, min(d, time.Second))
	if err != nil {
		return nil, err
	}
	var figures []figure
	for _, percent := range []int{50, 99} {
		f := cost(fmt.Sprintf("p%d at half load", percent), percentile(took, percent), "ms", "bound", 5)
		f.Beside = map[string]float64{"http ms": percentile(bare, percent), "fdatasync ms": percentile(disk, percent), "1/s": perSecond}
		figures = append(figures, f)
	}
	return figures, nil
}

// percentile is in milliseconds.
func percentile(sorted []time.Duration, percent int) float64 {
	return sorted[len(sorted)*percent/100].Seconds() * 1000
}

// paced does work at a steady rate for d, whether the work before it is done
// or not, and returns, sorted, how long each took from when it was due to its
// end.
func paced(ctx context.Context, d time.Duration, perSecond float64, work func(context.Context) error) ([]time.Duration, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	total := max(int(perSecond*d.Seconds()), 1)
	took := make([]time.Duration, total)
	due := make(chan int, total)
	tick, stop, err := ticker(time.Duration(float64(time.Second) / perSecond))
	if err != nil {
		return nil, err
	}
	defer stop()
	var wg sync.WaitGroup
	begun := time.Now()
	at := func(i int) time.Time { return begun.Add(time.Duration(float64(i) / perSecond * float64(time.Second))) }
	for range vaultWorkers {
		wg.Go(func() {
			for i := range due {
				if err := work(ctx); err != nil {
					cancel(err)
					return
				}
				took[i] = time.Since(at(i))
			}
		})
	}
	for i := 0; i < total && ctx.Err() == nil; {
		if time.Until(at(i)) > 0 {
			if err := tick(); err != nil {
				cancel(err)
			}
			continue
		}
		due <- i
		i++
	}
	close(due)
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	slices.Sort(took)
	return took, nil
}

// durableWrites is, sorted, how long it takes to write 2 kB into a file of
// enough length and have it on stable storage, one after the other for d.
func durableWrites(dir string, d time.Duration) (took []time.Duration, err error) {
	f, err := os.CreateTemp(dir, "durable")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	if _, err := f.Write(make([]byte, 1<<20)); err != nil {
		return nil, err
	}
	if err := f.Sync(); err != nil {
		return nil, err
	}
	block := make([]byte, 2000)
	for begun := time.Now(); time.Since(begun) < d; {
		_, _ = rand.Read(block)
		start := time.Now()
		if _, err := f.WriteAt(block, int64(len(took)%500*len(block))); err != nil {
			return nil, err
		}
		if err := syncData(f); err != nil {
			return nil, err
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	return took, nil
}
