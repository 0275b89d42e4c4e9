package hsm

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
)

// Mode is a way of using an Oct key besides Seal: AES as Encipher and Decipher
// do it. None of the CBC modes tells whether a ciphertext was changed; whoever
// can, uses Seal.
type Mode byte

// The modes.
const (
	// CBC takes whole blocks (NIST SP 800-38A section 6.2).
	CBC Mode = 1 + iota
	// CBCPad fills up the last block as RFC 5652 section 6.3 says.
	CBCPad
	// KeyWrap takes 16 bytes or more, in eights (RFC 3394).
	KeyWrap
	// KeyWrapPad takes any bytes but none (RFC 5649).
	KeyWrapPad
)

// MaxEncipher bounds what Encipher takes: keys and tokens are for keys and
// short messages, and a token may be at the other end of a connection.
const MaxEncipher = 8 << 10

// ErrOpen is wrapped when what was to be opened was made with another key or
// for another place, or was changed. It never says which: of a padding that
// does not fit, an error apart from all others would open the message byte by
// byte (Vaudenay, EUROCRYPT 2002).
var ErrOpen = errors.New("made with another key or for another place, or changed")

// CheckEncipher refuses, with ErrOperation, what Encipher of a key does not do.
func CheckEncipher(k KeySpec, mode Mode, iv, plaintext []byte) error {
	if err := mode.check(k, iv); err != nil {
		return err
	}
	n := len(plaintext)
	switch {
	case n > MaxEncipher:
	case mode == CBC && n > 0 && n%aes.BlockSize == 0, mode == CBCPad, mode == KeyWrap && n >= 16 && n%8 == 0, mode == KeyWrapPad && n > 0:
		return nil
	}
	return fmt.Errorf("%w: it does not take %d bytes", ErrOperation, n)
}

// CheckDecipher refuses what Decipher of a key does not do: with ErrOperation
// the mode and iv, with ErrOpen a ciphertext of a length that Encipher does not
// make.
func CheckDecipher(k KeySpec, mode Mode, iv, ciphertext []byte) error {
	if err := mode.check(k, iv); err != nil {
		return err
	}
	least, step := aes.BlockSize, aes.BlockSize
	switch mode {
	case KeyWrap:
		least, step = 24, 8
	case KeyWrapPad:
		step = 8
	}
	if n := len(ciphertext); n < least || n%step != 0 || n > MaxEncipher+aes.BlockSize {
		return ErrOpen
	}
	return nil
}

func (mode Mode) check(k KeySpec, iv []byte) error {
	if k.Type != Oct {
		return fmt.Errorf("%w: only an oct key enciphers", ErrOperation)
	}
	switch want := mode.iv(); {
	case mode < CBC || mode > KeyWrapPad:
		return fmt.Errorf("%w: mode %d", ErrOperation, mode)
	case len(iv) != want:
		return fmt.Errorf("%w: an initialization vector of %d bytes, want %d", ErrOperation, len(iv), want)
	}
	return nil
}

func (mode Mode) iv() int {
	if mode == CBC || mode == CBCPad {
		return aes.BlockSize
	}
	return 0
}

// Pad fills up the last block (RFC 5652 section 6.3).
func Pad(plaintext []byte) []byte {
	fill := aes.BlockSize - len(plaintext)%aes.BlockSize
	out := append(make([]byte, 0, len(plaintext)+fill), plaintext...)
	for range fill {
		out = append(out, byte(fill))
	}
	return out
}

// Unpad is the inverse of Pad, or ErrOpen. How long it takes does not depend on
// what is wrong with the last block.
func Unpad(padded []byte) ([]byte, error) {
	n := len(padded)
	if n == 0 || n%aes.BlockSize != 0 {
		return nil, ErrOpen
	}
	fill := int(padded[n-1])
	good := subtle.ConstantTimeLessOrEq(1, fill) & subtle.ConstantTimeLessOrEq(fill, aes.BlockSize)
	for i := range aes.BlockSize {
		inside := subtle.ConstantTimeLessOrEq(i+1, fill)
		good &= subtle.ConstantTimeSelect(inside, subtle.ConstantTimeByteEq(padded[n-1-i], byte(fill)), 1)
	}
	if good != 1 {
		return nil, ErrOpen
	}
	return padded[:n-fill], nil
}

func (k *softKey) Encipher(mode Mode, iv, plaintext []byte) ([]byte, error) {
	err := CheckEncipher(k.m.spec, mode, iv, plaintext)
	var block cipher.Block
	if err == nil {
		block, err = aes.NewCipher(k.m.oct)
	}
	if err != nil {
		return nil, fmt.Errorf("encipher with key %s: %w", k.id, err)
	}
	switch mode {
	case KeyWrap:
		return wrap(once(block.Encrypt), wrapIV, plaintext)
	case KeyWrapPad:
		return WrapPad(once(block.Encrypt), plaintext)
	case CBCPad:
		plaintext = Pad(plaintext)
	}
	out := make([]byte, len(plaintext))
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(out, plaintext)
	return out, nil
}

