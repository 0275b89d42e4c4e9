package hcert

import (
	"math"
	"time"
)

// Sub-claims of the health certificate claim (-260).
const (
	SubclaimDCC         = 1  // EU Digital COVID Certificate
	SubclaimVaccination = 3  // WHO DDCC: vaccination
	SubclaimTest        = 4  // WHO DDCC: test result
	SubclaimHealthLink  = 5  // Verifiable Health Link
	SubclaimICVP        = -6 // International Certificate of Vaccination
)

// Claims is the CWT claim set of a health certificate (hcert-spec, "CWT Claims").
type Claims struct {
	// Issuer is the ISO 3166-1 alpha-2 code of the issuing country; empty if
	// absent, as the specification allows.
	Issuer string
	// IssuedAt, Expires and NotBefore are the zero time if absent.
	IssuedAt  time.Time
	Expires   time.Time
	NotBefore time.Time
	// Subclaims holds the encoded values of the health certificate claim.
	Subclaims []Subclaim
}

// Subclaim is one kind of certificate inside the health certificate claim.
type Subclaim struct {
	ID   int64
	CBOR string // one encoded item, sharing memory with the message
}

// CWT claim keys (RFC 8392, §4; hcert-spec, "CWT Claims").
const (
	claimIssuer    = 1
	claimExpires   = 4
	claimNotBefore = 5
	claimIssuedAt  = 6
	claimHCert     = -260
)

// ParseClaims parses the payload of a COSE_Sign1 message.
func ParseClaims(payload []byte, l Limits) (*Claims, error) {
	c := new(Claims)
	if err := c.parse(string(payload), l); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *Claims) parse(payload string, l Limits) error {
	r := reader{s: payload, items: l.items(), depth: l.depth(), stage: StageCWT}
	h, err := r.head()
	if err != nil {
		return err
	}
	if h.major != cborMap {
		return refuse(StageCWT, BadClaims, "not a map")
	}
	n, err := r.count(h, 2)
	if err != nil {
		return err
	}
	var seen labels
	for r.more(&n) {
		kh, err := r.head()
		if err != nil {
			return err
		}
		key, ok := kh.integer()
		if !ok {
			if kh.major != cborText {
				return refuse(StageCWT, BadClaims, "claim key is neither integer nor text")
			}
			if _, err := r.str(kh); err != nil {
				return err
			}
			if err := r.skip(); err != nil {
				return err
			}
			continue
		}
		if !seen.add(key) {
			return refuse(StageCWT, BadClaims, "claim occurs twice")
		}
		if err := c.readClaim(&r, key); err != nil {
			return err
		}
	}
	if r.rest() > 0 {
		return refuse(StageCWT, BadClaims, "bytes after the claims")
	}
	return nil
}

func (c *Claims) readClaim(r *reader, key int64) error {
	var err error
	switch key {
	case claimIssuer:
		h, err := r.head()
		if err != nil {
			return err
		}
		if h.major != cborText {
			return refuse(StageCWT, BadClaims, "issuer is not text")
		}
		c.Issuer, err = r.str(h)
		return err
	case claimExpires:
		c.Expires, err = r.numericDate("expiry time")
	case claimIssuedAt:
		c.IssuedAt, err = r.numericDate("issue time")
	case claimNotBefore:
		c.NotBefore, err = r.numericDate("not-before time")
	case claimHCert:
		return c.readSubclaims(r)
	default:
		return r.skip()
	}
	return err
}

// maxNumericDate is the last second of the year 9999.
const maxNumericDate = 253402300799

// numericDate reads seconds since 1970 (RFC 8392, §2), integer or float:
// issuers that compute with milliseconds write floats.
func (r *reader) numericDate(what string) (time.Time, error) {
	h, err := r.head()
	if err != nil {
		return time.Time{}, err
	}
	if n, ok := h.integer(); ok {
		if n < 0 || n > maxNumericDate {
			return time.Time{}, refuse(StageCWT, BadClaims, what+" out of range")
		}
		return time.Unix(n, 0).UTC(), nil
	}
	f, ok := h.float()
	if !ok {
		return time.Time{}, refuse(StageCWT, BadClaims, what+" is not a number")
	}
	if !(f >= 0 && f <= maxNumericDate) { // also refuses NaN
		return time.Time{}, refuse(StageCWT, BadClaims, what+" out of range")
	}
	sec, frac := math.Modf(f)
	return time.Unix(int64(sec), int64(frac*1e9)).UTC(), nil
}

func (c *Claims) readSubclaims(r *reader) error {
	h, err := r.head()
	if err != nil {
		return err
	}
	if h.major != cborMap {
		return refuse(StageCWT, BadClaims, "health certificate claim is not a map")
	}
	n, err := r.count(h, 2)
	if err != nil {
		return err
	}
	if err := r.enter(); err != nil {
		return err
	}
	for r.more(&n) {
		kh, err := r.head()
		if err != nil {
			return err
		}
		id, ok := kh.integer()
		if !ok {
			return refuse(StageCWT, BadClaims, "sub-claim key is not an integer")
		}
		raw, err := r.raw()
		if err != nil {
			return err
		}
		if c.Subclaim(id) != "" {
			return refuse(StageCWT, BadClaims, "sub-claim occurs twice")
		}
		c.Subclaims = append(c.Subclaims, Subclaim{ID: id, CBOR: raw})
	}
	r.leave()
	return nil
}

// Subclaim returns the encoded sub-claim, or "" if it is absent.
func (c *Claims) Subclaim(id int64) string {
	for _, s := range c.Subclaims {
		if s.ID == id {
			return s.CBOR
		}
	}
	return ""
}

// CheckTime refuses a certificate that is not valid at the given time: issue
// and expiry time must be present and enclose it, both ends included.
func (c *Claims) CheckTime(at time.Time) error {
	switch {
	case c.Expires.IsZero() || c.IssuedAt.IsZero():
		return refuse(StageValidity, NoValidity, "")
	case at.Before(c.IssuedAt):
		return refuse(StageValidity, NotYetValid, "issued at "+c.IssuedAt.Format(time.RFC3339))
	case at.Before(c.NotBefore):
		return refuse(StageValidity, NotYetValid, "valid from "+c.NotBefore.Format(time.RFC3339))
	case at.After(c.Expires):
		return refuse(StageValidity, Expired, "at "+c.Expires.Format(time.RFC3339))
	}
	return nil
}
