package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"syscall"
)

// ErrNotRunning means that nobody answers on the socket.
var ErrNotRunning = errors.New("no estate is running")

// ErrForeign means that the estate is another user's.
var ErrForeign = errors.New("not your estate")

// Client talks to the estate behind a socket.
type Client struct {
	path string
	http *http.Client
}

// NewClient returns a client for the socket at path. It connects when used.
func NewClient(path string) *Client {
	c := &Client{path: path}
	c.http = &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return c.connect(ctx) },
	}}
	return c
}

func (c *Client) connect(ctx context.Context) (*net.UnixConn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", c.path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, fmt.Errorf("%w: nobody answers on %s; start one with `verdant up`", ErrNotRunning, c.path)
	}
	if err != nil {
		return nil, err
	}
	unix := conn.(*net.UnixConn)
	if uid, err := peerUID(unix); err != nil || uid != os.Getuid() {
		_ = unix.Close()
		return nil, fmt.Errorf("%w: the estate behind %s belongs to user %d, you are %d", ErrForeign, c.path, uid, os.Getuid())
	}
	return unix, nil
}

func (c *Client) do(ctx context.Context, method, path string, form url.Values, body any) (*http.Response, error) {
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		content = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://estate"+path+"?"+form.Encode(), content)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if errors.Is(err, ErrNotRunning) || errors.Is(err, ErrForeign) {
			return nil, errors.Unwrap(err) // without the URL of the request
		}
		return nil, err
	}
	if resp.StatusCode >= 400 {
		defer resp.Body.Close()
		return nil, problem(resp)
	}
	return resp, nil
}

func problem(resp *http.Response) error {
	var p Problem
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&p); err != nil || p.Message == "" {
		return fmt.Errorf("the estate answered %s", resp.Status)
	}
	return errors.New(p.Message)
}

func (c *Client) call(ctx context.Context, method, path string, form url.Values, body, into any) error {
	resp, err := c.do(ctx, method, path, form, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return json.NewDecoder(resp.Body).Decode(into)
}

// Status asks the estate for its state.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var s Status
	return s, c.call(ctx, http.MethodGet, "/v1/status", nil, nil, &s)
}

// Summary is Status without the rows of the document's tables: quick, and
// nothing of it is in an audit log.
func (c *Client) Summary(ctx context.Context) (Status, error) {
	var s Status
	return s, c.call(ctx, http.MethodGet, "/v1/status", url.Values{"rows": {"false"}}, nil, &s)
}

// Stop asks the estate to end; it returns when the request was taken.
func (c *Client) Stop(ctx context.Context) error {
	return c.call(ctx, http.MethodPost, "/v1/stop", nil, nil, &struct{}{})
}

// Token signs user in to resource.
func (c *Client) Token(ctx context.Context, user, resource string) (Token, error) {
	var t Token
	return t, c.call(ctx, http.MethodPost, "/v1/token", url.Values{"user": {user}, "resource": {resource}}, nil, &t)
}

// SSHCertificate has publicKey, a line of authorized_keys, certified as
// user's for the jump-box.
func (c *Client) SSHCertificate(ctx context.Context, user, publicKey string) (SSHCertificate, error) {
	var cert SSHCertificate
	return cert, c.call(ctx, http.MethodPost, "/v1/ssh-certificate", nil, sshCertificateRequest{user, publicKey}, &cert)
}

// VerifyAudit has the estate prove a vault's audit chain, or every vault's if
// vault is "".
func (c *Client) VerifyAudit(ctx context.Context, vault string) ([]AuditReport, error) {
	var reports []AuditReport
	return reports, c.call(ctx, http.MethodGet, "/v1/audit", url.Values{"vault": {vault}}, nil, &reports)
}

// Access asks who may do what, and why.
func (c *Client) Access(ctx context.Context, q AccessQuestion) (Access, error) {
	var a Access
	form := url.Values{"action": {q.Action}, "object": {q.Object}, "principal": {q.Principal}}
	return a, c.call(ctx, http.MethodGet, "/v1/access", form, nil, &a)
}

// Logs copies log lines to w.
func (c *Client) Logs(ctx context.Context, pod string, follow bool, w io.Writer) error {
	resp, err := c.do(ctx, http.MethodGet, "/v1/logs", url.Values{"pod": {pod}, "follow": {fmt.Sprint(follow)}}, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(w, resp.Body)
	return err
}

// Dial connects to address from inside a network of the estate.
func (c *Client) Dial(ctx context.Context, from, address string) (net.Conn, error) {
	conn, err := c.connect(ctx)
	if err != nil {
		return nil, err
	}
	form := url.Values{"from": {from}, "address": {address}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://estate/v1/dial?"+form.Encode(), nil)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if err := req.Write(conn); err != nil {
		_ = conn.Close()
		return nil, err
	}
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, req)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		defer conn.Close()
		return nil, problem(resp)
	}
	return &tunnel{UnixConn: conn, r: r}, nil
}

type tunnel struct {
	*net.UnixConn
	r *bufio.Reader
}

func (t *tunnel) Read(p []byte) (int, error) { return t.r.Read(p) }

// Exec runs a command inside a pod on this process's own streams and returns
// its exit code.
func (c *Client) Exec(ctx context.Context, pod string, argv, env []string, streams [3]*os.File) (int, error) {
	conn, err := c.connect(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	body, err := json.Marshal(execRequest{pod, argv, env})
	if err != nil {
		return 0, err
	}
	var wire bytes.Buffer
	fmt.Fprintf(&wire, "POST /v1/exec HTTP/1.1\r\nHost: estate\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", len(body))
	wire.Write(body)
	rights := syscall.UnixRights(int(streams[0].Fd()), int(streams[1].Fd()), int(streams[2].Fd()))
	n, _, err := conn.WriteMsgUnix(wire.Bytes(), rights, nil)
	if err == nil && n < wire.Len() {
		_, err = conn.Write(wire.Bytes()[n:])
	}
	if err != nil {
		return 0, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	if err != nil {
		return 0, fmt.Errorf("the estate ended while the command ran: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 400 {
		return 0, problem(resp)
	}
	var result ExecResult
	if err := json.NewDecoder(resp.Body).Decode(&result); err != nil {
		return 0, err
	}
	if result.Error != "" {
		return result.ExitCode, errors.New(result.Error)
	}
	return result.ExitCode, nil
}