func (k *softKey) Decipher(mode Mode, iv, ciphertext []byte) (plaintext []byte, err error) {
	err = CheckDecipher(k.m.spec, mode, iv, ciphertext)
	var block cipher.Block
	if err == nil {
		block, err = aes.NewCipher(k.m.oct)
	}
	if err != nil {
		return nil, fmt.Errorf("decipher with key %s: %w", k.id, err)
	}
	switch mode {
	case KeyWrap:
		plaintext, err = unwrap(once(block.Decrypt), wrapIV, ciphertext)
	case KeyWrapPad:
		plaintext, err = UnwrapPad(once(block.Decrypt), ciphertext)
	default:
		plaintext = make([]byte, len(ciphertext))
		cipher.NewCBCDecrypter(block, iv).CryptBlocks(plaintext, ciphertext)
		if mode == CBCPad {
			plaintext, err = Unpad(plaintext)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("decipher with key %s: %w", k.id, err)
	}
	return plaintext, nil
}

// Block encrypts or decrypts one block of 16 bytes in place.
type Block func(block []byte) error

func once(crypt func(dst, src []byte)) Block {
	return func(b []byte) error {
		crypt(b, b)
		return nil
	}
}

// wrapIV is the initial value of RFC 3394 section 2.2.3.1; wrapPadIV begins
// that of RFC 5649 section 3.
const (
	wrapIV    = 0xa6a6a6a6a6a6a6a6
	wrapPadIV = 0xa65959a6
)

// wrap is W of RFC 3394 section 2.2.1, over two semiblocks or more.
func wrap(encrypt Block, iv uint64, plaintext []byte) ([]byte, error) {
	out := make([]byte, 8+len(plaintext))
	copy(out[8:], plaintext)
	var b [aes.BlockSize]byte
	binary.BigEndian.PutUint64(b[:8], iv)
	n := len(plaintext) / 8
	for j := range 6 {
		for i := 1; i <= n; i++ {
			r := out[8*i : 8*i+8]
			copy(b[8:], r)
			if err := encrypt(b[:]); err != nil {
				return nil, err
			}
			binary.BigEndian.PutUint64(b[:8], binary.BigEndian.Uint64(b[:8])^uint64(n*j+i))
			copy(r, b[8:])
		}
	}
	copy(out, b[:8])
	return out, nil
}

// unwind is the inverse of wrap without its check: the initial value and what
// was wrapped.
func unwind(decrypt Block, ciphertext []byte) (iv uint64, plaintext []byte, err error) {
	plaintext = append([]byte(nil), ciphertext[8:]...)
	var b [aes.BlockSize]byte
	copy(b[:8], ciphertext)
	n := len(plaintext) / 8
	for j := 5; j >= 0; j-- {
		for i := n; i >= 1; i-- {
			r := plaintext[8*i-8 : 8*i]
			binary.BigEndian.PutUint64(b[:8], binary.BigEndian.Uint64(b[:8])^uint64(n*j+i))
			copy(b[8:], r)
			if err := decrypt(b[:]); err != nil {
				return 0, nil, err
			}
			copy(r, b[8:])
		}
	}
	return binary.BigEndian.Uint64(b[:8]), plaintext, nil
}

func unwrap(decrypt Block, iv uint64, ciphertext []byte) ([]byte, error) {
	got, plaintext, err := unwind(decrypt, ciphertext)
	if err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare(binary.BigEndian.AppendUint64(nil, got), binary.BigEndian.AppendUint64(nil, iv)) != 1 {
		clear(plaintext)
		return nil, ErrOpen
	}
	return plaintext, nil
}

// WrapPad is KeyWrapPad over a block cipher that is elsewhere (RFC 5649 section
// 4.1). The plaintext is not empty.
func WrapPad(encrypt Block, plaintext []byte) ([]byte, error) {
	iv := uint64(wrapPadIV)<<32 | uint64(len(plaintext))
	padded := make([]byte, (len(plaintext)+7)/8*8)
	copy(padded, plaintext)
	defer clear(padded)
	if len(padded) > 8 {
		return wrap(encrypt, iv, padded)
	}
	out := append(binary.BigEndian.AppendUint64(nil, iv), padded...)
	return out, encrypt(out)
}

// UnwrapPad is the inverse of WrapPad, or ErrOpen (RFC 5649 section 4.2). All
// its checks are made before any has an effect.
func UnwrapPad(decrypt Block, ciphertext []byte) ([]byte, error) {
	if len(ciphertext) < aes.BlockSize || len(ciphertext)%8 != 0 {
		return nil, ErrOpen
	}
	var iv uint64
	var plaintext []byte
	var err error
	if len(ciphertext) == aes.BlockSize {
		b := append([]byte(nil), ciphertext...)
		err = decrypt(b)
		iv, plaintext = binary.BigEndian.Uint64(b[:8]), b[8:]
	} else {
		iv, plaintext, err = unwind(decrypt, ciphertext)
	}
	if err != nil {
		return nil, err
	}
	size, room := int(uint32(iv)), len(plaintext)
	good := subtle.ConstantTimeCompare(binary.BigEndian.AppendUint32(nil, uint32(iv>>32)), binary.BigEndian.AppendUint32(nil, wrapPadIV))
	fits := subtle.ConstantTimeLessOrEq(room-7, size&0x7fffffff) & subtle.ConstantTimeLessOrEq(size&0x7fffffff, room) & subtle.ConstantTimeEq(int32(size>>31), 0)
	size = subtle.ConstantTimeSelect(fits, size, room)
	var filled byte
	for i := max(room-7, 0); i < room; i++ {
		beyond := subtle.ConstantTimeLessOrEq(size, i)
		filled |= byte(-beyond) & plaintext[i]
	}
	if good&fits&subtle.ConstantTimeByteEq(filled, 0) != 1 {
		clear(plaintext)
		return nil, ErrOpen
	}
	return plaintext[:size], nil
}
