package csi

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"
)

const (
	testTenant = "d9ad8c4e-7c1b-4b0e-9a55-0b1f6e3c2a10"
	testClient = "a4d1e5f2-6b3c-4d8e-9f01-23456789abcd"
	testTokens = `{"api://AzureADTokenExchange":{"token":"SECRETTOKEN","expirationTimestamp":"2026-01-01T00:00:00Z"}}`
)

func attributes(change map[string]string) string {
	all := map[string]string{"keyvaultName": "eudcc-ie-kv-g1", "tenantId": testTenant, "clientID": testClient, "usePodIdentity": "false",
		"csi.storage.k8s.io/pod.name": "web", "csi.storage.k8s.io/pod.namespace": "dgc", "csi.storage.k8s.io/serviceAccount.tokens": testTokens,
		"csi.storage.k8s.io/ephemeral": "true", "objects": "array:\n  - |\n    objectName: a\n    objectType: secret\n"}
	maps.Copy(all, change)
	raw, _ := json.Marshal(all)
	return string(raw)
}

func one(yaml string) map[string]string {
	return map[string]string{"objects": "array:\n  - |\n    " + strings.ReplaceAll(yaml, "\n", "\n    ")}
}

func TestAClassIsReadAsTheAzureProviderReadsIt(t *testing.T) {
	c, err := parseClass(&MountRequest{Permission: "420", Secrets: "null", Attributes: attributes(map[string]string{"objects": `
array:
  - |
    objectName: secret1
    objectAlias: conf/SECRET_1
    objectType: secret
    objectVersion: ""
    filePermission: 0400
  - |
    objectName: " key1 "
    objectType: Key
    objectVersion: 0123456789abcdef0123456789abcdef
  - "objectName: cert1\nobjectType: cert\nobjectVersion: latest\nobjectVersionHistory: 5"
  - |
    objectName: bundle
    objectType: secret
    objectFormat: PFX
    objectEncoding: base64
`})})
	if err != nil {
		t.Fatal(err)
	}
	if c.vault != "https://eudcc-ie-kv-g1.vault.azure.net" || c.tenant != testTenant || c.clientID != testClient || c.token != "SECRETTOKEN" || c.pod != "dgc/web" {
		t.Errorf("got %+v", c)
	}
	var got []string
	for _, o := range c.objects {
		got = append(got, fmt.Sprintf("%s %s %s %q %d %s %s %o", o.id(), o.file(), o.Type, o.Version, o.History, o.Format, o.Encoding, o.mode))
	}
	want := []string{
		`secret/secret1 conf/SECRET_1 secret "" 0 pem utf-8 400`,
		`key/key1 key1 key "0123456789abcdef0123456789abcdef" 0 pem utf-8 644`,
		`cert/cert1 cert1 cert "" 5 pem utf-8 644`,
		`secret/bundle bundle secret "" 0 pfx base64 644`,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for cloud, host := range map[string]string{"AzurePublicCloud": "vault.azure.net", "AzureChinaCloud": "vault.azure.cn", "AZUREUSGOVERNMENTCLOUD": "vault.usgovcloudapi.net"} {
		if c, err := parseClass(&MountRequest{Attributes: attributes(map[string]string{"cloudName": cloud})}); err != nil || c.vault != "https://eudcc-ie-kv-g1."+host {
			t.Errorf("%s: got %s, %v", cloud, c.vault, err)
		}
	}
}

func TestAClassThatLeadsElsewhereIsRefused(t *testing.T) {
	object := func(field, value string) map[string]string {
		return one("objectName: a\nobjectType: secret\n" + field + ": " + value)
	}
	for name, c := range map[string]struct {
		change map[string]string
		want   string
	}{
		"a file above the mount":          {object("objectAlias", "../etc/passwd"), "plain path"},
		"a file above, later":             {object("objectAlias", "a/../../b"), "plain path"},
		"an absolute file":                {object("objectAlias", "/etc/passwd"), "plain path"},
		"the mount itself":                {object("objectAlias", "."), "not the name"},
		"the driver's own entries":        {object("objectAlias", "..data"), "plain path"},
		"the driver's own entries, below": {object("objectAlias", "a/..2026_01"), "plain path"},
		"a path of Windows":               {object("objectAlias", `'a\..\..\b'`), "plain path"},
		"a drive of Windows":              {object("objectAlias", "'c:x'"), "plain path"},
		"a path that is not clean":        {object("objectAlias", "a//b"), "plain path"},
		"a directory":                     {object("objectAlias", "a/"), "plain path"},
		"a name with a zero byte":         {object("objectAlias", `"a\0b"`), "plain path"},
		"a name that no file has":         {object("objectAlias", strings.Repeat("a", 256)), "plain path"},
		"an object that is a path":        {one("objectName: ../keys/k\nobjectType: secret"), "objectName"},
		"an object with a query":          {one("objectName: a?x=1\nobjectType: secret"), "objectName"},
		"a version that is a path":        {object("objectVersion", "../../keys/k"), "objectVersion"},
		"a vault that is a host":          {map[string]string{"keyvaultName": "evil.example/"}, "keyvaultName"},
		"a vault with a port":             {map[string]string{"keyvaultName": "a:443"}, "keyvaultName"},
		"no vault":                        {map[string]string{"keyvaultName": ""}, "keyvaultName"},
		"a cloud of one's own":            {map[string]string{"cloudName": "AzureStackCloud"}, "cloudName"},
		"a cloud from a file":             {map[string]string{"cloudEnvFileName": "/etc/x"}, "cloudEnvFileName"},
		"a set-user-id file":              {object("filePermission", `"4755"`), "filePermission"},
		"a mode that is none":             {object("filePermission", `"rw"`), "filePermission"},
		"an unknown type":                 {one("objectName: a\nobjectType: certificate"), "objectType"},
		"no type":                         {one("objectName: a"), "objectType"},
		"an unknown format":               {object("objectFormat", "jks"), "objectFormat"},
		"a public key as PFX":             {one("objectName: a\nobjectType: key\nobjectFormat: pfx"), "objectFormat"},
		"an unknown encoding":             {object("objectEncoding", "rot13"), "objectEncoding"},
		"an encoded certificate":          {one("objectName: a\nobjectType: cert\nobjectEncoding: hex"), "objectEncoding"},
		"too much history":                {object("objectVersionHistory", "101"), "objectVersionHistory"},
		"negative history":                {object("objectVersionHistory", "-1"), "objectVersionHistory"},
		"a misspelt key":                  {object("objectVersoin", "x"), "not known"},
		"a misspelt parameter":            {map[string]string{"keyVaultName": "x"}, "not known"},
		"no objects":                      {map[string]string{"objects": ""}, "objects"},
		"an empty array":                  {map[string]string{"objects": "array: []"}, "empty"},
		"objects that are maps":           {map[string]string{"objects": "array:\n- objectName: a"}, "array"},
		"too many objects":                {map[string]string{"objects": "array:" + strings.Repeat("\n- 'objectName: a\n\n  objectType: secret'", 101)}, "too many"},
		"YAML that grows":                 {map[string]string{"objects": "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\narray: [*b]"}, "array"},
		"withdrawn pod identity":          {map[string]string{"usePodIdentity": "true"}, "withdrawn"},
		"a flag that is none":             {map[string]string{"useVMManagedIdentity": "perhaps"}, "neither"},
		"no tenant":                       {map[string]string{"tenantId": ""}, "tenantId"},
		"a tenant that is a path":         {map[string]string{"tenantId": "../common"}, "tenantId"},
		"no identity":                     {map[string]string{"clientID": ""}, "clientID"},
		"no token":                        {map[string]string{"csi.storage.k8s.io/serviceAccount.tokens": ""}, "no service account token"},
		"a token for somebody else":       {map[string]string{"csi.storage.k8s.io/serviceAccount.tokens": `{"vault":{"token":"SECRETTOKEN"}}`}, "no service account token"},
	} {
		_, err := parseClass(&MountRequest{Attributes: attributes(c.change)})
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "SECRETTOKEN") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	for name, r := range map[string]*MountRequest{
		"attributes that are no JSON":      {Attributes: "x"},
		"attributes and more":              {Attributes: attributes(nil) + "{}"},
		"a service principal's password":   {Attributes: attributes(nil), Secrets: `{"clientid":"a","clientsecret":"SECRETTOKEN"}`},
		"secrets that are no JSON":         {Attributes: attributes(nil), Secrets: "SECRETTOKEN"},
		"a permission with set-user-id":    {Attributes: attributes(nil), Permission: "2541"},
		"a permission that is no number":   {Attributes: attributes(nil), Permission: "rw"},
		"attributes that are much too big": {Attributes: strings.Repeat(" ", maxAttributes+1)},
	} {
		if _, err := parseClass(r); err == nil || strings.Contains(err.Error(), "SECRETTOKEN") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestFilesMayNotStandInEachOthersWay(t *testing.T) {
	for name, c := range map[string]struct {
		paths []string
		ok    bool
	}{
		"different":                {[]string{"a", "b", "c/d", "c/e"}, true},
		"the same":                 {[]string{"a", "b", "a"}, false},
		"a file and its directory": {[]string{"a/0", "a"}, false},
		"deeper":                   {[]string{"a", "a/b/c"}, false},
	} {
		var files []File
		for _, p := range c.paths {
			files = append(files, File{Path: p})
		}
		if err := checkFiles(files); (err == nil) != c.ok {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// FuzzClass: whatever is accepted names files below the mount and a vault of a
// known cloud.
func FuzzClass(f *testing.F) {
	f.Add(attributes(nil), "", "420")
	f.Add(attributes(map[string]string{"objects": "array: ['objectName: a\n\n  objectType: key\n\n  objectAlias: x/y']"}), "{}", "")
	f.Add("{}", "null", "0")
	f.Fuzz(func(t *testing.T, attributes, secrets, permission string) {
		c, err := parseClass(&MountRequest{Attributes: attributes, Secrets: secrets, Permission: permission})
		if err != nil {
			return
		}
		if host, ok := strings.CutPrefix(c.vault, "https://"); !ok || strings.ContainsAny(host, "/@:?#") {
			t.Errorf("vault %q", c.vault)
		}
		for _, o := range c.objects {
			for element := range strings.SplitSeq(o.file(), "/") {
				if element == "" || element == "." || strings.HasPrefix(element, "..") {
					t.Errorf("file %q", o.file())
				}
			}
			if o.mode < 0 || o.mode > 0o777 {
				t.Errorf("mode %o", o.mode)
			}
		}
	})
}
