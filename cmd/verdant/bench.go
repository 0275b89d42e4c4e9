package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"verdant/estate"
	"verdant/hcert"
)

// figure is one measured number beside its limit, both from this run.
type figure struct {
	Name      string  `json:"name"`
	Value     float64 `json:"value"`
	Unit      string  `json:"unit"`
	LimitName string  `json:"limit_name"`
	Limit     float64 `json:"limit"`
	// Ratio is how much of the limit was reached: 1 is the limit itself.
	Ratio float64 `json:"ratio"`
	// Beside are figures of the same run that explain this one.
	Beside map[string]float64 `json:"beside,omitempty"`
	// Spread is there for several runs: then the figure is of the run whose
	// ratio is the median.
	Spread *spread `json:"spread,omitempty"`
}

// spread is how far several runs of one figure are apart.
type spread struct {
	Runs   int        `json:"runs"`
	Values [2]float64 `json:"values"` // least and most
	Ratios [2]float64 `json:"ratios"`
}

// medianOfRuns joins the figures of several runs of one benchmark.
func medianOfRuns(runs [][]figure) []figure {
	joined := slices.Clone(runs[0])
	for i := range joined {
		var same []figure
		for _, run := range runs {
			same = append(same, run[i])
		}
		slices.SortFunc(same, func(a, b figure) int { return cmp.Compare(a.Value, b.Value) })
		values := [2]float64{same[0].Value, same[len(same)-1].Value}
		slices.SortFunc(same, func(a, b figure) int { return cmp.Compare(a.Ratio, b.Ratio) })
		joined[i] = same[len(same)/2]
		joined[i].Spread = &spread{len(runs), values, [2]float64{same[0].Ratio, same[len(same)-1].Ratio}}
	}
	return joined
}

// rate is a figure where more is better, cost one where less is.
func rate(name string, value float64, unit, limitName string, limit float64) figure {
	return figure{Name: name, Value: value, Unit: unit, LimitName: limitName, Limit: limit, Ratio: value / limit}
}

func cost(name string, value float64, unit, limitName string, limit float64) figure {
	return figure{Name: name, Value: value, Unit: unit, LimitName: limitName, Limit: limit, Ratio: limit / value}
}

// benchFlags are common to the benchmarks.
type benchFlags struct {
	output, network string
	seconds, runs   int
	profile         string // file for a profile of the processor's time
	hsm             string // PKCS #11 URI of a token to measure
	objects         int    // secrets of the largest vault
	running         string // data directory of a running estate
	record          string // file that gets the identifier of each certificate
	entries         []uint // sizes of the revocation lists (hcert only)
}

func newBenchCommand() *cobra.Command {
	benches := map[string]func(context.Context, benchFlags) ([]figure, error){
		"up": benchUp, "issue": benchIssue, "keyvault": benchKeyVault, "vault-scale": benchVaultScale, "hcert": benchHcert,
	}
	var flags benchFlags
	cmd := &cobra.Command{
		Use:   "bench up|issue|keyvault|vault-scale|hcert",
		Short: "Measure, with the physical limit beside each figure",
		Long: `Measure on this machine, with the physical limit from the same run beside each figure.

  up     first start, start from an existing data directory, memory of the whole estate
  issue  certificates a second through the portal's API, and online verifications a second
  keyvault
         operations a second of one vault on loopback, server and client in this one process,
         with TLS, token check, roles and durable audit on. raw is the bare crypto operation on
         all cores, http the same server giving the vault's answer as a constant; with each,
         the median and the 99th percentile at half the measured rate, beside those of the
         constant and of a bare write and fdatasync. --hsm URI also measures signing in a
         PKCS #11 token through the signer process; there raw is the bare module
  vault-scale
         one vault as it grows from 1,000 secrets and 100 keys to a million and 100,000: start,
         memory, and the time of lists, gets and signatures at random places, one request at a
         time (the least median of five turns); beside them the same of the smallest vault.
         Takes minutes and 2 GB of disk
  hcert  the certificate libraries beside the bare ES256: decode and verify, encode and sign, a
         country's business rules; and revocation lists of --entries (80 million take a minute
         and 5 GB of the temporary directory)`,
		Args: exactly(1, "the benchmark's name: up, issue, keyvault, vault-scale or hcert"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkOutput(flags.output); err != nil {
				return err
			}
			bench, ok := benches[args[0]]
			if !ok {
				return usagef("no benchmark %q; there are up, issue, keyvault, vault-scale and hcert", args[0])
			}
			if flags.seconds < 1 {
				return usagef("--seconds %d: measure for one second at least", flags.seconds)
			}
			if flags.runs < 1 {
				return usagef("--runs %d: one run at least", flags.runs)
			}
			stop, err := startProfile(flags.profile)
			if err != nil {
				return err
			}
			var runs [][]figure
			for range flags.runs {
				figures, err := bench(cmd.Context(), flags)
				if err != nil {
					return errors.Join(err, stop())
				}
				runs = append(runs, figures)
			}
			if err := stop(); err != nil {
				return err
			}
			figures := runs[0]
			if len(runs) > 1 {
				figures = medianOfRuns(runs)
			}
			return printFigures(figures, flags.output == "json")
		},
	}
	cmd.Flags().StringVarP(&flags.output, "output", "o", "text", "how to print: text or json (one line a figure)")
	cmd.Flags().StringVar(&flags.network, "network", "auto", "auto, isolated or loopback")
	cmd.Flags().IntVar(&flags.seconds, "seconds", 5, "how long each rate is measured")
	cmd.Flags().IntVar(&flags.runs, "runs", 1, "how often the benchmark is run; a figure is the median, with the spread beside it")
	cmd.Flags().StringVar(&flags.hsm, "hsm", "", "PKCS #11 URI of a token to measure as well (keyvault only)")
	cmd.Flags().StringVar(&flags.profile, "cpu-profile", "", "write a profile of the processor's time, for go tool pprof, to this file")
	cmd.Flags().IntVar(&flags.objects, "secrets", 1_000_000, "how many secrets the largest vault has (vault-scale only)")
	cmd.Flags().StringVar(&flags.running, "data-dir", "", "measure the estate that runs here instead of a new one (issue only)")
	cmd.Flags().UintSliceVar(&flags.entries, "entries", []uint{1_000_000, 10_000_000, 80_000_000}, "sizes of the revocation lists, with commas between (hcert only)")
	cmd.Flags().StringVar(&flags.record, "record", "", "append the identifier of each issued certificate to this file as it is acknowledged (issue only)")
	return cmd
}

