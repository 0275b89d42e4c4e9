package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
)

var testKey = [32]byte{1, 2, 3}

func open(t testing.TB, dir string, o Options) *Journal {
	t.Helper()
	if o.Key == ([32]byte{}) {
		o.Key = testKey
	}
	j, err := Open(t.Context(), dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j
}

func appendN(t testing.TB, j *Journal, n int) {
	t.Helper()
	for range n {
		want := j.Last() + 1
		got, err := j.Append(t.Context(), fmt.Appendf(nil, "record %d", want))
		if err != nil || got != want {
			t.Fatalf("append: got %d, %v; want %d", got, err, want)
		}
	}
}

func readAll(t testing.TB, j *Journal, from uint64) []uint64 {
	t.Helper()
	var seqs []uint64
	err := j.Read(t.Context(), from, func(seq uint64, record []byte) error {
		if want := fmt.Sprintf("record %d", seq); string(record) != want {
			return fmt.Errorf("record %d: got %q", seq, record)
		}
		seqs = append(seqs, seq)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return seqs
}

func TestRecordsComeBackInOrderAcrossSegmentsAndReopening(t *testing.T) {
	dir := t.TempDir()
	for range 4 {
		j := open(t, dir, Options{SegmentBytes: 700})
		appendN(t, j, 25)
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
	j := open(t, dir, Options{SegmentBytes: 700})
	if got := j.Last(); got != 100 {
		t.Fatalf("Last: got %d, want 100", got)
	}
	for _, from := range []uint64{0, 1, 2, 49, 50, 99, 100, 101} {
		got := readAll(t, j, from)
		first := max(from, 1)
		if want := int(101 - first); len(got) != want || want > 0 && (got[0] != first || got[len(got)-1] != 100) {
			t.Errorf("from %d: got %d records %v", from, len(got), got)
		}
	}
	if err := j.Verify(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestReadingFromTheMiddleOfALargeSegmentSkipsToIt(t *testing.T) {
	j := open(t, t.TempDir(), Options{})
	big := make([]byte, 20<<10)
	for range 40 {
		if _, err := j.Append(t.Context(), big); err != nil {
			t.Fatal(err)
		}
	}
	spans, _, err := j.spans(35)
	if err != nil || len(spans) != 1 || spans[0].start.seq < 30 {
		t.Fatalf("got %+v, %v; want a start near record 35", spans, err)
	}
	n := 0
	if err := j.Read(t.Context(), 35, func(uint64, []byte) error { n++; return nil }); err != nil || n != 6 {
		t.Fatalf("got %d records, %v; want 6", n, err)
	}
}

func TestConcurrentAppendsShareFsyncs(t *testing.T) {
	j := open(t, t.TempDir(), Options{})
	syncs := 0
	real := j.sync
	j.sync = func(f *os.File) error { syncs++; return real(f) }
	// The disk is held busy until every appender has queued up.
	j.io.Lock()
	var wg sync.WaitGroup
	seen := make([]uint64, 64)
	for i := range seen {
		wg.Go(func() {
			seq, err := j.Append(context.Background(), fmt.Appendf(nil, "a%d", i), fmt.Appendf(nil, "b%d", i))
			if err != nil {
				t.Error(err)
			}
			seen[i] = seq
		})
	}
	for {
		j.mu.Lock()
		n := 0
		if j.pending != nil {
			n = j.pending.count
		}
		j.mu.Unlock()
		if n == 2*len(seen) {
			break
		}
	}
	j.io.Unlock()
	wg.Wait()
	if syncs != 1 {
		t.Errorf("got %d fsyncs for %d concurrent appends, want 1", syncs, len(seen))
	}
	records := map[uint64]string{}
	if err := j.Read(t.Context(), 0, func(seq uint64, r []byte) error { records[seq] = string(r); return nil }); err != nil {
		t.Fatal(err)
	}
	for i, seq := range seen {
		if records[seq] != fmt.Sprintf("a%d", i) || records[seq+1] != fmt.Sprintf("b%d", i) {
			t.Errorf("append %d was told %d, where %q and %q lie", i, seq, records[seq], records[seq+1])
		}
	}
}

func TestNothingRestsInPlaintext(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, Options{SegmentBytes: 1000})
	secret := []byte("Mustermann, born 1964-08-12")
	for range 50 {
		if _, err := j.Append(t.Context(), secret); err != nil {
			t.Fatal(err)
		}
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*"))
	if len(files) < 3 {
		t.Fatalf("only %d files", len(files))
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(b, secret) || bytes.Contains(b, []byte("Muster")) {
			t.Errorf("%s holds the record in the clear", name)
		}
		if info, _ := os.Stat(name); info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, want 0600", name, info.Mode().Perm())
		}
	}
}

func TestAWrongKeyIsSaidToBeOne(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, Options{})
	appendN(t, j, 3)
	_ = j.Close()
	if _, err := Open(t.Context(), dir, Options{Key: [32]byte{9}}); !errors.Is(err, ErrKey) {
		t.Fatalf("got %v, want ErrKey", err)
	}
	if got := readAll(t, open(t, dir, Options{}), 0); len(got) != 3 {
		t.Fatalf("the refused key harmed the journal: got %v", got)
	}
}

func TestASecondOpenerIsRefused(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, Options{})
	if _, err := Open(t.Context(), dir, Options{Key: testKey}); !errors.Is(err, ErrLocked) {
		t.Fatalf("got %v, want ErrLocked", err)
	}
	_ = j.Close()
	open(t, dir, Options{})
}

// TestEveryFlippedBitIsFound flips each bit of a small journal of several
// segments and expects Open or Verify to name the place.
func TestEveryFlippedBitIsFound(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, Options{SegmentBytes: 300})
	appendN(t, j, 6)
	_ = j.Close()
	names, err := segmentNames(dir)
	if err != nil || len(names) < 2 {
		t.Fatalf("got %v, %v", names, err)
	}
	for _, name := range names {
		path := filepath.Join(dir, name)
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for bit := range len(whole) * 8 {
			if bit%8 != bit/8%8 { // one bit of every byte, all eight in turn
				continue
			}
			bad := bytes.Clone(whole)
			bad[bit/8] ^= 1 << (bit % 8)
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			var broken *BreakError
			if err := openAndVerify(t.Context(), dir); !errors.As(err, &broken) || broken.Segment != name || broken.Seq == 0 {
				t.Fatalf("%s, byte %d of %d: got %v, want a break there", name, bit/8, len(whole), err)
			}
		}
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := openAndVerify(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
}

// openAndVerify asks Check first, which must come to the same verdict.
func openAndVerify(ctx context.Context, dir string) error {
	_, checked := Check(ctx, dir, testKey)
	j, err := Open(ctx, dir, Options{Key: testKey})
	if err == nil {
		err = errors.Join(j.Verify(ctx), j.Close())
	}
	if (err == nil) != (checked == nil) {
		return fmt.Errorf("Open and Verify say %v, Check says %v", err, checked)
	}
	return checked
}

func TestATornTailIsCutOffAtEveryLength(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, Options{})
	appendN(t, j, 3)
	size := j.Size()
	appendN(t, j, 1)
	_ = j.Close()
	path := filepath.Join(dir, "00000000000000000001.journal")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, content []byte) {
		t.Helper()
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		torn := int64(len(bytes.TrimRight(content[size:], "\x00")))
		if c, err := Check(t.Context(), dir, testKey); err != nil || c.First != 1 || c.Head.Seq != 3 || c.Torn != torn {
			t.Fatalf("%s: Check: got %+v, %v, want 3 records and %d torn bytes", what, c, err, torn)
		}
		j, err := Open(t.Context(), dir, Options{Key: testKey})
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		defer j.Close()
		if _, err := Check(t.Context(), dir, testKey); !errors.Is(err, ErrLocked) {
			t.Fatalf("%s: Check of an open journal: got %v, want ErrLocked", what, err)
		}
		if got := j.Last(); got != 3 {
			t.Fatalf("%s: Last: got %d, want 3", what, got)
		}
		appendN(t, j, 2)
		if got := readAll(t, j, 0); len(got) != 5 {
			t.Fatalf("%s: got %v after two more appends", what, got)
		}
	}
	for cut := size; cut < int64(len(whole)); cut++ {
		check(fmt.Sprintf("cut at %d", cut), whole[:cut])
	}
	check("a tail of zeros", append(bytes.Clone(whole[:size]), make([]byte, 4096)...))
	check("a block whose end was never written", append(bytes.Clone(whole[:len(whole)-20]), make([]byte, 20)...))
}

// A machine that loses power in the middle of a write has some sectors of it on
// disk and others not, in any order.
func TestAnyLossOfSectorsOfTheLastWriteIsATornTail(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, Options{})
	appendN(t, j, 3)
	size := j.Size()
	if _, err := j.Append(t.Context(), make([]byte, 2000)); err != nil {
		t.Fatal(err)
	}
	end := j.Size()
	path := filepath.Join(dir, "00000000000000000001.journal")
	whole, err := os.ReadFile(path) // with its reserve
	if err != nil {
		t.Fatal(err)
	}
	if len(whole) != reserve || size/sectorSize != 0 || end/sectorSize != 4 {
		t.Fatalf("got a file of %d bytes, the last block from %d to %d", len(whole), size, end)
	}
	_ = j.Close()
	for lost := 1; lost < 1<<5; lost++ {
		content := bytes.Clone(whole)
		for sector := range 5 {
			if lost>>sector&1 != 0 {
				clear(content[max(int64(sector)*sectorSize, size) : (sector+1)*sectorSize])
			}
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := openAndVerify(t.Context(), dir); err != nil {
			t.Errorf("lost sectors %05b: %v", lost, err)
		}
		if c, err := Check(t.Context(), dir, testKey); err != nil || c.Head.Seq != 3 {
			t.Errorf("lost sectors %05b: got record %d, %v; want 3 records", lost, c.Head.Seq, err)
		}
	}
}

func TestASectorLostBeforeTheLastWriteIsABreak(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, Options{})
	for range 3 {
		if _, err := j.Append(t.Context(), make([]byte, 2000)); err != nil {
			t.Fatal(err)
		}
	}
	end := j.Size()
	path := filepath.Join(dir, "00000000000000000001.journal")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_ = j.Close()
	for sector := int64(1); sector < (end-2000)/sectorSize; sector++ {
		content := bytes.Clone(whole)
		clear(content[sector*sectorSize : (sector+1)*sectorSize])
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		var broken *BreakError
		if err := openAndVerify(t.Context(), dir); !errors.As(err, &broken) {
			t.Errorf("sector %d: got %v, want a break", sector, err)
		}
	}
}

func TestASegmentThatWasRemovedMovedOrCutIsNamed(t *testing.T) {
	build := func() (string, []string) {
		dir := t.TempDir()
		j := open(t, dir, Options{SegmentBytes: 300})
		appendN(t, j, 12)
		_ = j.Close()
		names, _ := segmentNames(dir)
		if len(names) < 4 {
			t.Fatalf("got %v", names)
		}
		return dir, names
	}
	for what, harm := range map[string]func(dir string, names []string) error{
		"removed": func(dir string, names []string) error { return os.Remove(filepath.Join(dir, names[1])) },
		"replaced by another": func(dir string, names []string) error {
			return os.Rename(filepath.Join(dir, names[2]), filepath.Join(dir, names[1]))
		},
		"cut by its last block": func(dir string, names []string) error {
			path := filepath.Join(dir, names[1])
			info, err := os.Stat(path)
			if err != nil {
				return err
			}
			return os.Truncate(path, info.Size()-int64(blockHead+4+len("record 4")+tagSize))
		},
	} {
		dir, names := build()
		if err := harm(dir, names); err != nil {
			t.Fatal(err)
		}
		var broken *BreakError
		if err := openAndVerify(t.Context(), dir); !errors.As(err, &broken) {
			t.Errorf("%s: got %v, want a BreakError", what, err)
		}
	}
}

func TestAFullDiskRefusesNewRecordsAndKeepsTheOldOnes(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, Options{})
	appendN(t, j, 2)
	real := j.write
	j.write = func(f *os.File, b []byte, off int64) (int, error) {
		n, _ := real(f, b[:len(b)/2], off)
		return n, syscall.ENOSPC
	}
	if _, err := j.Append(t.Context(), make([]byte, 1000)); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("got %v, want ENOSPC", err)
	}
	if got := readAll(t, j, 0); len(got) != 2 {
		t.Fatalf("got %v", got)
	}
	j.write = real
	appendN(t, j, 1)
	_ = j.Close()
	if got := readAll(t, open(t, dir, Options{}), 0); len(got) != 3 {
		t.Fatalf("got %v", got)
	}
}

