package estate

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"

	"verdant/azure/csi"
	"verdant/dcc/businessrule"
	"verdant/dcc/gateway"
	"verdant/dcc/issuance"
	"verdant/dcc/portal"
	"verdant/dcc/verifier"
	"verdant/vnet"
)

// service is the process of a pod.
type service func(ctx context.Context, getenv func(string) string, stdout io.Writer) error

func services() map[string]service {
	return map[string]service{
		"dgc-gateway":               gateway.Run,
		"dgca-issuance-service":     issuance.Run,
		"dgca-issuance-web":         portal.Run,
		"dgca-businessrule-service": businessrule.Run,
		"dgca-verifier-service":     verifier.Run,
		"csi-provider":              csi.Run,
	}
}

// Services lists the services that a pod can run, and the provider that a
// cluster runs beside its pods.
func Services() []string { return slices.Sorted(maps.Keys(services())) }

// RunService runs a service until ctx ends. Its settings are in the
// environment.
func RunService(ctx context.Context, name string, getenv func(string) string, stdout io.Writer) error {
	run, ok := services()[name]
	if !ok {
		return fmt.Errorf("no service %q", name)
	}
	return run(ctx, getenv, stdout)
}

// Boot must be the first statement of main: the networks run this program's
// own binary to furnish their namespaces. It does not return in such a process.
func Boot() { vnet.Boot() }
