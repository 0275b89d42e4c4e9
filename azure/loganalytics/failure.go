package loganalytics

import (
	"encoding/json"
	"errors"
	"net/http"

	"verdant/azure/rest"
)

// inner is an inner error, which the query API nests: the class of the
// refusal, then the engine's own code with its place in the query.
type inner struct {
	Code     string `json:"code"`
	Message  string `json:"message,omitempty"`
	Line     int    `json:"line,omitempty"`
	Pos      *int   `json:"pos,omitempty"`
	Token    string `json:"token,omitempty"`
	Severity int    `json:"severity,omitempty"`
	Name     string `json:"severityName,omitempty"`
	Details  []any  `json:"details,omitempty"`
	Inner    *inner `json:"innererror,omitempty"`
}

// failure is an answer other than success in the query API's shape, which has
// messages in its inner errors where the rest of Azure has only codes.
type failure struct {
	status  int
	Code    string   `json:"code"`
	Message string   `json:"message"`
	Details []inner  `json:"details,omitempty"`
	Inner   *inner   `json:"innererror,omitempty"`
	CID     string   `json:"correlationId,omitempty"`
	header  []string // pairs of name and value
}

func (f *failure) Error() string {
	s := f.Code + ": " + f.Message
	for i := f.Inner; i != nil; i = i.Inner {
		s += ": " + i.Code
		if i.Message != "" {
			s += " (" + i.Message + ")"
		}
	}
	return s
}

// badArgument is the answer to a request that is not well formed.
func badArgument(code, message string, details ...any) *failure {
	return &failure{status: http.StatusBadRequest, Code: "BadArgumentError", Message: "The request had some invalid properties",
		Inner: &inner{Code: code, Message: message, Details: details}}
}

func pathNotFound() *failure {
	return &failure{status: http.StatusNotFound, Code: "PathNotFoundError", Message: "The requested path does not exist"}
}

func insufficientAccess() *failure {
	return &failure{status: http.StatusForbidden, Code: "InsufficientAccessError",
		Message: "The provided credentials have insufficient access to perform the requested operation"}
}

func unresolved() *failure {
	return &failure{status: http.StatusBadRequest, Code: "FailedToResolveResource", Message: "Resource identity could not be resolved"}
}

// answered is err as status, headers and body. An error that nobody gave a
// code becomes a 500 without its text.
func answered(err error, correlation string) (status int, header http.Header, body json.RawMessage) {
	header = http.Header{}
	var f *failure
	var e error = rest.AsError(err, correlation)
	switch {
	case errors.As(err, &f):
		c := *f
		c.CID = correlation
		status, e = c.status, &c
		for i := 0; i+1 < len(c.header); i += 2 {
			header.Set(c.header[i], c.header[i+1])
		}
	default:
		re := rest.AsError(err, correlation)
		status = re.Status
		for name, values := range re.Header {
			header[name] = values
		}
	}
	body, err = json.Marshal(map[string]any{"error": e})
	if err != nil {
		return http.StatusInternalServerError, header, json.RawMessage(`{"error":{"code":"InternalServerError","message":"The answer could not be encoded."}}`)
	}
	return status, header, body
}

func writeFailure(w http.ResponseWriter, err error, correlation string) {
	status, header, body := answered(err, correlation)
	for name, values := range header {
		w.Header()[name] = values
	}
	rest.WriteJSON(w, status, body)
}
