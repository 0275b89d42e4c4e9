package csi

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"verdant/azure/client"
)

// Config says how the provider reaches the platform.
type Config struct {
	// AuthorityHost is the identity service, https://host/.
	AuthorityHost string
	// HTTP reaches the identity service and the vaults, verifying both.
	HTTP *http.Client
	// NodeIdentity allows classes with useVMManagedIdentity, which read as the
	// node and not as the pod. Default no.
	NodeIdentity bool
	// Log hears of every mount: pod, objects, outcome. Default none.
	Log *slog.Logger
	// Now is the clock; default time.Now.
	Now func() time.Time
}

// Provider answers the driver. It is safe for concurrent use and keeps nothing
// between calls.
type Provider struct{ cfg Config }

// New checks cfg.
func New(cfg Config) (*Provider, error) {
	if cfg.HTTP == nil || cfg.AuthorityHost == "" {
		return nil, errors.New("secrets store provider: needs HTTP and AuthorityHost")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Provider{cfg}, nil
}

const (
	interfaceVersion = "v1alpha1"
	runtimeName      = "verdant-secrets-store-provider"
	runtimeVersion   = "1.0.0"

	// mountTimeout bounds a mount, whatever the driver allows.
	mountTimeout = time.Minute
	// maxRequest is the largest request read: attributes and secrets.
	maxRequest = 2 << 20
)

// Listen opens the provider's socket, for this user only. What a provider that
// was killed left behind is taken away; anything else at the path is not.
func Listen(path string) (net.Listener, error) {
	if info, err := os.Lstat(path); err == nil {
		if info.Mode().Type() != fs.ModeSocket {
			return nil, fmt.Errorf("provider socket %s: something else is there", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("provider socket: %w", err)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("provider socket: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("provider socket: %w", err)
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("provider socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("provider socket: %w", err), ln.Close())
	}
	return ln, nil
}

// Serve answers on ln, which it closes, until ctx ends.
func (p *Provider) Serve(ctx context.Context, ln net.Listener) error {
	server := grpc.NewServer(grpc.ForceServerCodec(codec{}), grpc.MaxRecvMsgSize(maxRequest), grpc.MaxConcurrentStreams(32), grpc.ConnectionTimeout(10*time.Second))
	server.RegisterService(&grpc.ServiceDesc{ServiceName: serviceName, HandlerType: (*any)(nil), Methods: []grpc.MethodDesc{
		{MethodName: "Version", Handler: unary(func(context.Context, *versionRequest) (*versionResponse, error) {
			return &versionResponse{interfaceVersion, runtimeName, runtimeVersion}, nil
		})},
		{MethodName: "Mount", Handler: unary(p.Mount)},
	}}, p)
	stop := context.AfterFunc(ctx, server.Stop)
	defer stop()
	err := server.Serve(ln)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

const serviceName = "v1alpha1.CSIDriverProvider"

// unary makes gRPC's handler of a function. A panic in it, which would be our
// defect, fails that call only.
func unary[Q, A any](answer func(context.Context, *Q) (*A, error)) func(any, context.Context, func(any) error, grpc.UnaryServerInterceptor) (any, error) {
	return func(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (out any, err error) {
		defer func() {
			if p := recover(); p != nil {
				out, err = nil, status.Error(codes.Internal, "the provider has a defect; see its log")
			}
		}()
		q := new(Q)
		if err := decode(q); err != nil {
			return nil, err
		}
		return answer(ctx, q)
	}
}

// Mount fetches what the request's class names, as the pod's own identity. All
// or nothing: one object that cannot be had fails the mount.
func (p *Provider) Mount(ctx context.Context, r *MountRequest) (*MountResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, mountTimeout)
	defer cancel()
	c, err := parseClass(r)
	if err == nil && c.node && !p.cfg.NodeIdentity {
		err = errors.New("useVMManagedIdentity is not allowed here: every pod of the node would have the same rights; give clientID")
	}
	if err != nil {
		p.cfg.Log.Warn("mount refused", "pod", c.pod, "why", err.Error())
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	out, err := p.mount(ctx, c)
	if err != nil {
		p.cfg.Log.Warn("mount failed", "pod", c.pod, "vault", c.vault, "why", err.Error())
		return nil, status.Error(codeOf(err), err.Error())
	}
	p.cfg.Log.Info("mounted", "pod", c.pod, "vault", c.vault, "files", len(out.Files), "changed", changed(r.Current, out.Versions))
	return out, nil
}

func (p *Provider) mount(ctx context.Context, c class) (*MountResponse, error) {
	credential, err := p.credential(c)
	if err != nil {
		return nil, err
	}
	platform, err := client.New(client.Config{VaultURL: c.vault}, client.WithCredential(credential), client.WithHTTPClient(p.cfg.HTTP), client.WithClock(p.cfg.Now))
	if err != nil {
		return nil, err
	}
	vault, err := platform.Vault("")
	if err != nil {
		return nil, err
	}
	out := &MountResponse{}
	seen := map[string]bool{}
	for _, o := range c.objects {
		files, version, err := fetch(ctx, vault, o)
		if err != nil {
			return nil, err
		}
		out.Files = append(out.Files, files...)
		if !seen[version.ID] { // two forms of one object have one version
			out.Versions = append(out.Versions, version)
		}
		seen[version.ID] = true
	}
	if err := checkFiles(out.Files); err != nil {
		return nil, err
	}
	return out, nil
}

// credential is the pod's: its service account token stands for its identity.
func (p *Provider) credential(c class) (azcore.TokenCredential, error) {
	options := azcore.ClientOptions{Transport: p.cfg.HTTP, Telemetry: policy.TelemetryOptions{Disabled: true},
		Cloud: cloud.Configuration{ActiveDirectoryAuthorityHost: p.cfg.AuthorityHost}}
	if c.node {
		o := &azidentity.ManagedIdentityCredentialOptions{ClientOptions: options}
		if c.nodeID != "" {
			o.ID = azidentity.ClientID(c.nodeID)
		}
		return azidentity.NewManagedIdentityCredential(o)
	}
	return azidentity.NewClientAssertionCredential(c.tenant, c.clientID, func(context.Context) (string, error) { return c.token, nil },
		&azidentity.ClientAssertionCredentialOptions{ClientOptions: options, DisableInstanceDiscovery: true})
}

// codeOf is the gRPC status of a failure.
func codeOf(err error) codes.Code {
	var refusal *client.Refusal
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return codes.DeadlineExceeded
	case errors.Is(err, context.Canceled):
		return codes.Canceled
	case errors.Is(err, client.ErrNotFound):
		return codes.NotFound
	case !errors.As(err, &refusal):
		return codes.Unknown
	}
	switch s := refusal.Status; {
	case s == http.StatusUnauthorized, refusal.Code == client.IdentityFailed:
		return codes.Unauthenticated
	case s == http.StatusForbidden:
		return codes.PermissionDenied
	case s == http.StatusNotFound:
		return codes.NotFound
	case s == http.StatusTooManyRequests:
		return codes.ResourceExhausted
	case s >= 500:
		return codes.Unavailable
	}
	return codes.FailedPrecondition
}

// changed reports whether what is mounted now is another version of something.
func changed(current, found []ObjectVersion) bool {
	if len(current) != len(found) {
		return true
	}
	versions := map[string]string{}
	for _, v := range current {
		versions[v.ID] = v.Version
	}
	for _, v := range found {
		if mounted, ok := versions[v.ID]; !ok || mounted != v.Version {
			return true
		}
	}
	return false
}

// Driver is the driver's side of the interface: a connection to a provider. It
// is safe for concurrent use.
type Driver struct{ conn *grpc.ClientConn }

// NewDriver returns a connection to the provider's socket at path. It is made
// when it is first used.
func NewDriver(path string) (*Driver, error) {
	conn, err := grpc.NewClient("passthrough:///provider", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		}), grpc.WithDefaultCallOptions(grpc.ForceCodec(codec{}), grpc.MaxCallRecvMsgSize(16<<20)))
	if err != nil {
		return nil, fmt.Errorf("provider socket %s: %w", path, err)
	}
	return &Driver{conn}, nil
}

// Mount asks the provider. What it answers is checked again: a driver writes no
// file that leads out of the mount, whoever the provider is.
func (d *Driver) Mount(ctx context.Context, r *MountRequest) (*MountResponse, error) {
	out := &MountResponse{}
	if err := d.conn.Invoke(ctx, "/"+serviceName+"/Mount", r, out); err != nil {
		if s, ok := status.FromError(err); ok {
			return nil, fmt.Errorf("secrets store provider: %s: %s", s.Code(), s.Message())
		}
		return nil, fmt.Errorf("secrets store provider: %w", err)
	}
	if out.ErrorCode != "" {
		return nil, fmt.Errorf("secrets store provider: it answered with the error %.100q", out.ErrorCode)
	}
	for _, f := range out.Files {
		if err := checkPath(f.Path); err != nil {
			return nil, fmt.Errorf("secrets store provider: file %w", err)
		}
		if f.Mode < 0 || f.Mode > 0o777 {
			return nil, fmt.Errorf("secrets store provider: file %s has the mode %o", f.Path, f.Mode)
		}
	}
	if err := checkFiles(out.Files); err != nil {
		return nil, fmt.Errorf("secrets store provider: %w", err)
	}
	return out, nil
}

// Changed reports whether the response holds another version of anything than
// what is mounted.
func (r *MountResponse) Changed(mounted []ObjectVersion) bool { return changed(mounted, r.Versions) }

// Close ends the connection.
func (d *Driver) Close() error { return d.conn.Close() }
