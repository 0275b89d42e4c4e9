package loganalytics

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"verdant/internal/telemetry"
)

// count remembers what was taken in, for the hourly Usage rows, and what was
// stored as null, for Operation rows.
func (s *store) count(t *table, now time.Time, in checked) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.oldest.IsZero() {
		s.oldest = now
	}
	s.use(usageKey{ticks(now.Truncate(time.Hour)), t.name}, in.bytes)
	for at, n := range in.dropped {
		s.bad[badKey{t.name, t.columns[at].name}] += n
	}
}

func (s *store) use(k usageKey, bytes float64) {
	u := s.usage[k]
	u.bytes += bytes
	u.batches++
	s.usage[k] = u
}

// recount is count for a record of the log that is replayed. A Usage row in
// the log says that the hour it is about was reported before the crash.
func (s *store) recount(t *table, d decoded) {
	bytes := 0.0
	for _, r := range d.rows {
		for _, c := range r {
			if c.column == t.billed {
				bytes += c.f
			}
		}
	}
	s.use(usageKey{ticks(fromTicks(d.received).Truncate(time.Hour)), t.name}, bytes)
	if t.name != "Usage" {
		return
	}
	start := t.index["StartTime"]
	for _, r := range d.rows {
		for _, c := range r {
			if c.column == start {
				maps.DeleteFunc(s.usage, func(k usageKey, _ use) bool { return k.hour <= c.i })
			}
		}
	}
}

// report emits a Usage row for each table and whole hour that is over, and an
// Operation row for each column that could not hold what it was given.
func (s *store) report(ctx context.Context, resourceID string) error {
	now := s.now()
	hour := ticks(now.Truncate(time.Hour))
	s.mu.Lock()
	taken := map[usageKey]use{}
	for k, u := range s.usage {
		if k.hour < hour {
			taken[k] = u
		}
	}
	var bad map[badKey]int
	if len(taken) > 0 {
		bad, s.bad = s.bad, map[badKey]int{}
	}
	s.mu.Unlock()
	if len(taken) == 0 {
		return nil
	}
	keys := slices.SortedFunc(maps.Keys(taken), func(a, b usageKey) int {
		if a.hour != b.hour {
			return int(min(max(a.hour-b.hour, -1), 1))
		}
		return strings.Compare(a.table, b.table)
	})
	var rows []telemetry.Row
	for _, k := range keys {
		start := fromTicks(k.hour)
		rows = append(rows, telemetry.Row{"TimeGenerated": start.Add(time.Hour), "StartTime": start, "EndTime": start.Add(time.Hour),
			"DataType": k.table, "Quantity": taken[k].bytes / 1e6, "QuantityUnit": "MBytes", "Solution": "LogManagement",
			"IsBillable": !s.tables[k.table].schema.free, "ResourceUri": resourceID, "SourceSystem": "OMS",
			"TotalBatches": taken[k].batches, "BatchesWithinSla": taken[k].batches, "BatchesOutsideSla": 0, "BatchesCapped": 0})
	}
	if err := s.emit(ctx, "Usage", rows); err != nil {
		return fmt.Errorf("report usage: %w", err)
	}
	s.mu.Lock()
	for k := range taken {
		delete(s.usage, k)
	}
	s.mu.Unlock()
	var operations []telemetry.Row
	for k, n := range bad {
		operations = append(operations, telemetry.Row{"OperationCategory": "Ingestion", "OperationStatus": "Warning", "Solution": "LogManagement",
			"OperationKey": "InvalidColumnValue", "_ResourceId": resourceID,
			"Detail": fmt.Sprintf("%d values for column %s of table %s were of another type and are stored as null.", n, k.column, k.table)})
	}
	return s.emit(ctx, "Operation", operations)
}
