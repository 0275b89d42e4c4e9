package jumpbox

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"

	"verdant/internal/telemetry"
)

const (
	alice   = "alice@example.org"
	aliceID = "6f1c3b9e-3d1c-4a4e-9f7b-0a0d6f1b2c3d"
	vault   = "eudcc-ie-kv-g1.vault.azure.net"
)

// records is a log store in memory.
type records struct {
	mu   sync.Mutex
	rows []telemetry.Row
	fail bool
}

func (r *records) Emit(_ context.Context, table string, rows ...telemetry.Row) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fail {
		return errors.New("no space left")
	}
	for _, row := range rows {
		if table != "ContainerLogV2" || row["PodName"] != "jumpbox" {
			return fmt.Errorf("row for %s, pod %v", table, row["PodName"])
		}
		r.rows = append(r.rows, row)
	}
	return nil
}

// events are the messages of one kind.
func (r *records) events(kind string) []map[string]any {
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []map[string]any
	for _, row := range r.rows {
		if m := row["LogMessage"].(map[string]any); m["event"] == kind {
			found = append(found, m)
		}
	}
	return found
}

// box is a jump-box under test with everything that it works with.
type box struct {
	*Server
	userCA  crypto.Signer
	records *records
	address string
	client  func(t *testing.T) net.Conn // connects to it

	mu      sync.Mutex
	denied  bool
	dialled []string
	targets []net.Conn // the far ends
}

func newKey(t *testing.T) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newBox(t *testing.T, change func(*Config, *Deps)) *box {
	t.Helper()
	b := &box{userCA: newKey(t), records: &records{}}
	cfg := Config{Regions: []string{"eudcc-eu", "eudcc-ie"}, DefaultRegion: "eudcc-ie", HostNames: []string{"127.0.0.1"},
		Addresses: []netip.Prefix{netip.MustParsePrefix("192.168.4.0/22")}}
	deps := Deps{HostKey: newKey(t), HostCA: newKey(t), UserCA: b.userCA.Public(), Sink: b.records, Now: time.Now,
		Dial: b.dial, Allowed: func(_ context.Context, p Principal) error {
			b.mu.Lock()
			defer b.mu.Unlock()
			if b.denied || p != (Principal{alice, aliceID}) {
				return errors.New("no role")
			}
			return nil
		}}
	if change != nil {
		change(&cfg, &deps)
	}
	var err error
	if b.Server, err = New(cfg, deps); err != nil {
		t.Fatal(err)
	}
	return b
}

// dial connects to a target that answers every write in upper case; the
// host "refused…" has nobody.
func (b *box) dial(_ context.Context, region, address string) (net.Conn, error) {
	if strings.HasPrefix(address, "refused.") {
		return nil, errors.New("connection refused")
	}
	near, far := net.Pipe()
	b.mu.Lock()
	b.dialled = append(b.dialled, region+" "+address)
	b.targets = append(b.targets, far)
	b.mu.Unlock()
	go func() { // Ends with the connection.
		defer far.Close()
		buf := make([]byte, 1024)
		for {
			n, err := far.Read(buf)
			if err != nil {
				return
			}
			if _, err := far.Write([]byte(strings.ToUpper(string(buf[:n])))); err != nil {
				return
			}
		}
	}()
	return near, nil
}

func (b *box) deny() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.denied = true
}

// serve listens on a loopback port until the test ends.
func (b *box) serve(t *testing.T) *box {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b.address = ln.Addr().String()
	b.client = func(t *testing.T) net.Conn {
		conn, err := net.Dial("tcp", b.address)
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
	b.run(t, ln)
	return b
}

func (b *box) run(t *testing.T, ln net.Listener) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
}

