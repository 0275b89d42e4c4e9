package estate

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"verdant/azure/client"
	"verdant/azure/keyvault"
	"verdant/azure/rbac"
	"verdant/estate/control"
	"verdant/hsm"
	"verdant/internal/conninfo"
	"verdant/internal/httpserve"
	"verdant/internal/journal"
	"verdant/internal/lifecycle"
)

// ReplicaConfig describes one of several processes that serve one vault over
// one MySQL or MariaDB database, as its JSON file says it. All of them have the
// same RootKey and Database; Replica and DataDir are each one's own. Paths are
// relative to the file.
type ReplicaConfig struct {
	// Replica is this one's name: letters, digits and dashes.
	Replica string `json:"replica"`
	// DataDir holds the replica's audit journal and ca.pem.
	DataDir string `json:"dataDir"`
	// RootKey is a file of 32 random bytes that nobody else may read: the keys
	// in the database are sealed under it.
	RootKey string `json:"rootKey"`
	// Listen is host:port. Whoever reaches it counts as having come over
	// PrivateEndpoint, an ARM id: let only a private network reach it.
	Listen          string `json:"listen"`
	PrivateEndpoint string `json:"privateEndpoint"`
	// Vault is the vault that they all are.
	Vault struct {
		Name            string `json:"name"`
		ResourceID      string `json:"resourceId"`
		Location        string `json:"location"`
		TenantID        string `json:"tenantId"`
		Suffix          string `json:"suffix"`        // default vault.azure.net
		SKU             string `json:"sku"`           // default premium
		RetentionDays   int    `json:"retentionDays"` // default 90
		PurgeProtection bool   `json:"purgeProtection"`
	} `json:"vault"`
	// Authority issues the tokens: https://<host>/, without the tenant. Its keys
	// are fetched from there; AuthorityRoots is a PEM file of the roots that
	// are believed about it, the system's if "".
	Authority      string   `json:"authority"`
	AuthorityRoots string   `json:"authorityRoots"`
	TokenIssuers   []string `json:"tokenIssuers"` // besides the authority's own
	// RoleAssignments is a JSON file of assignments (id, roleDefinitionId,
	// principalId, scope). A change of it is in effect within a second.
	RoleAssignments string `json:"roleAssignments"`
	// Database is where the replicas meet.
	Database struct {
		Addrs        []string `json:"addrs"` // host:port, or the path of a socket; the first that takes writes is used
		Name         string   `json:"name"`
		User         string   `json:"user"`
		PasswordFile string   `json:"passwordFile"` // read for each connection
		Roots        string   `json:"roots"`        // PEM; TLS is needed but for this machine
	} `json:"database"`
}

// ReadReplicaConfig reads and checks the file.
func ReadReplicaConfig(file string) (c ReplicaConfig, err error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return c, err
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return c, fmt.Errorf("%s: %w", file, err)
	}
	for _, path := range []*string{&c.DataDir, &c.RootKey, &c.AuthorityRoots, &c.RoleAssignments, &c.Database.PasswordFile, &c.Database.Roots} {
		if *path != "" && !filepath.IsAbs(*path) {
			*path = filepath.Join(filepath.Dir(file), *path)
		}
	}
	for name, value := range map[string]string{"replica": c.Replica, "dataDir": c.DataDir, "rootKey": c.RootKey, "listen": c.Listen,
		"privateEndpoint": c.PrivateEndpoint, "authority": c.Authority, "roleAssignments": c.RoleAssignments} {
		if value == "" {
			return c, fmt.Errorf("%s: %q is needed", file, name)
		}
	}
	if strings.Trim(c.Replica, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") != "" {
		return c, fmt.Errorf("%s: replica %q: letters, digits and dashes", file, c.Replica)
	}
	return c, nil
}

