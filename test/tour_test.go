package test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"verdant/estate"
	"verdant/hcert"
)

// TestOneEstate brings one estate up on the strongest driver of this machine
// and looks at it from every side. The parts share the estate, as starting
// one costs the most.
func TestOneEstate(t *testing.T) {
	e := startEstate(t, "auto")
	t.Run("certificates", func(t *testing.T) { testCertificates(t, e) })
	t.Run("refusals", func(t *testing.T) { testRefusals(t, e) })
	t.Run("vault items", func(t *testing.T) { testVaultItems(t, e) })
	t.Run("rows", func(t *testing.T) { testRows(t, e) })
	t.Run("isolation", func(t *testing.T) { testIsolation(t, e) })
	t.Run("identity", func(t *testing.T) { testIdentity(t, e) })
	t.Run("audit", func(t *testing.T) { testAudit(t, e) })
	t.Run("stock azquery", func(t *testing.T) { testAzquery(t, e) })
	t.Run("key revocation", func(t *testing.T) { testKeyRevocation(t, e) })
	t.Run("data at rest", func(t *testing.T) { testDataAtRest(t, e) })
}

// examples are the payloads that the README issues.
func examples(t *testing.T) map[string]string {
	t.Helper()
	files := map[string]string{}
	for _, kind := range []string{"vaccination", "test", "recovery"} {
		path, err := filepath.Abs(filepath.Join("..", "examples", kind+".json"))
		if err != nil {
			t.Fatal(err)
		}
		files[kind] = path
	}
	return files
}

func (e *estateUnderTest) issue(t *testing.T, file string) string {
	t.Helper()
	out := e.must("cert", "issue", "--file", file)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != 1 || !strings.HasPrefix(lines[0], hcert.Prefix) {
		t.Fatalf("issue %s: got %q, want one HC1 line", file, out)
	}
	return lines[0]
}

func testCertificates(t *testing.T, e *estateUnderTest) {
	for kind, file := range examples(t) {
		hc1 := e.issue(t, file)
		if out := e.must("cert", "verify", hc1); !strings.HasPrefix(out, "VALID: "+kind+" certificate of IE") {
			t.Errorf("verify the %s certificate: got %q", kind, out)
		}
		decoded := e.decode(t, hc1)
		if decoded.Issuer != "IE" || decoded.Payload["nam"].(map[string]any)["fn"] != "Ní Bhriain" {
			t.Errorf("decode the %s certificate: got %+v", kind, decoded)
		}
		for _, ext := range []string{".png", ".pdf", ".txt"} {
			path := filepath.Join(t.TempDir(), "cert"+ext)
			e.must("cert", "issue", "--file", file, "--out", path)
			if ext == ".pdf" {
				continue // a page for people; no reader for it here
			}
			if out := e.must("cert", "verify", path); !strings.HasPrefix(out, "VALID") {
				t.Errorf("verify %s: got %q", path, out)
			}
		}
	}
}

type decodedCertificate struct {
	KID     string         `json:"kid"`
	Issuer  string         `json:"iss"`
	Expires time.Time      `json:"exp"`
	Payload map[string]any `json:"payload"`
}

