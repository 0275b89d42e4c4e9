package estate

import (
	"bufio"
	"context"
	"crypto/fips140"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"

	"verdant/estate/control"
	"verdant/vnet"
)

// StartConfig describes an estate to start.
type StartConfig struct {
	// DataDir holds its state; made where there is none.
	DataDir   string
	Variables Variables
	// RootSeal is what CheckRootSeal returned, or "" for what the directory was
	// made with.
	RootSeal string
	// Network is auto, isolated or loopback.
	Network string
	// IngressAddr and JumpboxAddr are where it listens on the host; port 0
	// takes a free one.
	IngressAddr, JumpboxAddr string
	// Progress is told what goes on; may be nil.
	Progress func(control.Event)
}

// Running is an estate that this process started. It ends with this process.
type Running struct {
	dir    *DataDir
	people []Credential
	child  *vnet.Child
	ready  chan struct{}
	failed chan struct{} // closed when the supervisor's events end
	cause  error         // set before failed is closed
	ended  chan error
}

// ErrStopped means that an estate was stopped before it was ready.
var ErrStopped = errors.New("the estate was stopped before it was ready")

// ErrAddress is wrapped when a listening address is not one.
var ErrAddress = errors.New("not a listening address")

// CheckHostAddress checks an address to listen on: an IP address and a port.
func CheckHostAddress(addr string) error {
	if _, err := netip.ParseAddrPort(addr); err != nil {
		return fmt.Errorf("%w: %q; write it as 127.0.0.1:8443", ErrAddress, addr)
	}
	return nil
}

// ErrFIPS is returned where GODEBUG=fips140=only forbids what an estate needs.
var ErrFIPS = errors.New("GODEBUG=fips140=only forbids what an estate needs (passwords by Argon2id, OAEP and thumbprints with SHA-1, databases encrypted by Adiantum); use GODEBUG=fips140=on, with which everything that the FIPS 140-3 module offers is done by it")

func checkFIPS() error {
	if fips140.Enforced() {
		return ErrFIPS
	}
	return nil
}

// Start opens the data directory and the host's listeners, and starts the
// supervisor behind them. It returns while the estate is coming up.
func Start(ctx context.Context, cfg StartConfig) (*Running, error) {
	if cfg.Progress == nil {
		cfg.Progress = func(control.Event) {}
	}
	if err := checkFIPS(); err != nil {
		return nil, err
	}
	driver, err := vnet.Choose(ctx, cfg.Network)
	if err != nil {
		return nil, err
	}
	cfg.Progress(control.Event{Time: time.Now(), Text: fmt.Sprintf("network driver %s: %s", driver.Driver, driver.Why)})
	for _, limit := range driver.Limits {
		cfg.Progress(control.Event{Time: time.Now(), Text: "  not enforced: " + limit})
	}
	dir, err := OpenDataDir(ctx, cfg.DataDir, cfg.Variables, cfg.RootSeal)
	if err != nil {
		return nil, err
	}
	r := &Running{dir: dir, ready: make(chan struct{}), failed: make(chan struct{}), ended: make(chan error, 1)}
	if err := r.launch(cfg, driver.Driver); err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return r, nil
}

func (r *Running) launch(cfg StartConfig, driver vnet.Driver) error {
	var files []*os.File
	defer func() {
		for _, f := range files {
			_ = f.Close()
		}
	}()
	keep := func(f *os.File, err error) error {
		if err == nil {
			files = append(files, f)
		}
		return err
	}
	if err := keep(duplicate(r.dir.LockFile())); err != nil {
		return err
	}
	for _, addr := range []string{cfg.IngressAddr, cfg.JumpboxAddr} {
		if err := keep(listenFile(addr)); err != nil {
			return err
		}
	}
	socket, err := control.Listen(r.dir.Socket())
	if err != nil {
		return err
	}
	socket.SetUnlinkOnClose(false) // the supervisor unlinks it
	err = keep(socket.File())
	_ = socket.Close()
	if err != nil {
		return err
	}
	events, w, err := os.Pipe()
	if err != nil {
		return err
	}
	files = append(files, w)
	if err := keep(r.dir.RootFile()); err != nil {
		_ = events.Close()
		return err
	}
	r.people = credentials(NamesFor(cfg.Variables), r.dir)
	r.child, err = vnet.Reexec(context.Background(), vnet.ReexecConfig{
		Driver: driver, Args: []string{"supervise", "--data-dir", r.dir.Path, "--driver", string(driver)},
		Dir: "/", Stderr: os.Stderr, Files: files,
	})
	if err != nil {
		_ = events.Close()
		return err
	}
	go r.listen(events, cfg.Progress)
	go func() { // Ends with the child.
		err := r.child.Wait()
		<-r.failed
		if r.cause != nil {
			err = r.cause
		} else if err != nil {
			err = fmt.Errorf("the supervisor ended: %w", err)
		}
		_ = r.dir.Close()
		r.ended <- err
	}()
	return nil
}

// listen reads the supervisor's events until it ends.
func (r *Running) listen(events *os.File, progress func(control.Event)) {
	defer close(r.failed)
	defer events.Close()
	lines := bufio.NewScanner(events)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			continue
		}
		switch {
		case e.Ready:
			close(r.ready)
		case e.Failed != "":
			r.cause = errors.New(strings.TrimSpace(e.Failed))
		default:
			progress(e.Event)
		}
	}
}

func duplicate(f *os.File) (*os.File, error) {
	fd, err := syscall.Dup(int(f.Fd()))
	if err != nil {
		return nil, err
	}
	syscall.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// listenFile opens a listening socket of the host as a file, to be inherited.
func listenFile(addr string) (*os.File, error) {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) {
			err = op.Err // the rest repeats the address
		}
		return nil, fmt.Errorf("listen on %s: %w; another program has it, or choose another with --ingress-addr or --jumpbox-addr", addr, err)
	}
	defer ln.Close()
	return ln.(*net.TCPListener).File()
}

// WaitReady waits until every pod has answered; the error says why the estate
// did not come up.
func (r *Running) WaitReady(ctx context.Context) error {
	select {
	case <-r.ready:
		return nil
	case err := <-r.ended:
		r.ended <- err
		if err == nil {
			err = ErrStopped
		}
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Ended delivers the estate's end, once.
func (r *Running) Ended() <-chan error { return r.ended }

// Control is the way to talk to the estate.
func (r *Running) Control() *control.Client { return control.NewClient(r.dir.Socket()) }

// Credentials are the demo users' sign-ins.
func (r *Running) Credentials() []Credential { return r.people }

// PID is the supervisor's process id.
func (r *Running) PID() int { return r.child.Pid() }

// Stop ends the estate in an orderly way, and by force if that takes long.
func (r *Running) Stop() error {
	_ = r.child.Signal(syscall.SIGTERM)
	select {
	case err := <-r.ended:
		r.ended <- nil
		return err
	case <-time.After(2 * shutdownGrace):
		_ = r.child.Signal(syscall.SIGKILL)
		<-r.ended
		r.ended <- nil
		return fmt.Errorf("the supervisor did not stop within %s and was killed", 2*shutdownGrace)
	}
}
