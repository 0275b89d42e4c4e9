package loganalytics

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"verdant/internal/telemetry"
)

const crashDir = "LOGANALYTICS_CRASH_TEST_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		crashChild(dir)
		return
	}
	os.Exit(m.Run())
}

// crashChild emits rows into two tables from four goroutines, sealing often,
// until it is killed; it prints the name of every row that was acknowledged.
func crashChild(dir string) {
	fail := func(err error) {
		fmt.Println("error", err)
		os.Exit(1)
	}
	tables, err := schemas()
	if err != nil {
		fail(err)
	}
	s, err := openStore(context.Background(), storeOptions{dir: dir, id: "11111111-2222-3333-4444-555555555555", key: [32]byte{7},
		tables: tables, limit: 1 << 30, now: time.Now})
	if err != nil {
		fail(err)
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := 0; ; i++ {
				name := fmt.Sprintf("%016x", rand.Uint64())
				table := []string{"Heartbeat", "Perf"}[i%2]
				if err := s.emit(context.Background(), table, []telemetry.Row{{"Computer": name}, {"Computer": name + "+"}}); err != nil {
					fail(err)
				}
				mu.Lock()
				fmt.Println(name)
				mu.Unlock()
				if g == 0 && i%5 == 4 {
					if err := s.seal(context.Background()); err != nil {
						fail(err)
					}
				}
			}
		})
	}
	wg.Wait()
}

func TestNoAcknowledgedRowIsLostOrDoubledByKill9(t *testing.T) {
	dir := t.TempDir()
	acked := map[string]bool{}
	for round := range 20 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), crashDir+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines, killAfter := 0, 1+rand.IntN(80)
		for scan := bufio.NewScanner(out); scan.Scan(); {
			name := scan.Text()
			if len(name) != 16 {
				if lines >= killAfter {
					break // cut by the kill
				}
				t.Fatalf("round %d: the child said %q", round, name)
			}
			acked[name] = true
			if lines++; lines == killAfter {
				_ = cmd.Process.Kill()
			}
		}
		_ = cmd.Wait()
		if lines < killAfter {
			t.Fatalf("round %d: the child ended by itself", round)
		}
	}
	c := newClock()
	c.n.Store(time.Now().UnixNano())
	s := storeIn(t, dir, c, 1<<30)
	count := map[string]int{}
	for _, table := range []string{"Heartbeat", "Perf"} {
		for _, row := range rowsOf(t, s, table, allTime, "Computer") {
			count[row]++
		}
	}
	for name := range acked {
		if count[name] != 1 || count[name+"+"] != 1 {
			t.Errorf("row %s: acknowledged, found %d and %d times", name, count[name], count[name+"+"])
		}
	}
	for name, n := range count {
		whole := strings.TrimSuffix(name, "+")
		if n != 1 || count[whole] != count[whole+"+"] {
			t.Errorf("row %s: found %d times, its other half %d times", name, n, count[whole+"+"])
		}
	}
	t.Logf("20 kills, %d calls acknowledged, %d rows found in %d segments", len(acked), len(count), len(s.tables["Perf"].segments)+len(s.tables["Heartbeat"].segments))
}
