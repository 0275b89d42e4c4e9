package journal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
)

// Read calls fn for every record from the given number up to the newest at the
// time of the call, in order, after checking it and its place in the chain.
// Numbers before First are skipped over. The record is valid during the call
// only. An error of fn ends the reading and is returned as it is; damage is a
// *BreakError, and no record behind it is delivered.
func (j *Journal) Read(ctx context.Context, from uint64, fn func(seq uint64, record []byte) error) error {
	spans, head, err := j.spans(from)
	if err != nil {
		return err
	}
	return j.read(ctx, spans, head, from, fn)
}

// Verify reads the whole journal and returns nil if every record is there and
// unchanged, else a *BreakError that names the first break.
func (j *Journal) Verify(ctx context.Context) error {
	return j.Read(ctx, 0, func(uint64, []byte) error { return nil })
}

// span is a part of a segment as it was when reading began: appends continue.
type span struct {
	*segment
	start mark
	end   int64
}

// spans picks the segments that hold records from the given number on.
func (j *Journal) spans(from uint64) ([]span, Head, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return nil, Head{}, ErrClosed
	}
	n := 0
	for n+1 < len(j.segments) && j.segments[n+1].first <= from {
		n++
	}
	var out []span
	for _, s := range j.segments[n:] {
		sp := span{segment: s, start: mark{s.first, headerSize}, end: s.size}
		for i := len(s.marks) - 1; i >= 0; i-- {
			if s.marks[i].seq <= from {
				sp.start = s.marks[i]
				break
			}
		}
		out = append(out, sp)
	}
	return out, j.head, nil
}

func (j *Journal) read(ctx context.Context, spans []span, head Head, from uint64, fn func(uint64, []byte) error) error {
	var at Head // what the last span ended with
	known := false
	var buf []byte
	l := j.keys.linker()
	for _, sp := range spans {
		if known && (sp.first != at.Seq+1 || sp.chain != at.Chain) {
			return sp.broken(at.Seq+1, "the segment before it ends at record %d and this one does not continue it", at.Seq)
		}
		var err error
		at, err = j.readSpan(ctx, sp, from, l, &buf, fn)
		known = err == nil
		if errors.Is(err, os.ErrNotExist) && j.dropped(sp.segment) {
			continue // since the reading began: as if it had begun later
		}
		if errors.Is(err, os.ErrNotExist) {
			return sp.broken(sp.first, "the segment file is gone")
		}
		if err != nil {
			return err
		}
	}
	if known && at != head {
		last := spans[len(spans)-1]
		return last.broken(at.Seq+1, "the segment ends at record %d, before the newest record %d", at.Seq, head.Seq)
	}
	return nil
}

// dropped reports whether Drop took the segment.
func (j *Journal) dropped(s *segment) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return !slices.Contains(j.segments, s)
}

func (j *Journal) readSpan(ctx context.Context, sp span, from uint64, l *linker, buf *[]byte, fn func(uint64, []byte) error) (Head, error) {
	f, err := os.Open(sp.path)
	if err != nil {
		return Head{}, err
	}
	defer f.Close()
	seq, offset := sp.start.seq, sp.start.offset
	chain, known := sp.chain, offset == headerSize
	for {
		if err := ctx.Err(); err != nil {
			return Head{}, err
		}
		b, err := sp.next(f, offset, sp.end, seq)
		if errors.Is(err, io.EOF) {
			return Head{Seq: seq - 1, Chain: chain}, nil
		}
		if errors.Is(err, errTorn) {
			return Head{}, sp.broken(seq, "the file is cut short")
		}
		if err != nil {
			return Head{}, err
		}
		if known && b.chain != chain {
			return Head{}, sp.broken(seq, "the chain does not continue from the record before")
		}
		last := seq + uint64(b.count) - 1
		if last < from && b.end() < sp.end {
			// Not asked for: its head tells where the next block is.
			seq, offset, known = last+1, b.end(), false
			continue
		}
		chain, err = sp.open(f, b, l, buf, func(seq uint64, record []byte) error {
			if seq < from {
				return nil
			}
			return fn(seq, record)
		})
		if errors.Is(err, errTorn) {
			err = sp.broken(seq, "the block at offset %d was changed", b.offset)
		}
		if err != nil {
			return Head{}, err
		}
		seq, offset, known = last+1, b.end(), true
	}
}

// Checked is what Check found of an intact journal.
type Checked struct {
	First uint64 // the oldest record
	Head  Head   // the newest record and its chain value
	// Torn is how many bytes of an unfinished write follow the newest record:
	// what a crash leaves behind, and what Open would cut off. The zeros that a
	// segment is made longer by are not among them.
	Torn int64
}

// Check reads the whole journal in dir without opening it for writing, and
// changes nothing. It takes the lock, so that a journal in use is ErrLocked.
// The first break is a *BreakError.
func Check(ctx context.Context, dir string, key [32]byte) (c Checked, err error) {
	if _, err := os.Stat(dir); err != nil {
		return c, fmt.Errorf("check journal: %w", err)
	}
	release, err := lockDir(dir)
	if err != nil {
		return c, fmt.Errorf("check journal %s: %w", dir, err)
	}
	defer func() { err = errors.Join(err, release()) }()
	names, err := segmentNames(dir)
	if err != nil {
		return c, err
	}
	if len(names) == 0 {
		return c, fmt.Errorf("check journal %s: %w", dir, ErrNoSegment)
	}
	k := deriveKeys(key)
	for i, name := range names {
		s, err := openSegment(filepath.Join(dir, name), k)
		if errors.Is(err, errShort) && i == len(names)-1 && i > 0 {
			return c, nil // killed while the segment was made
		}
		if errors.Is(err, errShort) {
			return c, &BreakError{Segment: name, Seq: c.Head.Seq + 1, Reason: "the file is cut short"}
		}
		if err != nil {
			return c, err
		}
		if i > 0 && (s.first != c.Head.Seq+1 || s.chain != c.Head.Chain) {
			return c, s.broken(c.Head.Seq+1, "the segment before it ends at record %d and this one does not continue it", c.Head.Seq)
		}
		if i == 0 {
			c.First = s.first
		}
		size := s.size
		head, whole, err := s.recover(ctx, k)
		if err != nil {
			return c, err
		}
		if whole < size && i < len(names)-1 {
			return c, s.broken(head.Seq+1, "the file is cut short")
		}
		c.Head = head
		if c.Torn, err = s.written(whole, size); err != nil {
			return c, err
		}
	}
	return c, nil
}