// certified makes a key and has it certified for alice; change sees the
// certificate before it is signed by ca.
func certified(t *testing.T, ca crypto.Signer, change func(*ssh.Certificate)) ssh.Signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewSignerFromSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := IssueCertificate(ca, key.PublicKey(), Principal{alice, aliceID}, time.Hour, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		authority, err := ssh.NewSignerFromSigner(ca)
		if err != nil {
			t.Fatal(err)
		}
		change(cert)
		if err := cert.SignCert(rand.Reader, authority); err != nil {
			t.Fatal(err)
		}
	}
	signer, err := ssh.NewCertSigner(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

// signIn connects as user and returns what the server said before sign-in.
func (b *box) signIn(t *testing.T, user string, methods ...ssh.AuthMethod) (*ssh.Client, string, error) {
	t.Helper()
	var banner strings.Builder
	checker := &ssh.CertChecker{IsHostAuthority: func(key ssh.PublicKey, _ string) bool {
		return string(key.Marshal()) == string(b.hostCA.Marshal())
	}}
	conn, channels, requests, err := ssh.NewClientConn(b.client(t), "127.0.0.1:22", &ssh.ClientConfig{
		User: user, Auth: methods, HostKeyCallback: checker.CheckHostKey,
		BannerCallback: func(text string) error { banner.WriteString(text); return nil },
	})
	if err != nil {
		return nil, banner.String(), err
	}
	client := ssh.NewClient(conn, channels, requests)
	t.Cleanup(func() { _ = client.Close() })
	return client, banner.String(), nil
}

// mustSignIn signs alice in.
func (b *box) mustSignIn(t *testing.T, user string) *ssh.Client {
	t.Helper()
	client, _, err := b.signIn(t, user, ssh.PublicKeys(certified(t, b.userCA, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func ask(conn io.ReadWriter, text string) (string, error) {
	if _, err := io.WriteString(conn, text); err != nil {
		return "", err
	}
	buf := make([]byte, len(text))
	_, err := io.ReadFull(conn, buf)
	return string(buf), err
}

func TestACertifiedKeyForwardsBytesAndEveryStepIsRecorded(t *testing.T) {
	b := newBox(t, nil).serve(t)
	client := b.mustSignIn(t, alice)
	conn, err := client.Dial("tcp", vault+":443")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ask(conn, "hello"); got != "HELLO" || err != nil {
		t.Fatalf("got %q, %v", got, err)
	}
	if got, want := b.dialled, []string{"eudcc-ie " + vault + ":443"}; !slices.Equal(got, want) {
		t.Errorf("dialled %q, want %q", got, want)
	}
	_ = conn.Close()
	_ = client.Close()
	closed := await(t, b.records, "channelClose")
	for field, want := range map[string]any{"user": alice, "objectId": aliceID, "region": "eudcc-ie", "destination": vault,
		"port": int64(443), "bytesSent": int64(5), "bytesReceived": int64(5)} {
		if closed[field] != want {
			t.Errorf("%s is %v, want %v", field, closed[field], want)
		}
	}
	for _, field := range []string{"serial", "source"} {
		if text, _ := closed[field].(string); text == "" {
			t.Errorf("the record has no %s", field)
		}
	}
	if in := await(t, b.records, "signIn"); in["objectId"] != aliceID || in["result"] != "ok" {
		t.Errorf("sign-in record %v", in)
	}
	if out := await(t, b.records, "signOut"); out["result"] != endedByClient {
		t.Errorf("sign-out record %v", out)
	}
	if open := await(t, b.records, "channelOpen"); open["destination"] != vault {
		t.Errorf("open record %v", open)
	}
}

func TestAChannelEndsThoughItsTargetKeepsSilentAfterTheHalfClose(t *testing.T) {
	target, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	b := newBox(t, func(_ *Config, d *Deps) {
		d.Dial = func(context.Context, string, string) (net.Conn, error) {
			return net.Dial("tcp", target.Addr().String())
		}
	}).serve(t)
	client := b.mustSignIn(t, alice)
	conn, err := client.Dial("tcp", vault+":443")
	if err != nil {
		t.Fatal(err)
	}
	far, err := target.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close() // and until then it neither reads nor writes
	if half, ok := conn.(interface{ CloseWrite() error }); !ok || half.CloseWrite() != nil {
		t.Fatal("no half-close")
	}
	if n, err := far.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("the half-close arrived as %d, %v", n, err)
	}
	if _, err := io.WriteString(far, "late"); err != nil {
		t.Fatal(err)
	}
	late := make([]byte, 4)
	if _, err := io.ReadFull(conn, late); string(late) != "late" {
		t.Errorf("after the half-close: %q, %v", late, err)
	}
	_ = conn.Close()
	if closed := await(t, b.records, "channelClose"); closed["result"] != "ok" || closed["bytesReceived"] != int64(4) {
		t.Errorf("recorded %v", closed)
	}
}

// await waits for the record that a connection's goroutine is about to write.
func await(t *testing.T, r *records, event string) map[string]any {
	t.Helper()
	for range 5000 {
		if found := r.events(event); len(found) > 0 {
			return found[0]
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("no record %s", event)
	return nil
}

func TestWhoIsRefused(t *testing.T) {
	b := newBox(t, nil).serve(t)
	past := uint64(time.Now().Add(-time.Minute).Unix())
	extend := func(c *ssh.Certificate) { c.ValidBefore = c.ValidAfter + uint64((25 * time.Hour).Seconds()) }
	_, plainKey, _ := ed25519.GenerateKey(rand.Reader)
	plain, _ := ssh.NewSignerFromSigner(plainKey)
	for _, tt := range []struct {
		name, user string
		method     ssh.AuthMethod
		reason     string // recorded
		banner     string // told
		knows      bool   // the record names the person
	}{
		{"a certificate of another authority", alice, ssh.PublicKeys(certified(t, newKey(t), nil)), refusedAuthority, "did not issue", false},
		{"an expired certificate", alice, ssh.PublicKeys(certified(t, b.userCA, func(c *ssh.Certificate) { c.ValidAfter, c.ValidBefore = past-3600, past })), refusedTime, "expired", true},
		{"one that is not valid yet", alice, ssh.PublicKeys(certified(t, b.userCA, func(c *ssh.Certificate) { c.ValidAfter += 1800 })), refusedTime, "not valid yet", true},
		{"one without an end", alice, ssh.PublicKeys(certified(t, b.userCA, func(c *ssh.Certificate) { c.ValidBefore = ssh.CertTimeInfinity })), refusedLifetime, "no end", true},
		{"one for more than an hour", alice, ssh.PublicKeys(certified(t, b.userCA, extend)), refusedLifetime, "longer than an hour", true},
		{"another person's name", "bob@example.org", ssh.PublicKeys(certified(t, b.userCA, nil)), refusedPrincipal, "sign-in name", true},
		{"a name that is no UPN", "alice", ssh.PublicKeys(certified(t, b.userCA, func(c *ssh.Certificate) { c.ValidPrincipals = []string{"alice"} })), refusedPrincipal, "sign-in name", true},
		{"one without permit-port-forwarding", alice, ssh.PublicKeys(certified(t, b.userCA, func(c *ssh.Certificate) { c.Extensions = map[string]string{"permit-pty": ""} })), refusedForward, "does not permit", true},
		{"a forced command", alice, ssh.PublicKeys(certified(t, b.userCA, func(c *ssh.Certificate) { c.CriticalOptions = map[string]string{"force-command": "true"} })), refusedOption, "critical option", true},
		{"another source address", alice, ssh.PublicKeys(certified(t, b.userCA, func(c *ssh.Certificate) {
			c.CriticalOptions = map[string]string{optionSource: "192.0.2.0/24"}
		})), refusedProof, "", true},
		{"a host certificate", alice, ssh.PublicKeys(certified(t, b.userCA, func(c *ssh.Certificate) { c.CertType = ssh.HostCert })), refusedKind, "", false},
		{"a key id that is not ours", alice, ssh.PublicKeys(certified(t, b.userCA, func(c *ssh.Certificate) { c.KeyId = "root" })), refusedKeyID, "", true},
		{"a person without the role", alice, ssh.PublicKeys(certified(t, b.userCA, func(c *ssh.Certificate) {
			c.KeyId = strings.Replace(c.KeyId, aliceID, "00000000-0000-0000-0000-000000000001", 1)
		})), refusedWithdrawn, "administrator", true},
		{"a region that there is not", "eudcc-fr+" + alice, ssh.PublicKeys(certified(t, b.userCA, nil)), refusedRegion, "eudcc-eu, eudcc-ie", true},
		{"a plain key", alice, ssh.PublicKeys(plain), refusedPlainKey, "Plain keys", false},
		{"a password", alice, ssh.Password("secret"), refusedNoSignIn, "", false},
		{"keyboard-interactive", alice, ssh.KeyboardInteractive(func(string, string, []string, []bool) ([]string, error) { return nil, nil }), refusedNoSignIn, "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := len(b.records.events("signInRefused"))
			_, banner, err := b.signIn(t, tt.user, tt.method)
			if err == nil {
				t.Fatal("signed in")
			}
			if !strings.Contains(banner, tt.banner) || tt.banner == "" && banner != "" {
				t.Errorf("told %q, want %q in it", banner, tt.banner)
			}
			var refused []map[string]any
			for i := 0; i < 5000 && len(refused) <= before; i++ {
				time.Sleep(time.Millisecond)
				refused = b.records.events("signInRefused")
			}
			if len(refused) != before+1 {
				t.Fatalf("%d records, want one more than %d", len(refused), before)
			}
			last := refused[before]
			if last["result"] != tt.reason || (last["user"] != "") != tt.knows {
				t.Errorf("recorded %v, want reason %q, person known %v", last, tt.reason, tt.knows)
			}
		})
	}
	if got := b.records.events("signIn"); len(got) != 0 {
		t.Errorf("somebody signed in: %v", got)
	}
}

func TestAForgedCertificateIsRefusedWhateverElseIsWrongWithIt(t *testing.T) {
	b := newBox(t, nil).serve(t)
	signer := certified(t, newKey(t), func(c *ssh.Certificate) { c.ValidBefore, c.ValidAfter = 1000, 500 })
	cert := signer.PublicKey().(*ssh.Certificate)
	ca, _ := ssh.NewPublicKey(b.userCA.Public())
	cert.SignatureKey = ca // claims our authority, signed by another
	if _, banner, err := b.signIn(t, alice, ssh.PublicKeys(signer)); err == nil || banner != "" {
		t.Fatalf("signed in, or was told %q", banner)
	}
	if got := await(t, b.records, "signInRefused"); got["result"] != refusedForged || got["user"] != "" {
		t.Errorf("recorded %v", got)
	}
}

func TestTheRightSourceAddressIsAccepted(t *testing.T) {
	b := newBox(t, nil).serve(t)
	signer := certified(t, b.userCA, func(c *ssh.Certificate) { c.CriticalOptions = map[string]string{optionSource: "127.0.0.0/8"} })
	if _, _, err := b.signIn(t, alice, ssh.PublicKeys(signer)); err != nil {
		t.Error(err)
	}
}

func TestTheSignInNameMayBeWrittenInCapitals(t *testing.T) {
	b := newBox(t, nil).serve(t)
	b.mustSignIn(t, "Alice@Example.ORG")
}

func TestAClientWithoutTheHostAuthorityDoesNotConnect(t *testing.T) {
	b := newBox(t, nil).serve(t)
	checker := &ssh.CertChecker{IsHostAuthority: func(ssh.PublicKey, string) bool { return false }}
	_, err := ssh.Dial("tcp", b.address, &ssh.ClientConfig{User: alice, HostKeyCallback: checker.CheckHostKey,
		Auth: []ssh.AuthMethod{ssh.PublicKeys(certified(t, b.userCA, nil))}})
	if err == nil || !strings.Contains(err.Error(), "no authorities") {
		t.Errorf("got %v", err)
	}
}

func TestWhatIsNotForwarded(t *testing.T) {
	b := newBox(t, nil).serve(t)
	client := b.mustSignIn(t, alice)
	for _, kind := range []string{"session", "x11", "auth-agent@openssh.com", "direct-streamlocal@openssh.com", "tun@openssh.com"} {
		_, _, err := client.OpenChannel(kind, nil)
		var open *ssh.OpenChannelError
		if !errors.As(err, &open) || open.Reason != ssh.Prohibited || !strings.Contains(open.Message, "only carries connections") {
			t.Errorf("%s: %v", kind, err)
		}
	}
	if _, err := client.Listen("tcp", "127.0.0.1:0"); err == nil {
		t.Error("a remote forward was accepted")
	}
	for _, tt := range []struct {
		name, address, says string
		code                ssh.RejectionReason
	}{
		{"a port that is not allowed", vault + ":22", "ports 443, 3306, 8080", ssh.Prohibited},
		{"an address outside the ranges", "169.254.169.254:443", "not allowed", ssh.Prohibited},
		{"an address inside without a region", "192.168.4.7:8080", "REGION+NAME", ssh.Prohibited},
		{"loopback in IPv6 clothes", "[::ffff:127.0.0.1]:443", "not allowed", ssh.Prohibited},
		{"a number that some resolvers take for an address", "2130706433:443", "not a host name", ssh.Prohibited},
		{"a name with a space", "a b:443", "not a host name", ssh.Prohibited},
		{"a name of two regions", "eudcc-ie.eudcc-eu.example.org:443", "two regions", ssh.Prohibited},
		{"a name where nobody listens", "refused.example.org:443", "connection refused", ssh.ConnectionFailed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := client.Dial("tcp", tt.address)
			var open *ssh.OpenChannelError
			if !errors.As(err, &open) || open.Reason != tt.code || !strings.Contains(open.Message, tt.says) {
				t.Errorf("got %v, want %q in it", err, tt.says)
			}
		})
	}
	if len(b.dialled) != 0 {
		t.Errorf("dialled %q", b.dialled)
	}
	if got, want := len(b.records.events("refused")), 5+1+8; got != want {
		t.Errorf("%d refusals are recorded, want %d", got, want)
	}
}

func TestTheRegionAConnectionLeavesFrom(t *testing.T) {
	b := newBox(t, nil).serve(t)
	for _, tt := range []struct{ user, address, want string }{
		{alice, vault + ":443", "eudcc-ie " + vault + ":443"},
		{alice, "EUDCC-EU-mysql.mysql.database.azure.com.:3306", "eudcc-eu eudcc-eu-mysql.mysql.database.azure.com:3306"},
		{alice, "eudcceuacr.azurecr.io:443", "eudcc-eu eudcceuacr.azurecr.io:443"},
		{alice, "management.verdant.localhost:443", "eudcc-ie management.verdant.localhost:443"},
		{"eudcc-eu+" + alice, vault + ":443", "eudcc-eu " + vault + ":443"},
		{"eudcc-eu+" + alice, "192.168.4.7:8080", "eudcc-eu 192.168.4.7:8080"},
	} {
		conn, err := b.mustSignIn(t, tt.user).Dial("tcp", tt.address)
		if err != nil {
			t.Errorf("%s to %s: %v", tt.user, tt.address, err)
			continue
		}
		_ = conn.Close()
		if got := b.dialled[len(b.dialled)-1]; got != tt.want {
			t.Errorf("%s to %s dialled %q, want %q", tt.user, tt.address, got, tt.want)
		}
	}
}

func TestWhoIsNoLongerAllowedLosesEverythingAtTheNextChannel(t *testing.T) {
	b := newBox(t, func(c *Config, _ *Deps) { c.Keepalive = time.Hour }).serve(t)
	client := b.mustSignIn(t, alice)
	live, err := client.Dial("tcp", vault+":443")
	if err != nil {
		t.Fatal(err)
	}
	b.deny()
	if got, err := ask(live, "still"); got != "STILL" || err != nil {
		t.Fatalf("got %q, %v", got, err)
	}
	if _, err := client.Dial("tcp", vault+":443"); err == nil {
		t.Fatal("another channel opened")
	}
	if _, err := live.Read(make([]byte, 1)); err == nil {
		t.Error("the open channel still carries")
	}
	if err := client.Wait(); err == nil {
		t.Error("the connection is open")
	}
	if got := await(t, b.records, "signOut"); got["result"] != endedByWithdraw {
		t.Errorf("recorded %v", got)
	}
}

func TestNothingIsServedWithoutItsRecord(t *testing.T) {
	b := newBox(t, nil).serve(t)
	client := b.mustSignIn(t, alice)
	await(t, b.records, "signIn")
	b.records.mu.Lock()
	b.records.fail = true
	b.records.mu.Unlock()
	if _, err := client.Dial("tcp", vault+":443"); err == nil || !strings.Contains(err.Error(), "log store") {
		t.Errorf("a channel without record: %v", err)
	}
	if client, _, err := b.signIn(t, alice, ssh.PublicKeys(certified(t, b.userCA, nil))); err == nil {
		if _, err := client.Dial("tcp", vault+":443"); err == nil || strings.Contains(err.Error(), "rejected") {
			t.Errorf("a sign-in without record is served: %v", err)
		}
	}
}

func TestChannelsAndConnectionsAreBounded(t *testing.T) {
	b := newBox(t, func(c *Config, _ *Deps) { c.MaxChannels, c.MaxConnections = 2, 1 }).serve(t)
	client := b.mustSignIn(t, alice)
	var conns []net.Conn
	for range 2 {
		conn, err := client.Dial("tcp", vault+":443")
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
	}
	_, err := client.Dial("tcp", vault+":443")
	var open *ssh.OpenChannelError
	if !errors.As(err, &open) || open.Reason != ssh.ResourceShortage {
		t.Errorf("a third channel: %v", err)
	}
	if second, _, err := b.signIn(t, alice, ssh.PublicKeys(certified(t, b.userCA, nil))); err == nil && second.Wait() == nil {
		t.Error("a second connection lives")
	}
	_ = conns[0].Close()
	await(t, b.records, "channelClose")
	for i := 0; ; i++ { // the slot is free a moment after the record
		if conn, err := client.Dial("tcp", vault+":443"); err == nil {
			_ = conn.Close()
			break
		} else if i == 5000 {
			t.Fatalf("the slot of a closed channel stays taken: %v", err)
		}
	}
}

func TestRefusedSignInsDoNotFloodTheLog(t *testing.T) {
	now := time.Now()
	sink := &records{}
	r := recorder{sink: sink, now: func() time.Time { return now }}
	source := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}
	for range maxRefusedSignIns + 7 {
		r.refusedSignIn(t.Context(), source, login{}, refusedPlainKey)
	}
	now = now.Add(time.Minute)
	r.refusedSignIn(t.Context(), source, login{}, refusedPlainKey)
	got := sink.events("signInRefused")
	if len(got) != maxRefusedSignIns+1 || got[maxRefusedSignIns]["omittedBefore"] != 7 {
		t.Errorf("%d records, the last says %v", len(got), got[len(got)-1])
	}
}

// pipes is a listener of in-memory connections, for a fake clock.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }
func (p *pipes) Addr() net.Addr { return pipeAddr{} }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "pipe" }

func (b *box) servePipes(t *testing.T) *box {
	ln := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
	b.client = func(*testing.T) net.Conn {
		near, far := net.Pipe()
		ln.conns <- far
		return newQueued(near)
	}
	b.run(t, ln)
	return b
}

// queued is a pipe's end whose writes do not wait for the reader: both ends of
// an SSH connection write first.
type queued struct {
	net.Conn
	queue chan []byte
	done  chan struct{}
	once  sync.Once
}

func newQueued(c net.Conn) *queued {
	q := &queued{Conn: c, queue: make(chan []byte, 1024), done: make(chan struct{})}
	go func() { // Ends with Close.
		for {
			select {
			case p := <-q.queue:
				_, _ = c.Write(p)
			case <-q.done:
				return
			}
		}
	}()
	return q
}

func (q *queued) Write(p []byte) (int, error) {
	select {
	case q.queue <- slices.Clone(p):
		return len(p), nil
	case <-q.done:
		return 0, net.ErrClosed
	}
}

func (q *queued) Close() error {
	q.once.Do(func() { close(q.done) })
	return q.Conn.Close()
}

func TestTheEndOfTheCertificateCutsALiveChannel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, nil).servePipes(t)
		// The end lies between two keep-alives, which would notice it as well.
		signer := certified(t, b.userCA, func(c *ssh.Certificate) { c.ValidBefore -= 7 })
		client, _, err := b.signIn(t, alice, ssh.PublicKeys(signer))
		if err != nil {
			t.Fatal(err)
		}
		conn, err := client.Dial("tcp", vault+":443")
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour - 9*time.Second)
		if got, err := ask(conn, "still"); got != "STILL" || err != nil {
			t.Fatalf("before the end: got %q, %v", got, err)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if _, err := ask(conn, "dead"); err == nil {
			t.Error("the channel outlived the certificate")
		}
		if _, err := b.targets[0].Write([]byte("x")); err == nil {
			t.Error("the target's connection outlived the certificate")
		}
		closed, out := b.records.events("channelClose"), b.records.events("signOut")
		if len(closed) != 1 || closed[0]["result"] != endedByExpiry || len(out) != 1 || out[0]["result"] != endedByExpiry {
			t.Errorf("recorded %v and %v", closed, out)
		}
	})
}

