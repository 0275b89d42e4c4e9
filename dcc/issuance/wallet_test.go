package issuance

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"verdant/dcc/wire"
)

// wallet is a holder's wallet with a certificate.
type wallet struct {
	w       *world
	issued  wire.Issued
	hash    [32]byte
	key     crypto.Signer
	private *httptest.Server
	public  *httptest.Server
}

func newWallet(t *testing.T) *wallet {
	t.Helper()
	w := newWorld(t)
	h := &wallet{w: w, key: w.newKey(), private: w.serve(Private, nil), public: w.serve(Public, nil)}
	w.issue(h.private, vaccination).into(t, &h.issued)
	h.hash = w.verify(h.issued.QRCode).Sign1().Hash()
	return h
}

// claim makes the body of a claim with a TAN.
func (h *wallet) claim(tan string) wire.Claim {
	h.w.t.Helper()
	spki, err := x509.MarshalPKIXPublicKey(h.key.Public())
	if err != nil {
		h.w.t.Fatal(err)
	}
	c := wire.Claim{DGCI: h.issued.DGCI, CertHash: base64.StdEncoding.EncodeToString(h.hash[:]), TANHash: tanHash(tan),
		PublicKey: wire.WalletKey{Type: "EC", Value: base64.StdEncoding.EncodeToString(spki)}, SigAlg: "SHA256withECDSA"}
	if _, ok := h.key.(*rsa.PrivateKey); ok {
		c.PublicKey.Type, c.SigAlg = "RSA", "SHA256withRSA"
	}
	digest := sha256.Sum256([]byte(c.TANHash + c.CertHash + c.PublicKey.Value))
	sig, err := h.key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		h.w.t.Fatal(err)
	}
	c.Signature = base64.StdEncoding.EncodeToString(sig)
	return c
}

func (h *wallet) send(c wire.Claim) reply {
	h.w.t.Helper()
	body, err := json.Marshal(c)
	if err != nil {
		h.w.t.Fatal(err)
	}
	return h.w.send(h.public, "POST", "/dgci/wallet/claim", "", string(body))
}

func (h *wallet) did(method string) reply {
	h.w.t.Helper()
	sum := sha256.Sum256([]byte(h.issued.DGCI))
	return h.w.send(h.public, method, "/dgci/"+base64.RawURLEncoding.EncodeToString(sum[:]), "", "")
}

func TestAClaimBindsACertificateToAWalletAndUsesTheTANUp(t *testing.T) {
	h := newWallet(t)
	var doc wire.DIDDocument
	h.did("GET").into(t, &doc)
	if len(doc.Authentication) != 0 {
		t.Errorf("before: bound to %v", doc.Authentication)
	}
	if got := h.did("HEAD"); got.status != 204 {
		t.Errorf("HEAD: got %d", got.status)
	}
	var first, second wire.Claimed
	h.send(h.claim(h.issued.TAN)).into(t, &first)
	if first.TAN == h.issued.TAN || len(first.TAN) != tanLength {
		t.Errorf("next TAN: %d characters, the same %v", len(first.TAN), first.TAN == h.issued.TAN)
	}
	h.did("GET").into(t, &doc)
	point, _ := h.key.Public().(*ecdsa.PublicKey).Bytes()
	if len(doc.Authentication) != 1 || doc.Authentication[0].PublicKeyJSW["x"] != base64.RawURLEncoding.EncodeToString(point[1:33]) {
		t.Errorf("after: got %+v", doc)
	}
	if got := h.send(h.claim(h.issued.TAN)); got.status != 400 || got.code() != "WrongTAN" {
		t.Errorf("the used TAN: got %d %s", got.status, got.body)
	}
	h.w.pass(30 * 24 * time.Hour) // later claims have no time limit
	h.key = rsaKey()
	h.send(h.claim(first.TAN)).into(t, &second)
	h.did("GET").into(t, &doc)
	if doc.Authentication[0].PublicKeyJWK["kty"] != "RSA" {
		t.Errorf("rebound: got %+v", doc)
	}
}

func TestTheFifthClaimAfterFourWrongTANsIsBlocked(t *testing.T) {
	h := newWallet(t)
	for i := range maxWrongTANs - 1 {
		if got := h.send(h.claim("WRONGTAN")); got.code() != "WrongTAN" {
			t.Fatalf("attempt %d: got %d %s", i+1, got.status, got.body)
		}
	}
	var ok wire.Claimed
	h.send(h.claim(h.issued.TAN)).into(t, &ok) // success resets the counter
	for i := range maxWrongTANs {
		if got := h.send(h.claim("WRONGTAN")); got.code() != "WrongTAN" {
			t.Fatalf("attempt %d after a success: got %d %s", i+1, got.status, got.body)
		}
	}
	if got := h.send(h.claim(ok.TAN)); got.status != 400 || got.code() != "Blocked" {
		t.Errorf("the right TAN after %d wrong ones: got %d %s", maxWrongTANs, got.status, got.body)
	}
}

