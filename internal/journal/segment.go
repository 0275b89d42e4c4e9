package journal

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// The format, all integers big endian:
//
//	segment  = header block*
//	header   = magic[8] first:u64 salt[32] chain[32] mac[32] crc:u32
//	block    = sealed:u32 count:u32 first:u64 nonce[12] chain[32] crc:u32 ciphertext
//	plain    = (length:u32 record)*count
//
// chain is the chain value before the first record of the segment or block.
// The block head (without its CRC) is the block's associated data, so the
// ciphertext fits one place in one segment only.
//
// The newest segment's file is longer than what was written: zeros follow, so
// that most writes change no file size. A write that stopped half way is told
// from a change by what only it leaves: a file that ends inside the block, or
// a part of the block as large as a disk sector holds that is still zero,
// with nothing written behind the block. Header and block heads carry a CRC.
const (
	segmentMagic  = "VJRNL\x00\x01\n"
	segmentSuffix = ".journal"
	headerSize    = 8 + 8 + 32 + 32 + 32 + 4
	blockHead     = 4 + 4 + 8 + 12 + 32 + 4
	tagSize       = 16
	// markEvery is how far apart the active segment's index entries are.
	markEvery = 64 << 10
	// sectorSize is the smallest piece that a disk writes whole.
	sectorSize = 512
)

var errShort = errors.New("segment shorter than its header")

// keys are the keys derived from the root key. The root itself is not kept.
type keys struct {
	mac, chain [32]byte
	seal       [32]byte // parent of the segments' keys
}

func deriveKeys(root [32]byte) keys {
	return keys{mac: derive(root, nil, "header"), chain: derive(root, nil, "chain"), seal: derive(root, nil, "seal")}
}

func derive(secret [32]byte, salt []byte, purpose string) [32]byte {
	k, err := hkdf.Key(sha256.New, secret[:], salt, "verdant journal 1 "+purpose, 32)
	if err != nil {
		panic(err) // 32 bytes is always within HKDF's limit
	}
	return [32]byte(k)
}

// linker computes chain values, one after the other.
type linker struct {
	mac hash.Hash
	buf [40]byte // what the record's bytes follow, and the result
}

func (k keys) linker() *linker { return &linker{mac: hmac.New(sha256.New, k.chain[:])} }

// link is the chain value after a record.
func (l *linker) link(prev [32]byte, seq uint64, record []byte) [32]byte {
	copy(l.buf[:32], prev[:])
	binary.BigEndian.PutUint64(l.buf[32:], seq)
	l.mac.Reset()
	l.mac.Write(l.buf[:])
	l.mac.Write(record)
	return [32]byte(l.mac.Sum(l.buf[:0]))
}

// mark says that the block starting with record seq is at offset.
type mark struct {
	seq    uint64
	offset int64
}

// segment is one file. Its fields other than size and marks never change.
type segment struct {
	path  string
	first uint64
	salt  [32]byte
	chain [32]byte
	aead  cipher.AEAD
	// size counts the durable bytes; marks is a sparse index of blocks.
	size  int64
	marks []mark
}

func newSegment(dir string, head Head, salt [32]byte, k keys) *segment {
	first := head.Seq + 1
	return &segment{path: filepath.Join(dir, fmt.Sprintf("%020d%s", first, segmentSuffix)), first: first,
		salt: salt, chain: head.Chain, aead: segmentCipher(k, salt), size: headerSize}
}

// segmentCipher makes the segment's own AES-256-GCM. Each segment has its own
// key, so random nonces stay far below the 2^32 blocks that are safe per key.
func segmentCipher(k keys, salt [32]byte) cipher.AEAD {
	key := derive(k.seal, salt[:], "segment")
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // the key has 32 bytes
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err) // AES has the block size that GCM wants
	}
	return aead
}

func (s *segment) name() string { return filepath.Base(s.path) }

func (s *segment) broken(seq uint64, format string, args ...any) error {
	return &BreakError{Segment: s.name(), Seq: seq, Reason: fmt.Sprintf(format, args...)}
}

func (s *segment) header(k keys) []byte {
	b := make([]byte, 0, headerSize)
	b = append(b, segmentMagic...)
	b = binary.BigEndian.AppendUint64(b, s.first)
	b = append(b, s.salt[:]...)
	b = append(b, s.chain[:]...)
	m := hmac.New(sha256.New, k.mac[:])
	m.Write(b)
	b = m.Sum(b)
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
}

