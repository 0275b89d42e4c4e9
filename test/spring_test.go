package test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"verdant/estate"
	"verdant/test/parts"
)

// TestASpringApplicationStartsFromTheVault starts a Spring Boot application
// with Microsoft's unpatched starter inside pods: its properties come from the
// region's vault by the pod's managed identity, which has roles on single
// secrets and on nothing else.
func TestASpringApplicationStartsFromTheVault(t *testing.T) {
	guideShowsTheProperties(t)
	full(t)
	parts.Need(t, "javac", "mvn")
	app := springApplication(t)
	e := startEstate(t, "auto")
	if !isolated(t, e) {
		t.Skip("this machine has no namespaces: a pod of the loopback driver is not apart from the host")
	}
	names := estate.NamesFor(estate.DefaultVariables())
	for _, c := range []struct {
		pod        string
		region     estate.Region
		properties map[string]string // to secrets
	}{
		{"dgca-issuance-service", estate.IE, map[string]string{
			"dgc.gateway.connector.trustAnchor.alias":      "dgc-gateway-connector-trustanchor-alias",
			"dgc.gateway.connector.trustAnchor.password":   "dgc-gateway-connector-trustanchor-password",
			"dgc.gateway.connector.tlsTrustStore.password": "dgc-gateway-connector-tlstruststore-password",
			"dgc.gateway.connector.tlsKeyStore.alias":      "dgc-gateway-connector-tlskeystore-alias",
			"dgc.gateway.connector.uploadKeyStore.alias":   "dgc-gateway-connector-uploadkeystore-alias",
			"issuance.certAlias":                           "issuance-certalias",
		}},
		{"dgc-gateway", estate.EU, map[string]string{"dgc.trustAnchor.certificateAlias": "dgc-trustanchor-certificatealias"}},
	} {
		var keys []string
		for _, secret := range c.properties {
			keys = append(keys, secret)
		}
		out, err := e.spring(t, app, c.pod, keys...)
		if err != nil {
			t.Fatalf("%s: %v\n%s", c.pod, err, out)
		}
		for property, secret := range c.properties {
			want := sha256.Sum256([]byte(e.secret(t, c.pod, "https://"+names.VaultHost(c.region)+"/secrets/"+secret)))
			if !strings.Contains(out, "vault-property "+property+" "+hex.EncodeToString(want[:])+"\n") {
				t.Errorf("%s: the property %s is not the secret %s:\n%s", c.pod, property, secret, out)
			}
		}
		if got := strings.Count(out, "vault-property "); got != len(c.properties) {
			t.Errorf("%s: got %d properties, want %d:\n%s", c.pod, got, len(c.properties), out)
		}
	}
	// Another pod's identity does not get the application that far.
	out, err := e.spring(t, app, "dgca-verifier-service", "issuance-certalias")
	if err == nil || !strings.Contains(out, "ForbiddenByRbac") || strings.Contains(out, "vault-property ") {
		t.Errorf("dgca-verifier-service starts with a secret of the issuance service: %v\n%s", err, out)
	}
}

// guideShowsTheProperties holds the guide's lines against the application's.
func guideShowsTheProperties(t *testing.T) {
	guide, err := os.ReadFile("../docs/guide.md")
	if err != nil {
		t.Fatal(err)
	}
	used, err := os.ReadFile("spring/application.properties")
	if err != nil {
		t.Fatal(err)
	}
	_, shown, ok := strings.Cut(string(guide), "```properties\n")
	shown, _, closed := strings.Cut(shown, "```")
	if !ok || !closed || shown == "" || !strings.Contains(string(used), shown) {
		t.Errorf("the guide's properties are not those of test/spring/application.properties:\n%s", shown)
	}
}

// springApplication is the application and its libraries as a tar archive.
func springApplication(t *testing.T) []byte {
	source, err := filepath.Abs("spring")
	if err != nil {
		t.Fatal(err)
	}
	pom := filepath.Join(source, "pom.xml")
	libraries := parts.Install(t, "spring", pom, func(dir string) [][]string { return [][]string{parts.Maven(pom, filepath.Join(dir, "lib"))} })
	classes := t.TempDir()
	if out, err := exec.Command("javac", "-parameters", "-cp", filepath.Join(libraries, "lib")+"/*", "-d", classes, filepath.Join(source, "App.java")).CombinedOutput(); err != nil {
		t.Fatalf("javac: %v\n%s", err, out)
	}
	properties, err := os.ReadFile(filepath.Join(source, "application.properties"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(classes, "application.properties"), properties, 0o644); err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for name, dir := range map[string]string{"lib": filepath.Join(libraries, "lib"), "classes": classes} {
		addTree(t, w, name, dir)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return archive.Bytes()
}

func addTree(t *testing.T, w *tar.Writer, name, dir string) {
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(filepath.Join(dir, path))
		if err != nil {
			return err
		}
		if err := w.WriteHeader(&tar.Header{Name: name + "/" + path, Mode: 0o644, Size: int64(len(data))}); err != nil {
			return err
		}
		_, err = w.Write(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// spring starts the application in a pod, with properties from the secrets of
// the pod's vault, in a directory of the pod's own that goes with the pod.
func (e *estateUnderTest) spring(t *testing.T, app []byte, pod string, secrets ...string) (string, error) {
	t.Helper()
	if _, stderr, err := e.run(app, "exec", pod, "--", "/bin/sh", "-c", "mkdir -p /tmp/app && tar -x -C /tmp/app"); err != nil {
		t.Fatalf("copy the application into %s: %v\n%s", pod, err, stderr)
	}
	return e.try("exec", pod, "--", "/usr/bin/java", "-Xmx128m", "-XX:TieredStopAtLevel=1", "-cp", "/tmp/app/classes:/tmp/app/lib/*", "verdant.app.App",
		"--vault-secrets="+strings.Join(secrets, ","))
}

// secret reads a secret with the identity of a pod.
func (e *estateUnderTest) secret(t *testing.T, pod, url string) string {
	t.Helper()
	out, err := e.podRequest(pod, "GET", url+"?api-version=7.4", "")
	var answer struct{ Value string }
	if _, body, ok := strings.Cut(out, "{"); err != nil || !ok || json.Unmarshal([]byte("{"+body), &answer) != nil || answer.Value == "" {
		t.Fatalf("%s: %v", url, err)
	}
	return answer.Value
}
