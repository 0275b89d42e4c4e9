package loganalytics

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"verdant/internal/journal"
	"verdant/internal/telemetry"
)

// ErrFull: rows cannot be sealed to disk and memory's share is used up, so no
// more are taken.
var ErrFull = errors.New("the workspace takes no rows: what it has cannot be sealed to disk")

// maxEmit bounds one call's rows, encoded.
const maxEmit = 8 << 20

// sealAfter is how long rows stay in the write-ahead log at most.
const sealAfter = time.Hour

const segmentSuffix = ".seg"

// store keeps the rows of one workspace. A row is first a record of the
// encrypted write-ahead log, fsynced before it is acknowledged, and at the
// same time part of its table's memtable. When memory's share is used up or an
// hour has passed, all memtables are sealed into one segment a table and the
// log starts anew. A segment's name says how far the log is covered by it, so
// opening needs no more than a directory listing and the log's replay.
type store struct {
	dir    string
	id     string // the workspace's customer id
	tables map[string]*tableStore
	wal    *journal.Journal
	key    [32]byte // of segments
	limit  int64    // bytes of rows in memory before they are sealed
	now    func() time.Time
	// full is signalled when it is time to seal.
	full chan struct{}

	// ingest is held for reading from the log's append until the rows are in
	// their memtable, and for writing while the memtables are swapped: then
	// everything in the log is in memory.
	ingest sync.RWMutex
	hot    atomic.Int64 // bytes in memtables, frozen ones too
	// sealing is held by whoever seals.
	sealing sync.Mutex

	// mu guards the fields below.
	mu     sync.Mutex
	oldest time.Time        // arrival of the oldest row that is not sealed; zero if none
	usage  map[usageKey]use // not yet reported
	bad    map[badKey]int   // values stored as null, not yet reported
}

// tableStore is one table's rows: segments, then frozen memtables, then hot.
type tableStore struct {
	schema *table

	mu       sync.Mutex
	segments []*segment
	frozen   []frozen
	hot      *memtable
	through  uint64 // newest log record that segments cover
}

// frozen is a memtable that is being sealed.
type frozen struct {
	batch
	through uint64
	bytes   int64
}

type usageKey struct {
	hour  int64 // ticks
	table string
}

// use is what one table took in during one hour.
type use struct {
	bytes   float64
	batches int64
}

type badKey struct{ table, column string }

type storeOptions struct {
	dir    string
	id     string
	key    [32]byte
	tables map[string]*table
	limit  int64
	now    func() time.Time
}

func deriveKey(root [32]byte, purpose string) ([32]byte, error) {
	k, err := hkdf.Key(sha256.New, root[:], nil, "verdant loganalytics 1 "+purpose, 32)
	if err != nil {
		return [32]byte{}, err
	}
	return [32]byte(k), nil
}

// openStore opens a workspace's directory, making it if it is not there.
func openStore(ctx context.Context, o storeOptions) (*store, error) {
	s := &store{dir: o.dir, id: o.id, limit: o.limit, now: o.now, tables: map[string]*tableStore{},
		full: make(chan struct{}, 1), usage: map[usageKey]use{}, bad: map[badKey]int{}}
	var err error
	if s.key, err = deriveKey(o.key, "segments "+o.id); err != nil {
		return nil, err
	}
	walKey, err := deriveKey(o.key, "log "+o.id)
	if err != nil {
		return nil, err
	}
	if s.wal, err = journal.Open(ctx, filepath.Join(o.dir, "wal"), journal.Options{Key: walKey}); err != nil {
		return nil, err
	}
	for name, t := range o.tables {
		ts := &tableStore{schema: t, hot: newMemtable(t)}
		if err := s.list(ts); err != nil {
			return nil, errors.Join(err, s.wal.Close())
		}
		s.tables[name] = ts
	}
	if err := s.replay(ctx, o.tables); err != nil {
		return nil, errors.Join(err, s.wal.Close())
	}
	return s, nil
}

// list finds a table's segments from their names.
func (s *store) list(ts *tableStore) error {
	dir := s.tableDir(ts.schema.name)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".tmp") {
			// Killed while sealing: the rows are still in the log.
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
			continue
		}
		seg, err := s.parseSegment(ts.schema, e)
		if err != nil {
			return err
		}
		ts.segments = append(ts.segments, seg)
		ts.through = max(ts.through, seg.through)
	}
	return ts.dropMerged()
}

func (s *store) tableDir(name string) string { return filepath.Join(s.dir, "segments", name) }

// newSegment names a segment: the log's records that it covers, min and max
// time, rows.
func (s *store) newSegment(t *table, after, through uint64, b batch) *segment {
	name := fmt.Sprintf("%016x-%016x-%016x-%016x-%x%s", through, after, b.min, b.max, b.rows, segmentSuffix)
	return &segment{table: t, path: filepath.Join(s.tableDir(t.name), name), identity: s.id + "/" + t.name + "/" + name,
		key: s.key, after: after, through: through, min: b.min, max: b.max, rows: b.rows}
}

