package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"verdant/estate"
	"verdant/estate/control"
	"verdant/hcert"
)

func newDemoCommand() *cobra.Command {
	var network string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "The tour, unattended: issue, verify, tamper, take a key away, give it back, read the audit trail",
		Args:  exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := os.MkdirTemp("", "verdant-demo-")
			if err != nil {
				return err
			}
			err = demo(cmd.Context(), filepath.Join(dir, "estate"), network)
			return errors.Join(err, os.RemoveAll(dir))
		},
	}
	cmd.Flags().StringVar(&network, "network", "auto", "auto, isolated or loopback")
	return cmd
}

// tour is the state of one demo.
type tour struct {
	ctx   context.Context
	s     *session
	begun time.Time
	step  int
}

func (t *tour) say(format string, args ...any) {
	t.step++
	fmt.Printf("%5.1fs  %2d. %s\n", time.Since(t.begun).Seconds(), t.step, fmt.Sprintf(format, args...))
}

func (t *tour) note(format string, args ...any) {
	fmt.Printf("            %s\n", fmt.Sprintf(format, args...))
}

func demo(ctx context.Context, dir, network string) (err error) {
	flags := upFlags{session: sessionFlags{dataDir: dir, output: "text"}, network: network,
		ingress: "127.0.0.1:0", jumpbox: "127.0.0.1:0"}
	cfg, err := flags.config()
	if err != nil {
		return err
	}
	t := &tour{ctx: ctx, begun: time.Now()}
	t.say("Bringing up the EU gateway and Ireland in %s …", dir)
	running, err := estate.Start(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, running.Stop()) }()
	if err := running.WaitReady(ctx); err != nil {
		return err
	}
	flags.session.user = estate.ProfessionalUser
	if t.s, err = flags.session.open(); err != nil {
		return err
	}
	status, err := t.s.control.Summary(ctx)
	if err != nil {
		return err
	}
	t.note("Network: %s", status.Network)
	for _, limit := range status.Limits {
		t.note("not enforced: %s", limit)
	}
	t.note("%d pods are running, each with an identity of its own; no password and no signing key was handed to any.", len(status.Pods))

	hc1, err := t.issueAndVerify()
	if err != nil {
		return err
	}
	if err := t.tampered(hc1); err != nil {
		return err
	}
	if err := t.verifierTriesTheSigningKey(); err != nil {
		return err
	}
	if err := t.takeKeyAwayAndGiveItBack(); err != nil {
		return err
	}
	if err := t.audit(); err != nil {
		return err
	}
	t.say("Stopping; the temporary directory goes too.")
	return nil
}

// issueAndVerify issues one certificate of each type and returns the last.
func (t *tour) issueAndVerify() (string, error) {
	t.say("A health professional signs in to the portal and issues a certificate of each type.")
	var hc1 string
	for _, kind := range []hcert.Kind{hcert.KindVaccination, hcert.KindTest, hcert.KindRecovery} {
		cert, err := t.s.issue(t.ctx, example(kind, time.Now()))
		if err != nil {
			return "", fmt.Errorf("issue a %s certificate: %w", kind, err)
		}
		keys, err := t.s.trustList(t.ctx)
		if err != nil {
			return "", err
		}
		v := judge(cert.HC1, keys, time.Now())
		if !v.Valid {
			return "", fmt.Errorf("the %s certificate just issued was not accepted: %s", kind, v)
		}
		t.note("%-12s %s", kind, cert.UVCI)
		t.note("%-12s %s", "", v)
		hc1 = cert.HC1
	}
	t.note("Each was signed in Ireland's vault by a key that cannot leave it; the verifier trusts the")
	t.note("document signer because Ireland uploaded it to the EU gateway, and the gateway's list is")
	t.note("signed up to the trust anchor.")
	return hc1, nil
}

func (t *tour) tampered(hc1 string) error {
	t.say("A forger makes the holder of the last certificate a year younger.")
	keys, err := t.s.trustList(t.ctx)
	if err != nil {
		return err
	}
	forged, err := tamper(hc1)
	if err != nil {
		return err
	}
	v := judge(forged, keys, time.Now())
	if v.Valid {
		return errors.New("a forged certificate was accepted")
	}
	t.note("%s", v)
	return nil
}

// verifierTriesTheSigningKey runs a request inside the verifier's pod, with
// the verifier's own identity.
func (t *tour) verifierTriesTheSigningKey() error {
	t.say("The verifier's pod asks the vault to sign with the document signer's key.")
	vault := "https://" + t.s.names().VaultHost(estate.IE)
	out, err := t.inPod("dgca-verifier-service", "POST", vault+"/keys/dsc-key-store/sign?api-version=7.4",
		`{"alg":"ES256","value":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}`)
	if err != nil {
		return err
	}
	if !strings.Contains(out, "ForbiddenByRbac") {
		return fmt.Errorf("the vault did not refuse the verifier: %s", clip(out))
	}
	t.note("The private endpoint answered, and refused: 403 Forbidden (ForbiddenByRbac).")
	return nil
}

