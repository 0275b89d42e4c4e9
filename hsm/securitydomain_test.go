package hsm

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"
)

var errShares = errors.New("the shares do not belong together")

// joinSecret is what the holders of shares do: with exactly a quorum of them it
// gives the secret back.
func joinSecret(shares [][]byte) ([]byte, error) {
	if len(shares) < minQuorum || len(shares) > maxShares {
		return nil, errShares
	}
	secret := make([]byte, 0, len(shares[0])/2)
	for at := 0; at < len(shares[0]); at += 2 {
		var xs, vs [maxShares]uint32
		for i, share := range shares {
			if len(share) != len(shares[0]) || len(share)%2 != 0 {
				return nil, errShares
			}
			word := uint32(binary.LittleEndian.Uint16(share[at:]))
			xs[i], vs[i] = word>>9, word&0x1ff
		}
		b, ok := interpolate(xs[:len(shares)], vs[:len(shares)])
		if !ok {
			clear(secret)
			return nil, errShares
		}
		secret = append(secret, b)
	}
	return secret, nil
}

// interpolate evaluates at 0 the polynomial through the points.
func interpolate(xs, vs []uint32) (byte, bool) {
	sum := uint32(0)
	for i := range xs {
		over, under := uint32(1), uint32(1)
		for j := range xs {
			if i != j {
				over = over * xs[j] % shareField
				under = under * ((xs[j] + shareField - xs[i]) % shareField) % shareField
			}
		}
		if under == 0 || xs[i] == 0 || vs[i] >= shareField { // a number twice, or none
			return 0, false
		}
		sum = (sum + vs[i]*over%shareField*inverse(under)) % shareField
	}
	return byte(sum), sum < 256
}

// inverse is x^255, by Fermat's little theorem.
func inverse(x uint32) uint32 {
	r := x
	for range 7 {
		r = r * r % shareField * x % shareField
	}
	return r
}

func TestAQuorumOfSharesGivesTheSecretBackAndFewerDoNot(t *testing.T) {
	secret := make([]byte, 256)
	for i := range secret {
		secret[i] = byte(i) // every value of a byte
	}
	for n := MinHolders; n <= maxShares; n++ {
		for quorum := minQuorum; quorum <= n; quorum++ {
			shares, err := splitSecret(secret, n, quorum)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := joinSecret(shares[n-quorum:]); err != nil || !bytes.Equal(got, secret) {
				t.Errorf("the last %d of %d: got %x, %v", quorum, n, got, err)
			}
			if got, err := joinSecret(shares[:quorum]); err != nil || !bytes.Equal(got, secret) {
				t.Errorf("the first %d of %d: got %x, %v", quorum, n, got, err)
			}
			if quorum > minQuorum {
				if got, err := joinSecret(shares[:quorum-1]); err == nil && bytes.Equal(got, secret) {
					t.Errorf("%d shares of a quorum of %d were enough", quorum-1, quorum)
				}
			}
		}
	}
	for _, c := range []struct{ n, quorum int }{{3, 1}, {3, 4}, {11, 2}} {
		if _, err := splitSecret(secret, c.n, c.quorum); !errors.Is(err, ErrSpec) {
			t.Errorf("%d of %d: got %v", c.quorum, c.n, err)
		}
	}
}

// One share of a quorum of two is uniform over the field whatever the secret.
func TestOneShareSaysNothingAboutTheSecret(t *testing.T) {
	const rounds = 257 * 100
	for _, secret := range []byte{0, 255} {
		counts := make([]int, shareField)
		shares, err := splitSecret(bytes.Repeat([]byte{secret}, rounds), 3, 2)
		if err != nil {
			t.Fatal(err)
		}
		for at := 0; at < len(shares[0]); at += 2 {
			counts[binary.LittleEndian.Uint16(shares[0][at:])&0x1ff]++
		}
		chi := 0.0
		for _, c := range counts {
			chi += float64((c-100)*(c-100)) / 100
		}
		if chi > 400 { // 256 degrees of freedom: over 400 once in 10^7
			t.Errorf("secret %d: chi square %.0f", secret, chi)
		}
	}
}

