package test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"verdant/azure/arm"
	"verdant/azure/entra"
	"verdant/azure/keyvault"
	"verdant/azure/loganalytics"
	"verdant/azure/rbac"
	"verdant/azure/rest"
	"verdant/dcc/businessrule"
	"verdant/dcc/connector"
	"verdant/dcc/gateway"
	"verdant/dcc/issuance"
	"verdant/dcc/portal"
	"verdant/dcc/verifier"
	"verdant/hsm"
	"verdant/internal/journal"
	"verdant/internal/route"
	"verdant/internal/sqlstore"
	"verdant/trustlist"
)

// updateDocs says that generated pages are written instead of compared.
func updateDocs() bool { return os.Getenv("VERDANT_UPDATE_DOCS") != "" }

// checkPage compares a generated page with the file in docs/compat.
func checkPage(t *testing.T, name, want string) {
	t.Helper()
	path := filepath.Join("..", "docs", "compat", name)
	if updateDocs() {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; make it with VERDANT_UPDATE_DOCS=1 go test -run TestCompat ./test", err)
	}
	if string(got) != want {
		t.Errorf("docs/compat/%s is stale (%s); make it again with VERDANT_UPDATE_DOCS=1 go test -run TestCompat ./test", name, firstDifference(string(got), want))
	}
}

func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range max(len(g), len(w)) {
		var a, b string
		if i < len(g) {
			a = g[i]
		}
		if i < len(w) {
			b = w[i]
		}
		if a != b {
			return fmt.Sprintf("line %d: got %q, want %q", i+1, a, b)
		}
	}
	return "no line differs"
}

// page is one service's compatibility page.
type page struct {
	file, title string
	intro       string
	sections    []section
	more        string // what follows the tables
}

type section struct {
	title  string
	routes []route.Route
}

func (p page) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "<!-- Printed from the route tables by the test TestCompatPages; do not edit. -->\n# %s\n\n%s\n", p.title, p.intro)
	for _, s := range p.sections {
		if s.title != "" {
			fmt.Fprintf(&b, "\n## %s\n", s.title)
		}
		s.write(&b)
	}
	b.WriteString(p.more)
	return b.String()
}

// write prints the table. api-versions that all operations share stand above
// it instead of in every row.
func (s section) write(b *strings.Builder) {
	same := !slices.ContainsFunc(s.routes, func(r route.Route) bool { return !slices.Equal(r.Versions, s.routes[0].Versions) })
	versions, column, rule := func(r route.Route) string { return versionsText(r.Versions) + " | " }, "api-versions | ", "---|"
	if same {
		versions, column, rule = func(route.Route) string { return "" }, "", ""
		fmt.Fprintf(b, "\napi-versions: %s.\n", versionsText(s.routes[0].Versions))
	}
	fmt.Fprintf(b, "\n| operation | request | %scaller needs | body at most | time at most | audit |\n|---|---|%s---|---|---|---|\n", column, rule)
	for _, r := range s.routes {
		fmt.Fprintf(b, "| %s | `%s %s` | %s%s | %s | %s | %s |\n", r.Name, r.Method, r.Path,
			versions(r), actionText(r.Action), bodyText(r.MaxBody), r.Timeout, auditText(r.Audit))
	}
}

func versionsText(v route.Versions) string {
	if len(v) == 1 && v[0] == "*" {
		return "any"
	}
	return strings.Join(v, ", ")
}

func actionText(a route.Action) string {
	switch a {
	case route.Anyone:
		return "nothing"
	case route.Decided:
		return "the handler decides"
	}
	return "`" + string(a) + "`"
}

func bodyText(n int64) string {
	switch {
	case n == route.NoBody:
		return "no body"
	case n%(1<<20) == 0:
		return fmt.Sprintf("%d MiB", n>>20)
	case n%(1<<10) == 0:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d bytes", n)
}

func auditText(a route.Audit) string {
	if a == route.AuditNone {
		return "none"
	}
	return "every " + string(a)
}

// compatServers makes a server of each kind on state of its own, only to read
// its route table. Nothing listens.
type compatServers struct {
	t   *testing.T
	ctx context.Context
}

func (c compatServers) db(schema ...string) *sql.DB {
	c.t.Helper()
	db, err := sqlstore.Open(c.ctx, filepath.Join(c.t.TempDir(), "state.db"), [32]byte{1}, schema)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = db.Close() })
	return db
}

