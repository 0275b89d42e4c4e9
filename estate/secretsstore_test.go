package estate

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bufbuild/protocompile"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
	"software.sslmate.com/src/go-pkcs12"

	"verdant/azure/csi"
)

// driver is the Secrets Store CSI driver as the provider meets it: a stock gRPC
// client with messages of the protocol buffers runtime, made from the interface's
// description.
type driver struct {
	t    *testing.T
	conn *grpc.ClientConn
	file protoreflect.FileDescriptor
	w    *wire
}

// mountAnswer is a MountResponse.
type mountAnswer struct {
	ObjectVersion []struct{ ID, Version string }
	Files         []struct {
		Path     string
		Mode     int
		Contents []byte
	}
}

func (a mountAnswer) file(t *testing.T, path string) []byte {
	t.Helper()
	for _, f := range a.Files {
		if f.Path == path {
			return f.Contents
		}
	}
	t.Fatalf("no file %s among %v", path, a.Files)
	return nil
}

func newDriver(t *testing.T, w *wire, cfg csi.Config) *driver {
	t.Helper()
	dir, err := os.MkdirTemp("", "csi") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "azure.sock")
	cfg.AuthorityHost, cfg.HTTP = "https://"+w.names.LoginHost()+"/", w.http
	provider, err := csi.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := csi.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket's mode: %v, %v", info.Mode(), err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- provider.Serve(ctx, ln) }()
	source, err := os.ReadFile("../azure/csi/provider.proto")
	if err != nil {
		t.Fatal(err)
	}
	compiler := protocompile.Compiler{Resolver: &protocompile.SourceResolver{Accessor: protocompile.SourceAccessorFromMap(map[string]string{"p.proto": string(source)})}}
	files, err := compiler.Compile(ctx, "p.proto")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient("passthrough:///x", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return &driver{t, conn, files[0], w}
}

// call makes a call with a request and an answer in JSON.
func (d *driver) call(method, in, out string, request, answer any) error {
	raw, err := json.Marshal(request)
	if err != nil {
		return err
	}
	q, a := dynamicpb.NewMessage(d.file.Messages().ByName(protoreflect.Name(in))), dynamicpb.NewMessage(d.file.Messages().ByName(protoreflect.Name(out)))
	if err := protojson.Unmarshal(raw, q); err != nil {
		return err
	}
	if err := d.conn.Invoke(d.t.Context(), "/v1alpha1.CSIDriverProvider/"+method, q, a); err != nil {
		return err
	}
	if raw, err = protojson.Marshal(a); err != nil {
		return err
	}
	return json.Unmarshal(raw, answer)
}

// mount asks for objects as a pod of Ireland's cluster; change alters the
// class's parameters.
func (d *driver) mount(pod, objects string, change map[string]string) (mountAnswer, error) {
	d.t.Helper()
	token, err := d.w.accounts[IE].token(IE, pod)
	if err != nil {
		d.t.Fatal(err)
	}
	tokens, _ := json.Marshal(map[string]any{"api://AzureADTokenExchange": map[string]string{"token": token, "expirationTimestamp": "2030-01-01T00:00:00Z"}})
	class := map[string]string{
		"keyvaultName": d.w.names.Vault(IE), "tenantId": d.w.names.v.TenantID, "clientID": d.w.names.Identity(IE, pod).ClientID, "usePodIdentity": "false",
		"objects": objects, "csi.storage.k8s.io/pod.name": pod, "csi.storage.k8s.io/pod.namespace": "eudcc-ie", "csi.storage.k8s.io/pod.uid": "1",
		"csi.storage.k8s.io/ephemeral": "true", "csi.storage.k8s.io/serviceAccount.name": pod, "csi.storage.k8s.io/serviceAccount.tokens": string(tokens),
	}
	maps.Copy(class, change)
	attributes, _ := json.Marshal(class)
	var a mountAnswer
	err = d.call("Mount", "MountRequest", "MountResponse", map[string]string{"attributes": string(attributes), "secrets": "{}", "targetPath": "/var/lib/kubelet/x", "permission": "420"}, &a)
	return a, err
}

func objectsYAML(objects ...string) string {
	out := "array:\n"
	for _, o := range objects {
		out += "  - |\n    " + strings.ReplaceAll(o, "\n", "\n    ") + "\n"
	}
	return out
}

