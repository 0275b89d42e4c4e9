package trustlist

import "errors"

// Bounds of a CMS message. A DSC is about 1 kB, the largest batch of rules or
// revocations some 100 kB.
const (
	maxCMS   = 1 << 20
	maxDepth = 24
)

var (
	errBER      = errors.New("malformed BER")
	errBERDepth = errors.New("nested too deeply")
)

// toDER rewrites BER as far as signed-data messages use it: indefinite and
// padded lengths become minimal, constructed octet strings become primitive.
// DER comes out unchanged. Data after the first element is refused.
func toDER(ber []byte) ([]byte, error) {
	if len(ber) > maxCMS {
		return nil, errors.New("larger than 1 MiB")
	}
	out, rest, err := appendDER(make([]byte, 0, len(ber)), ber, maxDepth)
	if err != nil {
		return nil, err
	}
	if len(rest) > 0 {
		return nil, errors.New("data after the message")
	}
	return out, nil
}

const (
	tagOctetString = 0x04
	constructed    = 0x20
)

// appendDER rewrites the first element of in and returns what follows it.
func appendDER(out, in []byte, depth int) (_, rest []byte, err error) {
	if depth == 0 {
		return nil, nil, errBERDepth
	}
	tag, body, rest, indefinite, err := element(in)
	if err != nil {
		return nil, nil, err
	}
	if tag&constructed == 0 {
		return append(appendLength(append(out, tag), len(body)), body...), rest, nil
	}
	if tag == tagOctetString|constructed {
		out, start := reserve(out, tagOctetString)
		if out, rest, err = octets(out, in, depth); err != nil {
			return nil, nil, err
		}
		return settle(out, start), rest, nil
	}
	out, start := reserve(out, tag)
	for {
		if indefinite {
			if len(body) >= 2 && body[0] == 0 && body[1] == 0 {
				rest = body[2:]
				break
			}
		}
		if len(body) == 0 {
			if indefinite {
				return nil, nil, errBER
			}
			break
		}
		if out, body, err = appendDER(out, body, depth-1); err != nil {
			return nil, nil, err
		}
	}
	return settle(out, start), rest, nil
}

// maxLength is the bytes of the longest length that is written.
const maxLength = 4

// reserve begins an element whose length is not known yet. A buffer for each
// level would cost depth times the size of the message.
func reserve(out []byte, tag byte) (_ []byte, start int) {
	out = append(out, tag, 0, 0, 0, 0)
	return out, len(out)
}

// settle writes the length of the element whose content begins at start, and
// moves the content up to it.
func settle(out []byte, start int) []byte {
	content := out[start:]
	head := appendLength(out[:start-maxLength], len(content))
	return out[:len(head)+copy(out[len(head):], content)]
}

// octets collects the parts of a constructed octet string.
func octets(out, in []byte, depth int) (_, rest []byte, err error) {
	if depth == 0 {
		return nil, nil, errBERDepth
	}
	tag, body, rest, indefinite, err := element(in)
	if err != nil {
		return nil, nil, err
	}
	switch tag {
	case tagOctetString:
		return append(out, body...), rest, nil
	case tagOctetString | constructed:
	default:
		return nil, nil, errBER
	}
	for {
		if indefinite && len(body) >= 2 && body[0] == 0 && body[1] == 0 {
			return out, body[2:], nil
		}
		if len(body) == 0 {
			if indefinite {
				return nil, nil, errBER
			}
			return out, rest, nil
		}
		if out, body, err = octets(out, body, depth-1); err != nil {
			return nil, nil, err
		}
	}
}

// element reads a tag and a length. With an indefinite length, body is all
// that follows, its end still to be found.
func element(in []byte) (tag byte, body, rest []byte, indefinite bool, err error) {
	if len(in) < 2 || in[0]&0x1F == 0x1F || in[0] == 0 {
		return 0, nil, nil, false, errBER
	}
	tag = in[0]
	length, in := int(in[1]), in[2:]
	switch {
	case length < 0x80:
	case length == 0x80:
		if tag&constructed == 0 {
			return 0, nil, nil, false, errBER
		}
		return tag, in, nil, true, nil
	default:
		n := length & 0x7F
		if n > 4 || n > len(in) {
			return 0, nil, nil, false, errBER
		}
		length = 0
		for _, b := range in[:n] {
			length = length<<8 | int(b)
		}
		in = in[n:]
	}
	if length < 0 || length > len(in) {
		return 0, nil, nil, false, errBER
	}
	return tag, in[:length], in[length:], false, nil
}

func appendLength(out []byte, n int) []byte {
	switch {
	case n < 0x80:
		return append(out, byte(n))
	case n <= 0xFF:
		return append(out, 0x81, byte(n))
	case n <= 0xFFFF:
		return append(out, 0x82, byte(n>>8), byte(n))
	}
	return append(out, 0x83, byte(n>>16), byte(n>>8), byte(n))
}
