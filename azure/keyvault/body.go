package keyvault

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"

	"verdant/azure/rest"
)

// b64 is a binary member: base64url without padding (RFC 7515 section 2).
// Padding is tolerated, other alphabets are not.
type b64 []byte

// MarshalJSON writes base64url.
func (b b64) MarshalJSON() ([]byte, error) {
	out := make([]byte, 2+base64.RawURLEncoding.EncodedLen(len(b)))
	base64.RawURLEncoding.Encode(out[1:], b)
	out[0], out[len(out)-1] = '"', '"'
	return out, nil
}

var errBase64 = errors.New("a binary member is not base64url")

// UnmarshalJSON reads base64url.
func (b *b64) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		return nil
	}
	var s string
	if err := json.Unmarshal(data, &s); err != nil {
		return errBase64
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(strings.TrimRight(s, "="))
	if err != nil {
		return errBase64
	}
	*b = raw
	return nil
}

// decode reads a JSON body into v. Unknown members are ignored, as the real
// service does: clients of newer versions send them. An empty body is an
// error unless optional is set.
func decode(r *http.Request, v any, optional bool) error {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			return rest.Errorf(http.StatusRequestEntityTooLarge, "RequestBodyTooLarge", "The request body is over %d bytes.", tooLarge.Limit)
		}
		return badParameter("The request body could not be read.")
	}
	if len(body) == 0 && optional {
		return nil
	}
	return decodeBytes(body, v)
}

func decodeBytes(body []byte, v any) error {
	if in, ok := v.(*keyOperationIn); ok && in.readPlain(body) {
		return nil
	}
	err := json.Unmarshal(body, v)
	var wrongType *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &wrongType):
		return badParameter("Property '%s' has a value of the wrong type.", shorten(wrongType.Field))
	case errors.Is(err, errBase64):
		return badParameter("A property of the request body is not base64url encoded.")
	case len(body) == 0:
		return badParameter("Request body not specified.")
	}
	return badParameter("The request body is not well-formed JSON.")
}

// tags are at most 15 of 256 and 256 characters.
type tags map[string]string

func (t tags) check() error {
	if len(t) > 15 {
		return badParameter("The number of tags is over 15.")
	}
	for name, value := range t {
		if len(name) > 512 || len(value) > 256 {
			return badParameter("The tag '%s' is too long.", shorten(name))
		}
	}
	return nil
}
