package hcert

const base45Alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:"

// base45Values maps a byte to its value; 0xFF marks a byte outside the alphabet.
var base45Values = func() (t [256]byte) {
	for i := range t {
		t[i] = 0xFF
	}
	for i := range len(base45Alphabet) {
		t[base45Alphabet[i]] = byte(i)
	}
	return t
}()

// EncodeBase45 encodes data as RFC 9285 describes.
func EncodeBase45(data []byte) string {
	return string(appendBase45(make([]byte, 0, base45Len(len(data))), data))
}

func base45Len(n int) int { return n/2*3 + n%2*2 }

func appendBase45(out, data []byte) []byte {
	for ; len(data) >= 2; data = data[2:] {
		v := uint(data[0])<<8 | uint(data[1])
		out = append(out, base45Alphabet[v%45], base45Alphabet[v/45%45], base45Alphabet[v/2025])
	}
	if len(data) == 1 {
		v := uint(data[0])
		out = append(out, base45Alphabet[v%45], base45Alphabet[v/45])
	}
	return out
}

// DecodeBase45 decodes RFC 9285 text. It refuses characters outside the
// alphabet, a length that no input has, and groups above their maximum.
func DecodeBase45(text string) ([]byte, error) {
	return appendFromBase45(make([]byte, 0, len(text)/3*2+1), text)
}

func appendFromBase45(out []byte, text string) ([]byte, error) {
	if len(text)%3 == 1 {
		return nil, refuse(StageBase45, BadBase45, "length leaves one character over")
	}
	i := 0
	for ; i+3 <= len(text); i += 3 {
		a, b, c := base45Values[text[i]], base45Values[text[i+1]], base45Values[text[i+2]]
		if a|b|c >= 64 { // every valid value is below 64, 0xFF is not
			return nil, refuse(StageBase45, BadBase45, "character outside the alphabet")
		}
		v := uint(a) + uint(b)*45 + uint(c)*2025
		if v > 0xFFFF {
			return nil, refuse(StageBase45, BadBase45, "group above 65535")
		}
		out = append(out, byte(v>>8), byte(v))
	}
	if i < len(text) {
		a, b := base45Values[text[i]], base45Values[text[i+1]]
		if a|b >= 64 {
			return nil, refuse(StageBase45, BadBase45, "character outside the alphabet")
		}
		v := uint(a) + uint(b)*45
		if v > 0xFF {
			return nil, refuse(StageBase45, BadBase45, "last group above 255")
		}
		out = append(out, byte(v))
	}
	return out, nil
}