// keys reads the root key. What is derived from it has the names that an
// estate gives it.
func (c *ReplicaConfig) keys(ctx context.Context) (*DataDir, error) {
	info, err := os.Stat(c.RootKey)
	if err != nil {
		return nil, fmt.Errorf("root key: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("root key %s: others may read it: chmod 600", c.RootKey)
	}
	d := &DataDir{Path: c.DataDir}
	d.root, err = readRoot(ctx, c.RootKey, "")
	return d, err
}

func (c *ReplicaConfig) auditDir() string { return filepath.Join(c.DataDir, "audit") }

func (c *ReplicaConfig) auditKey(d *DataDir) [32]byte {
	return d.Key("audit/" + c.Vault.Name + "/" + c.Replica)
}

func (c *ReplicaConfig) database(ctx context.Context) (*sql.DB, error) {
	m := keyvault.MySQL{Addrs: c.Database.Addrs, Database: c.Database.Name, User: c.Database.User}
	if file := c.Database.PasswordFile; file != "" {
		m.Password = func(context.Context) (string, error) {
			text, err := os.ReadFile(file)
			return strings.TrimRight(string(text), "\r\n"), err
		}
	}
	if c.Database.Roots != "" {
		pem, err := os.ReadFile(c.Database.Roots)
		if err != nil {
			return nil, err
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no PEM certificate", c.Database.Roots)
		}
		m.TLS = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
	}
	return m.Open(ctx)
}

// RunReplica serves until ctx ends. ready is called with the address when the
// replica answers.
func RunReplica(ctx context.Context, c ReplicaConfig, ready func(net.Addr)) (err error) {
	if err := checkFIPS(); err != nil {
		return err
	}
	keys, err := c.keys(ctx)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(c.DataDir, 0o700); err != nil {
		return err
	}
	audit, err := journal.Open(ctx, c.auditDir(), journal.Options{Key: c.auditKey(keys)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, audit.Close()) }()
	db, err := c.database(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	token, err := hsm.OpenBlobs(ctx, keyvault.NewMySQLBlobs(db, c.Vault.Name), keys.Key("hsm/"+c.Vault.Name))
	if err != nil {
		return err
	}
	authority, err := replicaAuthority(ctx, c.DataDir, token)
	if err != nil {
		return err
	}
	roles := &roleFile{path: c.RoleAssignments, policy: rbac.NewPolicy(rbac.BuiltIn(), nil)}
	if err := roles.sync(); err != nil {
		return err
	}
	platform, err := client.New(client.Config{TenantID: c.Vault.TenantID, AuthorityHost: c.Authority, TokenIssuers: c.TokenIssuers, CertFile: c.AuthorityRoots})
	if err != nil {
		return err
	}
	vault, err := keyvault.New(c.vaultConfig(), keyvault.Deps{Token: token, Store: keyvault.NewMySQLStore(db, c.Vault.Name, c.Replica), Audit: audit,
		Verifier: platform.TokenVerifier("https://" + c.suffix()), Policy: roles.policy})
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return err
	}
	host, _, _ := strings.Cut(vault.Host(), ":")
	ready(ln.Addr())
	return lifecycle.Run(ctx, 10*time.Second,
		lifecycle.Task{Name: "role assignments", Run: roles.run},
		lifecycle.Task{Name: "vault", Run: vault.Run},
		lifecycle.Task{Name: "vault's server", Run: func(ctx context.Context) error {
			return httpserve.Run(ctx, endpointListener{ln, c.PrivateEndpoint}, authority.config(host), vault.Handler())
		}})
}

func (c *ReplicaConfig) suffix() string {
	if c.Vault.Suffix == "" {
		return "vault.azure.net"
	}
	return c.Vault.Suffix
}

func (c *ReplicaConfig) vaultConfig() keyvault.Config {
	v := c.Vault
	return keyvault.Config{Name: v.Name, ResourceID: v.ResourceID, Location: v.Location, TenantID: v.TenantID, Suffix: c.suffix(), SKU: v.SKU,
		RetentionDays: v.RetentionDays, PurgeProtection: v.PurgeProtection,
		Authority: strings.TrimRight(c.Authority, "/") + "/" + v.TenantID}
}

// replicaAuthority certifies the vault's name. Its keys are in the token that
// the replicas share, so that whoever trusts the ca.pem of one trusts all.
func replicaAuthority(ctx context.Context, dir string, token *hsm.Software) (*authority, error) {
	ec := hsm.KeySpec{Type: hsm.EC, Curve: hsm.P256}
	root, err := token.EnsureSigner(ctx, "tls-root", ec)
	if err != nil {
		return nil, err
	}
	leaf, err := token.EnsureSigner(ctx, "tls-server", ec)
	if err != nil {
		return nil, err
	}
	return newAuthority(dir, root, leaf, time.Now)
}

// endpointListener says of its connections that they came over an approved
// private endpoint.
type endpointListener struct {
	net.Listener
	id string
}

// Accept attaches the evidence.
func (l endpointListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	source, _ := netip.ParseAddrPort(c.RemoteAddr().String())
	return &privateConn{c, conninfo.Info{Kind: conninfo.PrivateEndpoint, PrivateEndpoint: l.id, Source: source}}, nil
}

// roleFile keeps a policy at what a file says.
type roleFile struct {
	path   string
	policy *rbac.Policy
	last   []byte
}

const (
	rolesEvery = 250 * time.Millisecond
	rolesLease = time.Second
)

// run follows the file until ctx ends. While it cannot be read, or is none of
// ours, nobody is let in: the policy's lease ends.
func (f *roleFile) run(ctx context.Context) error {
	tick := time.NewTicker(rolesEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			_ = f.sync() // the next one may succeed
		}
	}
}

