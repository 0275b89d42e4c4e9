// Package journal is an append-only log for records that must not be lost,
// read by strangers, or changed unnoticed: audit records and the log store's
// write-ahead log.
//
// It promises:
//   - Durable: Append returns after the records are on stable storage.
//     Concurrent appends share one fsync.
//   - Confidential: every block is sealed with AES-256-GCM under a key derived
//     for its segment; the directory shows sizes and times, no content.
//   - Chained: every record's HMAC covers its predecessor's, so a record that
//     was changed, removed, moved or put in between is found, and the first
//     break is named by segment file and sequence number.
//   - Crash safe: a write that was interrupted leaves a torn tail (a block that
//     ends early or has sectors of zeros), which Open cuts off. Damage anywhere before the tail is an error, never repaired.
//   - Full disk: the append is refused, the partial write is taken back, and
//     what is there stays readable. Appends work again when there is room.
//
// It refuses a wrong key (ErrKey), a directory another process has open
// (ErrLocked) and a format it does not know. It cannot notice that the newest
// records were cut off at a block boundary by somebody who can write the
// directory: whoever needs that keeps Head elsewhere and compares.
//
// Sequence numbers start at 1 and have no gaps.
package journal

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sort"
	"strings"
	"sync"
)

// MaxRecord is the largest record in bytes.
const MaxRecord = 16 << 20

const (
	// maxBatch is where a group of appends stops growing; it bounds the memory
	// and the latency of one commit.
	maxBatch = 4 << 20
	// maxBlock is more than any block has.
	maxBlock = 2*MaxRecord + 4<<10
	// reserve is how much longer the newest segment is made at a time: writes
	// into bytes that are there already cost the disk half as much as those
	// that change the file's size.
	reserve = 256 << 10
	// maxSpare bounds a buffer that is kept for the next group.
	maxSpare = 1 << 20
)

// zeros fill the reserve.
var zeros [64 << 10]byte

// DefaultSegmentBytes is where a segment file ends by default.
const DefaultSegmentBytes = 16 << 20

var (
	// ErrKey: the key is not the one the journal was written with.
	ErrKey = errors.New("the key does not open this journal")
	// ErrLocked: another process (or another Journal) has the directory open.
	ErrLocked = errors.New("the journal is in use by another process")
	// ErrNoSegment: there is a directory, and no record was ever in it or all
	// of them are gone.
	ErrNoSegment = errors.New("the journal has no segment")
	// ErrClosed: the journal was closed.
	ErrClosed = errors.New("the journal is closed")
	// ErrTooLarge: a record is over MaxRecord.
	ErrTooLarge = errors.New("record too large")
	// ErrStopped: an earlier fsync did not succeed, so it is unknown what is
	// on disk; the journal refuses appends until it is opened again.
	ErrStopped = errors.New("the journal stopped after a storage failure")
)

// BreakError names the first place where a journal is damaged.
type BreakError struct {
	Segment string // file name of the segment
	Seq     uint64 // the first record that cannot be trusted
	Reason  string
}

func (e *BreakError) Error() string {
	return fmt.Sprintf("journal broken in segment %s at record %d: %s", e.Segment, e.Seq, e.Reason)
}

// Options configure Open.
type Options struct {
	// Key is the root key, 256 bits. Segment keys are derived from it.
	Key [32]byte
	// SegmentBytes is the size at which a new segment file starts; 0 means
	// DefaultSegmentBytes. Drop removes whole segments.
	SegmentBytes int64
}

// Head is the newest record's number and chain value.
type Head struct {
	Seq   uint64
	Chain [32]byte
}

// Journal is an open journal. It is safe for concurrent use.
type Journal struct {
	dir     string
	keys    keys
	limit   int64
	release func() error

	// io is held by the goroutine that writes; it guards what follows.
	io       sync.Mutex
	active   *os.File
	reserved int64 // how long the active file is
	chain    *linker

	// mu guards everything below. It is taken after io, never before.
	mu       sync.Mutex
	segments []*segment // ascending; the last one is active
	head     Head
	pending  *batch        // open for joining; nil if none
	spare    []byte        // for the next batch
	grew     chan struct{} // closed and replaced at every commit
	stopped  error         // sticky refusal of appends
	closed   bool

	// sync and write are the operations that storage can refuse; tests replace
	// them before the first append.
	sync  func(*os.File) error
	write func(*os.File, []byte, int64) (int, error)
}

