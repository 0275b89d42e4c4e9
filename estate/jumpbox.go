package estate

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"golang.org/x/crypto/ssh"

	"verdant/azure/rbac"
	"verdant/estate/control"
	"verdant/estate/jumpbox"
	"verdant/hsm"
)

// JumpboxAddress is the name under which status lists the jump-box.
const JumpboxAddress = "jump-box"

// jumpboxLogin is the data action that lets a person through the jump-box.
const jumpboxLogin = "Microsoft.Compute/virtualMachines/login/action"

// JumpboxID is the ARM id of the jump-box.
func (n Names) JumpboxID() string {
	return n.ID(EU, "Microsoft.Compute/virtualMachines", n.v.Prefix+"eudcc-jumpbox")
}

// openJumpbox makes the jump-box. Its authorities are the platform's.
func (s *supervisor) openJumpbox(ctx context.Context) error {
	tokens, err := s.openToken(ctx, "platform")
	if err != nil {
		return err
	}
	signers := map[string]crypto.Signer{}
	for _, label := range []string{"ssh-host", "ssh-host-ca", "ssh-user-ca"} {
		if signers[label], err = tokens.EnsureSigner(ctx, label, hsm.KeySpec{Type: hsm.EC, Curve: hsm.P256}); err != nil {
			return err
		}
	}
	s.sshUserCA = signers["ssh-user-ca"]
	cfg := jumpbox.Config{DefaultRegion: string(IE), Addresses: []netip.Prefix{netip.MustParsePrefix(regionPrefix)},
		HostNames: []string{"127.0.0.1", "::1", "localhost"}}
	if host, _, err := net.SplitHostPort(s.jumpbox.Addr().String()); err == nil && !net.ParseIP(host).IsUnspecified() {
		cfg.HostNames = append(cfg.HostNames, host)
	}
	for _, r := range Regions() {
		cfg.Regions = append(cfg.Regions, string(r))
	}
	s.jumpboxServer, err = jumpbox.New(cfg, jumpbox.Deps{
		HostKey: signers["ssh-host"], HostCA: signers["ssh-host-ca"], UserCA: s.sshUserCA.Public(),
		Dial: func(ctx context.Context, region, address string) (net.Conn, error) {
			return s.fabric.DialName(ctx, s.names.DevVNet(Region(region)), address)
		},
		Allowed: s.mayUseJumpbox, Sink: s.tenantSink(), Now: s.now,
	})
	return err
}

// mayUseJumpbox holds a person against the role assignments of this moment.
func (s *supervisor) mayUseJumpbox(_ context.Context, p jumpbox.Principal) error {
	for _, u := range s.names.Users() {
		if u.ObjectID == p.ObjectID && strings.EqualFold(u.UPN, p.UPN) &&
			s.policy.Check(rbac.Principal{ObjectID: u.ObjectID, Groups: u.Groups}, jumpboxLogin, true, s.names.JumpboxID()).Allowed {
			return nil
		}
	}
	return errors.New("no assignment of a role that permits to log in to the jump-box")
}

// SSHCertificate implements control.Backend. The sign-in is recorded like any
// other of the command line; its access token is thrown away.
func (s *supervisor) SSHCertificate(ctx context.Context, user, publicKey string) (control.SSHCertificate, error) {
	if user == "" {
		user = AdminUser
	}
	if !strings.Contains(user, "@") {
		user = s.names.UPN(user)
	}
	key, _, _, rest, err := ssh.ParseAuthorizedKey([]byte(publicKey))
	if err != nil || len(rest) > 0 {
		return control.SSHCertificate{}, errors.New("the public key is not one line of authorized_keys")
	}
	if _, _, err := s.identity.MintUser(ctx, user, "https://management.azure.com/", commandLineClient); err != nil {
		return control.SSHCertificate{}, err
	}
	for _, u := range s.names.Users() {
		if !strings.EqualFold(u.UPN, user) {
			continue
		}
		who := jumpbox.Principal{UPN: strings.ToLower(u.UPN), ObjectID: u.ObjectID}
		if err := s.mayUseJumpbox(ctx, who); err != nil {
			return control.SSHCertificate{}, fmt.Errorf("%s: %w; an administrator can assign it on %s", who.UPN, err, s.names.JumpboxID())
		}
		cert, err := jumpbox.IssueCertificate(s.sshUserCA, key, who, jumpbox.MaxValidity, s.now())
		if err != nil {
			return control.SSHCertificate{}, err
		}
		at := s.jumpboxAddress()
		return control.SSHCertificate{Certificate: string(ssh.MarshalAuthorizedKey(cert)), KnownHosts: s.jumpboxServer.KnownHosts(at), Address: at}, nil
	}
	return control.SSHCertificate{}, fmt.Errorf("no user %s in the directory", user)
}

// jumpboxAddress is where clients on this host find the jump-box.
func (s *supervisor) jumpboxAddress() string {
	at := s.jumpbox.Addr().String()
	if host, port, err := net.SplitHostPort(at); err == nil && net.ParseIP(host).IsUnspecified() {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return at
}
