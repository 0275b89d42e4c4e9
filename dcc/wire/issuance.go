package wire

// GreenCertificateType is the type of a certificate as the issuance service
// writes it.
type GreenCertificateType string

// The types of certificates.
const (
	Vaccination GreenCertificateType = "Vaccination"
	Test        GreenCertificateType = "Test"
	Recovery    GreenCertificateType = "Recovery"
)

// ProfessionalHeader carries the object id of the person on whose behalf the
// portal has a certificate issued, for the issuance service's record. It is
// believed only beside the portal's own token.
const ProfessionalHeader = "X-Professional-Object-Id"

// Issued answers PUT /dgci/issue.
type Issued struct {
	DGCI string `json:"dgci"`
	// QRCode is the certificate, "HC1:…".
	QRCode string `json:"qrCode"`
	// TAN claims the certificate into a wallet.
	TAN string `json:"tan"`
}

// FieldError says what is wrong with one field of a DCC payload. It never
// holds the field's value.
type FieldError struct {
	// Field is a path such as v[0].dn.
	Field string `json:"field"`
	Why   string `json:"why"`
}

// IssueProblem is the error body of the issuing endpoints.
type IssueProblem struct {
	ProblemReport
	// Fields names the fields that are wrong, if that is the problem.
	Fields []FieldError `json:"fields,omitempty"`
}

// InitIssue is the body of POST /dgci/issue, the first step of issuing by
// hash.
type InitIssue struct {
	GreenCertificateType GreenCertificateType `json:"greenCertificateType"`
}

// InitIssued answers POST /dgci/issue.
type InitIssued struct {
	// ID names the reservation: row, "_", base64url SHA-256 of the DGCI.
	ID   string `json:"id"`
	DGCI string `json:"dgci"`
	// KID is base64 of the document signer's kid.
	KID string `json:"kid"`
	// AlgID is the COSE algorithm.
	AlgID       int64  `json:"algId"`
	CountryCode string `json:"countryCode"`
	// Expired is when the certificate ends, in seconds since 1970.
	Expired int64 `json:"expired"`
	// ExpiredDuration is how long it is valid, in seconds.
	ExpiredDuration int64 `json:"expiredDuration"`
}

// FinishIssue is the body of PUT /dgci/issue/{id}.
type FinishIssue struct {
	// Hash is base64 of the SHA-256 of the COSE Sig_structure.
	Hash string `json:"hash"`
}

// FinishIssued answers PUT /dgci/issue/{id}.
type FinishIssued struct {
	TAN string `json:"tan"`
	// Signature is base64 of the raw COSE signature.
	Signature string `json:"signature"`
}

// Claim is the body of POST /dgci/wallet/claim.
type Claim struct {
	DGCI string `json:"DGCI"`
	// CertHash is base64 of the SHA-256 of the COSE Sig_structure.
	CertHash string `json:"certhash"`
	// TANHash is base64 of the TAN's SHA-256.
	TANHash   string    `json:"TANHash"`
	PublicKey WalletKey `json:"publicKey"`
	// SigAlg is the Java name of the signature algorithm, such as
	// SHA256withECDSA.
	SigAlg string `json:"sigAlg"`
	// Signature is base64, over TANHash, certhash and publicKey.value as text.
	Signature string `json:"signature"`
}

// WalletKey is the public key that a wallet binds a certificate to.
type WalletKey struct {
	// Type is EC or RSA.
	Type string `json:"type"`
	// Value is base64 of the SubjectPublicKeyInfo.
	Value string `json:"value"`
}

// Claimed answers POST /dgci/wallet/claim.
type Claimed struct {
	// TAN is the next one: each claim uses one up.
	TAN string `json:"tan"`
}

// DIDDocument answers GET /dgci/{hash}.
type DIDDocument struct {
	Context        string              `json:"@context"`
	ID             string              `json:"id"`
	Controller     string              `json:"controller"`
	Authentication []DIDAuthentication `json:"authentication"`
}

// DIDAuthentication is the key that a claimed certificate is bound to.
type DIDAuthentication struct {
	ID         string `json:"id"`
	Type       string `json:"type"`
	Controller string `json:"controller"`
	Expires    string `json:"expires"`
	// PublicKeyJWK is under the misspelt name of the upstream service too,
	// which its wallets read.
	PublicKeyJWK map[string]string `json:"publicKeyJwk"`
	PublicKeyJSW map[string]string `json:"publicKeyJsw"`
}
