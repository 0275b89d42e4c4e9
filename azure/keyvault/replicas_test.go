package keyvault_test

import (
	"bufio"
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
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
	replicaDir    = "VERDANT_KEYVAULT_REPLICA_DIR"
	replicaSocket = "VERDANT_KEYVAULT_REPLICA_SOCKET"
	issuerFile    = "issuer.der" // beside the replicas' directories
)

// TestReplicaChild is one of the processes that
// TestReplicasLoseNothingWhileOneAfterTheOtherIsKilled kills: a vault that
// serves until then, or until its parent is gone.
func TestReplicaChild(t *testing.T) {
	dir := os.Getenv(replicaDir)
	if dir == "" {
		t.Skip("runs as a child of TestReplicasLoseNothingWhileOneAfterTheOtherIsKilled")
	}
	w := newWorld(t, func(w *world) {
		w.dir, w.clock.real = dir, true
		der := must(os.ReadFile(filepath.Join(filepath.Dir(dir), issuerFile)))(t)
		w.signer = must(x509.ParsePKCS1PrivateKey(der))(t)
		w.backing = func(context.Context, *world) (keyvault.Store, *hsm.Software, func() error) {
			return onMySQL(t, keyvault.MySQL{Addrs: []string{os.Getenv(replicaSocket)}, User: mariadbtest.User, Database: "kv"}, filepath.Base(dir))
		}
	})
	fmt.Println("serves", w.addr, base64.StdEncoding.EncodeToString(w.certificate))
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// replica is a process that is killed and started again.
type replica struct {
	dir, socket string
	cmd         *exec.Cmd

	mu     sync.Mutex
	client *http.Client // nil while it does not serve
}

func (r *replica) start(t *testing.T) {
	t.Helper()
	r.cmd = exec.Command(os.Args[0], "-test.run", "^TestReplicaChild$")
	r.cmd.Env = append(os.Environ(), replicaDir+"="+r.dir, replicaSocket+"="+r.socket)
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	_ = must(r.cmd.StdinPipe())(t) // open until this process ends
	out := must(r.cmd.StdoutPipe())(t)
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	f := strings.Fields(line)
	if err != nil || len(f) != 3 || f[0] != "serves" {
		rest, _ := io.ReadAll(out)
		t.Fatalf("replica %s says %q %s, %v", r.dir, line, rest, err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(must(x509.ParseCertificate(must(base64.StdEncoding.DecodeString(f[2]))(t)))(t))
	r.set(client(f[1], roots))
}

func (r *replica) kill() {
	r.set(nil)
	_ = r.cmd.Process.Kill()
	_ = r.cmd.Wait()
}

func (r *replica) set(c *http.Client) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.client != nil {
		r.client.CloseIdleConnections()
	}
	r.client = c
}

func (r *replica) get() *http.Client {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.client
}

// fleet is the replicas and what their clients see of them.
type fleet struct {
	t        *testing.T
	replicas []*replica
	token    func() string

	mu       sync.Mutex
	requests []string       // acknowledged writes
	retried  map[string]int // what made clients try again
	count    map[string]int // acknowledged writes by kind
}

// at asks one replica.
func (f *fleet) at(r *replica) asker {
	return func(ctx context.Context, method, path, body string) (reply, error) {
		c := r.get()
		if c == nil {
			return reply{}, fmt.Errorf("replica %s is down", r.dir)
		}
		return askAt(ctx, c, f.token(), method, path, body)
	}
}

// anywhere asks one replica after the other until one gives an answer that is
// not to be tried again. doubt counts tries of which it is not known what they
// did.
func (f *fleet) anywhere(ctx context.Context, method, path, body string) (r reply, doubt int, err error) {
	first := rand.IntN(len(f.replicas))
	for i := range 300 {
		r, err = f.at(f.replicas[(first+i)%len(f.replicas)])(ctx, method, path, body)
		if err == nil && r.status < 500 && r.status != http.StatusTooManyRequests {
			return r, doubt, nil
		}
		why := "no connection"
		if err == nil {
			why = strconv.Itoa(r.status)
		}
		if err != nil && !strings.Contains(err.Error(), "is down") {
			why = "connection lost"
		}
		if why == "connection lost" || err == nil && r.status >= 500 {
			doubt++
		}
		f.mu.Lock()
		f.retried[why]++
		f.mu.Unlock()
		time.Sleep(time.Duration(1+i%20) * 5 * time.Millisecond) // a client's pause
	}
	return r, doubt, fmt.Errorf("%s %s: no answer in 300 tries: %d, %w", method, path, r.status, err)
}

// write does one write for a worker, who alone has the object, and returns
// what the object is after it.
func (f *fleet) write(ctx context.Context, o thing, s step) (thing, error) {
	r, doubt, err := f.anywhere(ctx, s.method, s.path, s.body)
	if err != nil {
		return o, err
	}
	if r.status == s.want {
		f.mu.Lock()
		f.requests = append(f.requests, r.header.Get("x-ms-request-id"))
		f.count[o.Kind]++
		f.mu.Unlock()
	}
	if doubt == 0 {
		if r.status != s.want {
			return o, fmt.Errorf("%s of %s: got %d %s, which a client does not try again", s.Op, o.path(), r.status, r.text)
		}
		return s.done(r), nil
	}
	// A try whose answer was lost may have done the write, so that a later one
	// found it done, or did it again. Either way it is done.
	time.Sleep(time.Second) // until every replica knows
	after := s.done(r)
	if s.Op == "backup" && r.status != s.want {
		return o, fmt.Errorf("backup of %s: got %d %s", o.path(), r.status, r.text)
	}
	for range doubt + 1 {
		if err = after.check(ctx, f.somewhere); err == nil {
			return after, nil
		}
		after.Versions++
	}
	return o, fmt.Errorf("%s of %s, in doubt %d times, ended with %d %s, but %w", s.Op, o.path(), doubt, r.status, r.text, err)
}

// somewhere is an asker for reading.
func (f *fleet) somewhere(ctx context.Context, method, path, body string) (reply, error) {
	r, _, err := f.anywhere(ctx, method, path, body)
	return r, err
}

// work writes until ctx ends, and returns what there must be then.
func (f *fleet) work(ctx context.Context, worker int) []thing {
	rng := rand.New(rand.NewPCG(rand.Uint64(), 0))
	all := things(fmt.Sprint("w", worker))
	for ctx.Err() == nil {
		n := pick(rng, all)
		var err error
		if all[n], err = f.write(context.WithoutCancel(ctx), all[n], all[n].next(rng)); err != nil {
			f.t.Error(err)
			break
		}
	}
	return all
}

// watch writes through one replica, and a second later reads through all: none
// may answer with less.
func (f *fleet) watch(ctx context.Context) (checked int) {
	for n := 0; ctx.Err() == nil; n++ {
		value := fmt.Sprint("value ", n)
		ctx := context.WithoutCancel(ctx)
		if r, _, err := f.anywhere(ctx, "PUT", "/secrets/watched", `{"value":"`+value+`"}`); err != nil || r.status != 200 {
			f.t.Errorf("set: %d %s, %v", r.status, r.text, err)
			return checked
		}
		read := func(want string) {
			for _, replica := range f.replicas {
				r, err := f.at(replica)(ctx, "GET", "/secrets/watched", "")
				if err != nil || r.status >= 500 || want == "" {
					continue
				}
				if r.body["value"] != want {
					f.t.Errorf("replica %s, a second after the write of %q: got %d %s", replica.dir, want, r.status, r.text)
				}
				checked++
			}
		}
		read("") // they keep it, old or new
		time.Sleep(time.Second)
		read(value)
	}
	return checked
}

// TestReplicasLoseNothingWhileOneAfterTheOtherIsKilled runs three vaults on one
// MariaDB under load, for VERDANT_REPLICA_SECONDS.
func TestReplicasLoseNothingWhileOneAfterTheOtherIsKilled(t *testing.T) {
	limit := 15
	if text := os.Getenv("VERDANT_REPLICA_SECONDS"); text != "" {
		limit = must(strconv.Atoi(text))(t)
	}
	server := mariadbtest.Start(t)
	server.Database("kv")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, issuerFile), x509.MarshalPKCS1PrivateKey(issuerKey()), 0o600); err != nil {
		t.Fatal(err)
	}
	minter := &world{t: t, signer: issuerKey(), clock: &clock{real: true}}
	f := &fleet{t: t, retried: map[string]int{}, count: map[string]int{}, token: func() string { return minter.mint(map[string]any{"oid": admin}) }}
	for _, name := range []string{"a", "b", "c"} {
		r := &replica{dir: filepath.Join(dir, name), socket: server.Socket}
		r.start(t)
		t.Cleanup(r.kill)
		f.replicas = append(f.replicas, r)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(limit)*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	made := make([][]thing, 4)
	for i := range made {
		wg.Go(func() { made[i] = f.work(ctx, i) })
	}
	watched := 0
	wg.Go(func() { watched = f.watch(ctx) })
	kills := 0
	for ctx.Err() == nil {
		pause := time.NewTimer(time.Duration(1000+rand.IntN(2000)) * time.Millisecond)
		select {
		case <-ctx.Done():
		case <-pause.C:
			r := f.replicas[rand.IntN(len(f.replicas))]
			r.kill()
			kills++
			r.start(t)
		}
		pause.Stop()
	}
	wg.Wait()
	time.Sleep(time.Second) // until every replica knows
	objects := 0
	for _, all := range made {
		for _, o := range all {
			objects++
			for _, r := range f.replicas {
				if err := o.check(t.Context(), f.at(r)); err != nil {
					t.Errorf("replica %s: %v", r.dir, err)
				}
			}
		}
	}
	recorded := map[string]bool{}
	for _, r := range f.replicas {
		r.kill()
		maps.Copy(recorded, auditedIn(t, r.dir))
	}
	for _, id := range f.requests {
		if !recorded[id] {
			t.Errorf("the audit record of request %s is lost", id)
		}
	}
	noOrphans(t, crashed(t, filepath.Join(dir, "after"), server.Socket, time.Now()), server)
	t.Logf("%d s, %d kills, %d acknowledged writes %v, %d objects checked on 3 replicas, %d reads a second after a write, tried again: %v; %d audit records",
		limit, kills, len(f.requests), f.count, objects, watched, f.retried, len(recorded))
}

// auditedIn checks the audit chain of a replica and returns the requests in it.
func auditedIn(t *testing.T, dir string) map[string]bool {
	t.Helper()
	path, key := filepath.Join(dir, "journal"), [32]byte{3}
	if _, err := journal.Check(t.Context(), path, key); err != nil {
		t.Errorf("the audit chain of replica %s: %v", dir, err)
	}
	j := must(journal.Open(t.Context(), path, journal.Options{Key: key}))(t)
	defer j.Close()
	ids := map[string]bool{}
	err := j.Read(t.Context(), 1, func(_ uint64, record []byte) error {
		var e struct{ CorrelationID string }
		if err := json.Unmarshal(record, &e); err != nil {
			return err
		}
		ids[e.CorrelationID] = true
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return ids
}