func TestAWithdrawnRightCutsALiveChannelAtTheNextKeepAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, nil).servePipes(t)
		client := b.mustSignIn(t, alice)
		conn, err := client.Dial("tcp", vault+":443")
		if err != nil {
			t.Fatal(err)
		}
		b.deny()
		time.Sleep(15 * time.Second)
		synctest.Wait()
		if _, err := ask(conn, "dead"); err == nil {
			t.Error("the channel is alive")
		}
		if out := b.records.events("signOut"); len(out) != 1 || out[0]["result"] != endedByWithdraw {
			t.Errorf("recorded %v", out)
		}
	})
}

func TestASilentClientIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, nil).servePipes(t)
		raw := &stallable{}
		inner := b.client
		b.client = func(t *testing.T) net.Conn { raw.Conn = inner(t); return raw }
		b.mustSignIn(t, alice)
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if out := b.records.events("signOut"); len(out) != 0 {
			t.Fatalf("an answering client was cut: %v", out)
		}
		raw.stall()
		time.Sleep(time.Minute)
		synctest.Wait()
		if out := b.records.events("signOut"); len(out) != 1 || out[0]["result"] != endedBySilence {
			t.Errorf("recorded %v", out)
		}
	})
}

// stallable is a client's connection whose writes can be made to vanish.
type stallable struct {
	net.Conn
	mu      sync.Mutex
	stalled bool
}

