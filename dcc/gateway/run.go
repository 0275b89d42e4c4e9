package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"

	"verdant/azure/client"
	"verdant/internal/lifecycle"
	"verdant/internal/podserve"
)

// Run serves the gateway in a pod as its environment describes it, until ctx
// ends: the trust anchor's certificate and key in the pod's key store under the
// name that the property dgc.trustAnchor.certificateAlias holds, the database
// dgc, the ingress's address in INGRESS_SOURCE and, in the loopback driver, its
// proof in INGRESS_SECRET, member states to onboard under ONBOARDING_DIR.
func Run(ctx context.Context, getenv func(string) string, stdout io.Writer) error {
	p, err := client.FromEnv(getenv)
	if err != nil {
		return err
	}
	log := p.Logger(stdout)
	cfg := Config{OnboardingDir: getenv("ONBOARDING_DIR"), IngressSecret: getenv("INGRESS_SECRET")}
	if cfg.Ingress, err = addresses(getenv("INGRESS_SOURCE")); err != nil {
		return err
	}
	return podserve.Run(ctx, getenv("LISTEN_ADDR"), func(ctx context.Context) (podserve.Service, error) {
		props, err := p.Properties(ctx, log, anchorAlias)
		if err != nil {
			return podserve.Service{}, err
		}
		s, err := open(ctx, cfg, p, props, Deps{Log: log})
		if err != nil {
			return podserve.Service{}, err
		}
		handler, err := s.Handler()
		if err != nil {
			return podserve.Service{}, errors.Join(err, s.store.db.Close())
		}
		return podserve.Service{Handler: handler, Close: s.store.db.Close,
			Background: []lifecycle.Task{{Name: "forget tombstones", Run: s.Run}, {Name: "refresh properties", Run: props.Run}}}, nil
	}, func() { log.Info("gateway is ready") })
}

// anchorAlias is the property that names the trust anchor's certificate.
const anchorAlias = "dgc.trustAnchor.certificateAlias"

// open reaches key store and database and makes the server.
func open(ctx context.Context, cfg Config, p *client.Platform, props *client.Properties, deps Deps) (*Server, error) {
	keys, err := p.KeyStore()
	if err != nil {
		return nil, err
	}
	signer, cert, err := keys.Signer(ctx, props.GetOr(anchorAlias, "trustanchor"))
	if err != nil {
		return nil, fmt.Errorf("trust anchor: %w", err)
	}
	deps.Anchor, deps.AnchorKey = cert, signer
	if deps.DB, err = p.OpenDB(ctx); err != nil {
		return nil, err
	}
	s, err := New(ctx, cfg, deps)
	if err != nil {
		return nil, errors.Join(err, deps.DB.Close())
	}
	return s, nil
}

// addresses reads a comma-separated list of IP addresses.
func addresses(list string) ([]netip.Addr, error) {
	var out []netip.Addr
	for _, part := range client.List(list) {
		a, err := netip.ParseAddr(part)
		if err != nil {
			return nil, fmt.Errorf("INGRESS_SOURCE: %q is no IP address", part)
		}
		out = append(out, a.Unmap())
	}
	return out, nil
}
