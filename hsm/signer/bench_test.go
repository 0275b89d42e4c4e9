//go:build cgo && linux

package signer_test

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"verdant/hsm"
	"verdant/hsm/hsmtest"
	"verdant/hsm/pkcs11"
)

// bare signs with the module itself, loaded into this process: what the signer
// process is measured against.
func bare(b *testing.B, s hsmtest.SoftHSM, id hsm.KeyID) func() func() error {
	b.Helper()
	module, err := pkcs11.OpenBare(pkcs11.Config{Module: s.Module, Token: s.Label}, []byte(s.PIN))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = module.Close() })
	return func() func() error {
		sign, err := module.Signer(b.Context(), id)
		if err != nil {
			b.Fatal(err)
		}
		return sign
	}
}

// BenchmarkSignBesideItsBounds measures the signer process, the bare module and
// Go's own crypto in turns of a tenth of a second, so that all three have the
// same machine, and reports signatures a second and the ratio to the module.
func BenchmarkSignBesideItsBounds(b *testing.B) {
	for name, c := range map[string]struct {
		spec hsm.KeySpec
	}{
		"RSA-2048": {hsm.KeySpec{Type: hsm.RSA, Bits: 2048}},
		"P-256":    {hsm.KeySpec{Type: hsm.EC, Curve: hsm.P256}},
	} {
		b.Run(name, func(b *testing.B) {
			s := hsmtest.NewSoftHSM(b)
			digest := sha256.Sum256(nil)
			process := open(b, s)
			served, err := process.Generate(b.Context(), "k", c.spec)
			if err != nil {
				b.Fatal(err)
			}
			soft, err := hsm.OpenSoftware(b.Context(), b.TempDir(), [32]byte{1})
			if err != nil {
				b.Fatal(err)
			}
			local, err := soft.Generate(b.Context(), "k", c.spec)
			if err != nil {
				b.Fatal(err)
			}
			with := func(k hsm.Key) func() func() error {
				return func() func() error {
					return func() error { _, err := k.Sign(rand.Reader, digest[:], crypto.SHA256); return err }
				}
			}
			contenders := []func() func() error{bare(b, s, "k"), with(served), with(local)}
			var rates, perOp [3]float64
			rounds := 0
			for b.Loop() {
				for i, contender := range contenders {
					before := cpuTime(b, process.PID())
					r, n := rate(b, contender)
					rates[i] += r
					perOp[i] += (cpuTime(b, process.PID()) - before).Seconds() * 1e6 / n
				}
				rounds++
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(rates[0]/float64(rounds), "module/s")
			b.ReportMetric(rates[1]/float64(rounds), "process/s")
			b.ReportMetric(rates[2]/float64(rounds), "go/s")
			b.ReportMetric(rates[1]/rates[0], "of-module")
			b.ReportMetric(perOp[0]/float64(rounds), "module-cpu-µs/op")
			b.ReportMetric(perOp[1]/float64(rounds), "process-cpu-µs/op")
		})
	}
}

// workers is how many sign at once: a service under load.
const workers = 64

// cpuTime is the processor time of this process and of another.
func cpuTime(b *testing.B, pid int) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	total := time.Duration(u.Utime.Nano() + u.Stime.Nano())
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil {
		b.Fatal(err)
	}
	for _, t := range threads {
		text, err := os.ReadFile(t)
		if err != nil {
			continue // the thread ended
		}
		var ns int64
		if _, err := fmt.Sscan(string(text), &ns); err != nil {
			b.Fatal(err)
		}
		total += time.Duration(ns)
	}
	return total
}

// rate is how often workers of contender do their work in a second, and how
// often in all.
func rate(b *testing.B, contender func() func() error) (perSecond, n float64) {
	b.Helper()
	var done atomic.Int64
	var wg sync.WaitGroup
	begun := time.Now()
	for range workers {
		work := contender()
		wg.Go(func() {
			for time.Since(begun) < 100*time.Millisecond {
				if err := work(); err != nil {
					b.Error(err)
					return
				}
				done.Add(1)
			}
		})
	}
	wg.Wait()
	n = float64(done.Load())
	return n / time.Since(begun).Seconds(), n
}
