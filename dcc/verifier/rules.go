package verifier

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"verdant/certlogic"
	"verdant/dcc/connector"
	"verdant/dcc/wire"
	"verdant/hcert"
	"verdant/hcert/valueset"
)

// RuleSource gives business rules and value sets; the connector is one.
type RuleSource interface {
	Rules(ctx context.Context, country string) ([]connector.Rule, error)
	ValueSets(ctx context.Context) (map[string]json.RawMessage, error)
}

// ruleBook keeps what was downloaded of each country. What it has stays when a
// download fails.
type ruleBook struct {
	source   RuleSource
	interval time.Duration
	now      func() time.Time
	log      *slog.Logger

	mu        sync.Mutex
	countries map[string]*countryRules // at most 26², by two letters

	sets valueSets
}

// countryRules is a country's rules. Its lock is held while they are
// downloaded, so that one caller does it for all.
type countryRules struct {
	mu     sync.Mutex
	tried  time.Time
	known  bool
	rules  []*certlogic.Rule
	broken []string
}

type valueSets struct {
	mu    sync.Mutex
	tried time.Time
	codes *certlogic.ValueSets
}

func newRuleBook(source RuleSource, interval time.Duration, now func() time.Time, log *slog.Logger) *ruleBook {
	return &ruleBook{source: source, interval: interval, now: now, log: log, countries: map[string]*countryRules{}}
}

// of returns a country's rules, or false if none could ever be had.
func (b *ruleBook) of(ctx context.Context, country string) (rules []*certlogic.Rule, broken []string, known bool) {
	b.mu.Lock()
	c := b.countries[country]
	if c == nil {
		c = &countryRules{}
		b.countries[country] = c
	}
	b.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	wait := b.interval
	if !c.known {
		wait = askAgainAfter
	}
	if now := b.now(); c.tried.IsZero() || now.Sub(c.tried) >= wait {
		c.tried = now
		downloaded, err := b.source.Rules(ctx, country)
		if err != nil {
			b.log.Warn("rules were not downloaded; what is known stays", "country", country, "why", err.Error())
		} else {
			sources := make([][]byte, len(downloaded))
			for i, r := range downloaded {
				sources[i] = r.JSON
			}
			c.rules, c.broken = certlogic.ReadRules(sources)
			c.known = true
		}
	}
	return c.rules, c.broken, c.known
}

// codes returns the value sets: the gateway's, and the built-in ones that it
// does not have.
func (b *ruleBook) codes(ctx context.Context) (*certlogic.ValueSets, error) {
	s := &b.sets
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := b.now(); s.codes == nil || now.Sub(s.tried) >= b.interval {
		sets := valueset.Builtin()
		bodies, err := b.source.ValueSets(ctx)
		if err != nil {
			b.log.Warn("value sets were not downloaded; what is known stays", "why", err.Error())
			if s.codes != nil {
				s.tried = now
				return s.codes, nil
			}
		}
		for id, body := range bodies {
			set, err := valueset.Parse(body)
			if err != nil {
				b.log.Warn("value set is not used", "id", id, "why", err.Error())
				continue
			}
			sets = sets.With(set)
		}
		codes, err := certlogic.NewValueSets(sets.Codes())
		if err != nil {
			return nil, err
		}
		s.codes, s.tried = codes, now
	}
	return s.codes, nil
}

func twoLetters(s string) bool {
	return len(s) == 2 && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == ""
}

// judge applies the rules of the country of arrival, and what the country of
// issuance invalidates, to a certificate whose signature was verified.
func (b *ruleBook) judge(ctx context.Context, cert *hcert.Verified, in wire.VerifyRequest) *certlogic.Report {
	unchecked := func(why string) *certlogic.Report { return certlogic.Unchecked(in.Country, in.Region, why) }
	if b == nil {
		return unchecked("this verifier has no source of rules")
	}
	if p := cert.Profile(); p != hcert.ProfileDCC {
		return unchecked("business rules are for EU DCCs, this is a " + string(p))
	}
	rules, broken, known := b.of(ctx, in.Country)
	if !known {
		return unchecked("the rules of " + in.Country + " could not be downloaded")
	}
	claims := cert.Claims()
	issuer := strings.ToUpper(claims.Issuer)
	if issuer != in.Country && twoLetters(issuer) {
		// Without the invalidations of the issuer nothing is accepted.
		theirs, _, known := b.of(ctx, issuer)
		if !known {
			return unchecked("the invalidations of " + issuer + " could not be downloaded")
		}
		rules = append(rules[:len(rules):len(rules)], theirs...)
	}
	payload, err := certlogic.FromAny(cert.Tree())
	if err != nil {
		return unchecked("the payload cannot be read by rules")
	}
	codes, err := b.codes(ctx)
	if err != nil {
		return unchecked("the value sets cannot be used")
	}
	languages := []string{}
	if in.Language != "" {
		languages = append(languages, in.Language)
	}
	return certlogic.NewRuleSet(rules...).Judge(&certlogic.Input{
		Payload: payload, Clock: cert.At(), ValueSets: codes, Country: in.Country, Region: in.Region, Issuer: claims.Issuer,
		KID: base64.StdEncoding.EncodeToString([]byte(cert.Key().KID)), IssuedAt: claims.IssuedAt, Expires: claims.Expires,
	}, certlogic.Judging{Languages: languages, Explain: true, Broken: broken})
}

// checkRequest refuses what a request cannot ask.
func checkRequest(in *wire.VerifyRequest) error {
	in.Country = strings.ToUpper(in.Country)
	switch {
	case in.Country != "" && !twoLetters(in.Country):
		return fmt.Errorf("country must be two letters")
	case in.Country == "" && (in.Region != "" || in.Language != ""):
		return fmt.Errorf("region and language go with a country")
	case len(in.Region) > 100 || len(in.Language) > 35:
		return fmt.Errorf("region or language is too long")
	}
	return nil
}

// under takes over what rules say about a certificate.
func under(out *wire.VerifyResult, r *certlogic.Report) {
	out.Rules = r
	switch r.State {
	case certlogic.StateRefused:
		out.Valid = false
		out.Reasons = append(out.Reasons, wire.VerifyReason{Stage: "rules", Code: "rules-refused", Detail: "not accepted by " + r.Refusers()})
	case certlogic.StateNotChecked:
		out.Valid = false
		out.Reasons = append(out.Reasons, wire.VerifyReason{Stage: "rules", Code: "rules-not-checked", Detail: r.Why + ": not checked"})
	}
}
