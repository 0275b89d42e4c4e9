package rest

import "strings"

// Resource is the envelope that every Azure resource shares. The estate
// describes the whole architecture as a list of them; services are started
// from them and the control plane serves them.
type Resource struct {
	ID         string            `json:"id"`
	Name       string            `json:"name"`
	Type       string            `json:"type"`
	Location   string            `json:"location,omitempty"`
	Kind       string            `json:"kind,omitempty"`
	Tags       map[string]string `json:"tags,omitempty"`
	SKU        map[string]any    `json:"sku,omitempty"`
	Identity   map[string]any    `json:"identity,omitempty"`
	Plan       map[string]any    `json:"plan,omitempty"`
	Properties map[string]any    `json:"properties"`
}

// ResourceGroup returns the name of the resource group in an ARM id, or "".
func ResourceGroup(id string) string { return segmentAfter(id, "resourceGroups") }

// Subscription returns the subscription in an ARM id, or "".
func Subscription(id string) string { return segmentAfter(id, "subscriptions") }

func segmentAfter(id, name string) string {
	parts := strings.Split(id, "/")
	for i := 0; i+1 < len(parts); i++ {
		if strings.EqualFold(parts[i], name) {
			return parts[i+1]
		}
	}
	return ""
}

// SameID reports whether two ARM ids name the same resource: ARM ids compare
// without regard to case.
func SameID(a, b string) bool { return strings.EqualFold(a, b) }