// inPod makes a request from a pod and returns status line and body.
func (t *tour) inPod(pod, method, url, body string) (string, error) {
	exe, err := os.Executable()
	if err != nil {
		return "", err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return "", err
	}
	defer r.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return "", err
	}
	defer null.Close()
	text := make(chan string, 1)
	go func() {
		raw, _ := io.ReadAll(io.LimitReader(r, 1<<20))
		text <- string(raw)
	}()
	_, err = t.s.control.Exec(t.ctx, pod, []string{exe, "pod-request", method, url, body}, nil, [3]*os.File{null, w, w})
	_ = w.Close()
	return <-text, err
}

func (t *tour) takeKeyAwayAndGiveItBack() error {
	t.say("An administrator takes the database's role on its encryption key away.")
	names := t.s.names()
	grant, ok := names.GrantOf(estate.IE, estate.DatabaseIdentity, "mysql-encryption-key")
	if !ok {
		return errors.New("the database has no role on its key")
	}
	assignment := "https://" + names.ManagementHost() + names.AssignmentID(grant) + "?api-version=2022-04-01"
	if err := t.admin(http.MethodDelete, assignment, nil); err != nil {
		return fmt.Errorf("remove the role assignment: %w", err)
	}
	taken := time.Now()
	if err := t.waitForKey("mysql-encryption-key", false); err != nil {
		return err
	}
	t.note("%.1f s later the database has closed: its key is out of memory, the files are noise.", time.Since(taken).Seconds())
	_, err := t.s.issue(t.ctx, example(hcert.KindVaccination, time.Now()))
	if err == nil {
		return errors.New("a certificate was issued although the database's key was taken away")
	}
	t.note("Issuing now: %v", err)

	t.say("The administrator gives the role back.")
	body := fmt.Sprintf(`{"properties":{"roleDefinitionId":"%s/providers/Microsoft.Authorization/roleDefinitions/%s","principalId":"%s"}}`,
		names.Subscription(), grant.Role, grant.Principal)
	if err := t.admin(http.MethodPut, assignment, []byte(body)); err != nil {
		return fmt.Errorf("give the role back: %w", err)
	}
	given := time.Now()
	if err := t.waitForKey("mysql-encryption-key", true); err != nil {
		return err
	}
	if _, err := t.issueUntil(given.Add(30 * time.Second)); err != nil {
		return err
	}
	t.note("%.1f s later the database is open again and a certificate was issued.", time.Since(given).Seconds())
	return nil
}

// issueUntil issues a certificate, trying again while services reconnect.
func (t *tour) issueUntil(deadline time.Time) (issued, error) {
	for {
		cert, err := t.s.issue(t.ctx, example(hcert.KindVaccination, time.Now()))
		if err == nil || time.Now().After(deadline) {
			return cert, err
		}
		select {
		case <-t.ctx.Done():
			return cert, t.ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (t *tour) waitForKey(key string, available bool) error {
	ctx, cancel := context.WithTimeout(t.ctx, time.Minute)
	defer cancel()
	for {
		status, err := t.s.control.Summary(ctx)
		if err != nil {
			return err
		}
		for _, k := range status.Keys {
			if k.Region == string(estate.IE) && k.Key == key && (k.State == control.KeyAvailable) == available {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("after a minute %s is still not %s", key, map[bool]string{true: "available", false: "refused"}[available])
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// admin makes a request to the control plane as the administrator.
func (t *tour) admin(method, url string, body []byte) error {
	admin := *t.s
	admin.user = estate.AdminUser
	client, err := admin.client(t.ctx, "")
	if err != nil {
		return err
	}
	token, err := admin.token(t.ctx, "https://management.azure.com/")
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(t.ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode >= 300 {
		return wireError(resp.Status, raw)
	}
	return nil
}

func (t *tour) audit() error {
	t.say("The audit trail of it all, from the workspace:")
	admin := *t.s
	admin.user = estate.AdminUser
	const trail = `AZKVAuditLogs
| where OperationName in ("KeySign", "KeyUnwrap", "SecretGet") 
| summarize Calls=count(), Refused=countif(HttpStatusCode >= 400) by OperationName, CallerIPAddress
| order by OperationName asc, CallerIPAddress asc`
	deadline := time.Now().Add(15 * time.Second)
	for {
		answer, err := admin.query(t.ctx, string(estate.IE), trail, "")
		if err != nil {
			return err
		}
		if len(answer.Tables) > 0 && showsRefusal(answer.Tables[0]) {
			var text strings.Builder
			if err := printTable(&text, answer.Tables[0]); err != nil {
				return err
			}
			for line := range strings.Lines(text.String()) {
				t.note("%s", strings.TrimRight(line, "\n"))
			}
			return nil
		}
		if time.Now().After(deadline) {
			return errors.New("the workspace shows no signature or no refusal after 15 s")
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// showsRefusal reports whether the trail has come as far as the refused
// signature: records reach the workspace a moment after they are durable.
func showsRefusal(table queryTable) bool {
	for _, row := range table.Rows {
		if len(row) == 4 && fmt.Sprint(row[0]) == "KeySign" && fmt.Sprint(row[3]) != "0" {
			return true
		}
	}
	return false
}
