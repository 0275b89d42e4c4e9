package certlogic

import (
	"cmp"
	"iter"
	"maps"
	"slices"
)

// Change is a rule that came out differently for one certificate.
type Change struct {
	// Certificate counts the certificates of the population from 0.
	Certificate int    `json:"certificate"`
	Rule        string `json:"rule"`
	// Before and After are empty where the set has no such rule for it.
	Before Outcome `json:"before,omitempty"`
	After  Outcome `json:"after,omitempty"`
}

// RuleChange sums the changes of one rule up.
type RuleChange struct {
	Rule string `json:"rule"`
	// NowPass, NowFail and NowOpen count the certificates for which the rule
	// came out otherwise before, or did not apply; Gone those for which it
	// applied before only.
	NowPass int `json:"nowPass"`
	NowFail int `json:"nowFail"`
	NowOpen int `json:"nowOpen"`
	Gone    int `json:"gone"`
}

// Difference is what a change of rules means to a population.
type Difference struct {
	Certificates int `json:"certificates"`
	// AcceptedBefore and AcceptedAfter count the certificates that pass every
	// rule that applies to them.
	AcceptedBefore int `json:"acceptedBefore"`
	AcceptedAfter  int `json:"acceptedAfter"`
	// NowRefused and NowAccepted are the certificates whose acceptance changed.
	NowRefused  []int        `json:"nowRefused,omitempty"`
	NowAccepted []int        `json:"nowAccepted,omitempty"`
	Rules       []RuleChange `json:"rules,omitempty"`
	Changes     []Change     `json:"changes,omitempty"`
}

// Diff applies the rules of two sets, each selected for the certificate, to
// every certificate of a population and returns what came out differently.
// The lists grow with the number of certificates that changed.
func Diff(before, after *RuleSet, population iter.Seq[*Input]) Difference {
	var d Difference
	sums := map[string]*RuleChange{}
	for in := range population {
		was := Evaluate(before.Select(in.Selection()), in)
		is := Evaluate(after.Select(in.Selection()), in)
		switch wasOK, isOK := Accepted(was), Accepted(is); {
		case wasOK && !isOK:
			d.NowRefused = append(d.NowRefused, d.Certificates)
		case isOK && !wasOK:
			d.NowAccepted = append(d.NowAccepted, d.Certificates)
		}
		if Accepted(was) {
			d.AcceptedBefore++
		}
		if Accepted(is) {
			d.AcceptedAfter++
		}
		d.compare(was, is, sums)
		d.Certificates++
	}
	for _, rule := range slices.Sorted(maps.Keys(sums)) {
		d.Rules = append(d.Rules, *sums[rule])
	}
	return d
}

// ruleKey names a rule whatever its version.
func ruleKey(r *Rule) string {
	if r.Region == "" {
		return r.Identifier
	}
	return r.Identifier + "/" + r.Region
}

func (d *Difference) compare(was, is []Result, sums map[string]*RuleChange) {
	outcomes := map[string]*Change{}
	change := func(r *Rule) *Change {
		key := ruleKey(r)
		if outcomes[key] == nil {
			outcomes[key] = &Change{Certificate: d.Certificates, Rule: key}
		}
		return outcomes[key]
	}
	for _, r := range was {
		change(r.Rule).Before = r.Outcome
	}
	for _, r := range is {
		change(r.Rule).After = r.Outcome
	}
	for _, c := range slices.SortedFunc(maps.Values(outcomes), func(a, b *Change) int { return cmp.Compare(a.Rule, b.Rule) }) {
		if c.Before == c.After {
			continue
		}
		d.Changes = append(d.Changes, *c)
		sum := sums[c.Rule]
		if sum == nil {
			sum = &RuleChange{Rule: c.Rule}
			sums[c.Rule] = sum
		}
		switch c.After {
		case Passed:
			sum.NowPass++
		case Failed:
			sum.NowFail++
		case Open:
			sum.NowOpen++
		default:
			sum.Gone++
		}
	}
}