// batch is a group of records that share one write and one fsync. Its block
// belongs to the journal again when done is closed.
type batch struct {
	block []byte
	count int
	done  chan struct{}
	first uint64
	err   error
}

// Open opens the journal in dir, making it if it is not there. It cuts off a
// torn tail, and reads only the newest segment: damage in older ones is found
// by Read and Verify.
func Open(ctx context.Context, dir string, o Options) (*Journal, error) {
	if err := makeDir(dir); err != nil {
		return nil, fmt.Errorf("open journal %s: %w", dir, err)
	}
	release, err := lockDir(dir)
	if err != nil {
		return nil, fmt.Errorf("open journal %s: %w", dir, err)
	}
	j := &Journal{dir: dir, keys: deriveKeys(o.Key), limit: o.SegmentBytes, release: release, grew: make(chan struct{}),
		sync:  syncData,
		write: (*os.File).WriteAt}
	j.chain = j.keys.linker()
	if j.limit <= 0 {
		j.limit = DefaultSegmentBytes
	}
	if err := j.load(ctx); err != nil {
		_ = release()
		return nil, fmt.Errorf("open journal %s: %w", dir, err)
	}
	return j, nil
}

// load finds the segments, checks their headers and scans the newest.
func (j *Journal) load(ctx context.Context) error {
	names, err := segmentNames(j.dir)
	if err != nil {
		return err
	}
	for i, name := range names {
		s, err := openSegment(filepath.Join(j.dir, name), j.keys)
		if errors.Is(err, errShort) && i == len(names)-1 {
			// Killed while the segment was made: nothing in it was acknowledged.
			if err := os.Remove(filepath.Join(j.dir, name)); err != nil {
				return err
			}
			break
		}
		if errors.Is(err, errShort) {
			return &BreakError{Segment: name, Seq: 0, Reason: "the file is cut short"}
		}
		if err != nil {
			return err
		}
		j.segments = append(j.segments, s)
	}
	if len(j.segments) == 0 {
		return j.rotate()
	}
	last := j.segments[len(j.segments)-1]
	head, size, err := last.recover(ctx, j.keys)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(last.path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if err := f.Truncate(size); err != nil {
		_ = f.Close()
		return fmt.Errorf("cut off the torn tail of %s: %w", last.name(), err)
	}
	if err := f.Sync(); err != nil {
		_ = f.Close()
		return err
	}
	j.active, j.reserved, j.head = f, size, head
	return nil
}

// segmentNames lists the segment files in order of their first record.
func segmentNames(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), segmentSuffix) {
			names = append(names, e.Name())
		}
	}
	sort.Strings(names)
	return names, nil
}

// Append adds records in order and returns the sequence number of the first.
// They are durable when it returns nil. All of them are kept or, on an error,
// none is acknowledged; after a storage failure an unacknowledged record may
// still turn up when the journal is opened again.
//
// The records are copied before Append waits; they stay the caller's.
//
// ctx is looked at before the append starts and not after: giving up on a
// write that may have happened would help nobody.
func (j *Journal) Append(ctx context.Context, records ...[]byte) (first uint64, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if len(records) == 0 {
		return 0, errors.New("append without a record")
	}
	size := 0
	for _, r := range records {
		size += len(r) + 4
		if len(r) > MaxRecord || size > 2*MaxRecord {
			return 0, fmt.Errorf("append %d bytes: %w (at most %d)", size, ErrTooLarge, MaxRecord)
		}
	}
	b, offset, leader, err := j.join(records, size)
	if err != nil {
		return 0, err
	}
	if leader {
		j.commit(b)
	}
	<-b.done
	if b.err != nil {
		return 0, fmt.Errorf("append to journal %s: %w", j.dir, b.err)
	}
	return b.first + uint64(offset), nil
}

