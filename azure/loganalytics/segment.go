package loganalytics

import (
	"bytes"
	"compress/flate"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"sync"
)

// A segment is an immutable file of rows of one table:
//
//	file    = magic[8] salt[32] chunk* footer trailer
//	trailer = offset:u64 length:u32 crc:u32 magic[8]
//
// Every chunk is one column of one row group, encoded, compressed with DEFLATE
// and sealed with AES-256-GCM under the file's own key. The nonce is the
// chunk's number, which cannot repeat because the key is used for one file
// that is written once; the associated data is the file's identity (workspace,
// table, name), so that a chunk fits one place in one file. The footer is the
// last chunk: JSON that says what the file holds. A query decodes the columns
// and row groups it needs and nothing else.
const (
	segmentMagic = "VLAS\x00\x01\r\n"
	trailerSize  = 8 + 4 + 4 + 8
	groupRows    = 16384
	// footerChunk is the footer's nonce; no file has that many chunks.
	footerChunk = math.MaxUint32
	// maxChunk bounds what a chunk may unpack to.
	maxChunk = 1 << 30
)

// SegmentError says that a sealed segment cannot be read.
type SegmentError struct {
	Table, File, Reason string
}

func (e *SegmentError) Error() string {
	return fmt.Sprintf("segment %s of table %s: %s", e.File, e.Table, e.Reason)
}

// footer describes a segment's content.
type footer struct {
	Rows    int            `json:"rows"`
	Through uint64         `json:"through"`
	Min     int64          `json:"min"`
	Max     int64          `json:"max"`
	Columns []footerColumn `json:"columns"`
	Groups  []footerGroup  `json:"groups"`
}

type footerColumn struct {
	Name string `json:"name"`
	Kind string `json:"kind"`
}

type footerGroup struct {
	Rows int   `json:"rows"`
	Min  int64 `json:"min"`
	Max  int64 `json:"max"`
	// Chunks are offset and length by column; length 0 is a column that is
	// null in every row. First is the number of the group's first chunk.
	First  uint32     `json:"first"`
	Chunks [][2]int64 `json:"chunks"`
}

// segment is a sealed file, opened when a query first needs it.
type segment struct {
	table    *table
	path     string
	identity string
	key      [32]byte // of the workspace's segments
	// It covers the table's rows of the write-ahead log's records after
	// `after` up to `through`.
	after, through uint64
	min, max       int64
	rows           int
	size           int64

	// readers and doomed are guarded by the table's lock.
	readers int
	doomed  bool

	once   sync.Once
	foot   footer
	aead   cipher.AEAD
	column map[int]int // position in the schema → position in the file
	err    error
}

func (s *segment) broken(format string, args ...any) error {
	return &SegmentError{Table: s.table.name, File: filepath.Base(s.path), Reason: fmt.Sprintf(format, args...)}
}

