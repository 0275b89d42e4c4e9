//go:build !linux

package vnet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

var errNoNamespaces = errors.New("network namespaces need Linux")

func openKernel(*Fabric) (backend, error) { return nil, errNoNamespaces }

func probeKernel(_ context.Context, d Driver) Finding {
	return Finding{Driver: d, Why: errNoNamespaces.Error()}
}

func boot(stage string) int {
	fmt.Fprintf(os.Stderr, "%s=%s: %v; unset the variable\n", bootEnv, stage, errNoNamespaces)
	return 2
}

func terminate(p *os.Process) error { return p.Signal(syscall.SIGTERM) }

func intoNamespaces(_ *exec.Cmd, d Driver) error {
	if d != Loopback {
		return errNoNamespaces
	}
	return nil
}

// keepThread starts a child; without a parent death signal no thread matters.
func keepThread(start func() error, _ <-chan struct{}) error { return start() }
