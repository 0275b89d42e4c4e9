package portal

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestThePodServesWithoutReachingForAnything: the portal is ready although
// neither the vault nor the identity service answers yet.
func TestThePodServesWithoutReachingForAnything(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := ln.Addr().String()
	_ = ln.Close()
	env := map[string]string{"VERDANT_POD": "dgca-issuance-web", "VERDANT_REGION": "eudcc-ie", "LISTEN_ADDR": address, "COUNTRY": "IE",
		"AZURE_TENANT_ID": tenantID, "AZURE_CLIENT_ID": clientID, "AZURE_AUTHORITY_HOST": "https://127.0.0.1:1/", "KEYVAULT_URL": "https://127.0.0.1:1",
		"PORTAL_URL": "https://portal.test", "PORTAL_AUTHORITY": "https://127.0.0.1:1/" + tenantID, "PORTAL_CLIENT_ID": clientID,
		"ISSUANCE_SERVICE_URL": "http://127.0.0.1:1", "ISSUANCE_AUDIENCE": "api://dgca-issuance-service"}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, func(name string) string { return env[name] }, io.Discard) }()
	for {
		resp, err := http.Get("http://" + address + "/healthz")
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				t.Errorf("got %s", resp.Status)
			}
			break
		}
		select {
		case err := <-ended:
			t.Fatalf("ended early: %v", err)
		case <-time.After(2 * time.Millisecond):
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("ended with %v", err)
	}
}

func TestThePodSaysWhatItsEnvironmentLacks(t *testing.T) {
	env := map[string]string{"KEYVAULT_URL": "https://127.0.0.1:1", "PORTAL_URL": "http://plain.test", "PORTAL_AUTHORITY": "https://127.0.0.1:1/t", "AZURE_AUTHORITY_HOST": "https://127.0.0.1:1/"}
	err := Run(t.Context(), func(name string) string { return env[name] }, io.Discard)
	if err == nil || !strings.Contains(err.Error(), `URL "http://plain.test" is not an https URL`) {
		t.Errorf("got %v", err)
	}
}
