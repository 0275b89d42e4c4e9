package keyvault

import (
	"context"
	"crypto/tls"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-sql-driver/mysql"

	"verdant/hsm"
)

// mysqlSchema makes the tables of NewMySQLStore and MySQLBlobs. Names and ids
// are bytes, so that they compare as in SQLite whatever the server's collation
// is. Each statement may run twice: MySQL commits them one by one.
var mysqlSchema = []string{
	`CREATE TABLE IF NOT EXISTS kv_object (
		vault VARBINARY(64) NOT NULL, kind VARBINARY(32) NOT NULL, name VARBINARY(255) NOT NULL,
		shown VARBINARY(255) NOT NULL, state TINYINT NOT NULL, current VARBINARY(64) NOT NULL,
		deleted_on BIGINT NOT NULL, purge_on BIGINT NOT NULL, meta LONGBLOB,
		PRIMARY KEY (vault, kind, name),
		KEY kv_object_list (vault, kind, state, name),
		KEY kv_object_due (vault, state, purge_on)) ENGINE=InnoDB`,
	`CREATE TABLE IF NOT EXISTS kv_version (
		vault VARBINARY(64) NOT NULL, kind VARBINARY(32) NOT NULL, name VARBINARY(255) NOT NULL, version VARBINARY(64) NOT NULL,
		created BIGINT NOT NULL, data LONGBLOB NOT NULL, value LONGBLOB,
		PRIMARY KEY (vault, kind, name, version)) ENGINE=InnoDB`,
	`CREATE TABLE IF NOT EXISTS kv_doomed (vault VARBINARY(64) NOT NULL, key_id VARBINARY(64) NOT NULL, since BIGINT NOT NULL, PRIMARY KEY (vault, key_id)) ENGINE=InnoDB`,
	`CREATE TABLE IF NOT EXISTS kv_cursor (vault VARBINARY(255) NOT NULL PRIMARY KEY, seq BIGINT NOT NULL) ENGINE=InnoDB`,
	`CREATE TABLE IF NOT EXISTS kv_vault (vault VARBINARY(64) NOT NULL PRIMARY KEY, revision BIGINT NOT NULL) ENGINE=InnoDB`,
	`CREATE TABLE IF NOT EXISTS kv_change (
		vault VARBINARY(64) NOT NULL, revision BIGINT NOT NULL, kind VARBINARY(32) NOT NULL, name VARBINARY(255) NOT NULL, tag VARBINARY(16) NOT NULL,
		PRIMARY KEY (vault, revision, kind, name)) ENGINE=InnoDB`,
	`CREATE TABLE IF NOT EXISTS kv_blob (token VARBINARY(64) NOT NULL, name VARBINARY(64) NOT NULL, sealed LONGBLOB NOT NULL, PRIMARY KEY (token, name)) ENGINE=InnoDB`,
}

// MySQL says where vaults share a MySQL or MariaDB database.
type MySQL struct {
	// Addrs are the servers, each host:port or the path of a Unix socket. A
	// connection goes to the first that answers and takes writes.
	Addrs []string
	// Database is the schema in which the tables are, or are made. The user
	// needs all rights on its tables, and on nothing else.
	Database string
	User     string
	// Password is asked for each new connection; nil is an empty one.
	Password func(context.Context) (string, error)
	// TLS is needed for a server that is not on this machine.
	TLS *tls.Config
}

// ErrDatabase is wrapped when a server does not keep what a vault needs kept.
var ErrDatabase = errors.New("the database is not fit for a vault")

// Times within which a connection answers. They are in this order, so that the
// server gives a lock up before its client gives the connection up, and an idle
// transaction, whose client's machine may be gone, before that.
const (
	lockWait  = 10 * time.Second
	readWait  = 15 * time.Second
	idleWait  = 30 * time.Second // of the server, for the client
	poolWait  = 20 * time.Second // of the pool, for its next use
	dialWait  = 3 * time.Second
	poolConns = 16
)

// Open connects and brings the tables to this version. It waits for a server
// until ctx ends. The caller closes the pool.
func (m MySQL) Open(ctx context.Context) (*sql.DB, error) {
	c, err := m.connector()
	if err != nil {
		return nil, fmt.Errorf("database %s: %w", m.Database, err)
	}
	db := sql.OpenDB(c)
	db.SetMaxOpenConns(poolConns)
	db.SetMaxIdleConns(poolConns)
	db.SetConnMaxIdleTime(poolWait)
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		err := migrateMySQL(ctx, db)
		if err == nil {
			return db, nil
		}
		if ctx.Err() != nil || !transient(err) {
			return nil, errors.Join(fmt.Errorf("database %s on %s: %w", m.Database, strings.Join(m.Addrs, ", "), err), db.Close())
		}
		wait(ctx, pause)
	}
}

// mysqlConnector tries servers in turn, from the one that answered last.
type mysqlConnector struct {
	each []driver.Connector
	last atomic.Int64
}

