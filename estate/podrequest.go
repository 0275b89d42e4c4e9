package estate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"verdant/azure/client"
)

// PodRequest makes one HTTPS request from inside a pod with the pod's own
// managed identity and writes the status line and the body to out. It is what
// tests and the demo run in a pod to show what its identity may do; the
// resource of the token follows from the host's name.
func PodRequest(ctx context.Context, getenv func(string) string, method, target, body string, out io.Writer) error {
	u, err := url.Parse(target)
	if err != nil || u.Scheme != "https" {
		return fmt.Errorf("%q is not an https URL", target)
	}
	platform, err := client.FromEnv(getenv)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, target, strings.NewReader(body))
	if err != nil {
		return err
	}
	if resource := resourceOfHost(u.Hostname()); resource != "" {
		token, err := platform.Token(ctx, resource)
		if err != nil {
			return fmt.Errorf("token for %s: %w", resource, err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := platform.HTTPClient().Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	fmt.Fprintln(out, resp.Proto, resp.Status)
	_, err = io.Copy(out, io.LimitReader(resp.Body, 1<<20))
	fmt.Fprintln(out)
	return err
}

func resourceOfHost(host string) string {
	switch {
	case strings.HasSuffix(host, ".vault.azure.net"):
		return "https://vault.azure.net"
	case strings.HasPrefix(host, "api.loganalytics."):
		return "https://api.loganalytics.io"
	}
	return ""
}

// PodReach reports whether the pod in which it runs can open a connection to
// host:port.
func PodReach(ctx context.Context, getenv func(string) string, address string) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	if proxy := getenv("HTTPS_PROXY"); proxy != "" { // the loopback driver's network
		return errors.New("pod-reach looks at kernel networks only")
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return conn.Close()
}