func TestAnFsyncThatWentWrongStopsTheJournal(t *testing.T) {
	j := open(t, t.TempDir(), Options{})
	appendN(t, j, 2)
	real := j.sync
	j.sync = func(*os.File) error { return syscall.EIO }
	if _, err := j.Append(t.Context(), []byte("x")); !errors.Is(err, ErrStopped) || !errors.Is(err, syscall.EIO) {
		t.Fatalf("got %v", err)
	}
	j.sync = real
	if _, err := j.Append(t.Context(), []byte("x")); !errors.Is(err, ErrStopped) {
		t.Fatalf("after the failure: got %v, want ErrStopped", err)
	}
	if got := readAll(t, j, 0); len(got) != 2 {
		t.Fatalf("got %v", got)
	}
}

func TestDropRemovesWholeSegmentsAndTheChainStillHolds(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, Options{SegmentBytes: 400})
	appendN(t, j, 30)
	if err := j.Drop(15); err != nil {
		t.Fatal(err)
	}
	first := j.First()
	if first < 2 || first > 15 {
		t.Fatalf("First: got %d, want 2..15", first)
	}
	if got := readAll(t, j, 0); got[0] != first || got[len(got)-1] != 30 {
		t.Fatalf("got %v", got)
	}
	if err := j.Drop(31); err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, j, 0); len(got) != 0 || j.First() != 31 {
		t.Fatalf("got %v, first %d", got, j.First())
	}
	appendN(t, j, 1)
	_ = j.Close()
	j = open(t, dir, Options{})
	if got := readAll(t, j, 0); len(got) != 1 || got[0] != 31 {
		t.Fatalf("got %v", got)
	}
}

