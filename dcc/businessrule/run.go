package businessrule

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"verdant/azure/client"
	"verdant/dcc/connector"
	"verdant/internal/httpserve"
	"verdant/internal/lifecycle"
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
	ln, err := net.Listen("tcp", getenv("LISTEN_ADDR"))
	if err != nil {
		return fmt.Errorf("listen on LISTEN_ADDR: %w", err)
	}
	start, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	s, err := open(start, p, getenv("DGC_GATEWAY_ENDPOINT"), Deps{Log: log})
	if err != nil {
		return errors.Join(err, ln.Close())
	}
	defer func() { _ = s.store.db.Close() }()
	handler, err := s.Handler()
	if err != nil {
		return errors.Join(err, ln.Close())
	}
	log.Info("business rule service is ready")
	return lifecycle.Run(ctx, 5*time.Second,
		lifecycle.Task{Name: "serve", Run: func(ctx context.Context) error { return httpserve.Run(ctx, ln, nil, handler) }},
		lifecycle.Task{Name: "follow the rules", Run: s.Run},
	)
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
