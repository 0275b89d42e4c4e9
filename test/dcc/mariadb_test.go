package dcc

import (
	"database/sql"
	"testing"

	"verdant/internal/mariadbtest"
)

func TestTheServicesWorkOnMariaDB(t *testing.T) {
	server := mariadbtest.Start(t)
	exchange(t, newMember(t, func(_ *testing.T, name string) *sql.DB { return server.Database(name) }))
}