func (c compatServers) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

const (
	compatTenant = "d9ad8c4e-7c1b-4b0e-9a55-0b1f6e3c2a10"
	compatGUID   = "5f0c2b9a-3d64-4c1e-8f7a-91c2d4e6b803"
)

func (c compatServers) keyvault(managed bool) []route.Route {
	token, err := hsm.OpenSoftware(c.ctx, c.t.TempDir(), [32]byte{1})
	c.must(err)
	audit, err := journal.Open(c.ctx, c.t.TempDir(), journal.Options{Key: [32]byte{1}})
	c.must(err)
	c.t.Cleanup(func() { _ = audit.Close() })
	s, err := keyvault.New(keyvault.Config{Name: "vault", ResourceID: "/subscriptions/x", TenantID: compatTenant, Authority: "https://login.example/" + compatTenant,
		ManagedHSM: managed, InitialAdministrators: []string{compatGUID}},
		keyvault.Deps{Token: token, DB: c.db(keyvault.Schema...), Audit: audit, Verifier: &rest.Verifier{}, Policy: rbac.NewPolicy(rbac.BuiltIn(), nil)})
	c.must(err)
	return s.Routes()
}

func (c compatServers) arm() []route.Route {
	s, err := arm.New(arm.Config{TenantID: compatTenant, Authority: "https://login.example", Host: "management.example"},
		arm.Deps{DB: c.db(arm.Schema...), Policy: rbac.NewPolicy(rbac.BuiltIn(), nil), Verifier: &rest.Verifier{}})
	c.must(err)
	return s.Routes()
}

func (c compatServers) entra() []route.Route {
	token, err := hsm.OpenSoftware(c.ctx, c.t.TempDir(), [32]byte{1})
	c.must(err)
	signer, err := token.EnsureSigner(c.ctx, "signing", hsm.KeySpec{Type: hsm.RSA, Bits: 2048})
	c.must(err)
	s, err := entra.New(entra.Config{TenantID: compatTenant, TenantName: "Example", Domain: "example.org", Hosts: []string{"login.example.org"}},
		entra.Deps{Signer: signer, DB: c.db(entra.Schema...)})
	c.must(err)
	return s.Routes()
}

func (c compatServers) loganalytics() []route.Route {
	s, err := loganalytics.New(loganalytics.Config{Workspaces: []loganalytics.Workspace{{Name: "w", CustomerID: compatGUID, ResourceID: "/subscriptions/x/y"}}},
		loganalytics.Deps{Dir: c.t.TempDir(), Verifier: &rest.Verifier{}, Policy: rbac.NewPolicy(rbac.BuiltIn(), nil), Now: time.Now})
	c.must(err)
	c.t.Cleanup(func() { _ = s.Close() })
	return s.Routes()
}

func (c compatServers) gateway() []route.Route {
	_, anchor := c.authority()
	s, err := gateway.New(c.ctx, gateway.Config{}, gateway.Deps{DB: c.db(), Anchor: anchor})
	c.must(err)
	return s.Routes()
}

// authority makes a self-signed certificate of a country.
func (c compatServers) authority() (*ecdsa.PrivateKey, *x509.Certificate) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	c.must(err)
	der, err := trustlist.NewCSCA(c.ctx, key, trustlist.Subject{Country: "IE", Organization: "Example", CommonName: "Example"}, time.Now())
	c.must(err)
	cert, err := x509.ParseCertificate(der)
	c.must(err)
	return key, cert
}

func (c compatServers) issuance(role issuance.Role, byHash bool) []route.Route {
	cfg := issuance.Config{Role: role, Country: "IE", FrontendIssuing: byHash}
	deps := issuance.Deps{DB: c.db()}
	if role == issuance.Private {
		key, csca := c.authority()
		signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		c.must(err)
		der, err := trustlist.NewDSC(c.ctx, trustlist.Authority{Certificate: csca, Key: key}, signer.Public(),
			trustlist.Subject{Country: "IE", Organization: "Example", CommonName: "DSC"}, 0, time.Now())
		c.must(err)
		dsc, err := x509.ParseCertificate(der)
		c.must(err)
		deps.DSC, deps.Signer, deps.Tokens = dsc, signer, &rest.Verifier{}
	}
	s, err := issuance.New(c.ctx, cfg, deps)
	c.must(err)
	return s.Routes()
}

