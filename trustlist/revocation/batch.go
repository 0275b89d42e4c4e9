package revocation

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"verdant/hcert"
)

// MaxEntries is how many certificates one batch may revoke.
const MaxEntries = 1000

// UnknownKID stands in a batch for "whichever document signer".
const UnknownKID = "UNKNOWN_KID"

// maxBatch bounds the JSON of a batch: its entries with room to spare.
const maxBatch = 256 << 10

// Batch is what a country uploads: certificates that it revokes, until a time.
type Batch struct {
	// ID is the gateway's number of the batch (a UUID); it is not in the JSON.
	ID string `json:"-"`
	// Country has two letters.
	Country string `json:"country"`
	// Expires is when the batch ends to matter: when its certificates have expired.
	Expires time.Time `json:"expires"`
	// KID is the base64 of the document signer's kid, or UnknownKID.
	KID string `json:"kid"`
	// Type says what Entries are hashes of.
	Type    HashType `json:"hashType"`
	Entries []Hash   `json:"entries"`
}

// ParseBatch reads the JSON that a batch's CMS envelope holds and checks it.
func ParseBatch(src []byte) (*Batch, error) {
	if len(src) > maxBatch {
		return nil, fmt.Errorf("revocation batch: %d bytes, at most %d are read", len(src), maxBatch)
	}
	d := json.NewDecoder(bytes.NewReader(src))
	d.DisallowUnknownFields()
	b := new(Batch)
	if err := d.Decode(b); err != nil {
		return nil, fmt.Errorf("revocation batch: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("revocation batch: more text after the JSON object")
	}
	if err := b.Check(); err != nil {
		return nil, err
	}
	return b, nil
}

// Check refuses a batch that the gateway would refuse for its form.
func (b *Batch) Check() error {
	switch {
	case !isCountry(b.Country):
		return fmt.Errorf("revocation batch: country %q is not two capital letters", clip(b.Country))
	case b.Expires.IsZero():
		return errors.New("revocation batch: no date of expiry")
	case b.KID != UnknownKID && !isKID(b.KID):
		return fmt.Errorf("revocation batch: kid %q is neither the base64 of 8 bytes nor %s", clip(b.KID), UnknownKID)
	case b.Type.number() < 0:
		return fmt.Errorf("revocation batch: hash type %q is none of %s, %s, %s", clip(string(b.Type)), Signature, UCI, CountryUCI)
	case len(b.Entries) < 1 || len(b.Entries) > MaxEntries:
		return fmt.Errorf("revocation batch: %d entries, a batch has 1 to %d", len(b.Entries), MaxEntries)
	case len(b.ID) > maxID:
		return fmt.Errorf("revocation batch: its id is over %d bytes", maxID)
	}
	return nil
}

func isCountry(s string) bool {
	return len(s) == 2 && s[0] >= 'A' && s[0] <= 'Z' && s[1] >= 'A' && s[1] <= 'Z'
}

func isKID(s string) bool {
	// The base64 of 8 bytes has 12 characters, the last one padding that some
	// countries leave out.
	kid, err := hcert.ParseKID(s + "="[:len(s)&1])
	return err == nil && len(kid) == 8
}

func clip(s string) string {
	if len(s) > 40 {
		return strings.ToValidUTF8(s[:40], "") + "…"
	}
	return s
}
