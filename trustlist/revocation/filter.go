package revocation

import (
	"encoding/binary"
	"errors"
	"math"
	"math/bits"
)

// filter is a set of places (numbers of 64 bits) in memory, of which it gives
// one in 2¹⁷ others away for its own: a four-wise binary fuse filter (Graf and
// Lemire, "Binary Fuse Filters: Fast and Smaller Than Xor Filters", 2022).
//
// Each place has four slots, and what is in them, taken together by XOR, is its
// fingerprint of 17 bits. None of the four reads waits for another, so that a
// look-up takes as long as memory takes to answer once.
//
// The places are split by their first bits into shards, each a filter of its
// own, so that making one takes little memory besides it.
type filter struct {
	shardOf [partCount]uint8 // by a place's first bits
	shards  []shard
	slots   []byte // packed, slotBits each, and slotPad at the end
}

// shard is the part of a filter for the places of some neighbouring parts.
type shard struct {
	seed     uint64
	base     uint64 // its first slot
	segment  uint32 // slots in a segment, a power of two
	segments uint32 // that a first slot may be in; three more follow
}

const (
	// partCount is how many parts the places are split into by their first bits.
	partCount = 1 << partBits
	partBits  = 6
	// shardEntries is how many entries a shard has at least, if there are as
	// many: smaller ones need more slots an entry.
	shardEntries = 45_000
	slotBits     = 17
	slotMask     = 1<<slotBits - 1
	slotPad      = 8 // bytes: a slot is read as four
	arity        = 4
)

// shape returns segment length and number for n places, as the paper found
// them by experiment. They make 1.08 to 1.19 slots a place.
func shape(n int) (segment, segments uint32) {
	segment = 4
	factor := 2.0
	if n > 1 {
		log := math.Log(float64(n))
		segment = uint32(1) << min(max(int(log/math.Log(2.91)-0.5), 2), 18)
		factor = max(1.075, 0.77+0.305*math.Log(600_000)/log)
	}
	slots := uint32(float64(n) * factor)
	return segment, max((slots+segment-1)/segment, arity) - (arity - 1)
}

func (s *shard) slots() uint64 { return uint64(s.segments+arity-1) * uint64(s.segment) }

// hash is what a shard makes of a place. Its seed changes until the shard can
// be made.
func (s *shard) hash(place uint64) uint64 {
	// A place is as good as random; its first bits, which the shard's places
	// share, have to go.
	h := (place ^ s.seed) * 0xff51afd7ed558ccd
	return h ^ h>>32
}

// at returns a hash's four slots, counted from the shard's first.
func (s *shard) at(h uint64) [arity]uint64 {
	segment := uint64(s.segment)
	first, _ := bits.Mul64(h, uint64(s.segments)*segment)
	mask := segment - 1
	return [arity]uint64{first, (first + segment) ^ h>>36&mask, (first + 2*segment) ^ h>>18&mask, (first + 3*segment) ^ h&mask}
}

func fingerprint(h uint64) uint32 { return uint32(h*0x9e3779b97f4a7c15>>40) & slotMask }

// slot returns what is in one.
func (f *filter) slot(i uint64) uint32 { // its higher bits belong to others
	bit := i * slotBits
	return binary.LittleEndian.Uint32(f.slots[bit/8:]) >> (bit % 8)
}

func (f *filter) setSlot(i uint64, v uint32) {
	bit := i * slotBits
	raw := f.slots[bit/8:]
	binary.LittleEndian.PutUint32(raw, binary.LittleEndian.Uint32(raw)&^(slotMask<<(bit%8))|v<<(bit%8))
}

// has reports whether the place may be in the set.
func (f *filter) has(place uint64) bool {
	if len(f.shards) == 0 {
		return false
	}
	s := &f.shards[f.shardOf[place>>(64-partBits)]]
	h := s.hash(place)
	at := s.at(h)
	v := f.slot(s.base+at[0]) ^ f.slot(s.base+at[1]) ^ f.slot(s.base+at[2]) ^ f.slot(s.base+at[3])
	return (v^fingerprint(h))&slotMask == 0
}

// bytes is the filter's size in memory.
func (f *filter) bytes() int { return cap(f.slots) + 24*cap(f.shards) + len(f.shardOf) }

