package hcert

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"fmt"
	"hash/adler32"
	"math/bits"
)

// maxShort bounds what deflateShort compresses. Signed certificates have 300
// to 1000 bytes.
const maxShort = 4096

// deflate compresses a message as zlib (RFC 1950).
//
// A certificate hardly compresses: over the public samples, zlib at its best
// takes off 0.5 % and takes longer than half a signature. Short messages
// therefore go into one block with the fixed code of RFC 1951 and a search for
// repetitions of one candidate a place, which gives the same sizes within
// 0.5 % in a tenth of the time.
func deflate(out, data []byte) ([]byte, error) {
	if len(data) <= maxShort {
		return deflateShort(out, data), nil
	}
	var buf bytes.Buffer
	z, err := zlib.NewWriterLevel(&buf, zlib.BestCompression)
	if err != nil {
		return nil, fmt.Errorf("compress: %w", err)
	}
	if _, err := z.Write(data); err != nil {
		return nil, fmt.Errorf("compress: %w", err)
	}
	if err := z.Close(); err != nil {
		return nil, fmt.Errorf("compress: %w", err)
	}
	return append(out, buf.Bytes()...), nil
}

// code is a Huffman code with its bits in the order in which they are sent.
type code struct {
	bits uint16
	len  uint8
}

// fixedCodes is the literal and length code of RFC 1951, §3.2.6.
var fixedCodes = func() (t [288]code) {
	for i := range t {
		var v, n int
		switch {
		case i < 144:
			v, n = 0x30+i, 8
		case i < 256:
			v, n = 0x190+i-144, 9
		case i < 280:
			v, n = i-256, 7
		default:
			v, n = 0xC0+i-280, 8
		}
		t[i] = code{bits.Reverse16(uint16(v)) >> (16 - n), uint8(n)}
	}
	return t
}()

// extra is a symbol with the first value that it stands for and the number of
// extra bits that select one.
type extra struct {
	symbol uint16
	base   uint16
	bits   uint8
}

// lengthSymbols maps a match length to its symbol (RFC 1951, §3.2.5).
var lengthSymbols = func() (t [259]extra) {
	length := 3
	for sym := 257; sym < 285; sym++ {
		n := 0
		if sym >= 265 {
			n = (sym - 261) / 4
		}
		for range 1 << n {
			t[length] = extra{uint16(sym), uint16(baseOf(sym)), uint8(n)}
			length++
		}
	}
	t[258] = extra{285, 258, 0}
	return t
}()

// baseOf returns the first length of a length symbol below 285.
func baseOf(sym int) int {
	if sym < 265 {
		return sym - 254
	}
	n := (sym - 261) / 4
	return 3 + (4+(sym-261)%4)<<n
}

// distanceSymbol returns the symbol of a match distance.
func distanceSymbol(d int) extra {
	if d <= 4 {
		return extra{uint16(d - 1), uint16(d), 0}
	}
	n := bits.Len(uint(d-1)) - 2
	half := (d - 1) >> n & 1
	return extra{uint16(2*n + 2 + half), uint16(1 + (2+half)<<n), uint8(n)}
}

// bitWriter sends bits, the least significant first.
type bitWriter struct {
	out []byte
	acc uint64
	n   uint
}

func (w *bitWriter) write(v uint, n uint) {
	w.acc |= uint64(v) << w.n
	w.n += n
	for w.n >= 8 {
		w.out = append(w.out, byte(w.acc))
		w.acc >>= 8
		w.n -= 8
	}
}

func (w *bitWriter) symbol(sym uint16) {
	c := fixedCodes[sym]
	w.write(uint(c.bits), uint(c.len))
}

func (w *bitWriter) match(length, distance int) {
	l := lengthSymbols[length]
	w.symbol(l.symbol)
	w.write(uint(length)-uint(l.base), uint(l.bits))
	d := distanceSymbol(distance)
	w.write(uint(bits.Reverse8(uint8(d.symbol))>>3), 5)
	w.write(uint(distance)-uint(d.base), uint(d.bits))
}

const (
	minMatch = 3
	maxMatch = 258
)

func deflateShort(out, data []byte) []byte {
	// 0x789C: deflate with a 32 kB window, usual effort.
	w := bitWriter{out: append(out, 0x78, 0x9C)}
	w.write(1|1<<1, 3) // last block, fixed code
	var seen [1024]uint16
	for i := 0; i < len(data); {
		length, distance := 0, 0
		if i+minMatch <= len(data) {
			h := hash3(data[i:])
			if p := int(seen[h]); p > 0 {
				distance = i - (p - 1)
				length = common(data[p-1:], data[i:])
			}
			seen[h] = uint16(i + 1)
		}
		if length < minMatch {
			w.symbol(uint16(data[i]))
			i++
			continue
		}
		w.match(length, distance)
		for j := i + 1; j < i+length && j+minMatch <= len(data); j++ {
			seen[hash3(data[j:])] = uint16(j + 1)
		}
		i += length
	}
	w.symbol(256)
	if w.n > 0 {
		w.write(0, 8-w.n)
	}
	return binary.BigEndian.AppendUint32(w.out, adler32.Checksum(data))
}

func hash3(b []byte) uint32 {
	return (uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16) * 0x9E3779B1 >> 22
}

// common returns how long two places agree, up to the longest match.
func common(a, b []byte) int {
	n := min(len(b), maxMatch)
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}