func (f *roleFile) sync() error {
	asked := time.Now()
	data, err := os.ReadFile(f.path)
	if err != nil {
		return fmt.Errorf("role assignments: %w", err)
	}
	if f.last == nil || !bytes.Equal(data, f.last) {
		assignments, err := readAssignments(data)
		if err != nil {
			return fmt.Errorf("role assignments in %s: %w", f.path, err)
		}
		f.policy.Replace(rbac.Snapshot{Roles: rbac.BuiltIn(), Assignments: assignments})
		f.last = data
	}
	f.policy.Lease(asked.Add(rolesLease), time.Now)
	return nil
}

func readAssignments(data []byte) (all []rbac.Assignment, err error) {
	var list []struct {
		ID               string `json:"id"`
		RoleDefinitionID string `json:"roleDefinitionId"`
		PrincipalID      string `json:"principalId"`
		Scope            string `json:"scope"`
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&list); err != nil {
		return nil, err
	}
	for i, a := range list {
		if a.ID == "" || a.RoleDefinitionID == "" || a.PrincipalID == "" || !strings.HasPrefix(a.Scope, "/") {
			return nil, fmt.Errorf("number %d lacks id, roleDefinitionId, principalId or scope", i+1)
		}
		all = append(all, rbac.Assignment{ID: a.ID, RoleDefinitionID: a.RoleDefinitionID, PrincipalID: a.PrincipalID, Scope: a.Scope})
	}
	return all, nil
}

// VerifyReplicaAudit proves the audit chains of stopped replicas, each its own,
// and changes nothing. Replicas of several vaults may be asked for at once; no
// name may come twice in a vault.
func VerifyReplicaAudit(ctx context.Context, configs []ReplicaConfig) ([]control.AuditReport, error) {
	var reports []control.AuditReport
	for i, c := range configs {
		name := c.Vault.Name + "/" + c.Replica
		if slices.ContainsFunc(configs[:i], func(o ReplicaConfig) bool { return o.Vault.Name+"/"+o.Replica == name }) {
			return nil, fmt.Errorf("replica %s is named twice", name)
		}
		keys, err := c.keys(ctx)
		if err != nil {
			return nil, err
		}
		checked, err := journal.Check(ctx, c.auditDir(), c.auditKey(keys))
		if errors.Is(err, journal.ErrLocked) {
			return nil, fmt.Errorf("replica %s is running: stop it first", name)
		}
		report, err := auditReport(name, checked.First, checked.Head, err)
		if err != nil {
			return nil, err
		}
		report.TornBytes = checked.Torn
		reports = append(reports, report)
	}
	return reports, nil
}
