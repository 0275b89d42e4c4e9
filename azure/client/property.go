package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"
)

// PropertySource is one vault as a source of properties, as an element of
// spring.cloud.azure.keyvault.secret.property-sources.
type PropertySource struct {
	Vault *Vault
	// SecretKeys are the properties, or the secrets, to read (secret-keys). An
	// identity with a role on single secrets must name them. Empty: every
	// secret that the vault lists and this identity may read.
	SecretKeys []string
	// CaseSensitive takes a property's name as it is for a secret's
	// (case-sensitive), without relaxed binding.
	CaseSensitive bool
}

// PropertiesConfig says where properties come from.
type PropertiesConfig struct {
	// Sources are asked in order; the first that has a property wins.
	Sources []PropertySource
	// Refresh is how often Run reads all again. Default 30 minutes, as
	// Spring's; negative: never.
	Refresh time.Duration
	// Changed is told after a refresh which secrets appeared, vanished or have
	// another value, by name and sorted. Calls do not overlap. May be nil.
	Changed func(secrets []string)
	// Log hears of refreshes that did not succeed. May be nil.
	Log *slog.Logger
}

// Properties is configuration that is kept in vaults, under the naming rules
// of Spring Cloud Azure's property source: dgc.trustAnchor.certificateAlias,
// dgc.trust-anchor.certificate-alias and DGC_TRUSTANCHOR_CERTIFICATEALIAS are
// all the secret dgc-trustanchor-certificatealias.
//
// Disabled, expired and not yet valid secrets are no properties, nor are the
// secrets behind certificates, which hold private keys. Values are kept in
// memory and are read without asking a vault; while a vault is away its last
// good values stay. It is safe for concurrent use.
type Properties struct {
	cfg PropertiesConfig

	refreshing sync.Mutex // one Refresh at a time

	mu     sync.RWMutex
	values []map[string]string // a source each, by secret name; not changed once made
}

const (
	defaultRefresh = 30 * time.Minute
	// maxProperties bounds what a source may hold.
	maxProperties = 10000
	// propertyReaders is how many secrets are read at a time.
	propertyReaders = 8
)

// LoadProperties reads all sources. It fails if one cannot be read: an
// application must not start on half of its configuration.
func LoadProperties(ctx context.Context, cfg PropertiesConfig) (*Properties, error) {
	for _, s := range cfg.Sources {
		for _, key := range s.SecretKeys {
			if _, err := s.secretName(key); err != nil {
				return nil, err
			}
		}
	}
	p := &Properties{cfg: cfg, values: make([]map[string]string, len(cfg.Sources))}
	if _, err := p.refresh(ctx); err != nil {
		return nil, err
	}
	return p, nil
}

// Properties reads the named properties from the region's own vault, and logs
// when one has changed.
func (p *Platform) Properties(ctx context.Context, log *slog.Logger, names ...string) (*Properties, error) {
	vault, err := p.Vault("")
	if err != nil {
		return nil, err
	}
	return LoadProperties(ctx, PropertiesConfig{Sources: []PropertySource{{Vault: vault, SecretKeys: names}}, Log: log,
		Changed: func(secrets []string) {
			log.Warn("properties have changed in the vault; the pod uses them from its next start", "secrets", strings.Join(secrets, " "))
		}})
}

// Get returns a property's value; ok is false if no source has it.
func (p *Properties) Get(property string) (value string, ok bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	for i, s := range p.cfg.Sources {
		name := property
		if !s.CaseSensitive {
			name = SecretName(property)
		}
		if value, ok := p.values[i][name]; ok {
			return value, true
		}
	}
	return "", false
}

// GetOr is Get with a value for a property that no source has.
func (p *Properties) GetOr(property, otherwise string) string {
	if value, ok := p.Get(property); ok {
		return value
	}
	return otherwise
}

