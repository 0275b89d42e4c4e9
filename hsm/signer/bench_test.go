//go:build cgo && linux

package signer_test

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	p11 "github.com/miekg/pkcs11"

	"verdant/hsm"
	"verdant/hsm/hsmtest"
)

// rawSigner signs with the module itself, loaded into this process: what the
// signer process is measured against.
func rawSigner(b *testing.B, s hsmtest.SoftHSM, id hsm.KeyID, mechanism uint, input []byte) func() func() error {
	b.Helper()
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	lib := p11.New(s.Module)
	must(lib.Initialize())
	b.Cleanup(func() { _ = lib.Finalize(); lib.Destroy() })
	slots, err := lib.GetSlotList(true)
	must(err)
	session := func() p11.SessionHandle {
		h, err := lib.OpenSession(slots[0], p11.CKF_SERIAL_SESSION)
		must(err)
		return h
	}
	anchor := session()
	must(lib.Login(anchor, p11.CKU_USER, s.PIN))
	must(lib.FindObjectsInit(anchor, []*p11.Attribute{p11.NewAttribute(p11.CKA_CLASS, p11.CKO_PRIVATE_KEY), p11.NewAttribute(p11.CKA_ID, []byte(id))}))
	found, _, err := lib.FindObjects(anchor, 1)
	must(err)
	must(lib.FindObjectsFinal(anchor))
	return func() func() error {
		h := session()
		return func() error {
			if err := lib.SignInit(h, []*p11.Mechanism{p11.NewMechanism(mechanism, nil)}, found[0]); err != nil {
				return err
			}
			_, err := lib.Sign(h, input)
			return err
		}
	}
}

// BenchmarkSignBesideItsBounds measures the signer process, the bare module and
// Go's own crypto in turns of a tenth of a second, so that all three have the
// same machine, and reports signatures a second and the ratio to the module.
func BenchmarkSignBesideItsBounds(b *testing.B) {
	for name, c := range map[string]struct {
		spec      hsm.KeySpec
		mechanism uint
		input     int
	}{
		"RSA-2048": {hsm.KeySpec{Type: hsm.RSA, Bits: 2048}, p11.CKM_RSA_PKCS, 51},
		"P-256":    {hsm.KeySpec{Type: hsm.EC, Curve: hsm.P256}, p11.CKM_ECDSA, 32},
	} {
		b.Run(name, func(b *testing.B) {
			s := hsmtest.NewSoftHSM(b)
			digest := sha256.Sum256(nil)
			served, err := open(b, s).Generate(b.Context(), "k", c.spec)
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
			contenders := []func() func() error{rawSigner(b, s, "k", c.mechanism, make([]byte, c.input)), with(served), with(local)}
			var rates [3]float64
			rounds := 0
			for b.Loop() {
				for i, contender := range contenders {
					rates[i] += rate(b, contender)
				}
				rounds++
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(rates[0]/float64(rounds), "module/s")
			b.ReportMetric(rates[1]/float64(rounds), "process/s")
			b.ReportMetric(rates[2]/float64(rounds), "go/s")
			b.ReportMetric(rates[1]/rates[0], "of-module")
		})
	}
}

// rate is how often workers of contender do their work in a second.
func rate(b *testing.B, contender func() func() error) float64 {
	b.Helper()
	var done atomic.Int64
	var wg sync.WaitGroup
	begun := time.Now()
	for range 4 * runtime.NumCPU() {
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
	return float64(done.Load()) / time.Since(begun).Seconds()
}
