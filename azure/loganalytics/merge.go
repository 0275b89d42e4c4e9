package loganalytics

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
)

// mergeRows and mergeBytes bound what is merged in one go, and so its memory.
const (
	mergeRows  = 8 * groupRows
	mergeBytes = 16 << 20
)

const ticksPerDay = 24 * 3600 * 1e7

// dropMerged removes segments that lie inside another one's part of the log: a
// merge wrote the other and was killed before it removed them.
func (ts *tableStore) dropMerged() error {
	var errs []error
	var keep []*segment
	for _, s := range ts.segments {
		inside := slices.ContainsFunc(ts.segments, func(o *segment) bool {
			return o.after <= s.after && s.through <= o.through && o.through-o.after > s.through-s.after
		})
		if inside {
			errs = append(errs, os.Remove(s.path))
		} else {
			keep = append(keep, s)
		}
	}
	ts.segments = keep
	return errors.Join(errs...)
}

// merge joins the small segments of a day that is over into one, so that a
// month of a quiet table is 30 files and not 720. A day's rows stay together
// and leave together when retention comes. The caller holds sealing.
func (s *store) merge(ctx context.Context) error {
	today := ticks(s.now()) / ticksPerDay
	var errs []error
	for _, ts := range s.tables {
		ts.mu.Lock()
		segments := ts.segments
		ts.mu.Unlock()
		for _, run := range daily(segments, today) {
			if err := s.mergeRun(ctx, ts, run); err != nil {
				errs = append(errs, fmt.Errorf("merge segments of table %s: %w", ts.schema.name, err))
			}
		}
	}
	return errors.Join(errs...)
}

// daily finds runs of two or more neighbours that belong to one day before
// today and are small enough together.
func daily(segments []*segment, today int64) [][]*segment {
	var out [][]*segment
	var run []*segment
	var rows int
	var size int64
	flush := func() {
		if len(run) > 1 {
			out = append(out, run)
		}
		run, rows, size = nil, 0, 0
	}
	for _, seg := range segments {
		day := seg.max / ticksPerDay
		if len(run) > 0 && (day != run[0].max/ticksPerDay || rows+seg.rows > mergeRows || size+seg.size > mergeBytes) {
			flush()
		}
		if day < today && seg.rows < mergeRows && seg.size < mergeBytes {
			run = append(run, seg)
			rows += seg.rows
			size += seg.size
		} else {
			flush()
		}
	}
	flush()
	return out
}

func (s *store) mergeRun(ctx context.Context, ts *tableStore, run []*segment) error {
	every := make([]int, len(ts.schema.columns))
	for i := range every {
		every[i] = i
	}
	m := newMemtable(ts.schema)
	for _, seg := range run {
		err := seg.scan(ctx, every, allTime, &unpacker{}, &scanStats{}, func(b batch) error {
			m.addBatch(b)
			return nil
		})
		if err != nil {
			return err
		}
	}
	b := m.snapshot()
	whole := s.newSegment(ts.schema, run[0].after, run[len(run)-1].through, b)
	if err := whole.write(ctx, b); err != nil {
		return err
	}
	ts.mu.Lock()
	var segments []*segment
	for _, seg := range ts.segments {
		switch {
		case seg == run[0]:
			segments = append(segments, whole)
		case !slices.Contains(run, seg):
			segments = append(segments, seg)
		}
	}
	ts.segments = segments
	ts.mu.Unlock()
	return ts.remove(run)
}

// addBatch appends a batch of the same table.
func (m *memtable) addBatch(b batch) {
	for at, c := range b.columns {
		if c == nil {
			continue
		}
		if m.columns[at] == nil {
			m.columns[at] = &column{kind: c.kind}
		}
		m.columns[at].padTo(m.rows)
		for i := range c.n {
			if c.isNull(i) {
				m.columns[at].padTo(m.columns[at].n + 1)
			} else {
				m.columns[at].push(c.at(i))
			}
		}
	}
	m.rows += b.rows
	m.min, m.max = min(m.min, b.min), max(m.max, b.max)
}

// at is the value of row i.
func (c *column) at(i int) value {
	switch ints, floats := c.kind.stores(); {
	case ints:
		return value{i: c.ints[i]}
	case floats:
		return value{f: c.floats[i]}
	default:
		return value{s: c.str(i)}
	}
}
