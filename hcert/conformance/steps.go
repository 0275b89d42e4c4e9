package conformance

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"verdant/hcert"
	"verdant/hcert/barcode"
)

// vector is a file of the format. Fields are optional; an empty one counts as
// absent.
type vector struct {
	JSON       json.RawMessage            `json:"JSON"`
	CBOR       field                      `json:"CBOR"`
	COSE       field                      `json:"COSE"`
	Compressed field                      `json:"COMPRESSED"`
	Base45     field                      `json:"BASE45"`
	Prefix     field                      `json:"PREFIX"`
	Picture    field                      `json:"2DCODE"`
	Context    *testContext               `json:"TESTCTX"`
	Results    map[string]json.RawMessage `json:"EXPECTEDRESULTS"`
}

type testContext struct {
	Certificate field `json:"CERTIFICATE"`
	Clock       field `json:"VALIDATIONCLOCK"`
}

// field is text; a value of another type becomes its JSON, so that one odd
// field fails its own steps and not the whole file.
type field string

// UnmarshalJSON reads any value.
func (f *field) UnmarshalJSON(data []byte) error {
	var s string
	switch {
	case string(data) == "null":
		*f = ""
	case json.Unmarshal(data, &s) == nil:
		*f = field(s)
	default:
		*f = field(data)
	}
	return nil
}

// run evaluates one vector. chain is what the text in PREFIX decodes to,
// signed what the COSE field, or else the chain, decodes to.
type run struct {
	v        *vector
	limits   hcert.Limits
	chain    *hcert.Unverified
	chainErr error
	signed   *hcert.Unverified
	// signedErr is the error of decoding beyond what signed holds.
	signedErr error
	json      map[string]any
	jsonErr   error
}

func newRun(v *vector) *run {
	r := &run{v: v}
	d := new(hcert.Decoder)
	if v.Prefix == "" {
		r.chain, r.chainErr = &hcert.Unverified{}, errors.New("the file has no PREFIX")
	} else {
		r.chain, r.chainErr = d.Decode(string(v.Prefix))
	}
	r.signed, r.signedErr = r.chain, r.chainErr
	if v.COSE != "" {
		r.signed = &hcert.Unverified{}
		var msg []byte
		if msg, r.signedErr = unhex("COSE", v.COSE); r.signedErr == nil {
			r.signed, r.signedErr = d.DecodeCOSE(msg)
		}
	}
	if len(v.JSON) > 0 && string(v.JSON) != "null" {
		text := []byte(v.JSON)
		var quoted string
		if json.Unmarshal(v.JSON, &quoted) == nil {
			text = []byte(quoted) // the object as text
		}
		r.json, r.jsonErr = hcert.ParseTree(text)
	}
	return r
}

func unhex(name string, s field) ([]byte, error) {
	b, err := hex.DecodeString(strings.TrimSpace(string(s)))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return b, nil
}

func (r *run) step(flag string) error {
	switch flag {
	case ValidObject:
		return r.validObject()
	case Encode:
		return r.encode()
	case PictureDecode:
		return r.picture()
	case Unprefix:
		return r.unprefix()
	case Base45Decode:
		return r.base45()
	case Compression:
		return r.compression()
	case Verify:
		return r.verify()
	case Decode:
		return r.decode()
	case ValidJSON:
		return r.validJSON()
	case SchemaValidation:
		return r.schema()
	case ExpirationCheck:
		return r.expiration()
	case KeyUsage:
		return r.keyUsage()
	}
	return errors.New("unknown flag " + flag)
}

// object is the JSON of the file, or the payload if the file has none.
func (r *run) object() (map[string]any, error) {
	if r.json != nil || r.jsonErr != nil {
		return r.json, r.jsonErr
	}
	if r.signed.Payload == nil {
		return nil, fmt.Errorf("the file has no JSON, and no payload: %w", r.signedErr)
	}
	return r.signed.Payload.Tree, nil
}

