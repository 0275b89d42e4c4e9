//go:build linux

package keyvault_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"verdant/azure/entra"
	"verdant/azure/keyvault"
	"verdant/azure/rest"
	"verdant/internal/sqlstore"
	"verdant/test/parts"
)

// insideTour is set for the copy of the test that runs in the namespace: the
// name of the tour. tourParts is then the directory with its libraries.
const (
	insideTour = "VERDANT_TOUR"
	tourParts  = "VERDANT_TOUR_PARTS"
)

// The names of the clouds that the clients of other languages see are
// Azure's own, but for the identity service: that has a name of its own, as
// an estate's has.
const (
	vaultDomain     = ".vault.azure.net"
	hsmDomain       = ".managedhsm.azure.net"
	tourLogin       = "login.verdant.test"
	tourAttestation = "attest.verdant.test"
	tourBlobs       = "tour.blob.core.windows.net"
	tourSAS         = "sv=2021-12-02&sr=c&sp=crdwl&sig=dG91cg%3D%3D"

	tourApp         = "bbbbbbbb-0000-4000-8000-000000000001" // client id
	tourAppObject   = "bbbbbbbb-0000-4000-8000-000000000002"
	tourSecret      = "a-secret-of-forty-characters-for-a-tour-"
	tourIdentity    = "cccccccc-0000-4000-8000-000000000001" // client id
	tourIdentityOID = "cccccccc-0000-4000-8000-000000000002"
)

// tour is a program that calls every method of the stock clients of one
// language and prints a verdict on each.
type tour struct {
	name     string
	needs    []string // commands
	manifest string   // the file that says which libraries it needs
	install  func(dir, source string) [][]string
	run      func(dir, source string) []string
}

var tours = []tour{
	{"java", []string{"java", "mvn"}, "pom.xml", func(dir, source string) [][]string {
		return [][]string{parts.Maven(filepath.Join(source, "pom.xml"), filepath.Join(dir, "lib"))}
	}, func(dir, source string) []string {
		libraries, _ := filepath.Glob(filepath.Join(dir, "lib", "*.jar")) // the pattern is well formed
		return []string{"java", "-XX:TieredStopAtLevel=1", "-cp", strings.Join(libraries, string(os.PathListSeparator)), filepath.Join(source, "Tour.java")}
	}},
	{"javascript", []string{"node", "npm", "openssl"}, "package.json", func(dir, source string) [][]string {
		return [][]string{{"cp", filepath.Join(source, "package.json"), dir}, {"npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts"}}
	}, func(dir, source string) []string {
		return []string{"env", "TOUR_MODULES=" + dir, "node", filepath.Join(source, "tour.mjs")}
	}},
	{"python", []string{"python3"}, "requirements.txt", func(dir, source string) [][]string {
		return [][]string{{"python3", "-m", "venv", filepath.Join(dir, "venv")},
			{filepath.Join(dir, "venv/bin/pip"), "install", "--quiet", "-r", filepath.Join(source, "requirements.txt")}}
	}, func(dir, source string) []string {
		return []string{filepath.Join(dir, "venv/bin/python"), filepath.Join(source, "tour.py")}
	}},
	// The Azure CLI wants older clients beside it than its code needs: it comes
	// without what it asks for.
	{"python-administration", []string{"python3"}, "requirements-administration.txt", func(dir, source string) [][]string {
		pip := filepath.Join(dir, "venv/bin/pip")
		return [][]string{{"python3", "-m", "venv", filepath.Join(dir, "venv")}, {pip, "install", "--quiet", "-r", filepath.Join(source, "requirements-administration.txt")},
			{pip, "install", "--quiet", "--no-deps", "azure-cli==2.91.0"}}
	}, func(dir, source string) []string {
		return []string{filepath.Join(dir, "venv/bin/python"), filepath.Join(source, "administration.py")}
	}},
}

