package verifier

import (
	"context"
	"errors"
	"fmt"
	"io"

	"verdant/azure/client"
	"verdant/dcc/connector"
	"verdant/internal/lifecycle"
	"verdant/internal/podserve"
)

// Run serves the verifier service in a pod as its environment describes it,
// until ctx ends: DGC_GATEWAY_ENDPOINT, the connector's items in the region's
// vault, the database verifier-service.
func Run(ctx context.Context, getenv func(string) string, stdout io.Writer) error {
	p, err := client.FromEnv(getenv)
	if err != nil {
		return err
	}
	log := p.Logger(stdout)
	return podserve.Run(ctx, getenv("LISTEN_ADDR"), func(ctx context.Context) (podserve.Service, error) {
		props, err := p.Properties(ctx, log, connector.PropertyNames(false)...)
		if err != nil {
			return podserve.Service{}, err
		}
		s, err := open(ctx, p, connector.Options{Gateway: getenv("DGC_GATEWAY_ENDPOINT"), Properties: props, Log: log}, Deps{Log: log})
		if err != nil {
			return podserve.Service{}, err
		}
		handler, err := s.Handler()
		if err != nil {
			return podserve.Service{}, errors.Join(err, s.store.db.Close())
		}
		return podserve.Service{Handler: handler, Close: s.store.db.Close,
			Background: []lifecycle.Task{{Name: "follow the trust list", Run: s.Run}, {Name: "refresh properties", Run: props.Run}}}, nil
	}, func() { log.Info("verifier service is ready") })
}

func open(ctx context.Context, p *client.Platform, o connector.Options, deps Deps) (*Server, error) {
	con, err := connector.Open(ctx, p, o)
	if err != nil {
		return nil, fmt.Errorf("gateway connector: %w", err)
	}
	deps.Source, deps.Rules = con, con
	if deps.DB, err = p.OpenDB(ctx); err != nil {
		return nil, err
	}
	s, err := New(ctx, Config{}, deps)
	if err != nil {
		return nil, errors.Join(err, deps.DB.Close())
	}
	return s, nil
}
