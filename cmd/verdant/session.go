package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"verdant/estate"
	"verdant/estate/control"
)

// session is a command's way to a running estate.
type session struct {
	dataDir   string
	user      string // "" is the demo administrator
	json      bool
	control   *control.Client
	variables estate.Variables
}

// sessionFlags are the flags of every command that talks to an estate.
type sessionFlags struct {
	dataDir, output, user string
}

func (f *sessionFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.dataDir, "data-dir", estate.DefaultDataDir(), "directory of the estate's state")
	cmd.Flags().StringVarP(&f.output, "output", "o", "text", "how to print: text or json")
}

// registerAs adds --as for commands that sign in.
func (f *sessionFlags) registerAs(cmd *cobra.Command, defaultUser string) {
	cmd.Flags().StringVar(&f.user, "as", defaultUser, "the user to sign in as: admin, professional, auditor, citizen, or a full sign-in name")
}

func (f *sessionFlags) open() (*session, error) {
	if err := checkOutput(f.output); err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(f.dataDir)
	if err != nil {
		return nil, err
	}
	variables, ok := estate.SavedVariables(dir)
	if !ok {
		variables = estate.DefaultVariables()
	}
	return &session{dataDir: dir, user: f.user, json: f.output == "json",
		control: control.NewClient(filepath.Join(dir, "control.sock")), variables: variables}, nil
}

func (s *session) names() estate.Names { return estate.NamesFor(s.variables) }

// token signs the session's user in to a resource.
func (s *session) token(ctx context.Context, resource string) (string, error) {
	t, err := s.control.Token(ctx, s.user, resource)
	if err != nil {
		return "", fmt.Errorf("sign in to %s: %w", resource, err)
	}
	return t.AccessToken, nil
}

// client reaches public names through the ingress that is open on the host,
// and every other name from the jump-box of a region.
func (s *session) client(ctx context.Context, from string) (*http.Client, error) {
	status, err := s.control.Summary(ctx)
	if err != nil {
		return nil, err
	}
	ingress := ""
	for _, a := range status.Addresses {
		if a.Name == estate.IngressAddress {
			ingress = a.URL
		}
	}
	roots, err := estate.TrustedRoots(s.dataDir)
	if err != nil {
		return nil, fmt.Errorf("the estate's TLS root: %w", err)
	}
	var dialer net.Dialer
	return &http.Client{
		Timeout: 2 * time.Minute,
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				host, _, err := net.SplitHostPort(address)
				if err != nil {
					return nil, err
				}
				if strings.HasSuffix(host, "."+s.variables.ParentDNSZone) {
					return dialer.DialContext(ctx, network, ingress)
				}
				return s.control.Dial(ctx, jumpboxFor(from, host), address)
			},
			TLSClientConfig:     &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			ForceAttemptHTTP2:   true,
			MaxIdleConnsPerHost: 64,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// jumpboxFor picks the region whose jump-box a request leaves from: the one
// asked for, else the one in the host's name, else Ireland.
func jumpboxFor(from, host string) string {
	if from != "" {
		return from
	}
	for _, r := range estate.Regions() {
		if strings.Contains(host, string(r)) {
			return string(r)
		}
	}
	return string(estate.IE)
}

// resourceOf is the audience of tokens for a host, as `az rest` derives it.
func (s *session) resourceOf(u *url.URL) (string, error) {
	host := u.Hostname()
	switch {
	case strings.HasSuffix(host, ".vault.azure.net"):
		return "https://vault.azure.net", nil
	case strings.HasPrefix(host, "api.loganalytics."):
		return "https://api.loganalytics.io", nil
	case host == s.names().ManagementHost(), host == "management.azure.com":
		return "https://management.azure.com/", nil
	case strings.HasPrefix(host, "dgca-issuance-web."):
		return estate.PortalAudience, nil
	}
	return "", usagef("no known API at %s; name the token's audience with --resource", host)
}

// checkOutput refuses an -o that is neither text nor json.
func checkOutput(o string) error {
	if o != "text" && o != "json" {
		return usagef("-o %q: print as text or json", o)
	}
	return nil
}

// printJSON writes v indented.
func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// readInput reads a file, or standard input for "-", up to a limit.
func readInput(name string, limit int64) ([]byte, error) {
	in := os.Stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s is over %d bytes", name, limit)
	}
	return data, err
}
