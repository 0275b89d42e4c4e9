package keyvault_test

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/go-jose/go-jose/v4"
)

// The holders' side of a security domain, as the Azure CLI does it, written
// once more with another JOSE library. The CLI itself runs in test/keyvault.

type domainHolder struct {
	key  *rsa.PrivateKey
	cert *x509.Certificate
}

// holders are made once: three keys take their time.
var holders = sync.OnceValue(func() (all []domainHolder) {
	for i := range 3 {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			panic(err)
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: "holder"}, NotAfter: time.Unix(1<<32, 0)}
		der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
		if err != nil {
			panic(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			panic(err)
		}
		all = append(all, domainHolder{key, cert})
	}
	return all
})

func url64sum(der []byte) string {
	sum := sha256.Sum256(der)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func (h domainHolder) jwk() map[string]any {
	return map[string]any{"kty": "RSA", "alg": "RSA-OAEP-256", "key_ops": []string{"encrypt"}, "n": base64.RawURLEncoding.EncodeToString(h.key.N.Bytes()), "e": "AQAB",
		"x5c": []string{base64.StdEncoding.EncodeToString(h.cert.Raw)}, "x5t#S256": url64sum(h.cert.Raw)}
}

func downloadBody(quorum int, jwks ...map[string]any) string {
	body, _ := json.Marshal(map[string]any{"certificates": jwks, "required": quorum})
	return string(body)
}

func (w *world) download() string {
	w.t.Helper()
	all := holders()
	r := w.adminRaw("POST", "/securitydomain/download", downloadBody(2, all[0].jwk(), all[1].jwk(), all[2].jwk()))
	if r.status != 202 || !strings.HasSuffix(r.header.Get("Azure-AsyncOperation"), "/securitydomain/download/pending") {
		w.t.Fatalf("download: got %d %s", r.status, r.text)
	}
	return r.body["value"].(string)
}

type sharedDomain struct {
	EncData struct {
		Data []struct {
			JWE string `json:"compact_jwe"`
			Tag string `json:"tag"`
		} `json:"data"`
		KDF string `json:"kdf"`
	} `json:"EncData"`
	SharedKeys struct {
		Shares []struct {
			JWE        string `json:"enc_key"`
			Thumbprint string `json:"x5t_256"`
		} `json:"enc_shares"`
		Algorithm string `json:"key_algorithm"`
		Required  int    `json:"required"`
	} `json:"SharedKeys"`
}

func openJOSE(t *testing.T, compact string, alg jose.KeyAlgorithm, key any) []byte {
	t.Helper()
	jwe, err := jose.ParseEncryptedCompact(compact, []jose.KeyAlgorithm{alg}, []jose.ContentEncryption{jose.A256CBC_HS512})
	if err != nil {
		t.Fatal(err)
	}
	plain, err := jwe.Decrypt(key)
	if err != nil {
		t.Fatal(err)
	}
	return plain
}

func sealJOSE(t *testing.T, alg jose.KeyAlgorithm, key any, plain []byte) string {
	t.Helper()
	e, err := jose.NewEncrypter(jose.A256CBC_HS512, jose.Recipient{Algorithm: alg, Key: key}, nil)
	if err != nil {
		t.Fatal(err)
	}
	jwe, err := e.Encrypt(plain)
	if err != nil {
		t.Fatal(err)
	}
	compact, err := jwe.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return compact
}

func domainKDF(master []byte, label string) []byte {
	mac := hmac.New(sha512.New, master)
	mac.Write(append(append([]byte{0, 0, 0, 1}, label...), 0, 0, 0, 2, 0))
	return mac.Sum(nil)
}

// joined is Lagrange's interpolation at 0 over the field of 257 elements.
func joined(shares [][]byte) []byte {
	p := big.NewInt(257)
	var secret []byte
	for at := 0; at < len(shares[0]); at += 2 {
		sum := new(big.Int)
		for i := range shares {
			wi := binary.LittleEndian.Uint16(shares[i][at:])
			term := big.NewInt(int64(wi & 0x1ff))
			for j := range shares {
				if wj := binary.LittleEndian.Uint16(shares[j][at:]); i != j {
					term.Mul(term, big.NewInt(int64(wj>>9)))
					term.Mul(term, new(big.Int).ModInverse(new(big.Int).Mod(big.NewInt(int64(wj>>9)-int64(wi>>9)), p), p))
				}
			}
			sum.Mod(sum.Add(sum, term), p)
		}
		secret = append(secret, byte(sum.Int64()))
	}
	return secret
}

// reseal makes of a downloaded domain what goes up to the HSM with the given
// transfer key.
func reseal(t *testing.T, domain string, quorum []domainHolder, transfer string) string {
	t.Helper()
	var d sharedDomain
	if err := json.Unmarshal([]byte(domain), &d); err != nil {
		t.Fatal(err)
	}
	if d.EncData.KDF != "sp108_kdf" || d.SharedKeys.Algorithm != "shamir_share" || d.SharedKeys.Required != 2 {
		t.Fatalf("got %s", domain)
	}
	var shares [][]byte
	for _, h := range quorum {
		for _, s := range d.SharedKeys.Shares {
			if s.Thumbprint == url64sum(h.cert.Raw) {
				shares = append(shares, openJOSE(t, s.JWE, jose.RSA_OAEP_256, h.key))
			}
		}
	}
	master, fresh := joined(shares), make([]byte, 32)
	_, _ = rand.Read(fresh)
	var jwk struct {
		Chain []string `json:"x5c"`
	}
	if err := json.Unmarshal([]byte(transfer), &jwk); err != nil {
		t.Fatal(err)
	}
	der, err := base64.StdEncoding.DecodeString(jwk.Chain[0])
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	var data []map[string]string
	for _, datum := range d.EncData.Data {
		plain := openJOSE(t, datum.JWE, jose.DIRECT, domainKDF(master, datum.Tag))
		data = append(data, map[string]string{"compact_jwe": sealJOSE(t, jose.DIRECT, domainKDF(fresh, datum.Tag), plain), "tag": datum.Tag})
	}
	value, _ := json.Marshal(map[string]any{"EncData": map[string]any{"data": data, "kdf": "sp108_kdf"},
		"WrappedKey": map[string]string{"enc_key": sealJOSE(t, jose.RSA_OAEP_256, cert.PublicKey, fresh), "x5t_256": url64sum(der)}})
	body, _ := json.Marshal(map[string]string{"value": string(value)})
	return string(body)
}

// newHSM is a managed HSM that waits for its security domain.
func newHSM(w *world) {
	managed(w)
	w.cfg.NeedsActivation = true
}

func (w *world) transfer() string {
	w.t.Helper()
	r := w.adminRaw("GET", "/securitydomain/upload", "")
	if r.status != 200 || r.body["key_format"] != "jwk" {
		w.t.Fatalf("transfer key: got %d %s", r.status, r.text)
	}
	return r.body["transfer_key"].(string)
}

func TestAnHSMIsOfUseOnceItsSecurityDomainIsInItsHoldersHands(t *testing.T) {
	w := newWorld(t, newHSM)
	all := holders()
	w.adminRaw("GET", rolesPath+"roleAssignments", "").wants(t, 403, "Forbidden", "HsmNotActivated")
	w.adminRaw("PUT", "/restore", "{}").wants(t, 403, "Forbidden", "HsmNotActivated")
	w.assign(guid(1), "/", "x", pod).wants(t, 403, "Forbidden", "HsmNotActivated")
	if r := w.adminRaw("GET", "/securitydomain/download/pending", ""); r.status != 200 || r.body["status"] != "InProgress" {
		t.Errorf("got %d %s", r.status, r.text)
	}
	w.raw("POST", "/securitydomain/download?api-version=7.4", w.mint(map[string]any{"oid": pod}), "{}").wants(t, 403, "Forbidden", "ForbiddenByRbac")

	lying := all[0].jwk()
	lying["n"] = all[1].jwk()["n"]
	lying2 := all[0].jwk()
	lying2["x5t#S256"] = all[1].jwk()["x5t#S256"]
	ec := all[0].jwk()
	ec["kty"] = "EC"
	for name, body := range map[string]string{
		"nothing":                     "{}",
		"two holders":                 downloadBody(2, all[0].jwk(), all[1].jwk()),
		"one holder twice":            downloadBody(2, all[0].jwk(), all[1].jwk(), all[0].jwk()),
		"a quorum of one":             downloadBody(1, all[0].jwk(), all[1].jwk(), all[2].jwk()),
		"a quorum over all":           downloadBody(4, all[0].jwk(), all[1].jwk(), all[2].jwk()),
		"a key not its certificate's": downloadBody(2, lying, all[1].jwk(), all[2].jwk()),
		"a thumbprint of another":     downloadBody(2, lying2, all[1].jwk(), all[2].jwk()),
		"another kind of key":         downloadBody(2, ec, all[1].jwk(), all[2].jwk()),
		"too many":                    downloadBody(2, make([]map[string]any, 17)...),
	} {
		if r := w.adminRaw("POST", "/securitydomain/download", body); r.status != 400 {
			t.Errorf("%s: got %d %s", name, r.status, r.text)
		}
	}
	w.adminRaw("GET", rolesPath+"roleAssignments", "").wants(t, 403, "Forbidden", "HsmNotActivated")

	w.download()
	w.adminRaw("GET", rolesPath+"roleAssignments", "").wants(t, 200, "", "")
	// The status is asked for without a version, as its address has none.
	if r := w.raw("GET", "/securitydomain/download/pending", w.mint(map[string]any{"oid": admin}), ""); r.status != 200 || r.body["status"] != "Success" {
		t.Errorf("got %d %s", r.status, r.text)
	}
	w.raw("GET", rolesPath+"roleAssignments", w.mint(map[string]any{"oid": admin}), "").wants(t, 400, "BadParameter", "")
	w.restart()
	w.adminRaw("GET", rolesPath+"roleAssignments", "").wants(t, 200, "", "")
	// An active HSM takes no other domain.
	w.adminRaw("GET", "/securitydomain/upload", "").wants(t, 409, "Conflict", "HsmAlreadyActivated")
	w.adminRaw("POST", "/securitydomain/upload", `{"value":"{}"}`).wants(t, 409, "Conflict", "HsmAlreadyActivated")
}

func TestAKeyMovesToAnotherHSMOfTheSameSecurityDomainAndToNoOther(t *testing.T) {
	ctx := t.Context()
	old := newWorld(t, managedHSM)
	made := must(old.keys(admin).CreateKey(ctx, "k", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeEC)}, nil))(t)
	saved := must(old.keys(admin).BackupKey(ctx, "k", nil))(t)
	domain := old.download()

	stranger := newWorld(t, managedHSM)
	_, err := stranger.keys(admin).RestoreKey(ctx, azkeys.RestoreKeyParameters{KeyBackup: saved.Value}, nil)
	refused(t, err, 400, "BadParameter")

	fresh := newWorld(t, newHSM)
	fresh.adminRaw("POST", "/securitydomain/upload", `{"value":"{}"}`).wants(t, 400, "BadParameter", "") // no transfer key yet
	transfer := fresh.transfer()
	if again := fresh.transfer(); again != transfer {
		t.Error("the transfer key is another one each time")
	}
	other := newWorld(t, newHSM)
	for name, body := range map[string]string{
		"sealed for another HSM": reseal(t, domain, holders()[:2], other.transfer()),
		"the domain itself":      `{"value":` + string(must(json.Marshal(domain))(t)) + `}`,
		"nothing":                `{}`,
	} {
		if r := fresh.adminRaw("POST", "/securitydomain/upload", body); r.status != 400 {
			t.Errorf("%s: got %d %s", name, r.status, r.text)
		}
	}
	fresh.adminRaw("GET", rolesPath+"roleAssignments", "").wants(t, 403, "Forbidden", "HsmNotActivated")
	fresh.restart() // a crash in between loses nothing
	r := fresh.adminRaw("POST", "/securitydomain/upload", reseal(t, domain, holders()[1:], transfer))
	if r.status != 202 || r.body["status"] != "Success" {
		t.Fatalf("upload: got %d %s", r.status, r.text)
	}
	fresh.user(admin)
	restored := must(fresh.keys(admin).RestoreKey(ctx, azkeys.RestoreKeyParameters{KeyBackup: saved.Value}, nil))(t)
	if string(restored.Key.X) != string(made.Key.X) || restored.Key.KID.Version() != made.Key.KID.Version() {
		t.Error("the restored key is another one")
	}
	// And its own domain is the same one: what it saves opens in the old HSM.
	back := must(fresh.keys(admin).BackupKey(ctx, "k", nil))(t)
	must(old.keys(admin).DeleteKey(ctx, "k", nil))(t)
	must(old.keys(admin).PurgeDeletedKey(ctx, "k", nil))(t)
	must(old.keys(admin).RestoreKey(ctx, azkeys.RestoreKeyParameters{KeyBackup: back.Value}, nil))(t)
}

