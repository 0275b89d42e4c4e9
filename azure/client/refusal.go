package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
)

// Refusal is an answer other than success of a platform service, in that
// service's own codes. The SDK's error, which prints the whole exchange, stays
// reachable through Unwrap.
type Refusal struct {
	// Status is the HTTP status.
	Status int
	// Code and Inner are the service's error codes, such as Forbidden and
	// ForbiddenByRbac; Inner may be empty.
	Code, Inner string
	// Message is the service's text for people.
	Message string
	// RetryAfter is how long the service asks to be left alone; 0 if it does
	// not say.
	RetryAfter time.Duration

	cause error
}

func (r *Refusal) Error() string {
	code := r.Code
	if r.Inner != "" {
		code += " (" + r.Inner + ")"
	}
	if r.Message == "" {
		return fmt.Sprintf("the service answered %d %s", r.Status, code)
	}
	return fmt.Sprintf("the service answered %d %s: %s", r.Status, code, r.Message)
}

// Unwrap returns the SDK's error.
func (r *Refusal) Unwrap() error { return r.cause }

// AsRefusal turns the SDK's error for an answer other than success into a
// Refusal; other errors (no answer at all) are returned as they are.
func AsRefusal(err error) error {
	var re *azcore.ResponseError
	if err == nil || !errors.As(err, &re) {
		return identityError(err)
	}
	out := &Refusal{Status: re.StatusCode, Code: re.ErrorCode, cause: err}
	var body struct {
		Error struct {
			Code    string `json:"code"`
			Message string `json:"message"`
			Inner   struct {
				Code string `json:"code"`
			} `json:"innererror"`
		} `json:"error"`
	}
	if re.RawResponse != nil {
		out.RetryAfter = retryAfter(re.RawResponse, time.Now())
		if raw, err := runtime.Payload(re.RawResponse); err == nil && json.Unmarshal(raw, &body) == nil {
			out.Message, out.Inner = body.Error.Message, body.Error.Inner.Code
			if out.Code == "" {
				out.Code = body.Error.Code
			}
		}
	}
	if out.Code == "" {
		out.Code = http.StatusText(re.StatusCode)
	}
	return out
}

// IdentityFailed is the Code of a Refusal by the identity endpoint, whose own
// code is then in Inner.
const IdentityFailed = "AuthenticationFailed"

// identityError shortens azidentity's error, which prints the response of the
// identity endpoint, to the endpoint's own code.
func identityError(err error) error {
	var failed *azidentity.AuthenticationFailedError
	if errors.As(err, &failed) && failed.RawResponse != nil {
		r := &Refusal{Status: failed.RawResponse.StatusCode, Code: IdentityFailed, Message: "the identity endpoint gave no token", cause: err}
		var body struct {
			Codes []int `json:"error_codes"`
		}
		if raw, err := runtime.Payload(failed.RawResponse); err == nil && json.Unmarshal(raw, &body) == nil && len(body.Codes) > 0 {
			r.Inner = fmt.Sprintf("AADSTS%d", body.Codes[0])
		}
		return r
	}
	return err
}

// isStatus reports whether err is an answer with that status.
func isStatus(err error, status int) bool {
	var re *azcore.ResponseError
	return errors.As(err, &re) && re.StatusCode == status
}