func (m MySQL) connector() (*mysqlConnector, error) {
	if len(m.Addrs) == 0 || m.Database == "" || m.User == "" {
		return nil, errors.New("a vault database needs Addrs, Database and User")
	}
	c := &mysqlConnector{}
	for _, addr := range m.Addrs {
		cfg := mysql.NewConfig()
		cfg.Net, cfg.Addr, cfg.User, cfg.DBName = "unix", addr, m.User, m.Database
		if !strings.HasPrefix(addr, "/") {
			host, _, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err
			}
			ip := net.ParseIP(host)
			if cfg.TLS = m.TLS; cfg.TLS == nil && !ip.IsLoopback() {
				return nil, fmt.Errorf("server %s: a server on another machine needs TLS", addr)
			}
			if cfg.TLS != nil && cfg.TLS.ServerName == "" {
				cfg.TLS = cfg.TLS.Clone()
				cfg.TLS.ServerName = host
			}
			cfg.Net = "tcp"
		}
		cfg.AllowCleartextPasswords = cfg.TLS != nil // a token as password, as Azure Database for MySQL takes it
		cfg.Timeout, cfg.ReadTimeout, cfg.WriteTimeout = dialWait, readWait, readWait
		cfg.RejectReadOnly = true // a server that lost its place as primary: go elsewhere
		cfg.InterpolateParams = true
		cfg.Logger = &mysql.NopLogger{} // what it would say is in the errors too
		cfg.Params = map[string]string{
			"sql_mode":                 "'STRICT_ALL_TABLES'",
			"innodb_lock_wait_timeout": seconds(lockWait), "wait_timeout": seconds(idleWait),
		}
		_ = cfg.Apply(mysql.BeforeConnect(func(ctx context.Context, c *mysql.Config) (err error) {
			if m.Password != nil {
				c.Passwd, err = m.Password(ctx)
			}
			return err
		}))
		each, err := mysql.NewConnector(cfg)
		if err != nil {
			return nil, err
		}
		c.each = append(c.each, each)
	}
	return c, nil
}

func seconds(d time.Duration) string { return fmt.Sprint(int(d / time.Second)) }

// Driver implements driver.Connector.
func (c *mysqlConnector) Driver() driver.Driver { return c.each[0].Driver() }

