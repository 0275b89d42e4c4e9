package issuance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"verdant/azure/client"
	"verdant/dcc/connector"
	"verdant/internal/lifecycle"
	"verdant/internal/podserve"
)

// Run serves the issuance service in a pod as its environment describes it,
// until ctx ends: ISSUANCE_ROLE, COUNTRY, ISSUANCE_AUDIENCE, ISSUANCE_CALLERS,
// ISSUANCE_FRONTEND_ISSUING ("true" turns issuing by hash on),
// DGC_GATEWAY_ENDPOINT (empty: nothing is published), and for the private role
// the document signer in the vault under the name that the secret
// issuance-certalias holds.
func Run(ctx context.Context, getenv func(string) string, stdout io.Writer) error {
	p, err := client.FromEnv(getenv)
	if err != nil {
		return err
	}
	log := p.Logger(stdout)
	cfg := Config{Role: Role(getenv("ISSUANCE_ROLE")), Country: getenv("COUNTRY"), Callers: client.List(getenv("ISSUANCE_CALLERS")),
		FrontendIssuing: getenv("ISSUANCE_FRONTEND_ISSUING") == "true"}
	return podserve.Run(ctx, getenv("LISTEN_ADDR"), func(ctx context.Context) (podserve.Service, error) {
		s, err := open(ctx, cfg, p, Deps{Log: log}, getenv)
		if err != nil {
			return podserve.Service{}, err
		}
		handler, err := s.Handler()
		if err != nil {
			return podserve.Service{}, errors.Join(err, s.store.db.Close())
		}
		return podserve.Service{Handler: handler, Background: lifecycle.Task{Name: "publish document signer", Run: s.Run}, Close: s.store.db.Close}, nil
	}, func() { log.Info("issuance service is ready", "role", string(cfg.Role)) })
}

// open reaches what the role needs and makes the server.
func open(ctx context.Context, cfg Config, p *client.Platform, deps Deps, getenv func(string) string) (*Server, error) {
	if cfg.Role == Private {
		vault, err := p.Vault("")
		if err != nil {
			return nil, err
		}
		alias, ok, err := vault.Properties().Get(ctx, "issuance.certalias")
		if err != nil {
			return nil, err
		}
		if !ok {
			alias = "dsc-key-store"
		}
		signer, cert, err := vault.Signer(ctx, alias)
		if err != nil {
			return nil, fmt.Errorf("document signer: %w", err)
		}
		deps.Signer, deps.DSC = signer, cert
		deps.Tokens = p.TokenVerifier(getenv("ISSUANCE_AUDIENCE"))
		if gateway := getenv("DGC_GATEWAY_ENDPOINT"); gateway != "" {
			con, err := connector.Open(ctx, p, connector.Options{Gateway: gateway, Upload: true, Log: deps.Log})
			if err != nil {
				return nil, fmt.Errorf("gateway connector: %w", err)
			}
			deps.Publisher = con
		}
	}
	var err error
	if deps.DB, err = p.OpenDB(ctx); err != nil {
		return nil, err
	}
	s, err := New(ctx, cfg, deps)
	if err != nil {
		return nil, errors.Join(err, deps.DB.Close())
	}
	return s, nil
}

// Run publishes the document signer and ends when the gateway has it. It tries
// until then, less and less often.
func (s *Server) Run(ctx context.Context) error {
	if s.publisher == nil {
		return nil
	}
	for pause := 500 * time.Millisecond; ; pause = min(2*pause, time.Minute) {
		err := s.publisher.Upload(ctx, s.dsc)
		if err == nil {
			s.log.Info("document signer is on the trust list", "kid", s.issuer.KID().String())
			return nil
		}
		if ctx.Err() != nil {
			return nil
		}
		s.log.Warn("document signer is not published yet", "why", err.Error())
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}
