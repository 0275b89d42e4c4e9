package keyvault

import (
	"context"
	"net/http"
	"time"

	"verdant/internal/lifecycle"
	"verdant/internal/route"
)

// Data actions of Azure RBAC start with these.
const (
	actions      = "Microsoft.KeyVault/vaults/"
	actionKeys   = actions + "keys/"
	actionSecret = actions + "secrets/"
	actionCert   = actions + "certificates/"
)

const (
	smallBody  = 4 << 10
	normalBody = 64 << 10
	largeBody  = 256 << 10 // secrets of 25 kB with every character escaped; bundles to import
	quick      = 10 * time.Second
	slow       = 60 * time.Second // makes a key
)

// table lists the vault's operations. Paths are as the mux sees them: without
// empty elements, so an operation on the current version has its own row.
func (s *Server) table() []route.Route {
	var routes []route.Route
	add := func(name, method, path, action string, body int64, timeout time.Duration, op operation) {
		if s.cfg.ManagedHSM {
			action = hsmAction(name, action)
		}
		versions := Versions
		if name == "FullBackupCheck" || name == "FullRestoreCheck" {
			versions = checkVersions
		}
		routes = append(routes, route.Route{Name: name, Method: method, Path: path, Versions: versions, Action: route.Action(action),
			MaxBody: body, Timeout: timeout, Audit: route.AuditCall, Handler: op})
	}
	s.keyRoutes(add)
	s.rotationRoutes(add)
	s.hsmRoutes(add)
	kinds := []Kind{Keys}
	if !s.cfg.ManagedHSM {
		s.secretRoutes(add)
		s.certificateRoutes(add)
		s.issuerRoutes(add)
		kinds = append(kinds, Secrets, Certificates)
	} else {
		s.roleRoutes(add)
		s.domainRoutes(add)
		s.settingRoutes(add)
		s.jobRoutes(add)
	}
	s.backupRoutes(add, kinds)
	return routes
}

type adder func(name, method, path, action string, body int64, timeout time.Duration, op operation)

// withVersion adds an operation for one version and for the current one.
func withVersion(add adder, name, method, prefix, suffix, action string, body int64, op operation) {
	add(name, method, prefix+"/{name}/{version}"+suffix, action, body, quick, op)
	add(name, method, prefix+"/{name}"+suffix, action, body, quick, op)
}

// deletedFamily adds the operations on deleted objects of a kind.
func (s *Server) deletedFamily(add adder, kind Kind, action, read string, show func(context.Context, Object) (any, error), list operation) {
	noun, path := kind.noun(), "/deleted"+string(kind)
	add(noun+"ListDeleted", http.MethodGet, path, read, route.NoBody, quick, list)
	add(noun+"GetDeleted", http.MethodGet, path+"/{name}", read, route.NoBody, quick, s.getDeleted(kind, show))
	add(noun+"Purge", http.MethodDelete, path+"/{name}", action+"purge/action", smallBody, quick, s.purge(kind))
	add(noun+"Recover", http.MethodPost, path+"/{name}/recover", action+"recover/action", smallBody, quick, s.restore(kind, show))
}