func (r *run) validObject() error {
	tree, err := r.object()
	if err != nil {
		return err
	}
	_, err = hcert.Validate(tree)
	return err
}

// encode checks that JSON becomes CBOR that reads back as JSON, and that the
// file's own CBOR says the same. Maps have no order, so bytes do not compare.
func (r *run) encode() error {
	tree, err := r.object()
	if err != nil {
		return err
	}
	encoded, err := hcert.EncodeTree(tree)
	if err != nil {
		return err
	}
	back, err := hcert.ParsePayload(encoded, r.limits)
	if err != nil {
		return err
	}
	if err := same(tree, back.Tree); err != nil {
		return err
	}
	if r.v.CBOR == "" {
		return nil
	}
	given, err := r.cbor()
	if err != nil {
		return err
	}
	return same(tree, given)
}

// cbor decodes the CBOR field, which holds the payload, the claim set around it
// or the signed message around that.
func (r *run) cbor() (map[string]any, error) {
	data, err := unhex("CBOR", r.v.CBOR)
	if err != nil {
		return nil, err
	}
	p, err := hcert.ParsePayload(data, r.limits)
	if err == nil {
		return p.Tree, nil
	}
	if s, signErr := hcert.ParseSign1(data, r.limits); signErr == nil {
		data = []byte(s.Payload)
	}
	c, claimsErr := hcert.ParseClaims(data, r.limits)
	if claimsErr != nil {
		return nil, fmt.Errorf("CBOR: %w", err)
	}
	p, err = hcert.ParsePayload([]byte(c.Subclaim(hcert.SubclaimDCC)), r.limits)
	if err != nil {
		return nil, fmt.Errorf("CBOR: %w", err)
	}
	return p.Tree, nil
}

// picture reads the code and compares it with PREFIX. Of a file without a
// picture it draws PREFIX and reads that: the step is then about the text.
func (r *run) picture() error {
	if r.v.Prefix == "" {
		return errors.New("the file has no PREFIX")
	}
	var data []byte
	if r.v.Picture == "" {
		var buf bytes.Buffer
		if err := barcode.WriteQR(&buf, string(r.v.Prefix), 600); err != nil {
			return err
		}
		data = buf.Bytes()
	} else {
		var err error
		if data, err = unbase64(r.v.Picture); err != nil {
			return fmt.Errorf("2DCODE: %w", err)
		}
	}
	text, err := barcode.Read(bytes.NewReader(data))
	if err != nil {
		return err
	}
	if text != string(r.v.Prefix) {
		return errors.New("the code in the picture differs from PREFIX")
	}
	return nil
}

// unbase64 reads either alphabet of base64 with or without padding, line
// breaks, PEM armour or the start of a data URL.
func unbase64(f field) ([]byte, error) {
	s := string(f)
	if _, data, ok := strings.Cut(s, ";base64,"); ok {
		s = data
	}
	var b strings.Builder
	for line := range strings.Lines(s) {
		if strings.HasPrefix(line, "-----") {
			continue
		}
		b.WriteString(strings.Map(func(r rune) rune {
			switch r {
			case ' ', '\r', '\n', '\t', '=':
				return -1
			case '-':
				return '+'
			case '_':
				return '/'
			}
			return r
		}, line))
	}
	return base64.RawStdEncoding.DecodeString(b.String())
}

func (r *run) unprefix() error {
	if r.v.Prefix == "" {
		return errors.New("the file has no PREFIX")
	}
	encoded, err := hcert.Unprefix(string(r.v.Prefix))
	if err != nil {
		return err
	}
	if r.v.Base45 != "" && encoded != string(r.v.Base45) {
		return errors.New("PREFIX without HC1: differs from BASE45")
	}
	return nil
}

func (r *run) compressed() ([]byte, error) {
	if r.v.Base45 != "" {
		return hcert.DecodeBase45(string(r.v.Base45))
	}
	if r.chain.Compressed == nil {
		return nil, r.chainErr
	}
	return r.chain.Compressed, nil
}

