package connector

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"verdant/azure/client"
	"verdant/internal/lifecycle"
	"verdant/internal/podserve"
)

// Serve runs, in a pod as its environment describes it and until ctx ends, a
// service that reads from the gateway: DGC_GATEWAY_ENDPOINT, and the connector's
// items in the region's vault. open makes the service; ready is logged when it
// answers.
func Serve(ctx context.Context, getenv func(string) string, stdout io.Writer, ready string,
	open func(context.Context, *client.Platform, *Connector, *slog.Logger) (podserve.Service, error)) error {
	p, err := client.FromEnv(getenv)
	if err != nil {
		return err
	}
	log := p.Logger(stdout)
	return podserve.Run(ctx, getenv("LISTEN_ADDR"), func(ctx context.Context) (podserve.Service, error) {
		props, err := p.Properties(ctx, log, PropertyNames(false)...)
		if err != nil {
			return podserve.Service{}, err
		}
		con, err := Open(ctx, p, Options{Gateway: getenv("DGC_GATEWAY_ENDPOINT"), Properties: props, Log: log})
		if err != nil {
			return podserve.Service{}, fmt.Errorf("gateway connector: %w", err)
		}
		s, err := open(ctx, p, con, log)
		s.Background = append(s.Background, lifecycle.Task{Name: "refresh properties", Run: props.Run})
		return s, err
	}, func() { log.Info(ready) })
}
