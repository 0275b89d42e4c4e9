package issuance

import (
	"encoding/json"
	"errors"
	"time"

	"verdant/dcc/wire"
	"verdant/hcert"
	"verdant/hcert/valueset"
)

// readPayload reads the DCC that is to be issued, with uvci as the identifier
// of every entry whatever it said before, and checks it against the schema
// that it declares and the rules that a schema cannot say.
func readPayload(body []byte, uvci string, now time.Time, strict bool) (*hcert.DCC, error) {
	tree, err := hcert.ParseTree(body)
	if err != nil {
		return nil, err
	}
	for _, group := range []string{"v", "t", "r"} {
		entries, _ := tree[group].([]any)
		for _, e := range entries {
			if entry, ok := e.(map[string]any); ok {
				entry["ci"] = uvci
			}
		}
	}
	whole, err := json.Marshal(tree)
	if err != nil {
		return nil, errors.New("read DCC JSON: a value cannot be encoded")
	}
	dcc, err := hcert.ParseDCC(whole)
	if err != nil {
		return nil, err
	}
	if issues := implausible(dcc.Tree(), now, strict); len(issues) > 0 {
		return nil, &hcert.SchemaError{Version: dcc.Version, Issues: issues}
	}
	return dcc, nil
}

// implausible finds what the schema cannot say and no issuer may write: what
// contradicts itself, and dates that cannot be true. What an issuer lets pass
// nobody corrects later. With strict it is also what is doubtful, such as a
// code that its value set does not have.
func implausible(tree map[string]any, now time.Time, strict bool) (issues []hcert.Issue) {
	least := hcert.Wrong
	if strict {
		least = hcert.Doubtful
	}
	in := hcert.Inspection{ValueSets: valueset.Builtin(), At: now}
	for _, f := range hcert.AtLeast(least, in.Inspect(tree)) {
		issues = append(issues, hcert.Issue{Path: f.Path, Why: f.Why})
	}
	return issues
}

// kindNames are the wire's names of the types.
var kindNames = map[hcert.Kind]wire.GreenCertificateType{hcert.KindVaccination: wire.Vaccination, hcert.KindTest: wire.Test, hcert.KindRecovery: wire.Recovery}
