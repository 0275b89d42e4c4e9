package keyvault

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strconv"

	"verdant/azure/rest"
)

// appender is a body that writes its own JSON: byte for byte what encoding/json
// makes of it, at a fraction of the cost.
type appender interface{ appendJSON(b []byte) []byte }

// jsonType is shared by all answers; nobody changes it.
var jsonType = []string{"application/json; charset=utf-8"}

// answerJSON makes v the answer.
func (c *call) answerJSON(status int, v any) {
	a, ok := v.(appender)
	if !ok {
		if body, err := json.Marshal(v); err == nil {
			a = encoded(body)
		} else {
			rest.WriteJSON(c, status, v) // which says that v has no JSON
			return
		}
	}
	c.header["Content-Type"] = jsonType
	c.WriteHeader(status)
	c.body = a.appendJSON(c.body)
}

type encoded []byte

func (e encoded) appendJSON(b []byte) []byte { return append(b, e...) }

func (o keyOperationOut) appendJSON(b []byte) []byte {
	b = append(b, '{')
	if o.Algorithm != "" {
		b = append(member(b, `"alg":`, o.Algorithm), ',')
	}
	b = member(b, `"kid":`, o.KID)
	b = appendB64(b, `,"value":`, o.Value)
	for _, m := range [...]struct {
		name  string
		value b64
	}{{`,"iv":`, o.IV}, {`,"tag":`, o.Tag}, {`,"aad":`, o.Associated}} {
		if len(m.value) > 0 {
			b = appendB64(b, m.name, m.value)
		}
	}
	return append(b, '}')
}

func appendB64(b []byte, name string, value b64) []byte {
	b = append(append(b, name...), '"')
	b = base64.RawURLEncoding.AppendEncode(b, value)
	return append(b, '"')
}

// secretAnswer is a secretBundle by itself; an embedded one would pass its
// encoding on to what it is embedded in.
type secretAnswer secretBundle

func (s secretAnswer) appendJSON(b []byte) []byte {
	b = append(b, '{')
	if s.Value != nil {
		b = append(member(b, `"value":`, *s.Value), ',')
	}
	b = member(b, `"id":`, s.ID)
	if s.ContentType != nil {
		b = member(b, `,"contentType":`, *s.ContentType)
	}
	b = appendAttributes(append(b, `,"attributes":`...), &s.Attributes)
	if len(s.Tags) > 0 {
		text, _ := json.Marshal(s.Tags) // a map of strings always has an encoding
		b = append(append(b, `,"tags":`...), text...)
	}
	b = optional(b, `,"kid":`, s.KID)
	if s.Managed {
		b = append(b, `,"managed":true`...)
	}
	b = optional(b, `,"previousVersion":`, s.Previous)
	return append(b, '}')
}

func appendAttributes(b []byte, a *attributesOut) []byte {
	if a.Attestation != nil { // of keys, whose answers are not written here
		text, _ := json.Marshal(a) // strings, numbers and bytes always have an encoding
		return append(b, text...)
	}
	b = strconv.AppendBool(append(b, `{"enabled":`...), a.Enabled)
	if a.NotBefore != nil {
		b = strconv.AppendInt(append(b, `,"nbf":`...), *a.NotBefore, 10)
	}
	if a.Expires != nil {
		b = strconv.AppendInt(append(b, `,"exp":`...), *a.Expires, 10)
	}
	b = strconv.AppendInt(append(b, `,"created":`...), a.Created, 10)
	b = strconv.AppendInt(append(b, `,"updated":`...), a.Updated, 10)
	b = member(b, `,"recoveryLevel":`, a.RecoveryLevel)
	b = strconv.AppendInt(append(b, `,"recoverableDays":`...), int64(a.RecoverableDays), 10)
	if a.Exportable != nil {
		b = strconv.AppendBool(append(b, `,"exportable":`...), *a.Exportable)
	}
	b = optional(b, `,"hsmPlatform":`, a.HSMPlatform)
	if a.KeySize != 0 {
		b = strconv.AppendInt(append(b, `,"key_size":`...), int64(a.KeySize), 10)
	}
	return append(b, '}')
}

// readPlain reads the body of an operation as nearly every client sends it: an
// object of strings that need no escapes, with names as the reference spells
// them. It reports whether it was that; if not, nothing is read, and what the
// body is worth is for encoding/json to say.
func (in *keyOperationIn) readPlain(body []byte) bool {
	var out keyOperationIn
	rest, ok := bytes.CutPrefix(skipSpace(body), []byte{'{'})
	for more := true; ok && more; {
		var name, value []byte
		if name, rest, ok = plainString(skipSpace(rest)); !ok {
			return false
		}
		if rest, ok = bytes.CutPrefix(skipSpace(rest), []byte{':'}); !ok {
			return false
		}
		if value, rest, ok = plainString(skipSpace(rest)); !ok {
			return false
		}
		switch string(name) {
		case "alg":
			out.Algorithm = string(value)
		case "value":
			out.Value, ok = plainBinary(value)
		case "digest":
			out.Digest, ok = plainBinary(value)
		case "iv":
			out.IV, ok = plainBinary(value)
		case "tag":
			out.Tag, ok = plainBinary(value)
		case "aad":
			out.Associated, ok = plainBinary(value)
		default:
			ok = false
		}
		rest, more = bytes.CutPrefix(skipSpace(rest), []byte{','})
	}
	if !ok || string(bytes.TrimRight(rest, " \t\r\n")) != "}" {
		return false
	}
	*in = out
	return true
}

func skipSpace(b []byte) []byte { return bytes.TrimLeft(b, " \t\r\n") }

// plainString takes a JSON string of ASCII without escapes.
func plainString(b []byte) (text, rest []byte, ok bool) {
	if len(b) == 0 || b[0] != '"' {
		return nil, nil, false
	}
	for i, c := range b[1:] {
		if c == '"' {
			return b[1 : 1+i], b[2+i:], true
		}
		if c < ' ' || c > '~' || c == '\\' {
			break
		}
	}
	return nil, nil, false
}

func plainBinary(text []byte) (b64, bool) {
	text = bytes.TrimRight(text, "=")
	out := make([]byte, base64.RawURLEncoding.DecodedLen(len(text)))
	n, err := base64.RawURLEncoding.Strict().Decode(out, text)
	return out[:n], err == nil
}
