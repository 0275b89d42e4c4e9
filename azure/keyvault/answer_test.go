package keyvault

import (
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"testing"
)

// fillByChance gives every field a value, or leaves it zero, by chance: fields that are
// added later are held to the same.
func fillByChance(v reflect.Value, r *rand.Rand) {
	if r.IntN(4) == 0 {
		return
	}
	texts := []string{"", "plain", "with \"quotes\" and \\", "<b>&amp;</b>", "größer", "\u2028", "a\x00b", "\xff"}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Field(i); f.CanSet() || v.Type().Field(i).Anonymous {
				fillByChance(f, r)
			}
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fillByChance(v.Elem(), r)
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range r.IntN(3) {
			v.SetMapIndex(reflect.ValueOf(texts[r.IntN(len(texts))]), reflect.ValueOf(texts[r.IntN(len(texts))]))
		}
	case reflect.Slice:
		b := make([]byte, r.IntN(70))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		v.SetBytes(b)
	case reflect.String:
		v.SetString(texts[r.IntN(len(texts))])
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(r.Int64N(1 << 40))
	default:
		panic("a field of a kind that fillByChance does not know: " + v.Kind().String())
	}
}

func TestAnswersAreTheJSONThatEncodingJsonMakes(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		var out keyOperationOut
		var secret secretBundle
		fillByChance(reflect.ValueOf(&out).Elem(), r)
		fillByChance(reflect.ValueOf(&secret).Elem(), r)
		if r.IntN(2) == 0 {
			fillByChance(reflect.ValueOf(&secret.Attributes.attributes).Elem(), r)
		}
		for _, pair := range []struct {
			plain any
			ours  appender
		}{{out, out}, {secret, secretAnswer(secret)}} {
			want, err := json.Marshal(pair.plain)
			if err != nil {
				t.Fatal(err)
			}
			if got := pair.ours.appendJSON(nil); string(got) != string(want) {
				t.Fatalf("got  %s\nwant %s", got, want)
			}
		}
	}
}

func FuzzAPlainOperationIsReadAsEncodingJsonReadsIt(f *testing.F) {
	for _, body := range []string{
		`{"alg":"RS256","value":"AQID"}`, ` { "alg" : "A128GCM" , "value":"AA==", "iv":"","tag":"_-8","aad":"AAAA" } `, `{}`, `{"alg":"a","alg":"b"}`,
		`{"alg":"RS256","value":"AQID"}x`, `{"alg":"RS256",}`, `{"ALG":"RS256"}`, `{"alg":null}`, `{"value":"A"}`, `{"value":"AB"}`, `{"value":"a+b/"}`, `{"alg":"\u0041"}`, `[]`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var got, want keyOperationIn
		if !got.readPlain(body) {
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("%q: refused, but read as %+v", body, got)
			}
			return
		}
		if err := json.Unmarshal(body, &want); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%q: got %+v, want %+v, %v", body, got, want, err)
		}
	})
}

func TestThePlainWayIsTheCommonWay(t *testing.T) {
	var in keyOperationIn
	if !in.readPlain([]byte(`{"alg":"RSA-OAEP-256","value":"AQID"}`)) || in.Algorithm != "RSA-OAEP-256" || string(in.Value) != "\x01\x02\x03" {
		t.Errorf("got %+v", in)
	}
}
