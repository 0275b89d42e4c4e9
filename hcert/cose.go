package hcert

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"strconv"
)

// Algorithm is a COSE signature algorithm (RFC 9053, §2.1; RFC 8230, §2).
type Algorithm int64

// The algorithms of the hcert specification, and ES384 for P-384 keys.
const (
	ES256 Algorithm = -7
	ES384 Algorithm = -35
	PS256 Algorithm = -37
)

// String returns the IANA name.
func (a Algorithm) String() string {
	switch a {
	case ES256:
		return "ES256"
	case ES384:
		return "ES384"
	case PS256:
		return "PS256"
	}
	return "COSE algorithm " + strconv.FormatInt(int64(a), 10)
}

// KID identifies a document signer: the first 8 bytes of the SHA-256 of its
// DER certificate, as raw bytes. It is a hint, not an identity: several
// signers may share one.
type KID string

// String returns base64, as trust lists write it.
func (k KID) String() string { return base64.StdEncoding.EncodeToString([]byte(k)) }

// KIDOf returns the kid of a DER certificate.
func KIDOf(der []byte) KID {
	sum := sha256.Sum256(der)
	return KID(sum[:8])
}

// ParseKID reads the base64 form.
func ParseKID(s string) (KID, error) {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return "", err
	}
	return KID(b), nil
}

// Sign1 is a parsed COSE_Sign1 message. Its strings hold raw bytes and share
// memory with the message that they were parsed from.
type Sign1 struct {
	// Protected is the content of the protected header as it was sent; the
	// signature covers exactly these bytes.
	Protected string
	// Algorithm is from the protected header; 0 if there was none.
	Algorithm Algorithm
	// KID is from the protected header, else from the unprotected one, else "".
	KID KID
	// Payload is the encoded claim set.
	Payload string
	// Signature is raw r‖s for ECDSA.
	Signature string
}

// ParseSign1 parses a COSE_Sign1 message: untagged, tagged 18, and either of
// these inside the CWT tag 61. A detached payload and a critical header are
// refused.
func ParseSign1(msg []byte, l Limits) (*Sign1, error) {
	s := new(Sign1)
	if err := s.parse(string(msg), l); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Sign1) parse(msg string, l Limits) error {
	r := reader{s: msg, items: l.items(), depth: l.depth(), stage: StageCOSE}
	h, err := r.head()
	if err != nil {
		return err
	}
	for _, tag := range [...]uint64{tagCWT, tagCOSESign1} {
		if h.major == cborTag && h.arg == tag {
			if h, err = r.head(); err != nil {
				return err
			}
		}
	}
	if h.major != cborArray || (!h.indefinite && h.arg != 4) {
		return refuse(StageCOSE, BadCOSE, "not an array of four")
	}
	if s.Protected, err = r.byteString("protected header"); err != nil {
		return err
	}
	if err := s.parseProtected(l); err != nil {
		return err
	}
	if err := s.readHeaders(&r, false); err != nil {
		return err
	}
	if s.Payload, err = r.byteString("payload"); err != nil {
		return err
	}
	if s.Signature, err = r.byteString("signature"); err != nil {
		return err
	}
	if h.indefinite && !r.breakNext() {
		return refuse(StageCOSE, BadCOSE, "not an array of four")
	}
	if r.rest() > 0 {
		return refuse(StageCOSE, BadCOSE, "bytes after the message")
	}
	return nil
}

func (r *reader) byteString(what string) (string, error) {
	h, err := r.head()
	if err != nil {
		return "", err
	}
	if h.major != cborBytes {
		return "", refuse(StageCOSE, BadCOSE, what+" is not a byte string")
	}
	return r.str(h)
}

func (s *Sign1) parseProtected(l Limits) error {
	if s.Protected == "" {
		return nil
	}
	r := reader{s: s.Protected, items: l.items(), depth: l.depth(), stage: StageCOSE}
	if err := s.readHeaders(&r, true); err != nil {
		return err
	}
	if r.rest() > 0 {
		return refuse(StageCOSE, BadCOSE, "bytes after the protected header")
	}
	return nil
}

// maxKID bounds a kid, which lands in error texts; it has 8 bytes.
const maxKID = 64

// COSE header labels (RFC 9052, §3.1).
const (
	headerAlg  = 1
	headerCrit = 2
	headerKID  = 4
)

func (s *Sign1) readHeaders(r *reader, protected bool) error {
	h, err := r.head()
	if err != nil {
		return err
	}
	if h.major != cborMap {
		return refuse(StageCOSE, BadCOSE, "header is not a map")
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
		label, isInt := kh.integer()
		if !isInt {
			if kh.major != cborText {
				return refuse(StageCOSE, BadCOSE, "header label is neither integer nor text")
			}
			if _, err := r.str(kh); err != nil {
				return err
			}
			if err := r.skip(); err != nil {
				return err
			}
			continue
		}
		if !seen.add(label) {
			return refuse(StageCOSE, BadCOSE, "header label occurs twice")
		}
		if err := s.readHeader(r, label, protected); err != nil {
			return err
		}
	}
	return nil
}

