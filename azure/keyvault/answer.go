package keyvault

import (
	"encoding/json"

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
