package hcert

import (
	"errors"
	"strconv"
	"time"
)

// StageState says what happened to a certificate at one link of the chain.
type StageState string

// The states of a link.
const (
	StagePassed     StageState = "passed"
	StageFailed     StageState = "failed"
	StageNotReached StageState = "not reached"
)

// StageResult is what happened at one link of the chain.
type StageResult struct {
	Stage Stage      `json:"stage"`
	State StageState `json:"state"`
	// Reason and Detail say why it failed, or in Detail what came out of it;
	// neither holds a value of the payload.
	Reason Reason `json:"reason,omitempty"`
	Detail string `json:"detail,omitempty"`
}

// Diagnose takes a text apart and checks it like Verify, but goes on where one
// check fails and the next does not need it, so that a person sees all that is
// wrong: an expired certificate of an unknown signer with a broken payload has
// three failures. With keys nil nothing is checked beyond the payload. It
// decides nothing: only Verify does.
func (d *Decoder) Diagnose(text string, keys KeySource, at time.Time) (*Unverified, []StageResult) {
	u, err := d.Decode(text)
	results := u.decoded(err)
	if keys == nil {
		return u, results
	}
	if err != nil {
		for _, s := range []Stage{StageSigner, StageSignature, StageValidity, StageKeyUsage, StageSchema} {
			if s == StageValidity && u.Claims != nil {
				results = append(results, result(s, u.Claims.CheckTime(at), ""))
				continue
			}
			results = append(results, StageResult{Stage: s, State: StageNotReached})
		}
		return u, results
	}
	return u, append(results, u.checked(keys, at)...)
}

func result(s Stage, err error, detail string) StageResult {
	if err == nil {
		return StageResult{Stage: s, State: StagePassed, Detail: detail}
	}
	r := StageResult{Stage: s, State: StageFailed, Detail: err.Error()}
	var refused *Error
	if errors.As(err, &refused) {
		r.Reason, r.Detail = refused.Reason, refused.Detail
		if refused.Cause != nil && r.Detail == "" {
			r.Detail = refused.Cause.Error()
		}
	}
	return r
}

// decoded lists the links that take a text apart.
func (u *Unverified) decoded(err error) []StageResult {
	bytes := func(n int) string { return strconv.Itoa(n) + " bytes" }
	var failed Stage
	var refused *Error
	if errors.As(err, &refused) {
		failed = refused.Stage
	}
	var out []StageResult
	reached := true
	for _, s := range []struct {
		stage  Stage
		detail func() string
	}{
		{StagePrefix, func() string { return "" }},
		{StageBase45, func() string { return bytes(len(u.Compressed)) }},
		{StageZlib, func() string { return bytes(len(u.COSE)) }},
		{StageCOSE, func() string { return u.Sign1.Algorithm.String() + ", kid " + u.Sign1.KID.String() }},
		{StageCWT, func() string { return u.Claims.period() }},
		{StagePayload, func() string { return string(u.Profile) + ", " + string(u.Kind()) }},
	} {
		switch {
		case !reached:
			out = append(out, StageResult{Stage: s.stage, State: StageNotReached})
		case s.stage == failed:
			out = append(out, result(s.stage, err, ""))
			reached = false
		default:
			out = append(out, result(s.stage, nil, s.detail()))
		}
	}
	return out
}

func (c *Claims) period() string {
	text := "no times"
	if !c.IssuedAt.IsZero() && !c.Expires.IsZero() {
		text = c.IssuedAt.Format(time.RFC3339) + " to " + c.Expires.Format(time.RFC3339)
	}
	if len(c.Issuer) == 2 && capital(c.Issuer[0]) && capital(c.Issuer[1]) {
		text = c.Issuer + ", " + text
	}
	return text
}

// checked lists the links that Verify checks, each on its own.
func (u *Unverified) checked(keys KeySource, at time.Time) []StageResult {
	kind := u.Kind()
	key, err := u.Sign1.FindKey(keys, kind)
	signer, signature := result(StageSigner, nil, ""), result(StageSignature, err, "")
	var refused *Error
	if errors.As(err, &refused) && refused.Stage == StageSigner {
		signer, signature = result(StageSigner, err, ""), StageResult{Stage: StageSignature, State: StageNotReached}
	}
	out := []StageResult{signer, signature}
	validity := u.Claims.CheckTime(at)
	usage := StageResult{Stage: StageKeyUsage, State: StageNotReached}
	if key != nil {
		if validity == nil {
			validity = key.issuedInTime(u.Claims)
		}
		err = nil
		if kind != "" && !key.Usage.Allows(kind) {
			err = refuse(StageKeyUsage, WrongKeyUsage, "this one is a "+string(kind)+" certificate")
		}
		usage = result(StageKeyUsage, err, "")
	}
	out = append(out, result(StageValidity, validity, ""), usage)
	release, err := u.validate()
	if err != nil {
		err = &Error{Stage: StageSchema, Reason: SchemaViolation, Cause: err}
	}
	return append(out, result(StageSchema, err, release))
}
