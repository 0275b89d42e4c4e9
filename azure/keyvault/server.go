// Package keyvault is the data plane of one Azure Key Vault, as the stock
// clients speak it: keys, secrets and certificates at the api-versions of
// Versions (REST reference "Azure Key Vault", keys, secrets and certificates
// operation groups).
//
// It promises:
//   - Nobody is let in by default. A request needs a token, then an approved
//     network path, then a role assignment that covers the object it names; the
//     first that is missing answers, in that order, with Azure's status and
//     codes.
//   - Private keys stay in the hsm.Token; this package holds handles. The value
//     of a secret is sealed (AES-256-GCM) under a key of the token before it
//     reaches the store.
//   - Every request, refused ones too, leaves one AuditEvent in the journal
//     before a byte of its answer leaves. If the event cannot be written the
//     caller gets an error and no result.
//   - A write is one transaction, durable before the answer leaves. Key
//     material that a crash left without an owner is destroyed at the next
//     start.
//   - A page of a list costs the same in a vault of any size.
//   - Of several servers over one Shared store, what one acknowledged, the
//     others answer with within a second; one that is killed loses nothing.
//
// It refuses api-versions it does not know, names outside [0-9A-Za-z-]{1,127},
// secrets over 25 kB, algorithms that do not fit a key, and operations outside
// a key's key_ops.
package keyvault

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"verdant/azure/keyvault/release"
	"verdant/azure/rbac"
	"verdant/azure/rest"
	"verdant/hsm"
	"verdant/internal/route"
	"verdant/internal/telemetry"
)

// Versions are the api-versions that the data plane answers to.
var Versions = route.Versions{"7.4", "7.5", "7.6", "2025-07-01", "2026-04-01"}

// Config describes one vault.
type Config struct {
	// Name of the vault, such as "eudcc-ie-kv-g1".
	Name string
	// ResourceID is the vault's ARM id: the scope of its role assignments.
	ResourceID string
	// Location is the Azure region's name, such as "westeurope".
	Location string
	// TenantID is the vault's tenant: tokens of another are refused.
	TenantID string
	// Authority is where clients shall get tokens: https://<login host>/<tid>.
	Authority string
	// Suffix is the host name below which the vault lives, with a port if it
	// is not 443. Default "vault.azure.net". https://<Suffix> is the audience
	// that clients are told to ask tokens for.
	Suffix string
	// SKU is "premium" (default) or "standard", which refuses HSM keys.
	SKU string
	// ManagedHSM makes it a managed HSM: keys only, all of them in hardware by
	// name, and random bytes. Suffix is then "managedhsm.azure.net" by default.
	ManagedHSM bool
	// InitialAdministrators are the object ids that get the role Managed HSM
	// Administrator when the managed HSM is made. Later changes of this list do
	// nothing: roles are then the administrators' affair. Needed for a managed
	// HSM.
	InitialAdministrators []string
	// NeedsActivation makes a new managed HSM refuse everything until its
	// security domain was downloaded, or one uploaded. Default: it is active.
	NeedsActivation bool
	// BackupHosts are the hosts, with a port if it is not 443, of the storage
	// accounts that a managed HSM may send full backups to and take them from,
	// such as "account.blob.core.windows.net". Default: none.
	BackupHosts []string
	// RetentionDays is how long deleted objects can be recovered: 7 to 90,
	// default 90.
	RetentionDays int
	// PurgeProtection refuses purging before RetentionDays are over.
	PurgeProtection bool
	// Network says from where the vault is reached besides its private
	// endpoints, until SetNetwork says otherwise.
	Network NetworkRules
	// Subnet finds the subnet with an ARM id; nil finds none.
	Subnet func(id string) (Subnet, bool)
	// TrustedServices are the object ids of the platform's own services, which
	// bypass "AzureServices" lets in on connections of the platform.
	TrustedServices []string
	// Attestation lists the attestation authorities, https origins, whose word
	// on an environment lets a key be released to it; none lets no key out.
	Attestation []string
	// Limits throttle; the zero value does not.
	Limits Limits
}

// Authorizer decides about data actions; *rbac.Policy is one.
type Authorizer interface {
	Check(who rbac.Principal, action string, data bool, scope string) rbac.Decision
}

// TokenVerifier checks access tokens; *rest.Verifier is one.
type TokenVerifier interface {
	Verify(ctx context.Context, token string) (rest.Caller, error)
}