// TestTheClientsOfOtherLanguagesTour runs the tours, each in a namespace of its
// own with a vault, a managed HSM, an identity service and a metadata service,
// and compares their verdicts with those that docs/compat/keyvault.md shows.
func TestTheClientsOfOtherLanguagesTour(t *testing.T) {
	if name := os.Getenv(insideTour); name != "" {
		i := slices.IndexFunc(tours, func(x tour) bool { return x.name == name })
		tours[i].walk(t, os.Getenv(tourParts))
		return
	}
	if os.Getenv("VERDANT_FULL") == "" {
		t.Skip("installs the clients of other languages; set VERDANT_FULL=1")
	}
	for _, x := range tours {
		t.Run(x.name, func(t *testing.T) {
			parts.Need(t, x.needs...)
			dir := parts.Install(t, "tour-"+x.name, filepath.Join(source(t), x.manifest), func(dir string) [][]string { return x.install(dir, source(t)) })
			inNamespace(t, insideTour+"="+x.name, tourParts+"="+dir)
		})
	}
}

// source is the directory with the tours' programs.
func source(t *testing.T) string {
	dir, err := filepath.Abs("tours")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// walk is what happens in the namespace.
func (x tour) walk(t *testing.T, libraries string) {
	dir := t.TempDir()
	loopbackUp(t, "169.254.169.254/32")
	env := startCloud(t, dir)
	command := x.run(libraries, source(t))
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	var stderr bytes.Buffer
	cmd.Env, cmd.Dir, cmd.Stderr = append(os.Environ(), env...), dir, &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Errorf("%s: %v\n%s", x.name, err, stderr.String())
	}
	x.judge(t, string(out))
	if t.Failed() || testing.Verbose() {
		t.Logf("%s", stderr.String())
	}
}

