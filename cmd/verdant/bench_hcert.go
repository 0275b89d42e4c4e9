package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	_ "embed"
	"encoding/json"
	"fmt"
	"math/big"
	"runtime"
	"time"

	"verdant/certlogic"
	"verdant/hcert"
)

// benchRules are fifteen business rules of the kind that every country has:
// one event, the right disease, accepted vaccines and tests, and how old each
// may be.
//
//go:embed bench_rules.json
var benchRules []byte

const benchVaccination = `{"ver": "1.3.0", "dob": "1988-04-12",
	"nam": {"fn": "Ní Bhriain", "fnt": "NI<BHRIAIN", "gn": "Saoirse", "gnt": "SAOIRSE"},
	"v": [{"tg": "840539006", "vp": "1119349007", "mp": "EU/1/20/1528", "ma": "ORG-100030215", "dn": 2, "sd": 2,
		"dt": "2021-10-01", "co": "IE", "is": "Health Service Executive", "ci": "URN:UVCI:01:IE:1"}]}`

// benchHcert measures the certificate libraries in this one process: raw and
// whole operations in turns, so that what else the machine does hits both.
func benchHcert(ctx context.Context, flags benchFlags) ([]figure, error) {
	b, err := newHcertBench()
	if err != nil {
		return nil, err
	}
	d := time.Duration(flags.seconds) * time.Second
	var figures []figure
	for _, measure := range []func(context.Context, time.Duration) ([]figure, error){b.verify, b.issue, b.rules} {
		measured, err := measure(ctx, d)
		if err != nil {
			return nil, err
		}
		figures = append(figures, measured...)
	}
	for _, n := range flags.entries {
		measured, err := benchRevocation(ctx, uint64(n))
		if err != nil {
			return nil, fmt.Errorf("revocation list of %d entries: %w", n, err)
		}
		figures = append(figures, measured...)
	}
	return figures, nil
}

// hcertBench is an issuer with a key of its own and a verifier that knows it.
type hcertBench struct {
	key      *ecdsa.PrivateKey
	issuer   *hcert.Issuer
	verifier *hcert.Verifier
	dcc      *hcert.DCC
	now      time.Time
}

func newHcertBench() (*hcertBench, error) {
	b := &hcertBench{now: time.Date(2021, 12, 1, 12, 0, 0, 0, time.UTC)}
	var err error
	if b.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{Country: []string{"IE"}, CommonName: "DSC"},
		NotBefore: b.now, NotAfter: b.now.AddDate(2, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, b.key.Public(), b.key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	if b.issuer, err = hcert.NewIssuer(hcert.IssuerConfig{Country: "IE", Certificate: cert, Signer: b.key}); err != nil {
		return nil, err
	}
	known, err := hcert.NewKey(cert)
	if err != nil {
		return nil, err
	}
	b.verifier = hcert.NewVerifier(hcert.NewKeySet(known), func() time.Time { return b.now }, hcert.Limits{})
	b.dcc, err = hcert.ParseDCC([]byte(benchVaccination))
	return b, err
}

// verify measures decode + verify of a certificate whose signer is known.
func (b *hcertBench) verify(ctx context.Context, d time.Duration) ([]figure, error) {
	issued, err := b.issuer.Issue(ctx, b.dcc, b.now, b.now.AddDate(0, 6, 0))
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256([]byte("verdant"))
	signature, err := ecdsa.SignASN1(rand.Reader, b.key, digest[:])
	if err != nil {
		return nil, err
	}
	whole := func(context.Context) error {
		_, _, err := b.verifier.Verify(issued.Text)
		return err
	}
	rates, err := inTurns(ctx, d, func(context.Context) error {
		if !ecdsa.VerifyASN1(&b.key.PublicKey, digest[:], signature) {
			return fmt.Errorf("the bare signature does not verify")
		}
		return nil
	}, whole)
	if err != nil {
		return nil, err
	}
	allocations, err := allocationsOf(ctx, whole)
	if err != nil {
		return nil, err
	}
	return []figure{
		rate("decode + verify, ES256", rates[1], "1/s", "raw ES256 verify", rates[0]),
		cost("decode + verify, allocations", allocations, "", "bound", 60),
	}, nil
}

// issue measures encode + sign.
func (b *hcertBench) issue(ctx context.Context, d time.Duration) ([]figure, error) {
	digest := sha256.Sum256([]byte("verdant"))
	rates, err := inTurns(ctx, d, func(context.Context) error {
		_, err := ecdsa.SignASN1(rand.Reader, b.key, digest[:])
		return err
	}, func(ctx context.Context) error {
		_, err := b.issuer.Issue(ctx, b.dcc, b.now, b.now.AddDate(0, 6, 0))
		return err
	})
	if err != nil {
		return nil, err
	}
	return []figure{rate("encode + sign, ES256", rates[1], "1/s", "raw ES256 sign", rates[0])}, nil
}

// rules measures a country's rules, compiled once, on one core.
func (b *hcertBench) rules(ctx context.Context, d time.Duration) ([]figure, error) {
	var sources []json.RawMessage
	if err := json.Unmarshal(benchRules, &sources); err != nil {
		return nil, err
	}
	rules := make([]*certlogic.Rule, len(sources))
	for i, src := range sources {
		var err error
		if rules[i], err = certlogic.ParseRule(src); err != nil {
			return nil, err
		}
	}
	payload, err := certlogic.FromJSON([]byte(benchVaccination))
	if err != nil {
		return nil, err
	}
	sets, err := certlogic.NewValueSets(map[string][]string{"covid-19-lab-test-manufacturer-and-name": {"1232", "1304"}})
	if err != nil {
		return nil, err
	}
	in := &certlogic.Input{Payload: payload, Clock: b.now, ValueSets: sets, Country: "UT", Issuer: "IE"}
	perSecond, err := sustained(ctx, d, 1, func(context.Context) error {
		for range 100 { // the clock that bounds the run is read once for all of them
			if !certlogic.Accepted(certlogic.Evaluate(rules, in)) {
				return fmt.Errorf("the rules do not accept the certificate")
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return []figure{cost(fmt.Sprintf("a country's %d rules", len(rules)), 1e6/(100*perSecond), "µs", "bound", 10)}, nil
}

// inTurns returns the rates of several operations on all cores. They take turns,
// a slice of time each, and the median slice counts.
func inTurns(ctx context.Context, d time.Duration, operations ...func(context.Context) error) ([]float64, error) {
	slices := make([][]float64, len(operations))
	for range max(int(d/benchSlice), 5) {
		for i, op := range operations {
			r, err := sustained(ctx, benchSlice, runtime.GOMAXPROCS(0), op)
			if err != nil {
				return nil, err
			}
			slices[i] = append(slices[i], r)
		}
	}
	rates := make([]float64, len(operations))
	for i := range slices {
		rates[i] = median(slices[i])
	}
	return rates, nil
}

// allocationsOf returns how often an operation allocates, once it is warm.
func allocationsOf(ctx context.Context, op func(context.Context) error) (float64, error) {
	const times = 1000
	var before, after runtime.MemStats
	for range times {
		if err := op(ctx); err != nil {
			return 0, err
		}
	}
	runtime.ReadMemStats(&before)
	for range times {
		if err := op(ctx); err != nil {
			return 0, err
		}
	}
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / times, nil
}
