// Package wire holds the messages between the DCC services: the gateway's
// interface as the EU's dgc-gateway speaks it, the issuance service's, the
// verifier service's and the business rule service's.
//
// The types have the spelling of the wire and no behaviour. A field that may
// be null on the wire is a pointer.
package wire

// TrustListItem is one certificate of the gateway's trust list.
type TrustListItem struct {
	// KID is base64 of the first 8 bytes of the certificate's SHA-256.
	KID string `json:"kid"`
	// Timestamp is when the certificate was onboarded, or deleted in a
	// tombstone: yyyy-MM-ddTHH:mm:ss and an offset.
	Timestamp       string          `json:"timestamp"`
	Country         string          `json:"country"`
	CertificateType CertificateType `json:"certificateType"`
	// Thumbprint is the lower-case hex SHA-256 of the DER certificate.
	Thumbprint string `json:"thumbprint"`
	// Signature is base64 of a detached CMS over the DER certificate: by the
	// trust anchor for a trusted party, by the uploader for a DSC. It is null
	// in a tombstone.
	Signature *string `json:"signature"`
	// RawData is base64 of the DER certificate; null in a tombstone.
	RawData *string `json:"rawData"`
}

// CertificateType is what a certificate of the trust list is for.
type CertificateType string

// The types of certificates.
const (
	Authentication CertificateType = "AUTHENTICATION"
	Upload         CertificateType = "UPLOAD"
	CSCA           CertificateType = "CSCA"
	DSC            CertificateType = "DSC"
)

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