// Journal keeps audit records; *journal.Journal is one. Several vaults may
// share a journal. Append keeps nothing of the records' memory.
type Journal interface {
	Append(ctx context.Context, records ...[]byte) (first uint64, err error)
	Read(ctx context.Context, from uint64, fn func(seq uint64, record []byte) error) error
	Wait(ctx context.Context, after uint64) error
	Last() uint64
}

// Deps are the vault's surroundings.
type Deps struct {
	// Token holds the keys.
	Token hsm.Token
	// DB holds the objects in tables of Schema. Vaults may share a database.
	DB *sql.DB
	// Store takes the place of DB where it is not nil. Several servers of one
	// vault may work on a Shared one, with the same keys in their Token and
	// each with an Audit of its own.
	Store Store
	// Audit receives one record a request.
	Audit Journal
	// Verifier checks tokens; its audience must be https://<Suffix>.
	Verifier TokenVerifier
	// Policy decides.
	Policy Authorizer
	// AttestationClient reaches the authorities of Config.Attestation.
	AttestationClient *http.Client
	// Sink receives the audit records as rows of AZKVAuditLogs; default none.
	Sink telemetry.Sink
	// Blobs sends the requests to the BackupHosts; without it there are no full
	// backups. It follows no redirects, whatever its settings.
	Blobs *http.Client
	// StorageToken gets an access token for blob storage as the managed HSM's
	// identity; nil if it has none.
	StorageToken func(context.Context) (string, error)
	// Now is the clock; default time.Now.
	Now func() time.Time
}

// Server is one vault. It is safe for concurrent use.
type Server struct {
	cfg      Config
	host     string      // <name>.<suffix>
	upper    string      // the resource's id as audit records spell it
	fixed    http.Header // on every answer; never changed
	token    hsm.Token
	store    Store
	shared   Shared // store, if other servers have it open too
	audit    Journal
	verify   *tokenCache
	policy   Authorizer
	sink     telemetry.Sink
	now      func() time.Time
	born     time.Time
	local    *localAccess // of a managed HSM
	cache    *cache
	calls    sync.Pool // of *call that have ended
	recent   recent
	network  atomic.Pointer[networkRules]
	throttle *throttle // nil where nothing is limited
	mux      *http.ServeMux
	routes   []route.Route

	attested *release.Verifier

	sealing sync.Mutex
	sealKey hsm.Key // set on first use

	attesting sync.Mutex
	attestor  *attestor // set on first use
}

