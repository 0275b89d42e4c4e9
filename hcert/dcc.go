package hcert

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"unicode/utf8"
)

// Kind is the type of a certificate.
type Kind string

// The three types of a DCC.
const (
	KindVaccination Kind = "vaccination"
	KindTest        Kind = "test"
	KindRecovery    Kind = "recovery"
)

// KindHealthLink is the type of a Verifiable Health Link, which only signers
// without limits to their usage may sign.
const KindHealthLink Kind = "health link"

// DCC is the payload of an EU Digital COVID Certificate, schema 1.0.0 to
// 1.3.3. Exactly one of Vaccinations, Tests and Recoveries has entries. Dates
// stay text, because a date of birth may be partial or empty.
type DCC struct {
	Version      string        `json:"ver"`
	Name         Name          `json:"nam"`
	DateOfBirth  string        `json:"dob"` // "", YYYY, YYYY-MM or YYYY-MM-DD
	Vaccinations []Vaccination `json:"v,omitempty"`
	Tests        []Test        `json:"t,omitempty"`
	Recoveries   []Recovery    `json:"r,omitempty"`
}

// Name is a person's name; the standardised forms follow ICAO 9303.
type Name struct {
	Family             string `json:"fn,omitempty"`
	FamilyStandardised string `json:"fnt,omitempty"`
	Given              string `json:"gn,omitempty"`
	GivenStandardised  string `json:"gnt,omitempty"`
}

// Vaccination is an entry of group v.
type Vaccination struct {
	Target       string `json:"tg"`
	Prophylaxis  string `json:"vp"`
	Product      string `json:"mp"`
	Manufacturer string `json:"ma"`
	Dose         int    `json:"dn"`
	Doses        int    `json:"sd"`
	Date         string `json:"dt"`
	Country      string `json:"co"`
	Issuer       string `json:"is"`
	ID           string `json:"ci"`
}

// Test is an entry of group t.
type Test struct {
	Target    string `json:"tg"`
	Type      string `json:"tt"`
	Name      string `json:"nm,omitempty"` // of a NAA test
	Device    string `json:"ma,omitempty"` // of a rapid antigen test
	Collected string `json:"sc"`
	Resulted  string `json:"dr,omitempty"` // schema 1.0.0 only
	Result    string `json:"tr"`
	Centre    string `json:"tc,omitempty"`
	Country   string `json:"co"`
	Issuer    string `json:"is"`
	ID        string `json:"ci"`
}

// Recovery is an entry of group r.
type Recovery struct {
	Target        string `json:"tg"`
	FirstPositive string `json:"fr"`
	Country       string `json:"co"`
	Issuer        string `json:"is"`
	ValidFrom     string `json:"df"`
	ValidUntil    string `json:"du"`
	ID            string `json:"ci"`
}

// Kind returns the type of the certificate, or "" if not exactly one group
// has entries.
func (d *DCC) Kind() Kind {
	var k Kind
	n := 0
	for _, g := range []struct {
		kind    Kind
		entries int
	}{{KindVaccination, len(d.Vaccinations)}, {KindTest, len(d.Tests)}, {KindRecovery, len(d.Recoveries)}} {
		if g.entries > 0 {
			k = g.kind
			n++
		}
	}
	if n != 1 {
		return ""
	}
	return k
}

// IDs returns the certificate identifiers (UVCIs) of all entries.
func (d *DCC) IDs() []string {
	var ids []string
	for _, v := range d.Vaccinations {
		ids = append(ids, v.ID)
	}
	for _, t := range d.Tests {
		ids = append(ids, t.ID)
	}
	for _, r := range d.Recoveries {
		ids = append(ids, r.ID)
	}
	return ids
}

// SetID replaces the certificate identifier of every entry.
func (d *DCC) SetID(uvci string) {
	for i := range d.Vaccinations {
		d.Vaccinations[i].ID = uvci
	}
	for i := range d.Tests {
		d.Tests[i].ID = uvci
	}
	for i := range d.Recoveries {
		d.Recoveries[i].ID = uvci
	}
}

// Bounds of the JSON form of a payload.
const (
	maxJSON   = 64 << 10
	maxValues = 2048
)

// ParseDCC reads the JSON form of a payload for issuing and checks it against
// the schema version that it declares. The error is a *SchemaError that names
// each field that is wrong and why, or says where the JSON is broken.
func ParseDCC(data []byte) (*DCC, error) {
	tree, err := ParseTree(data)
	if err != nil {
		return nil, err
	}
	if err := ValidateDeclared(tree); err != nil {
		return nil, err
	}
	return newDCC(tree), nil
}