// openSegment reads and checks a segment's header.
func openSegment(path string, k keys) (*segment, error) {
	s := &segment{path: path}
	var err error
	if s.first, err = strconv.ParseUint(strings.TrimSuffix(s.name(), segmentSuffix), 10, 64); err != nil || s.first == 0 {
		return nil, s.broken(0, "the file name is not a record number")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	s.size = info.Size()
	b := make([]byte, headerSize)
	if n, err := io.ReadFull(f, b); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, errShort
		}
		return nil, fmt.Errorf("read segment %s after %d bytes: %w", s.name(), n, err)
	}
	if allZero(b) && s.size == headerSize {
		return nil, errShort // the size reached the disk, the bytes did not
	}
	switch {
	case binary.BigEndian.Uint32(b[headerSize-4:]) != crc32.ChecksumIEEE(b[:headerSize-4]):
		return nil, s.broken(s.first, "the segment header is damaged")
	case string(b[:8]) != segmentMagic:
		return nil, s.broken(s.first, "the format is not one this version knows")
	}
	m := hmac.New(sha256.New, k.mac[:])
	m.Write(b[:80])
	if !hmac.Equal(m.Sum(nil), b[80:112]) {
		return nil, fmt.Errorf("segment %s: %w", s.name(), ErrKey)
	}
	if binary.BigEndian.Uint64(b[8:]) != s.first {
		return nil, s.broken(s.first, "the file was renamed: its header says record %d", binary.BigEndian.Uint64(b[8:]))
	}
	copy(s.salt[:], b[16:48])
	copy(s.chain[:], b[48:80])
	s.aead = segmentCipher(k, s.salt)
	return s, nil
}

// newBlock is an empty block: room for its head, to which addRecord adds.
func newBlock(buf []byte) []byte { return append(buf[:0], make([]byte, blockHead)...) }

func addRecord(b, record []byte) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(record))), record...)
}

// seal finishes, in place, a block of count records that come after head, and
// returns it with the head after them.
func (s *segment) seal(l *linker, head Head, b []byte, count int) ([]byte, Head, error) {
	plain := b[blockHead:]
	binary.BigEndian.PutUint32(b[0:], uint32(len(plain)+tagSize))
	binary.BigEndian.PutUint32(b[4:], uint32(count))
	binary.BigEndian.PutUint64(b[8:], head.Seq+1)
	if _, err := rand.Read(b[16:28]); err != nil {
		return nil, Head{}, err
	}
	copy(b[28:60], head.Chain[:])
	binary.BigEndian.PutUint32(b[60:], crc32.ChecksumIEEE(b[:60]))
	for rest := plain; len(rest) > 0; {
		n := 4 + int(binary.BigEndian.Uint32(rest))
		head.Seq++
		head.Chain = l.link(head.Chain, head.Seq, rest[4:n])
		rest = rest[n:]
	}
	b = slices.Grow(b, tagSize)
	sealed := s.aead.Seal(b[blockHead:blockHead], b[16:28], b[blockHead:], b[:60])
	return b[:blockHead+len(sealed)], head, nil
}

// mark remembers where a block starts, if the last mark is far enough back.
func (s *segment) mark(seq uint64, offset int64) {
	if n := len(s.marks); n == 0 || offset-s.marks[n-1].offset >= markEvery {
		s.marks = append(s.marks, mark{seq, offset})
	}
}

// block is one decoded block head and where its ciphertext lies.
type block struct {
	offset int64
	sealed int64
	count  int
	first  uint64
	nonce  [12]byte
	chain  [32]byte
	aad    [60]byte
}

// errTorn is returned by next for an incomplete block.
var errTorn = errors.New("the last block is incomplete")

// next reads the block head at offset, of a file whose valid part ends at end.
// It returns io.EOF at the end and errTorn for an incomplete block.
func (s *segment) next(r io.ReaderAt, offset, end int64, seq uint64) (block, error) {
	if offset == end {
		return block{}, io.EOF
	}
	var h [blockHead]byte
	if end-offset < blockHead {
		return block{}, errTorn
	}
	if _, err := r.ReadAt(h[:], offset); err != nil {
		return block{}, fmt.Errorf("read segment %s at %d: %w", s.name(), offset, err)
	}
	b := block{offset: offset, sealed: int64(binary.BigEndian.Uint32(h[0:])), count: int(binary.BigEndian.Uint32(h[4:])),
		first: binary.BigEndian.Uint64(h[8:]), nonce: [12]byte(h[16:28]), chain: [32]byte(h[28:60]), aad: [60]byte(h[:60])}
	if binary.BigEndian.Uint32(h[60:]) != crc32.ChecksumIEEE(h[:60]) {
		if unwritten(h[:], offset) && s.nothingAfter(r, offset, end, seq) {
			return block{}, errTorn
		}
		return block{}, s.broken(seq, "the block head at offset %d is damaged", offset)
	}
	if b.first != seq {
		return block{}, s.broken(seq, "found record %d in its place", b.first)
	}
	if b.count == 0 || b.sealed < tagSize+4*int64(b.count) {
		return block{}, s.broken(seq, "the block head at offset %d is impossible", offset)
	}
	if b.end() > end {
		return block{}, errTorn
	}
	return b, nil
}

func (b block) end() int64 { return b.offset + blockHead + b.sealed }

