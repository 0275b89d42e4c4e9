package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"verdant/certlogic"
	"verdant/hcert"
	"verdant/hcert/valueset"
)

// exitNotChecked is what verify exits with if a certificate is genuine and
// valid but the rules that were asked for could not be applied to it.
const exitNotChecked = 3

// verdict is what verify prints. Valid says that all that was asked for held.
type verdict struct {
	Valid   bool      `json:"valid"`
	Stage   string    `json:"stage,omitempty"`
	Reason  string    `json:"reason,omitempty"`
	Detail  string    `json:"detail,omitempty"`
	Profile string    `json:"profile,omitempty"`
	Issuer  string    `json:"issuer,omitempty"`
	KID     string    `json:"kid,omitempty"`
	Kind    string    `json:"type,omitempty"`
	Expires time.Time `json:"expires,omitzero"`
	// NotChecked says that the certificate is genuine and valid, and that the
	// rules asked for were not applied.
	NotChecked bool `json:"notChecked,omitempty"`
	// Rules is there if rules were asked for and everything before them held.
	Rules *certlogic.Report `json:"rules,omitempty"`
	// Findings is what the schema does not see.
	Findings []hcert.Finding `json:"findings,omitempty"`
	// Stages is how far a refused certificate got.
	Stages []hcert.StageResult `json:"stages,omitempty"`
}

func judge(text string, keys hcert.KeySource, at time.Time) verdict {
	v, _ := verifyText(text, keys, at)
	return v
}

// verifyText verifies a certificate. Only a valid one is returned beside the
// verdict.
func verifyText(text string, keys hcert.KeySource, at time.Time) (verdict, *hcert.Verified) {
	var decoder hcert.Decoder
	unverified, err := decoder.Decode(text)
	if err == nil {
		var verified *hcert.Verified
		if verified, err = unverified.Verify(keys, at); err == nil {
			return verdict{Valid: true, Profile: string(verified.Profile()), Issuer: verified.Claims().Issuer, KID: verified.Key().KID.String(),
				Kind: string(verified.Kind()), Expires: verified.Claims().Expires, Findings: verified.Inspect(valueset.Builtin())}, verified
		}
	}
	v := verdict{Reason: err.Error(), Profile: string(unverified.Profile)}
	var refused *hcert.Error
	if errors.As(err, &refused) {
		v.Stage, v.Reason, v.Detail = string(refused.Stage), string(refused.Reason), refused.Detail
	}
	_, v.Stages = decoder.Diagnose(text, keys, at)
	return v, nil
}

// strictly refuses what is wrong or doubtful, where that was asked for.
func (v *verdict) strictly() {
	worst := hcert.AtLeast(hcert.Doubtful, v.Findings)
	if v.Valid && len(worst) > 0 {
		v.Valid, v.Stage, v.Reason, v.Detail = false, "findings", "the payload is not as it should be", worst[0].Path+" "+worst[0].Why
	}
}

func (v verdict) exit() error {
	switch {
	case v.Valid:
		return nil
	case v.NotChecked:
		return exitError(exitNotChecked)
	}
	return exitError(1)
}

func (v verdict) String() string {
	about := func() string {
		what := v.Kind + " certificate"
		if v.Profile != "" && v.Profile != string(hcert.ProfileDCC) {
			what += " (" + v.Profile + ")"
		}
		return fmt.Sprintf("%s of %s, signed by document signer %s, expires %s", what, v.Issuer, v.KID, v.Expires.UTC().Format(time.RFC3339))
	}
	switch {
	case v.Valid:
		return "VALID: " + about()
	case v.NotChecked:
		return "NOT CHECKED: " + v.Reason + "; the certificate itself is genuine and not expired: " + about()
	}
	text := "REFUSED: " + v.Reason
	if v.Stage != "" {
		text += " (at " + v.Stage + ")"
	}
	if v.Detail != "" {
		text += ": " + v.Detail
	}
	return text
}

// printVerdict prints what verify found, as JSON or for a person.
func (s *session) printVerdict(v verdict, explain bool) error {
	if s.json {
		return printJSON(os.Stdout, v)
	}
	fmt.Println(v)
	if v.Rules != nil {
		writeRules(os.Stdout, v.Rules, explain, v.Expires)
	}
	writeStages(os.Stdout, v.Stages)
	writeFindings(os.Stdout, v.Findings)
	return nil
}

// writeFindings tells a person what the schema does not see.
func writeFindings(w io.Writer, findings []hcert.Finding) {
	for _, f := range findings {
		fmt.Fprintf(w, "  %s: %s %s (%s)\n", f.Severity, f.Path, f.Why, f.Code)
	}
}

// writeStages tells a person in one line how far a certificate got.
func writeStages(w io.Writer, stages []hcert.StageResult) {
	if len(stages) == 0 {
		return
	}
	var parts []string
	for _, state := range []hcert.StageState{hcert.StagePassed, hcert.StageFailed, hcert.StageNotReached} {
		var names []string
		for _, s := range stages {
			if s.State == state {
				names = append(names, string(s.Stage))
			}
		}
		if names != nil {
			parts = append(parts, string(state)+": "+strings.Join(names, ", "))
		}
	}
	fmt.Fprintln(w, "  "+strings.Join(parts, "; "))
}

// decoded is what decode prints.
type decoded struct {
	Profile   string    `json:"profile,omitempty"`
	Algorithm string    `json:"alg,omitempty"`
	KID       string    `json:"kid,omitempty"`
	Issuer    string    `json:"iss,omitempty"`
	IssuedAt  time.Time `json:"iat,omitzero"`
	Expires   time.Time `json:"exp,omitzero"`
	Payload   any       `json:"payload,omitempty"`
	// Texts is what the codes mean.
	Texts    map[string]string   `json:"texts,omitempty"`
	Findings []hcert.Finding     `json:"findings,omitempty"`
	Stages   []hcert.StageResult `json:"stages,omitempty"`
}

func describe(u *hcert.Unverified, language string) decoded {
	d := decoded{Profile: string(u.Profile)}
	if u.Sign1 != nil {
		d.Algorithm, d.KID = u.Sign1.Algorithm.String(), u.Sign1.KID.String()
	}
	if u.Claims != nil {
		d.Issuer, d.IssuedAt, d.Expires = u.Claims.Issuer, u.Claims.IssuedAt, u.Claims.Expires
	}
	switch {
	case u.Payload != nil:
		d.Payload = u.Payload.Tree
		d.Texts = hcert.Texts(u.Payload.Tree, valueset.Builtin(), language)
		d.Findings = hcert.Inspection{ValueSets: valueset.Builtin(), Claims: u.Claims}.Inspect(u.Payload.Tree)
	case u.Document != nil:
		d.Payload = u.Document.Tree
	}
	return d
}
