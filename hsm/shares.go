package hsm

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
)

// Shamir's secret sharing of each byte of a secret over the field of 257
// elements, in the layout that the clients of Azure's managed HSM read: a
// share is one 16-bit little-endian word for each byte of the secret, the
// share's number in the upper 7 bits and its value (0 to 256) in the lower 9.
const (
	shareField = 257
	minQuorum  = 2
	maxShares  = 10
)

// splitSecret makes n shares of secret of which any quorum give it back, and
// fewer tell nothing.
func splitSecret(secret []byte, n, quorum int) ([][]byte, error) {
	if quorum < minQuorum || quorum > n || n > maxShares {
		return nil, fmt.Errorf("%w: %d of %d shares", ErrSpec, quorum, n)
	}
	shares := make([][]byte, n)
	for i := range shares {
		shares[i] = make([]byte, 0, 2*len(secret))
	}
	coefficients := make([]uint32, quorum)
	defer clear(coefficients)
	for _, b := range secret {
		coefficients[0] = uint32(b)
		for i := range coefficients[1:] {
			coefficients[1+i] = randomElement()
		}
		for i := range shares {
			x := uint32(i + 1)
			v := uint32(0)
			for c := quorum - 1; c >= 0; c-- { // Horner
				v = (v*x + coefficients[c]) % shareField
			}
			shares[i] = binary.LittleEndian.AppendUint16(shares[i], uint16(x<<9|v))
		}
	}
	return shares, nil
}

// randomElement is uniform over the field.
func randomElement() uint32 {
	var b [2]byte
	for {
		_, _ = rand.Read(b[:]) // never returns an error (crypto/rand)
		if v := uint32(binary.LittleEndian.Uint16(b[:])) & 0x1ff; v < shareField {
			return v
		}
	}
}