// Names lists the properties, sorted: each secret's name and, where names are
// relaxed, the same with dots for dashes.
func (p *Properties) Names() []string {
	p.mu.RLock()
	defer p.mu.RUnlock()
	names := map[string]bool{}
	for i, s := range p.cfg.Sources {
		for name := range p.values[i] {
			names[name] = true
			if !s.CaseSensitive {
				names[strings.ReplaceAll(name, "-", ".")] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// Refresh reads all sources again. A source that cannot be read keeps its
// values, and the error says why.
func (p *Properties) Refresh(ctx context.Context) error {
	p.refreshing.Lock()
	defer p.refreshing.Unlock()
	changed, err := p.refresh(ctx)
	if len(changed) > 0 && p.cfg.Changed != nil {
		p.cfg.Changed(changed)
	}
	return err
}

// Run refreshes at the configured interval until ctx ends.
func (p *Properties) Run(ctx context.Context) error {
	every := p.cfg.Refresh
	switch {
	case every < 0:
		<-ctx.Done()
		return nil
	case every == 0:
		every = defaultRefresh
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := p.Refresh(ctx); err != nil && ctx.Err() == nil && p.cfg.Log != nil {
			p.cfg.Log.Warn("properties were not refreshed; the last good ones stay", "why", err.Error())
		}
	}
}

func (p *Properties) refresh(ctx context.Context) (changed []string, err error) {
	var errs []error
	fresh := make([]map[string]string, len(p.cfg.Sources))
	for i, s := range p.cfg.Sources {
		if fresh[i], err = s.read(ctx); err != nil {
			errs = append(errs, fmt.Errorf("properties of %s: %w", s.Vault.URL(), err))
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	names := map[string]bool{}
	for i, values := range fresh {
		if values == nil {
			continue
		}
		for name, value := range values {
			if old, ok := p.values[i][name]; !ok || old != value {
				names[name] = true
			}
		}
		for name := range p.values[i] {
			if _, ok := values[name]; !ok {
				names[name] = true
			}
		}
		p.values[i] = values
	}
	return slices.Sorted(maps.Keys(names)), errors.Join(errs...)
}

// read returns the source's properties by secret name.
func (s PropertySource) read(ctx context.Context) (map[string]string, error) {
	named := len(s.SecretKeys) > 0
	var names []string
	for _, key := range s.SecretKeys {
		name, err := s.secretName(key)
		if err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	if !named {
		var err error
		if names, err = s.list(ctx); err != nil {
			return nil, err
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)

	values := make([]*string, len(names))
	errs := make([]error, len(names))
	var wg sync.WaitGroup
	room := make(chan struct{}, propertyReaders)
	for i, name := range names {
		room <- struct{}{}
		wg.Go(func() {
			defer func() { <-room }()
			values[i], errs[i] = s.value(ctx, name, named)
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	found := map[string]string{}
	for i, name := range names {
		if values[i] != nil {
			if !s.CaseSensitive {
				name = strings.ToLower(name)
			}
			found[name] = *values[i]
		}
	}
	return found, nil
}

// list names the secrets that can be properties now.
func (s PropertySource) list(ctx context.Context) ([]string, error) {
	var names []string
	for pages := s.Vault.secrets.NewListSecretPropertiesPager(nil); pages.More(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("list the secrets: %w", AsRefusal(err))
		}
		for _, item := range page.Value {
			if item.ID == nil || item.Managed != nil && *item.Managed || !s.Vault.valid(item.Attributes) {
				continue
			}
			names = append(names, item.ID.Name())
		}
		if len(names) > maxProperties {
			return nil, fmt.Errorf("the vault lists more than %d secrets; name the properties in SecretKeys", maxProperties)
		}
	}
	return names, nil
}

// value reads a secret; nil if it is no property. A role that is missing is an
// error for a property that was asked for by name. In a list it only means
// that the secret is somebody else's.
func (s PropertySource) value(ctx context.Context, name string, named bool) (*string, error) {
	r, err := s.Vault.secrets.GetSecret(ctx, name, "", nil)
	if isStatus(err, http.StatusNotFound) {
		return nil, nil
	}
	if err != nil {
		var refusal *Refusal
		err = AsRefusal(err)
		if errors.As(err, &refusal) && refusal.Status == http.StatusForbidden &&
			(refusal.Inner == "SecretDisabled" || !named && refusal.Inner == "ForbiddenByRbac") {
			return nil, nil
		}
		return nil, fmt.Errorf("secret %s: %w", name, err)
	}
	if r.Value == nil || r.Managed != nil && *r.Managed || !s.Vault.valid(r.Attributes) {
		return nil, nil
	}
	return r.Value, nil
}

// valid reports whether a secret is enabled and within its dates.
func (v *Vault) valid(a *azsecrets.SecretAttributes) bool {
	if a == nil {
		return true
	}
	now := v.now()
	return (a.Enabled == nil || *a.Enabled) && (a.Expires == nil || now.Before(*a.Expires)) && (a.NotBefore == nil || !now.Before(*a.NotBefore))
}

// secretName is the name of the secret that a property of this source has. It
// refuses what a vault cannot hold.
func (s PropertySource) secretName(property string) (string, error) {
	name := property
	if !s.CaseSensitive {
		name = SecretName(property)
	}
	if name == "" || len(name) > 127 || strings.Trim(name, letters+"-") != "" {
		return "", fmt.Errorf("property %.200q cannot be the name of a secret: letters, digits and dashes, at most 127", property)
	}
	return name, nil
}

const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

// SecretName returns the name of the secret that holds a property, as Spring
// Cloud Azure's relaxed binding makes it: a name of letters, digits and dashes
// stands for itself, in lower case; one in the form of an environment variable
// has dashes for its underscores; any other loses its dashes and underscores
// and has dashes for its dots.
func SecretName(property string) string {
	lower := strings.ToLower(property)
	switch {
	case strings.Trim(property, letters+"-") == "":
		return lower
	case strings.Trim(property, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == "":
		return strings.ReplaceAll(lower, "_", "-")
	}
	return strings.NewReplacer("-", "", "_", "", ".", "-").Replace(lower)
}
