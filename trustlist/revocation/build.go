package revocation

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"

	"verdant/hcert"
)

// Builder makes a List of batches. It is used by one goroutine.
//
// Entries go at once to a scratch file, in parts by the first bits of their
// place; Finish sorts one part after the other, and fills one of the filter's
// shards after the other. So memory holds the filter, and a part or two.
type Builder struct {
	path    string
	scratch *os.File // nil when the builder is closed
	blocks  uint32   // of the scratch file
	key     [16]byte
	places  sipKey
	parts   [partCount]part
	batches []batch
	entries uint64
	err     error // the first one sticks
}

// part is the entries whose places begin with the same bits.
type part struct {
	entries uint64
	blocks  []uint32 // in the scratch file, full
	pending []byte   // not yet there
}

// placed is a record with its place in the list.
type placed struct {
	place uint64
	record
}

const blockSize = pageRecords * recordSize

// NewBuilder begins a list that Finish will put at path. Its scratch file lies
// beside it.
func NewBuilder(path string) (*Builder, error) {
	b := &Builder{path: path}
	_, _ = rand.Read(b.key[:]) // never returns an error (crypto/rand)
	b.places = newSipKey(b.key)
	var err error
	if b.scratch, err = os.CreateTemp(filepath.Dir(path), ".revocations-*"); err != nil {
		return nil, fmt.Errorf("build revocation list %s: %w", path, err)
	}
	// Nobody needs its name, and without one no crash leaves it behind.
	if err := os.Remove(b.scratch.Name()); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

// Add takes a batch in. A batch with an error adds nothing.
func (b *Builder) Add(in *Batch) error {
	if b.err != nil {
		return b.err
	}
	if err := in.Check(); err != nil {
		return err
	}
	row := batch{id: in.ID, country: in.Country, kind: in.Type, expires: in.Expires}
	if in.KID != UnknownKID {
		kid, err := hcert.ParseKID(in.KID + "="[:len(in.KID)&1])
		if err != nil {
			return err
		}
		row.kid = kid
	}
	if len(b.batches) == maxBatches || b.entries+uint64(len(in.Entries)) > maxEntries {
		return fmt.Errorf("build revocation list %s: a list has at most %d batches and %d entries", b.path, maxBatches, uint64(maxEntries))
	}
	r := record{batch: uint32(len(b.batches))}
	b.batches = append(b.batches, row)
	for i := range in.Entries {
		r.hash = in.Entries[i]
		if err := b.put(r); err != nil {
			b.err = fmt.Errorf("build revocation list %s: %w", b.path, err)
			return b.err
		}
	}
	b.entries += uint64(len(in.Entries))
	return nil
}

func (b *Builder) put(r record) error {
	p := &b.parts[b.places.of(&r.hash)>>(64-partBits)]
	if p.pending == nil {
		p.pending = make([]byte, 0, blockSize)
	}
	p.entries++
	p.pending = r.append(p.pending)
	if len(p.pending) < blockSize {
		return nil
	}
	if _, err := b.scratch.WriteAt(p.pending, int64(b.blocks)*blockSize); err != nil {
		return err
	}
	p.blocks = append(p.blocks, b.blocks)
	p.pending = p.pending[:0]
	b.blocks++
	return nil
}

// Close gives the builder up, or does nothing after Finish.
func (b *Builder) Close() error {
	if b.scratch == nil {
		return nil
	}
	err := b.scratch.Close()
	b.scratch = nil
	return err
}

// Finish writes the list: when it returns nil the list is on stable storage
// under its name, in place of what was there; otherwise that is untouched.
func (b *Builder) Finish() error {
	if b.scratch == nil {
		return errors.New("build revocation list: the builder is closed")
	}
	defer b.Close() // the scratch file has no name, and nobody reads it again
	if b.err != nil {
		return b.err
	}
	f, err := os.CreateTemp(filepath.Dir(b.path), ".revocations-*")
	if err == nil {
		if err = b.write(f); err == nil {
			err = os.Rename(f.Name(), b.path)
		}
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}
	if err == nil {
		err = syncDir(filepath.Dir(b.path))
	}
	if err != nil {
		return fmt.Errorf("build revocation list %s: %w", b.path, err)
	}
	return nil
}

// syncDir makes a rename durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (b *Builder) write(f *os.File) (err error) {
	defer func() { err = errors.Join(err, f.Close()) }()
	var entries [partCount]uint64
	for i := range b.parts {
		entries[i] = b.parts[i].entries
	}
	w := &writer{file: f, body: body{filter: layout(entries), batches: b.batches}, at: headerSize}
	var records []placed // of one part after the other
	for i := range b.parts {
		if records, err = b.load(&b.parts[i], records[:0]); err != nil {
			return err
		}
		if err := w.add(i, records); err != nil {
			return err
		}
	}
	h := header{key: b.key}
	if err := w.finish(&h); err != nil {
		return err
	}
	raw := h.encode()
	if _, err := f.WriteAt(raw[:], 0); err != nil {
		return err
	}
	return f.Sync()
}

