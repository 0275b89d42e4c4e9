package revocation

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"

	"verdant/hcert"
)

// HashType says what a batch's hashes are of.
type HashType string

// The types.
const (
	Signature  HashType = "SIGNATURE"      // the COSE signature; of ECDSA the first half (r)
	UCI        HashType = "UCI"            // the certificate's identifier
	CountryUCI HashType = "COUNTRYCODEUCI" // the issuer and the identifier behind it
)

// hashTypes in the order of their numbers in a list's file.
var hashTypes = [...]HashType{Signature, UCI, CountryUCI}

func (t HashType) number() int {
	for i, known := range hashTypes {
		if t == known {
			return i
		}
	}
	return -1
}

// Hash names a certificate: the first 128 bits of a SHA-256.
type Hash [16]byte

// String returns base64, as batches write it.
func (h Hash) String() string { return base64.StdEncoding.EncodeToString(h[:]) }

// MarshalJSON writes the gateway's form of an entry, {"hash": "…"}.
func (h Hash) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Hash string `json:"hash"`
	}{h.String()})
}

// UnmarshalJSON reads {"hash": "…"}, and the bare text that some clients send.
func (h *Hash) UnmarshalJSON(data []byte) error {
	var text string
	if len(data) > 0 && data[0] == '"' {
		if err := json.Unmarshal(data, &text); err != nil {
			return err
		}
	} else {
		var entry struct {
			Hash string `json:"hash"`
		}
		if err := json.Unmarshal(data, &entry); err != nil {
			return err
		}
		text = entry.Hash
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || len(raw) != len(h) {
		return fmt.Errorf("an entry is not the base64 of %d bytes", len(h))
	}
	copy(h[:], raw)
	return nil
}

func sum(parts ...string) Hash {
	d := sha256.New()
	for _, p := range parts {
		_, _ = io.WriteString(d, p) // never returns an error (hash.Hash)
	}
	var full [sha256.Size]byte
	return Hash(d.Sum(full[:0])[:len(Hash{})])
}

// SignatureHash is the hash of type Signature. An ECDSA signature (r, s) has a
// twin (r, -s) that verifies as well, so only r is hashed.
func SignatureHash(s *hcert.Sign1) Hash {
	if s.Algorithm == hcert.ES256 || s.Algorithm == hcert.ES384 {
		return sum(s.Signature[:len(s.Signature)/2])
	}
	return sum(s.Signature)
}

// UCIHash is the hash of type UCI. The identifier is taken as the certificate
// has it, a prefix "URN:UVCI:" included.
func UCIHash(uci string) Hash { return sum(uci) }

// CountryUCIHash is the hash of type CountryUCI; the country is the issuer
// claim of the certificate.
func CountryUCIHash(country, uci string) Hash { return sum(country, uci) }
