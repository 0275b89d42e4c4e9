package businessrule

import (
	"context"
	"errors"
	"io"
	"log/slog"

	"verdant/azure/client"
	"verdant/dcc/connector"
	"verdant/internal/lifecycle"
	"verdant/internal/podserve"
)

// Run serves the business rule service in a pod as its environment describes
// it, until ctx ends: what connector.Serve reads, and the database
// businessrule-service.
func Run(ctx context.Context, getenv func(string) string, stdout io.Writer) error {
	return connector.Serve(ctx, getenv, stdout, "business rule service is ready", open)
}

func open(ctx context.Context, p *client.Platform, con *connector.Connector, log *slog.Logger) (podserve.Service, error) {
	db, err := p.OpenDB(ctx)
	if err != nil {
		return podserve.Service{}, err
	}
	s, err := New(ctx, Config{}, Deps{Source: con, DB: db, Log: log})
	if err != nil {
		return podserve.Service{}, errors.Join(err, db.Close())
	}
	handler, err := s.Handler()
	if err != nil {
		return podserve.Service{}, errors.Join(err, db.Close())
	}
	return podserve.Service{Handler: handler, Close: db.Close, Background: []lifecycle.Task{{Name: "follow the rules", Run: s.Run}}}, nil
}
