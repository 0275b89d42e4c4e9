package main

import (
	"bytes"
	"compress/zlib"
	"encoding/json"
	"errors"
	"time"

	"verdant/hcert"
)

// example is the payload of an invented person's certificate: what the demo
// and the benchmarks issue.
func example(kind hcert.Kind, now time.Time) []byte {
	day := func(ago int) string { return now.AddDate(0, 0, -ago).Format(time.DateOnly) }
	payload := map[string]any{
		"ver": "1.3.0",
		"dob": "1988-04-12",
		"nam": map[string]string{"fn": "Ní Bhriain", "fnt": "NI<BHRIAIN", "gn": "Saoirse", "gnt": "SAOIRSE"},
	}
	switch kind {
	case hcert.KindVaccination:
		payload["v"] = []any{map[string]any{"tg": "840539006", "vp": "1119349007", "mp": "EU/1/20/1528", "ma": "ORG-100030215",
			"dn": 2, "sd": 2, "dt": day(30), "co": "IE", "is": "Health Service Executive", "ci": "URN:UVCI:01:IE:TO-BE-REPLACED"}}
	case hcert.KindTest:
		payload["t"] = []any{map[string]any{"tg": "840539006", "tt": "LP6464-4", "nm": "Example PCR",
			"sc": now.Add(-6 * time.Hour).UTC().Format("2006-01-02T15:04:05Z"), "tr": "260415000", "tc": "Dublin Test Centre",
			"co": "IE", "is": "Health Service Executive", "ci": "URN:UVCI:01:IE:TO-BE-REPLACED"}}
	case hcert.KindRecovery:
		payload["r"] = []any{map[string]any{"tg": "840539006", "fr": day(40), "co": "IE", "is": "Health Service Executive",
			"df": day(29), "du": now.AddDate(0, 0, 140).Format(time.DateOnly), "ci": "URN:UVCI:01:IE:TO-BE-REPLACED"}}
	}
	raw, err := json.Marshal(payload)
	if err != nil {
		panic(err) // maps of strings and numbers always encode
	}
	return raw
}

// tamper makes the holder a year younger inside the signed message and packs
// it up again, as a forger would who understands the format.
func tamper(text string) (string, error) {
	body, err := hcert.Unprefix(text)
	if err != nil {
		return "", err
	}
	packed, err := hcert.DecodeBase45(body)
	if err != nil {
		return "", err
	}
	message, err := hcert.Inflate(packed, hcert.Limits{})
	if err != nil {
		return "", err
	}
	forged := bytes.Replace(message, []byte("1988-04-12"), []byte("1989-04-12"), 1)
	if bytes.Equal(forged, message) {
		return "", errors.New("the certificate has no date of birth to forge")
	}
	var packedAgain bytes.Buffer
	w := zlib.NewWriter(&packedAgain)
	if _, err := w.Write(forged); err != nil {
		return "", err
	}
	if err := w.Close(); err != nil {
		return "", err
	}
	return hcert.Prefix + hcert.EncodeBase45(packedAgain.Bytes()), nil
}
