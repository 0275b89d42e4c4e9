// Package podserve is the frame of a pod's process: it listens, opens the
// service behind the listener, serves it, runs its background work, and gives
// up what the service holds when the process ends.
package podserve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"verdant/internal/httpserve"
	"verdant/internal/lifecycle"
)

const (
	// opening bounds the time in which a service reaches what it needs.
	opening = time.Minute
	// grace bounds an orderly end.
	grace = 5 * time.Second
)

// Service is an opened service.
type Service struct {
	Handler http.Handler
	// Background is the service's own work beside answering.
	Background []lifecycle.Task
	// Close gives up what the service holds, after everything has ended.
	Close func() error
}

// Run listens on addr (LISTEN_ADDR), opens the service and runs it until ctx
// ends. The port is taken first: two instances never both open the service's
// state. ready is called when requests are answered.
func Run(ctx context.Context, addr string, open func(context.Context) (Service, error), ready func()) error {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("listen on LISTEN_ADDR: %w", err)
	}
	start, cancel := context.WithTimeout(ctx, opening)
	defer cancel()
	s, err := open(start)
	if err != nil {
		return errors.Join(err, ln.Close())
	}
	ready()
	serve := lifecycle.Task{Name: "serve", Run: func(ctx context.Context) error { return httpserve.Run(ctx, ln, nil, s.Handler) }}
	err = lifecycle.Run(ctx, grace, append(s.Background, serve)...)
	_ = s.Close() // nothing that was acknowledged waits for it
	return err
}