func TestSettingsOfAnHSM(t *testing.T) {
	w := newWorld(t, managed)
	const path = "/settings/AllowKeyManagementOperationsThroughARM"
	if r := w.adminRaw("GET", "/settings", ""); r.status != 200 || !strings.Contains(r.text, `"value":"false","type":"boolean"`) {
		t.Errorf("got %d %s", r.status, r.text)
	}
	if r := w.adminRaw("PATCH", path, `{"value":"true"}`); r.status != 200 || r.body["value"] != "true" {
		t.Errorf("got %d %s", r.status, r.text)
	}
	w.restart()
	if r := w.adminRaw("GET", path, ""); r.status != 200 || r.body["value"] != "true" {
		t.Errorf("got %d %s", r.status, r.text)
	}
	w.adminRaw("PATCH", path, `{"value":"maybe"}`).wants(t, 400, "BadParameter", "")
	w.adminRaw("PATCH", path, `{}`).wants(t, 400, "BadParameter", "")
	w.adminRaw("PATCH", path, `[]`).wants(t, 400, "BadParameter", "")
	w.adminRaw("PATCH", path, ``).wants(t, 400, "Nocontentprovided", "")
	w.adminRaw("PATCH", "/settings/invalid%20name", `{"value":"true"}`).wants(t, 400, "InvalidSetting", "")
	w.adminRaw("GET", "/settings/invalid%20name", "").wants(t, 400, "InvalidSetting", "")
}