func (s *store) parseSegment(t *table, e fs.DirEntry) (*segment, error) {
	stranger := fmt.Errorf("%s in table %s of workspace %s is not a segment's name", e.Name(), t.name, s.id)
	parts := strings.Split(strings.TrimSuffix(e.Name(), segmentSuffix), "-")
	if len(parts) != 5 || !strings.HasSuffix(e.Name(), segmentSuffix) {
		return nil, stranger
	}
	var n [5]uint64
	for i, p := range parts {
		var err error
		if n[i], err = strconv.ParseUint(p, 16, 63); err != nil {
			return nil, stranger
		}
	}
	seg := s.newSegment(t, n[1], n[0], batch{min: int64(n[2]), max: int64(n[3]), rows: int(n[4])})
	info, err := e.Info()
	if err != nil {
		return nil, err
	}
	if filepath.Base(seg.path) != e.Name() {
		return nil, stranger
	}
	seg.size = info.Size()
	return seg, nil
}

// replay brings the rows that are in the log and in no segment into memory.
func (s *store) replay(ctx context.Context, tables map[string]*table) error {
	kept := false
	err := s.wal.Read(ctx, 0, func(seq uint64, record []byte) error {
		d, err := decodeRecord(record, tables)
		if err != nil {
			return fmt.Errorf("record %d: %w", seq, err)
		}
		if d.table == nil {
			return fmt.Errorf("record %d is for table %q, which this version does not know: open it with the version that wrote it", seq, d.name)
		}
		ts := s.tables[d.name]
		if seq <= ts.through {
			return nil
		}
		kept = true
		before := ts.hot.bytes
		ts.hot.add(d.rows)
		s.hot.Add(ts.hot.bytes - before)
		s.recount(ts.schema, d)
		if at := fromTicks(d.received); s.oldest.IsZero() || at.Before(s.oldest) {
			s.oldest = at
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("replay the write-ahead log of workspace %s: %w", s.id, err)
	}
	if !kept {
		return s.wal.Drop(s.wal.Last() + 1)
	}
	return nil
}

// emit takes rows in: checked, durable in the log, then visible to queries.
func (s *store) emit(ctx context.Context, name string, given []telemetry.Row) error {
	ts, ok := s.tables[name]
	if !ok {
		return fmt.Errorf("%w: %q", ErrTable, name)
	}
	if len(given) == 0 {
		return nil
	}
	now := s.now()
	in, err := ts.schema.check(given, now)
	if err != nil {
		return err
	}
	record := encodeRecord(ts.schema, ticks(now), in.rows)
	if len(record) > maxEmit {
		return fmt.Errorf("%d rows for table %s are %d bytes, over the %d of one call: send them in parts", len(given), name, len(record), maxEmit)
	}
	if s.hot.Load() > 4*s.limit {
		if err := s.seal(ctx); err != nil {
			return fmt.Errorf("%w: %w", ErrFull, err)
		}
	}
	if err := s.accept(ctx, ts, record, in.rows); err != nil {
		return err
	}
	s.count(ts.schema, now, in)
	if s.hot.Load() > s.limit {
		select {
		case s.full <- struct{}{}:
		default:
		}
	}
	return nil
}

func (s *store) accept(ctx context.Context, ts *tableStore, record []byte, rows []row) error {
	s.ingest.RLock()
	defer s.ingest.RUnlock()
	if _, err := s.wal.Append(ctx, record); err != nil {
		return fmt.Errorf("table %s: %w", ts.schema.name, err)
	}
	ts.mu.Lock()
	before := ts.hot.bytes
	ts.hot.add(rows)
	s.hot.Add(ts.hot.bytes - before)
	ts.mu.Unlock()
	return nil
}

// seal writes what is in memory to segments and drops the log behind it. What
// could not be written stays in memory and in the log, and is tried again the
// next time.
func (s *store) seal(ctx context.Context) error {
	s.sealing.Lock()
	defer s.sealing.Unlock()
	through := s.freeze()
	var errs []error
	for _, ts := range s.tables {
		if err := s.sealTable(ctx, ts); err != nil {
			errs = append(errs, fmt.Errorf("seal table %s: %w", ts.schema.name, err))
		}
	}
	if len(errs) > 0 {
		s.mu.Lock()
		s.oldest = s.now().Add(-sealAfter) // due again at once
		s.mu.Unlock()
		return errors.Join(errs...)
	}
	if err := s.wal.Drop(through + 1); err != nil {
		return err
	}
	return s.merge(ctx)
}

// freeze swaps every memtable that has rows for an empty one, and returns the
// newest record that is in the old ones.
func (s *store) freeze() (through uint64) {
	s.ingest.Lock()
	defer s.ingest.Unlock()
	through = s.wal.Last()
	for _, ts := range s.tables {
		ts.mu.Lock()
		if ts.hot.rows > 0 {
			ts.frozen = append(ts.frozen, frozen{ts.hot.snapshot(), through, ts.hot.bytes})
			ts.hot = newMemtable(ts.schema)
		}
		ts.mu.Unlock()
	}
	s.mu.Lock()
	s.oldest = time.Time{}
	s.mu.Unlock()
	return through
}

func (s *store) sealTable(ctx context.Context, ts *tableStore) error {
	for {
		ts.mu.Lock()
		if len(ts.frozen) == 0 {
			ts.mu.Unlock()
			return nil
		}
		next, after := ts.frozen[0], ts.through
		ts.mu.Unlock()
		seg := s.newSegment(ts.schema, after, next.through, next.batch)
		if err := seg.write(ctx, next.batch); err != nil {
			return err
		}
		ts.mu.Lock()
		ts.frozen = slices.Clone(ts.frozen[1:])
		ts.segments = append(slices.Clone(ts.segments), seg)
		ts.through = next.through
		ts.mu.Unlock()
		s.hot.Add(-next.bytes)
	}
}

// due says whether rows have waited for an hour, or memory's share is used up.
func (s *store) due() bool {
	if s.hot.Load() > s.limit {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.oldest.IsZero() && s.now().Sub(s.oldest) >= sealAfter
}

// retain removes segments whose newest row is older than before.
func (s *store) retain(before time.Time) error {
	s.sealing.Lock()
	defer s.sealing.Unlock()
	limit := ticks(before)
	var errs []error
	for _, ts := range s.tables {
		ts.mu.Lock()
		var keep, gone []*segment
		for _, seg := range ts.segments {
			if seg.max < limit {
				gone = append(gone, seg)
			} else {
				keep = append(keep, seg)
			}
		}
		ts.segments = keep
		ts.mu.Unlock()
		errs = append(errs, ts.remove(gone))
	}
	return errors.Join(errs...)
}

// remove deletes the files of segments that are not in the list any more; one
// that a query is reading goes when the query ends.
func (ts *tableStore) remove(segments []*segment) error {
	ts.mu.Lock()
	var now []*segment
	for _, seg := range segments {
		if seg.doomed = true; seg.readers == 0 {
			now = append(now, seg)
		}
	}
	ts.mu.Unlock()
	var errs []error
	for _, seg := range now {
		errs = append(errs, os.Remove(seg.path))
	}
	return errors.Join(errs...)
}

// acquire is the list of segments, none of which goes away before release. The
// caller holds mu.
func (ts *tableStore) acquire() []*segment {
	for _, seg := range ts.segments {
		seg.readers++
	}
	return ts.segments
}

func (ts *tableStore) release(segments []*segment) {
	ts.mu.Lock()
	var gone []*segment
	for _, seg := range segments {
		if seg.readers--; seg.readers == 0 && seg.doomed {
			gone = append(gone, seg)
		}
	}
	ts.mu.Unlock()
	for _, seg := range gone {
		_ = os.Remove(seg.path) // if not, the next start finds it superseded or too old
	}
}

func (s *store) close() error { return s.wal.Close() }

// scanStats count what queries read.
type scanStats struct {
	segments, segmentsRead, rows, rowsTotal, bytes atomic.Int64
}

func (st *scanStats) addBytes(n int64) { st.bytes.Add(n) }

// scan calls fn with the table's rows, oldest first, as they are at the call.
// Columns are positions in the schema; others are nil in the batches. Rows
// outside r may be among them.
func (s *store) scan(ctx context.Context, ts *tableStore, columns []int, r timeRange, stats *scanStats, fn func(batch) error) error {
	ts.mu.Lock()
	segments := ts.acquire()
	memory := make([]batch, 0, len(ts.frozen)+1)
	for _, f := range ts.frozen {
		memory = append(memory, f.batch)
	}
	if ts.hot.rows > 0 {
		memory = append(memory, ts.hot.snapshot())
	}
	ts.mu.Unlock()
	defer ts.release(segments)

	read := func(b batch) error {
		stats.rows.Add(int64(b.rows))
		return fn(b)
	}
	stats.segments.Add(int64(len(segments) + len(memory)))
	unpack := &unpacker{}
	for _, seg := range segments {
		stats.rowsTotal.Add(int64(seg.rows))
		if !r.overlaps(seg.min, seg.max) {
			continue
		}
		stats.segmentsRead.Add(1)
		if err := seg.scan(ctx, columns, r, unpack, stats, read); err != nil {
			return err
		}
	}
	for _, b := range memory {
		stats.rowsTotal.Add(int64(b.rows))
		if !r.overlaps(b.min, b.max) {
			continue
		}
		stats.segmentsRead.Add(1)
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := read(b); err != nil {
			return err
		}
	}
	return nil
}
