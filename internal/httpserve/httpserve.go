// Package httpserve runs an HTTP handler on a listener with every deadline set.
//
// Connections that carry network evidence (internal/conninfo) keep it in their
// requests' contexts. When the context ends the server stops accepting, gives
// requests in flight a bounded time, and closes the rest.
package httpserve

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"time"

	"verdant/internal/conninfo"
)

// Drain is how long requests in flight may go on after the end of the context.
const Drain = 2 * time.Second

// Run serves handler on ln until ctx ends. A nil tlsConfig serves plain HTTP.
// It owns ln and closes it. The error is nil after an orderly end.
func Run(ctx context.Context, ln net.Listener, tlsConfig *tls.Config, handler http.Handler) error {
	if tlsConfig != nil {
		tlsConfig = tlsConfig.Clone()
		tlsConfig.MinVersion = max(tlsConfig.MinVersion, tls.VersionTLS12)
		if len(tlsConfig.NextProtos) == 0 {
			tlsConfig.NextProtos = []string{"h2", "http/1.1"}
		}
		ln = tls.NewListener(ln, tlsConfig)
	}
	srv := &http.Server{
		Handler:           handler,
		ConnContext:       conninfo.ConnContext,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       60 * time.Second,
		WriteTimeout:      10 * time.Minute,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		// Handshake noise of strangers is not ours to log; handlers log
		// through their own sink.
		ErrorLog: log.New(io.Discard, "", 0),
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	select {
	case err := <-done:
		if errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed) {
			return nil
		}
		return err
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), Drain)
	defer cancel()
	if err := srv.Shutdown(drain); err != nil {
		_ = srv.Close()
	}
	<-done
	return nil
}
