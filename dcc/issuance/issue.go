package issuance

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"verdant/dcc/wire"
	"verdant/hcert"
)

// issue answers PUT /dgci/issue: it makes a certificate of a DCC payload. The
// record is committed before the certificate leaves.
func (s *Server) issue(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	now := s.now().UTC()
	uvci, err := hcert.NewUVCI(s.cfg.Country, s.rand)
	if err != nil {
		return err
	}
	dcc, err := readPayload(body, uvci, now, s.cfg.Strict)
	if err != nil {
		return invalidDCC(err)
	}
	kind := kindNames[dcc.Kind()]
	expires := now.Add(s.cfg.Validity[kind])
	issued, err := s.issuer.Issue(ctx, dcc, now, expires)
	if err != nil {
		return signFailure(err)
	}
	tan, err := newTAN(s.rand)
	if err != nil {
		return err
	}
	rec := s.record(uvci, kind, now, expires)
	rec.signed, rec.certHash = true, hex.EncodeToString(issued.Hash[:])
	rec.hashedTAN = storedTAN(rec.dgciHash, tanHash(tan))
	if err := s.store.insert(ctx, rec); err != nil {
		return storeFailure(err)
	}
	note(w, "issued", string(kind), "kid", s.issuer.KID().String())
	writeJSON(w, http.StatusOK, wire.Issued{DGCI: uvci, QRCode: issued.Text, TAN: tan})
	return nil
}

func (s *Server) record(uvci string, kind wire.GreenCertificateType, now, expires time.Time) record {
	return record{dgciHash: hashOf(uvci), kind: string(kind), kid: hex.EncodeToString([]byte(s.issuer.KID())), created: now, expires: expires}
}

// reserve answers POST /dgci/issue: the first step of issuing by hash.
func (s *Server) reserve(w http.ResponseWriter, r *http.Request) error {
	var in wire.InitIssue
	if err := decode(r, &in); err != nil {
		return err
	}
	validity, ok := s.cfg.Validity[in.GreenCertificateType]
	if !ok {
		return problemf(http.StatusBadRequest, "InvalidType", "Unknown type of certificate", "greenCertificateType must be Vaccination, Test or Recovery")
	}
	now := s.now().UTC()
	expires := now.Add(validity)
	if expires.After(s.dsc.NotAfter) || now.Before(s.dsc.NotBefore) {
		return signFailure(hcert.OutsideSignerValidity)
	}
	uvci, err := hcert.NewUVCI(s.cfg.Country, s.rand)
	if err != nil {
		return err
	}
	rec := s.record(uvci, in.GreenCertificateType, now, expires)
	if err := s.store.insert(r.Context(), rec); err != nil {
		return storeFailure(err)
	}
	raw, err := hex.DecodeString(rec.dgciHash)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, wire.InitIssued{ID: rec.dgciHash[:16] + "_" + base64.RawURLEncoding.EncodeToString(raw), DGCI: uvci,
		KID: s.issuer.KID().String(), AlgID: int64(s.issuer.Algorithm()), CountryCode: s.cfg.Country,
		Expired: expires.Unix(), ExpiredDuration: int64(validity / time.Second)})
	return nil
}

// finish answers PUT /dgci/issue/{id}: it signs a hash that it cannot judge.
func (s *Server) finish(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	row, hash, ok := strings.Cut(r.PathValue("id"), "_")
	dgciHash, valid := hashParameter(hash)
	if !ok || !valid {
		return problemf(http.StatusBadRequest, "InvalidID", "Malformed id", "the id has two parts joined by an underscore")
	}
	var in wire.FinishIssue
	if err := decode(r, &in); err != nil {
		return err
	}
	digest, err := base64.StdEncoding.DecodeString(in.Hash)
	if err != nil || len(digest) != 32 {
		return problemf(http.StatusBadRequest, "InvalidHash", "Malformed hash", "hash must be base64 of a SHA-256")
	}
	rec, err := s.store.find(ctx, dgciHash)
	switch {
	case err != nil:
		return storeFailure(err)
	case rec == nil || row != dgciHash[:16]:
		return problemf(http.StatusNotFound, "NotFound", "Unknown id", "no certificate was reserved under this id")
	case rec.signed:
		return problemf(http.StatusConflict, "AlreadySigned", "Signed already", "a certificate was signed under this id")
	}
	if s.issuer.Algorithm() == hcert.ES384 {
		return problemf(http.StatusConflict, "WrongAlgorithm", "Not for this document signer", "the document signer signs SHA-384 digests; use issuing by data")
	}
	signature, err := hcert.SignDigest(ctx, s.signer, s.issuer.Algorithm(), digest)
	if err != nil {
		return signFailure(err)
	}
	tan, err := newTAN(s.rand)
	if err != nil {
		return err
	}
	// Of two that sign at the same time one gets its signature.
	won, err := s.store.finish(ctx, dgciHash, hex.EncodeToString(digest), storedTAN(dgciHash, tanHash(tan)))
	if err != nil {
		return storeFailure(err)
	}
	if !won {
		return problemf(http.StatusConflict, "AlreadySigned", "Signed already", "a certificate was signed under this id")
	}
	note(w, "signed", rec.kind, "kid", s.issuer.KID().String())
	writeJSON(w, http.StatusOK, wire.FinishIssued{TAN: tan, Signature: base64.StdEncoding.EncodeToString(signature)})
	return nil
}

// certPublish answers PUT /dgci/certPublish.
func (s *Server) certPublish(w http.ResponseWriter, r *http.Request) error {
	if s.publisher == nil {
		return problemf(http.StatusServiceUnavailable, "NoConnector", "There is no connector", "this instance is not connected to a gateway")
	}
	if err := s.publisher.Upload(r.Context(), s.dsc); err != nil {
		p := problemf(http.StatusServiceUnavailable, "PublishFailed", "The document signer was not published", "%v", err)
		p.cause = err
		return p
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// decode reads a small JSON body.
func decode(r *http.Request, v any) error {
	dec := json.NewDecoder(r.Body)
	err := dec.Decode(v)
	if err == nil {
		if _, err = dec.Token(); errors.Is(err, io.EOF) {
			return nil
		}
	}
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return err
	}
	return problemf(http.StatusBadRequest, "InvalidJSON", "Malformed body", "the body must be one JSON object of the documented form")
}

// hashParameter reads a SHA-256 in base64url, with or without padding, and
// returns it in hex.
func hashParameter(v string) (string, bool) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(strings.TrimRight(v, "="))
	return hex.EncodeToString(b), err == nil && len(b) == 32
}