func (s *stallable) stall() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stalled = true
}

func (s *stallable) Write(p []byte) (int, error) {
	s.mu.Lock()
	stalled := s.stalled
	s.mu.Unlock()
	if stalled {
		return len(p), nil
	}
	return s.Conn.Write(p)
}

func TestAClientThatNeverSignsInIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, nil).servePipes(t)
		conn := b.client(t)
		defer conn.Close()
		read := make(chan error, 1)
		go func() {
			_, err := io.Copy(io.Discard, conn)
			read <- err
		}()
		time.Sleep(16 * time.Second)
		synctest.Wait()
		select {
		case <-read:
		default:
			t.Error("the connection is open")
		}
		if got := b.records.events("signInRefused"); len(got) != 0 {
			t.Errorf("a port scan is recorded as a sign-in: %v", got)
		}
	})
}

func TestTheHostCertificateIsRenewedInTime(t *testing.T) {
	now := time.Now()
	b := newBox(t, func(_ *Config, d *Deps) { d.Now = func() time.Time { return now } })
	certificate := func() *ssh.Certificate {
		identity, err := b.hostIdentity()
		if err != nil {
			t.Fatal(err)
		}
		return identity.PublicKey().(*ssh.Certificate)
	}
	first := certificate()
	now = now.Add(11 * time.Hour)
	if certificate().Serial != first.Serial {
		t.Error("renewed before half of its life")
	}
	now = now.Add(2 * time.Hour)
	if got := certificate(); got.Serial == first.Serial || int64(got.ValidBefore) < now.Add(23*time.Hour).Unix() {
		t.Error("not renewed after half of its life")
	}
}

