package keyvault

import (
	"bytes"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"strings"
	"testing"
)

func TestDistinguishedNamesAreReadAsRFC4514Says(t *testing.T) {
	for text, want := range map[string]string{
		"CN=x":                            "CN=x",
		"CN=IE DSC, O=Health, C=IE":       "CN=IE DSC,O=Health,C=IE",
		`CN="a, b", O=c`:                  `CN=a\, b,O=c`,
		`CN=a\, b`:                        `CN=a\, b`,
		`CN=\48\49`:                       "CN=HI",
		"cn = x ; ou = y":                 "CN=x,OU=y",
		"2.5.4.3=x":                       "CN=x",
		"CN=é":                            "CN=é",
		"":                                "",
		"CN=a=b":                          "CN=a=b",
		"O=Org, DC=example, DC=com, CN=x": "O=Org,0.9.2342.19200300.100.1.25=#16076578616d706c65,0.9.2342.19200300.100.1.25=#1603636f6d,CN=x",
	} {
		der, err := parseDN(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		var seq pkix.RDNSequence
		if rest, err := asn1.Unmarshal(der, &seq); err != nil || len(rest) > 0 {
			t.Errorf("%q: %v", text, err)
		}
		if got := seq.String(); !strings.EqualFold(got, want) && !strings.Contains(want, "0.9.2342") {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
	for _, bad := range []string{"x", "CN", "CN=", "=x", "CN=a,", ",", `CN="a`, `CN=a\`, "FOO=x", "CN=\xff", `CN=\ff`, strings.Repeat("CN=a,", 300) + "CN=a", "1.2.x=y"} {
		if der, err := parseDN(bad); err == nil {
			t.Errorf("%q: accepted as %x", bad, der)
		}
	}
}

func TestKeyUsageBitsAreThoseOfRFC5280(t *testing.T) {
	for usage, want := range map[string]string{"digitalSignature": "03020780", "keyCertSign": "03020204", "cRLSign": "03020102", "decipherOnly": "0303070080"} {
		x := certX509{KeyUsage: []string{usage}}
		bits, err := x.usage()
		if err != nil {
			t.Fatal(err)
		}
		der, err := asn1.Marshal(usageBits(bits))
		if err != nil || want != strings.ToLower(hexOf(der)) {
			t.Errorf("%s: got %x, %v; want %s", usage, der, err, want)
		}
	}
}

func hexOf(b []byte) string {
	const digits = "0123456789abcdef"
	var out strings.Builder
	for _, c := range b {
		out.WriteByte(digits[c>>4])
		out.WriteByte(digits[c&15])
	}
	return out.String()
}

func FuzzParsers(f *testing.F) {
	f.Add([]byte(`{"alg":"ES256","value":"AAAA","digest":""}`))
	f.Add([]byte(`{"key":{"kty":"EC","crv":"P-256","d":"AA","x":"AA","y":"AA"},"Hsm":true}`))
	f.Add([]byte(`{"policy":{"x509_props":{"subject":"CN=x","sans":{"dns_names":["a"],"uris":["https://a"],"ipAddresses":["::1"]},"key_usage":["cRLSign"],"ekus":["1.2.3"]},"key_props":{"kty":"EC"}},"attributes":{"exp":5}}`))
	f.Add([]byte(`{"x5c":["MIIB"],"tags":{"a":"b"}}`))
	f.Add([]byte(`CN="a, b", O=c\2C, 1.2.3=x`))
	f.Add([]byte("0\x06\x02\x01\x01\x02\x01\x02"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, v := range []any{new(keyOperationIn), new(importKeyIn), new(createKeyIn), new(updateKeyIn), new(setSecretIn), new(mergeIn), new(importCertIn), new(createCertIn)} {
			if err := decodeBytes(data, v); err != nil {
				continue
			}
			if in, ok := v.(*createCertIn); ok && in.Policy.check() == nil && in.Policy != nil {
				p := in.Policy.complete(1)
				if p.check() == nil {
					if tmpl, err := p.template(); err == nil {
						if _, err := requested(tmpl); err != nil {
							t.Errorf("extensions of a checked policy: %v", err)
						}
					}
				}
			}
		}
		var b b64
		if err := json.Unmarshal(data, &b); err == nil && string(data) != "null" {
			again, err := json.Marshal(b)
			var c b64
			if err != nil || json.Unmarshal(again, &c) != nil || !bytes.Equal(b, c) {
				t.Errorf("base64url does not round-trip: %q", data)
			}
		}
		if der, err := parseDN(string(data)); err == nil {
			var seq pkix.RDNSequence
			if rest, err := asn1.Unmarshal(der, &seq); err != nil || len(rest) > 0 {
				t.Errorf("%q: made a name that does not parse: %v", data, err)
			}
		}
		if raw, err := rawECDSA(data, 32); err == nil {
			if der, err := derECDSA(raw, 32); err != nil || len(der) > len(data) {
				t.Errorf("%x: got %x, %v", data, der, err)
			}
		}
		if path, plain := normalise(string(data)); plain && (strings.Contains(path, "//") || path[0] != '/' || len(path) > 1 && path[len(path)-1] == '/') {
			t.Errorf("%q: normalised to %q", data, path)
		}
		apiVersion(string(data))
		_, _, _, _ = readBundle(string(data), "")
	})
}

// FuzzTransfer feeds key transfer blobs: what is accepted is a blob of the one
// form, and reads back the same.
func FuzzTransfer(f *testing.F) {
	f.Add([]byte(`{"schema_version":"1.0.0","header":{"kid":"https://v.vault.azure.net/keys/kek/0","alg":"dir","enc":"CKM_RSA_AES_KEY_WRAP"},"ciphertext":"AAAA","generator":"x"}`))
	f.Add([]byte(`{"schema_version":"1.0.0","header":null,"ciphertext":""}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := parseTransfer(data)
		if err != nil {
			return
		}
		if b.Version != "1.0.0" || b.Header.Algorithm != "dir" || b.Header.Encryption != wrapTransfer || len(b.Ciphertext) == 0 {
			t.Errorf("accepted %+v", b)
		}
		again, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		if c, err := parseTransfer(again); err != nil || c.Header != b.Header || !bytes.Equal(c.Ciphertext, b.Ciphertext) {
			t.Errorf("%s reads back as %+v, %v", again, c, err)
		}
	})
}
