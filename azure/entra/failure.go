package entra

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// failure is a refusal in Entra's terms. Its text is for the person who is
// refused and holds no secret.
type failure struct {
	// oauth is the OAuth 2.0 error, such as "invalid_grant".
	oauth string
	// code is the AADSTS number.
	code int
	text string
	// status is the HTTP status of a JSON answer; 0 means 400.
	status int
}

func (f *failure) Error() string { return fmt.Sprintf("AADSTS%d: %s", f.code, f.text) }

func fail(oauth string, code int, format string, args ...any) *failure {
	return &failure{oauth: oauth, code: code, text: fmt.Sprintf(format, args...)}
}

// withStatus sets the HTTP status.
func (f *failure) withStatus(status int) *failure {
	f.status = status
	return f
}

// asFailure finds the failure in err; any other error keeps its text to
// itself.
func asFailure(err error) *failure {
	var f *failure
	if errors.As(err, &f) {
		return f
	}
	return fail("server_error", 90033, "A transient error has occurred. Please try again.").withStatus(http.StatusServiceUnavailable)
}

// description is the text of error_description.
func (f *failure) description(e exchange) string {
	return fmt.Sprintf("AADSTS%d: %s\r\nTrace ID: %s\r\nCorrelation ID: %s\r\nTimestamp: %s",
		f.code, f.text, e.trace, e.correlation, stamp(e.at))
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05Z") }

// writeFailure answers a token request with err.
func (s *Server) writeFailure(w http.ResponseWriter, e exchange, err error) {
	f := asFailure(err)
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		f = fail("invalid_request", 9002313, "Invalid request. The request body is over %d bytes.", tooLarge.Limit).withStatus(http.StatusRequestEntityTooLarge)
	}
	s.report(e, "token request", err)
	status := f.status
	if status == 0 {
		status = http.StatusBadRequest
	}
	writeJSON(w, status, map[string]any{
		"error": f.oauth, "error_description": f.description(e), "error_codes": []int{f.code},
		"timestamp": stamp(e.at), "trace_id": e.trace, "correlation_id": e.correlation,
		"error_uri": fmt.Sprintf("https://%s/error?code=%d", s.host(), f.code),
	})
}

// report writes an error that the caller is not told about to the service's
// log.
func (s *Server) report(e exchange, what string, err error) {
	var f *failure
	if !errors.As(err, &f) {
		s.log.Error(what, "error", err.Error(), "trace", e.trace)
	}
}

// writeJSON answers with v and forbids every cache to keep it.
func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		status, body = http.StatusInternalServerError, []byte(`{"error":"server_error"}`)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Pragma", "no-cache")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}