// New makes the vault. It reads nothing yet.
func New(cfg Config, deps Deps) (*Server, error) {
	if cfg.Suffix == "" {
		cfg.Suffix = "vault.azure.net"
		if cfg.ManagedHSM {
			cfg.Suffix = "managedhsm.azure.net"
		}
	}
	if cfg.RetentionDays == 0 {
		cfg.RetentionDays = 90
	}
	if cfg.SKU == "" {
		cfg.SKU = "premium"
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if deps.Sink == nil {
		deps.Sink = telemetry.Discard{}
	}
	if deps.Store == nil && deps.DB != nil {
		deps.Store = NewSQLStore(deps.DB, cfg.Name)
	}
	if err := errors.Join(cfg.check(), deps.check()); err != nil {
		return nil, fmt.Errorf("vault %q: %w", cfg.Name, err)
	}
	s := &Server{cfg: cfg, host: cfg.Name + "." + cfg.Suffix, upper: strings.ToUpper(cfg.ResourceID), fixed: fixedHeaders(cfg.Location), token: deps.Token, store: deps.Store, audit: deps.Audit,
		verify: newTokenCache(deps.Verifier, deps.Now), policy: deps.Policy, sink: deps.Sink, now: deps.Now, born: deps.Now(), cache: newCache()}
	if s.shared, _ = deps.Store.(Shared); s.shared != nil {
		s.cache.now = deps.Now
	}
	s.SetNetwork(cfg.Network)
	var err error
	if s.attested, err = release.NewVerifier(cfg.Attestation, deps.AttestationClient, deps.Now); err != nil {
		return nil, fmt.Errorf("vault %q: %w", cfg.Name, err)
	}
	if cfg.Limits != (Limits{}) {
		s.throttle = &throttle{limits: cfg.Limits}
	}
	s.routes = s.table()
	if cfg.ManagedHSM {
		s.local = &localAccess{jobs: make(chan struct{}, 1), blobs: closed(deps.Blobs), storageToken: deps.StorageToken}
		if err := checkActions(s.routes); err != nil {
			return nil, fmt.Errorf("managed HSM %q: %w", cfg.Name, err)
		}
	}
	mux, err := route.New(s.routes, s.guard)
	if err != nil {
		return nil, fmt.Errorf("vault %q: %w", cfg.Name, err)
	}
	mux.Handle("/", http.HandlerFunc(s.unknown))
	s.mux = mux
	return s, nil
}

func (c Config) check() error {
	var errs []error
	need := func(ok bool, what string) {
		if !ok {
			errs = append(errs, errors.New(what))
		}
	}
	need(validName(c.Name), "Name is no vault name")
	need(strings.HasPrefix(c.ResourceID, "/"), "ResourceID is no ARM id")
	need(c.TenantID != "", "TenantID is missing")
	// The Go clients take the tenant from the fourth part between slashes.
	need(strings.HasPrefix(c.Authority, "https://") && strings.Count(strings.TrimRight(c.Authority, "/"), "/") == 3, "Authority is not https://<host>/<tenant>")
	need(c.RetentionDays >= 7 && c.RetentionDays <= 90, "RetentionDays is not between 7 and 90")
	need(!c.ManagedHSM || len(c.InitialAdministrators) > 0, "InitialAdministrators is empty: nobody could ever use the managed HSM")
	for _, id := range c.InitialAdministrators {
		need(guidPattern.MatchString(id), "InitialAdministrators has an entry that is no object id")
	}
	for _, host := range c.BackupHosts {
		u, err := url.Parse("https://" + host)
		need(err == nil && u.Host == host && host != "", "BackupHosts has an entry that is no host name: no scheme, no path")
	}
	need(c.SKU == "premium" || c.SKU == "standard", `SKU is neither "premium" nor "standard"`)
	return errors.Join(errs...)
}

func (d Deps) check() error {
	if d.Token == nil || d.Store == nil || d.Audit == nil || d.Verifier == nil || d.Policy == nil {
		return errors.New("Deps need Token, DB or Store, Audit, Verifier and Policy")
	}
	return nil
}

// Routes is the vault's table of operations.
func (s *Server) Routes() []route.Route { return s.routes }

// Handler answers the vault's host.
func (s *Server) Handler() http.Handler { return http.HandlerFunc(s.serve) }

// Host is the vault's host name: <name>.<suffix>.
func (s *Server) Host() string { return s.host }

// url returns the address of something in the vault.
func (s *Server) url(elements ...string) string {
	const scheme = "https://"
	var b strings.Builder
	b.Grow(len(scheme) + len(s.host) + 100) // enough for most objects: one piece of memory
	b.WriteString(scheme)
	b.WriteString(s.host)
	for _, e := range elements {
		b.WriteByte('/')
		b.WriteString(e)
	}
	return b.String()
}

func validName(name string) bool {
	if len(name) < 1 || len(name) > 127 {
		return false
	}
	for i := range len(name) {
		c := name[i]
		if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '-') {
			return false
		}
	}
	return true
}

func validVersion(v string) bool {
	if len(v) != 32 {
		return false
	}
	for i := range len(v) {
		if c := v[i]; !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f') {
			return false
		}
	}
	return true
}

// sealer returns the key under which values are sealed, made on first use.
func (s *Server) sealer(ctx context.Context) (hsm.Key, error) {
	s.sealing.Lock()
	defer s.sealing.Unlock()
	if s.sealKey == nil {
		k, err := hsm.Ensure(ctx, s.token, "key vault "+strings.ToLower(s.cfg.Name)+" values", hsm.KeySpec{Type: hsm.Oct, Bits: 256})
		if err != nil {
			return nil, err
		}
		s.sealKey = k
	}
	return s.sealKey, nil
}

// seal encrypts a value for one version of one object.
func (s *Server) seal(ctx context.Context, kind Kind, name, version, value string) ([]byte, error) {
	k, err := s.sealer(ctx)
	if err != nil {
		return nil, err
	}
	return k.Seal([]byte(value), place(kind, name, version))
}

func (s *Server) unseal(ctx context.Context, kind Kind, name, version string, sealed []byte) (string, error) {
	k, err := s.sealer(ctx)
	if err != nil {
		return "", err
	}
	value, err := k.Open(sealed, place(kind, name, version))
	if err != nil {
		return "", fmt.Errorf("value of %s %s: %w", kind, name, err)
	}
	return string(value), nil
}

func place(kind Kind, name, version string) []byte {
	return []byte(string(kind) + "/" + strings.ToLower(name) + "/" + version)
}
