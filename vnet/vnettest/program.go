package vnettest

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"verdant/vnet"
)

// programEnv makes the test binary a pod's program instead of a test.
const programEnv = "VERDANT_VNETTEST_PROGRAM"

// Main is the TestMain of a package that uses this one.
func Main(m *testing.M) {
	vnet.Boot()
	if p := os.Getenv(programEnv); p != "" {
		os.Exit(program(p, os.Args[1:]))
	}
	os.Exit(m.Run())
}

// program is what runs in the tests' pods: ordinary clients and servers of the
// standard library, which know nothing of the network they are in.
func program(name string, args []string) int {
	var err error
	switch name {
	case "serve":
		err = serve(args[0], args[1])
	case "get":
		err = json.NewEncoder(os.Stdout).Encode(getAll(args))
	case "lookup":
		err = json.NewEncoder(os.Stdout).Encode(lookupAll(args))
	case "wait":
		fmt.Println("waiting")
		_, err = io.Copy(io.Discard, os.Stdin)
	default:
		err = fmt.Errorf("unknown program %q", name)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
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
const patience = 400 * time.Millisecond

// getAll fetches every URL at the same time, through a proxy if the
// environment names one.
func getAll(urls []string) map[string]outcome {
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		TLSClientConfig:     &tls.Config{InsecureSkipVerify: true},
		TLSHandshakeTimeout: 5 * time.Second,
		DialContext:         (&net.Dialer{Timeout: patience}).DialContext,
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

func lookupAll(names []string) map[string]string {
	found := map[string]string{}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	for _, name := range names {
		addrs, err := net.DefaultResolver.LookupHost(ctx, name)
		if err != nil {
			addrs = []string{"error: " + err.Error()}
		}
		found[name] = strings.Join(addrs, " ")
	}
	return found
}
