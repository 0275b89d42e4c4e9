package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

// Problem is the body of an answer that is not a success.
type Problem struct {
	Message string `json:"message"`
}

// ErrUnknownPod is what a Backend returns for a pod that it does not have.
var ErrUnknownPod = errors.New("no such pod")

// Listen opens the socket at path, replacing one that a killed estate left
// behind; the caller holds the data directory's lock.
func Listen(path string) (*net.UnixListener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("control socket %s: %w (a socket's path may have 107 bytes at most)", path, err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		_ = ln.Close()
		return nil, err
	}
	return ln, nil
}

// Serve answers on ln until ctx ends.
func Serve(ctx context.Context, ln *net.UnixListener, b Backend) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, r *http.Request) {
		status, err := b.Status(r.Context(), r.FormValue("rows") != "false")
		answer(w, status, err)
	})
	mux.HandleFunc("POST /v1/stop", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, struct{}{}, nil)
		b.Stop()
	})
	mux.HandleFunc("POST /v1/token", func(w http.ResponseWriter, r *http.Request) {
		token, err := b.Token(r.Context(), r.FormValue("user"), r.FormValue("resource"))
		answer(w, token, err)
	})
	mux.HandleFunc("GET /v1/logs", func(w http.ResponseWriter, r *http.Request) {
		out := &flusher{w: w}
		if err := b.Logs(r.Context(), r.FormValue("pod"), r.FormValue("follow") == "true", out); err != nil && !out.wrote {
			answer(w, nil, err)
		}
	})
	mux.HandleFunc("POST /v1/ssh-certificate", func(w http.ResponseWriter, r *http.Request) { certify(w, r, b) })
	mux.HandleFunc("GET /v1/audit", func(w http.ResponseWriter, r *http.Request) {
		reports, err := b.VerifyAudit(r.Context(), r.FormValue("vault"))
		answer(w, reports, err)
	})
	mux.HandleFunc("GET /v1/access", func(w http.ResponseWriter, r *http.Request) {
		access, err := b.Access(r.Context(), AccessQuestion{r.FormValue("action"), r.FormValue("object"), r.FormValue("principal")})
		answer(w, access, err)
	})
	mux.HandleFunc("POST /v1/dial", func(w http.ResponseWriter, r *http.Request) { dial(w, r, b) })
	mux.HandleFunc("POST /v1/exec", func(w http.ResponseWriter, r *http.Request) { execute(w, r, b) })

	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, MaxHeaderBytes: 1 << 20,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, c)
		}}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(&ownerListener{ln}) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if srv.Shutdown(drain) != nil {
		_ = srv.Close()
	}
	<-done
	return nil
}

type connKey struct{}

// ownerListener closes connections of every other user.
type ownerListener struct{ *net.UnixListener }

func (l *ownerListener) Accept() (net.Conn, error) {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		if uid, err := peerUID(c); err == nil && uid == os.Getuid() {
			return &streamConn{UnixConn: c}, nil
		}
		_ = c.Close()
	}
}

func answer(w http.ResponseWriter, v any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		status := http.StatusInternalServerError
		if errors.Is(err, ErrUnknownPod) {
			status = http.StatusNotFound
		}
		w.WriteHeader(status)
		v = Problem{err.Error()}
	}
	_ = json.NewEncoder(w).Encode(v)
}

type flusher struct {
	w     http.ResponseWriter
	wrote bool
}

func (f *flusher) Write(p []byte) (int, error) {
	f.wrote = true
	n, err := f.w.Write(p)
	if err == nil {
		err = http.NewResponseController(f.w).Flush()
	}
	return n, err
}

// dial turns the HTTP connection into a byte stream to the address.
func dial(w http.ResponseWriter, r *http.Request, b Backend) {
	target, err := b.Dial(r.Context(), r.FormValue("from"), r.FormValue("address"))
	if err != nil {
		answer(w, nil, err)
		return
	}
	defer target.Close()
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: tcp\r\nConnection: Upgrade\r\n\r\n"); err != nil {
		return
	}
	splice(conn, buffered.Reader, target)
}

// splice copies both ways until both directions are at their end. The end of
// one direction is passed on, so that half-closed protocols work.
func splice(client net.Conn, fromClient io.Reader, target net.Conn) {
	done := make(chan struct{})
	go func() {
		_, _ = io.Copy(target, fromClient)
		closeWrite(target)
		close(done)
	}()
	_, _ = io.Copy(client, target)
	closeWrite(client)
	<-done
}

func closeWrite(c net.Conn) {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
		return
	}
	_ = c.Close()
}

// sshCertificateRequest asks for a certificate for the jump-box.
type sshCertificateRequest struct {
	User      string `json:"user"`
	PublicKey string `json:"publicKey"`
}

func certify(w http.ResponseWriter, r *http.Request, b Backend) {
	var req sshCertificateRequest
	if err := json.NewDecoder(io.LimitReader(r.Body, 64<<10)).Decode(&req); err != nil {
		answer(w, nil, fmt.Errorf("certificate request: %w", err))
		return
	}
	cert, err := b.SSHCertificate(r.Context(), req.User, req.PublicKey)
	answer(w, cert, err)
}

type execRequest struct {
	Pod  string   `json:"pod"`
	Argv []string `json:"argv"`
	Env  []string `json:"env"`
}

// ExecResult ends an exec conversation.
type ExecResult struct {
	ExitCode int    `json:"exitCode"`
	Error    string `json:"error,omitempty"`
}

// execute runs a command whose standard streams arrived as descriptors beside
// the request. The command ends when the client's connection does.
func execute(w http.ResponseWriter, r *http.Request, b Backend) {
	conn, ok := r.Context().Value(connKey{}).(*streamConn)
	var req execRequest
	if err := json.NewDecoder(io.LimitReader(r.Body, 1<<20)).Decode(&req); err != nil {
		answer(w, nil, fmt.Errorf("exec request: %w", err))
		return
	}
	files := conn.takeFiles()
	defer closeAll(files)
	if !ok || len(files) != 3 || len(req.Argv) == 0 {
		answer(w, nil, errors.New("exec needs a command and three descriptors"))
		return
	}
	code, err := b.Exec(r.Context(), req.Pod, req.Argv, req.Env, [3]*os.File(files))
	if errors.Is(err, ErrUnknownPod) {
		answer(w, nil, err)
		return
	}
	result := ExecResult{ExitCode: code}
	if err != nil {
		result.Error = err.Error()
	}
	answer(w, result, nil)
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}
