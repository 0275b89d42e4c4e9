package estate

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"verdant/azure/csi"
	"verdant/internal/lifecycle"
	"verdant/vnet"
)

// With key custody "mounted" the region's cluster does what a Kubernetes node
// does in the reference: for each pod it has a Secrets Store CSI provider fetch
// the pod's bundles, with a token of the pod's own service account, and mounts
// them into the pod. They are in no place but the pod's memory.

const (
	// secretsPath is where a pod sees its mounted files.
	secretsPath = "/mnt/secrets-store"
	// providerName is the provider's in the logs.
	providerName = "secrets-store-provider"
	// rotationPoll is how often a running pod's objects are asked for again.
	rotationPoll = 2 * time.Minute
)

// mountedObject is an element of a pod's SecretProviderClass.
type mountedObject struct {
	name string
	// bundle is a certificate with its private key, mounted as PKCS #12 under
	// the name with ".p12"; others are secrets, mounted as they are.
	bundle bool
}

// mountsOf lists what is mounted into a pod: what its service reads. The public
// issuance service has the roles of the private one, as in the reference, and
// reads none of it.
func mountsOf(p Pod) []mountedObject {
	connector := []mountedObject{{name: "trustanchor-content"}, {name: "tls-trust-store-content"}, {name: "tls-key-store", bundle: true}}
	switch p.Name {
	case "dgc-gateway":
		return []mountedObject{{name: "trustanchor", bundle: true}}
	case "dgca-issuance-service":
		return append(connector, mountedObject{"upload-key-store", true}, mountedObject{"dsc-key-store", true})
	case "dgca-businessrule-service", "dgca-verifier-service":
		return connector
	case "dgca-issuance-web":
		return []mountedObject{{name: "msal-authentication-client-secret"}}
	}
	return nil
}

// providerClass is the SecretProviderClass of a pod's objects, as the driver
// hands it to the provider.
func (n Names) providerClass(r Region, p Pod, token string) (string, error) {
	var objects strings.Builder
	objects.WriteString("array:\n")
	for _, o := range mountsOf(p) {
		fmt.Fprintf(&objects, "  - |\n    objectName: %s\n    objectType: secret\n    filePermission: \"0400\"\n", o.name)
		if o.bundle {
			fmt.Fprintf(&objects, "    objectAlias: %s.p12\n    objectFormat: pfx\n    objectEncoding: base64\n", o.name)
		}
	}
	tokens, err := json.Marshal(map[string]map[string]string{federationAudience: {"token": token}})
	if err != nil {
		return "", err
	}
	raw, err := json.Marshal(map[string]string{
		"keyvaultName": n.Vault(r), "tenantId": n.v.TenantID, "clientID": n.Identity(r, p.Identity).ClientID, "objects": objects.String(),
		"csi.storage.k8s.io/pod.name": p.Name, "csi.storage.k8s.io/pod.namespace": string(r), "csi.storage.k8s.io/serviceAccount.name": p.Name,
		"csi.storage.k8s.io/serviceAccount.tokens": string(tokens),
	})
	return string(raw), err
}

// secretsDriver is the driver's part on a region's node.
type secretsDriver struct {
	names    Names
	region   Region
	accounts *accountIssuer
	provider *csi.Driver
	// dir says where a pod's files are put: a path in the pod, or in the
	// loopback driver one of this host.
	dir func(Pod) string
}

// mounted is what a pod has.
type mounted struct {
	files    []vnet.SecretFile
	versions []csi.ObjectVersion
}

// fetch asks the provider for a pod's files; current are the versions that it
// has now. A pod without objects has none.
func (d *secretsDriver) fetch(ctx context.Context, p Pod, current []csi.ObjectVersion) (mounted, bool, error) {
	if len(mountsOf(p)) == 0 {
		return mounted{}, false, nil
	}
	token, err := d.accounts.token(d.region, p.Name)
	if err != nil {
		return mounted{}, false, err
	}
	class, err := d.names.providerClass(d.region, p, token)
	if err != nil {
		return mounted{}, false, err
	}
	answer, err := d.provider.Mount(ctx, &csi.MountRequest{Attributes: class, TargetPath: d.dir(p), Permission: strconv.Itoa(0o400), Current: current})
	if err != nil {
		return mounted{}, false, err
	}
	m := mounted{versions: answer.Versions}
	for _, f := range answer.Files {
		m.files = append(m.files, vnet.SecretFile{Path: f.Path, Mode: fs.FileMode(f.Mode), Contents: f.Contents})
	}
	return m, answer.Changed(current), nil
}

// wipe forgets the contents.
func (m mounted) wipe() {
	for _, f := range m.files {
		clear(f.Contents)
	}
}

// openSecretsDriver starts a region's provider and connects its cluster to it.
func (s *supervisor) openSecretsDriver(r Region) (*secretsDriver, lifecycle.Task, error) {
	socket := filepath.Join(s.dir.Path, "csi-"+strings.TrimPrefix(string(r), "eudcc-")+".sock")
	ln, err := csi.Listen(socket)
	if err != nil {
		return nil, lifecycle.Task{}, err
	}
	provider, err := csi.New(csi.Config{AuthorityHost: "https://" + s.names.LoginHost() + "/", HTTP: s.httpFrom(r), Now: s.now,
		Log: slog.New(slog.NewJSONHandler(lines{s.podLogs, Pod{Name: providerName, Service: providerName}, r}, nil))})
	if err != nil {
		return nil, lifecycle.Task{}, err
	}
	driver, err := csi.NewDriver(socket)
	if err != nil {
		return nil, lifecycle.Task{}, err
	}
	d := &secretsDriver{names: s.names, region: r, accounts: s.accounts[r], provider: driver, dir: func(Pod) string { return secretsPath }}
	if s.fabric.Driver() == vnet.Loopback {
		base, err := sharedMemory(s.dir, r)
		if err != nil {
			return nil, lifecycle.Task{}, err
		}
		s.closers = append(s.closers, func() error { return os.RemoveAll(base) }) // after the last pod
		d.dir = func(p Pod) string { return filepath.Join(base, p.Name) }
	}
	return d, lifecycle.Task{Name: "secrets store provider of " + string(r), Run: func(ctx context.Context) error {
		err := provider.Serve(ctx, ln)
		_ = driver.Close()
		return err
	}}, nil
}

// sharedMemory is a directory in memory for the files of the loopback driver's
// pods of a region, empty and for this user alone. What an estate that was
// killed left is taken away.
func sharedMemory(dir *DataDir, r Region) (string, error) {
	const memory = "/dev/shm"
	parent := memory
	if info, err := os.Stat(memory); err != nil || !info.IsDir() {
		parent = os.TempDir() // systems without one: the driver's limits say so
	}
	base := filepath.Join(parent, "verdant-"+string(r)+"-"+dir.Secret("secrets-store", 16))
	if err := os.RemoveAll(base); err != nil {
		return "", err
	}
	return base, os.Mkdir(base, 0o700)
}
