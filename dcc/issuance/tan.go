package issuance

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"io"
)

// A TAN is 8 of 32 symbols that cannot be mistaken for each other: 40 bits.
const (
	tanAlphabet = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
	tanLength   = 8
)

// newTAN makes a TAN; 32 symbols take 5 bits of a byte each, without bias.
func newTAN(random io.Reader) (string, error) {
	b := make([]byte, tanLength)
	if _, err := io.ReadFull(random, b); err != nil {
		return "", err
	}
	for i := range b {
		b[i] = tanAlphabet[b[i]&31]
	}
	return string(b), nil
}

// tanHash is how a TAN travels in a claim: base64 of its SHA-256.
func tanHash(tan string) string {
	sum := sha256.Sum256([]byte(tan))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// storedTAN is how a TAN is kept: bound to its certificate, so that one table
// of hashes does not open them all. Forty bits do not withstand somebody who
// has the database; the limit on attempts is what protects a TAN, and it
// opens nothing but the binding of a certificate to a wallet.
func storedTAN(dgciHash, tanHash string) string {
	sum := sha256.Sum256([]byte(dgciHash + "\x00" + tanHash))
	return hex.EncodeToString(sum[:])
}

// hashOf is the hex SHA-256 of a UVCI, the key of its record.
func hashOf(dgci string) string {
	sum := sha256.Sum256([]byte(dgci))
	return hex.EncodeToString(sum[:])
}
