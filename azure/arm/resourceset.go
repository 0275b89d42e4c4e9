package arm

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"verdant/azure/rest"
)

// resourceSet is immutable.
type resourceSet struct {
	sorted []rest.Resource          // by id
	byID   map[string]rest.Resource // by lower-case id
}

func newResourceSet(resources []rest.Resource) (*resourceSet, error) {
	set := &resourceSet{byID: map[string]rest.Resource{}}
	for _, r := range resources {
		key := strings.ToLower(r.ID)
		if _, twice := set.byID[key]; twice || !strings.HasPrefix(key, "/subscriptions/") {
			return nil, fmt.Errorf("resource id %q is in use or not an ARM id", r.ID)
		}
		set.byID[key] = r
	}
	for _, key := range slices.Sorted(maps.Keys(set.byID)) {
		set.sorted = append(set.sorted, set.byID[key])
	}
	return set, nil
}

// with returns a set in which a resource has taken the place of the one with
// its id.
func (set *resourceSet) with(res rest.Resource) *resourceSet {
	next := &resourceSet{sorted: slices.Clone(set.sorted), byID: maps.Clone(set.byID)}
	next.byID[strings.ToLower(res.ID)] = res
	for i := range next.sorted {
		if rest.SameID(next.sorted[i].ID, res.ID) {
			next.sorted[i] = res
		}
	}
	return next
}

// difference is what a changed resource says otherwise than its base: only
// that is stored, so that the rest follows the base when that changes.
func difference(base, changed rest.Resource) rest.Resource {
	d := rest.Resource{ID: base.ID, Properties: map[string]any{}}
	if !maps.Equal(base.Tags, changed.Tags) {
		d.Tags = maps.Clone(changed.Tags)
		if d.Tags == nil {
			d.Tags = map[string]string{}
		}
	}
	for name, value := range changed.Properties {
		if !reflect.DeepEqual(plain(base.Properties[name]), plain(value)) {
			d.Properties[name] = value
		}
	}
	return d
}

// plain is a value as it is after a journey through JSON.
func plain(v any) any {
	b, err := json.Marshal(v)
	if err != nil {
		return v
	}
	var out any
	if json.Unmarshal(b, &out) != nil {
		return v
	}
	return out
}

// overlay is the inverse of difference.
func overlay(base, d rest.Resource) rest.Resource {
	base.Properties = maps.Clone(base.Properties)
	if base.Properties == nil {
		base.Properties = map[string]any{}
	}
	maps.Copy(base.Properties, d.Properties)
	if d.Tags != nil {
		base.Tags = d.Tags
	}
	return base
}

// changed returns those of base that the contents changed, as they are now.
func (c contents) changed(base []rest.Resource) []rest.Resource {
	var out []rest.Resource
	for _, d := range c.resources {
		for _, b := range base {
			if rest.SameID(b.ID, d.ID) {
				out = append(out, overlay(b, d))
			}
		}
	}
	return out
}
