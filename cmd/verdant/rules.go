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
	values *certlogic.ValueSets
}

// applyRules applies the rules of the country of destination, and what the
// country of issuance invalidates, to a certificate whose signature has been
// verified. It changes a verdict of valid to a refusal if one does not pass.
func (s *session) applyRules(ctx context.Context, v *verdict, cert *hcert.Verified, flags ruleFlags) error {
	if p := cert.Profile(); p != hcert.ProfileDCC {
		v.Rules = certlogic.Unchecked(flags.country, flags.region, "business rules are for EU DCCs, this is a "+string(p))
		v.under(v.Rules)
		return nil
	}
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
	v.Rules = book.judge(in, flags)
	v.under(v.Rules)
	return nil
}

// under takes over what rules say about a certificate.
func (v *verdict) under(r *certlogic.Report) {
	switch {
	case !v.Valid:
	case r.State == certlogic.StateRefused:
		v.Valid, v.Stage, v.Reason = false, stageRules, "not accepted by "+r.Refusers()
	case r.State == certlogic.StateNotChecked:
		v.Valid, v.Stage, v.Reason, v.NotChecked = false, stageRules, r.Why+": not checked", true
	}
}

const stageRules = "rules"

func (b *ruleBook) judge(in *certlogic.Input, flags ruleFlags) *certlogic.Report {
	return b.set.Judge(in, certlogic.Judging{Languages: []string{flags.language}, Explain: flags.explain, Broken: b.broken})
}

// writeRules tells a person what came of the rules.
func writeRules(w io.Writer, r *certlogic.Report, explain bool, expires time.Time) {
	if r.Applied > 0 {
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
			writeJudgement(w, o, explain, expires)
		}
	}
}

func writeJudgement(w io.Writer, o certlogic.Judgement, explain bool, expires time.Time) {
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
	case !o.TimeKnown:
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
	var sources [][]byte
	for _, item := range list {
		raw, err := getNamed(get, "/rules/"+country+"/", item.Hash)
		if err != nil {
			return nil, nil, fmt.Errorf("%s %s: %w", item.Identifier, item.Version, err)
		}
		sources = append(sources, raw)
	}
	rules, broken = certlogic.ReadRules(sources)
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
