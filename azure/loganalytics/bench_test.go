package loganalytics

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"verdant/internal/telemetry"
)

// auditRow is a row like the vault's audit events.
func auditRow(i int, at time.Time) telemetry.Row {
	return telemetry.Row{"TimeGenerated": at, "OperationName": []string{"KeySign", "SecretGet", "KeyGet", "Authentication"}[i%4],
		"ResultType": "Success", "ResultSignature": "OK", "HttpStatusCode": 200, "DurationMs": i % 50, "CallerIpAddress": fmt.Sprintf("192.168.4.%d", i%20),
		"CorrelationId": fmt.Sprintf("%08x-0000-4000-8000-%012x", i*2654435761, i), "RequestUri": fmt.Sprintf("https://eudcc-ie-kv-g1.vault.azure.net/keys/dsc-key-store/%032x/sign?api-version=7.4", i%3),
		"ClientInfo": "azsdk-go-azkeys/v1.5.0 (go1.26; linux)", "IsRbacAuthorized": true, "OperationVersion": "7.4",
		"Identity":    map[string]any{"claim": map[string]any{"oid": fmt.Sprintf("00000000-0000-4000-8000-%012x", i%7), "xms_mirid": "/subscriptions/s/resourcegroups/r/providers/m"}},
		"_ResourceId": "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/eudcc-ie/providers/Microsoft.KeyVault/vaults/eudcc-ie-kv-g1"}
}

func BenchmarkEmit(b *testing.B) {
	for _, emitters := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("emitters=%d", emitters), func(b *testing.B) {
			c := newClock()
			s := storeIn(b, b.TempDir(), c, 16<<20)
			var wg sync.WaitGroup
			per := b.N/emitters + 1
			b.ResetTimer()
			for range emitters {
				wg.Go(func() {
					for i := range per {
						if err := s.emit(context.Background(), "AZKVAuditLogs", []telemetry.Row{auditRow(i, c.now())}); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(per*emitters)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

// BenchmarkRawFsync is the disk's limit for one emitter.
func BenchmarkRawFsync(b *testing.B) {
	f, err := os.Create(b.TempDir() + "/raw")
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 1024)
	for i := range b.N {
		if _, err := f.WriteAt(block, int64(i*len(block))); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "fsyncs/s")
}

// BenchmarkOpen opens a workspace with a full write-ahead log and a month of
// segments.
func BenchmarkOpen(b *testing.B) {
	dir, c := b.TempDir(), newClock()
	s := storeIn(b, dir, c, 16<<20)
	for i := range 60 {
		emit(b, s, "AZKVAuditLogs", auditRow(i, c.now()))
		emit(b, s, "Heartbeat", telemetry.Row{"Computer": "c"})
		if err := s.seal(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	n := 0
	for s.hot.Load() < 16<<20 {
		var rows []telemetry.Row
		for range 500 {
			rows = append(rows, auditRow(n, c.now()))
			n++
		}
		emit(b, s, "AZKVAuditLogs", rows...)
	}
	b.ReportMetric(float64(s.wal.Size())/float64(n), "logB/row")
	_ = s.close()
	b.ResetTimer()
	for range b.N {
		s := storeIn(b, dir, c, 16<<20)
		_ = s.close()
	}
	b.ReportMetric(float64(n), "hotrows")
}

// BenchmarkScan reads three columns of 200,000 sealed rows.
func BenchmarkScan(b *testing.B) {
	dir, c := b.TempDir(), newClock()
	s := storeIn(b, dir, c, 1<<30)
	const total = 200_000
	for from := 0; from < total; from += 2000 {
		var rows []telemetry.Row
		for i := range 2000 {
			rows = append(rows, auditRow(from+i, c.now()))
		}
		emit(b, s, "AZKVAuditLogs", rows...)
	}
	start := time.Now()
	if err := s.seal(b.Context()); err != nil {
		b.Fatal(err)
	}
	ts := s.tables["AZKVAuditLogs"]
	b.Logf("sealed %d rows in %v, %.1f B/row", total, time.Since(start), float64(ts.segments[0].size)/total)
	columns := []int{ts.schema.timeGenerated, ts.schema.index["OperationName"], ts.schema.index["CallerIpAddress"]}
	b.ResetTimer()
	for range b.N {
		if err := s.scan(b.Context(), ts, columns, allTime, &scanStats{}, func(batch) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*total/b.Elapsed().Seconds(), "rows/s")
}

// BenchmarkQuery asks over 200,000 rows, sealed and hot; BenchmarkScan is how
// fast the columns alone are read.
func BenchmarkQuery(b *testing.B) {
	c := newClock()
	const total = 200_000
	for _, sealed := range []bool{false, true} {
		s := storeIn(b, b.TempDir(), c, 1<<30)
		for from := 0; from < total; from += 2000 {
			var rows []telemetry.Row
			for i := range 2000 {
				rows = append(rows, auditRow(from+i, c.now().Add(-time.Duration(from+i)*time.Second/2)))
			}
			emit(b, s, "AZKVAuditLogs", rows...)
		}
		if sealed {
			if err := s.seal(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
		srv := &Server{config: Config{}.withDefaults(), deps: Deps{Now: c.now}, workspaces: []*workspace{{Workspace{Name: "w"}, s}}}
		for name, query := range map[string]string{
			"count by operation": "AZKVAuditLogs | summarize n=count() by OperationName",
			"signatures":         `AZKVAuditLogs | where OperationName == "KeySign" | summarize n=count() by bin(TimeGenerated, 5m), CallerIPAddress`,
			"substring":          `AZKVAuditLogs | where RequestUri contains "dsc-key" | count`,
			"path into dynamic":  `AZKVAuditLogs | where tostring(Identity.claim.oid) endswith "3" | count`,
		} {
			b.Run(fmt.Sprintf("sealed=%v/%s", sealed, name), func(b *testing.B) {
				for range b.N {
					if _, err := srv.Query(b.Context(), "w", query, ""); err != nil {
						b.Skip(err)
					}
				}
				b.ReportMetric(float64(b.N)*total/b.Elapsed().Seconds(), "rows/s")
			})
		}
	}
}