// ParseTree reads one JSON object into the form that Payload.Tree has: numbers
// are int64 if they are integers, else float64. Trailing data, deep nesting
// and duplicate names are refused.
func ParseTree(data []byte) (map[string]any, error) {
	if len(data) > maxJSON {
		return nil, fmt.Errorf("read DCC JSON: larger than %d bytes", maxJSON)
	}
	if !utf8.Valid(data) {
		return nil, errors.New("read DCC JSON: not UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	left := maxValues
	v, err := jsonValue(dec, 16, "", &left)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, fmt.Errorf("read DCC JSON: it ends at byte %d, before the object does", len(data))
	}
	if err != nil {
		return nil, fmt.Errorf("read DCC JSON: %w", err)
	}
	tree, ok := v.(map[string]any)
	if !ok {
		return nil, errors.New("read DCC JSON: not an object")
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, fmt.Errorf("read DCC JSON: data after the object at byte %d", dec.InputOffset())
	}
	return tree, nil
}

func jsonValue(dec *json.Decoder, depth int, path string, left *int) (any, error) {
	tok, err := dec.Token()
	if err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("at byte %d: %w", dec.InputOffset(), err)
	}
	if depth == 0 {
		return nil, fmt.Errorf("%s: nested too deeply", path)
	}
	if *left--; *left < 0 {
		return nil, fmt.Errorf("at byte %d: more than %d values", dec.InputOffset(), maxValues)
	}
	switch t := tok.(type) {
	case json.Number:
		if n, err := t.Int64(); err == nil {
			return n, nil
		}
		f, err := t.Float64()
		if err != nil {
			return nil, fmt.Errorf("%s: number out of range", path)
		}
		return f, nil
	case json.Delim:
		if t == '[' {
			out := []any{}
			for dec.More() {
				v, err := jsonValue(dec, depth-1, fmt.Sprintf("%s[%d]", path, len(out)), left)
				if err != nil {
					return nil, err
				}
				out = append(out, v)
			}
			_, err := dec.Token()
			return out, err
		}
		return jsonObject(dec, depth, path, left)
	}
	return tok, nil
}

func jsonObject(dec *json.Decoder, depth int, path string, left *int) (any, error) {
	out := map[string]any{}
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return nil, fmt.Errorf("at byte %d: %w", dec.InputOffset(), err)
		}
		key := tok.(string) // the decoder admits nothing else here
		name := join(path, key)
		if _, dup := out[key]; dup {
			return nil, fmt.Errorf("%s: occurs twice", name)
		}
		v, err := jsonValue(dec, depth-1, name, left)
		if err != nil {
			return nil, err
		}
		out[key] = v
	}
	_, err := dec.Token()
	return out, err
}

// newDCC builds the typed payload from a tree that the schema accepts; what
// has the wrong type is left empty.
func newDCC(tree map[string]any) *DCC {
	d := &DCC{Version: text(tree, "ver"), DateOfBirth: text(tree, "dob")}
	if nam, ok := tree["nam"].(map[string]any); ok {
		d.Name = Name{
			Family: text(nam, "fn"), FamilyStandardised: text(nam, "fnt"),
			Given: text(nam, "gn"), GivenStandardised: text(nam, "gnt"),
		}
	}
	for _, e := range entries(tree, "v") {
		d.Vaccinations = append(d.Vaccinations, Vaccination{
			Target: text(e, "tg"), Prophylaxis: text(e, "vp"), Product: text(e, "mp"),
			Manufacturer: text(e, "ma"), Dose: number(e, "dn"), Doses: number(e, "sd"),
			Date: text(e, "dt"), Country: text(e, "co"), Issuer: text(e, "is"), ID: text(e, "ci"),
		})
	}
	for _, e := range entries(tree, "t") {
		d.Tests = append(d.Tests, Test{
			Target: text(e, "tg"), Type: text(e, "tt"), Name: text(e, "nm"), Device: text(e, "ma"),
			Collected: text(e, "sc"), Resulted: text(e, "dr"), Result: text(e, "tr"),
			Centre: text(e, "tc"), Country: text(e, "co"), Issuer: text(e, "is"), ID: text(e, "ci"),
		})
	}
	for _, e := range entries(tree, "r") {
		d.Recoveries = append(d.Recoveries, Recovery{
			Target: text(e, "tg"), FirstPositive: text(e, "fr"), Country: text(e, "co"),
			Issuer: text(e, "is"), ValidFrom: text(e, "df"), ValidUntil: text(e, "du"), ID: text(e, "ci"),
		})
	}
	return d
}

func text(m map[string]any, key string) string {
	s, _ := m[key].(string)
	return s
}

func number(m map[string]any, key string) int {
	switch n := m[key].(type) {
	case int64:
		if n == int64(int(n)) {
			return int(n)
		}
	case float64:
		if n == math.Trunc(n) && math.Abs(n) < 1<<31 {
			return int(n)
		}
	}
	return 0
}

func entries(tree map[string]any, group string) []map[string]any {
	list, _ := tree[group].([]any)
	out := make([]map[string]any, 0, len(list))
	for _, e := range list {
		if m, ok := e.(map[string]any); ok {
			out = append(out, m)
		}
	}
	return out
}