func printFigures(figures []figure, asJSON bool) error {
	enc := json.NewEncoder(os.Stdout)
	for _, f := range figures {
		if asJSON {
			if err := enc.Encode(f); err != nil {
				return err
			}
			continue
		}
		fmt.Printf("%-48s %10.2f %-6s   %s %.2f   ratio %.2f", f.Name, f.Value, f.Unit, f.LimitName, f.Limit, f.Ratio)
		if s := f.Spread; s != nil {
			fmt.Printf(" (%d runs: %.2f to %.2f, ratio %.2f to %.2f)", s.Runs, s.Values[0], s.Values[1], s.Ratios[0], s.Ratios[1])
		}
		for i, name := range slices.Sorted(maps.Keys(f.Beside)) {
			fmt.Printf("%s %s %.2f", [2]string{";", ","}[min(i, 1)], name, f.Beside[name])
		}
		fmt.Println()
	}
	return nil
}

// startProfile profiles this process until stop is called; "" does not.
func startProfile(path string) (stop func() error, err error) {
	if path == "" {
		return func() error { return nil }, nil
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() error {
		pprof.StopCPUProfile()
		return f.Close()
	}, nil
}

// benchEstate runs an estate in a temporary directory while f works with it.
func benchEstate(ctx context.Context, dir, network string, f func(*session, time.Duration) error) error {
	flags := upFlags{session: sessionFlags{dataDir: dir, output: "text", user: estate.ProfessionalUser}, network: network,
		ingress: "127.0.0.1:0", jumpbox: "127.0.0.1:0"}
	cfg, err := flags.config()
	if err != nil {
		return err
	}
	begun := time.Now()
	running, err := estate.Start(ctx, cfg)
	if err != nil {
		return err
	}
	err = running.WaitReady(ctx)
	took := time.Since(begun)
	if err == nil {
		var s *session
		if s, err = flags.session.open(); err == nil {
			err = f(s, took)
		}
	}
	return errors.Join(err, running.Stop())
}

func benchUp(ctx context.Context, flags benchFlags) ([]figure, error) {
	dir, err := os.MkdirTemp("", "verdant-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	processes := 2
	var first, memory float64
	err = benchEstate(ctx, filepath.Join(dir, "estate"), flags.network, func(s *session, took time.Duration) error {
		first = took.Seconds()
		status, err := s.control.Summary(ctx)
		processes += len(status.Pods)
		return err
	})
	if err != nil {
		return nil, err
	}
	const rounds = 3
	var again []float64
	for range rounds {
		err = benchEstate(ctx, filepath.Join(dir, "estate"), flags.network, func(s *session, took time.Duration) error {
			again = append(again, took.Seconds())
			status, err := s.control.Summary(ctx)
			memory = float64(status.MemoryBytes) / (1 << 20)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	spawn, err := spawnTime(ctx, processes)
	if err != nil {
		return nil, err
	}
	limit := fmt.Sprintf("exec of %d processes of this binary", processes)
	return []figure{
		cost("first start, PKI included", first, "s", limit, spawn),
		cost("start from a data directory", median(again), "s", limit, spawn),
		cost("memory of the whole estate", memory, "MB", "bound", 400),
	}, nil
}

// spawnTime is how long it takes to run this binary n times, one after the
// other, doing nothing: no start of n processes can be faster on one core.
func spawnTime(ctx context.Context, n int) (float64, error) {
	exe, err := os.Executable()
	if err != nil {
		return 0, err
	}
	begun := time.Now()
	for range n {
		if err := exec.CommandContext(ctx, exe, "help").Run(); err != nil {
			return 0, err
		}
	}
	return time.Since(begun).Seconds(), nil
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

func benchIssue(ctx context.Context, flags benchFlags) ([]figure, error) {
	var figures []figure
	measure := func(s *session, _ time.Duration) error {
		var err error
		figures, err = issueFigures(ctx, s, time.Duration(flags.seconds)*time.Second, flags.record)
		return err
	}
	if flags.running != "" {
		open := sessionFlags{dataDir: flags.running, output: "text", user: estate.ProfessionalUser}
		s, err := open.open()
		if err != nil {
			return nil, err
		}
		err = measure(s, 0)
		return figures, err
	}
	dir, err := os.MkdirTemp("", "verdant-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	err = benchEstate(ctx, filepath.Join(dir, "estate"), flags.network, measure)
	return figures, err
}

// workers is how many requests are in flight: enough that group commits fill.
const workers = 32

func issueFigures(ctx context.Context, s *session, d time.Duration, record string) ([]figure, error) {
	var recorded *os.File
	if record != "" {
		var err error
		if recorded, err = os.OpenFile(record, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
			return nil, err
		}
		defer recorded.Close()
	}
	client, err := s.client(ctx, "")
	if err != nil {
		return nil, err
	}
	token, err := s.token(ctx, estate.PortalAudience)
	if err != nil {
		return nil, err
	}
	payload := example(hcert.KindVaccination, time.Now())
	var last atomic.Value
	issueRate, err := sustained(ctx, d, workers, func(ctx context.Context) error {
		var cert issued
		if err := postJSON(ctx, client, s.portalURL("/api/certificates"), token, payload, &cert); err != nil {
			return err
		}
		last.Store(cert)
		if recorded != nil {
			if _, err := recorded.WriteString(cert.UVCI + "\n"); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("issue: %w", err)
	}
	body, err := json.Marshal(map[string]string{"hc1": last.Load().(issued).HC1})
	if err != nil {
		return nil, err
	}
	verifyURL := "https://" + s.names().ServiceHost("dgca-verifier-service", estate.IE) + "/verify"
	verifyRate, err := sustained(ctx, d, workers, func(ctx context.Context) error {
		return postVerify(ctx, client, verifyURL, body)
	})
	if err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	signs, verifies, err := rawRates(ctx, min(d, 2*time.Second))
	if err != nil {
		return nil, err
	}
	return []figure{
		rate("certificates issued", issueRate, "1/s", "raw ES256 signatures", signs),
		rate("online verifications", verifyRate, "1/s", "raw ES256 verifications", verifies),
	}, nil
}

func postVerify(ctx context.Context, client *http.Client, url string, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var verdict struct {
		Valid bool `json:"valid"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&verdict); err != nil {
		return err
	}
	if !verdict.Valid {
		return fmt.Errorf("the verifier refused a certificate just issued (%s)", resp.Status)
	}
	return nil
}

// sustained runs work in parallel for d and returns how often a second it was
// done. The first error ends it.
func sustained(ctx context.Context, d time.Duration, parallel int, work func(context.Context) error) (float64, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var done atomic.Int64
	var wg sync.WaitGroup
	begun := time.Now()
	for range parallel {
		wg.Go(func() {
			for time.Since(begun) < d && ctx.Err() == nil {
				if err := work(ctx); err != nil {
					cancel(err)
					return
				}
				done.Add(1)
			}
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return 0, err
	}
	return float64(done.Load()) / time.Since(begun).Seconds(), nil
}

// rawRates measures what this machine can do with P-256 on all cores.
func rawRates(ctx context.Context, d time.Duration) (signs, verifies float64, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return 0, 0, err
	}
	digest := sha256.Sum256([]byte("verdant"))
	signs, err = sustained(ctx, d, runtime.GOMAXPROCS(0), func(context.Context) error {
		_, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
		return err
	})
	if err != nil {
		return 0, 0, err
	}
	signature, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		return 0, 0, err
	}
	verifies, err = sustained(ctx, d, runtime.GOMAXPROCS(0), func(context.Context) error {
		if !ecdsa.VerifyASN1(&key.PublicKey, digest[:], signature) {
			return errors.New("a signature just made does not verify")
		}
		return nil
	})
	return signs, verifies, err
}
