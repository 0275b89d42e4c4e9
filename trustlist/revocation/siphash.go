package revocation

import (
	"encoding/binary"
	"math/bits"
)

// sipKey is a key of SipHash-1-3 (Aumasson and Bernstein, 2012, with the fewer
// rounds that hash tables take), which makes of a hash the number that says
// where in a list it stands: nobody without the key can choose hashes that meet.
type sipKey struct{ k0, k1 uint64 }

func newSipKey(key [16]byte) sipKey {
	return sipKey{binary.LittleEndian.Uint64(key[:]), binary.LittleEndian.Uint64(key[8:])}
}

// of returns the SipHash-1-3 of 16 bytes, written out: it is on the way of
// every look-up.
func (k sipKey) of(h *Hash) uint64 {
	v0, v1, v2, v3 := k.start()
	m := binary.LittleEndian.Uint64(h[:])
	v0, v1, v2, v3 = sipRound(v0, v1, v2, v3^m)
	v0 ^= m
	m = binary.LittleEndian.Uint64(h[8:])
	v0, v1, v2, v3 = sipRound(v0, v1, v2, v3^m)
	v0 ^= m
	m = uint64(len(h)) << 56 // the last block is empty but for the length
	v0, v1, v2, v3 = sipRound(v0, v1, v2, v3^m)
	v0 ^= m
	v2 ^= 0xff
	v0, v1, v2, v3 = sipRound(v0, v1, v2, v3)
	v0, v1, v2, v3 = sipRound(v0, v1, v2, v3)
	v0, v1, v2, v3 = sipRound(v0, v1, v2, v3)
	return v0 ^ v1 ^ v2 ^ v3
}

func (k sipKey) start() (v0, v1, v2, v3 uint64) {
	return k.k0 ^ 0x736f6d6570736575, k.k1 ^ 0x646f72616e646f6d, k.k0 ^ 0x6c7967656e657261, k.k1 ^ 0x7465646279746573
}

func sipRound(v0, v1, v2, v3 uint64) (uint64, uint64, uint64, uint64) {
	v0 += v1
	v1 = bits.RotateLeft64(v1, 13) ^ v0
	v0 = bits.RotateLeft64(v0, 32)
	v2 += v3
	v3 = bits.RotateLeft64(v3, 16) ^ v2
	v0 += v3
	v3 = bits.RotateLeft64(v3, 21) ^ v0
	v2 += v1
	v1 = bits.RotateLeft64(v1, 17) ^ v2
	v2 = bits.RotateLeft64(v2, 32)
	return v0, v1, v2, v3
}