// join puts records into the open batch, or opens one. Whoever opens a batch
// leads it: it must call commit.
func (j *Journal) join(records [][]byte, size int) (b *batch, offset int, leader bool, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case j.closed:
		return nil, 0, false, ErrClosed
	case j.stopped != nil:
		return nil, 0, false, j.stopped
	}
	if b = j.pending; b == nil || len(b.block)+size > maxBatch {
		b = &batch{block: newBlock(j.spare), done: make(chan struct{})}
		j.spare, j.pending, leader = nil, b, true
	}
	offset = b.count
	for _, r := range records {
		b.block = addRecord(b.block, r)
	}
	b.count += len(records)
	return b, offset, leader, nil
}

// commit writes b. While the leader of one batch waits for the disk, the next
// batch fills: that is the whole of group commit, and needs no goroutine.
func (j *Journal) commit(b *batch) {
	j.io.Lock()
	defer j.io.Unlock()
	// Whoever is about to append gets the processor first and joins: on a busy
	// machine the groups grow, on an idle one this costs nothing.
	runtime.Gosched()
	j.mu.Lock()
	if j.pending == b {
		j.pending = nil
	}
	head, stopped, closed := j.head, j.stopped, j.closed
	seg := j.segments[len(j.segments)-1]
	j.mu.Unlock()

	defer close(b.done)
	if closed {
		b.err = ErrClosed
		return
	}
	if stopped != nil {
		b.err = stopped
		return
	}
	if seg.size >= j.limit {
		if b.err = j.rotate(); b.err != nil {
			return
		}
		seg = j.segments[len(j.segments)-1]
	}
	block, next, err := seg.seal(j.chain, head, b.block, b.count)
	if err != nil {
		b.err = err
		return
	}
	if b.err = j.persist(block, seg.size); b.err != nil {
		return
	}
	b.first, b.block = head.Seq+1, nil

	j.mu.Lock()
	seg.mark(head.Seq+1, seg.size)
	seg.size += int64(len(block))
	j.head = next
	if cap(block) <= maxSpare {
		j.spare = block
	}
	close(j.grew)
	j.grew = make(chan struct{})
	j.mu.Unlock()
}

// persist writes block at offset and waits until it is on stable storage. A
// write that did not go through is taken back, so that the next one starts at
// the same place; an fsync that did not go through stops the journal, because
// the kernel may drop the pages and report success the next time.
func (j *Journal) persist(block []byte, offset int64) error {
	end := offset + int64(len(block))
	if end > j.reserved {
		j.enlarge(end)
	}
	if _, err := j.write(j.active, block, offset); err != nil {
		if terr := j.active.Truncate(offset); terr != nil {
			return j.stop(errors.Join(err, terr))
		}
		j.reserved = offset
		return err
	}
	j.reserved = max(j.reserved, end)
	if err := j.sync(j.active); err != nil {
		return j.stop(err)
	}
	return nil
}

// enlarge fills the file with zeros from offset to a multiple of reserve. Where
// there is no room for that, there may still be some for the block.
func (j *Journal) enlarge(offset int64) {
	for end := (offset/reserve + 1) * reserve; offset < end; {
		n, err := j.active.WriteAt(zeros[:min(end-offset, int64(len(zeros)))], offset)
		if err != nil {
			return
		}
		offset += int64(n)
		j.reserved = offset
	}
}

// trim takes the reserve off the active file, for good.
func (j *Journal) trim() error {
	size := j.segments[len(j.segments)-1].size
	if j.reserved == size {
		return nil
	}
	if err := j.active.Truncate(size); err != nil {
		return err
	}
	j.reserved = size
	return j.sync(j.active)
}

func (j *Journal) stop(cause error) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.stopped = fmt.Errorf("%w: %w", ErrStopped, cause)
	return j.stopped
}

