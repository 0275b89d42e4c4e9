// Package rest is what every Azure API of the platform shares: the error body,
// the api-version check, the bearer challenge and the verification of access
// tokens.
//
// It promises that a handler's error reaches the client in Azure's shape and
// that an error nobody gave a code becomes a 500 without its text. It refuses
// tokens that are unsigned, signed with another algorithm than RS256, of
// another issuer, for another audience, or outside their validity.
package rest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

// Error is an answer other than success, with the codes of the real service.
type Error struct {
	// Status is the HTTP status.
	Status int
	// Code is the error code that clients switch on, such as "KeyNotFound".
	Code string
	// Message is for people.
	Message string
	// Inner is the inner error's code, such as "ForbiddenByRbac"; may be empty.
	Inner string
	// Details are further errors, as the log query API sends them.
	Details []Error
	// Header holds response headers that belong to the error, such as
	// WWW-Authenticate or Retry-After.
	Header http.Header
}

// Errorf makes an Error without an inner code.
func Errorf(status int, code, format string, args ...any) *Error {
	return &Error{Status: status, Code: code, Message: fmt.Sprintf(format, args...)}
}

func (e *Error) Error() string {
	if e.Inner != "" {
		return fmt.Sprintf("%s (%s): %s", e.Code, e.Inner, e.Message)
	}
	return e.Code + ": " + e.Message
}

// MarshalJSON writes the inside of {"error": …}.
func (e *Error) MarshalJSON() ([]byte, error) {
	type inner struct {
		Code string `json:"code"`
	}
	body := struct {
		Code    string   `json:"code"`
		Message string   `json:"message"`
		Inner   *inner   `json:"innererror,omitempty"`
		Details []*Error `json:"details,omitempty"`
	}{Code: e.Code, Message: e.Message}
	if e.Inner != "" {
		body.Inner = &inner{e.Inner}
	}
	for i := range e.Details {
		body.Details = append(body.Details, &e.Details[i])
	}
	return json.Marshal(body)
}

// Internal is what an error without a code becomes on the wire. The id lets
// an operator find the cause in the service's log.
func Internal(correlationID string) *Error {
	return Errorf(http.StatusInternalServerError, "InternalServerError",
		"The service could not complete the request. Correlation id: %s.", correlationID)
}

// AsError finds the wire error in err's chain; an error without one is
// Internal under correlationID.
func AsError(err error, correlationID string) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return Errorf(http.StatusRequestEntityTooLarge, "RequestBodyTooLarge", "The request body is over %d bytes.", tooLarge.Limit)
	}
	return Internal(correlationID)
}

// WriteError answers with err in Azure's shape.
func WriteError(w http.ResponseWriter, err error, correlationID string) {
	e := AsError(err, correlationID)
	for name, values := range e.Header {
		w.Header()[name] = values
	}
	WriteJSON(w, e.Status, map[string]any{"error": e})
}

// WriteJSON answers with v as JSON.
func WriteJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		status, body = http.StatusInternalServerError, []byte(`{"error":{"code":"InternalServerError","message":"The answer could not be encoded."}}`)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("Cache-Control", "no-cache")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}
