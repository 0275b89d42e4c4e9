package issuance

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"verdant/dcc/wire"
	"verdant/hcert"
)

// readPayload reads the DCC that is to be issued, with uvci as the identifier
// of every entry whatever it said before, and checks it against the schema
// that it declares and against the calendar.
func readPayload(body []byte, uvci string, now time.Time) (*hcert.DCC, error) {
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
	if issues := implausible(dcc, now); len(issues) > 0 {
		return nil, &hcert.SchemaError{Version: dcc.Version, Issues: issues}
	}
	return dcc, nil
}

// implausible finds dates that cannot be true. The schema knows only their
// form, and what an issuer lets pass nobody corrects later. A day of grace
// covers time zones.
func implausible(d *hcert.DCC, now time.Time) (issues []hcert.Issue) {
	latest := now.UTC().AddDate(0, 0, 1).Format(time.DateOnly)
	notLater := func(path, date string) {
		// Dates of ISO 8601 compare as text; partial ones are shorter.
		if n := min(len(date), len(latest)); n > 0 && date[:n] > latest[:n] {
			issues = append(issues, hcert.Issue{Path: path, Why: "must not be in the future"})
		}
	}
	notLater("dob", d.DateOfBirth)
	for i, v := range d.Vaccinations {
		notLater(fmt.Sprintf("v[%d].dt", i), v.Date)
	}
	for i, t := range d.Tests {
		notLater(fmt.Sprintf("t[%d].sc", i), t.Collected)
	}
	for i, r := range d.Recoveries {
		notLater(fmt.Sprintf("r[%d].fr", i), r.FirstPositive)
		if r.ValidFrom > r.ValidUntil {
			issues = append(issues, hcert.Issue{Path: fmt.Sprintf("r[%d].du", i), Why: "must not be before df"})
		}
	}
	return issues
}

// kindNames are the wire's names of the types.
var kindNames = map[hcert.Kind]wire.GreenCertificateType{hcert.KindVaccination: wire.Vaccination, hcert.KindTest: wire.Test, hcert.KindRecovery: wire.Recovery}