// layout makes the shards of parts with so many entries, and room for their slots.
func layout(entries [partCount]uint64) *filter {
	f := new(filter)
	var total, inShard, left uint64
	for _, n := range entries {
		left += n
	}
	for part, n := range entries {
		f.shardOf[part] = uint8(len(f.shards))
		inShard += n
		left -= n
		// The last shard takes the rest in, if that is not enough for another.
		if part == partCount-1 || inShard >= shardEntries && left >= shardEntries {
			s := shard{base: total}
			s.segment, s.segments = shape(int(inShard))
			total += s.slots()
			f.shards = append(f.shards, s)
			inShard = 0
		}
	}
	f.slots = make([]byte, slotBytes(total))
	return f
}

func slotBytes(slots uint64) uint64 { return (slots*slotBits+7)/8 + slotPad }

// consistent reports whether the filter's parts fit together, so that has
// stays within them whatever place it is asked for.
func (f *filter) consistent() bool {
	var total uint64
	for _, s := range f.shards {
		if s.base != total || s.segment == 0 || s.segment&(s.segment-1) != 0 || s.segment > 1<<18 || s.segments == 0 || s.segments > 1<<30 {
			return false
		}
		total += s.slots()
	}
	for _, i := range f.shardOf {
		if int(i) >= len(f.shards) {
			return false
		}
	}
	return uint64(len(f.slots)) == slotBytes(total)
}

// errUnbuildable is returned when no seed was good, which is as likely as not
// for one seed in several hundred.
var errUnbuildable = errors.New("the filter could not be made; this is a defect")

// fuser fills shards. Its memory serves one after the other.
type fuser struct {
	counts []uint8  // of a slot: how many places are there, four times, and by XOR which of their slots it is
	hashes []uint64 // of a slot: the places there, by XOR
	alone  []uint32 // slots that had one place left, in the order in which they came to that
}

// fill makes the shard of these places, which are distinct.
func (b *fuser) fill(f *filter, s *shard, places []uint64) error {
	n := int(s.slots())
	b.counts, b.hashes, b.alone = resized(b.counts, n), resized(b.hashes, n), resized(b.alone, n)
	for range 200 {
		if b.peel(s, places) {
			b.assign(f, s)
			return nil
		}
		s.seed += 0x9e3779b97f4a7c15
	}
	return errUnbuildable
}

// resized returns a slice of n elements, in the old one's memory if they fit.
func resized[T any](old []T, n int) []T {
	if cap(old) < n {
		return make([]T, n, n+n/16) // shards differ by a few percent
	}
	return old[:n]
}

// peel takes places away, one after the other, that are alone in one of their
// slots, and reports whether all of them could be. The hash of each stays in
// that slot, which b.alone then names.
func (b *fuser) peel(s *shard, places []uint64) bool {
	clear(b.counts)
	clear(b.hashes)
	b.alone = b.alone[:0]
	for _, p := range places {
		h := s.hash(p)
		for i, at := range s.at(h) {
			if b.counts[at] >= 252 {
				return false // no more can be counted
			}
			b.counts[at] = (b.counts[at] + 4) ^ uint8(i)
			b.hashes[at] ^= h
		}
	}
	for at, c := range b.counts {
		if c>>2 == 1 {
			b.alone = append(b.alone, uint32(at))
		}
	}
	taken := 0 // never more than were read, so that they fit in front
	for next := 0; next < len(b.alone); next++ {
		at := uint64(b.alone[next])
		if b.counts[at]>>2 != 1 {
			continue // its place went with another slot
		}
		b.alone[taken] = uint32(at)
		taken++
		h := b.hashes[at]
		for i, other := range s.at(h) {
			if other == at {
				b.counts[at] = uint8(i)
				continue
			}
			b.counts[other] = (b.counts[other] - 4) ^ uint8(i)
			b.hashes[other] ^= h
			if b.counts[other]>>2 == 1 {
				b.alone = append(b.alone, uint32(other))
			}
		}
	}
	b.alone = b.alone[:taken]
	return taken == len(places)
}

// assign gives the slots their contents, last place first: the slot in which a
// place was alone is nobody's before it.
func (b *fuser) assign(f *filter, s *shard) {
	for i := len(b.alone) - 1; i >= 0; i-- {
		mine := uint64(b.alone[i])
		h := b.hashes[mine]
		v := fingerprint(h)
		for _, slot := range s.at(h) {
			if slot != mine {
				v ^= f.slot(s.base + slot)
			}
		}
		f.setSlot(s.base+mine, v&slotMask)
	}
}