// noList is a trust list source that has not downloaded anything.
type noList struct{ verifier.Source }

func (noList) Current() *connector.Snapshot  { return &connector.Snapshot{} }
func (noList) Refresh(context.Context) error { return nil }

func (c compatServers) verifier() []route.Route {
	s, err := verifier.New(c.ctx, verifier.Config{}, verifier.Deps{DB: c.db(), Source: noList{}})
	c.must(err)
	return s.Routes()
}

func (c compatServers) businessrule() []route.Route {
	s, err := businessrule.New(c.ctx, businessrule.Config{}, businessrule.Deps{DB: c.db(), Source: struct{ businessrule.Source }{}})
	c.must(err)
	return s.Routes()
}

// nobody refuses to give tokens.
type nobody struct{}

func (nobody) Token(context.Context, string) (string, error) { return "", errors.New("no token") }

func (c compatServers) portal() []route.Route {
	s, err := portal.New(portal.Config{URL: "https://portal.example", ClientID: "x", Authority: "https://login.example/t",
		Issuance: "http://issuance.example", IssuanceAudience: "api://issuance", Country: "IE"},
		portal.Deps{Tokens: nobody{}, IDTokens: &rest.Verifier{}, AccessTokens: &rest.Verifier{},
			Secret: func(context.Context) (string, error) { return "", nil }, HTTP: http.DefaultClient})
	c.must(err)
	return s.Routes()
}

// TestCompatPages prints the services' route tables and compares them with
// the pages in docs/compat.
func TestCompatPages(t *testing.T) {
	c := compatServers{t, t.Context()}
	one := func(routes []route.Route) []section { return []section{{routes: routes}} }
	pages := []page{
		{file: "keyvault.md", title: "Key Vault data plane", intro: "Host `<vault>.vault.azure.net`, reached through a private endpoint only. Stock `azkeys`, `azsecrets` and `azcertificates` clients work. " +
			"`caller needs` is the data action that a role assignment on the object, the vault or above it must give. " +
			"`{version}` may be left out for the current version. Lists take `maxresults` (1 to 25) and answer `nextLink`.", sections: one(c.keyvault(false)), more: keysText + toursText(t)},
		{file: "managedhsm.md", title: "Managed HSM", intro: "Host `<hsm>.managedhsm.azure.net`: the keys of a vault, and the administration of the HSM. Stock `azkeys` and `azure-keyvault-administration` clients and the Azure CLI's security domain commands work. " +
			"`caller needs` is the data action that a local role must give at `/`, `/keys` or the key: roles of the control plane do not count. The status of a job (`…/pending`) is answered without an api-version too, as its address has none. " +
			"Until the security domain was downloaded or uploaded, a new HSM answers 403 `HsmNotActivated` to everything else; while it is restored, 409 `HsmInRestoreMode`. The real service's codes for these two, and for taking away its last administrator (here 409 `LastAdministrator`), are not recorded anywhere public.", sections: one(c.keyvault(true))},
		{file: "arm.md", title: "Control plane (Azure Resource Manager)", intro: "Host `management.<parent zone>`; also `management.azure.com` inside the private networks. Tokens for `https://management.azure.com/`. " +
			"Resources are read only: they are what the estate was started with. Role assignments can be written; a write has taken effect when it is answered.", sections: one(c.arm())},
		{file: "entra.md", title: "Identity service", intro: "Host `login.<parent zone>`. `{tenant}` is the tenant's GUID, its domain, `common` or `organizations`. " +
			"The endpoints without `v2.0` take `resource=`, those with it take `scope=`. Besides these, every pod has the instance metadata service at `http://169.254.169.254/metadata/identity/oauth2/token` (api-version 2018-02-01).", sections: one(c.entra())},
		{file: "loganalytics.md", title: "Log query API", intro: "Host `api.loganalytics.azure.com`, also `api.loganalytics.io`. Tokens for either as audience. `{workspace}` is the workspace id (GUID) or its name. " +
			"The language is on its own page, [kql.md](kql.md).", sections: one(c.loganalytics())},
		{file: "gateway.md", title: "EU gateway (dgc-gateway)", intro: "The interface of the EU DCC gateway. A caller proves possession of its AUTHENTICATION certificate in the TLS handshake; uploads are CMS SignedData (RFC 5652), in base64, " +
			"signed by the country's UPLOAD certificate. `application/cms` and `application/cms-text` are the body types.", sections: one(c.gateway())},
		{file: "issuance.md", title: "Issuance service (dgca-issuance-service)", intro: "Two instances of one service. The private one signs; the public one has no key and answers citizens' wallets.", sections: []section{
			{"Private instance", c.issuance(issuance.Private, false)},
			{"Private instance with issuing by hash turned on (off by default)", c.issuance(issuance.Private, true)},
			{"Public instance", c.issuance(issuance.Public, false)},
		}},
		{file: "verifier.md", title: "Verifier service (dgca-verifier-service)", intro: "The interface of dgca-verifier-service, and `/trustlist` and `/verify` beside it.", sections: one(c.verifier())},
		{file: "businessrule.md", title: "Business rule service (dgca-businessrule-service)", intro: "The interface of dgca-businessrule-service. `{hash}` is the SHA-256 of the document in lower-case hex.", sections: one(c.businessrule())},
		{file: "portal.md", title: "Issuance portal (dgca-issuance-web)", intro: "`/api/…` takes an access token for `api://dgca-issuance-web` with the role `Certificate.Issuer`; pages take the session cookie of a browser that has signed in.", sections: one(c.portal())},
	}
	for _, p := range pages {
		for _, s := range p.sections {
			if len(s.routes) == 0 {
				t.Fatalf("%s has no routes", p.file)
			}
		}
		checkPage(t, p.file, p.String())
	}
}