func TestTheProviderMountsWhatThePodItselfMayRead(t *testing.T) {
	w := newWire(t, CustodyMounted)
	if err := w.bootstrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	d := newDriver(t, w, csi.Config{Log: slog.New(slog.NewTextHandler(&log, nil))})
	var version struct{ Version, RuntimeName, RuntimeVersion string }
	if err := d.call("Version", "VersionRequest", "VersionResponse", map[string]string{"version": "v1alpha1"}, &version); err != nil || version.Version != "v1alpha1" || version.RuntimeName == "" || version.RuntimeVersion == "" {
		t.Fatalf("got %+v, %v", version, err)
	}

	const pod = "dgca-issuance-service"
	a, err := d.mount(pod, objectsYAML(
		"objectName: dsc-key-store\nobjectType: secret\nobjectAlias: dsc.pem\nfilePermission: 0400",
		"objectName: dsc-key-store\nobjectType: secret\nobjectAlias: stores/dsc.p12\nobjectFormat: pfx\nobjectEncoding: base64",
		"objectName: dsc-key-store\nobjectType: cert\nobjectAlias: dsc.crt",
		"objectName: dsc-key-store\nobjectType: key\nobjectAlias: dsc.pub",
		"objectName: mysql-encryption-key\nobjectType: key",
		"objectName: trustanchor-content\nobjectType: secret\nobjectEncoding: base64",
		"objectName: issuance-certalias\nobjectType: secret"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(a.file(t, "issuance-certalias")); got != "dsc-key-store" {
		t.Errorf("the secret: got %q", got)
	}
	key, cert, _, err := pkcs12.DecodeChain(a.file(t, "stores/dsc.p12"), "")
	if err != nil {
		t.Fatal(err)
	}
	private, ok := key.(*ecdsa.PrivateKey)
	if !ok || !private.PublicKey.Equal(cert.PublicKey) {
		t.Errorf("the bundle's key %T is not its certificate's", key)
	}
	blocks := pemBlocks(a.file(t, "dsc.pem"))
	if len(blocks) < 2 || blocks[0].Type != "PRIVATE KEY" || blocks[1].Type != "CERTIFICATE" || !bytes.Equal(blocks[1].Bytes, cert.Raw) {
		t.Errorf("the bundle as PEM: %d blocks", len(blocks))
	} else if k, err := x509.ParsePKCS8PrivateKey(blocks[0].Bytes); err != nil || !private.Equal(k) {
		t.Errorf("another private key: %v", err)
	}
	if b := pemBlocks(a.file(t, "dsc.crt")); len(b) != 1 || b[0].Type != "CERTIFICATE" || !bytes.Equal(b[0].Bytes, cert.Raw) {
		t.Errorf("the certificate: %v", b)
	}
	if b := pemBlocks(a.file(t, "dsc.pub")); len(b) != 1 || b[0].Type != "PUBLIC KEY" {
		t.Errorf("the public key: %v", b)
	} else if k, err := x509.ParsePKIXPublicKey(b[0].Bytes); err != nil || !private.PublicKey.Equal(k) {
		t.Errorf("another public key: %v", err)
	}
	if _, err := pkcs12.DecodeTrustStore(a.file(t, "trustanchor-content"), w.secret(IE, "dgc-gateway-connector-trustanchor-password")); err != nil {
		t.Errorf("the trust store: %v", err)
	}
	for _, f := range a.Files {
		if want := map[string]int{"dsc.pem": 0o400}[f.Path]; want != 0 && f.Mode != want || want == 0 && f.Mode != 0o644 {
			t.Errorf("%s: mode %o", f.Path, f.Mode)
		}
	}
	if len(a.ObjectVersion) != 6 {
		t.Errorf("versions: %v", a.ObjectVersion)
	}

	for name, c := range map[string]struct {
		pod, objects string
		change       map[string]string
		code         codes.Code
		says         string
	}{
		"another pod's bundle":                       {"dgca-verifier-service", "objectName: dsc-key-store\nobjectType: secret", nil, codes.PermissionDenied, "ForbiddenByRbac"},
		"a pod without roles":                        {"dgca-issuance-web", "objectName: trustanchor-content\nobjectType: secret", nil, codes.PermissionDenied, "ForbiddenByRbac"},
		"one object of two":                          {"dgca-verifier-service", "objectName: trustanchor-content\nobjectType: secret|objectName: dsc-key-store\nobjectType: secret", nil, codes.PermissionDenied, "ForbiddenByRbac"},
		"another pod's identity":                     {"dgca-verifier-service", "objectName: dsc-key-store\nobjectType: secret", map[string]string{"clientID": w.names.Identity(IE, pod).ClientID}, codes.Unauthenticated, "AADSTS700213"},
		"an identity that no pod has":                {pod, "objectName: mysql-encryption-key\nobjectType: key", map[string]string{"clientID": w.names.Identity(IE, DatabaseIdentity).ClientID}, codes.Unauthenticated, "AADSTS700016"},
		"the other region's vault":                   {pod, "objectName: trustanchor\nobjectType: cert", map[string]string{"keyvaultName": w.names.Vault(EU)}, codes.PermissionDenied, "ForbiddenByRbac"},
		"an object that is not there, but could be":  {"dgca-verifier-service", "objectName: none\nobjectType: cert", nil, codes.NotFound, "NotFound"},
		"a file above the mount":                     {pod, "objectName: issuance-certalias\nobjectType: secret\nobjectAlias: ../../../etc/cron.d/x", nil, codes.InvalidArgument, "below the mount"},
		"two objects in one file":                    {pod, "objectName: issuance-certalias\nobjectType: secret|objectName: dsc-key-store\nobjectType: cert\nobjectAlias: issuance-certalias", nil, codes.Unknown, "objectAlias"},
		"a secret in another encoding than it is in": {pod, "objectName: issuance-certalias\nobjectType: secret\nobjectEncoding: hex", nil, codes.Unknown, "objectEncoding"},
		"the node's identity":                        {pod, "objectName: issuance-certalias\nobjectType: secret", map[string]string{"useVMManagedIdentity": "true"}, codes.InvalidArgument, "not allowed"},
	} {
		a, err := d.mount(c.pod, objectsYAML(strings.Split(c.objects, "|")...), c.change)
		if status.Code(err) != c.code || !strings.Contains(err.Error(), c.says) || len(a.Files) > 0 {
			t.Errorf("%s: got %v, want %s, %s", name, err, c.code, c.says)
		}
		if err != nil && (strings.Contains(err.Error(), "eyJ") || strings.Contains(err.Error(), "dsc-key-store is not in")) {
			t.Errorf("%s: the error holds a token or a value: %v", name, err)
		}
	}
	for _, secret := range []string{"eyJ", string(a.file(t, "dsc.pem"))[40:80], "dsc-key-store\""} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("the log holds %.10s…", secret)
		}
	}
}

