package keyvault

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"
)

// fill sets every field that can be reached from v: strings to text, numbers
// to n, booleans to true, pointers to new values.
func fill(v reflect.Value, text string, n int64) {
	switch v.Kind() {
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Unix(1_800_000_000, 120_000_000).UTC()))
			return
		}
		for i := range v.NumField() {
			fill(v.Field(i), text, n)
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), text, n)
	case reflect.String:
		v.SetString(text)
	case reflect.Int, reflect.Int64:
		v.SetInt(n)
	case reflect.Bool:
		v.SetBool(true)
	}
}

func TestAnAuditRecordIsEncodedAsEncodingJSONDoes(t *testing.T) {
	events := []auditEvent{{}, {Identity: auditIdentity{Claim: &auditClaim{}}},
		{Identity: auditIdentity{Claim: &auditClaim{UPN: "u"}}, Properties: auditProperties{Key: &keyProperties{Curve: "P-256"}}}}
	for _, text := range []string{"plain", "a \"quoted\" \\ text", "<b>&amp;</b>", "Gr\u00fc\u00dfe \u2028\r\n\x00\x7f", "bad \xff utf-8"} {
		var e auditEvent
		fill(reflect.ValueOf(&e).Elem(), text, 42)
		events = append(events, e)
	}
	for _, e := range events {
		want, err := json.Marshal(&e)
		if err != nil {
			t.Fatal(err)
		}
		if got := e.encode(nil); string(got) != string(want) {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}