// open decrypts b into buf, checks the chain and calls fn for its records. It
// returns the chain value after the block. The records alias buf. The error is
// errTorn where the block has a part that was never written.
func (s *segment) open(r io.ReaderAt, b block, l *linker, buf *[]byte, fn func(seq uint64, record []byte) error) ([32]byte, error) {
	if int64(cap(*buf)) < b.sealed {
		*buf = make([]byte, b.sealed)
	}
	sealed := (*buf)[:b.sealed]
	if _, err := r.ReadAt(sealed, b.offset+blockHead); err != nil {
		return b.chain, fmt.Errorf("read segment %s at %d: %w", s.name(), b.offset, err)
	}
	torn := unwritten(sealed, b.offset+blockHead) || allZero(sealed[len(sealed)-tagSize:])
	plain, err := s.aead.Open(sealed[:0], b.nonce[:], sealed, b.aad[:])
	if err != nil && torn {
		return b.chain, errTorn
	}
	if err != nil {
		return b.chain, s.broken(b.first, "the block at offset %d was changed", b.offset)
	}
	chain := b.chain
	for i := range b.count {
		if len(plain) < 4 || len(plain)-4 < int(binary.BigEndian.Uint32(plain)) {
			return chain, s.broken(b.first+uint64(i), "the record is longer than its block")
		}
		n := int(binary.BigEndian.Uint32(plain))
		seq, record := b.first+uint64(i), plain[4:4+n]
		chain = l.link(chain, seq, record)
		if fn != nil {
			if err := fn(seq, record); err != nil {
				return chain, err
			}
		}
		plain = plain[4+n:]
	}
	return chain, nil
}

// unwritten reports whether b, which lies at offset of its file, holds a
// sector, or the part of one at b's ends, of nothing but zeros.
func unwritten(b []byte, offset int64) bool {
	for len(b) > 0 {
		n := min(sectorSize-int(offset%sectorSize), len(b))
		if allZero(b[:n]) {
			return true
		}
		b, offset = b[n:], offset+int64(n)
	}
	return false
}

// nothingAfter reports whether record seq, whose block head would be at offset,
// can be one that was never acknowledged: no whole block head of a later record
// is behind it, and nothing at all where one block cannot reach.
func (s *segment) nothingAfter(r io.ReaderAt, offset, end int64, seq uint64) bool {
	b := make([]byte, min(end-offset, maxBlock))
	if _, err := r.ReadAt(b, offset); err != nil {
		return false
	}
	for h := b; len(h) >= blockHead; h = h[1:] {
		if h[60]|h[61]|h[62]|h[63] != 0 && binary.BigEndian.Uint64(h[8:]) >= seq &&
			binary.BigEndian.Uint32(h[60:]) == crc32.ChecksumIEEE(h[:60]) {
			return false
		}
	}
	return s.zeroUntil(r, offset+int64(len(b)), end)
}

func (s *segment) zeroUntil(r io.ReaderAt, offset, end int64) bool {
	b := make([]byte, 64<<10)
	for offset < end {
		n := min(int64(len(b)), end-offset)
		if _, err := r.ReadAt(b[:n], offset); err != nil || !allZero(b[:n]) {
			return false
		}
		offset += n
	}
	return true
}

// written is how many bytes from offset on, up to the last that is not zero,
// the file has.
func (s *segment) written(offset, end int64) (int64, error) {
	f, err := os.Open(s.path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	b := make([]byte, 64<<10)
	for end > offset {
		n := min(int64(len(b)), end-offset)
		if _, err := f.ReadAt(b[:n], end-n); err != nil {
			return 0, fmt.Errorf("read segment %s at %d: %w", s.name(), end-n, err)
		}
		for ; n > 0 && b[n-1] == 0; n-- {
			end--
		}
		if n > 0 {
			break
		}
	}
	return end - offset, nil
}

func allZero(b []byte) bool {
	for len(b) >= 8 {
		if binary.NativeEndian.Uint64(b) != 0 {
			return false
		}
		b = b[8:]
	}
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// recover scans the newest segment, checks every record of it and returns the
// head and the size up to the last whole block.
func (s *segment) recover(ctx context.Context, k keys) (Head, int64, error) {
	f, err := os.Open(s.path)
	if err != nil {
		return Head{}, 0, err
	}
	defer f.Close()
	head, offset := Head{Seq: s.first - 1, Chain: s.chain}, int64(headerSize)
	var buf []byte
	l := k.linker()
	for {
		if err := ctx.Err(); err != nil {
			return Head{}, 0, err
		}
		b, err := s.next(f, offset, s.size, head.Seq+1)
		if errors.Is(err, io.EOF) || errors.Is(err, errTorn) {
			break
		}
		if err != nil {
			return Head{}, 0, err
		}
		if b.chain != head.Chain {
			return Head{}, 0, s.broken(b.first, "the chain does not continue from the record before")
		}
		chain, err := s.open(f, b, l, &buf, nil)
		if errors.Is(err, errTorn) && s.zeroUntil(f, b.end(), s.size) {
			break
		}
		if errors.Is(err, errTorn) {
			err = s.broken(b.first, "the block at offset %d was changed", b.offset)
		}
		if err != nil {
			return Head{}, 0, err
		}
		s.mark(b.first, offset)
		head = Head{Seq: b.first + uint64(b.count) - 1, Chain: chain}
		offset = b.end()
	}
	s.size = offset
	return head, offset, nil
}
