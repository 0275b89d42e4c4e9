package keyvault_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"verdant/azure/keyvault"
	"verdant/internal/mariadbtest"
)

// cutter passes connections on to a database server and cuts some of them off:
// when a COMMIT comes, before the server gets it or after it did, and in
// between.
type cutter struct {
	server string
	every  atomic.Int64 // one in so many; 0 for never
	lost   atomic.Int64 // commits that reached the server and whose answer was cut off
	unsent atomic.Int64 // commits that did not
	other  atomic.Int64
}

func (c *cutter) listen(t *testing.T) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "s")
	ln := must(net.Listen("unix", socket))(t)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { c.pass(conn) })
		}
	})
	t.Cleanup(func() { _ = ln.Close(); wg.Wait() })
	return socket
}

func (c *cutter) pass(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("unix", c.server)
	if err != nil {
		return
	}
	defer server.Close()
	var cut atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 64<<10)
		for {
			n, err := server.Read(b)
			if err != nil || cut.Load() {
				_ = client.Close()
				return
			}
			if _, err := client.Write(b[:n]); err != nil {
				return
			}
		}
	}()
	b := make([]byte, 64<<10)
	for {
		n, err := client.Read(b)
		if err != nil {
			break
		}
		every := int(c.every.Load())
		hit := every > 0 && rand.IntN(every) == 0
		commit := bytes.Contains(b[:n], []byte("\x03COMMIT"))
		if hit && commit && rand.IntN(2) == 0 {
			c.unsent.Add(1)
			break
		}
		if hit && commit {
			c.lost.Add(1)
			cut.Store(true)
		}
		if hit && !commit && rand.IntN(8) == 0 {
			c.other.Add(1)
			break
		}
		if _, err := server.Write(b[:n]); err != nil {
			break
		}
		if cut.Load() {
			<-done // the server answered: the commit took place
			return
		}
	}
	_ = server.Close()
	<-done
}

func TestAnUpdateHappensOnceThoughConnectionsAreCutOff(t *testing.T) {
	server := mariadbtest.Start(t)
	server.Database("kv")
	c := &cutter{server: server.Socket}
	socket := c.listen(t)
	const workers, each = 3, 40
	var wg sync.WaitGroup
	for range workers {
		db := openMySQL(t, keyvault.MySQL{Addrs: []string{socket}, User: mariadbtest.User, Database: "kv"})
		s := keyvault.NewMySQLStore(db, "kv", "a")
		c.every.Store(6)
		wg.Go(func() {
			for range each {
				err := s.Update(context.Background(), func(tx keyvault.Tx) error {
					o, err := tx.Object(keyvault.Keys, "n")
					if errors.Is(err, keyvault.ErrNoObject) {
						o, err = keyvault.Object{Kind: keyvault.Keys, Name: "n"}, nil
					}
					o.PurgeOn++
					return errors.Join(err, tx.Put(o))
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	c.every.Store(0)
	s := keyvault.NewMySQLStore(openMySQL(t, mysqlAt(server, "kv")), "kv", "b")
	o, _, err := s.Get(t.Context(), keyvault.Keys, "n", "")
	if err != nil || o.PurgeOn != workers*each {
		t.Errorf("got %d updates, %v; want %d", o.PurgeOn, err, workers*each)
	}
	if c.lost.Load() == 0 || c.unsent.Load() == 0 || c.other.Load() == 0 {
		t.Errorf("the test proves nothing: cut off %d commits after and %d before they took place, %d others", c.lost.Load(), c.unsent.Load(), c.other.Load())
	}
	t.Logf("cut off %d commits after and %d before they took place, %d others", c.lost.Load(), c.unsent.Load(), c.other.Load())
}

func TestADatabaseThatForgetsOrTakesNoWritesIsRefused(t *testing.T) {
	server := mariadbtest.Start(t)
	server.Database("kv")
	root := server.Open("")
	set := func(statement string) {
		t.Helper()
		if _, err := root.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	set("SET GLOBAL innodb_flush_log_at_trx_commit = 2")
	if _, err := mysqlAt(server, "kv").Open(t.Context()); !errors.Is(err, keyvault.ErrDatabase) {
		t.Errorf("a server that loses commits in a crash: got %v, want ErrDatabase", err)
	}
	set("SET GLOBAL innodb_flush_log_at_trx_commit = 1")
	set("SET GLOBAL read_only = 1")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := mysqlAt(server, "kv").Open(ctx); err == nil {
		t.Error("a server that takes no writes: accepted")
	}
	set("SET GLOBAL read_only = 0")
	// Where another server of the list takes writes, that one is used.
	m := mysqlAt(server, "kv")
	m.Addrs = []string{filepath.Join(t.TempDir(), "nobody"), server.Socket}
	db := openMySQL(t, m)
	if err := keyvault.NewMySQLStore(db, "kv", "a").SetCursor(t.Context(), 7); err != nil {
		t.Error(err)
	}
	set("UPDATE kv.kv_schema SET version = 1000")
	if _, err := mysqlAt(server, "kv").Open(t.Context()); !errors.Is(err, keyvault.ErrDatabase) {
		t.Errorf("tables of a later version: got %v, want ErrDatabase", err)
	}
	for name, m := range map[string]keyvault.MySQL{
		"no address":                         {User: "u", Database: "d"},
		"another machine without TLS":        {Addrs: []string{"192.0.2.1:3306"}, User: "u", Database: "d"},
		"an address without a port":          {Addrs: []string{"db"}, User: "u", Database: "d"},
		"a name that may be another machine": {Addrs: []string{"localhost:3306"}, User: "u", Database: "d"},
	} {
		if _, err := m.Open(t.Context()); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
