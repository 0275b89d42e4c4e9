package estate

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"verdant/estate/control"
	"verdant/internal/telemetry"
	"verdant/vnet"
)

// podEnv is a pod's environment: addresses, names and its own identity's id.
// There is no secret in it.
func (s *supervisor) podEnv(r Region, p Pod) []string {
	n := s.names
	source, err := s.fabric.DialSource(n.VNet(r))
	if err != nil {
		return nil // the network exists since the start
	}
	ca := filepath.Join(s.dir.Path, rootPEM)
	env := map[string]string{
		"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/tmp",
		"VERDANT_POD": p.Name, "VERDANT_REGION": string(r), "INGRESS_SOURCE": source.String(),
		"AZURE_TENANT_ID": n.v.TenantID, "AZURE_CLIENT_ID": n.Identity(r, p.Identity).ClientID,
		"AZURE_AUTHORITY_HOST": "https://" + n.LoginHost() + "/", "KEYVAULT_URL": "https://" + n.VaultHost(r),
		// The roots, under the names that OpenSSL, curl, Python, Node and Java read.
		"SSL_CERT_FILE": ca, "CURL_CA_BUNDLE": ca, "REQUESTS_CA_BUNDLE": ca, "NODE_EXTRA_CA_CERTS": ca,
		"JAVA_TOOL_OPTIONS": `-Djavax.net.ssl.trustStore="` + filepath.Join(s.dir.Path, rootPKCS12) + `"`,
		"VERDANT_STATE_DIR": filepath.Join(s.dir.Path, "state", "volumes", string(r), p.Name),
		"COUNTRY":           strings.ToUpper(strings.TrimPrefix(string(r), "eudcc-")),
		// Pods are small: collect garbage before growing.
		"GOMEMLIMIT": "64MiB",
	}
	if p.Database != "" {
		env["MYSQL_HOST"], env["MYSQL_PORT"] = n.DatabaseHost(r), "3306"
		env["MYSQL_DATABASE"], env["MYSQL_USER"] = p.Database, p.Identity
	}
	maps.Copy(env, s.serviceEnv(r, p))
	list := make([]string, 0, len(env))
	for name, value := range env {
		list = append(list, name+"="+value)
	}
	return list
}

// serviceEnv is what only a pod's own service needs to know.
func (s *supervisor) serviceEnv(r Region, p Pod) map[string]string {
	n := s.names
	_, port, _ := net.SplitHostPort(s.ingress.Addr().String()) // a listener's address always splits
	env := map[string]string{}
	switch p.Service {
	case "dgc-gateway":
		env["ONBOARDING_DIR"] = filepath.Join(s.dir.Path, "state", "onboarding")
	case "dgca-issuance-web":
		env["ISSUANCE_AUDIENCE"] = issuanceAudience
		env["ISSUANCE_SERVICE_URL"] = fmt.Sprintf("http://%s:%d", s.clusters[r].pods["dgca-issuance-service"].pod.Addr(), podPort)
		env["PORTAL_CLIENT_ID"] = n.portalClientID()
		env["PORTAL_AUTHORITY"] = fmt.Sprintf("https://%s:%s/%s", n.LoginHost(), port, n.v.TenantID)
		env["PORTAL_URL"] = fmt.Sprintf("https://%s:%s", n.ServiceHost(p.Name, r), port)
	case "dgca-issuance-service":
		env["DGC_GATEWAY_ENDPOINT"] = "https://" + n.ServiceHost("dgc-gateway", EU)
		env["ISSUANCE_AUDIENCE"] = issuanceAudience
		env["ISSUANCE_CALLERS"] = n.Identity(r, "dgca-issuance-web").PrincipalID
		env["ISSUANCE_ROLE"] = "private"
		if p.Public {
			env["ISSUANCE_ROLE"] = "public"
		}
	default:
		env["DGC_GATEWAY_ENDPOINT"] = "https://" + n.ServiceHost("dgc-gateway", EU)
	}
	return env
}