func (e *estateUnderTest) decode(t *testing.T, hc1 string) decodedCertificate {
	t.Helper()
	out, stderr, err := e.plain("cert", "decode", hc1)
	if err != nil {
		t.Fatalf("decode: %v %s", err, stderr)
	}
	var d decodedCertificate
	if err := json.Unmarshal([]byte(out), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

func testRefusals(t *testing.T, e *estateUnderTest) {
	hc1 := e.issue(t, examples(t)["vaccination"])
	expires := e.decode(t, hc1).Expires
	cases := map[string]struct {
		args []string
		want string
	}{
		"one bit changed":     {[]string{"cert", "verify", flipBit(t, hc1)}, "REFUSED: "},
		"after its expiry":    {[]string{"cert", "verify", "--at", expires.Add(time.Hour).Format(time.RFC3339), hc1}, "REFUSED: expired"},
		"before its issuance": {[]string{"cert", "verify", "--at", "2021-01-01", hc1}, "REFUSED: not yet valid"},
		"not a certificate":   {[]string{"cert", "verify", "HC1:ABC"}, "REFUSED: "},
	}
	if foreign := foreignCertificate(t); foreign != "" {
		cases["from an unknown document signer"] = struct {
			args []string
			want string
		}{[]string{"cert", "verify", foreign}, "REFUSED: unknown document signer"}
	}
	for name, c := range cases {
		out, err := e.try(c.args...)
		if exitCode(err) != 1 || !strings.HasPrefix(out, c.want) {
			t.Errorf("%s: got exit %d, %q; want exit 1, %q", name, exitCode(err), out, c.want)
		}
	}
	if out, err := e.try("cert", "issue", "--as", "citizen", "--file", examples(t)["test"]); exitCode(err) != 1 || !strings.Contains(out, "AADSTS50105") {
		t.Errorf("issue as a citizen: got exit %d, %q; want AADSTS50105", exitCode(err), out)
	}
	broken := filepath.Join(t.TempDir(), "broken.json")
	if err := os.WriteFile(broken, []byte(`{"ver":"1.3.0","nam":{"fnt":"A"},"dob":"1990-01-01","v":[{"tg":"840539006"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := e.try("cert", "issue", "--file", broken); exitCode(err) != 1 || !strings.Contains(out, "v[0]") {
		t.Errorf("issue a broken payload: got exit %d, %q; want the field v[0].…", exitCode(err), out)
	}
}

// flipBit changes one bit of the compressed certificate.
func flipBit(t *testing.T, hc1 string) string {
	t.Helper()
	raw, err := hcert.DecodeBase45(strings.TrimPrefix(hc1, hcert.Prefix))
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)/2] ^= 4
	return hcert.Prefix + hcert.EncodeBase45(raw)
}

// foreignCertificate is a well-formed certificate of another country's test
// data, or "" where the public data is absent.
func foreignCertificate(t *testing.T) string {
	raw, err := os.ReadFile("../../shared/data/dcc/SE/2DCode/raw/1.json")
	if err != nil {
		t.Log("the public test data is absent; no foreign certificate is tried")
		return ""
	}
	var vector struct{ PREFIX string }
	if err := json.Unmarshal(raw, &vector); err != nil {
		t.Fatal(err)
	}
	return vector.PREFIX
}

func testVaultItems(t *testing.T, e *estateUnderTest) {
	names := estate.NamesFor(estate.DefaultVariables())
	tables := map[estate.Region][]estate.VaultItem{estate.EU: estate.EUVaultTable(), estate.IE: estate.IEVaultTable()}
	for region, table := range tables {
		vault := "https://" + names.VaultHost(region)
		listed := map[estate.ItemType][]string{
			estate.KeyItem:         e.list(t, vault+"/keys?api-version=7.4", "kid"),
			estate.SecretItem:      e.list(t, vault+"/secrets?api-version=7.4", "id"),
			estate.CertificateItem: e.list(t, vault+"/certificates?api-version=7.4", "id"),
		}
		for _, item := range table {
			if !slices.Contains(listed[item.Type], item.Name) {
				t.Errorf("%s has no %s %s", vault, item.Type, item.Name)
			}
		}
		for _, row := range estate.CMKTable() {
			var got struct {
				Key struct {
					Kty    string   `json:"kty"`
					N      string   `json:"n"`
					KeyOps []string `json:"key_ops"`
				} `json:"key"`
			}
			out := e.must("rest", "GET", vault+"/keys/"+row.KeyName+"?api-version=7.4")
			if err := json.Unmarshal([]byte(out), &got); err != nil {
				t.Fatal(err)
			}
			slices.Sort(got.Key.KeyOps)
			if got.Key.Kty != row.KeyType || len(got.Key.N)*6/8 != row.KeySize/8 || !slices.Equal(got.Key.KeyOps, row.KeyOptions) {
				t.Errorf("%s: got %s, %d characters of n, %v", row.KeyName, got.Key.Kty, len(got.Key.N), got.Key.KeyOps)
			}
		}
	}
}

// list pages through a list of the vault and returns the items' names.
func (e *estateUnderTest) list(t *testing.T, url, idField string) []string {
	t.Helper()
	var names []string
	for url != "" {
		var page struct {
			Value    []map[string]any `json:"value"`
			NextLink string           `json:"nextLink"`
		}
		out := e.must("rest", "GET", url)
		if err := json.Unmarshal([]byte(out), &page); err != nil {
			t.Fatalf("%s: %v in %q", url, err, out)
		}
		for _, item := range page.Value {
			id, _ := item[idField].(string)
			names = append(names, id[strings.LastIndex(id, "/")+1:])
		}
		url = page.NextLink
	}
	return names
}

func testRows(t *testing.T, e *estateUnderTest) {
	status, err := e.status()
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range status.Rows {
		if row.State == "not live" {
			t.Errorf("row %s / %s / %s is not live: %s", row.Table, row.Region, row.Row, row.Detail)
		}
	}
	if status.MemoryBytes > 400<<20 {
		t.Errorf("the estate takes %d MB of memory", status.MemoryBytes>>20)
	}
}

func testDataAtRest(t *testing.T, e *estateUnderTest) {
	needles := []string{"Bhriain", "BHRIAIN", "Saoirse", "SAOIRSE", "1988-04-12", "URN:UVCI", "HC1:",
		"KeySign", "AZKVAuditLogs", "ContainerLogV2", "dgca-verifier-service\",\"", "PRIVATE KEY", "BEGIN EC", "CREATE TABLE", "SQLite format"}
	searched := 0
	err := filepath.WalkDir(e.dataDir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		searched += len(content)
		for _, needle := range needles {
			if strings.Contains(string(content), needle) {
				t.Errorf("%s holds %q in clear", path, needle)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if searched < 100_000 {
		t.Errorf("only %d bytes were searched: the estate has written nothing", searched)
	}
}
