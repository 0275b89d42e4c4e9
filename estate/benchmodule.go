package estate

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"verdant/hsm"
	"verdant/hsm/pkcs11"
)

// BareModuleCommand is the subcommand that runs RunBareModule.
const BareModuleCommand = "bench-module"

// moduleTurn asks a BareModule to sign for a while; moduleRate is its answer.
type moduleTurn struct {
	Key hsm.KeyID
	For time.Duration
}

type moduleRate struct {
	PerSecond float64
	Threads   int
	Error     string
}

// BareModule is a process that has loaded a PKCS #11 module and does nothing
// but sign with it: what a signer process is measured against, in a process of
// its own because no other ever loads a vendor's code.
type BareModule struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *json.Decoder
}

// BareKey makes a key for a BareModule in the vault's hardware token: RSA with
// 2048 bits for RS256, else on P-256. remove destroys it.
func (m *MeasuredVault) BareKey(ctx context.Context, algorithm string) (id string, remove func(context.Context) error, err error) {
	spec := hsm.KeySpec{Type: hsm.EC, Curve: hsm.P256}
	if algorithm == "RS256" {
		spec = hsm.KeySpec{Type: hsm.RSA, Bits: 2048}
	}
	key, err := m.hardware.Generate(ctx, hsm.NewKeyID(), spec)
	if err != nil {
		return "", nil, err
	}
	return string(key.ID()), func(ctx context.Context) error { return m.hardware.Delete(ctx, key.ID()) }, nil
}

// StartBareModule starts one on the token of a PKCS #11 URI.
func StartBareModule(ctx context.Context, uri string) (*BareModule, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	m := &BareModule{cmd: exec.CommandContext(ctx, self, BareModuleCommand, "--uri", uri)}
	m.cmd.Stderr = os.Stderr
	var out io.Reader
	m.in, err = m.cmd.StdinPipe()
	if err == nil {
		out, err = m.cmd.StdoutPipe()
	}
	if err == nil {
		err = m.cmd.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("start the bare module: %w", err)
	}
	m.out = json.NewDecoder(bufio.NewReader(out))
	return m, nil
}

// Rate signs with a key for d, in as many threads as a signer process has
// sessions, or in one for each processor if that is faster, and returns the
// rate a second.
func (m *BareModule) Rate(key string, d time.Duration) (perSecond float64, threads int, err error) {
	var rate moduleRate
	if err := errors.Join(json.NewEncoder(m.in).Encode(moduleTurn{hsm.KeyID(key), d}), m.out.Decode(&rate)); err != nil {
		return 0, 0, fmt.Errorf("bare module: %w", err)
	}
	if rate.Error != "" {
		return 0, 0, errors.New("bare module: " + rate.Error)
	}
	return rate.PerSecond, rate.Threads, nil
}

// Close ends the process.
func (m *BareModule) Close() error { return errors.Join(m.in.Close(), m.cmd.Wait()) }

// RunBareModule is the process: a turn a line on in, a rate a line on out.
func RunBareModule(ctx context.Context, uri string, in io.Reader, out io.Writer) error {
	cfg, err := pkcs11.ParseURI(uri)
	if err != nil {
		return err
	}
	pin, err := os.ReadFile(cfg.PINSource)
	if err != nil {
		return err
	}
	module, err := pkcs11.OpenBare(cfg, bytes.TrimRight(pin, "\r\n"))
	if err != nil {
		return err
	}
	defer module.Close()
	turns, rates := json.NewDecoder(in), json.NewEncoder(out)
	signers := map[hsm.KeyID][]func() error{}
	fewer := map[hsm.KeyID]bool{}
	for {
		var turn moduleTurn
		if err := turns.Decode(&turn); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if signers[turn.Key] == nil {
			signs, err := bareSigners(ctx, module, turn.Key)
			if err != nil {
				return rates.Encode(moduleRate{Error: err.Error()})
			}
			signers[turn.Key] = signs
			few, all := inParallel(signs[:min(runtime.NumCPU(), len(signs))], turn.For), inParallel(signs, turn.For)
			fewer[turn.Key] = few.PerSecond > all.PerSecond
		}
		signs := signers[turn.Key]
		if fewer[turn.Key] {
			signs = signs[:min(runtime.NumCPU(), len(signs))]
		}
		if err := rates.Encode(inParallel(signs, turn.For)); err != nil {
			return err
		}
	}
}

func bareSigners(ctx context.Context, module *pkcs11.Bare, key hsm.KeyID) ([]func() error, error) {
	var signs []func() error
	for range module.Sessions() {
		sign, err := module.Signer(ctx, key)
		if err != nil {
			return nil, err
		}
		signs = append(signs, sign)
	}
	return signs, nil
}

func inParallel(signs []func() error, d time.Duration) moduleRate {
	var done atomic.Int64
	var failed atomic.Value
	var wg sync.WaitGroup
	begun := time.Now()
	for _, sign := range signs {
		wg.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			for time.Since(begun) < d {
				if err := sign(); err != nil {
					failed.Store(err.Error())
					return
				}
				done.Add(1)
			}
		})
	}
	wg.Wait()
	rate := moduleRate{PerSecond: float64(done.Load()) / time.Since(begun).Seconds(), Threads: len(signs)}
	rate.Error, _ = failed.Load().(string)
	return rate
}
