package client

import (
	"bufio"
	"context"
	"crypto/tls"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/go-sql-driver/mysql"
)

// MySQL names a database server and what the pod uses on it.
type MySQL struct {
	Host string
	// Port is 3306 if zero.
	Port     int
	Database string
	User     string
}

// databaseScope is the resource whose token is the password of Azure Database
// for MySQL.
const databaseScope = "https://ossrdbms-aad.database.windows.net/.default"

// OpenDB connects to the pod's database. Each new connection logs in with a
// token of the pod's managed identity as it is at that moment, over verified
// TLS, through HTTPS_PROXY where that is set. OpenDB answers once a
// connection stands, or with the last error when ctx ends. The caller closes
// the pool.
func (p *Platform) OpenDB(ctx context.Context) (*sql.DB, error) {
	m := p.cfg.MySQL
	if m.Host == "" || m.Database == "" || m.User == "" {
		return nil, fmt.Errorf("database: %w: MYSQL_HOST, MYSQL_DATABASE and MYSQL_USER are needed", ErrNotConfigured)
	}
	connector, err := mysql.NewConnector(p.mysqlConfig())
	if err != nil {
		return nil, fmt.Errorf("database %s on %s: %w", m.Database, m.Host, err)
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(16)
	db.SetMaxIdleConns(16)
	db.SetConnMaxIdleTime(5 * time.Minute)
	// Within the life of a token, so that an identity whose rights were taken
	// away loses its pooled connections too.
	db.SetConnMaxLifetime(30 * time.Minute)
	if err := ping(ctx, db); err != nil {
		_ = db.Close()
		return nil, fmt.Errorf("database %s on %s as %s: %w", m.Database, m.Host, m.User, err)
	}
	return db, nil
}

// ping waits for the first connection; the database may start after the pod.
func ping(ctx context.Context, db *sql.DB) error {
	for delay := 50 * time.Millisecond; ; delay = min(2*delay, 2*time.Second) {
		err := db.PingContext(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(delay):
		}
	}
}

func (p *Platform) mysqlConfig() *mysql.Config {
	m := p.cfg.MySQL
	port := m.Port
	if port == 0 {
		port = 3306
	}
	cfg := mysql.NewConfig()
	cfg.Net, cfg.Addr = "tcp", net.JoinHostPort(m.Host, strconv.Itoa(port))
	cfg.User, cfg.DBName = m.User, m.Database
	cfg.TLS = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: p.roots, ServerName: m.Host}
	// The token goes in clear inside TLS, which is how Azure Database for
	// MySQL takes it; without TLS the driver refuses the plugin.
	cfg.AllowCleartextPasswords = true
	cfg.AllowNativePasswords = false
	cfg.Timeout = 10 * time.Second
	cfg.DialFunc = p.dialDatabase
	cfg.Logger = &mysql.NopLogger{} // what it would say is in the errors too
	_ = cfg.Apply(mysql.BeforeConnect(func(ctx context.Context, c *mysql.Config) error {
		t, err := p.cred.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{databaseScope}})
		if err != nil {
			return fmt.Errorf("token for the database: %w", identityError(err))
		}
		c.Passwd = t.Token
		return nil
	}))
	return cfg
}

func (p *Platform) dialDatabase(ctx context.Context, network, addr string) (net.Conn, error) {
	proxy, err := p.proxy(&url.URL{Scheme: "https", Host: addr})
	if err != nil {
		return nil, fmt.Errorf("HTTPS_PROXY: %w", err)
	}
	d := &net.Dialer{Timeout: 10 * time.Second}
	if proxy == nil {
		return d.DialContext(ctx, network, addr)
	}
	conn, err := d.DialContext(ctx, network, proxy.Host)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	tunnel, err := connect(conn, proxy, addr)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("proxy %s: connect to %s: %w", proxy.Host, addr, err)
	}
	return tunnel, nil
}

// connect opens a tunnel (RFC 9110 §9.3.6) on conn.
func connect(conn net.Conn, proxy *url.URL, addr string) (net.Conn, error) {
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: addr}, Host: addr, Header: http.Header{}}
	if u := proxy.User; u != nil {
		password, _ := u.Password()
		req.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(u.Username()+":"+password)))
	}
	if err := req.Write(conn); err != nil {
		return nil, err
	}
	br := bufio.NewReader(conn)
	resp, err := http.ReadResponse(br, req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the proxy answered %s", resp.Status)
	}
	// A MySQL server speaks first: its greeting may already be in the buffer.
	return &bufferedConn{Conn: conn, r: br}, nil
}

type bufferedConn struct {
	net.Conn
	r *bufio.Reader
}

func (c *bufferedConn) Read(b []byte) (int, error) { return c.r.Read(b) }

// DatabaseFailure says what the database server answered, in its own code, for
// an error of a *sql.DB from OpenDB. The server's text is quoted only where it
// speaks of the server or the login; other texts may hold values of rows.
func DatabaseFailure(err error) string {
	var answer *mysql.MySQLError
	if !errors.As(err, &answer) {
		return "the database did not answer"
	}
	code := fmt.Sprintf("the database answered %d (%s)", answer.Number, answer.SQLState[:])
	switch answer.Number {
	case errTooManyConnections, errDatabaseDenied, errLoginDenied, errShutdown, errServerInaccessible:
		return code + ": " + answer.Message
	}
	return code
}

// Error numbers of the MySQL server whose texts hold no data.
const (
	errTooManyConnections = 1040
	errDatabaseDenied     = 1044
	errLoginDenied        = 1045
	errShutdown           = 1053
	errServerInaccessible = 3185
)
