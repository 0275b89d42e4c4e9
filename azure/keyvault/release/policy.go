// Package release decides whether a key may leave the vault for an environment
// that proves what it is: Azure's secure key release.
//
// A Policy is what the key's owner wrote (version 1.0.0 of Azure's release
// policy grammar): authorities, and for each the claims that it must attest. An
// Assertion is a JSON web token of such an authority about an environment, with
// a key that only the environment has. A Verifier turns a token into an
// Assertion; it trusts the authorities it was made with and no other, whatever
// a token or a policy says, and without any it refuses everything.
//
// It refuses a policy that a reader could misunderstand: unknown or repeated
// members, operators other than "equals", authorities that are no https origin,
// conditions nested deeper than maxDepth. Claims are named with dots for nested
// objects; a claim that is not there satisfies nothing.
package release

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
)

// ErrPolicy is wrapped for a policy that is refused.
var ErrPolicy = errors.New("release policy refused")

const (
	maxPolicy      = 16 << 10
	maxDepth       = 8
	maxConditions  = 256 // in all
	maxAuthorities = 16
)

// Policy says which environments a key may be released to.
type Policy struct {
	authorities []trusted
}

// trusted is an authority with what it must attest.
type trusted struct {
	authority string
	condition condition
}

// condition is a claim condition, or a list of which any or all must hold.
type condition struct {
	claim string
	want  string // the value's text
	any   bool
	of    []condition // empty for a claim condition
}

// ParsePolicy reads a policy, or returns ErrPolicy.
func ParsePolicy(data []byte) (*Policy, error) {
	if len(data) > maxPolicy {
		return nil, fmt.Errorf("%w: longer than %d bytes", ErrPolicy, maxPolicy)
	}
	p := &parser{in: json.NewDecoder(bytes.NewReader(data))}
	p.in.UseNumber()
	policy, err := p.policy()
	if err == nil {
		if _, end := p.in.Token(); !errors.Is(end, io.EOF) {
			err = errors.New("something follows its end")
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPolicy, err)
	}
	return policy, nil
}

// Authorities are the origins that the policy names.
func (p *Policy) Authorities() []string {
	var out []string
	for _, t := range p.authorities {
		out = append(out, t.authority)
	}
	return out
}

// Allows reports whether the assertion is of an authority that the policy names
// and attests what the policy demands of it.
func (p *Policy) Allows(a *Assertion) bool {
	for _, t := range p.authorities {
		if t.authority == a.authority && t.condition.holds(a.claims) {
			return true
		}
	}
	return false
}

func (c condition) holds(claims map[string]any) bool {
	if len(c.of) == 0 {
		got, ok := text(lookup(claims, c.claim))
		return ok && got == c.want
	}
	for _, sub := range c.of {
		if sub.holds(claims) == c.any {
			return c.any
		}
	}
	return !c.any
}

// lookup follows a name with dots through nested objects.
func lookup(claims map[string]any, name string) any {
	first, rest, nested := strings.Cut(name, ".")
	value := claims[first]
	if !nested {
		return value
	}
	inner, _ := value.(map[string]any)
	return lookup(inner, rest)
}

// text is a value as conditions compare it: the grammar writes true and false
// as strings too. Arrays, objects and null equal nothing.
func text(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case bool:
		return strconv.FormatBool(v), true
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return strconv.FormatInt(n, 10), true
		}
		f, err := v.Float64()
		return strconv.FormatFloat(f, 'g', -1, 64), err == nil
	}
	return "", false
}

// Origin checks the address of an authority: https, a host, nothing else. It
// returns it without a slash at its end.
func Origin(address string) (string, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" || u.Opaque != "" {
		return "", errors.New("an authority must be an https address of a host")
	}
	return "https://" + strings.ToLower(u.Host), nil
}

// parser reads a policy from the tokens of encoding/json, as its decoder for
// structures takes repeated and unknown members.
type parser struct {
	in         *json.Decoder
	conditions int
}

var errShape = errors.New("not of the form that the grammar of version 1.0.0 has")

// object reads an object; member is called with each name, in lower case and
// once.
func (p *parser) object(member func(name string) error) error {
	if t, err := p.in.Token(); err != nil || t != json.Delim('{') {
		return errShape
	}
	return p.members(member)
}

