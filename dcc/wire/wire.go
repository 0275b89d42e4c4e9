// Package wire holds the messages between the DCC services: the gateway's
// interface as the EU's dgc-gateway speaks it, the issuance service's, the
// verifier service's and the business rule service's.
//
// The types have the spelling of the wire and no behaviour. The entries of the
// trust list are package trustlist's.
package wire

// ProblemReport is the gateway's error body, and that of the member state's
// services.
type ProblemReport struct {
	Code      string `json:"code"`
	Problem   string `json:"problem"`
	SendValue string `json:"sendValue"`
	Details   string `json:"details"`
}

// RuleVersion is one version of a business rule as the gateway lists it.
type RuleVersion struct {
	Version   string `json:"version"`
	ValidFrom string `json:"validFrom"`
	ValidTo   string `json:"validTo"`
	// CMS is base64 of the upload: the rule's JSON signed by the country.
	CMS string `json:"cms"`
}

// RuleItem names one rule in the business rule service's lists.
type RuleItem struct {
	Identifier string `json:"identifier"`
	Version    string `json:"version"`
	Country    string `json:"country"`
	// Hash is the lower-case hex SHA-256 of the rule's JSON.
	Hash string `json:"hash"`
}

// ValueSetItem names one value set in the business rule service's list.
type ValueSetItem struct {
	ID string `json:"id"`
	// Hash is the lower-case hex SHA-256 of the value set's JSON.
	Hash string `json:"hash"`
}