func (r *run) base45() error {
	got, err := r.compressed()
	if err != nil {
		return err
	}
	if r.v.Compressed == "" {
		return nil
	}
	want, err := unhex("COMPRESSED", r.v.Compressed)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return errors.New("BASE45 decodes to something other than COMPRESSED")
	}
	return nil
}

func (r *run) compression() error {
	var data []byte
	var err error
	if r.v.Compressed != "" {
		data, err = unhex("COMPRESSED", r.v.Compressed)
	} else {
		data, err = r.compressed()
	}
	if err != nil {
		return err
	}
	got, err := hcert.Inflate(data, r.limits)
	if err != nil {
		return err
	}
	if r.v.COSE == "" {
		return nil
	}
	want, err := unhex("COSE", r.v.COSE)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return errors.New("COMPRESSED inflates to something other than COSE")
	}
	return nil
}

func (r *run) key() (*hcert.Key, error) {
	if r.v.Context == nil || r.v.Context.Certificate == "" {
		return nil, errors.New("the file has no CERTIFICATE")
	}
	der, err := unbase64(r.v.Context.Certificate)
	if err != nil {
		return nil, fmt.Errorf("CERTIFICATE: %w", err)
	}
	return hcert.ParseKey(der)
}

func (r *run) verify() error {
	if r.signed.Sign1 == nil {
		return r.signedErr
	}
	key, err := r.key()
	if err != nil {
		return err
	}
	_, err = r.signed.Sign1.FindKey(hcert.NewKeySet(key), "")
	return err
}

func (r *run) decode() error {
	if r.signed.Payload == nil {
		return r.signedErr
	}
	if r.json == nil {
		return r.jsonErr
	}
	return same(r.json, r.signed.Payload.Tree)
}

func (r *run) validJSON() error {
	if r.chain.Payload == nil {
		return r.chainErr
	}
	if r.json == nil {
		return r.jsonErr
	}
	return same(r.json, r.chain.Payload.Tree)
}

func (r *run) schema() error {
	if r.signed.Payload == nil {
		return r.signedErr
	}
	_, err := hcert.Validate(r.signed.Payload.Tree)
	return err
}

func (r *run) expiration() error {
	if r.signed.Claims == nil {
		return r.signedErr
	}
	if r.v.Context == nil || r.v.Context.Clock == "" {
		return errors.New("the file has no VALIDATIONCLOCK")
	}
	at, err := parseClock(string(r.v.Context.Clock))
	if err != nil {
		return err
	}
	return r.signed.Claims.CheckTime(at)
}

// parseClock reads ISO 8601 with or without seconds, fractions, zone and the
// colon in the zone; without a zone it is UTC. Go reads a fraction after the
// seconds whether the layout has one or not.
func parseClock(s string) (time.Time, error) {
	s = strings.TrimSpace(s)
	for _, day := range []string{"2006-01-02T", "2006-01-02 "} {
		for _, clock := range []string{"15:04:05", "15:04"} {
			for _, zone := range []string{"Z07:00", "Z0700", "Z07", ""} {
				if t, err := time.Parse(day+clock+zone, s); err == nil {
					return t, nil
				}
			}
		}
	}
	if t, err := time.Parse(time.DateOnly, s); err == nil {
		return t, nil
	}
	return time.Time{}, errors.New("VALIDATIONCLOCK is not an ISO 8601 time")
}

func (r *run) keyUsage() error {
	if r.signed.Payload == nil {
		return r.signedErr
	}
	key, err := r.key()
	if err != nil {
		return err
	}
	kind := r.signed.Payload.Kind()
	if !key.Usage.Allows(kind) {
		return fmt.Errorf("%w: this one is a %q certificate", hcert.WrongKeyUsage, kind)
	}
	return nil
}
