package hcert

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// uvciAlphabet is the code of the check character's Luhn mod 38 (Annex 2 of
// the eHealth Network's "Guidelines on verifiable vaccination certificates –
// basic interoperability elements").
const uvciAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/:"

const uvciPrefix = "URN:UVCI:"

// uvciRandomLen characters of 36 kinds are more than 124 random bits.
const uvciRandomLen = 24

// NewUVCI makes a certificate identifier that says nothing but its country, of
// the form
//
//	URN:UVCI:01:IE:<24 random characters>#<check character>
//
// from a source of randomness such as crypto/rand.Reader.
func NewUVCI(country string, random io.Reader) (string, error) {
	if len(country) != 2 || !capital(country[0]) || !capital(country[1]) {
		return "", errors.New("make UVCI: the country must be an ISO 3166-1 alpha-2 code in capitals")
	}
	body := make([]byte, 0, len(uvciPrefix)+6+uvciRandomLen)
	body = append(body, uvciPrefix+"01:"+country+":"...)
	var buf [64]byte
	for n := 0; n < uvciRandomLen; {
		if _, err := io.ReadFull(random, buf[:]); err != nil {
			return "", fmt.Errorf("make UVCI: read randomness: %w", err)
		}
		for _, b := range buf {
			// 252 is the largest multiple of 36 in a byte: above it, drop the
			// byte so that every character is equally likely.
			if b < 252 && n < uvciRandomLen {
				body = append(body, uvciAlphabet[b%36])
				n++
			}
		}
	}
	check, err := UVCICheckCharacter(string(body))
	if err != nil {
		return "", err
	}
	return string(body) + "#" + string(check), nil
}

// UVCICheckCharacter computes the Luhn mod 38 character over the whole
// identifier before the '#', prefix included. Letters count as capitals.
func UVCICheckCharacter(body string) (byte, error) {
	const n = len(uvciAlphabet)
	sum, factor := 0, 2
	for i := len(body) - 1; i >= 0; i-- {
		code := uvciCode(body[i])
		if code < 0 {
			return 0, fmt.Errorf("UVCI: character %d is not one of A-Z, 0-9, slash and colon", i)
		}
		p := factor * code
		sum += p/n + p%n
		factor = 3 - factor
	}
	return uvciAlphabet[(n-sum%n)%n], nil
}

func uvciCode(b byte) int {
	switch {
	case 'a' <= b && b <= 'z':
		return int(b - 'a')
	case 'A' <= b && b <= 'Z':
		return int(b - 'A')
	case digit(b):
		return int(b-'0') + 26
	case b == '/':
		return 36
	case b == ':':
		return 37
	}
	return -1
}

// CheckState says what the check character of a UVCI tells.
type CheckState string

// The states of a check character.
const (
	CheckAbsent CheckState = "absent" // no '#': the character is optional
	CheckRight  CheckState = "right"
	CheckWrong  CheckState = "wrong"
)

// UVCI is a certificate identifier taken apart. Identifiers in circulation
// often break the guidelines (lower case, no URN prefix, wrong check
// character), so nothing in it is a reason to refuse a certificate.
type UVCI struct {
	Version string // such as 01; "" if it could not be found
	Country string // in capitals; "" if it could not be found
	Opaque  string // the rest, without the check character
	Check   CheckState
}

// ParseUVCI takes an identifier apart as far as it can be.
func ParseUVCI(s string) UVCI {
	body, check, has := s, "", false
	if i := strings.LastIndexByte(s, '#'); i >= 0 {
		body, check, has = s[:i], s[i+1:], true
	}
	u := UVCI{Check: CheckAbsent}
	if has {
		u.Check = CheckWrong
		want, err := UVCICheckCharacter(body)
		if err == nil && len(check) == 1 && uvciCode(check[0]) == uvciCode(want) {
			u.Check = CheckRight
		}
	}
	rest := body
	if len(rest) >= len(uvciPrefix) && strings.EqualFold(rest[:len(uvciPrefix)], uvciPrefix) {
		rest = rest[len(uvciPrefix):]
	}
	u.Opaque = rest
	if len(rest) < 4 || !digit(rest[0]) || !digit(rest[1]) {
		return u
	}
	// Both 01:IE:… and 01IE/… occur.
	version, after := rest[:2], strings.TrimPrefix(rest[2:], ":")
	if len(after) < 2 || !letter(after[0]) || !letter(after[1]) {
		return u
	}
	u.Version, u.Country = version, strings.ToUpper(after[:2])
	u.Opaque = strings.TrimLeft(after[2:], ":/")
	return u
}

func capital(b byte) bool { return 'A' <= b && b <= 'Z' }

func letter(b byte) bool { return 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' }
