package portal

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"time"

	"verdant/azure/client"
	"verdant/azure/rest"
	"verdant/dcc/wire"
	"verdant/hcert"
	"verdant/hcert/barcode"
)

// problem is an answer other than success, in the shape of the member state's
// services.
type problem struct {
	status int
	wire.IssueProblem
}

func (p *problem) Error() string { return p.Code + ": " + p.Details }

func problemf(status int, code, what, format string, args ...any) *problem {
	return &problem{status, wire.IssueProblem{ProblemReport: wire.ProblemReport{Code: code, Problem: what, Details: fmt.Sprintf(format, args...)}}}
}

// issued is a certificate that was issued.
type issued struct {
	UVCI    string    `json:"uvci"`
	HC1     string    `json:"hc1"`
	TAN     string    `json:"tan"`
	Expires time.Time `json:"expires"`
	QRPNG   string    `json:"qrPng,omitempty"`
}

// issue has the issuance service make a certificate of a DCC payload on
// behalf of a professional.
func (s *Server) issue(ctx context.Context, payload []byte, professional string) (issued, error) {
	token, err := s.deps.Tokens.Token(ctx, s.cfg.IssuanceAudience)
	if err != nil {
		s.log.Error("no token for the issuance service", "why", err.Error())
		return issued{}, problemf(http.StatusServiceUnavailable, "IdentityUnavailable", "The portal could not identify itself", "the managed identity endpoint gave no token%s; nothing was issued, try again", refusalCode(err))
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, s.cfg.Issuance+"/dgci/issue", bytes.NewReader(payload))
	if err != nil {
		return issued{}, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set(wire.ProfessionalHeader, professional)
	resp, err := s.deps.HTTP.Do(req)
	if err != nil {
		s.log.Error("issuance service", "why", err.Error())
		return issued{}, problemf(http.StatusServiceUnavailable, "IssuanceUnavailable", "The issuance service did not answer", "it is not known whether a certificate was issued; try again")
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return issued{}, problemf(http.StatusServiceUnavailable, "IssuanceUnavailable", "The issuance service did not answer", "it is not known whether a certificate was issued; try again")
	}
	if resp.StatusCode != http.StatusOK {
		return issued{}, s.refusal(resp.StatusCode, raw)
	}
	return s.readIssued(raw, professional)
}

func (s *Server) readIssued(raw []byte, professional string) (issued, error) {
	var answer wire.Issued
	if err := json.Unmarshal(raw, &answer); err != nil || answer.QRCode == "" || answer.DGCI == "" {
		return issued{}, problemf(http.StatusBadGateway, "IssuanceConfused", "The issuance service sent no certificate", "its answer has not the documented form")
	}
	out := issued{UVCI: answer.DGCI, HC1: answer.QRCode, TAN: answer.TAN}
	certificate, err := new(hcert.Decoder).Decode(answer.QRCode)
	if err != nil || certificate.Claims == nil {
		return issued{}, problemf(http.StatusBadGateway, "IssuanceConfused", "The issuance service sent no certificate", "what it sent cannot be decoded")
	}
	out.Expires = certificate.Claims.Expires.UTC()
	// The identifier leads to a person; the log has its digest, which the
	// issuance service's record has too.
	digest := sha256.Sum256([]byte(answer.DGCI))
	s.log.Info("certificate issued", "professional", professional, "dgciHash", hex.EncodeToString(digest[:]))
	return out, nil
}

// refusal passes on what the issuance service refused. That it refuses the
// portal itself is the portal's trouble, not the caller's.
func (s *Server) refusal(status int, raw []byte) error {
	var report wire.IssueProblem
	if err := json.Unmarshal(raw, &report); err != nil {
		report = wire.IssueProblem{}
	}
	if report.Code == "" {
		report.Code = fmt.Sprintf("Issuance%d", status)
	}
	switch {
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		s.log.Error("issuance service refused the portal", "status", status, "code", report.Code)
		return problemf(http.StatusBadGateway, "IssuanceRefusedPortal", "The issuance service refused the portal", "it answered %d %s to the portal's own identity; tell the administrator", status, report.Code)
	case status >= 500:
		s.log.Error("issuance service failed", "status", status, "code", report.Code)
		status = http.StatusServiceUnavailable
	case status >= 400:
	default:
		return problemf(http.StatusBadGateway, "IssuanceConfused", "The issuance service sent no certificate", "it answered %d", status)
	}
	if report.Problem == "" {
		report.Problem = "The issuance service refused"
	}
	return &problem{status, report}
}

func refusalCode(err error) string {
	var r *client.Refusal
	if errors.As(err, &r) {
		return fmt.Sprintf(" (%d %s)", r.Status, r.Code)
	}
	return ""
}

// issueAPI answers POST /api/certificates: the body is the DCC payload as
// JSON. Callers are command lines with a person's access token, and scripts of
// the portal's own pages with its cookie.
func (s *Server) issueAPI(w http.ResponseWriter, r *http.Request) {
	professional, err := s.professional(r)
	if err != nil {
		s.fail(w, err)
		return
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		s.fail(w, problemf(http.StatusUnsupportedMediaType, "UnsupportedMediaType", "The body is not JSON", "send the DCC payload with Content-Type: application/json"))
		return
	}
	payload, err := io.ReadAll(r.Body)
	if err != nil {
		s.fail(w, err)
		return
	}
	cert, err := s.issue(r.Context(), payload, professional)
	if err != nil {
		s.fail(w, err)
		return
	}
	if r.URL.Query().Get("qr") == "png" {
		var png bytes.Buffer
		if err := barcode.WriteQR(&png, cert.HC1, 512); err != nil {
			s.log.Error("draw QR code", "why", err.Error())
		} else {
			cert.QRPNG = base64.StdEncoding.EncodeToString(png.Bytes())
		}
	}
	writeJSON(w, http.StatusOK, cert)
}

// professional decides who calls the API and whether they may issue.
func (s *Server) professional(r *http.Request) (objectID string, err error) {
	if token, ok := rest.Bearer(r); ok {
		caller, err := s.deps.AccessTokens.Verify(r.Context(), token)
		switch {
		case err != nil:
			return "", problemf(http.StatusUnauthorized, "InvalidToken", "The access token was refused", "%v", err)
		case caller.App || len(caller.Scopes) == 0:
			return "", problemf(http.StatusForbidden, "NotAPerson", "Only a person may issue", "the access token is an application's own")
		case !s.mayIssue(caller.Roles):
			return "", s.missingRole()
		}
		return caller.ObjectID, nil
	}
	sess := s.session(r)
	if sess == nil {
		return "", problemf(http.StatusUnauthorized, "SignInNeeded", "You are not signed in", "send an access token for this API, or sign in at %s", s.cfg.URL)
	}
	if err := http.NewCrossOriginProtection().Check(r); err != nil || !sameSecret(r.Header.Get("X-CSRF-Token"), sess.csrf) {
		return "", problemf(http.StatusForbidden, "CrossSite", "The request may come from another site", "send the csrf value of GET /api/me in the X-CSRF-Token header")
	}
	if !s.mayIssue(sess.roles) {
		return "", s.missingRole()
	}
	return sess.objectID, nil
}

func (s *Server) missingRole() *problem {
	return problemf(http.StatusForbidden, "MissingRole", "You may not issue certificates", "the app role %s is not assigned to you; ask your administrator", s.cfg.Role)
}

// me tells a page's script who is signed in.
func (s *Server) me(w http.ResponseWriter, r *http.Request) {
	if token, ok := rest.Bearer(r); ok {
		caller, err := s.deps.AccessTokens.Verify(r.Context(), token)
		if err != nil {
			s.fail(w, problemf(http.StatusUnauthorized, "InvalidToken", "The access token was refused", "%v", err))
			return
		}
		writeJSON(w, http.StatusOK, map[string]any{"objectId": caller.ObjectID, "upn": caller.Name, "roles": notNil(caller.Roles),
			"mayIssue": !caller.App && s.mayIssue(caller.Roles)})
		return
	}
	sess := s.session(r)
	if sess == nil {
		s.fail(w, problemf(http.StatusUnauthorized, "SignInNeeded", "You are not signed in", "send an access token for this API, or sign in at %s", s.cfg.URL))
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{"objectId": sess.objectID, "name": sess.name, "upn": sess.upn, "roles": notNil(sess.roles),
		"mayIssue": s.mayIssue(sess.roles), "csrf": sess.csrf})
}

func notNil(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

// asProblem turns any error into an answer; what nobody named keeps its text
// to itself.
func (s *Server) asProblem(err error) *problem {
	var p *problem
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &tooLarge):
		return problemf(http.StatusRequestEntityTooLarge, "TooLarge", "The request is too large", "the body is over %d bytes", tooLarge.Limit)
	}
	s.log.Error("request failed", "why", err.Error())
	return problemf(http.StatusInternalServerError, "Internal", "Internal error", "the request could not be completed")
}

func (s *Server) fail(w http.ResponseWriter, err error) {
	p := s.asProblem(err)
	if p.status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", fmt.Sprintf("Bearer authorization_uri=%q", s.cfg.Authority))
	}
	writeJSON(w, p.status, p.IssueProblem)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		status, body = http.StatusInternalServerError, []byte(`{"code":"Internal","problem":"Internal error"}`)
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}