// rotate starts a new segment after the current head. The caller holds io, or
// is Open.
func (j *Journal) rotate() error {
	if j.active != nil { // Only the newest segment may end in zeros.
		if err := j.trim(); err != nil {
			return fmt.Errorf("finish segment: %w", err)
		}
	}
	j.mu.Lock()
	head := j.head
	j.mu.Unlock()
	var salt [32]byte
	if _, err := rand.Read(salt[:]); err != nil {
		return err
	}
	s := newSegment(j.dir, head, salt, j.keys)
	f, err := os.OpenFile(s.path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("start segment: %w", err)
	}
	undo := func(err error) error {
		_ = f.Close()
		_ = os.Remove(s.path)
		return fmt.Errorf("start segment %s: %w", s.name(), err)
	}
	if _, err := j.write(f, s.header(j.keys), 0); err != nil {
		return undo(err)
	}
	if err := j.sync(f); err != nil {
		return undo(err)
	}
	if err := syncDir(j.dir); err != nil {
		return undo(err)
	}
	if j.active != nil {
		_ = j.active.Close() // everything in it was fsynced
	}
	j.active, j.reserved = f, headerSize
	j.mu.Lock()
	j.segments = append(j.segments, s)
	j.mu.Unlock()
	return nil
}

// makeDir makes dir and sees to it that the entry of each directory it made is
// durable, since a record in a directory that is lost would be lost too.
func makeDir(dir string) error {
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		return nil
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := makeDir(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(parent)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	return errors.Join(err, d.Close())
}

// Last is the sequence number of the newest durable record, 0 if there is none.
func (j *Journal) Last() uint64 { return j.Head().Seq }

// Head is the newest durable record and its chain value. Kept in another
// place, it proves later that the journal was not cut off or rewritten.
func (j *Journal) Head() Head {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.head
}

// First is the sequence number of the oldest record that is still there; if
// there is none it is Last()+1.
func (j *Journal) First() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.segments[0].first
}

// Size is how many bytes the journal takes on disk.
func (j *Journal) Size() int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	var n int64
	for _, s := range j.segments {
		n += s.size
	}
	return n
}

// Wait returns nil when Last() > after, or an error when ctx ends or the
// journal is closed first.
func (j *Journal) Wait(ctx context.Context, after uint64) error {
	for {
		j.mu.Lock()
		last, grew, closed := j.head.Seq, j.grew, j.closed
		j.mu.Unlock()
		if last > after {
			return nil
		}
		if closed {
			return ErrClosed
		}
		select {
		case <-grew:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Drop removes segments all of whose records are before the given number, for
// retention and after a checkpoint. Some older records may stay. Records from
// before on are untouched.
func (j *Journal) Drop(before uint64) error {
	j.io.Lock()
	defer j.io.Unlock()
	j.mu.Lock()
	if j.closed {
		j.mu.Unlock()
		return ErrClosed
	}
	active := j.segments[len(j.segments)-1]
	whole := j.head.Seq < before && j.head.Seq >= active.first
	j.mu.Unlock()
	if whole {
		if err := j.rotate(); err != nil {
			return err
		}
	}
	j.mu.Lock()
	n := 0
	for n+1 < len(j.segments) && j.segments[n+1].first <= before {
		n++
	}
	gone := j.segments[:n]
	j.segments = append([]*segment(nil), j.segments[n:]...)
	j.mu.Unlock()
	var errs []error
	for _, s := range gone { // oldest first: a crash in between leaves a suffix
		if err := os.Remove(s.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	if n > 0 {
		errs = append(errs, syncDir(j.dir))
	}
	return errors.Join(errs...)
}

// Close waits for the append in progress and gives the directory up. Later
// calls return ErrClosed; calling Close again returns nil.
func (j *Journal) Close() error {
	j.io.Lock()
	defer j.io.Unlock()
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return nil
	}
	j.closed = true
	close(j.grew)
	j.grew = make(chan struct{})
	var err error
	if j.stopped == nil { // else what is on disk is for Open to find out
		err = j.trim()
	}
	return errors.Join(err, j.active.Close(), j.release())
}