func segmentCipher(key [32]byte, salt []byte) (cipher.AEAD, error) {
	derived, err := hkdf.Key(sha256.New, key[:], salt, "verdant loganalytics 1 segment file", 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func chunkNonce(n uint32) []byte {
	var nonce [12]byte
	binary.BigEndian.PutUint32(nonce[8:], n)
	return nonce[:]
}

// write makes the segment file from b, durably and atomically: either it is
// there whole or not at all.
func (s *segment) write(ctx context.Context, b batch) (err error) {
	dir := filepath.Dir(s.path)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		parent := filepath.Dir(dir)
		if err := errors.Join(syncDir(parent), syncDir(filepath.Dir(parent))); err != nil {
			return err
		}
	}
	f, err := os.CreateTemp(dir, "*.tmp")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	if err := s.writeTo(ctx, f, b); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), s.path); err != nil {
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (s *segment) writeTo(ctx context.Context, f io.Writer, b batch) error {
	head := make([]byte, 0, len(segmentMagic)+32)
	head = append(head, segmentMagic...)
	head = head[:cap(head)]
	if _, err := rand.Read(head[len(segmentMagic):]); err != nil {
		return err
	}
	aead, err := segmentCipher(s.key, head[len(segmentMagic):])
	if err != nil {
		return err
	}
	if _, err := f.Write(head); err != nil {
		return err
	}
	offset := int64(len(head))
	put := func(n uint32, plain []byte) (int64, error) {
		packed, err := deflate(plain)
		if err != nil {
			return 0, err
		}
		sealed := aead.Seal(nil, chunkNonce(n), packed, []byte(s.identity))
		_, err = f.Write(sealed)
		offset += int64(len(sealed))
		return int64(len(sealed)), err
	}
	foot := footer{Rows: b.rows, Through: s.through, Min: b.min, Max: b.max}
	var used []int
	for i, c := range b.columns {
		if c != nil {
			used = append(used, i)
			foot.Columns = append(foot.Columns, footerColumn{s.table.columns[i].name, s.table.columns[i].kind.String()})
		}
	}
	chunk := uint32(0)
	for from := 0; from < b.rows; from += groupRows {
		if err := ctx.Err(); err != nil {
			return err
		}
		to := min(from+groupRows, b.rows)
		g := footerGroup{Rows: to - from, First: chunk, Min: b.max, Max: b.min}
		for _, t := range b.columns[s.table.timeGenerated].ints[from:to] {
			g.Min, g.Max = min(g.Min, t), max(g.Max, t)
		}
		for _, i := range used {
			at := offset
			n, err := put(chunk, encodeColumn(b.columns[i].slice(from, to)))
			if err != nil {
				return err
			}
			g.Chunks = append(g.Chunks, [2]int64{at, n})
			chunk++
		}
		foot.Groups = append(foot.Groups, g)
	}
	text, err := json.Marshal(foot)
	if err != nil {
		return err
	}
	at := offset
	n, err := put(footerChunk, text)
	if err != nil {
		return err
	}
	trailer := binary.BigEndian.AppendUint64(nil, uint64(at))
	trailer = binary.BigEndian.AppendUint32(trailer, uint32(n))
	trailer = binary.BigEndian.AppendUint32(trailer, crc32.ChecksumIEEE(trailer))
	_, err = f.Write(append(trailer, segmentMagic...))
	s.size = offset + trailerSize
	return err
}

func deflate(plain []byte) ([]byte, error) {
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestSpeed)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(plain); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// load reads the footer once; a segment that cannot be read keeps its error.
func (s *segment) load(f io.ReaderAt) error {
	s.once.Do(func() { s.err = s.readFooter(f) })
	return s.err
}

func (s *segment) readFooter(f io.ReaderAt) error {
	if s.size < int64(len(segmentMagic)+32+trailerSize) {
		return s.broken("the file is cut short")
	}
	head, trailer := make([]byte, len(segmentMagic)+32), make([]byte, trailerSize)
	if _, err := f.ReadAt(head, 0); err != nil {
		return err
	}
	if _, err := f.ReadAt(trailer, s.size-trailerSize); err != nil {
		return err
	}
	if string(head[:len(segmentMagic)]) != segmentMagic || string(trailer[16:]) != segmentMagic {
		return s.broken("the format is not one this version knows, or the file is cut short")
	}
	if crc32.ChecksumIEEE(trailer[:12]) != binary.BigEndian.Uint32(trailer[12:]) {
		return s.broken("the trailer is damaged")
	}
	var err error
	if s.aead, err = segmentCipher(s.key, head[len(segmentMagic):]); err != nil {
		return err
	}
	text, err := s.chunk(f, &unpacker{}, footerChunk, [2]int64{int64(binary.BigEndian.Uint64(trailer)), int64(binary.BigEndian.Uint32(trailer[8:]))})
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &s.foot); err != nil {
		return s.broken("the footer is malformed")
	}
	if s.foot.Rows != s.rows || s.foot.Through != s.through || s.foot.Min != s.min || s.foot.Max != s.max {
		return s.broken("the file was renamed: its name does not fit its footer")
	}
	s.column = map[int]int{}
	for i, c := range s.foot.Columns {
		// A column this version does not know, or knows otherwise, is left out.
		if at, ok := s.table.index[c.Name]; ok && s.table.columns[at].kind.String() == c.Kind {
			s.column[at] = i
		}
	}
	for _, g := range s.foot.Groups {
		if len(g.Chunks) != len(s.foot.Columns) || g.Rows <= 0 || g.Rows > groupRows {
			return s.broken("the footer is malformed")
		}
	}
	return nil
}

// chunk reads, opens and unpacks chunk n.
func (s *segment) chunk(f io.ReaderAt, unpack *unpacker, n uint32, at [2]int64) ([]byte, error) {
	if at[0] < 0 || at[1] <= 0 || at[0]+at[1] > s.size {
		return nil, s.broken("chunk %d lies outside the file", n)
	}
	sealed := make([]byte, at[1])
	if _, err := f.ReadAt(sealed, at[0]); err != nil {
		return nil, fmt.Errorf("read segment %s: %w", filepath.Base(s.path), err)
	}
	packed, err := s.aead.Open(sealed[:0], chunkNonce(n), sealed, []byte(s.identity))
	if err != nil {
		return nil, s.broken("chunk %d was changed, or sealed with another key", n)
	}
	plain, err := unpack.inflate(packed)
	if err != nil {
		return nil, s.broken("chunk %d does not unpack", n)
	}
	return plain, nil
}

// unpacker reuses the decompressor's tables within one scan.
type unpacker struct{ r io.ReadCloser }

func (u *unpacker) inflate(packed []byte) ([]byte, error) {
	src := bytes.NewReader(packed)
	if u.r == nil {
		u.r = flate.NewReader(src)
	} else if err := u.r.(flate.Resetter).Reset(src, nil); err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(u.r, maxChunk))
}

// scan reads the named columns (positions in the schema) of the row groups
// that may hold rows in r, and calls fn with each group.
func (s *segment) scan(ctx context.Context, columns []int, r timeRange, unpack *unpacker, stats *scanStats, fn func(batch) error) error {
	f, err := os.Open(s.path)
	if err != nil {
		return fmt.Errorf("open segment: %w", err)
	}
	defer f.Close()
	if err := s.load(f); err != nil {
		return err
	}
	for _, g := range s.foot.Groups {
		if !r.overlaps(g.Min, g.Max) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		b := batch{rows: g.Rows, columns: make([]*column, len(s.table.columns)), min: g.Min, max: g.Max}
		for _, want := range columns {
			at, ok := s.column[want]
			if !ok {
				continue
			}
			plain, err := s.chunk(f, unpack, g.First+uint32(at), g.Chunks[at])
			if err != nil {
				return err
			}
			stats.addBytes(g.Chunks[at][1])
			if b.columns[want], err = decodeColumn(s.table.columns[want].kind, g.Rows, plain); err != nil {
				return s.broken("column %s: %v", s.table.columns[want].name, err)
			}
		}
		if err := fn(b); err != nil {
			return err
		}
	}
	return nil
}