func (p *parser) members(member func(name string) error) error {
	seen := map[string]bool{}
	for p.in.More() {
		t, err := p.in.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return errShape
		}
		name = strings.ToLower(name)
		if seen[name] {
			return fmt.Errorf("member %.40q is there twice", name)
		}
		seen[name] = true
		if err := member(name); err != nil {
			return err
		}
	}
	_, err := p.in.Token() // the closing brace
	if err != nil {
		return errShape
	}
	return nil
}

func (p *parser) list(element func() error) error {
	if t, err := p.in.Token(); err != nil || t != json.Delim('[') {
		return errShape
	}
	for p.in.More() {
		if err := element(); err != nil {
			return err
		}
	}
	if _, err := p.in.Token(); err != nil {
		return errShape
	}
	return nil
}

func (p *parser) string() (string, error) {
	t, err := p.in.Token()
	s, ok := t.(string)
	if err != nil || !ok || s == "" {
		return "", errShape
	}
	return s, nil
}

func (p *parser) policy() (*Policy, error) {
	policy := &Policy{}
	version := ""
	err := p.object(func(name string) (err error) {
		switch name {
		case "version":
			version, err = p.string()
			return err
		case "anyof":
			return p.list(func() error {
				t, err := p.authority()
				policy.authorities = append(policy.authorities, t)
				if err == nil && len(policy.authorities) > maxAuthorities {
					err = fmt.Errorf("more than %d authorities", maxAuthorities)
				}
				return err
			})
		}
		return unknown(name)
	})
	switch {
	case err != nil:
		return nil, err
	case version != "1.0.0":
		return nil, errors.New("its version is not 1.0.0")
	case len(policy.authorities) == 0:
		return nil, errors.New("it names no authority")
	}
	return policy, nil
}

func unknown(name string) error { return fmt.Errorf("member %.40q is unknown", name) }

func (p *parser) authority() (trusted, error) {
	var t trusted
	err := p.object(func(name string) (err error) {
		switch name {
		case "authority":
			if t.authority, err = p.string(); err == nil {
				t.authority, err = Origin(t.authority)
			}
			return err
		case "anyof", "allof":
			if len(t.condition.of) > 0 {
				return errors.New("an authority has both anyOf and allOf")
			}
			t.condition, err = p.conditionList(name == "anyof", 1)
			return err
		}
		return unknown(name)
	})
	if err == nil && (t.authority == "" || len(t.condition.of) == 0) {
		err = errors.New("an authority needs an address and conditions")
	}
	return t, err
}

func (p *parser) conditionList(any bool, depth int) (condition, error) {
	c := condition{any: any}
	if depth > maxDepth {
		return c, fmt.Errorf("conditions are nested deeper than %d", maxDepth)
	}
	err := p.list(func() error {
		if p.conditions++; p.conditions > maxConditions {
			return fmt.Errorf("more than %d conditions", maxConditions)
		}
		sub, err := p.condition(depth)
		c.of = append(c.of, sub)
		return err
	})
	if err == nil && len(c.of) == 0 {
		err = errors.New("a list of conditions is empty")
	}
	return c, err
}

func (p *parser) condition(depth int) (condition, error) {
	var c condition
	compared := false
	err := p.object(func(name string) (err error) {
		switch name {
		case "claim":
			c.claim, err = p.string()
			return err
		case "equals":
			t, err := p.in.Token()
			if err != nil {
				return errShape
			}
			if c.want, compared = text(t); !compared {
				return errors.New("a claim is compared with a string, a number, true or false")
			}
			return nil
		case "anyof", "allof":
			if len(c.of) > 0 {
				return errors.New("a condition has both anyOf and allOf")
			}
			list, err := p.conditionList(name == "anyof", depth+1)
			c.any, c.of = list.any, list.of
			return err
		case "notequals", "less", "lessorequals", "greater", "greaterorequals", "exists":
			return fmt.Errorf("the operator %s is not supported, only equals", name)
		}
		return unknown(name)
	})
	switch {
	case err != nil:
	case len(c.of) > 0 && (c.claim != "" || compared):
		err = errors.New("a condition is a claim or a list, not both")
	case len(c.of) == 0 && (c.claim == "" || !compared):
		err = errors.New("a condition needs claim and equals")
	}
	return c, err
}
