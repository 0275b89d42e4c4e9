package main

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"verdant/certlogic"
	"verdant/estate"
	"verdant/hcert"
	"verdant/hcert/valueset"
)

// ruleFlags say which business rules cert verify applies, and how it tells
// what came of them.
type ruleFlags struct {
	country, region, language string
	explain                   bool
}

func (f *ruleFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.country, "rules", "", "also apply the business rules of a country (two letters)")
	cmd.Flags().StringVar(&f.region, "region", "", "with --rules: also those of a region of the country")
	cmd.Flags().BoolVar(&f.explain, "explain", false, "with --rules: say in words why a rule failed, and when it will pass")
	cmd.Flags().StringVar(&f.language, "lang", "en", "with --rules: the language of the rules' texts, where they have it")
}

func (f *ruleFlags) check() error {
	f.country = strings.ToUpper(f.country)
	if f.country == "" && (f.region != "" || f.explain) {
		return usagef("--region and --explain go with --rules CC")
	}
	if f.country != "" && (len(f.country) != 2 || strings.Trim(f.country, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "") {
		return usagef("--rules %q: name a country by its two letters", f.country)
	}
	return nil
}

// ruleBook is what the member state's business rule service knows of the
// countries concerned.
type ruleBook struct {
	set    *certlogic.RuleSet
	broken []string // why a rule cannot be applied
	own    int      // rules of the country of destination
	values *certlogic.ValueSets
}

// ruleReport is what verify prints about rules.
type ruleReport struct {
	Country string `json:"country"`
	// Known and Applied count the country's rules, and those that concern the
	// certificate at the time.
	Known   int           `json:"known"`
	Applied int           `json:"applied"`
	Results []ruleOutcome `json:"results"`
	// Broken says which rules could not be read; they accept nothing.
	Broken []string `json:"broken,omitempty"`
	// expires is when the certificate does, whatever the rules say.
	expires time.Time
}

type ruleOutcome struct {
	Rule        string             `json:"rule"`
	Version     string             `json:"version"`
	Outcome     certlogic.Outcome  `json:"outcome"`
	Description string             `json:"description"`
	Error       string             `json:"error,omitempty"`
	Reasons     []certlogic.Reason `json:"reasons,omitempty"`
	Earliest    time.Time          `json:"earliest,omitzero"`
	Until       time.Time          `json:"until,omitzero"`
	timeKnown   bool
}

// applyRules applies the rules of the country of destination, and what the
// country of issuance invalidates, to a certificate whose signature has been
// verified. It changes a verdict of valid to a refusal if one does not pass.
func (s *session) applyRules(ctx context.Context, v *verdict, cert *hcert.Verified, flags ruleFlags) error {
	payload, err := certlogic.FromAny(cert.Tree())
	if err != nil {
		return fmt.Errorf("the certificate's payload: %w", err)
	}
	claims, kid := cert.Claims(), cert.Key().KID
	in := &certlogic.Input{Payload: payload, Clock: cert.At(), Country: flags.country, Region: flags.region, Issuer: claims.Issuer,
		KID: base64.StdEncoding.EncodeToString([]byte(kid)), IssuedAt: claims.IssuedAt, Expires: claims.Expires}
	book, err := s.ruleBook(ctx, flags.country, claims.Issuer)
	if err != nil {
		return err
	}
	in.ValueSets = book.values
	v.Rules = book.apply(in, flags)
	if v.Valid && !v.Rules.accepts() {
		v.Valid, v.Stage, v.Reason = false, "rules", "not accepted by "+v.Rules.refusers()
	}
	return nil
}

func (b *ruleBook) apply(in *certlogic.Input, flags ruleFlags) *ruleReport {
	rules := b.set.Select(in.Selection())
	report := &ruleReport{Country: in.Country, Known: b.own, Applied: len(rules), Broken: b.broken, Results: []ruleOutcome{}, expires: in.Expires}
	for i, result := range certlogic.Evaluate(rules, in) {
		r := rules[i]
		o := ruleOutcome{Rule: r.Identifier, Version: r.Version.String(), Outcome: result.Outcome, Description: r.Describe(flags.language)}
		if result.Err != nil {
			o.Error = result.Err.Error()
		}
		if flags.explain && result.Outcome == certlogic.Failed {
			ex := r.Explain(in)
			o.Reasons, o.Earliest, o.Until, o.timeKnown = ex.Reasons, ex.Earliest, ex.Until, ex.TimeKnown
		}
		report.Results = append(report.Results, o)
	}
	return report
}

func (r *ruleReport) accepts() bool {
	return len(r.Broken) == 0 && !slices.ContainsFunc(r.Results, func(o ruleOutcome) bool { return o.Outcome != certlogic.Passed })
}

// refusers names the rules that did not pass.
func (r *ruleReport) refusers() string {
	var ids []string
	for _, o := range r.Results {
		if o.Outcome != certlogic.Passed {
			ids = append(ids, o.Rule)
		}
	}
	if len(ids) == 0 {
		return fmt.Sprintf("%d rules that cannot be read", len(r.Broken))
	}
	return "rule " + strings.Join(ids, ", ")
}

// write tells a person what came of the rules.
func (r *ruleReport) write(w io.Writer, explain bool) {
	switch {
	case r.Known == 0:
		fmt.Fprintf(w, "No business rules of %s are known to the member state's business rule service: none was applied.\n", r.Country)
	case r.Applied == 0:
		fmt.Fprintf(w, "None of the %d business rules of %s is about this type of certificate and in force at this time: none was applied.\n", r.Known, r.Country)
	default:
		passed := 0
		for _, o := range r.Results {
			if o.Outcome == certlogic.Passed {
				passed++
			}
		}
		fmt.Fprintf(w, "Business rules of %s: %d of %d passed.\n", r.Country, passed, r.Applied)
	}
	for _, why := range r.Broken {
		fmt.Fprintf(w, "  cannot be applied, so nothing is accepted: %s\n", why)
	}
	for _, o := range r.Results {
		if o.Outcome != certlogic.Passed {
			o.write(w, explain, r.expires)
		}
	}
}

func (o ruleOutcome) write(w io.Writer, explain bool, expires time.Time) {
	fmt.Fprintf(w, "  %s %s: %s\n", o.Rule, o.Outcome, o.Description)
	if o.Error != "" {
		fmt.Fprintf(w, "    %s\n", o.Error)
	}
	if !explain || o.Outcome != certlogic.Failed {
		return
	}
	for _, reason := range o.Reasons {
		fmt.Fprintf(w, "    because %s\n", reason)
	}
	const layout = "2006-01-02T15:04:05.999Z07:00"
	switch {
	case !o.timeKnown:
		fmt.Fprintln(w, "    whether it will pass later cannot be told from the rule.")
	case o.Earliest.IsZero():
		fmt.Fprintln(w, "    it will not pass at any later time with this certificate.")
	case !expires.IsZero() && o.Earliest.After(expires):
		fmt.Fprintf(w, "    it would pass from %s, but the certificate expires before that, at %s.\n", o.Earliest.Format(layout), expires.UTC().Format(layout))
	case o.Until.IsZero():
		fmt.Fprintf(w, "    it will pass from %s.\n", o.Earliest.Format(layout))
	default:
		fmt.Fprintf(w, "    it will pass from %s to %s.\n", o.Earliest.Format(layout), o.Until.Add(-time.Millisecond).Format(layout))
	}
}

// Bounds of what the business rule service may answer.
const (
	maxRuleAnswer = certlogic.MaxData
	maxRules      = 1000
)

// ruleBook fetches the rules of the country of destination and those by which
// the country of issuance invalidates, and the value sets. The service proved
// each of them up to the trust anchor.
func (s *session) ruleBook(ctx context.Context, country, issuer string) (*ruleBook, error) {
	client, err := s.client(ctx, "")
	if err != nil {
		return nil, err
	}
	get := func(path string) ([]byte, error) {
		return getBody(ctx, client, "https://"+s.names().ServiceHost("dgca-businessrule-service", estate.IE)+path)
	}
	return readRuleBook(get, country, issuer)
}

func readRuleBook(get func(path string) ([]byte, error), country, issuer string) (*ruleBook, error) {
	b := &ruleBook{}
	var rules []*certlogic.Rule
	for _, c := range slices.Compact([]string{country, strings.ToUpper(issuer)}) {
		if len(c) != 2 {
			continue
		}
		found, broken, err := readRules(get, c)
		if err != nil {
			return nil, fmt.Errorf("rules of %s: %w", c, err)
		}
		if c == country {
			b.own = len(found) + len(broken)
			b.broken = broken
		}
		rules = append(rules, found...)
	}
	b.set = certlogic.NewRuleSet(rules...)
	var sets []struct{ ID, Hash string }
	if err := getList(get, "/valuesets", &sets); err != nil {
		return nil, fmt.Errorf("value sets: %w", err)
	}
	var parsed []*valueset.Set
	for _, item := range sets {
		raw, err := getNamed(get, "/valuesets/", item.Hash)
		if err != nil {
			return nil, fmt.Errorf("value set %s: %w", item.ID, err)
		}
		set, err := valueset.Parse(raw)
		if err != nil {
			return nil, fmt.Errorf("value set %s: %w", item.ID, err)
		}
		parsed = append(parsed, set)
	}
	var err error
	b.values, err = certlogic.NewValueSets(valueset.New(parsed...).Codes())
	return b, err
}

// readRules returns a country's rules, and why the others cannot be read.
func readRules(get func(path string) ([]byte, error), country string) (rules []*certlogic.Rule, broken []string, err error) {
	var list []struct{ Identifier, Version, Hash string }
	if err := getList(get, "/rules/"+country, &list); err != nil {
		return nil, nil, err
	}
	if len(list) > maxRules {
		return nil, nil, fmt.Errorf("there are over %d", maxRules)
	}
	for _, item := range list {
		raw, err := getNamed(get, "/rules/"+country+"/", item.Hash)
		if err != nil {
			return nil, nil, fmt.Errorf("%s %s: %w", item.Identifier, item.Version, err)
		}
		rule, err := certlogic.ParseRule(raw)
		var malformed *certlogic.LogicError
		switch {
		case err == nil:
			rules = append(rules, rule)
		case errors.As(err, &malformed):
			rules = append(rules, malformed.Rule) // it is open where it applies
		default:
			broken = append(broken, err.Error())
		}
	}
	return rules, broken, nil
}

func getList(get func(string) ([]byte, error), path string, into any) error {
	raw, err := get(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("the list is not what it should be: %w", err)
	}
	return nil
}

// getNamed fetches what its SHA-256 names.
func getNamed(get func(string) ([]byte, error), path, hash string) ([]byte, error) {
	raw, err := get(path + url.PathEscape(hash))
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(raw); hex.EncodeToString(sum[:]) != hash {
		return nil, errors.New("the service gave something else than the hash names")
	}
	return raw, nil
}

func getBody(ctx context.Context, client *http.Client, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxRuleAnswer+1))
	switch {
	case err != nil:
		return nil, err
	case len(raw) > maxRuleAnswer:
		return nil, fmt.Errorf("%s: the answer is over %d bytes", url, maxRuleAnswer)
	case resp.StatusCode != http.StatusOK:
		return nil, refusal(resp, raw)
	}
	return raw, nil
}

// printVerdict prints what verify found, as JSON or for a person.
func (s *session) printVerdict(v verdict, explain bool) error {
	if s.json {
		return printJSON(os.Stdout, v)
	}
	fmt.Println(v)
	if v.Rules != nil {
		v.Rules.write(os.Stdout, explain)
	}
	return nil
}
