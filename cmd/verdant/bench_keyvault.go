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
	raw                      func() error
}

// benchSlice is how long one of an operation's three rates is measured before
// it is the next one's turn: what else the machine does then hits all alike.
const benchSlice = 200 * time.Millisecond

// vaultWorkers is how many requests to the vault are in flight: enough that
// the processor, and not the wait for the disk, decides.
const vaultWorkers = 128

// benchKeyVault measures one vault, server and client in this one process.
func benchKeyVault(ctx context.Context, flags benchFlags) (figures []figure, err error) {
	dir, err := os.MkdirTemp("", "verdant-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	vault, err := estate.OpenMeasuredVault(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, vault.Close()) }()
	operations, err := vaultOperations(ctx, vault)
	if err != nil {
		return nil, err
	}
	for _, op := range operations {
		measured, err := op.measure(ctx, vault, time.Duration(flags.seconds)*time.Second)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", op.name, err)
		}
		figures = append(figures, measured...)
	}
	return figures, nil
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
		{"RS256 sign, RSA 2048", "POST", "/keys/rsa/sign", `{"alg":"RS256","value":"` + text + `"}`, func() error {
			_, err := rsaKey.Sign(rand.Reader, digest[:], crypto.SHA256)
			return err
		}},
		{"RSA-OAEP-256 unwrap, RSA 2048", "POST", "/keys/rsa/unwrapkey", `{"alg":"RSA-OAEP-256","value":"` + wrapped.Value + `"}`, func() error {
			_, err := rsa.DecryptOAEP(sha256.New(), nil, rsaKey, sealed, nil)
			return err
		}},
		{"ES256 sign, P-256", "POST", "/keys/ec/sign", `{"alg":"ES256","value":"` + text + `"}`, func() error {
			_, err := ecdsa.SignASN1(rand.Reader, ecKey, digest[:])
			return err
		}},
		{"secret get", "GET", "/secrets/password", "", nil},
	}, nil
}

// measure gives the operation's rate beside its bound 1/(1/raw + 1/http), and
// its 99th percentile at half that rate.
func (op vaultOperation) measure(ctx context.Context, vault *estate.MeasuredVault, d time.Duration) ([]figure, error) {
	if _, err := vault.Keep(ctx, op.method, op.path, op.body); err != nil {
		return nil, err
	}
	ask := func(constant bool) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := vault.Do(ctx, constant, op.method, op.path, op.body)
			return err
		}
	}
	var perRaw, perHTTP, perOp []float64 // seconds an operation takes
	for range max(int(d/benchSlice), 5) {
		if op.raw != nil {
			r, err := sustained(ctx, benchSlice, runtime.GOMAXPROCS(0), func(context.Context) error { return op.raw() })
			if err != nil {
				return nil, err
			}
			perRaw = append(perRaw, 1/r)
		}
		for _, m := range []struct {
			constant bool
			into     *[]float64
		}{{true, &perHTTP}, {false, &perOp}} {
			r, err := sustained(ctx, benchSlice, vaultWorkers, ask(m.constant))
			if err != nil {
				return nil, err
			}
			*m.into = append(*m.into, 1/r)
		}
	}
	rateOf, limit, name := 1/median(perOp), median(perHTTP), "the same server returning a constant"
	if op.raw != nil {
		limit += median(perRaw)
		name = fmt.Sprintf("1/(1/raw + 1/http), raw %.0f, http %.0f", 1/median(perRaw), 1/median(perHTTP))
	}
	p99, err := paced(ctx, d, rateOf/2, ask(false))
	if err != nil {
		return nil, err
	}
	return []figure{
		rate(op.name, rateOf, "1/s", name, 1/limit),
		cost(op.name+", p99 at half load", p99.Seconds()*1000, "ms", "bound", 5),
	}, nil
}

// paced does work at a steady rate for d, whether the work before it is done
// or not, and returns the 99th percentile of the time from when each was due
// to its end.
func paced(ctx context.Context, d time.Duration, perSecond float64, work func(context.Context) error) (time.Duration, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	total := max(int(perSecond*d.Seconds()), 1)
	took := make([]time.Duration, total)
	due := make(chan int, total)
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
	for i := 0; i < total && ctx.Err() == nil; i++ {
		if wait := time.Until(at(i)); wait > 0 {
			time.Sleep(wait)
		}
		due <- i
	}
	close(due)
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return 0, err
	}
	slices.Sort(took)
	return took[total*99/100], nil
}
