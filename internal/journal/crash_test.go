package journal

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const crashDir = "JOURNAL_CRASH_TEST_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		crashChild(dir)
		return
	}
	os.Exit(m.Run())
}

// crashRecord is a record that says its own number and a checksum of a random
// length of filler.
func crashRecord(id uint64) []byte {
	b := make([]byte, 8+rand.IntN(600))
	binary.BigEndian.PutUint64(b, id)
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

// crashChild appends from four goroutines until it is killed, and prints
// "sequence id" for every record that was acknowledged.
func crashChild(dir string) {
	ctx := context.Background()
	j, err := Open(ctx, dir, Options{Key: testKey, SegmentBytes: 32 << 10})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				id := rand.Uint64()
				seq, err := j.Append(ctx, crashRecord(id))
				mu.Lock()
				if err != nil {
					fmt.Println("error", err)
					os.Exit(1)
				}
				fmt.Println(seq, id)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

func TestNoAcknowledgedRecordIsLostToKill9(t *testing.T) {
	dir := t.TempDir()
	acked := map[uint64]uint64{}
	for round := range 30 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), crashDir+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		killAfter := 1 + rand.IntN(200)
		lines := 0
		for scan := bufio.NewScanner(out); scan.Scan(); {
			a, b, _ := strings.Cut(scan.Text(), " ")
			seq, err1 := strconv.ParseUint(a, 10, 64)
			id, err2 := strconv.ParseUint(b, 10, 64)
			if err := errors.Join(err1, err2); err != nil {
				if lines >= killAfter {
					break // the line was cut by the kill
				}
				t.Fatalf("round %d: child said %q", round, scan.Text())
			}
			if _, twice := acked[seq]; twice {
				t.Fatalf("round %d: record %d was acknowledged twice", round, seq)
			}
			acked[seq] = id
			if lines++; lines == killAfter {
				_ = cmd.Process.Kill()
			}
		}
		_ = cmd.Wait()
		if lines < killAfter {
			t.Fatalf("round %d: the child ended by itself after %d lines", round, lines)
		}
	}
	j := open(t, dir, Options{})
	if err := j.Verify(t.Context()); err != nil {
		t.Fatal(err)
	}
	found := map[uint64]uint64{}
	err := j.Read(t.Context(), 0, func(seq uint64, r []byte) error {
		n := len(r) - sha256.Size
		if sha256.Sum256(r[:n]) != [32]byte(r[n:]) {
			return fmt.Errorf("record %d is not as written", seq)
		}
		found[seq] = binary.BigEndian.Uint64(r)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for seq, id := range acked {
		if got, ok := found[seq]; !ok || got != id {
			t.Errorf("record %d: acknowledged %d, found %d (there: %v)", seq, id, got, ok)
		}
	}
	t.Logf("30 kills, %d acknowledged, %d found", len(acked), len(found))
}

// BenchmarkAppend shows durable appends a second for a number of concurrent
// appenders; BenchmarkRawFsync is the disk's own limit for one.
func BenchmarkAppend(b *testing.B) {
	record := make([]byte, 500)
	for _, n := range []int{1, 4, 16, 64, 256} {
		b.Run(fmt.Sprintf("appenders=%d", n), func(b *testing.B) {
			j := open(b, b.TempDir(), Options{})
			var wg sync.WaitGroup
			per := b.N/n + 1
			b.ResetTimer()
			for range n {
				wg.Go(func() {
					for range per {
						if _, err := j.Append(b.Context(), record); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(per*n)/b.Elapsed().Seconds(), "appends/s")
		})
	}
}

func BenchmarkRawFsync(b *testing.B) {
	f, err := os.Create(b.TempDir() + "/raw")
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 500+blockHead+4+tagSize)
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