func (s *Server) keyRoutes(add adder) {
	const read = actionKeys + "read"
	add("KeyCreate", http.MethodPost, "/keys/{name}/create", actionKeys+"create/action", normalBody, slow, s.createKey)
	add("KeyImport", http.MethodPut, "/keys/{name}", actionKeys+"import/action", normalBody, slow, s.importKey)
	add("KeyRotate", http.MethodPost, "/keys/{name}/rotate", actionKeys+"rotate/action", smallBody, slow, s.rotateKey)
	add("KeyList", http.MethodGet, "/keys", read, route.NoBody, quick,
		list(s, Keys, Live, func(o Object, k *keyRecord) keyItem { return s.keyItem(s.url("keys", o.Name), k) }))
	add("KeyListVersions", http.MethodGet, "/keys/{name}/versions", read, route.NoBody, quick,
		listVersionsOf(s, Keys, func(o Object, v string, k *keyRecord) keyItem { return s.keyItem(s.url("keys", o.Name, v), k) }))
	withVersion(add, "KeyGet", http.MethodGet, "/keys", "", read, route.NoBody, s.getKey)
	withVersion(add, "KeyUpdate", http.MethodPatch, "/keys", "", actionKeys+"update/action", normalBody, s.updateKey)
	add("KeyDelete", http.MethodDelete, "/keys/{name}", actionKeys+"delete", smallBody, quick, s.remove(Keys, s.deletedKey))
	withVersion(add, "KeySign", http.MethodPost, "/keys", "/sign", actionKeys+"sign/action", normalBody, s.sign)
	withVersion(add, "KeyVerify", http.MethodPost, "/keys", "/verify", actionKeys+"verify/action", normalBody, s.verifySignature)
	withVersion(add, "KeyEncrypt", http.MethodPost, "/keys", "/encrypt", actionKeys+"encrypt/action", normalBody, s.encrypt("encrypt"))
	withVersion(add, "KeyDecrypt", http.MethodPost, "/keys", "/decrypt", actionKeys+"decrypt/action", normalBody, s.decrypt("decrypt"))
	withVersion(add, "KeyWrap", http.MethodPost, "/keys", "/wrapkey", actionKeys+"wrap/action", normalBody, s.encrypt("wrapKey"))
	withVersion(add, "KeyUnwrap", http.MethodPost, "/keys", "/unwrapkey", actionKeys+"unwrap/action", normalBody, s.decrypt("unwrapKey"))
	s.deletedFamily(add, Keys, actionKeys, read, s.deletedKey, list(s, Keys, Deleted, func(o Object, k *keyRecord) deletedKeyItem {
		return deletedKeyItem{s.deletion(o), s.keyItem(s.url("keys", o.Name), k)}
	}))
}

func (s *Server) secretRoutes(add adder) {
	const read = actionSecret + "readMetadata/action"
	add("SecretSet", http.MethodPut, "/secrets/{name}", actionSecret+"setSecret/action", largeBody, quick, s.setSecret)
	add("SecretList", http.MethodGet, "/secrets", read, route.NoBody, quick,
		list(s, Secrets, Live, func(o Object, k *secretRecord) secretBundle { return s.secretItem(s.url("secrets", o.Name), k) }))
	add("SecretListVersions", http.MethodGet, "/secrets/{name}/versions", read, route.NoBody, quick,
		listVersionsOf(s, Secrets, func(o Object, v string, k *secretRecord) secretBundle {
			return s.secretItem(s.url("secrets", o.Name, v), k)
		}))
	withVersion(add, "SecretGet", http.MethodGet, "/secrets", "", actionSecret+"getSecret/action", route.NoBody, s.getSecret)
	withVersion(add, "SecretUpdate", http.MethodPatch, "/secrets", "", actionSecret+"update/action", normalBody, s.updateSecret)
	add("SecretDelete", http.MethodDelete, "/secrets/{name}", actionSecret+"delete", smallBody, quick, s.remove(Secrets, s.deletedSecret))
	s.deletedFamily(add, Secrets, actionSecret, read, s.deletedSecret, list(s, Secrets, Deleted, func(o Object, k *secretRecord) deletedSecretBundle {
		return deletedSecretBundle{s.deletion(o), s.secretItem(s.url("secrets", o.Name), k)}
	}))
}

// drain is how long the background work may take to stop.
const drain = 5 * time.Second

// Run forwards the audit records to the sink, purges, rotates and renews what is
// due, until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	tasks := []lifecycle.Task{
		{Name: "audit forwarder of vault " + s.cfg.Name, Run: s.forward},
		{Name: "sweeper of vault " + s.cfg.Name, Run: s.sweep},
		{Name: "renewer of vault " + s.cfg.Name, Run: s.renew},
	}
	if s.local != nil {
		tasks = append(tasks, lifecycle.Task{Name: "jobs of managed HSM " + s.cfg.Name, Run: s.runJobs})
	}
	if s.shared != nil {
		tasks = append(tasks, lifecycle.Task{Name: "follower of vault " + s.cfg.Name, Run: s.follow})
	}
	return lifecycle.Run(ctx, drain, tasks...)
}
