package verifier

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"verdant/dcc/wire"
	"verdant/hcert"
	"verdant/hcert/valueset"
)

// askAgainAfter is how long an unknown document signer is believed to be
// unknown. After it the gateway is asked again, once for all callers, so that
// invented kids cannot turn this service against the gateway.
const askAgainAfter = 2 * time.Second

// verify answers POST /verify. Nothing of the certificate is stored or logged.
func (s *Server) verify(w http.ResponseWriter, r *http.Request) {
	var in wire.VerifyRequest
	if !decode(w, r, &in) {
		return
	}
	at := s.now()
	if in.At != "" {
		var err error
		if at, err = time.Parse(time.RFC3339, in.At); err != nil {
			problem(w, http.StatusBadRequest, "0x001", "at must be a date and time in the form of RFC 3339")
			return
		}
	}
	if err := checkRequest(&in); err != nil {
		problem(w, http.StatusBadRequest, "0x001", err.Error())
		return
	}
	unverified, err := s.decoder.Decode(in.HC1)
	var verified *hcert.Verified
	if err == nil {
		verified, err = unverified.Verify(s.source, at)
		if errors.Is(err, hcert.UnknownSigner) && s.lookAgain(r) {
			verified, err = unverified.Verify(s.source, at)
		}
	}
	current := s.source.Current()
	out := describe(unverified)
	out.Valid, out.Reasons = err == nil, reasons(err)
	out.SignersKnown = len(current.List.DSCs())
	if !current.At.IsZero() {
		out.TrustListAt = current.At.UTC().Format(time.RFC3339)
	}
	if err == nil {
		out.SchemaRelease, out.Country = verified.SchemaRelease(), verified.Key().Country
		out.Findings = verified.Inspect(valueset.Builtin())
		if worst := hcert.AtLeast(hcert.Doubtful, out.Findings); in.Strict && len(worst) > 0 {
			out.Valid = false
			for _, f := range worst {
				out.Reasons = append(out.Reasons, wire.VerifyReason{Stage: "findings", Code: string(f.Code), Detail: f.Path + ": " + f.Why})
			}
		}
		if in.Country != "" {
			under(&out, s.rules.judge(r.Context(), verified, in))
		}
	}
	s.log.Info("certificate verified", "valid", out.Valid, "type", out.Kind)
	writeJSON(w, http.StatusOK, out)
}

// lookAgain refreshes the trust list for a signer that is not on it, and
// reports whether that may have helped.
func (s *Server) lookAgain(r *http.Request) bool {
	before := s.source.Current().List
	if err := s.source.RefreshIfOlder(r.Context(), askAgainAfter); err != nil {
		s.log.Warn("the trust list was not refreshed for an unknown signer", "why", err.Error())
		return false
	}
	if s.source.Current().List == before {
		return false
	}
	select { // have Run take the change over
	case s.wake <- struct{}{}:
	default:
	}
	return true
}

// describe says what is known of a certificate without saying whose it is.
func describe(u *hcert.Unverified) wire.VerifyResult {
	var out wire.VerifyResult
	if u == nil {
		return out
	}
	if u.Sign1 != nil && u.Sign1.KID != "" {
		out.KID = u.Sign1.KID.String()
	}
	if c := u.Claims; c != nil {
		// The issuer is unproven text here; only its form of a country passes.
		if len(c.Issuer) == 2 && strings.ToUpper(c.Issuer) == c.Issuer {
			out.Country = c.Issuer
		}
		if !c.IssuedAt.IsZero() {
			out.IssuedAt = c.IssuedAt.UTC().Format(time.RFC3339)
		}
		if !c.Expires.IsZero() {
			out.Expires = c.Expires.UTC().Format(time.RFC3339)
		}
	}
	out.Kind, out.Profile = string(u.Kind()), string(u.Profile)
	return out
}

// codes are the stable names of the reasons.
var codes = map[hcert.Reason]string{
	hcert.WrongPrefix: "wrong-prefix", hcert.TooLarge: "too-large", hcert.BadBase45: "bad-base45", hcert.BadZlib: "bad-zlib",
	hcert.BadCBOR: "bad-cbor", hcert.BadCOSE: "bad-cose", hcert.BadClaims: "bad-claims", hcert.NoPayload: "no-payload",
	hcert.UnsupportedAlgorithm: "unsupported-algorithm", hcert.UnsupportedKey: "unsupported-key",
	hcert.UnknownSigner: "unknown-signer", hcert.BadSignature: "bad-signature", hcert.NotYetValid: "not-yet-valid",
	hcert.Expired: "expired", hcert.NoValidity: "no-validity", hcert.WrongKeyUsage: "wrong-key-usage", hcert.SchemaViolation: "schema-violation", hcert.OutsideSignerValidity: "outside-signer-validity",
}

// reasons turns a refusal into its wire form; a schema violation is one reason
// a field.
func reasons(err error) []wire.VerifyReason {
	if err == nil {
		return []wire.VerifyReason{}
	}
	var refused *hcert.Error
	if !errors.As(err, &refused) {
		return []wire.VerifyReason{{Code: "refused"}}
	}
	reason := wire.VerifyReason{Stage: string(refused.Stage), Code: codes[refused.Reason], Detail: strings.TrimSuffix(refused.Reason.Error()+": "+refused.Detail, ": ")}
	if reason.Code == "" {
		reason.Code = "refused"
	}
	var schema *hcert.SchemaError
	if !errors.As(err, &schema) || len(schema.Issues) == 0 {
		return []wire.VerifyReason{reason}
	}
	out := make([]wire.VerifyReason, 0, len(schema.Issues))
	for _, i := range schema.Issues {
		r := reason
		r.Detail = i.Path + ": " + i.Why
		out = append(out, r)
	}
	return out
}