// keysText is what the table of operations does not show.
const keysText = `
## Keys: what the table does not show

- Symmetric keys (` + "`oct`, `oct-HSM`" + `, 128, 192 or 256 bits) are a managed HSM's. ` + "`encrypt`" + ` with A…GCM makes its nonce itself and refuses one of the caller's; ` + "`decrypt`" + ` needs iv and tag. A…CBC and A…CBCPAD need an iv of 16 bytes. ` + "`wrapkey`" + ` takes A…KW, CKM_AES_KEY_WRAP and CKM_AES_KEY_WRAP_PAD. At most 8 KiB a call. HS256, HS384, HS512 are not offered. What does not decrypt is 400 BadParameter with one text, whatever was wrong. Who may encrypt in CBC with a key can also read what was encrypted in GCM with it, as in Azure: use a key for one algorithm.
- ` + "`exportable`" + ` and ` + "`release_policy`" + ` (grammar 1.0.0, operator equals) need an -HSM type and the premium SKU. The authorities of a policy must be among those that the vault's configuration trusts (` + "`keyvault.Config.Attestation`" + `; an estate's vaults trust none), else AKV.SKR.1012. The policy belongs to the key and is the same for all versions. The released key is in a JWS with the vault's certificates; these end at a root of the vault's own token and not at a public authority.
- ` + "`secureunwrapkey`" + ` answers with the data key encrypted by RSA-OAEP-256 for the attested key. What a key is for (plain operations, ` + "`import`" + `, ` + "`secureWrapKey` and `secureUnwrapKey`" + `) cannot be changed later.
- ` + "`attestation`" + ` gives statements of the vault about the key (who made it, whether it may leave) as JWS under the same root, version "verdant-1". No maker of hardware vouches for them, so they are in no maker's format, and Marvell's validation scripts do not read them. Keys in software types have none.
- ` + "`key_hsm`" + ` takes a key transfer blob ("bring your own key") wrapped for an RSA-HSM key of the same vault whose only operation is ` + "`import`" + `. The key is unwrapped in the vault's process, not in the token: PKCS #11 modules such as SoftHSM 2.6 lack CKM_RSA_AES_KEY_WRAP.
- ` + "`external_key`" + ` (keys in another's HSM) is refused.
`
