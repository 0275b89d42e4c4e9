package vnet

import (
	"context"
	"fmt"
	"strings"
)

// Finding says whether a driver works on this machine.
type Finding struct {
	Driver Driver
	Works  bool
	// Why says in plain words why it does, or does not.
	Why string
	// Limits lists what the driver cannot enforce here.
	Limits []string
}

// Probe tries every driver, the strongest first: it builds a network with a
// pod and takes it down again, in a process of its own.
func Probe(ctx context.Context) []Finding {
	return []Finding{probeKernel(ctx, Root), probeKernel(ctx, Rootless), {
		Driver: Loopback, Works: true,
		Why:    "works everywhere, without isolation",
		Limits: loopbackLimits(),
	}}
}

// Choose turns a --network mode into a driver: "auto" is the strongest that
// works, "isolated" the strongest of the kernel drivers, and "root",
// "rootless" and "loopback" are themselves. The finding's Why tells the reason
// of the choice; the error, why nothing fits and what can be done.
func Choose(ctx context.Context, mode string) (Finding, error) {
	var candidates []Driver
	switch mode {
	case "auto", "":
		candidates = []Driver{Root, Rootless, Loopback}
	case "isolated":
		candidates = []Driver{Root, Rootless}
	case string(Root), string(Rootless), string(Loopback):
		candidates = []Driver{Driver(mode)}
	default:
		return Finding{}, fmt.Errorf("network mode %q is unknown; known are auto, isolated, loopback, root and rootless", mode)
	}
	var reasons []string
	for _, d := range candidates {
		found := Finding{Driver: Loopback, Works: true, Why: "works everywhere, without isolation", Limits: loopbackLimits()}
		if d != Loopback {
			found = probeKernel(ctx, d)
		}
		if found.Works {
			if len(reasons) > 0 {
				found.Why += " (" + strings.Join(reasons, "; ") + ")"
			}
			return found, nil
		}
		reasons = append(reasons, fmt.Sprintf("%s: %s", d, found.Why))
	}
	return Finding{}, fmt.Errorf("network mode %s does not work here: %s; --network loopback works without isolation",
		mode, strings.Join(reasons, "; "))
}
