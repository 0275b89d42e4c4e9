package conformance

import (
	"encoding/json"
	"fmt"

	"verdant/certlogic"
)

// Assertion is the outcome of one assertion of a CertLogic suite, or of one
// case of a validation suite.
type Assertion struct {
	File  string `json:"file"`
	Suite string `json:"suite"`
	// Name is the case's name.
	Name string `json:"name"`
	// Case and Assertion count from 0 within the suite and the case.
	Case      int `json:"case"`
	Assertion int `json:"assertion"`
	// Passed says that what came out is what was expected.
	Passed  bool `json:"passed"`
	Skipped bool `json:"skipped,omitempty"`
	// Value is what the expression evaluated to; for validation, the list of
	// what is wrong with it.
	Value any `json:"value"`
	// Error says why there is no value, or how it differs.
	Error string `json:"error"`
}

// directive is "skip", "only" or nothing. "only" is a developer's aid and is
// ignored.
type directive string

type suite struct {
	Name      string     `json:"name"`
	Directive directive  `json:"directive"`
	Cases     []testCase `json:"cases"`
}

type testCase struct {
	Name       string          `json:"name"`
	Directive  directive       `json:"directive"`
	Logic      json.RawMessage `json:"certLogicExpression"`
	Assertions []struct {
		Logic     json.RawMessage `json:"certLogicExpression"`
		Data      json.RawMessage `json:"data"`
		Expected  json.RawMessage `json:"expected"`
		Directive directive       `json:"directive"`
		Message   string          `json:"message"`
	} `json:"assertions"`
	// Issues are there in a validation suite.
	Issues *[]struct {
		Expr json.RawMessage `json:"expr"`
	} `json:"issues"`
}

// RunSuites runs every CertLogic test suite below dir.
func RunSuites(dir string) ([]Assertion, error) {
	files, err := read(dir)
	if err != nil {
		return nil, err
	}
	var out []Assertion
	for _, f := range files {
		if f.err != nil {
			out = append(out, Assertion{File: f.name, Error: f.err.Error()})
			continue
		}
		if f.has["cases"] == nil {
			continue
		}
		s, err := f.suite()
		if err != nil {
			out = append(out, Assertion{File: f.name, Error: err.Error()})
			continue
		}
		for i, c := range s.Cases {
			at := Assertion{File: f.name, Suite: s.Name, Name: c.Name, Case: i, Skipped: s.Directive == "skip" || c.Directive == "skip"}
			if c.Issues != nil {
				out = append(out, c.validate(at))
				continue
			}
			out = append(out, c.evaluate(at)...)
		}
	}
	return out, nil
}

func (f file) suite() (suite, error) {
	var s suite
	for name, into := range map[string]any{"name": &s.Name, "directive": &s.Directive, "cases": &s.Cases} {
		if raw := f.has[name]; raw != nil {
			if err := json.Unmarshal(raw, into); err != nil {
				return s, fmt.Errorf("not a test suite: %s: %w", name, err)
			}
		}
	}
	return s, nil
}

func (c testCase) evaluate(at Assertion) []Assertion {
	var out []Assertion
	skip := at.Skipped
	for i, a := range c.Assertions {
		at.Assertion, at.Passed, at.Value, at.Error = i, false, nil, ""
		at.Skipped = skip || a.Directive == "skip"
		logic := a.Logic
		if logic == nil {
			logic = c.Logic
		}
		if v, err := evaluate(logic, a.Data); err != nil {
			at.Error = err.Error()
		} else {
			at.Value = v
			switch ok, err := agrees(v, a.Expected); {
			case err != nil:
				at.Error = err.Error()
			case !ok:
				at.Error = fmt.Sprintf("got %s, want %s", v, a.Expected)
			default:
				at.Passed = true
			}
		}
		out = append(out, at)
	}
	return out
}

func evaluate(logic, data json.RawMessage) (certlogic.Value, error) {
	e, _, err := certlogic.ParseTolerant(logic)
	if err != nil {
		return certlogic.Value{}, err
	}
	v, err := certlogic.FromJSON(data)
	if err != nil {
		return certlogic.Value{}, err
	}
	return e.Evaluate(v)
}

// validate compares the expressions that have problems, in order. Messages are
// the implementation's own.
func (c testCase) validate(at Assertion) Assertion {
	_, problems, err := certlogic.ParseTolerant(c.Logic)
	if err != nil {
		at.Error = err.Error()
		return at
	}
	if problems == nil {
		problems = certlogic.Problems{}
	}
	at.Value = problems
	if len(problems) != len(*c.Issues) {
		at.Error = fmt.Sprintf("got %d problems, want %d", len(problems), len(*c.Issues))
		return at
	}
	for i, want := range *c.Issues {
		got, err := certlogic.FromJSON(problems[i].Expr)
		if err != nil {
			at.Error = err.Error()
			return at
		}
		expr := want.Expr
		if expr == nil {
			expr = json.RawMessage("null")
		}
		if ok, err := agrees(got, expr); err != nil || !ok {
			at.Error = fmt.Sprintf("problem %d is with %s, want %s", i, got, expr)
			return at
		}
	}
	at.Passed = true
	return at
}
