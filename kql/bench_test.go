package kql

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"
)

const benchRows = 2_000_000

// benchTable is rows of a log: a timestamp every 37 ms, a dictionary of
// operations, a status and a text.
func benchTable() *MemTable {
	cols := Schema{{"TimeGenerated", DateTime}, {"OperationName", String}, {"Status", Long}, {"Message", String}}
	ops := []string{"KeySign", "KeyGet", "SecretGet", "KeyUnwrap", "VaultGet", "CertificateGet", "KeyWrap", "Authentication"}
	start := int64(TicksOf(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)))
	var batches []*Batch
	const size = 1 << 16
	for lo := 0; lo < benchRows; lo += size {
		n := min(size, benchRows-lo)
		times, codes, status, text := make([]int64, n), make([]uint32, n), make([]int64, n), make([]string, n)
		for i := range n {
			k := lo + i
			times[i] = start + int64(k)*370_000
			codes[i] = uint32(k * 7 % len(ops))
			status[i] = int64(200 + k%5)
			text[i] = fmt.Sprintf("request %d from pod dgca-issuance-service", k)
		}
		batches = append(batches, NewBatch(n, NewInts(DateTime, times, nil), NewDictionary(codes, ops), NewInts(Long, status, nil), NewStrings(text)))
	}
	return NewMemTable(cols, batches...)
}

func benchPlan(b *testing.B, cat Catalog, text string) *Plan {
	b.Helper()
	q, err := Parse(text)
	if err != nil {
		b.Fatal(err)
	}
	p, err := Bind(q, cat, BindOptions{Now: testNow})
	if err != nil {
		b.Fatal(err)
	}
	return p
}

// BenchmarkQueries reports rows a second, and for the count by five minutes the
// ratio to a plain Go loop over the same slices.
func BenchmarkQueries(b *testing.B) {
	table := benchTable()
	cat := MapCatalog{"Logs": table}
	for _, q := range []struct{ name, text string }{
		{"count by 5m", "Logs | summarize count() by bin(TimeGenerated, 5m)"},
		{"count by name", "Logs | summarize count() by OperationName"},
		{"count by both", "Logs | summarize count() by bin(TimeGenerated, 5m), OperationName"},
		{"filter equal", `Logs | where OperationName == "KeySign" and Status >= 203 | count`},
		{"has", `Logs | where Message has "1234567" | count`},
		{"contains", `Logs | where Message contains "ISSUANCE" | count`},
		{"top", `Logs | top 10 by Status`},
	} {
		p := benchPlan(b, cat, q.text)
		b.Run(strings.ReplaceAll(q.name, " ", "_"), func(b *testing.B) {
			for b.Loop() {
				if _, err := p.Run(context.Background(), Limits{MaxBytes: 4 << 30}); err != nil {
					b.Fatal(err)
				}
			}
			per := b.Elapsed().Seconds() / float64(b.N)
			b.ReportMetric(benchRows/per/1e6, "Mrows/s")
			if q.name == "count by 5m" {
				b.ReportMetric(per/plainLoop(table), "x-plain-loop")
			}
		})
	}
}

// plainLoop is the seconds that counting by five minutes takes when written by
// hand over the same columns.
func plainLoop(t *MemTable) float64 {
	const rounds = 10
	begin := time.Now()
	for range rounds {
		counts := map[int64]int64{}
		step := int64(5 * TicksPerMinute)
		for _, b := range t.batches {
			for _, k := range b.Columns[0].ints {
				counts[k-k%step]++
			}
		}
		if len(counts) == 0 {
			panic("no rows")
		}
	}
	return time.Since(begin).Seconds() / rounds
}
