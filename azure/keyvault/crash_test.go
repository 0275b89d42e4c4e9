package keyvault_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"verdant/azure/keyvault"
	"verdant/hsm"
	"verdant/internal/journal"
	"verdant/internal/mariadbtest"
)

const (
	crashDir    = "VERDANT_KEYVAULT_CRASH_DIR"
	crashSocket = "VERDANT_KEYVAULT_CRASH_SOCKET"
	crashPrefix = "VERDANT_KEYVAULT_CRASH_PREFIX"

	crashWorkers = 6
)

// crashRounds is how often the vault is killed, and crashWrites how many
// writes it gets through on average until then.
func crashRounds(t *testing.T) (rounds, writes int) {
	read := func(name string, standard int) int {
		text := os.Getenv(name)
		if text == "" {
			return standard
		}
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			t.Fatalf("%s=%q is no count", name, text)
		}
		return n
	}
	return read("VERDANT_CRASH_ROUNDS", 2), read("VERDANT_CRASH_WRITES", 200)
}

// crashed opens the vault that a crash left in dir, on MySQL if there is a
// socket, by the given clock.
func crashed(t *testing.T, dir, socket string, now time.Time) *world {
	return newWorld(t, func(w *world) {
		w.dir, w.clock.now = dir, now
		if socket != "" {
			w.backing = func(context.Context, *world) (keyvault.Store, *hsm.Software, func() error) {
				return onMySQL(t, keyvault.MySQL{Addrs: []string{socket}, User: mariadbtest.User, Database: "kv"}, "only")
			}
		}
	})
}

// report is a line of what the child says: that it begins a write, or that the
// write was acknowledged.
type report struct {
	Acknowledged bool
	After        thing
	Op, Request  string
}

// TestCrashChild is the process that TestNothingAcknowledgedIsLostToKill9
// kills: a vault and its clients, who write until then.
func TestCrashChild(t *testing.T) {
	dir := os.Getenv(crashDir)
	if dir == "" {
		t.Skip("runs as the child of TestNothingAcknowledgedIsLostToKill9")
	}
	w := crashed(t, dir, os.Getenv(crashSocket), time.Now())
	var out sync.Mutex
	say := func(r report) {
		line, _ := json.Marshal(r)
		out.Lock()
		defer out.Unlock()
		fmt.Printf("%s\n", line)
	}
	var wg sync.WaitGroup
	for i := range crashWorkers {
		rng := rand.New(rand.NewPCG(rand.Uint64(), 0))
		all := things(fmt.Sprint(os.Getenv(crashPrefix), "-", i))
		wg.Go(func() {
			for {
				n := pick(rng, all)
				s := all[n].next(rng)
				say(report{After: s.After, Op: s.Op})
				r, err := w.ask(t.Context(), s.method, s.path, s.body)
				if err != nil || r.status != s.want {
					fmt.Printf("%s %s: got %d %s %v, want %d\n", s.method, s.path, r.status, r.text, err, s.want)
					return
				}
				all[n] = s.done(r)
				say(report{true, all[n], s.Op, r.header.Get("x-ms-request-id")})
			}
		})
	}
	wg.Wait()
}

// outcome is what the parent knows of an object.
type outcome struct {
	acknowledged thing
	begun        *thing // a write that was not acknowledged
}

func (o outcome) check(ctx context.Context, ask asker) error {
	err := o.acknowledged.check(ctx, ask)
	if err != nil && o.begun != nil && o.begun.check(ctx, ask) == nil {
		return nil
	}
	return err
}

func TestNothingAcknowledgedIsLostToKill9(t *testing.T) {
	t.Run("over SQLite", func(t *testing.T) { killRounds(t, nil) })
	t.Run("over MariaDB", func(t *testing.T) { killRounds(t, mariadbtest.Start(t)) })
}

// killRounds runs the child again and again on one vault. A database server
// crashes along with every third vault.
func killRounds(t *testing.T, server *mariadbtest.Server) {
	rounds, writes := crashRounds(t)
	dir, socket := t.TempDir(), ""
	if server != nil {
		server.Database("kv")
		socket = server.Socket
	}
	known := map[string]outcome{}
	count := map[string]int{}
	total := 0
	for round := range rounds {
		fresh := map[string]outcome{}
		requests := killedChild(t, dir, socket, fmt.Sprint("r", round), 1+rand.IntN(2*writes), fresh, count)
		if server != nil && round%3 == 0 {
			server.Crash()
		}
		total += len(requests)
		w := crashed(t, dir, socket, time.Now())
		if round == rounds-1 {
			for name, o := range known {
				fresh[name] = o
			}
		}
		for name, o := range fresh {
			if err := o.check(t.Context(), w.ask); err != nil {
				t.Errorf("round %d: %v (a write that was not acknowledged: %+v)", round, err, o.begun)
			}
			known[name] = o
		}
		recorded := map[any]bool{}
		for _, r := range w.records() {
			recorded[r["correlationId"]] = true
		}
		for _, id := range requests {
			if !recorded[id] {
				t.Errorf("round %d: the audit record of request %s is lost", round, id)
			}
		}
		noOrphans(t, w, server)
		w.close()
		if _, err := journal.Check(t.Context(), filepath.Join(dir, "journal"), [32]byte{3}); err != nil {
			t.Errorf("round %d: the audit chain: %v", round, err)
		}
		if t.Failed() {
			return
		}
	}
	t.Logf("%d rounds, %d acknowledged writes: %v; %d objects checked", rounds, total, count, len(known))
}