// load appends a part's records, read back, and frees what it held.
func (b *Builder) load(p *part, records []placed) ([]placed, error) {
	if p.pending == nil {
		return records, nil
	}
	// Parts differ by a few percent: room for a larger one spares making it twice.
	if need := len(p.blocks)*pageRecords + len(p.pending)/recordSize; cap(records) < need {
		records = make([]placed, 0, need+need/16)
	}
	add := func(raw []byte) {
		r := parseRecord(raw)
		records = append(records, placed{b.places.of(&r.hash), r})
	}
	rest := p.pending
	buf := p.pending[:blockSize:blockSize]
	for ; len(rest) > 0; rest = rest[recordSize:] {
		add(rest)
	}
	for _, i := range p.blocks {
		if _, err := b.scratch.ReadAt(buf, int64(i)*blockSize); err != nil {
			return nil, err
		}
		for raw := buf; len(raw) > 0; raw = raw[recordSize:] {
			add(raw)
		}
	}
	*p = part{}
	return records, nil
}

// writer writes the entries of a list in the order of their places, and fills
// the filter.
type writer struct {
	body
	file    *os.File
	entries uint64
	fuser   fuser
	places  []uint64 // of the shard that is being filled, distinct
	page    [pageSize]byte
	used    int // bytes of the page
	at      int64
}

// add takes the next part in.
func (w *writer) add(part int, records []placed) error {
	slices.SortFunc(records, func(a, b placed) int {
		if a.place != b.place {
			return cmp.Compare(a.place, b.place)
		}
		return bytes.Compare(a.hash[:], b.hash[:])
	})
	for len(records) > 0 {
		n := 1
		for n < len(records) && records[n].hash == records[0].hash {
			n++
		}
		if len(w.places) == 0 {
			s := &w.filter.shards[w.filter.shardOf[part]]
			w.places = resized(w.places, int(s.slots()))[:0] // enough, without counting
		}
		if k := len(w.places); k == 0 || w.places[k-1] != records[0].place {
			w.places = append(w.places, records[0].place)
		}
		for _, r := range w.distinct(records[:n]) {
			if err := w.put(r); err != nil {
				return err
			}
		}
		records = records[n:]
	}
	shard := w.filter.shardOf[part]
	if part+1 < partCount && w.filter.shardOf[part+1] == shard {
		return nil // more of it follows
	}
	err := w.fuser.fill(w.filter, &w.filter.shards[shard], w.places)
	w.places = w.places[:0]
	return err
}

// distinct returns, of entries with one hash, those that say different things:
// of batches of the same country, signer and type the one that ends last.
func (w *writer) distinct(same []placed) []placed {
	kept := same[:1]
	for _, r := range same[1:] {
		b := &w.batches[r.batch]
		i := slices.IndexFunc(kept, func(k placed) bool {
			o := &w.batches[k.batch]
			return o.country == b.country && o.kid == b.kid && o.kind == b.kind
		})
		switch {
		case i < 0:
			kept = append(kept, r)
		case b.expires.After(w.batches[kept[i].batch].expires):
			kept[i] = r
		}
	}
	return kept
}

func (w *writer) put(r placed) error {
	if w.used == 0 {
		w.fences = append(w.fences, uint32(r.place>>32))
	}
	w.entries++
	w.used = len(r.append(w.page[:w.used]))
	if w.used == blockSize {
		return w.flush()
	}
	return nil
}

// flush writes a page: its records, its checksum.
func (w *writer) flush() error {
	clear(w.page[w.used:])
	binary.LittleEndian.PutUint32(w.page[pageSize-4:], crc32.Checksum(w.page[:pageSize-4], castagnoli))
	_, err := w.file.WriteAt(w.page[:], w.at)
	w.at += pageSize
	w.used = 0
	return err
}

// finish writes the body, and completes the header.
func (w *writer) finish(h *header) error {
	if w.used > 0 {
		if err := w.flush(); err != nil {
			return err
		}
	}
	h.entries, h.shards, h.slots, h.batches = w.entries, uint64(len(w.filter.shards)), uint64(len(w.filter.slots)), uint64(len(w.batches))
	sum := sha256.New()
	err := w.body.write(func(raw []byte) error {
		sum.Write(raw)
		_, err := w.file.WriteAt(raw, w.at)
		w.at += int64(len(raw))
		return err
	})
	h.bodySum = [sha256.Size]byte(sum.Sum(nil))
	return err
}
