package revocation

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"sort"
	"strings"
	"time"

	"verdant/hcert"
)

// ErrDamaged is wrapped when a list's file is not what was written.
var ErrDamaged = errors.New("the revocation list is damaged; build it again")

// List answers whether certificates were revoked. It is safe for concurrent
// use until it is closed.
type List struct {
	body
	places sipKey
	file   *os.File
	header header
}

// batch is what a list keeps of a Batch.
type batch struct {
	id      string
	country string
	kid     hcert.KID // "" is any
	kind    HashType
	expires time.Time
}

// Revocation says which batch revoked a certificate.
type Revocation struct {
	BatchID string
	Country string
	Type    HashType
	KID     hcert.KID // "" if the batch names no document signer
	Expires time.Time
}

// Open reads a list that a Builder made. The caller closes it.
func Open(path string) (*List, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	l, err := read(f)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open revocation list %s: %w", path, err), f.Close())
	}
	return l, nil
}

func read(f *os.File) (*List, error) {
	var raw [headerSize]byte
	if _, err := f.ReadAt(raw[:], 0); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("%w: it ends within its header", ErrDamaged)
		}
		return nil, err
	}
	h, err := parseHeader(raw)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if want := h.size(); info.Size() != want {
		return nil, fmt.Errorf("%w: it has %d bytes and should have %d", ErrDamaged, info.Size(), want)
	}
	l := &List{file: f, header: h, places: newSipKey(h.key)}
	if l.body, err = readBody(io.NewSectionReader(f, h.bodyOffset(), h.size()-h.bodyOffset()), h); err != nil {
		return nil, err
	}
	return l, nil
}

// Close frees the list's file.
func (l *List) Close() error { return l.file.Close() }

// Len is how many entries the list has.
func (l *List) Len() int { return int(l.header.entries) }

// Memory is the size of what the list keeps in memory to look up, in bytes.
func (l *List) Memory() int { return l.filter.bytes() + 4*cap(l.fences) }

// Check says whether a certificate is revoked at a time, and nil if it is not.
// The country is the document signer's, which the trust list proved: a country
// revokes its own certificates only.
func (l *List) Check(v *hcert.Verified, at time.Time) (*Revocation, error) {
	country := v.Key().Country
	found, err := l.check(SignatureHash(v.Sign1()), Signature, country, v, at)
	if found != nil || err != nil {
		return found, err
	}
	for _, id := range v.DCC().IDs() {
		if found, err = l.check(UCIHash(id), UCI, country, v, at); found != nil || err != nil {
			return found, err
		}
		if found, err = l.check(CountryUCIHash(v.Claims().Issuer, id), CountryUCI, country, v, at); found != nil || err != nil {
			return found, err
		}
	}
	return nil, nil
}

func (l *List) check(h Hash, kind HashType, country string, v *hcert.Verified, at time.Time) (*Revocation, error) {
	var found *Revocation
	err := l.Each(h, func(r Revocation) bool {
		if r.Type == kind && strings.EqualFold(r.Country, country) && (r.KID == "" || r.KID == v.Key().KID) && at.Before(r.Expires) {
			found = &r
		}
		return found == nil
	})
	return found, err
}

// Each calls yield for every entry with the hash, whatever its batch says of
// country, signer, type and time, until yield returns false.
func (l *List) Each(h Hash, yield func(Revocation) bool) error {
	place := l.places.of(&h)
	if !l.filter.has(place) {
		return nil
	}
	from, to := l.pagesOf(place)
	for page := from; page <= to; page++ {
		records, err := l.page(page)
		if err != nil {
			return err
		}
		for _, r := range records {
			if r.hash != h {
				continue
			}
			b := &l.batches[r.batch]
			if !yield(Revocation{BatchID: b.id, Country: b.country, Type: b.kind, KID: b.kid, Expires: b.expires}) {
				return nil
			}
		}
	}
	return nil
}

// Maybe reports whether the filter lets a hash through to the file: always for
// one that is in the list, and for one in 2¹⁷ of the others.
func (l *List) Maybe(h Hash) bool { return l.filter.has(l.places.of(&h)) }

// pagesOf returns the first and the last page that the entries with a place can
// be in: nearly always the same one.
func (l *List) pagesOf(place uint64) (from, to int) {
	begin := uint32(place >> 32)
	after := sort.Search(len(l.fences), func(i int) bool { return l.fences[i] > begin })
	first := sort.Search(after, func(i int) bool { return l.fences[i] >= begin })
	return max(first-1, 0), after - 1
}

// page reads a page's records.
func (l *List) page(i int) ([]record, error) {
	var raw [pageSize]byte
	if _, err := l.file.ReadAt(raw[:], headerSize+int64(i)*pageSize); err != nil {
		return nil, fmt.Errorf("read page %d of the revocation list: %w", i, err)
	}
	if crc32.Checksum(raw[:pageSize-4], castagnoli) != binary.LittleEndian.Uint32(raw[pageSize-4:]) {
		return nil, fmt.Errorf("page %d: %w: its checksum is wrong", i, ErrDamaged)
	}
	records := make([]record, min(pageRecords, l.header.entries-uint64(i)*pageRecords))
	for j := range records {
		records[j] = parseRecord(raw[j*recordSize:])
		if uint64(records[j].batch) >= uint64(len(l.batches)) {
			return nil, fmt.Errorf("page %d: %w: an entry belongs to no batch", i, ErrDamaged)
		}
	}
	return records, nil
}
