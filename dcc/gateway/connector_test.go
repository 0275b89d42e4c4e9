package gateway

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"verdant/dcc/connector"
	"verdant/trustlist"
)

// connect makes the connector of a country through the ingress.
func (w *world) connect(c *country) *connector.Connector {
	w.t.Helper()
	front := w.ingress(w.http.Config.Handler)
	roots := x509.NewCertPool()
	roots.AddCert(front.Certificate())
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{{Certificate: [][]byte{c.auth.Raw}, PrivateKey: c.authKey}}}}
	w.t.Cleanup(tr.CloseIdleConnections)
	con, err := connector.New(connector.Config{Gateway: front.URL}, connector.Deps{
		HTTP: &http.Client{Transport: tr}, Anchor: w.anchor, Now: w.now,
		Uploader: &trustlist.CMSSigner{Certificate: c.upload, Key: c.uploadKey, Now: w.now}})
	if err != nil {
		w.t.Fatal(err)
	}
	return con
}

func TestTheConnectorExchangesWithTheGatewayOverMutualTLS(t *testing.T) {
	w := newWorld(t)
	ie, de := w.connect(w.ie), w.connect(w.de)
	dsc := w.dsc(w.ie)
	for range 2 { // the second time the gateway says that it has it: as good
		if err := ie.Upload(t.Context(), dsc); err != nil {
			t.Fatal(err)
		}
	}
	if err := de.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := de.Current().List.DSCs(); len(got) != 1 || got[0].Country() != "IE" || got[0].Thumbprint() != trustlist.Thumbprint(dsc.Raw) {
		t.Fatalf("got %v", got)
	}
	before := de.Current()
	w.clock.Add(int64(time.Minute / time.Microsecond))
	if err := de.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after := de.Current(); after.List != before.List || !after.At.After(before.At) {
		t.Error("an unchanged list was not just confirmed")
	}

	var ge *connector.GatewayError
	if err := de.Upload(t.Context(), dsc); !errors.As(err, &ge) || ge.Status != 400 || ge.Report.Code != "0x004" || !strings.Contains(err.Error(), "0x004") {
		t.Errorf("another country's document signer: got %v", err)
	}
	countries, err := de.Countries(t.Context())
	if err != nil || len(countries) != 2 {
		t.Errorf("countries: got %v, %v", countries, err)
	}
	if got := w.call(w.ie, "POST", "/rules", w.cms(w.ie, []byte(ruleJSON(nil)))); got.status != 201 {
		t.Fatal(got.body)
	}
	rules, err := de.Rules(t.Context(), "IE")
	if err != nil || len(rules) != 1 || string(rules[0].JSON) != ruleJSON(nil) {
		t.Errorf("rules: got %v, %v", rules, err)
	}
	sets, err := de.ValueSets(t.Context())
	if err != nil || len(sets) != 8 {
		t.Errorf("value sets: got %d, %v", len(sets), err)
	}

	// The last signer goes; the gateway lists it as deleted, so it goes.
	if got := w.call(w.ie, "DELETE", "/signerCertificate", w.cms(w.ie, dsc.Raw)); got.status != 204 {
		t.Fatal(got.body)
	}
	if err := de.Refresh(t.Context()); err != nil || len(de.Current().List.DSCs()) != 0 {
		t.Errorf("after the deletion: %d signers, %v", len(de.Current().List.DSCs()), err)
	}
}

func TestAStrangersClientCertificateGetsNothing(t *testing.T) {
	w := newWorld(t)
	fr := w.country("FR") // not onboarded: the server started before
	var ge *connector.GatewayError
	if err := w.connect(fr).Refresh(t.Context()); !errors.As(err, &ge) || ge.Status != 401 || ge.Report.Code != "0x402" {
		t.Errorf("got %v", err)
	}
}
