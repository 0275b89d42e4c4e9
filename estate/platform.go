package estate

import (
	"context"
	"crypto"
	"crypto/rsa"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"verdant/azure/arm"
	"verdant/azure/entra"
	"verdant/azure/keyvault"
	"verdant/azure/loganalytics"
	"verdant/azure/rbac"
	"verdant/azure/rest"
	"verdant/hsm"
	"verdant/hsm/signer"
	"verdant/internal/journal"
	"verdant/internal/lifecycle"
	"verdant/internal/sqlstore"
	"verdant/internal/telemetry"
)

// platform is the estate's cloud: the services that in Azure are Microsoft's.
type platform struct {
	names     Names
	resources []rest.Resource
	dir       *DataDir
	now       func() time.Time

	authority *authority
	policy    *rbac.Policy
	keys      *lateKeys
	hardware  *signer.Signer // nil where the estate has no hardware token
	identity  *entra.Server
	control   *arm.Server
	logs      *loganalytics.Server
	// accounts issue the clusters' service account tokens; empty in direct
	// custody, which needs none.
	accounts map[Region]*accountIssuer
	vaults   map[Region]*keyvault.Server
	audits   map[Region]*journal.Journal

	tasks   []lifecycle.Task
	closers []func() error
}

// openPlatform opens the services' state. They do not listen yet. port is the
// ingress's port on the host.
func openPlatform(ctx context.Context, dir *DataDir, n Names, port string, now func() time.Time) (p *platform, err error) {
	p = &platform{names: n, resources: n.Resources(), dir: dir, now: now, keys: &lateKeys{}, accounts: map[Region]*accountIssuer{}, vaults: map[Region]*keyvault.Server{}, audits: map[Region]*journal.Journal{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	tokens, err := p.openToken(ctx, "platform")
	if err != nil {
		return p, err
	}
	ec := hsm.KeySpec{Type: hsm.EC, Curve: hsm.P256}
	root, err := tokens.EnsureSigner(ctx, "tls-root", ec)
	if err != nil {
		return p, err
	}
	leaf, err := tokens.EnsureSigner(ctx, "tls-server", ec)
	if err != nil {
		return p, err
	}
	if p.authority, err = newAuthority(dir.Path, root, leaf, now); err != nil {
		return p, err
	}
	signing, err := tokens.EnsureSigner(ctx, "token-signing", hsm.KeySpec{Type: hsm.RSA, Bits: 2048})
	if err != nil {
		return p, err
	}
	if n.mounted() {
		for _, r := range Regions() {
			if p.accounts[r], err = p.openAccountIssuer(ctx, tokens, r); err != nil {
				return p, err
			}
		}
	}
	p.policy = rbac.NewPolicy(rbac.BuiltIn(), nil)
	if err := p.openLogs(); err != nil {
		return p, err
	}
	if err := p.openIdentity(ctx, signing, port); err != nil {
		return p, err
	}
	if err := p.openControl(ctx); err != nil {
		return p, err
	}
	if err := p.openSigner(ctx); err != nil {
		return p, err
	}
	for _, r := range Regions() {
		if err := p.openVault(ctx, r); err != nil {
			return p, err
		}
	}
	return p, nil
}

func (p *platform) openToken(ctx context.Context, name string) (*hsm.Software, error) {
	dir, err := p.dir.State("hsm", name)
	if err != nil {
		return nil, err
	}
	return hsm.OpenSoftware(ctx, dir, p.dir.Key("hsm/"+name))
}

// database opens a service's own state: platform state is sealed under the
// root key, since the vaults that could wrap a key are what it describes.
func (p *platform) database(ctx context.Context, name string, schema []string) (*sql.DB, error) {
	dir, err := p.dir.State(filepath.Dir(name))
	if err != nil {
		return nil, err
	}
	db, err := sqlstore.Open(ctx, filepath.Join(dir, filepath.Base(name)+".db"), p.dir.Key("db/"+name), schema)
	if err != nil {
		return nil, fmt.Errorf("state of %s: %w", name, err)
	}
	p.closers = append(p.closers, db.Close)
	return db, nil
}

// verifier checks the tokens of the estate's own tenant.
func (p *platform) verifier(audiences ...string) *rest.Verifier {
	base := "https://" + p.names.LoginHost() + "/" + p.names.v.TenantID + "/"
	return &rest.Verifier{Issuers: []string{base, base + "v2.0"}, Audiences: audiences, Keys: p.keys, Now: p.now}
}

// lateKeys is a KeySource that is opened after the services that use it: the
// identity service needs the log store, and the log store checks tokens. It is
// set before anything listens.
type lateKeys struct{ source rest.KeySource }

// TokenKey asks the source.
func (l *lateKeys) TokenKey(ctx context.Context, kid string) (*rsa.PublicKey, error) {
	if l.source == nil {
		return nil, errors.New("the identity service is not open yet")
	}
	return l.source.TokenKey(ctx, kid)
}

func (p *platform) openLogs() error {
	dir, err := p.dir.State("loganalytics")
	if err != nil {
		return err
	}
	var workspaces []loganalytics.Workspace
	for _, res := range p.resources {
		if res.Type != "Microsoft.OperationalInsights/workspaces" {
			continue
		}
		customer, _ := res.Properties["customerId"].(string)
		days, _ := res.Properties["retentionInDays"].(int)
		workspaces = append(workspaces, loganalytics.Workspace{Name: res.Name, CustomerID: customer, ResourceID: res.ID,
			Location: res.Location, RetentionDays: days, AuditQueries: true})
	}
	p.logs, err = loganalytics.New(loganalytics.Config{Workspaces: workspaces}, loganalytics.Deps{
		Dir: dir, Key: p.dir.Key("loganalytics"), Policy: p.policy, Now: p.now,
		Verifier: p.verifier("https://api.loganalytics.io", "https://api.loganalytics.azure.com"),
	})
	if err != nil {
		return err
	}
	p.closers = append(p.closers, p.logs.Close)
	p.tasks = append(p.tasks, lifecycle.Task{Name: "log store", Run: p.logs.Run})
	return nil
}

// sink is a region's workspace, or nothing where there is none.
func (p *platform) sink(r Region) telemetry.Sink {
	if !p.names.v.LogAnalytics {
		return telemetry.Discard{}
	}
	return p.logs.Sink(p.names.Workspace(r))
}

// tenantSink takes what belongs to the tenant and to no region: sign-ins and
// control plane writes go to both regions' workspaces, as a tenant-wide
// diagnostic setting of each would send them.
type tenantSink []telemetry.Sink

// Emit sends rows to every workspace.
func (s tenantSink) Emit(ctx context.Context, table string, rows ...telemetry.Row) error {
	var errs []error
	for _, sink := range s {
		errs = append(errs, sink.Emit(ctx, table, rows...))
	}
	return errors.Join(errs...)
}

func (p *platform) tenantSink() telemetry.Sink {
	var all tenantSink
	for _, r := range Regions() {
		all = append(all, p.sink(r))
	}
	return all
}

func (p *platform) openIdentity(ctx context.Context, signing crypto.Signer, port string) error {
	db, err := p.database(ctx, "entra/tenant", entra.Schema)
	if err != nil {
		return err
	}
	cfg, err := tenantConfig(p.names, p.dir, port)
	if err != nil {
		return err
	}
	issuers := entra.TrustedIssuers{}
	for _, a := range p.accounts {
		issuers[a.issuer] = a
	}
	p.identity, err = entra.New(cfg, entra.Deps{Signer: signing, Issuers: issuers, DB: db, Sink: p.tenantSink(), Now: p.now})
	p.keys.source = p.identity
	return err
}

func (p *platform) openVault(ctx context.Context, r Region) error {
	id := p.names.VaultID(r)
	i := slices.IndexFunc(p.resources, func(res rest.Resource) bool { return rest.SameID(res.ID, id) })
	res := p.resources[i]
	token, err := p.vaultToken(ctx, res.Name)
	if err != nil {
		return err
	}
	db, err := p.database(ctx, "keyvault/"+res.Name, keyvault.Schema)
	if err != nil {
		return err
	}
	auditDir, err := p.dir.State("keyvault", res.Name+"-audit")
	if err != nil {
		return err
	}
	audit, err := journal.Open(ctx, auditDir, journal.Options{Key: p.dir.Key("audit/" + res.Name)})
	if err != nil {
		return fmt.Errorf("audit journal of vault %s: %w", res.Name, err)
	}
	p.closers, p.audits[r] = append(p.closers, audit.Close), audit
	days, _ := res.Properties["softDeleteRetentionInDays"].(int)
	protected, _ := res.Properties["enablePurgeProtection"].(bool)
	current, _ := p.control.Resource(id)
	rules, err := keyvault.NetworkRulesOf(current.Properties)
	if err != nil {
		return fmt.Errorf("network rules of vault %s: %w", res.Name, err)
	}
	var limits keyvault.Limits
	if p.names.v.VaultLimits {
		limits = keyvault.AzureLimits()
	}
	server, err := keyvault.New(keyvault.Config{
		Name: res.Name, ResourceID: res.ID, Location: res.Location, TenantID: p.names.v.TenantID,
		Authority:     "https://" + p.names.LoginHost() + "/" + p.names.v.TenantID,
		RetentionDays: days, PurgeProtection: protected,
		Limits: limits, Network: rules, Subnet: p.names.subnet, TrustedServices: p.names.trustedServices(r),
	}, keyvault.Deps{Token: token, DB: db, Audit: audit, Verifier: p.verifier(vaultAudience), Policy: p.policy, Sink: p.sink(r), Now: p.now})
	if err != nil {
		return err
	}
	p.vaults[r] = server
	p.tasks = append(p.tasks, lifecycle.Task{Name: "vault " + res.Name, Run: server.Run})
	return nil
}

// close gives all state up, the last opened first.
func (p *platform) close() error {
	var errs []error
	for _, c := range slices.Backward(p.closers) {
		errs = append(errs, c())
	}
	return errors.Join(errs...)
}

func (p *platform) openControl(ctx context.Context) error {
	db, err := p.database(ctx, "arm/control", arm.Schema)
	if err != nil {
		return err
	}
	cfg := arm.Config{
		TenantID: p.names.v.TenantID, TenantName: "Verdant", Domain: p.names.v.ParentDNSZone,
		Authority: "https://" + p.names.LoginHost(), Host: p.names.ManagementHost(),
		Subscriptions: []string{p.names.v.SubscriptionID}, Resources: p.resources,
		PrincipalType: p.names.principalType,
		Changes:       map[string]arm.Change{"microsoft.keyvault/vaults": p.vaultChange()},
	}
	for _, g := range p.names.Grants() {
		cfg.Assignments = append(cfg.Assignments, rbac.Assignment{ID: p.names.AssignmentID(g), RoleDefinitionID: g.Role,
			PrincipalID: g.Principal, Scope: g.Scope, CreatedOn: p.now()})
	}
	p.control, err = arm.New(cfg, arm.Deps{DB: db, Policy: p.policy, Sink: p.tenantSink(), Now: p.now,
		Verifier: p.verifier("https://management.azure.com", "https://management.core.windows.net")})
	return err
}