func (s *Sign1) readHeader(r *reader, label int64, protected bool) error {
	switch {
	case label == headerAlg && protected:
		vh, err := r.head()
		if err != nil {
			return err
		}
		alg, ok := vh.integer()
		if !ok {
			return r.skipBody(vh) // a private algorithm's name: refused when verified
		}
		s.Algorithm = Algorithm(alg)
		return nil
	case label == headerCrit:
		return refuse(StageCOSE, BadCOSE, "critical headers are not supported")
	case label == headerKID:
		kid, err := r.byteString("kid")
		if err != nil {
			return err
		}
		if len(kid) > maxKID {
			return refuse(StageCOSE, TooLarge, "kid")
		}
		if protected || s.KID == "" {
			s.KID = KID(kid)
		}
		return nil
	}
	return r.skip()
}

// labels remembers the integer keys of a small map.
type labels struct {
	n    int
	few  [8]int64
	many map[int64]bool
}

func (l *labels) add(v int64) bool {
	for _, x := range l.few[:l.n] {
		if x == v {
			return false
		}
	}
	if l.many[v] {
		return false
	}
	if l.n < len(l.few) {
		l.few[l.n] = v
		l.n++
		return true
	}
	if l.many == nil {
		l.many = make(map[int64]bool)
	}
	l.many[v] = true
	return true
}

// SigStructure returns the bytes that the signature covers (RFC 9052, §4.4).
func (s *Sign1) SigStructure() []byte {
	return appendSigStructure(nil, s.Protected, s.Payload)
}

func appendSigStructure[T string | []byte](b []byte, protected string, payload T) []byte {
	b = append(b, 0x84)
	b = appendText(b, "Signature1")
	b = append(appendHead(b, cborBytes, uint64(len(protected))), protected...)
	b = append(b, 0x40)
	return append(appendHead(b, cborBytes, uint64(len(payload))), payload...)
}

// Hash returns the SHA-256 of the Sig_structure: the certhash of the EU's
// wallet interface, and what an ES256 or PS256 signer signs.
func (s *Sign1) Hash() [sha256.Size]byte {
	var buf [1024]byte
	return sha256.Sum256(appendSigStructure(buf[:0], s.Protected, s.Payload))
}

// CheckKey checks the signature against one public key.
//
// ES256 goes with P-256, and with P-384 as some countries sign; ES384 with
// P-384; PS256 with RSA of 2048 to 8192 bits, salt of 32 bytes (RFC 8230, §2).
func (s *Sign1) CheckKey(pub crypto.PublicKey) error {
	switch s.Algorithm {
	case ES256, ES384:
		key, ok := pub.(*ecdsa.PublicKey)
		if !ok {
			return refuse(StageSignature, UnsupportedAlgorithm, s.Algorithm.String()+" with a key that is not ECDSA")
		}
		return s.checkECDSA(key)
	case PS256:
		key, ok := pub.(*rsa.PublicKey)
		if !ok {
			return refuse(StageSignature, UnsupportedAlgorithm, "PS256 with a key that is not RSA")
		}
		if err := checkRSA(key); err != nil {
			return err
		}
		sum := s.Hash()
		opts := rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}
		if err := rsa.VerifyPSS(key, crypto.SHA256, sum[:], []byte(s.Signature), &opts); err != nil {
			return refuse(StageSignature, BadSignature, "")
		}
		return nil
	case 0:
		return refuse(StageSignature, UnsupportedAlgorithm, "none in the protected header")
	}
	return refuse(StageSignature, UnsupportedAlgorithm, s.Algorithm.String())
}

func (s *Sign1) checkECDSA(key *ecdsa.PublicKey) error {
	size := ecdsaSize(key)
	if size == 0 || (s.Algorithm == ES384 && size != 48) {
		return refuse(StageSignature, UnsupportedKey, s.Algorithm.String()+" with this curve")
	}
	if len(s.Signature) != 2*size {
		return refuse(StageSignature, BadSignature, "length does not fit the curve")
	}
	var buf [128]byte
	der := appendDER(buf[:0], s.Signature[:size], s.Signature[size:])
	var digest [64]byte
	sum := digest[:0]
	if s.Algorithm == ES384 {
		d := sha512.Sum384(s.SigStructure())
		sum = append(sum, d[:]...)
	} else {
		d := s.Hash()
		sum = append(sum, d[:]...)
	}
	if !ecdsa.VerifyASN1(key, sum, der) {
		return refuse(StageSignature, BadSignature, "")
	}
	return nil
}

// ecdsaSize returns the bytes of one coordinate of an accepted curve, else 0.
func ecdsaSize(key *ecdsa.PublicKey) int {
	switch key.Curve {
	case elliptic.P256():
		return 32
	case elliptic.P384():
		return 48
	}
	return 0
}

func checkRSA(key *rsa.PublicKey) error {
	if n := key.N.BitLen(); n < 2048 || n > 8192 {
		return refuse(StageSignature, UnsupportedKey, "RSA key of "+strconv.Itoa(n)+" bits")
	}
	return nil
}

// appendDER writes raw r and s as the ASN.1 that crypto/ecdsa reads. Both are
// at most 66 bytes, so every length takes one byte.
func appendDER(b []byte, r, s string) []byte {
	r, rPad := derInt(r)
	s, sPad := derInt(s)
	n := 4 + len(r) + rPad + len(s) + sPad
	b = append(b, 0x30, byte(n), 0x02, byte(len(r)+rPad))
	b = append(append(b, "\x00"[:rPad]...), r...)
	b = append(b, 0x02, byte(len(s)+sPad))
	return append(append(b, "\x00"[:sPad]...), s...)
}

func derInt(v string) (string, int) {
	for len(v) > 1 && v[0] == 0 {
		v = v[1:]
	}
	if v[0]&0x80 != 0 {
		return v, 1
	}
	return v, 0
}