func TestDroppingBehindAReaderIsNoBreak(t *testing.T) {
	j := open(t, t.TempDir(), Options{SegmentBytes: 400})
	appendN(t, j, 30)
	var got []uint64
	err := j.Read(t.Context(), 0, func(seq uint64, _ []byte) error {
		got = append(got, seq)
		if seq == 1 {
			return j.Drop(20)
		}
		return nil
	})
	if err != nil || got[len(got)-1] != 30 || len(got) > 20 {
		t.Fatalf("got %v, %v", got, err)
	}
	files, err := filepath.Glob(filepath.Join(j.dir, "*"+segmentSuffix))
	if err != nil || os.Remove(files[0]) != nil {
		t.Fatal(err)
	}
	var broken *BreakError
	if err := j.Verify(t.Context()); !errors.As(err, &broken) {
		t.Fatalf("a segment that was not dropped is gone: got %v, want a BreakError", err)
	}
}

func TestWaitReturnsWithTheNextRecord(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		j, err := Open(t.Context(), dir, Options{Key: testKey})
		if err != nil {
			t.Fatal(err)
		}
		got := make(chan error, 1)
		go func() { got <- j.Wait(t.Context(), 0) }()
		synctest.Wait()
		select {
		case err := <-got:
			t.Fatalf("returned before a record: %v", err)
		default:
		}
		appendN(t, j, 1)
		if err := <-got; err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		go func() { got <- j.Wait(ctx, 1) }()
		synctest.Wait()
		cancel()
		if err := <-got; !errors.Is(err, context.Canceled) {
			t.Fatalf("got %v", err)
		}
		go func() { got <- j.Wait(t.Context(), 1) }()
		synctest.Wait()
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-got; !errors.Is(err, ErrClosed) {
			t.Fatalf("got %v", err)
		}
	})
}