func TestWhatIsCertified(t *testing.T) {
	ca := newKey(t)
	key, _ := ssh.NewPublicKey(newKey(t).Public())
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	who := Principal{alice, aliceID}
	cert, err := IssueCertificate(ca, key, who, 30*time.Minute, now)
	if err != nil {
		t.Fatal(err)
	}
	if cert.CertType != ssh.UserCert || !slices.Equal(cert.ValidPrincipals, []string{alice}) ||
		!maps.Equal(cert.Extensions, map[string]string{"permit-port-forwarding": ""}) || len(cert.CriticalOptions) != 0 {
		t.Errorf("certificate %+v", cert)
	}
	if got, want := cert.KeyId, fmt.Sprintf("%s:%x", aliceID, cert.Serial); got != want {
		t.Errorf("key id %q, want %q", got, want)
	}
	if int64(cert.ValidBefore) != now.Add(30*time.Minute).Unix() || int64(cert.ValidAfter) != now.Add(-time.Minute).Unix() {
		t.Errorf("valid from %d to %d", cert.ValidAfter, cert.ValidBefore)
	}
	for _, tt := range []struct {
		name     string
		key      ssh.PublicKey
		who      Principal
		validity time.Duration
	}{
		{"over an hour", key, who, time.Hour + 1},
		{"no time at all", key, who, 0},
		{"a name in capitals", key, Principal{"Alice@example.org", aliceID}, time.Hour},
		{"a name that looks like a region's", key, Principal{"eudcc-eu+alice@example.org", aliceID}, time.Hour},
		{"a name without domain", key, Principal{"root", aliceID}, time.Hour},
		{"an object id that is none", key, Principal{alice, "1"}, time.Hour},
		{"no key", nil, who, time.Hour},
		{"a certificate instead of a key", cert, who, time.Hour},
	} {
		if _, err := IssueCertificate(ca, tt.key, tt.who, tt.validity, now); !errors.Is(err, ErrCertificate) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func FuzzDestination(f *testing.F) {
	s := &Server{cfg: Config{Regions: []string{"eudcc-eu", "eudcc-ie"}, DefaultRegion: "eudcc-ie", Ports: []uint16{443},
		Addresses: []netip.Prefix{netip.MustParsePrefix("192.168.4.0/22")}}}
	for _, host := range []string{vault, "192.168.4.7", "::1", "0x7f.1", "a..b", "eudcc-eu.", "[::1]", "::ffff:192.168.4.7%eth0"} {
		f.Add("", host, uint32(443))
		f.Add("eudcc-eu", host, uint32(1<<16+443))
	}
	f.Fuzz(func(t *testing.T, asked, host string, port uint32) {
		region, address, no := s.destination(asked, host, port)
		if no != nil {
			if no.message == "" || address != "" {
				t.Fatalf("refusal %+v of %q", no, address)
			}
			return
		}
		h, p, err := net.SplitHostPort(address)
		if err != nil || p != "443" || port != 443 || region == "" {
			t.Fatalf("accepted %q, %d as %q in %q", host, port, address, region)
		}
		if addr, err := netip.ParseAddr(h); err == nil && !s.cfg.Addresses[0].Contains(addr) {
			t.Fatalf("accepted address %q", address)
		}
		if strings.IndexFunc(h, func(r rune) bool { return r <= ' ' || r > '~' || r >= 'A' && r <= 'Z' }) >= 0 {
			t.Fatalf("accepted host %q", h)
		}
	})
}
