package connector

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"crypto/x509"

	"verdant/dcc/wire"
	"verdant/hcert"
	"verdant/trustlist"
)

// Config configures a Connector.
type Config struct {
	// Gateway is the gateway's address, https://host[:port].
	Gateway string
	// Interval is the time between two downloads of the trust list; default
	// one minute. A list that did not change costs an empty answer.
	Interval time.Duration
	// MaxLoss is the share of the known document signers that a new list may
	// lack without the gateway listing them as deleted; default one half. The
	// last one never goes unexplained.
	MaxLoss float64
}

// Deps are what a Connector works with.
type Deps struct {
	// HTTP reaches the gateway with the member state's client certificate.
	HTTP *http.Client
	// Anchor is the EU's trust anchor.
	Anchor *x509.Certificate
	// Uploader signs uploads; nil where nothing is uploaded.
	Uploader *trustlist.CMSSigner
	// Volume keeps the last good list; nil keeps it in memory only.
	Volume Volume
	// Log receives what happened; default none.
	Log *slog.Logger
	// Now is the clock; default time.Now.
	Now func() time.Time
}

// Volume keeps sealed files; azure/client's Volume is one.
type Volume interface {
	Read(name string) ([]byte, error)
	Write(name string, data []byte) error
}

// Connector is a member state's connection to the gateway. It is safe for
// concurrent use, and a hcert.KeySource over the current trust list.
type Connector struct {
	cfg      Config
	http     *http.Client
	anchor   *trustlist.Anchor
	uploader *trustlist.CMSSigner
	volume   Volume
	log      *slog.Logger
	now      func() time.Time

	snapshot atomic.Pointer[Snapshot]

	refreshing sync.Mutex // one download at a time; guards tried
	tried      time.Time
}

// New makes a Connector, with the list that the volume holds if it still
// leads back to the anchor. It does not reach out.
func New(cfg Config, deps Deps) (*Connector, error) {
	u, err := url.Parse(cfg.Gateway)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("gateway %q: give its address as https://host", cfg.Gateway)
	}
	if deps.HTTP == nil || deps.Anchor == nil {
		return nil, errors.New("the connector needs an HTTP client and the trust anchor's certificate")
	}
	cfg.Gateway = strings.TrimRight(cfg.Gateway, "/")
	if cfg.Interval == 0 {
		cfg.Interval = time.Minute
	}
	if cfg.MaxLoss == 0 {
		cfg.MaxLoss = 0.5
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	c := &Connector{cfg: cfg, http: deps.HTTP, anchor: trustlist.NewAnchor(deps.Anchor), uploader: deps.Uploader,
		volume: deps.Volume, log: deps.Log, now: deps.Now}
	empty := c.anchor.Verify(nil)
	c.snapshot.Store(&Snapshot{List: empty.List, Parties: empty.Parties})
	c.restore()
	return c, nil
}

// Current returns the trust list as it is known now. It is never nil; its At
// is zero if no list was ever known.
func (c *Connector) Current() *Snapshot { return c.snapshot.Load() }

// KeysFor implements hcert.KeySource.
func (c *Connector) KeysFor(kid hcert.KID) []*hcert.Key { return c.Current().List.KeysFor(kid) }

// Run keeps the trust list current until ctx ends.
func (c *Connector) Run(ctx context.Context) error {
	pause := time.Second
	for {
		wait := c.cfg.Interval
		if err := c.Refresh(ctx); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			c.log.Warn("the trust list was not refreshed; the last good one stays", "why", err.Error(), "signers", len(c.Current().List.DSCs()))
			wait, pause = min(pause, c.cfg.Interval), pause*2
		} else {
			pause = time.Second
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}

// GatewayError is an answer of the gateway other than success.
type GatewayError struct {
	Status int
	// Report is the gateway's body; its code may be empty.
	Report wire.ProblemReport
}

func (e *GatewayError) Error() string {
	return strings.TrimRight(fmt.Sprintf("the gateway answered %d %s %s: %s", e.Status, e.Report.Code, e.Report.Problem, e.Report.Details), ": ")
}

// maxAnswer bounds an answer of the gateway; the EU's whole trust list is
// about 2 MB.
const maxAnswer = 32 << 20

// do sends a request and returns the answer's header and body. Answers other
// than 2xx and 304 are a *GatewayError.
func (c *Connector) do(ctx context.Context, method, path string, header http.Header, body string) (*http.Response, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.cfg.Gateway+path, strings.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	for k, v := range header {
		req.Header[k] = v
	}
	req.Header.Set("Accept", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err // the address is in the wrapping already
		}
		return nil, nil, fmt.Errorf("gateway %s: %w", c.cfg.Gateway, err)
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, nil, fmt.Errorf("gateway %s: answer broke off: %w", c.cfg.Gateway, err)
	}
	if len(raw) > maxAnswer {
		return nil, nil, fmt.Errorf("gateway %s: answer is over %d bytes", c.cfg.Gateway, maxAnswer)
	}
	if resp.StatusCode/100 != 2 && resp.StatusCode != http.StatusNotModified {
		ge := &GatewayError{Status: resp.StatusCode}
		_ = json.Unmarshal(raw, &ge.Report)
		return nil, nil, ge
	}
	return resp, raw, nil
}

