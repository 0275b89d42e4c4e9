package client

import (
	"context"
	"crypto/tls"
	"database/sql/driver"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
)

// mysqlDouble is the server's side of a login as Azure Database for MySQL
// does it: greeting, TLS, switch to mysql_clear_password, then OK to all.
type mysqlDouble struct {
	tls *tls.Config

	mu        sync.Mutex
	passwords []string
}

func (d *mysqlDouble) serve(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		go func() { defer c.Close(); d.session(c) }()
	}
}

func readPacket(c net.Conn) ([]byte, byte, error) {
	var h [4]byte
	if _, err := io.ReadFull(c, h[:]); err != nil {
		return nil, 0, err
	}
	body := make([]byte, int(h[0])|int(h[1])<<8|int(h[2])<<16)
	_, err := io.ReadFull(c, body)
	return body, h[3], err
}

func writePacket(c net.Conn, seq byte, body []byte) {
	_, _ = c.Write(append([]byte{byte(len(body)), byte(len(body) >> 8), byte(len(body) >> 16), seq}, body...))
}

func (d *mysqlDouble) session(c net.Conn) {
	const capabilities = 1 | 8 | 1<<9 | 1<<11 | 1<<13 | 1<<15 | 1<<19
	greeting := append([]byte{10}, "8.0.0\x00"...)
	greeting = binary.LittleEndian.AppendUint32(greeting, 1)
	greeting = append(greeting, "12345678\x00"...)
	greeting = binary.LittleEndian.AppendUint16(greeting, capabilities&0xffff)
	greeting = append(greeting, 45)
	greeting = binary.LittleEndian.AppendUint16(greeting, 2)
	greeting = binary.LittleEndian.AppendUint16(greeting, capabilities>>16)
	greeting = append(greeting, 21)
	greeting = append(greeting, make([]byte, 10)...)
	greeting = append(greeting, "123456789012\x00caching_sha2_password\x00"...)
	writePacket(c, 0, greeting)
	if _, _, err := readPacket(c); err != nil { // the request for TLS
		return
	}
	secure := tls.Server(c, d.tls)
	if _, _, err := readPacket(secure); err != nil {
		return
	}
	writePacket(secure, 3, append([]byte{0xfe}, "mysql_clear_password\x00"...))
	password, seq, err := readPacket(secure)
	if err != nil {
		return
	}
	d.mu.Lock()
	d.passwords = append(d.passwords, strings.TrimRight(string(password), "\x00"))
	d.mu.Unlock()
	writePacket(secure, seq+1, []byte{0, 0, 0, 2, 0, 0, 0})
	for {
		if _, _, err := readPacket(secure); err != nil {
			return
		}
		writePacket(secure, 1, []byte{0, 0, 0, 2, 0, 0, 0})
	}
}

func TestEachDatabaseConnectionLogsInWithATokenOfItsOwn(t *testing.T) {
	w := newWorld(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	d := &mysqlDouble{tls: w.tlsConfig("db.mysql.database.azure.com")}
	go d.serve(ln)
	w.name("db.mysql.database.azure.com:3306", ln.Addr().String())
	cred := &staticCredential{}
	db, err := w.platform(WithCredential(cred)).OpenDB(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxIdleConns(0)
	if err := db.PingContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.passwords) < 2 || int(cred.n.Load()) != len(d.passwords) {
		t.Fatalf("%d logins with %d tokens", len(d.passwords), cred.n.Load())
	}
	for _, p := range d.passwords {
		if p != "token:"+databaseScope {
			t.Errorf("logged in with %q", p)
		}
	}
}

func TestADatabaseWithAnotherNameInItsCertificateGetsNoToken(t *testing.T) {
	w := newWorld(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	d := &mysqlDouble{tls: w.tlsConfig("evil.example")}
	go d.serve(ln)
	w.name("db.mysql.database.azure.com:3306", ln.Addr().String())
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := w.platform().OpenDB(ctx); err == nil {
		t.Fatal("got a database")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.passwords) != 0 {
		t.Error("the token was sent")
	}
}

func TestADatabaseFailureKeepsRowsToItself(t *testing.T) {
	for want, err := range map[string]error{
		"the database answered 3185 (HY000): Server s is inaccessible: key k": fmt.Errorf("insert: %w", &mysql.MySQLError{Number: 3185, SQLState: [5]byte([]byte("HY000")), Message: "Server s is inaccessible: key k"}),
		"the database answered 1062 (23000)":                                  &mysql.MySQLError{Number: 1062, SQLState: [5]byte([]byte("23000")), Message: "Duplicate entry 'secret' for key 'x'"},
		"the database did not answer":                                         driver.ErrBadConn,
	} {
		if got := DatabaseFailure(err); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
