package revocation

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"time"

	"verdant/hcert"
)

// A list's file, little-endian: the header, the entries in the order of their
// places in pages with a checksum each, and the body, which is the filter, the
// fences between the pages and the batches. The header has a checksum of its
// own and one of the body.
const (
	magic       = "VRDNTRL1"
	headerSize  = 4096
	pageSize    = 4096
	recordSize  = 20
	pageRecords = (pageSize - 4) / recordSize // 204
	batchSize   = 60
	shardSize   = 24
	maxID       = 36 // a UUID as text
	maxBatches  = 1 << 26
	maxEntries  = 1<<32 - 1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

type header struct {
	key     [16]byte // of the places
	entries uint64
	shards  uint64
	slots   uint64 // bytes
	batches uint64
	bodySum [sha256.Size]byte
}

func (h header) pages() uint64 { return (h.entries + pageRecords - 1) / pageRecords }

func (h header) bodyOffset() int64 { return headerSize + int64(h.pages())*pageSize }

func (h header) size() int64 {
	return h.bodyOffset() + int64(partCount+shardSize*h.shards+4*h.pages()+h.slots+batchSize*h.batches)
}

func (h header) encode() [headerSize]byte {
	var raw [headerSize]byte
	b := append(raw[:0], magic...)
	b = append(b, h.key[:]...)
	for _, n := range []uint64{h.entries, h.shards, h.slots, h.batches} {
		b = binary.LittleEndian.AppendUint64(b, n)
	}
	copy(raw[len(b):], h.bodySum[:])
	binary.LittleEndian.PutUint32(raw[headerSize-4:], crc32.Checksum(raw[:headerSize-4], castagnoli))
	return raw
}

func parseHeader(raw [headerSize]byte) (header, error) {
	var h header
	if string(raw[:len(magic)]) != magic {
		return h, fmt.Errorf("%w: it does not begin as a list does", ErrDamaged)
	}
	if crc32.Checksum(raw[:headerSize-4], castagnoli) != binary.LittleEndian.Uint32(raw[headerSize-4:]) {
		return h, fmt.Errorf("%w: the checksum of its header is wrong", ErrDamaged)
	}
	b := raw[len(magic):]
	b = b[copy(h.key[:], b):]
	for _, n := range []*uint64{&h.entries, &h.shards, &h.slots, &h.batches} {
		*n, b = binary.LittleEndian.Uint64(b), b[8:]
	}
	copy(h.bodySum[:], b)
	// The sizes above are computed of these numbers: they must not overflow, and
	// what the file then turns out to have is compared with them.
	if h.entries > maxEntries || h.shards > partCount || h.slots > 16<<30 || h.batches > maxBatches {
		return h, fmt.Errorf("%w: its header counts what no list has", ErrDamaged)
	}
	return h, nil
}

// record is an entry: the hash, and its batch.
type record struct {
	hash  Hash
	batch uint32
}

func (r record) append(b []byte) []byte {
	return binary.LittleEndian.AppendUint32(append(b, r.hash[:]...), r.batch)
}

func parseRecord(b []byte) record {
	return record{Hash(b), binary.LittleEndian.Uint32(b[16:])}
}

func (b batch) append(dst []byte) []byte {
	var raw [batchSize]byte
	copy(raw[0:], b.id)
	copy(raw[36:], b.country)
	raw[38] = byte(b.kind.number())
	raw[39] = byte(len(b.kid))
	copy(raw[40:], b.kid)
	binary.LittleEndian.PutUint64(raw[48:], uint64(b.expires.Unix()))
	raw[56] = byte(len(b.id))
	return append(dst, raw[:]...)
}

func parseBatchRow(raw []byte) (batch, error) {
	kind, kid, id := int(raw[38]), int(raw[39]), int(raw[56])
	if kind >= len(hashTypes) || kid > 8 || id > maxID {
		return batch{}, fmt.Errorf("%w: one of its batches is none", ErrDamaged)
	}
	return batch{id: string(raw[:id]), country: string(raw[36:38]), kid: hcert.KID(raw[40 : 40+kid]), kind: hashTypes[kind],
		expires: time.Unix(int64(binary.LittleEndian.Uint64(raw[48:])), 0)}, nil
}

// checked reads with a running checksum; the first error sticks.
type checked struct {
	r   io.Reader
	sum hash.Hash
	err error
}

func (c *checked) read(into []byte) {
	if c.err == nil {
		_, c.err = io.ReadFull(c.r, into)
		c.sum.Write(into)
	}
}

// each reads n elements of the given size and calls fn for each.
func (c *checked) each(n uint64, size int, fn func(raw []byte)) {
	buf := make([]byte, min(n, 1024)*uint64(size))
	for n > 0 && c.err == nil {
		k := min(n, 1024)
		raw := buf[:k*uint64(size)]
		c.read(raw)
		for c.err == nil && len(raw) > 0 {
			fn(raw[:size])
			raw = raw[size:]
		}
		n -= k
	}
}

// body is what a list keeps in memory.
type body struct {
	filter  *filter
	fences  []uint32 // the first 32 bits of each page's first place
	batches []batch
}

func readBody(r io.Reader, h header) (body, error) {
	c := &checked{r: r, sum: sha256.New()}
	f := &filter{shards: make([]shard, 0, h.shards), slots: make([]byte, h.slots)}
	b := body{filter: f, fences: make([]uint32, 0, h.pages()), batches: make([]batch, 0, h.batches)}
	c.read(f.shardOf[:])
	c.each(h.shards, shardSize, func(raw []byte) { f.shards = append(f.shards, parseShard(raw)) })
	c.each(h.pages(), 4, func(raw []byte) { b.fences = append(b.fences, binary.LittleEndian.Uint32(raw)) })
	for slots := f.slots; len(slots) > 0; { // in parts, so that each is still in the cache when it is summed
		n := min(len(slots), 64<<10)
		c.read(slots[:n])
		slots = slots[n:]
	}
	c.each(h.batches, batchSize, func(raw []byte) {
		row, err := parseBatchRow(raw)
		if err != nil {
			c.err = err
		}
		b.batches = append(b.batches, row)
	})
	switch {
	case c.err != nil:
		return b, c.err
	case [sha256.Size]byte(c.sum.Sum(nil)) != h.bodySum:
		return b, fmt.Errorf("%w: the checksum of its filter is wrong", ErrDamaged)
	case h.entries > 0 && !f.consistent():
		return b, fmt.Errorf("%w: the parts of its filter do not fit together", ErrDamaged)
	}
	inHugePages(f.slots)
	return b, nil
}

// write calls out with the body's bytes, as readBody reads them.
func (b body) write(out func([]byte) error) error {
	if err := out(b.filter.shardOf[:]); err != nil {
		return err
	}
	if err := writeAll(b.filter.shards, func(dst []byte, s shard) []byte { return s.append(dst) }, out); err != nil {
		return err
	}
	if err := writeAll(b.fences, binary.LittleEndian.AppendUint32, out); err != nil {
		return err
	}
	if err := out(b.filter.slots); err != nil {
		return err
	}
	return writeAll(b.batches, func(dst []byte, row batch) []byte { return row.append(dst) }, out)
}

// writeAll writes values in parts, so that no second copy of them is made.
func writeAll[T any](values []T, put func([]byte, T) []byte, out func([]byte) error) error {
	var buf []byte
	for len(values) > 0 {
		n := min(1024, len(values))
		buf = buf[:0]
		for _, v := range values[:n] {
			buf = put(buf, v)
		}
		if err := out(buf); err != nil {
			return err
		}
		values = values[n:]
	}
	return nil
}

func (s shard) append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, s.seed)
	b = binary.LittleEndian.AppendUint64(b, s.base)
	b = binary.LittleEndian.AppendUint32(b, s.segment)
	return binary.LittleEndian.AppendUint32(b, s.segments)
}

func parseShard(b []byte) shard {
	return shard{binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:]), binary.LittleEndian.Uint32(b[16:]), binary.LittleEndian.Uint32(b[20:])}
}