func TestConcurrentGuessesDoNotSlipUnderTheLimit(t *testing.T) {
	h := newWallet(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	got := map[string]int{}
	for range 20 {
		wg.Go(func() {
			r := h.send(h.claim("WRONGTAN"))
			mu.Lock()
			defer mu.Unlock()
			got[r.code()]++
		})
	}
	wg.Wait()
	if got["WrongTAN"] != maxWrongTANs || got["Blocked"] != 20-maxWrongTANs {
		t.Errorf("got %v", got)
	}
}

func TestOneTANServesOneOfTwoClaims(t *testing.T) {
	h := newWallet(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for range 4 {
		wg.Go(func() {
			if r := h.send(h.claim(h.issued.TAN)); r.status == 200 {
				mu.Lock()
				defer mu.Unlock()
				won++
			}
		})
	}
	wg.Wait()
	if won != 1 {
		t.Errorf("%d claims succeeded", won)
	}
}

func TestTheDatabaseDecidesBetweenTwoThatSawTheSameRecord(t *testing.T) {
	w := newWorld(t)
	s, err := openStore(t.Context(), w.db)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.insert(t.Context(), record{dgciHash: "a", created: began, expires: began}); err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{true, false} {
		if got, err := s.finish(t.Context(), "a", "hash", "tan"); err != nil || got != want {
			t.Errorf("signature %d: got %v, %v", i+1, got, err)
		}
	}
	for i, want := range []bool{true, false} {
		if got, err := s.claim(t.Context(), "a", "tan", "next", []byte("key")); err != nil || got != want {
			t.Errorf("claim %d: got %v, %v", i+1, got, err)
		}
	}
}

func TestAClaimThatIsNotInOrderIsRefused(t *testing.T) {
	h := newWallet(t)
	good := h.claim(h.issued.TAN)
	with := func(f func(*wire.Claim)) wire.Claim { c := good; f(&c); return c }
	for _, tt := range []struct {
		name   string
		claim  wire.Claim
		status int
		code   string
	}{
		{"an unknown DGCI", with(func(c *wire.Claim) { c.DGCI = "URN:UVCI:01:IE:X" }), 404, "NotFound"},
		{"no DGCI", with(func(c *wire.Claim) { c.DGCI = "" }), 400, "InvalidClaim"},
		{"a changed hash", with(func(c *wire.Claim) { c.CertHash = "AAAA" }), 400, "InvalidClaim"},
		{"a changed signature", with(func(c *wire.Claim) { c.Signature = "AAAA" }), 400, "InvalidClaim"},
		{"another algorithm", with(func(c *wire.Claim) { c.SigAlg = "SHA1withECDSA" }), 400, "InvalidClaim"},
		{"an algorithm of another key", with(func(c *wire.Claim) { c.SigAlg = "SHA256withRSA" }), 400, "InvalidClaim"},
		{"a short algorithm", with(func(c *wire.Claim) { c.SigAlg = "SHA256" }), 400, "InvalidClaim"},
		{"another type of key", with(func(c *wire.Claim) { c.PublicKey.Type = "RSA" }), 400, "InvalidClaim"},
		{"no key", with(func(c *wire.Claim) { c.PublicKey.Value = "AAAA" }), 400, "InvalidClaim"},
	} {
		if got := h.send(tt.claim); got.status != tt.status || got.code() != tt.code {
			t.Errorf("%s: got %d %s, want %d %s", tt.name, got.status, got.body, tt.status, tt.code)
		}
	}
	saved := h.hash
	h.hash = [32]byte{1}
	if got := h.send(h.claim(h.issued.TAN)); got.code() != "WrongCertificate" {
		t.Errorf("another certificate's hash, well signed: got %d %s", got.status, got.body)
	}
	h.hash = saved
	h.w.pass(48*time.Hour + time.Second)
	if got := h.send(h.claim(h.issued.TAN)); got.code() != "TANExpired" {
		t.Errorf("after 48 hours: got %d %s", got.status, got.body)
	}
	h.w.pass(-time.Hour)
	if _, err := h.w.db.ExecContext(t.Context(), `UPDATE dgci SET locked = 1 WHERE dgci_hash = ?`, hashOf(h.issued.DGCI)); err != nil {
		t.Fatal(err)
	}
	if got := h.send(h.claim(h.issued.TAN)); got.code() != "Locked" {
		t.Errorf("locked: got %d %s", got.status, got.body)
	}
	if got := h.did("HEAD"); got.status != 423 {
		t.Errorf("HEAD of a locked one: got %d", got.status)
	}
	for _, path := range []string{"/dgci/abc", "/dgci/" + strings.Repeat("A", 43)} {
		if got := h.w.send(h.public, "GET", path, "", ""); got.status != 404 {
			t.Errorf("%s: got %d", path, got.status)
		}
	}
}

func TestTANsUseTheirWholeAlphabet(t *testing.T) {
	seen := map[rune]bool{}
	for range 200 {
		tan, err := newTAN(rand.Reader)
		if err != nil || len(tan) != tanLength {
			t.Fatalf("got %d characters, %v", len(tan), err)
		}
		for _, c := range tan {
			seen[c] = true
		}
	}
	if len(seen) != 32 {
		t.Errorf("%d symbols of 32", len(seen))
	}
}

func FuzzCheckClaim(f *testing.F) {
	f.Add("URN", "AA", "SHA256withECDSA", "AAAA", "EC")
	f.Fuzz(func(t *testing.T, dgci, hash, alg, value, kind string) {
		if _, err := checkClaim(wire.Claim{DGCI: dgci, CertHash: hash, TANHash: hash, SigAlg: alg, Signature: value, PublicKey: wire.WalletKey{Type: kind, Value: value}}); err == nil {
			t.Error("a claim without a signature passed")
		}
	})
}