func TestANewVersionIsSeenAndOldOnesCanBeHad(t *testing.T) {
	w := newWire(t, CustodyMounted)
	if err := w.bootstrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	d := newDriver(t, w, csi.Config{})
	const pod = "dgca-issuance-service"
	class := objectsYAML("objectName: tls-key-store\nobjectType: secret\nobjectFormat: pfx", "objectName: issuance-certalias\nobjectType: secret")
	first, err := d.mount(pod, class, nil)
	if err != nil {
		t.Fatal(err)
	}
	again, err := d.mount(pod, class, nil)
	if err != nil || again.ObjectVersion[0] != first.ObjectVersion[0] {
		t.Errorf("nothing changed: got %v, %v", again.ObjectVersion, err)
	}
	var old []string
	for _, value := range []string{"second", "third"} {
		old = append(old, w.secret(IE, "issuance-certalias"))
		w.pass(time.Second) // versions are ordered by the second in which they were made
		w.admin(IE, http.MethodPut, "/secrets/issuance-certalias", map[string]string{"value": value})
	}
	policy := json.RawMessage(w.admin(IE, http.MethodGet, "/certificates/tls-key-store/policy", nil))
	w.admin(IE, http.MethodPost, "/certificates/tls-key-store/create", map[string]any{"policy": policy})
	renewed, err := d.mount(pod, class, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range renewed.ObjectVersion {
		if renewed.ObjectVersion[i].ID != first.ObjectVersion[i].ID || renewed.ObjectVersion[i].Version == first.ObjectVersion[i].Version {
			t.Errorf("after a renewal: got %v, was %v", renewed.ObjectVersion[i], first.ObjectVersion[i])
		}
	}
	if bytes.Equal(renewed.file(t, "tls-key-store"), first.file(t, "tls-key-store")) {
		t.Error("the renewed bundle is the old one")
	}
	past, err := d.mount(pod, objectsYAML("objectName: issuance-certalias\nobjectType: secret\nobjectVersionHistory: 2\nobjectAlias: alias",
		"objectName: tls-key-store\nobjectType: key\nobjectVersionHistory: 9\nobjectAlias: tls"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(past.file(t, "alias/0")) + " " + string(past.file(t, "alias/1")); got != "third second" || len(past.Files) != 4 {
		t.Errorf("history: got %q and %d files", got, len(past.Files))
	}
	if bytes.Equal(past.file(t, "tls/0"), past.file(t, "tls/1")) {
		t.Error("two versions of a key are the same")
	}
	pinned, err := d.mount(pod, objectsYAML("objectName: issuance-certalias\nobjectType: secret\nobjectVersion: "+first.ObjectVersion[1].Version), nil)
	if err != nil || string(pinned.file(t, "issuance-certalias")) != old[0] {
		t.Errorf("the first version: got %v, %v", pinned.Files, err)
	}
}

func pemBlocks(data []byte) (blocks []*pem.Block) {
	for {
		var b *pem.Block
		if b, data = pem.Decode(data); b == nil {
			return blocks
		}
		blocks = append(blocks, b)
	}
}
