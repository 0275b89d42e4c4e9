package vnettest

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"testing"
	"time"

	"verdant/vnet"
)

const (
	// programEnv makes the test binary a pod's program instead of a test.
	programEnv = "VERDANT_VNETTEST_PROGRAM"
	// hostEnv tells a program that nothing but good manners keeps it off the
	// host's network, where the addresses of the tests mean something else.
	hostEnv = "VERDANT_VNETTEST_ON_HOST"
)

// Program is what a test binary does in a pod, or as a supervisor, instead of
// testing.
type Program func(args []string) error

// Main is the TestMain of a package that uses this one. The package's own
// programs come beside those of the conformance tests.
func Main(m *testing.M, own map[string]Program) {
	vnet.Boot()
	name := os.Getenv(programEnv)
	if name == "" {
		os.Exit(m.Run())
	}
	run, ok := own[name]
	if !ok {
		run, ok = programs[name]
	}
	err := fmt.Errorf("there is no program %q", name)
	if ok {
		err = run(os.Args[1:])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Env is the environment in which the test binary becomes a program. Under the
// race detector a process would otherwise rest for a second before it ends.
func Env(program string) []string {
	return []string{programEnv + "=" + program, "GORACE=atexit_sleep_ms=0"}
}

// Command runs a program in a pod.
func Command(program string, args ...string) vnet.Command {
	return vnet.Command{Args: args, Env: Env(program), Stderr: os.Stderr}
}

// programs are ordinary clients and servers of the standard library, which
// know nothing of the network they are in.
var programs = map[string]Program{
	"serve": func(args []string) error { return serve(args[0], args[1]) },
	"get":   func(args []string) error { return json.NewEncoder(os.Stdout).Encode(getAll(args)) },
	"wait": func([]string) error {
		fmt.Println("waiting")
		_, err := io.Copy(io.Discard, os.Stdin)
		return err
	},
}

// serve answers every request on addr with name and the asker's address until
// SIGTERM.
func serve(addr, name string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	fmt.Println("serving")
	server := &http.Server{
		ReadHeaderTimeout: time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			host, _, _ := net.SplitHostPort(r.RemoteAddr)
			_ = json.NewEncoder(w).Encode(reply{Kind: "pod", Name: name, Source: host})
		}),
	}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	if err := server.Serve(ln); err != http.ErrServerClosed {
		return err
	}
	return nil
}

// reply is what every server of the tests says about the connection.
type reply struct {
	Kind, VNet, Endpoint, Name, Source string
	LinkID                             uint32
}

// outcome is what came of one request; Refused holds the reason if nothing did.
type outcome struct {
	reply
	Refused string
}

// patience is how long a client waits before it takes silence for an answer.
// Only requests that are to stay without answer take as long.
const patience = 300 * time.Millisecond

// getAll fetches every URL at the same time, through a proxy if the
// environment names one.
func getAll(urls []string) map[string]outcome {
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		TLSClientConfig:     &tls.Config{InsecureSkipVerify: true},
		TLSHandshakeTimeout: 5 * time.Second,
		DialContext:         (&net.Dialer{Timeout: patience, Control: stayHome}).DialContext,
	}}
	var mu sync.Mutex
	var all sync.WaitGroup
	outcomes := map[string]outcome{}
	for _, url := range urls {
		all.Go(func() {
			o := get(client, url)
			mu.Lock()
			defer mu.Unlock()
			outcomes[url] = o
		})
	}
	all.Wait()
	return outcomes
}

// stayHome keeps a loopback pod that lost its proxy from dialling the world.
func stayHome(_, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if os.Getenv(hostEnv) != "" && (err != nil || !at.Addr().IsLoopback()) {
		return fmt.Errorf("a test wanted to dial %s from the host", address)
	}
	return nil
}

func get(client *http.Client, url string) (o outcome) {
	response, err := client.Get(url)
	if err != nil {
		o.Refused = err.Error()
		return o
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, body)
	}
	if err == nil {
		err = json.Unmarshal(body, &o.reply)
	}
	if err != nil {
		o.Refused = err.Error()
	}
	return o
}
