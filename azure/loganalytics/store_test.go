package loganalytics

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"verdant/internal/telemetry"
)

// clock is a clock that tests move.
type clock struct{ n atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.n.Store(time.Date(2026, 11, 24, 12, 30, 0, 0, time.UTC).UnixNano())
	return c
}
func (c *clock) now() time.Time      { return time.Unix(0, c.n.Load()).UTC() }
func (c *clock) add(d time.Duration) { c.n.Add(int64(d)) }

func storeIn(t testing.TB, dir string, c *clock, limit int64) *store {
	t.Helper()
	tables, err := schemas()
	if err != nil {
		t.Fatal(err)
	}
	s, err := openStore(context.Background(), storeOptions{dir: dir, id: "11111111-2222-3333-4444-555555555555", key: [32]byte{7}, tables: tables, limit: limit, now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.close() })
	return s
}

// rowsOf reads a table back: the named columns of every row, as text; null is
// "∅".
func rowsOf(t testing.TB, s *store, name string, r timeRange, columns ...string) []string {
	t.Helper()
	ts := s.tables[name]
	var at []int
	for _, c := range columns {
		at = append(at, ts.schema.index[c])
	}
	var out []string
	err := s.scan(t.Context(), ts, at, r, &scanStats{}, func(b batch) error {
		for i := range b.rows {
			var cells []string
			for _, a := range at {
				switch c := b.columns[a]; {
				case c == nil || c.isNull(i):
					cells = append(cells, "∅")
				case c.kind == kindDateTime:
					cells = append(cells, fromTicks(c.ints[i]).Format(time.RFC3339Nano))
				case c.ints != nil:
					cells = append(cells, fmt.Sprint(c.ints[i]))
				case c.floats != nil:
					cells = append(cells, fmt.Sprint(c.floats[i]))
				default:
					cells = append(cells, c.str(i))
				}
			}
			out = append(out, strings.Join(cells, "|"))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func emit(t testing.TB, s *store, name string, rows ...telemetry.Row) {
	t.Helper()
	if err := s.emit(t.Context(), name, rows); err != nil {
		t.Fatal(err)
	}
}

func equal(t testing.TB, what string, got, want []string) {
	t.Helper()
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("%s: got\n%s\nwant\n%s", what, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestRowsAreTheSameHotSealedAndReopened(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	s := storeIn(t, dir, c, 1<<20)
	at := c.now().Add(-time.Minute)
	emit(t, s, "AZKVAuditLogs",
		telemetry.Row{"TimeGenerated": at, "OperationName": "KeySign", "DurationMs": 12, "IsRbacAuthorized": true, "Identity": map[string]any{"oid": "x"}, "_ResourceId": "/SUBSCRIPTIONS/S1/V", "_SubscriptionId": "S1", "TenantId": "mine"},
		telemetry.Row{"OperationName": "KeyGet", "HttpStatusCode": 200})
	want := []string{
		at.Format(time.RFC3339Nano) + `|KeySign|12|∅|1|{"oid":"x"}|/subscriptions/s1/v|s1`,
		c.now().Format(time.RFC3339Nano) + "|KeyGet|∅|200|∅|∅||",
	}
	columns := []string{"TimeGenerated", "OperationName", "DurationMs", "HttpStatusCode", "IsRbacAuthorized", "Identity", "_ResourceId", "_SubscriptionId"}
	equal(t, "hot", rowsOf(t, s, "AZKVAuditLogs", allTime, columns...), want)
	_ = s.close()
	s = storeIn(t, dir, c, 1<<20)
	equal(t, "replayed", rowsOf(t, s, "AZKVAuditLogs", allTime, columns...), want)
	if err := s.seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	equal(t, "sealed", rowsOf(t, s, "AZKVAuditLogs", allTime, columns...), want)
	if s.wal.First() <= s.wal.Last() || s.hot.Load() != 0 {
		t.Errorf("after sealing the log holds %d to %d and memory %d bytes", s.wal.First(), s.wal.Last(), s.hot.Load())
	}
	emit(t, s, "AZKVAuditLogs", telemetry.Row{"OperationName": "KeySign"})
	_ = s.close()
	s = storeIn(t, dir, c, 1<<20)
	equal(t, "reopened", rowsOf(t, s, "AZKVAuditLogs", allTime, "OperationName"), []string{"KeySign", "KeyGet", "KeySign"})
}

func TestValuesAreConvertedAsTheIngestionDoes(t *testing.T) {
	s := storeIn(t, t.TempDir(), newClock(), 1<<20)
	for _, test := range []struct {
		what, table, column string
		in                  any
		want                string
	}{
		{"a number for a string", "Usage", "DataType", 42, "42"},
		{"a string for a long", "Usage", "TotalBatches", " 42 ", "42"},
		{"a real for a long is cut", "Usage", "TotalBatches", 42.9, "42"},
		{"a string with a fraction for a long is null", "Usage", "TotalBatches", "42.9", "∅"},
		{"a word for a long is null", "Usage", "TotalBatches", "many", "∅"},
		{"over an int is null", "LAQueryLogs", "ResponseCode", int64(math.MaxInt32) + 1, "∅"},
		{"an int for a real", "Usage", "Quantity", 3, "3"},
		{"a string for a bool", "Usage", "IsBillable", "True", "1"},
		{"an ISO string for a datetime", "Usage", "StartTime", "2026-11-24T10:00:00.1234567+01:00", "2026-11-24T09:00:00.1234567Z"},
		{"a guid in capitals without dashes", "Operation", "MG", "AAAAAAAABBBBCCCCDDDDEEEEEEEEEEEE", "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"},
		{"no guid is null", "Operation", "MG", "x", "∅"},
		{"plain text for a dynamic", "ContainerLogV2", "LogMessage", `say "hi"`, `"say \"hi\""`},
		{"JSON text for a dynamic", "ContainerLogV2", "LogMessage", ` {"a": 1} `, `{"a":1}`},
		{"broken JSON text for a dynamic is text", "ContainerLogV2", "LogMessage", `{"a": `, `"{\"a\": "`},
		{"nothing", "Usage", "TotalBatches", nil, "∅"},
		{"a string too long is cut at a rune", "Usage", "DataType", strings.Repeat("ä", maxField), strings.Repeat("ä", maxField/2)},
		{"invalid UTF-8 is repaired", "Usage", "DataType", "a\xffb", "a\uFFFDb"},
	} {
		emit(t, s, test.table, telemetry.Row{test.column: test.in})
		got := rowsOf(t, s, test.table, allTime, test.column)
		if got[len(got)-1] != test.want {
			t.Errorf("%s: got %.80s, want %.80s", test.what, got[len(got)-1], test.want)
		}
	}
}

func TestWhatDoesNotFitIsRefusedByName(t *testing.T) {
	s := storeIn(t, t.TempDir(), newClock(), 1<<20)
	for want, test := range map[string]struct {
		table string
		row   telemetry.Row
	}{
		`"Nonsense"`:           {"Nonsense", telemetry.Row{}},
		`"Colour"`:             {"Usage", telemetry.Row{"DataType": "x", "Colour": "red"}},
		`"datatype"`:           {"Usage", telemetry.Row{"datatype": "x"}},
		`"_BilledSize" is fil`: {"Usage", telemetry.Row{"_BilledSize": 1}},
	} {
		err := s.emit(t.Context(), test.table, []telemetry.Row{{}, test.row})
		if err == nil || !strings.Contains(err.Error(), want) || !errors.Is(err, ErrTable) && !errors.Is(err, ErrColumn) {
			t.Errorf("got %v, want an error that says %s", err, want)
		}
	}
	if got := rowsOf(t, s, "Usage", allTime, "DataType"); len(got) != 0 {
		t.Errorf("a refused call left rows: %v", got)
	}
}

func TestTimesThatCannotBeAreReplacedByTheArrival(t *testing.T) {
	c := newClock()
	s := storeIn(t, t.TempDir(), c, 1<<20)
	arrival := c.now().Format(time.RFC3339Nano)
	for _, test := range []struct {
		given any
		want  string
	}{
		{c.now().Add(-47 * time.Hour), c.now().Add(-47 * time.Hour).Format(time.RFC3339Nano)},
		{c.now().Add(-49 * time.Hour), arrival},
		{c.now().Add(23 * time.Hour), c.now().Add(23 * time.Hour).Format(time.RFC3339Nano)},
		{c.now().Add(25 * time.Hour), arrival},
		{"yesterday", arrival},
	} {
		emit(t, s, "Heartbeat", telemetry.Row{"TimeGenerated": test.given})
		got := rowsOf(t, s, "Heartbeat", allTime, "TimeGenerated", "_TimeReceived")
		if got[len(got)-1] != test.want+"|"+arrival {
			t.Errorf("%v: got %s, want %s", test.given, got[len(got)-1], test.want)
		}
	}
}

func TestOldSegmentsGoAndSegmentsOutsideTheTimespanAreNotOpened(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	s := storeIn(t, dir, c, 1<<20)
	w := &workspace{Workspace{RetentionDays: 30, ResourceID: "/subscriptions/s/w"}, s}
	start := c.now()
	for range 3 {
		emit(t, s, "Heartbeat", telemetry.Row{"Computer": c.now().Format("0102")})
		c.add(10 * 24 * time.Hour)
		if err := w.maintain(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	stats := &scanStats{}
	ts := s.tables["Heartbeat"]
	r := timeRange{ticks(start.Add(9 * 24 * time.Hour)), ticks(start.Add(11 * 24 * time.Hour))}
	n := 0
	if err := s.scan(t.Context(), ts, []int{0}, r, stats, func(b batch) error { n += b.rows; return nil }); err != nil || n != 1 || stats.segmentsRead.Load() != 1 {
		t.Errorf("got %d rows from %d segments, %v; want one of each", n, stats.segmentsRead.Load(), err)
	}
	equal(t, "all", rowsOf(t, s, "Heartbeat", allTime, "Computer"), []string{"1124", "1204", "1214"})
	c.add(24 * time.Hour)
	if err := w.maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	equal(t, "after 31 days", rowsOf(t, s, "Heartbeat", allTime, "Computer"), []string{"1204", "1214"})
	_ = s.close()
	s = storeIn(t, dir, c, 1<<20)
	equal(t, "reopened", rowsOf(t, s, "Heartbeat", allTime, "Computer"), []string{"1204", "1214"})
}

func TestUsageIsReportedOnceAnHourAndNotAgainAfterACrash(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	s := storeIn(t, dir, c, 1<<20)
	w := &workspace{Workspace{RetentionDays: 30, ResourceID: "/subscriptions/s/w"}, s}
	emit(t, s, "ContainerLogV2", telemetry.Row{"PodName": "p", "LogMessage": "one"}, telemetry.Row{"PodName": "p", "LogMessage": "two"})
	emit(t, s, "Heartbeat", telemetry.Row{"Computer": "c"})
	emit(t, s, "Usage", telemetry.Row{"Quantity": "a lot"})
	if err := w.maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := rowsOf(t, s, "Usage", allTime, "DataType"); len(got) != 1 {
		t.Fatalf("reported before the hour was over: %v", got)
	}
	c.add(31 * time.Minute) // 13:01
	if err := s.report(t.Context(), w.ResourceID); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"|∅|∅",
		"ContainerLogV2|2026-11-24T12:00:00Z|1",
		"Heartbeat|2026-11-24T12:00:00Z|0",
		"Usage|2026-11-24T12:00:00Z|0",
	}
	equal(t, "usage", rowsOf(t, s, "Usage", allTime, "DataType", "StartTime", "IsBillable"), want)
	if got := rowsOf(t, s, "Operation", allTime, "Detail"); len(got) != 1 || !strings.Contains(got[0], "Quantity") {
		t.Errorf("got %v, want an Operation row about Quantity", got)
	}
	_ = s.close()
	s = storeIn(t, dir, c, 1<<20)
	if err := s.report(t.Context(), w.ResourceID); err != nil {
		t.Fatal(err)
	}
	equal(t, "after a crash", rowsOf(t, s, "Usage", allTime, "DataType", "StartTime", "IsBillable"), want)
}

func TestManyRowsKeepTheirColumnsTogether(t *testing.T) {
	c := newClock()
	s := storeIn(t, t.TempDir(), c, 1<<30)
	const total = 3*groupRows + 17
	for from := 0; from < total; from += 4096 {
		var rows []telemetry.Row
		for i := from; i < min(from+4096, total); i++ {
			r := telemetry.Row{"Computer": fmt.Sprintf("c%d", i), "CounterValue": float64(i)}
			if i%3 == 0 {
				r["ObjectName"] = fmt.Sprintf("o%d", i%7)
			}
			rows = append(rows, r)
		}
		emit(t, s, "Perf", rows...)
	}
	if err := s.seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := rowsOf(t, s, "Perf", allTime, "Computer", "CounterValue", "ObjectName")
	if len(got) != total {
		t.Fatalf("got %d rows, want %d", len(got), total)
	}
	for i, g := range got {
		o := ""
		if i%3 == 0 {
			o = fmt.Sprintf("o%d", i%7)
		}
		if want := fmt.Sprintf("c%d|%v|%s", i, float64(i), o); g != want {
			t.Fatalf("row %d: got %s, want %s", i, g, want)
		}
	}
}

func TestNothingRestsInPlaintextAndDamageIsNamed(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	s := storeIn(t, dir, c, 1<<20)
	secret := "citizen-1964-08-12"
	emit(t, s, "ContainerLogV2", telemetry.Row{"LogMessage": secret})
	if err := s.seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	emit(t, s, "ContainerLogV2", telemetry.Row{"LogMessage": secret})
	var segment string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if bytes.Contains(b, []byte(secret[:7])) || bytes.Contains(b, []byte("LogMessage")) {
			t.Errorf("%s holds rows in the clear", path)
		}
		if strings.HasSuffix(path, segmentSuffix) {
			segment = path
		}
		return nil
	})
	if err != nil || segment == "" {
		t.Fatalf("%v, segment %q", err, segment)
	}
	whole, err := os.ReadFile(segment)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int{0, 10, len(segmentMagic) + 33, len(whole) / 2, len(whole) - trailerSize - 1, len(whole) - 20, len(whole) - 1} {
		bad := bytes.Clone(whole)
		bad[at] ^= 0x10
		if err := os.WriteFile(segment, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		_ = s.close()
		s = storeIn(t, dir, c, 1<<20)
		var broken *SegmentError
		ts := s.tables["ContainerLogV2"]
		every := make([]int, len(ts.schema.columns))
		for i := range every {
			every[i] = i
		}
		err := s.scan(t.Context(), ts, every, allTime, &scanStats{}, func(batch) error { return nil })
		if !errors.As(err, &broken) || broken.Table != "ContainerLogV2" {
			t.Errorf("byte %d: got %v, want a SegmentError", at, err)
		}
	}
}

func TestASegmentFitsItsPlaceOnly(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	s := storeIn(t, dir, c, 1<<20)
	emit(t, s, "Heartbeat", telemetry.Row{"Computer": "a"})
	if err := s.seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	own := s.tables["Heartbeat"].segments[0].path
	moved := filepath.Join(s.tableDir("Perf"), filepath.Base(own))
	if err := errors.Join(os.MkdirAll(filepath.Dir(moved), 0o700), os.Rename(own, moved), s.close()); err != nil {
		t.Fatal(err)
	}
	s = storeIn(t, dir, c, 1<<20)
	var broken *SegmentError
	err := s.scan(t.Context(), s.tables["Perf"], nil, allTime, &scanStats{}, func(batch) error { return nil })
	if !errors.As(err, &broken) || broken.Table != "Perf" {
		t.Errorf("a segment in another table's place: got %v", err)
	}
}

func TestAFailedSealKeepsTheRowsAndIsTriedAgain(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	s := storeIn(t, dir, c, 1<<20)
	emit(t, s, "Heartbeat", telemetry.Row{"Computer": "a"})
	block := filepath.Join(dir, "segments")
	if err := os.WriteFile(block, nil, 0o600); err != nil { // a file where the directory belongs
		t.Fatal(err)
	}
	if err := s.seal(t.Context()); err == nil {
		t.Fatal("sealed into a file that is no directory")
	}
	emit(t, s, "Heartbeat", telemetry.Row{"Computer": "b"})
	equal(t, "after the failure", rowsOf(t, s, "Heartbeat", allTime, "Computer"), []string{"a", "b"})
	if !s.due() {
		t.Error("sealing is not due again")
	}
	if err := os.Remove(block); err != nil {
		t.Fatal(err)
	}
	if err := s.seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	equal(t, "after it worked", rowsOf(t, s, "Heartbeat", allTime, "Computer"), []string{"a", "b"})
	_ = s.close()
	s = storeIn(t, dir, c, 1<<20)
	equal(t, "reopened", rowsOf(t, s, "Heartbeat", allTime, "Computer"), []string{"a", "b"})
}

func TestMemoryIsBoundedWithoutAnyoneSealing(t *testing.T) {
	s := storeIn(t, t.TempDir(), newClock(), 64<<10)
	for range 200 {
		emit(t, s, "ContainerLogV2", telemetry.Row{"LogMessage": strings.Repeat("x", 8<<10)})
		if got := s.hot.Load(); got > 5*64<<10 {
			t.Fatalf("%d bytes in memory", got)
		}
	}
	if got := rowsOf(t, s, "ContainerLogV2", allTime, "Type"); len(got) != 200 {
		t.Errorf("got %d rows, want 200", len(got))
	}
}

func FuzzARecordNeverPanics(f *testing.F) {
	tables, err := schemas()
	if err != nil {
		f.Fatal(err)
	}
	now := newClock().now()
	in, err := tables["Heartbeat"].check([]telemetry.Row{{"Computer": "c", "RemoteIPLatitude": 1.5, "IsGatewayInstalled": true}}, now)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(encodeRecord(tables["Heartbeat"], ticks(now), in.rows))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := decodeRecord(b, tables)
		if err != nil || d.table == nil {
			return
		}
		again, err := decodeRecord(encodeRecord(d.table, d.received, d.rows), tables)
		if err != nil || len(again.rows) != len(d.rows) {
			t.Fatalf("round trip: %v, %d rows of %d", err, len(again.rows), len(d.rows))
		}
	})
}

func FuzzAColumnNeverPanics(f *testing.F) {
	f.Add(byte(kindString), 3, encodeColumn(&column{kind: kindString, n: 3, strs: []string{"a", "b", "a"}}))
	f.Add(byte(kindLong), 2, encodeColumn(&column{kind: kindLong, n: 2, ints: []int64{5, -5}, null: []bool{false, true}}))
	f.Fuzz(func(t *testing.T, k byte, n int, b []byte) {
		if n < 1 || n > groupRows {
			return
		}
		c, err := decodeColumn(kind(k), n, b)
		if err == nil && len(c.ints)+len(c.floats)+len(c.strs)+len(c.codes) != n {
			t.Fatalf("not %d values", n)
		}
	})
}

func TestADaysSegmentsAreMergedWhenItIsOverAndNothingIsLostToAKillBetween(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	s := storeIn(t, dir, c, 1<<20)
	var want []string
	for i := range 19 {
		name := fmt.Sprintf("c%d", i)
		emit(t, s, "Heartbeat", telemetry.Row{"Computer": name, "RemoteIPLatitude": float64(i), "IsGatewayInstalled": i%2 == 0})
		want = append(want, fmt.Sprintf("%s|%d|%d|∅", name, i, (i+1)%2))
		c.add(3 * time.Hour)
		if err := s.seal(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	columns := []string{"Computer", "RemoteIPLatitude", "IsGatewayInstalled", "RemoteIPLongitude"}
	equal(t, "merged", rowsOf(t, s, "Heartbeat", allTime, columns...), want)
	// From 24 Nov 12:30 to 26 Nov 18:30: two whole days in one file each, and
	// the seven of the third.
	var names []string
	for _, seg := range s.tables["Heartbeat"].segments {
		names = append(names, filepath.Base(seg.path))
	}
	files, err := filepath.Glob(filepath.Join(dir, "segments", "Heartbeat", "*"))
	if err != nil || len(files) != len(names) || len(files) != 9 {
		t.Fatalf("%d files, %d segments: %v", len(files), len(names), names)
	}

	// A merge that was killed before it removed its sources leaves both.
	ts := s.tables["Heartbeat"]
	saved := map[string][]byte{}
	for _, f := range files {
		if saved[f], err = os.ReadFile(f); err != nil {
			t.Fatal(err)
		}
	}
	c.add(48 * time.Hour)
	if err := s.seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(ts.segments) > 3 {
		t.Errorf("%d segments are left of three days", len(ts.segments))
	}
	for f, b := range saved {
		if err := os.WriteFile(f, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_ = s.close()
	s = storeIn(t, dir, c, 1<<20)
	equal(t, "after a kill", rowsOf(t, s, "Heartbeat", allTime, columns...), want)
	if n := len(s.tables["Heartbeat"].segments); n > 3 {
		t.Errorf("%d segments after a kill", n)
	}
}

func TestAQueryKeepsTheSegmentsThatItReads(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	s := storeIn(t, dir, c, 1<<20)
	for i := range 4 {
		emit(t, s, "Heartbeat", telemetry.Row{"Computer": fmt.Sprint(i)})
		if err := s.seal(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	c.add(40 * 24 * time.Hour)
	n := 0
	err := s.scan(t.Context(), s.tables["Heartbeat"], nil, allTime, &scanStats{}, func(b batch) error {
		if n += b.rows; n == 1 {
			if err := s.seal(t.Context()); err != nil { // merges
				return err
			}
			return s.retain(c.now()) // and removes
		}
		return nil
	})
	if err != nil || n != 4 {
		t.Fatalf("got %d rows, %v; want 4", n, err)
	}
	if files, _ := filepath.Glob(filepath.Join(dir, "segments", "Heartbeat", "*")); len(files) != 0 {
		t.Errorf("left behind: %v", files)
	}
}

// TestQueriesSeeEveryRowOnceWhileRowsAreTakenInAndSealed runs under -race.
func TestQueriesSeeEveryRowOnceWhileRowsAreTakenInAndSealed(t *testing.T) {
	s := storeIn(t, t.TempDir(), newClock(), 1<<30)
	const emitters, each = 4, 100
	var acked atomic.Int64
	var writers, others sync.WaitGroup
	done := make(chan struct{})
	for g := range emitters {
		writers.Go(func() {
			for i := range each {
				r := telemetry.Row{"Computer": fmt.Sprintf("%d-%d", g, i)}
				if i%2 == 0 {
					r["RemoteIPLatitude"] = float64(i)
				}
				if err := s.emit(context.Background(), "Heartbeat", []telemetry.Row{r}); err != nil {
					t.Error(err)
					return
				}
				acked.Add(1)
			}
		})
	}
	count := func() int {
		seen := map[string]bool{}
		ts := s.tables["Heartbeat"]
		at := []int{ts.schema.index["Computer"], ts.schema.index["RemoteIPLatitude"]}
		err := s.scan(context.Background(), ts, at, allTime, &scanStats{}, func(b batch) error {
			for i := range b.rows {
				name := b.columns[at[0]].str(i)
				if seen[name] {
					return fmt.Errorf("row %s was there twice", name)
				}
				seen[name] = true
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		return len(seen)
	}
	loop := func(f func()) {
		others.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					f()
				}
			}
		})
	}
	loop(func() {
		if err := s.seal(context.Background()); err != nil {
			t.Error(err)
		}
	})
	loop(func() {
		if before, got := int(acked.Load()), count(); got < before {
			t.Errorf("saw %d rows after %d were acknowledged", got, before)
		}
	})
	writers.Wait()
	close(done)
	others.Wait()
	if got := count(); got != emitters*each {
		t.Errorf("got %d rows, want %d", got, emitters*each)
	}
}
