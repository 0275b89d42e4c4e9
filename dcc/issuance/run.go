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
// the document signer in the pod's key store under the name that the property
// issuance.certAlias holds.
func Run(ctx context.Context, getenv func(string) string, stdout io.Writer) error {
	p, err := client.FromEnv(getenv)
	if err != nil {
		return err
	}
	log := p.Logger(stdout)
	cfg := Config{Role: Role(getenv("ISSUANCE_ROLE")), Country: getenv("COUNTRY"), Callers: client.List(getenv("ISSUANCE_CALLERS")),
		FrontendIssuing: getenv("ISSUANCE_FRONTEND_ISSUING") == "true", Strict: getenv("ISSUANCE_STRICT") == "true"}
	return podserve.Run(ctx, getenv("LISTEN_ADDR"), func(ctx context.Context) (podserve.Service, error) {
		background := []lifecycle.Task{}
		var props *client.Properties
		if cfg.Role == Private { // the public role has no key and reads no vault
			var err error
			if props, err = p.Properties(ctx, log, append(connector.PropertyNames(true), signerAlias)...); err != nil {
				return podserve.Service{}, err
			}
			background = append(background, lifecycle.Task{Name: "refresh properties", Run: props.Run})
		}
		s, err := open(ctx, cfg, p, props, Deps{Log: log}, getenv)
		if err != nil {
			return podserve.Service{}, err
		}
		handler, err := s.Handler()
		if err != nil {
			return podserve.Service{}, errors.Join(err, s.store.db.Close())
		}
		return podserve.Service{Handler: handler, Close: s.store.db.Close,
			Background: append(background, lifecycle.Task{Name: "publish document signer", Run: s.Run})}, nil
	}, func() { log.Info("issuance service is ready", "role", string(cfg.Role)) })
}

// signerAlias is the property that names the document signer's certificate.
const signerAlias = "issuance.certAlias"

// open reaches what the role needs and makes the server. props is nil for the
// public role.
func open(ctx context.Context, cfg Config, p *client.Platform, props *client.Properties, deps Deps, getenv func(string) string) (*Server, error) {
	if cfg.Role == Private {
		keys, err := p.KeyStore()
		if err != nil {
			return nil, err
		}
		signer, cert, err := keys.Signer(ctx, props.GetOr(signerAlias, "dsc-key-store"))
		if err != nil {
			return nil, fmt.Errorf("document signer: %w", err)
		}
		deps.Signer, deps.DSC = signer, cert
		deps.Tokens = p.TokenVerifier(getenv("ISSUANCE_AUDIENCE"))
		if gateway := getenv("DGC_GATEWAY_ENDPOINT"); gateway != "" {
			con, err := connector.Open(ctx, p, connector.Options{Gateway: gateway, Upload: true, Properties: props, Log: deps.Log})
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