func TestWhatCannotBeAppendedIsRefused(t *testing.T) {
	j := open(t, t.TempDir(), Options{})
	if _, err := j.Append(t.Context(), make([]byte, MaxRecord+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v, want ErrTooLarge", err)
	}
	if _, err := j.Append(t.Context()); err == nil {
		t.Error("an append of nothing was accepted")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := j.Append(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if _, err := j.Append(t.Context(), nil); err != nil {
		t.Errorf("an empty record: %v", err)
	}
	_ = j.Close()
	if _, err := j.Append(t.Context(), nil); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v, want ErrClosed", err)
	}
}

func FuzzASegmentFileNeverPanics(f *testing.F) {
	dir := f.TempDir()
	j, err := Open(f.Context(), dir, Options{Key: testKey})
	if err != nil {
		f.Fatal(err)
	}
	for i := range 3 {
		if _, err := j.Append(f.Context(), fmt.Appendf(nil, "record %d", i+1)); err != nil {
			f.Fatal(err)
		}
	}
	_ = j.Close()
	whole, err := os.ReadFile(filepath.Join(dir, "00000000000000000001.journal"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:headerSize])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, content []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "00000000000000000001.journal"), content, 0o600); err != nil {
			t.Fatal(err)
		}
		j, err := Open(t.Context(), dir, Options{Key: testKey})
		if err != nil {
			return
		}
		defer j.Close()
		if err := j.Verify(t.Context()); err != nil {
			t.Fatalf("opened, but: %v", err)
		}
		if !bytes.HasPrefix(whole, content) && j.Last() > 3 {
			t.Fatalf("invented %d records", j.Last())
		}
	})
}