// killedChild runs a child until it has acknowledged so many writes, and
// returns their request ids.
func killedChild(t *testing.T, dir, socket, prefix string, writes int, known map[string]outcome, count map[string]int) (requests []string) {
	t.Helper()
	child := exec.Command(os.Args[0], "-test.run", "^TestCrashChild$")
	child.Env = append(os.Environ(), crashDir+"="+dir, crashSocket+"="+socket, crashPrefix+"="+prefix)
	child.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out := must(child.StdoutPipe())(t)
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	killed := false
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadBytes('\n')
		if err == io.EOF { // what is left of a line was cut by the kill
			break
		}
		var r report
		if err != nil || json.Unmarshal(line, &r) != nil {
			_ = child.Process.Kill()
			t.Fatalf("the child says %q, %v", line, err)
		}
		name := r.After.path()
		o, seen := known[name]
		if !seen {
			o.acknowledged = thing{Kind: r.After.Kind, Name: r.After.Name}
		}
		o.begun = &r.After
		if r.Acknowledged {
			o = outcome{acknowledged: r.After}
			requests = append(requests, r.Request)
			count[r.After.Kind+" "+r.Op]++
		}
		known[name] = o
		if len(requests) >= writes && !killed {
			killed = true
			_ = child.Process.Kill()
		}
	}
	_ = child.Wait()
	if !killed {
		t.Fatalf("the child ended by itself after %d writes", len(requests))
	}
	return requests
}

// noOrphans checks that every key in the token has an owner: what the vault
// shows, one that was deleted and not yet purged included, the keys that seal
// values and backups, and the token's own mark.
func noOrphans(t *testing.T, w *world, server *mariadbtest.Server) {
	t.Helper()
	if server != nil { // others might be at work: what a crash left is found by its age
		w.clock.Advance(time.Hour)
	}
	w.vault.Sweep(t.Context())
	owned := map[string]bool{"token.check": true}
	for _, label := range []string{"key vault " + vaultName + " values", "key vault backup " + tenant + " westeurope"} {
		owned[string(hsm.LabelID(label))] = true
	}
	for _, state := range []keyvault.State{keyvault.Live, keyvault.Deleted} {
		for after, more := "", true; more; {
			page := must(w.store().List(t.Context(), keyvault.Keys, state, after, 100))(t)
			for _, e := range page {
				for _, v := range must(w.store().Versions(t.Context(), keyvault.Keys, e.Object.Name, "", 100))(t) {
					var record struct{ Token string }
					if err := json.Unmarshal(v.Data, &record); err != nil || record.Token == "" {
						t.Errorf("key %s version %s: its record is %s", e.Object.Name, v.ID, v.Data)
					}
					owned[record.Token] = true
				}
				after = e.Object.Name
			}
			more = len(page) == 100
		}
	}
	for name := range owned {
		if strings.Contains(name, ".") || strings.HasPrefix(name, "label-") { // made on first use
			continue
		}
		if _, err := w.token.Key(t.Context(), hsm.KeyID(name)); err != nil {
			t.Errorf("a key that has an owner: %v", err)
		}
	}
	held := tokenFiles
	if server != nil {
		held = func(testing.TB, *world) []string { return blobsIn(t, server) }
	}
	for _, name := range held(t, w) {
		if !owned[name] {
			t.Errorf("key %s in the token has no owner", name)
		}
	}
}

// blobsIn lists the keys of the token in a database.
func blobsIn(t *testing.T, server *mariadbtest.Server) (names []string) {
	t.Helper()
	rows := must(server.Open("kv").QueryContext(t.Context(), "SELECT name FROM kv_blob"))(t)
	defer rows.Close()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	if err := rows.Err(); err != nil || len(names) == 0 {
		t.Fatalf("%d keys, %v", len(names), err)
	}
	return names
}
