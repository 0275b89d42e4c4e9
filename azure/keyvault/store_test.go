package keyvault_test

import (
	"context"
	"path/filepath"
	"testing"

	"verdant/azure/keyvault"
	"verdant/azure/keyvault/storetest"
	"verdant/internal/sqlstore"
)

func TestSQLStoreIsAStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) func() keyvault.Store {
		path := filepath.Join(t.TempDir(), "vault.db")
		return func() keyvault.Store {
			db, err := sqlstore.Open(context.Background(), path, [32]byte{1}, keyvault.Schema)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := db.Close(); err != nil {
					t.Error(err)
				}
			})
			return keyvault.NewSQLStore(db, "Vault-1")
		}
	})
}
