package keyvault_test

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"verdant/azure/keyvault"
	"verdant/azure/keyvault/storetest"
	"verdant/hsm"
	"verdant/hsm/hsmtest"
	"verdant/internal/mariadbtest"
	"verdant/internal/sqlstore"
)

func openSQLite(t *testing.T, path string) *sql.DB {
	t.Helper()
	db, err := sqlstore.Open(context.Background(), path, [32]byte{1}, keyvault.Schema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func TestSQLStoreIsAStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) func() keyvault.Store {
		path := filepath.Join(t.TempDir(), "vault.db")
		return func() keyvault.Store { return keyvault.NewSQLStore(openSQLite(t, path), "Vault-1") }
	})
}

func TestSharedSQLStoreIsASharedStore(t *testing.T) {
	storetest.RunShared(t, func(t *testing.T) func() keyvault.Shared {
		path := filepath.Join(t.TempDir(), "vault.db")
		return func() keyvault.Shared { return keyvault.NewSharedSQLStore(openSQLite(t, path), "Vault-1", "a") }
	})
}

// mysqlAt is a database of a test server.
func mysqlAt(server *mariadbtest.Server, name string) keyvault.MySQL {
	return keyvault.MySQL{Addrs: []string{server.Socket}, User: mariadbtest.User, Database: name}
}

func openMySQL(t *testing.T, m keyvault.MySQL) *sql.DB {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	db, err := m.Open(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func TestMySQLStoreIsASharedStore(t *testing.T) {
	server := mariadbtest.Start(t)
	n := 0
	storetest.RunShared(t, func(t *testing.T) func() keyvault.Shared {
		n++
		m := mysqlAt(server, fmt.Sprint("kv", n))
		server.Database(m.Database)
		return func() keyvault.Shared { return keyvault.NewMySQLStore(openMySQL(t, m), "Vault-1", "a") }
	})
}

func TestATokenInMySQLIsAToken(t *testing.T) {
	server := mariadbtest.Start(t)
	server.Database("tokens")
	hsmtest.Run(t, func(t *testing.T) hsm.Token {
		token, err := hsm.OpenBlobs(t.Context(), keyvault.NewMySQLBlobs(openMySQL(t, mysqlAt(server, "tokens")), "t"), [32]byte{1})
		if err != nil {
			t.Fatal(err)
		}
		return token
	})
}
