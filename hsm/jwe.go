package hsm

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"strings"
)

// The two kinds of JWE (RFC 7516, compact) in a security domain: RSA-OAEP-256
// to a certificate, and "dir" under a derived key; the content is always
// A256CBC-HS512 (RFC 7518 section 5.2.5), whose key has 64 bytes.
const cekSize = 64

var errJWE = errors.New("a JWE does not open: sealed for another key, or changed")

type jweHeader struct {
	Alg string `json:"alg"`
	Enc string `json:"enc"`
	Kid string `json:"kid,omitempty"`
}

var jweBase64 = base64.RawURLEncoding.Strict()

// sealTo encrypts plaintext to an RSA key.
func sealTo(pub *rsa.PublicKey, plaintext []byte, kid string) (string, error) {
	cek := make([]byte, cekSize)
	_, _ = rand.Read(cek)
	defer clear(cek)
	wrapped, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, pub, cek, nil)
	if err != nil {
		return "", err
	}
	return sealContent(jweHeader{Alg: "RSA-OAEP-256", Enc: "A256CBC-HS512", Kid: kid}, wrapped, cek, plaintext)
}

// sealUnder encrypts plaintext under a key of 64 bytes.
func sealUnder(cek, plaintext []byte, kid string) (string, error) {
	return sealContent(jweHeader{Alg: "dir", Enc: "A256CBC-HS512", Kid: kid}, nil, cek, plaintext)
}

func sealContent(h jweHeader, wrapped, cek, plaintext []byte) (string, error) {
	header, err := json.Marshal(h)
	if err != nil {
		return "", err
	}
	protected := jweBase64.EncodeToString(header)
	block, err := aes.NewCipher(cek[cekSize/2:])
	if err != nil {
		return "", err
	}
	iv := make([]byte, aes.BlockSize)
	_, _ = rand.Read(iv)
	pad := aes.BlockSize - len(plaintext)%aes.BlockSize
	content := append(bytes.Clone(plaintext), bytes.Repeat([]byte{byte(pad)}, pad)...)
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(content, content)
	parts := []string{protected, jweBase64.EncodeToString(wrapped), jweBase64.EncodeToString(iv), jweBase64.EncodeToString(content),
		jweBase64.EncodeToString(contentTag(cek, protected, iv, content))}
	return strings.Join(parts, "."), nil
}

func contentTag(cek []byte, protected string, iv, content []byte) []byte {
	mac := hmac.New(sha512.New, cek[:cekSize/2])
	mac.Write([]byte(protected))
	mac.Write(iv)
	mac.Write(content)
	mac.Write(binary.BigEndian.AppendUint64(nil, 8*uint64(len(protected))))
	return mac.Sum(nil)[:sha512.Size/2]
}

// openJWE decrypts a compact JWE; unwrap gives its content key.
func openJWE(compact, alg string, unwrap func(wrapped []byte) ([]byte, error)) ([]byte, error) {
	parts := strings.Split(compact, ".")
	if len(parts) != 5 {
		return nil, errJWE
	}
	var raw [5][]byte
	for i, part := range parts {
		var err error
		if raw[i], err = jweBase64.DecodeString(part); err != nil {
			return nil, errJWE
		}
	}
	var h jweHeader
	if err := json.Unmarshal(raw[0], &h); err != nil || h.Alg != alg || h.Enc != "A256CBC-HS512" {
		return nil, errJWE
	}
	wrapped, iv, content, tag := raw[1], raw[2], raw[3], raw[4]
	if len(iv) != aes.BlockSize || len(content) == 0 || len(content)%aes.BlockSize != 0 {
		return nil, errJWE
	}
	cek, err := unwrap(wrapped)
	if err != nil || len(cek) != cekSize {
		return nil, errJWE
	}
	defer clear(cek)
	if subtle.ConstantTimeCompare(tag, contentTag(cek, parts[0], iv, content)) != 1 {
		return nil, errJWE
	}
	block, err := aes.NewCipher(cek[cekSize/2:])
	if err != nil {
		return nil, errJWE
	}
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(content, content)
	pad := int(content[len(content)-1]) // authentic, so this tells nobody anything
	if pad < 1 || pad > aes.BlockSize {
		return nil, errJWE
	}
	return content[:len(content)-pad], nil
}

// deriveSP800108 is the KDF of NIST SP 800-108 in counter mode with
// HMAC-SHA-512, for up to 512 bits: one block.
func deriveSP800108(key []byte, label, context string, bits uint32) []byte {
	mac := hmac.New(sha512.New, key)
	mac.Write([]byte{0, 0, 0, 1})
	mac.Write([]byte(label + "\x00" + context))
	mac.Write(binary.BigEndian.AppendUint32(nil, bits))
	return mac.Sum(nil)[:bits/8]
}
