package issuance

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"verdant/azure/client"
	"verdant/dcc/wire"
	"verdant/hcert"
)

// problem is an error that the caller sees. Nothing in it comes from the
// payload but the paths of fields.
type problem struct {
	status int
	wire.IssueProblem
	cause error // for the log only
}

func (p *problem) Error() string { return p.Code + ": " + p.Details }
func (p *problem) Unwrap() error { return p.cause }

func problemf(status int, code, what, format string, args ...any) *problem {
	return &problem{status: status, IssueProblem: wire.IssueProblem{ProblemReport: wire.ProblemReport{Code: code, Problem: what, Details: fmt.Sprintf(format, args...)}}}
}

// invalidDCC is the answer to a payload that cannot be issued.
func invalidDCC(err error) *problem {
	p := problemf(http.StatusBadRequest, "InvalidDCC", "The certificate's data was refused", "correct the fields that are named and send it again")
	var schema *hcert.SchemaError
	if errors.As(err, &schema) {
		for _, i := range schema.Issues {
			p.Fields = append(p.Fields, wire.FieldError{Field: i.Path, Why: i.Why})
		}
		return p
	}
	// ParseTree says where the JSON breaks, without values.
	p.Details = err.Error()
	return p
}

// signFailure says which layer refused a signature, with its own code.
func signFailure(err error) *problem {
	var refused *client.Refusal
	p := problemf(http.StatusServiceUnavailable, "SignerUnavailable", "The document signer's key could not be used", "the vault did not answer; try again")
	switch {
	case errors.Is(err, hcert.OutsideSignerValidity):
		p = problemf(http.StatusServiceUnavailable, "DocumentSignerExpires", "The document signer is too old",
			"the certificate would outlive its document signer; renew the document signer and publish it")
	case errors.Is(err, hcert.WrongKeyUsage):
		p = problemf(http.StatusBadRequest, "WrongKeyUsage", "The document signer may not sign this type", "the document signer's certificate does not allow this type of certificate")
	case errors.Is(err, hcert.SchemaViolation):
		return invalidDCC(err)
	case errors.As(err, &refused):
		code := refused.Code
		if refused.Inner != "" {
			code += " (" + refused.Inner + ")"
		}
		p.Details = fmt.Sprintf("the vault answered %d %s", refused.Status, code)
	}
	p.cause = err
	return p
}

// storeFailure says that the database did not take or give a row, with the
// database's own code.
func storeFailure(err error) *problem {
	p := problemf(http.StatusServiceUnavailable, "StorageUnavailable", "The database could not be used",
		"nothing was issued or changed; %s", client.DatabaseFailure(err))
	p.cause = err
	return p
}

// fail answers with err; what is not the caller's mistake is logged.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	var p *problem
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		p = problemf(http.StatusRequestEntityTooLarge, "TooLarge", "Request too large", "the body is over %d bytes", tooLarge.Limit)
	case !errors.As(err, &p):
		p = problemf(http.StatusInternalServerError, "Internal", "Internal error", "the request could not be completed")
		p.cause = err
	}
	if p.status >= 500 {
		why := p.Error()
		if p.cause != nil {
			why = p.cause.Error()
		}
		s.log.Error("request failed", "route", r.Pattern, "code", p.Code, "why", why)
	}
	if p.status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	writeJSON(w, p.status, p.IssueProblem)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		status, body = http.StatusInternalServerError, []byte(`{"code":"Internal"}`)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}
