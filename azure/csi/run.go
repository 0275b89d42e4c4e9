package csi

import (
	"context"
	"errors"
	"io"

	"verdant/azure/client"
)

// Run serves the provider as its environment describes it, until ctx ends:
// CSI_ENDPOINT, the path of the socket in the driver's directory of providers;
// AZURE_AUTHORITY_HOST, the identity service; SSL_CERT_FILE and the proxy
// variables; CSI_NODE_IDENTITY, "true" to allow useVMManagedIdentity.
func Run(ctx context.Context, getenv func(string) string, stdout io.Writer) error {
	platform, err := client.FromEnv(getenv)
	if err != nil {
		return err
	}
	path, authority := getenv("CSI_ENDPOINT"), platform.Config().AuthorityHost
	if path == "" {
		return errors.New("CSI_ENDPOINT is not set; give the path of the socket, such as /etc/kubernetes/secrets-store-csi-providers/azure.sock")
	}
	if authority == "" {
		authority = "https://login.microsoftonline.com/"
	}
	log := platform.Logger(stdout)
	p, err := New(Config{AuthorityHost: authority, HTTP: platform.HTTPClient(), NodeIdentity: getenv("CSI_NODE_IDENTITY") == "true", Log: log})
	if err != nil {
		return err
	}
	ln, err := Listen(path)
	if err != nil {
		return err
	}
	log.Info("secrets store provider is ready", "socket", path)
	return p.Serve(ctx, ln)
}
