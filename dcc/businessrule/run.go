package businessrule

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

// Run serves the business rule service in a pod as its environment describes
// it, until ctx ends: DGC_GATEWAY_ENDPOINT, the connector's items in the
// region's vault, the database businessrule-service.
func Run(ctx context.Context, getenv func(string) string, stdout io.Writer) error {
	p, err := client.FromEnv(getenv)
	if err != nil {
		return err
	}
	log := p.Logger(stdout)
	return podserve.Run(ctx, getenv("LISTEN_ADDR"), func(ctx context.Context) (podserve.Service, error) {
		s, err := open(ctx, p, getenv("DGC_GATEWAY_ENDPOINT"), Deps{Log: log})
		if err != nil {
			return podserve.Service{}, err
		}
		handler, err := s.Handler()
		if err != nil {
			return podserve.Service{}, errors.Join(err, s.store.db.Close())
		}
		return podserve.Service{Handler: handler, Background: lifecycle.Task{Name: "follow the rules", Run: s.Run}, Close: s.store.db.Close}, nil
	}, func() { log.Info("business rule service is ready") })
}

func open(ctx context.Context, p *client.Platform, gateway string, deps Deps) (*Server, error) {
	con, err := connector.Open(ctx, p, connector.Options{Gateway: gateway, Log: deps.Log})
	if err != nil {
		return nil, fmt.Errorf("gateway connector: %w", err)
	}
	deps.Source = con
	if deps.DB, err = p.OpenDB(ctx); err != nil {
		return nil, err
	}
	s, err := New(ctx, Config{}, deps)
	if err != nil {
		return nil, errors.Join(err, deps.DB.Close())
	}
	return s, nil
}
