package issuance

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"math/big"
	"net/http"
	"time"

	"verdant/dcc/wire"
)

// maxWrongTANs is how many claims may fail in a row. The next is blocked
// whatever its TAN.
const maxWrongTANs = 4

// claim answers POST /dgci/wallet/claim: it binds a certificate to a key in
// its holder's wallet.
func (s *Server) claim(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	var in wire.Claim
	if err := decode(r, &in); err != nil {
		return err
	}
	refuse := func(code, details string) error {
		return problemf(http.StatusBadRequest, code, "Claim refused", "%s", details)
	}
	spki, err := checkClaim(in)
	if err != nil {
		return refuse("InvalidClaim", err.Error())
	}
	dgciHash := hashOf(in.DGCI)
	rec, err := s.store.find(ctx, dgciHash)
	switch {
	case err != nil:
		return storeFailure(err)
	case rec == nil || !rec.signed:
		return problemf(http.StatusNotFound, "NotFound", "Unknown DGCI", "no certificate with this DGCI was issued here")
	case rec.locked || rec.revoked:
		return refuse("Locked", "the certificate is locked or revoked")
	}
	if certHash, err := base64.StdEncoding.DecodeString(in.CertHash); err != nil || !same(hex.EncodeToString(certHash), rec.certHash) {
		return refuse("WrongCertificate", "certhash is not that of the certificate")
	}
	if !rec.claimed && s.now().After(rec.created.Add(s.cfg.TANValidity)) {
		return refuse("TANExpired", "the TAN is no longer valid")
	}
	allowed, err := s.store.attempt(ctx, dgciHash)
	if err != nil {
		return storeFailure(err)
	}
	if !allowed {
		return refuse("Blocked", "there were too many wrong TANs")
	}
	used := storedTAN(dgciHash, in.TANHash)
	if !same(used, rec.hashedTAN) {
		return refuse("WrongTAN", "the TAN is not the one that belongs to the certificate")
	}
	tan, err := newTAN(s.rand)
	if err != nil {
		return err
	}
	won, err := s.store.claim(ctx, dgciHash, used, storedTAN(dgciHash, tanHash(tan)), spki)
	if err != nil {
		return storeFailure(err)
	}
	if !won {
		return refuse("WrongTAN", "the TAN was used in the meantime")
	}
	s.log.Info("certificate claimed", "type", rec.kind)
	writeJSON(w, http.StatusOK, wire.Claimed{TAN: tan})
	return nil
}

func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// checkClaim checks the form of a claim and the wallet's signature, before
// anything is looked up. It returns the SubjectPublicKeyInfo.
func checkClaim(c wire.Claim) ([]byte, error) {
	if c.DGCI == "" || len(c.DGCI) > 128 || c.TANHash == "" || c.CertHash == "" {
		return nil, errors.New("DGCI, TANHash and certhash are needed")
	}
	spki, err := base64.StdEncoding.DecodeString(c.PublicKey.Value)
	if err != nil || len(spki) > 1200 {
		return nil, errors.New("publicKey.value must be base64 of a public key")
	}
	key, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return nil, errors.New("publicKey.value is no public key")
	}
	signature, err := base64.StdEncoding.DecodeString(c.Signature)
	if err != nil {
		return nil, errors.New("signature must be base64")
	}
	hash, digest := javaHash(c.SigAlg, []byte(c.TANHash+c.CertHash+c.PublicKey.Value))
	if hash == 0 {
		return nil, errors.New("sigAlg must be SHA256with…, SHA384with… or SHA512with… ECDSA, RSA or RSAandMGF1")
	}
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		if c.PublicKey.Type == "EC" && c.SigAlg[len("SHA256"):] == "withECDSA" && ecdsa.VerifyASN1(key, digest, signature) {
			return spki, nil
		}
	case *rsa.PublicKey:
		if c.PublicKey.Type == "RSA" && key.N.BitLen() >= 2048 && verifyRSA(key, c.SigAlg[len("SHA256"):], hash, digest, signature) {
			return spki, nil
		}
	}
	return nil, errors.New("the signature does not fit the key and what is signed")
}

func verifyRSA(key *rsa.PublicKey, scheme string, hash crypto.Hash, digest, signature []byte) bool {
	switch scheme {
	case "withRSA":
		return rsa.VerifyPKCS1v15(key, hash, digest, signature) == nil
	case "withRSAandMGF1":
		return rsa.VerifyPSS(key, hash, digest, signature, nil) == nil
	}
	return false
}

// javaHash takes the hash out of a Java algorithm name such as
// SHA256withECDSA; 0 if it is none of the SHA-2 family.
func javaHash(alg string, data []byte) (crypto.Hash, []byte) {
	if len(alg) <= len("SHA256") {
		return 0, nil
	}
	switch alg[:len("SHA256")] {
	case "SHA256":
		d := sha256.Sum256(data)
		return crypto.SHA256, d[:]
	case "SHA384":
		d := sha512.Sum384(data)
		return crypto.SHA384, d[:]
	case "SHA512":
		d := sha512.Sum512(data)
		return crypto.SHA512, d[:]
	}
	return 0, nil
}

// did answers GET /dgci/{hash} with the DID document of a certificate: whose
// key it is bound to, if it was claimed.
func (s *Server) did(w http.ResponseWriter, r *http.Request) error {
	rec, err := s.known(r)
	if err != nil {
		return err
	}
	id := "did:dgci:" + r.PathValue("hash")
	doc := wire.DIDDocument{Context: "https://w3id.org/did/v1", ID: id, Controller: id, Authentication: []wire.DIDAuthentication{}}
	if rec.claimed {
		kind, jwk := jwkOf(rec.publicKey)
		doc.Authentication = append(doc.Authentication, wire.DIDAuthentication{ID: id, Type: kind, Controller: id,
			Expires: rec.expires.UTC().Format(time.RFC3339), PublicKeyJWK: jwk, PublicKeyJSW: jwk})
	}
	writeJSON(w, http.StatusOK, doc)
	return nil
}

// status answers HEAD /dgci/{hash}: 204 known, 423 locked or revoked, 404.
func (s *Server) status(w http.ResponseWriter, r *http.Request) error {
	rec, err := s.known(r)
	if err != nil {
		return err
	}
	if rec.locked || rec.revoked {
		w.WriteHeader(http.StatusLocked)
		return nil
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *Server) known(r *http.Request) (*record, error) {
	notFound := problemf(http.StatusNotFound, "NotFound", "Unknown DGCI", "no certificate with this hash was issued here")
	hash, ok := hashParameter(r.PathValue("hash"))
	if !ok {
		return nil, notFound
	}
	rec, err := s.store.find(r.Context(), hash)
	if err != nil {
		return nil, storeFailure(err)
	}
	if rec == nil || !rec.signed {
		return nil, notFound
	}
	return rec, nil
}

// jwkOf returns the DID's type of a key and its JSON Web Key (RFC 7517).
func jwkOf(spki []byte) (string, map[string]string) {
	key, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return "", nil
	}
	b64 := base64.RawURLEncoding.EncodeToString
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		point, err := key.Bytes()
		if err != nil {
			return "", nil
		}
		n := (len(point) - 1) / 2
		return "EcdsaSecp256r1VerificationKey2019", map[string]string{"kty": "EC", "crv": key.Params().Name, "x": b64(point[1 : 1+n]), "y": b64(point[1+n:])}
	case *rsa.PublicKey:
		return "RsaVerificationKey2018", map[string]string{"kty": "RSA", "n": b64(key.N.Bytes()), "e": b64(big.NewInt(int64(key.E)).Bytes())}
	}
	return "", nil
}