// Tree returns the payload as JSON would hold it, the form that ValidateDeclared and
// business rules read.
func (d *DCC) Tree() map[string]any {
	nam := make(map[string]any, 4)
	putText(nam, "fn", d.Name.Family)
	putText(nam, "fnt", d.Name.FamilyStandardised)
	putText(nam, "gn", d.Name.Given)
	putText(nam, "gnt", d.Name.GivenStandardised)
	tree := map[string]any{"ver": d.Version, "nam": nam, "dob": d.DateOfBirth}
	group := func(key string, n int, entry func(i int) map[string]any) {
		if n == 0 {
			return
		}
		list := make([]any, n)
		for i := range list {
			list[i] = entry(i)
		}
		tree[key] = list
	}
	group("v", len(d.Vaccinations), func(i int) map[string]any {
		v := &d.Vaccinations[i]
		return map[string]any{"tg": v.Target, "vp": v.Prophylaxis, "mp": v.Product, "ma": v.Manufacturer,
			"dn": int64(v.Dose), "sd": int64(v.Doses), "dt": v.Date, "co": v.Country, "is": v.Issuer, "ci": v.ID}
	})
	group("t", len(d.Tests), func(i int) map[string]any {
		t := &d.Tests[i]
		m := map[string]any{"tg": t.Target, "tt": t.Type, "sc": t.Collected, "tr": t.Result,
			"co": t.Country, "is": t.Issuer, "ci": t.ID}
		putText(m, "nm", t.Name)
		putText(m, "ma", t.Device)
		putText(m, "dr", t.Resulted)
		putText(m, "tc", t.Centre)
		return m
	})
	group("r", len(d.Recoveries), func(i int) map[string]any {
		r := &d.Recoveries[i]
		return map[string]any{"tg": r.Target, "fr": r.FirstPositive, "co": r.Country, "is": r.Issuer,
			"df": r.ValidFrom, "du": r.ValidUntil, "ci": r.ID}
	})
	return tree
}

func putText(m map[string]any, key, s string) {
	if s != "" {
		m[key] = s
	}
}

// appendTree encodes a tree with its map keys sorted, so that equal payloads
// have equal encodings.
func appendTree(b []byte, v any) ([]byte, error) {
	switch v := v.(type) {
	case nil:
		return append(b, 0xF6), nil
	case bool:
		if v {
			return append(b, 0xF5), nil
		}
		return append(b, 0xF4), nil
	case int64:
		return appendInt(b, v), nil
	case float64:
		return appendFloat(b, v), nil
	case string:
		return appendText(b, v), nil
	case []byte:
		return appendBytes(b, v), nil
	case []any:
		b = appendHead(b, cborArray, uint64(len(v)))
		var err error
		for _, e := range v {
			if b, err = appendTree(b, e); err != nil {
				return nil, err
			}
		}
		return b, nil
	case map[string]any:
		var few [16]string
		keys := few[:0]
		for k := range v {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		b = appendHead(b, cborMap, uint64(len(keys)))
		var err error
		for _, k := range keys {
			if b, err = appendTree(appendText(b, k), v[k]); err != nil {
				return nil, err
			}
		}
		return b, nil
	}
	return nil, fmt.Errorf("encode payload: no CBOR form for %T", v)
}

func appendFloat(b []byte, f float64) []byte {
	bits := math.Float64bits(f)
	return append(b, cborSimple<<5|27, byte(bits>>56), byte(bits>>48), byte(bits>>40), byte(bits>>32),
		byte(bits>>24), byte(bits>>16), byte(bits>>8), byte(bits))
}

// EncodeTree encodes a payload tree as CBOR, map keys sorted.
func EncodeTree(tree map[string]any) ([]byte, error) { return appendTree(nil, tree) }

// Payload is a decoded DCC payload, not checked against any schema.
type Payload struct {
	// Tree holds the payload as JSON would: nil, bool, int64, float64, string,
	// []byte, []any, map[string]any.
	Tree map[string]any
	// CBOR is the encoding it was read from.
	CBOR string
}

// ParsePayload parses an encoded DCC payload.
func ParsePayload(cbor []byte, l Limits) (*Payload, error) {
	p := new(Payload)
	if err := p.parse(string(cbor), l); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *Payload) parse(cbor string, l Limits) error {
	r := reader{s: cbor, items: l.items(), depth: l.depth(), stage: StagePayload}
	v, err := r.tree()
	if err != nil {
		return err
	}
	if r.rest() > 0 {
		return r.bad("bytes after the payload")
	}
	tree, ok := v.(map[string]any)
	if !ok {
		return r.bad("not a map")
	}
	p.Tree, p.CBOR = tree, cbor
	return nil
}

// Kind returns the type of certificate by the group that is present, or "" if
// not exactly one is. A null group counts as absent.
func (p *Payload) Kind() Kind { return treeKind(p.Tree) }

func treeKind(tree map[string]any) Kind {
	var k Kind
	n := 0
	for _, g := range groups {
		if tree[g.key] != nil {
			k = g.kind
			n++
		}
	}
	if n != 1 {
		return ""
	}
	return k
}