// Connect implements driver.Connector.
func (c *mysqlConnector) Connect(ctx context.Context) (driver.Conn, error) {
	var errs []error
	first := int(c.last.Load())
	for i := range c.each {
		n := (first + i) % len(c.each)
		conn, err := c.each[n].Connect(ctx)
		if err == nil {
			if err = fit(ctx, conn); err == nil {
				c.last.Store(int64(n))
				return conn, nil
			}
			_ = conn.Close()
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// errReadOnly is a server that takes no writes just now.
var errReadOnly = errors.New("the server is read-only")

// fit refuses a server that takes no writes, and one that acknowledges what a
// crash of it would lose.
func fit(ctx context.Context, conn driver.Conn) error {
	q, ok := conn.(driver.QueryerContext)
	if !ok {
		return errors.New("the driver's connection cannot be asked")
	}
	rows, err := q.QueryContext(ctx, `SELECT @@global.read_only, @@global.innodb_flush_log_at_trx_commit`, nil)
	if err != nil {
		return err
	}
	defer rows.Close()
	values := make([]driver.Value, 2)
	if err := rows.Next(values); err != nil {
		return err
	}
	text := func(v driver.Value) string {
		if b, ok := v.([]byte); ok {
			return string(b)
		}
		return fmt.Sprint(v)
	}
	if text(values[0]) != "0" {
		return errReadOnly
	}
	if text(values[1]) != "1" {
		return fmt.Errorf("%w: innodb_flush_log_at_trx_commit is %s, so that commits are lost in a crash; set it to 1", ErrDatabase, text(values[1]))
	}
	return nil
}

// migrateMySQL applies the statements of mysqlSchema that the database has not
// seen, one server at a time.
func migrateMySQL(ctx context.Context, db *sql.DB) (err error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	const lock = "'verdant key vault schema'"
	var got sql.NullInt64
	if err := conn.QueryRowContext(ctx, `SELECT GET_LOCK(`+lock+`, 10)`).Scan(&got); err != nil {
		return err
	}
	if got.Int64 != 1 {
		return errors.New("another server has been changing the tables for 10 seconds")
	}
	defer func() {
		_, rerr := conn.ExecContext(context.WithoutCancel(ctx), `DO RELEASE_LOCK(`+lock+`)`)
		err = errors.Join(err, rerr)
	}()
	if _, err := conn.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS kv_schema (id TINYINT NOT NULL PRIMARY KEY, version INT NOT NULL) ENGINE=InnoDB`); err != nil {
		return err
	}
	version := 0
	if err := conn.QueryRowContext(ctx, `SELECT version FROM kv_schema WHERE id = 1`).Scan(&version); err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	if version > len(mysqlSchema) {
		return fmt.Errorf("%w: its tables are of version %d, this program knows %d", ErrDatabase, version, len(mysqlSchema))
	}
	for i, statement := range mysqlSchema[version:] {
		if _, err := conn.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("bring the tables to version %d: %w", version+i+1, err)
		}
		if _, err := conn.ExecContext(ctx, `REPLACE INTO kv_schema (id, version) VALUES (1, ?)`, version+i+1); err != nil {
			return err
		}
	}
	return nil
}

// NewMySQLStore returns the store of one vault in a database from MySQL.Open.
// The servers that share it each have a replica name of their own.
func NewMySQLStore(db *sql.DB, vault, replica string) SharedStore {
	return SharedStore{newStore(db, vault, replica, dialect{shared: true,
		// The lock is all the isolation that is needed; gap locks on top of it
		// would be deadlocks.
		isolation: sql.LevelReadCommitted,
		lock:      `SELECT revision FROM kv_vault WHERE vault = ? FOR UPDATE`,
		enter:     `INSERT IGNORE INTO kv_vault (vault, revision) VALUES (?, 0)`,
		transient: transient})}
}

// transient reports whether an error says that the server or the connection is
// away, or that the server broke the transaction off in favour of another one.
func transient(err error) bool {
	var unsettled *unsettledError
	if errors.As(err, &unsettled) {
		return false
	}
	var answer *mysql.MySQLError
	if errors.As(err, &answer) {
		switch answer.Number {
		case 1205, 1213, // lock wait timeout, deadlock
			1040, 1203, // too many connections
			1053, 1077, 1079, // shutting down
			1290, 1792, 1836, // read-only
			1047, 1158, 1159, 1160, 1161, 1184, 1927, 3024, 4031: // connection lost, killed or not ready
			return true
		}
		return false
	}
	var network net.Error
	for _, sign := range []error{driver.ErrBadConn, mysql.ErrInvalidConn, sql.ErrConnDone, errReadOnly, io.EOF, io.ErrUnexpectedEOF} {
		if errors.Is(err, sign) {
			return true
		}
	}
	return errors.As(err, &network)
}

// MySQLBlobs keeps the sealed keys of a software token in a database from
// MySQL.Open, where the tokens of all servers have them.
type MySQLBlobs struct {
	db    *sql.DB
	token string
}

// NewMySQLBlobs returns the place of the token with the given name.
func NewMySQLBlobs(db *sql.DB, token string) *MySQLBlobs {
	return &MySQLBlobs{db, strings.ToLower(token)}
}

const duplicate = 1062 // the error number of a key that is there

// Create implements hsm.Blobs.
func (b *MySQLBlobs) Create(ctx context.Context, name string, sealed []byte) error {
	tries := 0
	err := again(ctx, transient, func() error {
		tries++
		_, err := b.db.ExecContext(ctx, `INSERT INTO kv_blob (token, name, sealed) VALUES (?, ?, ?)`, b.token, name, sealed)
		return err
	})
	var answer *mysql.MySQLError
	if errors.As(err, &answer) && answer.Number == duplicate {
		err = fs.ErrExist
		// An attempt whose answer got lost may have been the one that made it.
		if kept, rerr := b.Read(ctx, name); tries > 1 && rerr == nil && string(kept) == string(sealed) {
			return nil
		}
	}
	return b.wrap("keep", name, err)
}

// Read implements hsm.Blobs.
func (b *MySQLBlobs) Read(ctx context.Context, name string) (sealed []byte, err error) {
	err = again(ctx, transient, func() error {
		return b.db.QueryRowContext(ctx, `SELECT sealed FROM kv_blob WHERE token = ? AND name = ?`, b.token, name).Scan(&sealed)
	})
	if errors.Is(err, sql.ErrNoRows) {
		err = fs.ErrNotExist
	}
	return sealed, b.wrap("read", name, err)
}

// Remove implements hsm.Blobs.
func (b *MySQLBlobs) Remove(ctx context.Context, name string) error {
	var n int64
	tries := 0
	err := again(ctx, transient, func() error {
		tries++
		result, err := b.db.ExecContext(ctx, `DELETE FROM kv_blob WHERE token = ? AND name = ?`, b.token, name)
		if err == nil {
			n, err = result.RowsAffected()
		}
		return err
	})
	if err == nil && n == 0 && tries == 1 {
		err = fs.ErrNotExist
	}
	return b.wrap("remove", name, err)
}

// Empty implements hsm.Blobs.
func (b *MySQLBlobs) Empty(ctx context.Context) (bool, error) {
	var found int
	err := again(ctx, transient, func() error {
		return b.db.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM kv_blob WHERE token = ?)`, b.token).Scan(&found)
	})
	return found == 0, b.wrap("list", "the keys", err)
}

func (b *MySQLBlobs) wrap(verb, name string, err error) error {
	if err != nil {
		return fmt.Errorf("token %s: %s %s: %w", b.token, verb, name, err)
	}
	return nil
}

var _ hsm.Blobs = (*MySQLBlobs)(nil)
