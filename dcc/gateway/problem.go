package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"verdant/dcc/wire"
)

// problem is an error that the caller sees as a ProblemReport.
type problem struct {
	status int
	wire.ProblemReport
}

func (p *problem) Error() string { return p.Code + " " + p.Problem + ": " + p.Details }

// problemf makes a problem. value is what the caller sent and may be echoed:
// a country, a type, a kid; never a certificate's content.
func problemf(status int, code, what, value, format string, args ...any) *problem {
	return &problem{status, wire.ProblemReport{Code: code, Problem: what, SendValue: value, Details: fmt.Sprintf(format, args...)}}
}

// badRequest is what upstream's framework, not its service, refuses: the body
// has the shape of RFC 9457.
type badRequest struct {
	status int
	detail string
}

func (b *badRequest) Error() string { return b.detail }

// writeError answers with err and returns the status; an error without a code
// becomes a 500 that names only the request's id.
func writeError(w http.ResponseWriter, r *http.Request, err error) int {
	var p *problem
	var b *badRequest
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &b):
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(b.status)
		_ = json.NewEncoder(w).Encode(map[string]any{"type": "about:blank", "title": http.StatusText(b.status), "status": b.status, "detail": b.detail, "instance": r.URL.Path})
		return b.status
	case errors.As(err, &tooLarge):
		p = problemf(http.StatusRequestEntityTooLarge, "0x001", "Request too large", "", "the body is over %d bytes", tooLarge.Limit)
	case !errors.As(err, &p):
		id, _ := r.Context().Value(requestID{}).(string)
		p = problemf(http.StatusInternalServerError, "0x008", "Internal error", "", "the gateway could not complete the request; correlation id %s", id)
	}
	writeJSON(w, p.status, p.ProblemReport)
	return p.status
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		status, body = http.StatusInternalServerError, []byte(`{"code":"0x008","problem":"Internal error","sendValue":"","details":""}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// requestID is the context key of a request's correlation id.
type requestID struct{}

func withRequestID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, requestID{}, id)
}
