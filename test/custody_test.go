package test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"verdant/dcc/wire"
	"verdant/estate"
	"verdant/hcert"
)

// TestTheWholeEstateInEitherKeyCustody goes a certificate's whole way (issue,
// verify, claim by a wallet) where services sign through the vault and where
// their bundles are mounted, and looks for the keys where they must not be.
func TestTheWholeEstateInEitherKeyCustody(t *testing.T) {
	for name, c := range map[string]struct{ custody, network string }{
		"direct":               {estate.CustodyDirect, "auto"},
		"mounted":              {estate.CustodyMounted, "auto"},
		"mounted, on loopback": {estate.CustodyMounted, "loopback"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.network == "loopback" {
				full(t)
			}
			before, _ := filepath.Glob("/dev/shm/verdant-*")
			e := startCustody(t, c.custody, c.network)
			var issued struct{ UVCI, HC1, TAN string }
			if err := json.Unmarshal([]byte(e.must("cert", "issue", "-o", "json", "--file", examples(t)["vaccination"])), &issued); err != nil {
				t.Fatal(err)
			}
			if out := e.must("cert", "verify", issued.HC1); !strings.HasPrefix(out, "VALID: vaccination certificate of IE") {
				t.Errorf("verify: got %q", out)
			}
			e.claim(t, issued.UVCI, issued.HC1, issued.TAN)
			secret := e.must("rest", "GET", "https://eudcc-ie-kv-g1.vault.azure.net/secrets/dsc-key-store?api-version=7.4")
			signs := `AZKVAuditLogs | where OperationName == "KeySign" and HttpStatusCode == 200 and CallerIPAddress == "192.168.4.20" | count`
			if c.custody == estate.CustodyDirect {
				if strings.Contains(secret, "PRIVATE KEY") || strings.Contains(secret, "pkcs12") {
					t.Error("the secret behind the document signer's certificate holds a private key")
				}
				eventually(t, 30*time.Second, "a signature by the vault", func() (bool, string) {
					out, err := e.try("query", "-w", "eudcc-ie", signs)
					return err == nil && !strings.Contains(out, "\n0\n"), out
				})
				return
			}
			key, forms := privateForms(t, secret)
			if err := signed(t, issued.HC1).CheckKey(&key.PublicKey); err != nil {
				t.Errorf("the mounted key is not the one that signed: %v", err)
			}
			if c.network != "loopback" { // there every pod has another address
				eventually(t, 30*time.Second, "the mount in the audit log", func() (bool, string) {
					out, err := e.try("query", "-w", "eudcc-ie", `AZKVAuditLogs | where OperationName == "SecretGet" and Id has "dsc-key-store" | count`)
					return err == nil && !strings.Contains(out, "\n0\n"), out
				})
				if out := e.must("query", "-w", "eudcc-ie", signs); !strings.Contains(out, "\n0\n") {
					t.Errorf("the issuance service still signs through the vault: %s", out)
				}
				e.lookIntoPods(t)
			}
			logs := e.must("logs")
			for what, form := range forms {
				if strings.Contains(logs, form) {
					t.Errorf("the logs hold the private key (%s)", what)
				}
			}
			e.down()
			e.searchKey(t, forms)
			if left, _ := filepath.Glob("/dev/shm/verdant-*"); len(left) > len(before) {
				t.Errorf("left in memory: %v, before there was %v", left, before)
			}
			// The next start mounts them again.
			e.up()
			if out := e.must("cert", "verify", e.issue(t, examples(t)["test"])); !strings.HasPrefix(out, "VALID") {
				t.Errorf("after a restart: %q", out)
			}
		})
	}
}

// startCustody brings an estate up with the key custody.
func startCustody(t *testing.T, custody, network string) *estateUnderTest {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "terraform.tfvars")
	if err := os.WriteFile(file, []byte("key_custody = "+strconv.Quote(custody)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	e := &estateUnderTest{t: t, binary: path, dataDir: filepath.Join(t.TempDir(), "estate"), network: network, varFile: file}
	e.up()
	t.Cleanup(e.down)
	return e
}

// claim binds a certificate to a new key, as a citizen's wallet does.
func (e *estateUnderTest) claim(t *testing.T, uvci, hc1, tan string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.StdEncoding.EncodeToString
	tanHash, certHash := sha256.Sum256([]byte(tan)), signed(t, hc1).Hash()
	c := wire.Claim{DGCI: uvci, CertHash: b64(certHash[:]), TANHash: b64(tanHash[:]), PublicKey: wire.WalletKey{Type: "EC", Value: b64(spki)}, SigAlg: "SHA256withECDSA"}
	digest := sha256.Sum256([]byte(c.TANHash + c.CertHash + c.PublicKey.Value))
	signature, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	c.Signature = b64(signature)
	body, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	web, host := e.publicClient(t)
	resp, err := web.Post("https://"+host+"/dgci/wallet/claim", "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("claim: got %s", resp.Status)
	}
}

// publicClient reaches the public issuance service through the ingress.
func (e *estateUnderTest) publicClient(t *testing.T) (*http.Client, string) {
	t.Helper()
	status, err := e.status()
	if err != nil {
		t.Fatal(err)
	}
	roots, err := estate.TrustedRoots(e.dataDir)
	if err != nil {
		t.Fatal(err)
	}
	ingress := status.address(estate.IngressAddress)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", ingress)
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Timeout: 30 * time.Second, Transport: transport}, estate.NamesFor(estate.DefaultVariables()).ServiceHost("dgca-issuance-service-public", estate.IE)
}