func TestTheKeyDerivationIsSP800108(t *testing.T) {
	// The vector that the Azure CLI checks itself with.
	got := hex.EncodeToString(deriveSP800108(bytes.Repeat([]byte{0x41}, 32), "label", "context", 256))
	if want := "f0ca51f6308791404bf68b56024ee7c64d6c737716f81d47e1e68b5c4e399575"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func software(t testing.TB) *Software {
	t.Helper()
	s, err := OpenSoftware(t.Context(), t.TempDir(), [32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// holder has one of the private keys that a security domain is split over.
type holder struct {
	key  *rsa.PrivateKey
	cert *x509.Certificate
}

func newHolder(t *testing.T, bits int) holder {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return holder{key, certify(t, &key.PublicKey, key)}
}

func certify(t *testing.T, pub crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "holder"}, NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<32, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, pub, key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// reseal does what the holders do with the Azure CLI: open the domain with a
// quorum of their keys and seal it for a transfer key.
func reseal(t *testing.T, domain []byte, holders []holder, transfer *x509.Certificate) ([]byte, error) {
	t.Helper()
	var d securityDomain
	if err := json.Unmarshal(domain, &d); err != nil {
		t.Fatal(err)
	}
	var shares [][]byte
	for _, h := range holders {
		for _, s := range d.SharedKeys.Shares {
			if s.Thumbprint != thumbprint(h.cert) {
				continue
			}
			share, err := openJWE(s.EncKey, "RSA-OAEP-256", func(wrapped []byte) ([]byte, error) {
				return rsa.DecryptOAEP(sha256.New(), nil, h.key, wrapped, nil)
			})
			if err != nil {
				return nil, err
			}
			shares = append(shares, share)
		}
	}
	master, err := joinSecret(shares)
	if err != nil {
		return nil, err
	}
	record, err := openJWE(d.EncData.Data[0].JWE, "dir", func([]byte) ([]byte, error) { return domainKey(master, d.EncData.Data[0].Tag), nil })
	if err != nil {
		return nil, err
	}
	fresh := bytes.Repeat([]byte{9}, 32)
	var u domainUpload
	if u.EncData, err = sealDomain(fresh, record); err != nil {
		return nil, err
	}
	u.WrappedKey.Thumbprint = thumbprint(transfer)
	if u.WrappedKey.EncKey, err = sealTo(transfer.PublicKey.(*rsa.PublicKey), fresh, "not used"); err != nil {
		return nil, err
	}
	return json.Marshal(u)
}

func TestASecurityDomainTakesTheRootOfBackupsToAnotherToken(t *testing.T) {
	ctx := t.Context()
	old, fresh := software(t), software(t)
	if _, err := old.Generate(ctx, "root", KeySpec{Type: Oct, Bits: 256}); err != nil {
		t.Fatal(err)
	}
	if _, err := old.Generate(ctx, "k", KeySpec{Type: EC, Curve: P256}); err != nil {
		t.Fatal(err)
	}
	backup, err := old.Backup(ctx, "k", "root", nil)
	if err != nil {
		t.Fatal(err)
	}
	holders := []holder{newHolder(t, 2048), newHolder(t, 2048), newHolder(t, 2048)}
	domain, err := old.ExportDomain(ctx, "root", []*x509.Certificate{holders[0].cert, holders[1].cert, holders[2].cert}, 2)
	if err != nil {
		t.Fatal(err)
	}
	if root, _ := old.find(ctx, "root"); bytes.Contains(domain, root.m.oct) || bytes.Contains(domain, []byte(base64.RawURLEncoding.EncodeToString(root.m.oct))) {
		t.Error("the domain holds the root in the clear")
	}
	transfer, err := fresh.Generate(ctx, "transfer", KeySpec{Type: RSA, Bits: 2048})
	if err != nil {
		t.Fatal(err)
	}
	cert := certify(t, transfer.Public(), transfer)
	if _, err := reseal(t, domain, holders[1:2], cert); err == nil {
		t.Error("one holder of a quorum of two opened the domain")
	}
	upload, err := reseal(t, domain, holders[1:], cert)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fresh.ImportDomain(ctx, "new-root", transfer, cert, upload); err != nil {
		t.Fatal(err)
	}
	if _, err := fresh.Restore(ctx, "k", "new-root", backup, nil); err != nil {
		t.Errorf("restore under the same domain: %v", err)
	}
	if _, err := fresh.ImportDomain(ctx, "new-root", transfer, cert, upload); !errors.Is(err, ErrExists) {
		t.Errorf("a second import under the id: got %v", err)
	}
	stranger := software(t)
	if _, err := stranger.Generate(ctx, "root", KeySpec{Type: Oct, Bits: 256}); err != nil {
		t.Fatal(err)
	}
	if _, err := stranger.Restore(ctx, "k", "root", backup, nil); !errors.Is(err, ErrMaterial) {
		t.Errorf("restore under another domain: got %v", err)
	}

	t.Run("attacks on the upload", func(t *testing.T) {
		other := newHolder(t, 2048)
		for name, change := range map[string]func(*domainUpload){
			"sealed for another certificate": func(u *domainUpload) { u.WrappedKey.Thumbprint = thumbprint(other.cert) },
			"another derivation":             func(u *domainUpload) { u.EncData.KDF = "none" },
			"a datum of another tag":         func(u *domainUpload) { u.EncData.Data[0].Tag = "other" },
			"no datum":                       func(u *domainUpload) { u.EncData.Data = nil },
			"a changed datum":                func(u *domainUpload) { u.EncData.Data[0].JWE = flip(u.EncData.Data[0].JWE, 3) },
			"a changed tag of a datum":       func(u *domainUpload) { u.EncData.Data[0].JWE = flip(u.EncData.Data[0].JWE, 4) },
			"a changed wrapped key":          func(u *domainUpload) { u.WrappedKey.EncKey = flip(u.WrappedKey.EncKey, 1) },
			"no wrapped key":                 func(u *domainUpload) { u.WrappedKey.EncKey = "" },
			"another algorithm": func(u *domainUpload) {
				u.EncData.Data[0].JWE = base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","enc":"A256CBC-HS512"}`)) + u.EncData.Data[0].JWE[strings.IndexByte(u.EncData.Data[0].JWE, '.'):]
			},
		} {
			var u domainUpload
			if err := json.Unmarshal(upload, &u); err != nil {
				t.Fatal(err)
			}
			change(&u)
			bad, _ := json.Marshal(u)
			if _, err := fresh.ImportDomain(ctx, "evil", transfer, cert, bad); !errors.Is(err, ErrMaterial) {
				t.Errorf("%s: got %v", name, err)
			}
		}
		if _, err := fresh.ImportDomain(ctx, "evil", transfer, cert, bytes.Repeat([]byte("["), maxDomain+1)); !errors.Is(err, ErrMaterial) {
			t.Errorf("too long: got %v", err)
		}
	})
}

// flip changes a character in the middle of one part of a JWE.
func flip(jwe string, part int) string {
	parts := strings.Split(jwe, ".")
	b := []byte(parts[part])
	if b[len(b)/2] == 'A' {
		b[len(b)/2] = 'B'
	} else {
		b[len(b)/2] = 'A'
	}
	parts[part] = string(b)
	return strings.Join(parts, ".")
}

func TestASecurityDomainNeedsEnoughDifferentHolders(t *testing.T) {
	ctx, token := t.Context(), software(t)
	if _, err := token.Generate(ctx, "root", KeySpec{Type: Oct, Bits: 256}); err != nil {
		t.Fatal(err)
	}
	if _, err := token.Generate(ctx, "rsa", KeySpec{Type: RSA, Bits: 2048}); err != nil {
		t.Fatal(err)
	}
	a, b, c := newHolder(t, 2048), newHolder(t, 2048), newHolder(t, 2048)
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	again := certify(t, &a.key.PublicKey, a.key) // another certificate for the same key
	small := newHolder(t, 1024).cert
	for name, holders := range map[string][]*x509.Certificate{
		"two":                 {a.cert, b.cert},
		"one of them twice":   {a.cert, b.cert, a.cert},
		"one key twice":       {a.cert, b.cert, again},
		"an EC key":           {a.cert, b.cert, certify(t, &ec.PublicKey, ec)},
		"a key of 1024 bits":  {a.cert, b.cert, small},
		"eleven certificates": {a.cert, b.cert, c.cert, a.cert, b.cert, c.cert, a.cert, b.cert, c.cert, a.cert, b.cert},
	} {
		if _, err := token.ExportDomain(ctx, "root", holders, 2); !errors.Is(err, ErrSpec) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	all := []*x509.Certificate{a.cert, b.cert, c.cert}
	for _, quorum := range []int{-1, 0, 1, 4} {
		if _, err := token.ExportDomain(ctx, "root", all, quorum); !errors.Is(err, ErrSpec) {
			t.Errorf("a quorum of %d: got %v", quorum, err)
		}
	}
	if _, err := token.ExportDomain(ctx, "rsa", all, 2); !errors.Is(err, ErrOperation) {
		t.Errorf("a key that is no root: got %v", err)
	}
	if _, err := token.ExportDomain(ctx, "nothing", all, 2); !errors.Is(err, ErrNotFound) {
		t.Errorf("no key: got %v", err)
	}
}

func FuzzImportDomain(f *testing.F) {
	token := software(f)
	transfer, err := token.Generate(f.Context(), "transfer", KeySpec{Type: RSA, Bits: 2048})
	if err != nil {
		f.Fatal(err)
	}
	cert := &x509.Certificate{Raw: []byte("x")}
	f.Add([]byte(`{"EncData":{"data":[{"compact_jwe":"a.b.c.d.e","tag":"verdant-backup-root"}],"kdf":"sp108_kdf"},"WrappedKey":{"enc_key":"e30.AA.AAAAAAAAAAAAAAAAAAAAAA.AAAAAAAAAAAAAAAAAAAAAA.AA","x5t_256":"` + thumbprint(cert) + `"}}`))
	f.Fuzz(func(t *testing.T, sealed []byte) {
		if _, err := token.ImportDomain(t.Context(), "root", transfer, cert, sealed); !errors.Is(err, ErrMaterial) {
			t.Errorf("got %v", err)
		}
	})
}