// judge reads the lines of a tour, and compares them with those kept.
func (x tour) judge(t *testing.T, out string) {
	passed, failed := 0, 0
	var lines strings.Builder
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "# ") { // a package and its version, or a note
			lines.WriteString(line)
			continue
		}
		method, verdict, ok := strings.Cut(strings.TrimSpace(line), "\t")
		if !ok {
			continue
		}
		if verdict == "ok" || strings.HasPrefix(verdict, "refused as expected (") {
			passed++
		} else {
			failed++
			t.Errorf("%s: %s", method, verdict)
		}
		fmt.Fprintf(&lines, "%s\t%s\n", method, verdict)
	}
	fmt.Printf("%s: %d passed, %d failed\n", x.name, passed, failed)
	if passed == 0 {
		t.Fatalf("%s called nothing:\n%s", x.name, out)
	}
	file := filepath.Join(source(t), x.name+".results")
	if os.Getenv("VERDANT_UPDATE_DOCS") != "" {
		if err := os.WriteFile(file, []byte(lines.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	kept, err := os.ReadFile(file)
	if err != nil || string(kept) != lines.String() {
		t.Errorf("the verdicts are not those of %s (%v): write them with VERDANT_UPDATE_DOCS=1, then make docs/compat again", filepath.Base(file), err)
	}
}

// startCloud serves a vault and a managed HSM under Azure's names, our identity
// service, the metadata service of an identity, and an attestation service. It
// returns the environment of a client.
func startCloud(t *testing.T, dir string) []string {
	ctx := context.Background()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p := &platform{t: t, signer: key}
	credential, cert := clientCertificate(t, dir)
	secret, err := entra.NewSecret(tourSecret)
	if err != nil {
		t.Fatal(err)
	}
	db, err := sqlstore.Open(ctx, filepath.Join(dir, "tenant.db"), [32]byte{4}, entra.Schema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	identity, err := entra.New(entra.Config{TenantID: tenant, TenantName: "Tours", Domain: "tours.test", Hosts: []string{tourLogin},
		Apps:              []entra.App{{ClientID: tourApp, ObjectID: tourAppObject, Name: "tour", Secrets: []entra.Secret{secret}, Certificates: []*x509.Certificate{cert}}},
		ManagedIdentities: []entra.ManagedIdentity{{Name: "tour", ResourceID: group + "tour", ClientID: tourIdentity, PrincipalID: tourIdentityOID, Location: "westeurope"}},
	}, entra.Deps{Signer: key, DB: db})
	if err != nil {
		t.Fatal(err)
	}
	hosts := map[string]http.Handler{tourLogin: identity.Handler(), tourBlobs: storage(), tourAttestation: p.attestation("https://" + tourAttestation)}
	open := func(name, kind, domain string) {
		hosts[name+domain] = p.vault(dir, keyvault.Config{Name: name, NeedsActivation: name == "hsm3", BackupHosts: []string{tourBlobs}, ResourceID: group + kind + "/" + name, ManagedHSM: domain == hsmDomain, TenantID: tenant, Authority: "https://" + tourLogin + "/" + tenant, Attestation: []string{"https://" + tourAttestation}},
			&rest.Verifier{Issuers: identity.Issuers(), Audiences: []string{"https://" + domain[1:]}, Keys: identity, Now: time.Now}, tourAppObject, tourIdentityOID)
	}
	// A tour walks twice, with blocking clients and with others.
	for _, name := range []string{"kv1", "kv2"} {
		open(name, "vaults", vaultDomain)
	}
	for _, name := range []string{"hsm1", "hsm2", "hsm3"} {
		open(name, "managedHSMs", hsmDomain)
	}
	resolve(t, dir, slices.Sorted(maps.Keys(hosts))...)
	roots := p.serveHosts(dir, "443", hosts)
	p.servePlain("169.254.169.254:80", identity.IMDS(tourIdentityOID))
	trusted := filepath.Join(dir, "roots.p12")
	javaTrust(t, roots, trusted)
	return []string{"TOUR_VAULTS=https://kv1" + vaultDomain + " https://kv2" + vaultDomain, "TOUR_HSMS=https://hsm1" + hsmDomain + " https://hsm2" + hsmDomain, "TOUR_ATTESTATION=https://" + tourAttestation,
		"TOUR_NEW_HSM=https://hsm3" + hsmDomain, "TOUR_CONTAINER=https://" + tourBlobs + "/backups", "TOUR_SAS=" + tourSAS, "TOUR_IDENTITY=" + tourIdentity, "TOUR_CERTIFICATE=" + credential,
		"AZURE_AUTHORITY_HOST=https://" + tourLogin, "AZURE_TENANT_ID=" + tenant, "AZURE_CLIENT_ID=" + tourApp, "AZURE_CLIENT_SECRET=" + tourSecret,
		"SSL_CERT_FILE=" + roots, "REQUESTS_CA_BUNDLE=" + roots, "NODE_EXTRA_CA_CERTS=" + roots, "JAVA_TOOL_OPTIONS=-Djavax.net.ssl.trustStore=" + trusted, "HTTPS_PROXY=", "HTTP_PROXY="}
}

// javaTrust makes a trust store of the certificate in a PEM file.
func javaTrust(t *testing.T, roots, file string) {
	text, err := os.ReadFile(roots)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	root, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	store, err := pkcs12.Passwordless.EncodeTrustStore([]*x509.Certificate{root}, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, store, 0o644); err != nil {
		t.Fatal(err)
	}
}

// storage is a storage account that keeps block blobs for the signature and for
// the managed HSM's identity.
func storage() http.Handler {
	var mu sync.Mutex
	kept := map[string][]byte{}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		body, err := io.ReadAll(r.Body)
		blob, found := kept[r.URL.Path]
		switch {
		case err != nil || r.URL.Query().Get("sig") != "dG91cg==" && r.Header.Get("Authorization") != "Bearer "+tourIdentityOID:
			w.WriteHeader(http.StatusForbidden)
		case r.Method == http.MethodPut:
			kept[r.URL.Path] = body
			w.WriteHeader(http.StatusCreated)
		case !found:
			w.WriteHeader(http.StatusNotFound)
		case r.Method == http.MethodDelete:
			delete(kept, r.URL.Path)
			w.WriteHeader(http.StatusAccepted)
		default:
			_, _ = w.Write(blob)
		}
	})
}

// clientCertificate makes a client's certificate and the file with its key.
func clientCertificate(t *testing.T, dir string) (file string, cert *x509.Certificate) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(3), Subject: pkix.Name{CommonName: "tour"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	file = filepath.Join(dir, "client.pem")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	cert, err = x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return file, cert
}