// getJSON downloads path into v.
func (c *Connector) getJSON(ctx context.Context, path string, v any) error {
	_, raw, err := c.do(ctx, http.MethodGet, path, nil, "")
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("gateway %s: answer to %s is not what it should be: %w", c.cfg.Gateway, path, err)
	}
	return nil
}

// Upload publishes a document signer. A gateway that has it already is as
// good as one that takes it.
func (c *Connector) Upload(ctx context.Context, dsc *x509.Certificate) error {
	if c.uploader == nil {
		return errors.New("upload document signer: there is no upload key")
	}
	body, err := c.uploader.SignBase64(ctx, dsc.Raw)
	if err != nil {
		return fmt.Errorf("upload document signer %s: %w", hcert.KIDOf(dsc.Raw), err)
	}
	_, _, err = c.do(ctx, http.MethodPost, "/signerCertificate", http.Header{"Content-Type": {"application/cms"}}, body)
	var ge *GatewayError
	if errors.As(err, &ge) && ge.Status == http.StatusConflict {
		return nil
	}
	if err != nil {
		return fmt.Errorf("upload document signer %s: %w", hcert.KIDOf(dsc.Raw), err)
	}
	return nil
}

// Countries downloads the countries that take part.
func (c *Connector) Countries(ctx context.Context) ([]string, error) {
	var out []string
	return out, c.getJSON(ctx, "/countrylist", &out)
}

// ValueSets downloads all value sets by id, each as the gateway stores it.
// The gateway does not sign them. An error means that none is returned.
func (c *Connector) ValueSets(ctx context.Context) (map[string]json.RawMessage, error) {
	var ids []string
	if err := c.getJSON(ctx, "/valuesets", &ids); err != nil {
		return nil, err
	}
	out := make(map[string]json.RawMessage, len(ids))
	for _, id := range ids {
		var set json.RawMessage
		if err := c.getJSON(ctx, "/valuesets/"+url.PathEscape(id), &set); err != nil {
			return nil, fmt.Errorf("value set %s: %w", id, err)
		}
		out[id] = bytes.TrimSpace(set)
	}
	return out, nil
}

// Rule is one version of a business rule that its country signed.
type Rule struct {
	Identifier, Version, Country string
	// JSON is the rule exactly as it was signed.
	JSON []byte
}

// Rules downloads a country's rules and returns those that an upload
// certificate of that country signed. An error means that nothing is known
// about the country, not that it has no rules.
func (c *Connector) Rules(ctx context.Context, country string) ([]Rule, error) {
	var listed map[string][]wire.RuleVersion
	if err := c.getJSON(ctx, "/rules/"+url.PathEscape(country), &listed); err != nil {
		return nil, err
	}
	parties := c.Current().Parties
	out := []Rule{}
	for id, versions := range listed {
		for _, v := range versions {
			r, err := openRule(parties, country, id, v)
			if err != nil {
				c.log.Warn("rule is not used", "country", country, "rule", id, "version", v.Version, "why", err.Error())
				continue
			}
			out = append(out, r)
		}
	}
	return out, nil
}

func openRule(parties *trustlist.Parties, country, id string, v wire.RuleVersion) (Rule, error) {
	env, err := trustlist.ParseCMSBase64(v.CMS)
	if err != nil {
		return Rule{}, err
	}
	opened, err := env.Open()
	if err != nil {
		return Rule{}, err
	}
	if _, err := parties.VerifyUploader(opened, country); err != nil {
		return Rule{}, err
	}
	var said struct{ Identifier, Version, Country string }
	if err := json.Unmarshal(opened.Content(), &said); err != nil {
		return Rule{}, fmt.Errorf("content is no rule: %w", err)
	}
	if said.Identifier != id || said.Version != v.Version || !strings.EqualFold(said.Country, country) {
		return Rule{}, errors.New("content is another rule than the one listed")
	}
	return Rule{said.Identifier, said.Version, country, opened.Content()}, nil
}
