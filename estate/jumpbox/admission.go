package jumpbox

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// login is a person that has signed in, until the certificate's end.
type login struct {
	Principal
	region  string // asked for in the user name, or ""
	serial  uint64
	expires time.Time
}

type loginKey struct{}

// attempt is one connection's way to a sign-in. The handshake calls its
// methods one after another.
type attempt struct {
	server *Server
	hinted bool
	// reason and who describe the last refusal; who is set only if the user
	// authority vouches for it.
	reason string
	who    login
}

// Reasons of a refused sign-in, as they are recorded.
const (
	refusedPlainKey   = "plain key"
	refusedKind       = "not a user certificate"
	refusedAuthority  = "another authority"
	refusedForged     = "signature does not verify"
	refusedPrincipal  = "another principal"
	refusedTime       = "outside its validity"
	refusedLifetime   = "valid for too long"
	refusedOption     = "unknown critical option"
	refusedForward    = "no permit-port-forwarding"
	refusedKeyID      = "malformed key id"
	refusedRegion     = "no such region"
	refusedProof      = "source address or proof of possession"
	refusedWithdrawn  = "not allowed"
	refusedNoSignIn   = "no certificate was offered"
	howToGetIn        = "Get a certificate with: verdant jumpbox ssh"
	askAdministrator  = "Your account may not use the jump-box; an administrator can assign the role."
	anotherPrincipal  = "The user name must be the sign-in name in your certificate, in lower case."
	withoutForwarding = "Your certificate does not permit port forwarding. " + howToGetIn
)

// config is the server configuration of this one connection.
func (a *attempt) config(ctx context.Context) (*ssh.ServerConfig, error) {
	identity, err := a.server.hostIdentity()
	if err != nil {
		return nil, err
	}
	cfg := &ssh.ServerConfig{
		PublicKeyAuthAlgorithms: []string{
			ssh.KeyAlgoED25519, ssh.KeyAlgoSKED25519, ssh.KeyAlgoSKECDSA256, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384,
			ssh.KeyAlgoECDSA521, ssh.KeyAlgoRSASHA256, ssh.KeyAlgoRSASHA512,
		},
		ServerVersion:     "SSH-2.0-Verdant",
		PublicKeyCallback: a.offered,
		VerifiedPublicKeyCallback: func(_ ssh.ConnMetadata, _ ssh.PublicKey, p *ssh.Permissions, _ string) (*ssh.Permissions, error) {
			return a.proven(ctx, p)
		},
	}
	cfg.AddHostKey(identity)
	return cfg, nil
}

// refuse remembers why, and tells the client once a reason.
func (a *attempt) refuse(reason, hint string) error {
	a.reason = reason
	err := errors.New("jump-box: sign-in refused: " + reason)
	if a.hinted || hint == "" {
		return err
	}
	a.hinted = true
	return &ssh.BannerError{Err: err, Message: "verdant jump-box: " + hint + "\r\n"}
}

// offered decides whether a key would do, before the client proves that it
// has it. The returned permissions keep the source-address option, which the
// SSH library then enforces.
func (a *attempt) offered(conn ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
	a.who = login{}
	s := a.server
	cert, ok := key.(*ssh.Certificate)
	if !ok {
		return nil, a.refuse(refusedPlainKey, "Plain keys are not accepted. "+howToGetIn)
	}
	if cert.CertType != ssh.UserCert {
		return nil, a.refuse(refusedKind, "")
	}
	if !bytes.Equal(cert.SignatureKey.Marshal(), s.userCA.Marshal()) {
		return nil, a.refuse(refusedAuthority, "This estate did not issue your certificate. "+howToGetIn)
	}
	region, upn := splitUser(conn.User())
	if reason, hint := s.judge(cert, upn); reason != "" {
		if reason != refusedForged && len(cert.ValidPrincipals) > 0 {
			a.who.UPN, a.who.serial = cert.ValidPrincipals[0], cert.Serial
			a.who.ObjectID, _ = objectIDOf(cert)
		}
		return nil, a.refuse(reason, hint)
	}
	id, _ := objectIDOf(cert)
	a.who = login{Principal: Principal{UPN: upn, ObjectID: id}, region: region, serial: cert.Serial,
		expires: time.Unix(int64(cert.ValidBefore), 0)}
	if region != "" && !slices.Contains(s.cfg.Regions, region) {
		return nil, a.refuse(refusedRegion, "No such region; write the user name as REGION+NAME, with a region of "+strings.Join(s.cfg.Regions, ", ")+".")
	}
	a.reason = refusedProof // what the library checks next, without telling which
	return &ssh.Permissions{
		CriticalOptions: cert.CriticalOptions, Extensions: cert.Extensions,
		ExtraData: map[any]any{loginKey{}: a.who},
	}, nil
}

// judge holds a certificate of our authority against the rules. The signature
// comes first: nothing else in a forged certificate is worth an answer.
func (s *Server) judge(cert *ssh.Certificate, upn string) (reason, hint string) {
	now := s.deps.Now()
	checker := ssh.CertChecker{SupportedCriticalOptions: []string{optionSource}, Clock: s.deps.Now}
	for option := range cert.CriticalOptions {
		if option != optionSource {
			return refusedOption, "Your certificate has a critical option that this server does not know."
		}
	}
	// CheckCert looks at the signature last. A copy that passes everything
	// before it isolates the signature's verdict.
	if len(cert.ValidPrincipals) == 0 || cert.Signature == nil || cert.Signature.Format == ssh.KeyAlgoRSA {
		return refusedForged, ""
	}
	inside := checker
	inside.Clock = func() time.Time { return time.Unix(int64(cert.ValidAfter), 0) }
	if cert.ValidAfter >= cert.ValidBefore || cert.ValidBefore > 1<<62 {
		return refusedLifetime, "Your certificate has no end. " + howToGetIn
	}
	if inside.CheckCert(cert.ValidPrincipals[0], cert) != nil {
		return refusedForged, ""
	}
	_, known := objectIDOf(cert)
	_, forwards := cert.Extensions[extensionForward]
	switch {
	case !known:
		return refusedKeyID, ""
	case !validUPN(upn) || !slices.Contains(cert.ValidPrincipals, upn):
		return refusedPrincipal, anotherPrincipal
	case cert.ValidBefore-cert.ValidAfter > uint64((MaxValidity+2*backdate)/time.Second):
		return refusedLifetime, "Your certificate is valid for longer than an hour. " + howToGetIn
	case now.Unix() < int64(cert.ValidAfter) || now.Unix() >= int64(cert.ValidBefore):
		return refusedTime, "Your certificate has expired or is not valid yet. " + howToGetIn
	case !forwards:
		return refusedForward, withoutForwarding
	case checker.CheckCert(upn, cert) != nil: // all of it again, by the library's own reading
		return refusedForged, ""
	}
	return "", ""
}

// proven asks whether the person may come in, now that the client has proven
// to be that person.
func (a *attempt) proven(ctx context.Context, p *ssh.Permissions) (*ssh.Permissions, error) {
	if a.server.deps.Allowed(ctx, a.who.Principal) != nil {
		return nil, a.refuse(refusedWithdrawn, askAdministrator)
	}
	a.reason = ""
	return p, nil
}

// splitUser takes the region off an SSH user name. Names are case-insensitive
// in the directory, and lower case in certificates.
func splitUser(user string) (region, upn string) {
	user = strings.ToLower(user)
	if before, after, ok := strings.Cut(user, "+"); ok {
		return before, after
	}
	return "", user
}