// privateForms reads the bundle out of a vault's answer and returns the private
// key and the forms in which it could lie about.
func privateForms(t *testing.T, secret string) (*ecdsa.PrivateKey, map[string]string) {
	t.Helper()
	var bundle struct{ Value string }
	if err := json.Unmarshal([]byte(secret), &bundle); err != nil {
		t.Fatal(err)
	}
	pfx, err := base64.StdEncoding.DecodeString(bundle.Value)
	if err != nil {
		t.Fatal(err)
	}
	private, _, _, err := pkcs12.DecodeChain(pfx, "")
	if err != nil {
		t.Fatal(err)
	}
	key, ok := private.(*ecdsa.PrivateKey)
	if !ok {
		t.Fatalf("the bundle's key is a %T", private)
	}
	scalar, err := key.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	inner := base64.StdEncoding.EncodeToString(der)
	return key, map[string]string{
		"raw": string(scalar), "hexadecimal": hex.EncodeToString(scalar), "base64": base64.RawStdEncoding.EncodeToString(scalar), "base64url": base64.RawURLEncoding.EncodeToString(scalar),
		"PKCS #8": string(der), "PEM": inner[:60], "PKCS #12": string(pfx), "PKCS #12 in base64": bundle.Value[:200],
	}
}

// signed is a certificate's signed message.
func signed(t *testing.T, hc1 string) *hcert.Sign1 {
	t.Helper()
	var d hcert.Decoder
	u, err := d.Decode(hc1)
	if err != nil {
		t.Fatal(err)
	}
	return u.Sign1
}

// lookIntoPods checks that each pod sees its own bundles and no others.
func (e *estateUnderTest) lookIntoPods(t *testing.T) {
	t.Helper()
	status, err := e.status()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"dgc-gateway":                  "trustanchor.p12",
		"dgca-issuance-service":        "dsc-key-store.p12 tls-key-store.p12 tls-trust-store-content trustanchor-content upload-key-store.p12",
		"dgca-issuance-service-public": "",
		"dgca-issuance-web":            "msal-authentication-client-secret",
		"dgca-businessrule-service":    "tls-key-store.p12 tls-trust-store-content trustanchor-content",
		"dgca-verifier-service":        "tls-key-store.p12 tls-trust-store-content trustanchor-content",
	}
	for _, p := range status.Pods {
		entries, err := os.ReadDir("/proc/" + strconv.Itoa(p.PID) + "/root/mnt/secrets-store")
		if os.IsPermission(err) {
			t.Logf("this user may not look into %s", p.Name)
			continue
		}
		var names []string
		for _, f := range entries {
			names = append(names, f.Name())
			if info, err := f.Info(); err != nil || info.Mode() != 0o400 {
				t.Errorf("%s: %s has mode %v, %v", p.Name, f.Name(), info.Mode(), err)
			}
		}
		if got := strings.Join(names, " "); got != want[p.Name] {
			t.Errorf("%s sees %q, want %q", p.Name, got, want[p.Name])
		}
		if out, err := e.try("exec", p.Name, "--", "ls", "/mnt/secrets-store"); err == nil {
			t.Errorf("a command in %s sees %q", p.Name, out)
		}
	}
}

// searchKey looks for a private key in the data directory.
func (e *estateUnderTest) searchKey(t *testing.T, forms map[string]string) {
	t.Helper()
	searched := 0
	err := filepath.WalkDir(e.dataDir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		searched += len(content)
		for what, form := range forms {
			if bytes.Contains(content, []byte(form)) {
				t.Errorf("%s holds the private key (%s)", path, what)
			}
		}
		return err
	})
	if err != nil || searched < 100_000 {
		t.Errorf("%d bytes were searched, %v", searched, err)
	}
}