// httpFrom is an HTTP client inside a region's network: the way on which the
// deployment reaches the vault, like everybody else.
func (s *supervisor) httpFrom(r Region) *http.Client {
	return s.httpOver(func(ctx context.Context, _, address string) (net.Conn, error) {
		return s.dial(ctx, r, address)
	})
}

// httpOnBackbone is an HTTP client of the platform's own services, which in
// Azure too reach a closed vault as trusted services: it leads to the region's
// vault and nowhere else.
func (s *supervisor) httpOnBackbone(r Region) *http.Client {
	return s.httpOver(func(ctx context.Context, _, _ string) (net.Conn, error) {
		return s.backbones[r].Dial(ctx)
	})
}

func (s *supervisor) httpOver(dial func(ctx context.Context, network, address string) (net.Conn, error)) *http.Client {
	return &http.Client{
		Timeout: 30 * time.Second,
		Transport: &http.Transport{
			DialContext:       dial,
			TLSClientConfig:   &tls.Config{RootCAs: s.authority.roots(), MinVersion: tls.VersionTLS12},
			ForceAttemptHTTP2: true,
		},
	}
}

func (s *supervisor) sinks() map[Region]telemetry.Sink {
	sinks := map[Region]telemetry.Sink{}
	for _, r := range Regions() {
		sinks[r] = s.sink(r)
	}
	return sinks
}

// find returns the pod of that name and its cluster.
func (s *supervisor) find(pod string) (*cluster, *workload, error) {
	var names []string
	for _, r := range Regions() {
		for _, p := range PodsOf(r) {
			if p.Name == pod {
				return s.clusters[r], s.clusters[r].pods[pod], nil
			}
			names = append(names, p.Name)
		}
	}
	return nil, nil, fmt.Errorf("%w %q; there are %s", control.ErrUnknownPod, pod, strings.Join(names, ", "))
}

// Logs implements control.Backend.
func (s *supervisor) Logs(ctx context.Context, pod string, follow bool, w io.Writer) error {
	var names []string
	for _, r := range Regions() {
		for _, p := range PodsOf(r) {
			names = append(names, p.Name)
		}
	}
	if pod != "" {
		if _, _, err := s.find(pod); err != nil {
			return err
		}
	}
	return s.podLogs.print(ctx, pod, names, follow, w)
}

// Token implements control.Backend. Whoever owns the data directory may be
// any user of the demo tenant, as somebody who has signed in to each.
func (s *supervisor) Token(ctx context.Context, user, resource string) (control.Token, error) {
	if user == "" {
		user = AdminUser
	}
	if !strings.Contains(user, "@") {
		user = s.names.UPN(user)
	}
	token, expires, err := s.identity.MintUser(ctx, user, resource, commandLineClient)
	return control.Token{AccessToken: token, ExpiresOn: expires, User: user}, err
}

// Dial implements control.Backend: from a region's jump-box, or from a pod's
// network.
func (s *supervisor) Dial(ctx context.Context, from, address string) (net.Conn, error) {
	for _, r := range Regions() {
		if from == string(r) {
			return s.fabric.DialName(ctx, s.names.DevVNet(r), address)
		}
	}
	c, _, err := s.find(from)
	if err != nil {
		return nil, err
	}
	return s.fabric.DialName(ctx, s.names.VNet(c.region), address)
}

// Exec implements control.Backend.
func (s *supervisor) Exec(ctx context.Context, pod string, argv, env []string, streams [3]*os.File) (int, error) {
	c, w, err := s.find(pod)
	if err != nil {
		return 0, err
	}
	full := append(append([]string{}, env...), s.podEnv(c.region, w.spec)...)
	full = append(full, w.pod.Env()...)
	full = append(full, c.metadataEnv(w)...)
	process, err := w.pod.Exec(vnet.Command{Path: argv[0], Args: argv[1:], Env: full, Stdin: streams[0], Stdout: streams[1], Stderr: streams[2]})
	if err != nil {
		return 0, err
	}
	select {
	case <-process.Done():
	case <-ctx.Done():
		return 0, errors.Join(ctx.Err(), process.Kill())
	}
	err = process.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), nil
	}
	return 0, err
}

// Stop implements control.Backend.
func (s *supervisor) Stop() { s.stop() }
