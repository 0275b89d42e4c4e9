package pkcs11

import (
	"crypto"
	"crypto/rsa"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"slices"

	"verdant/hsm"
)

// openOAEP removes EME-OAEP (RFC 8017 section 7.1.2, step 3) from a raw RSA
// result of the modulus's length. How long it takes, and which error it
// returns, do not depend on what is wrong (Manger's attack, CRYPTO 2001);
// the length of the message alone decides how much is copied.
func openOAEP(em []byte, hash, mgf crypto.Hash, label []byte) ([]byte, error) {
	size := hash.Size()
	if len(em) < 2*size+2 {
		return nil, rsa.ErrDecryption
	}
	h := hash.New()
	h.Write(label)
	want := h.Sum(nil)
	em = append([]byte(nil), em...) // the caller's is left as it was
	seed, db := em[1:1+size], em[1+size:]
	mask(seed, db, mgf)
	mask(db, seed, mgf)

	good := subtle.ConstantTimeByteEq(em[0], 0)
	good &= subtle.ConstantTimeCompare(db[:size], want)
	// PS is zeros up to the first one; what follows is the message.
	looking, at := 1, 0
	for i, b := range db[size:] {
		one, zero := subtle.ConstantTimeByteEq(b, 1), subtle.ConstantTimeByteEq(b, 0)
		at = subtle.ConstantTimeSelect(looking&one, i+1, at)
		good &= subtle.ConstantTimeSelect(looking, one|zero, 1)
		looking = subtle.ConstantTimeSelect(one, 0, looking)
	}
	good &= 1 - looking
	if good != 1 {
		clear(em)
		return nil, rsa.ErrDecryption
	}
	message := append([]byte{}, db[size+at:]...)
	clear(em)
	return message, nil
}

// mask xors MGF1 of seed (RFC 8017 appendix B.2.1) over out.
func mask(out, seed []byte, hash crypto.Hash) {
	h := hash.New()
	var block []byte
	for i := uint32(0); len(out) > 0; i++ {
		h.Reset()
		h.Write(seed)
		h.Write(binary.BigEndian.AppendUint32(nil, i))
		block = h.Sum(block[:0])
		out = out[subtle.XORBytes(out, out, block):]
	}
}

// digestInfo is what PKCS #1 v1.5 signs: the DER of a DigestInfo (RFC 8017
// section 9.2, note 1), which CKM_RSA_PKCS expects made.
func digestInfo(hash crypto.Hash, digest []byte) ([]byte, error) {
	var prefix string
	switch hash {
	case crypto.SHA1:
		prefix = "\x30\x21\x30\x09\x06\x05\x2b\x0e\x03\x02\x1a\x05\x00\x04\x14"
	case crypto.SHA256:
		prefix = "\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20"
	case crypto.SHA384:
		prefix = "\x30\x41\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x02\x05\x00\x04\x30"
	case crypto.SHA512:
		prefix = "\x30\x51\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x03\x05\x00\x04\x40"
	default:
		return nil, fmt.Errorf("%w: no signatures over %v", hsm.ErrOperation, hash)
	}
	return append([]byte(prefix), digest...), nil
}

// asn1Signature turns the token's r‖s into the ASN.1 that crypto.Signer
// promises.
func asn1Signature(raw []byte) ([]byte, error) {
	n := len(raw) / 2
	if n == 0 || len(raw)%2 != 0 || n > 66 {
		return nil, fmt.Errorf("the token returned a signature of %d bytes", len(raw))
	}
	b := make([]byte, 0, 2*n+9)
	b = append(b, 0x30, 0)
	for _, part := range [][]byte{raw[:n], raw[n:]} {
		for len(part) > 1 && part[0] == 0 {
			part = part[1:]
		}
		b = append(b, 0x02, byte(len(part)+int(part[0]>>7)))
		if part[0]&0x80 != 0 {
			b = append(b, 0)
		}
		b = append(b, part...)
	}
	if size := len(b) - 2; size >= 0x80 { // P-521
		b = slices.Insert(b, 1, 0x81)
		b[2] = byte(size)
	} else {
		b[1] = byte(size)
	}
	return b, nil
}
