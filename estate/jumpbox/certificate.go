package jumpbox

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// Principal is the person behind a certificate.
type Principal struct {
	// UPN is the sign-in name in lower case: the SSH user name.
	UPN string
	// ObjectID is the person's id in the directory, a GUID.
	ObjectID string
}

const (
	// MaxValidity is the longest time for which a certificate is issued.
	MaxValidity = time.Hour
	// backdate lets a certificate work on a machine whose clock is behind.
	backdate = time.Minute

	extensionForward = "permit-port-forwarding"
	optionSource     = "source-address"
)

// ErrCertificate is wrapped by every refusal to issue a certificate.
var ErrCertificate = errors.New("no SSH certificate")

// IssueCertificate certifies that publicKey is p's until validity after now.
// The certificate permits port forwarding and nothing else; its key id is
// "<object id>:<serial in hexadecimal>".
func IssueCertificate(ca crypto.Signer, publicKey ssh.PublicKey, p Principal, validity time.Duration, now time.Time) (*ssh.Certificate, error) {
	if validity < time.Second || validity > MaxValidity {
		return nil, fmt.Errorf("%w: a validity of %s; it must be between a second and %s", ErrCertificate, validity, MaxValidity)
	}
	if !validUPN(p.UPN) {
		return nil, fmt.Errorf("%w: the sign-in name is not a lower-case UPN", ErrCertificate)
	}
	id, err := uuid.Parse(p.ObjectID)
	if err != nil {
		return nil, fmt.Errorf("%w: the object id is not a GUID", ErrCertificate)
	}
	if err := checkUserKey(publicKey); err != nil {
		return nil, err
	}
	cert := &ssh.Certificate{
		CertType: ssh.UserCert, Key: publicKey, ValidPrincipals: []string{p.UPN},
		Permissions: ssh.Permissions{Extensions: map[string]string{extensionForward: ""}},
	}
	return cert, sign(ca, cert, id.String(), now, validity)
}

// issueHostCertificate certifies the server's host key for names.
func issueHostCertificate(ca crypto.Signer, key ssh.PublicKey, names []string, validity time.Duration, now time.Time) (*ssh.Certificate, error) {
	cert := &ssh.Certificate{CertType: ssh.HostCert, Key: key, ValidPrincipals: names}
	return cert, sign(ca, cert, "jumpbox", now, validity)
}

// sign fills in what every certificate has and signs it.
func sign(ca crypto.Signer, cert *ssh.Certificate, id string, now time.Time, validity time.Duration) error {
	authority, err := ssh.NewSignerFromSigner(ca)
	if err != nil {
		return fmt.Errorf("%w: authority: %w", ErrCertificate, err)
	}
	var serial [8]byte
	_, _ = rand.Read(serial[:]) // never fails
	cert.Serial = binary.BigEndian.Uint64(serial[:])
	cert.KeyId = id + ":" + strconv.FormatUint(cert.Serial, 16)
	cert.ValidAfter, cert.ValidBefore = uint64(now.Add(-backdate).Unix()), uint64(now.Add(validity).Unix())
	if err := cert.SignCert(rand.Reader, authority); err != nil {
		return fmt.Errorf("%w: sign: %w", ErrCertificate, err)
	}
	return nil
}

// checkUserKey refuses what is not a plain key of a strength that the server
// accepts.
func checkUserKey(key ssh.PublicKey) error {
	if key == nil {
		return fmt.Errorf("%w: no public key", ErrCertificate)
	}
	switch key.Type() {
	case ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoSKED25519, ssh.KeyAlgoSKECDSA256:
		return nil
	case ssh.KeyAlgoRSA:
		if k, ok := key.(ssh.CryptoPublicKey); ok {
			if k, ok := k.CryptoPublicKey().(*rsa.PublicKey); ok && k.N.BitLen() >= 2048 {
				return nil
			}
		}
		return fmt.Errorf("%w: the RSA key has under 2048 bits", ErrCertificate)
	}
	return fmt.Errorf("%w: keys of type %q are not certified; use ssh-ed25519, ecdsa-sha2-nistp* or ssh-rsa", ErrCertificate, key.Type())
}

// objectIDOf reads the object id from a key id, whose serial must be the
// certificate's.
func objectIDOf(cert *ssh.Certificate) (string, bool) {
	id, serial, ok := strings.Cut(cert.KeyId, ":")
	parsed, err := uuid.Parse(id)
	if !ok || err != nil || parsed.String() != id || serial != strconv.FormatUint(cert.Serial, 16) {
		return "", false
	}
	return id, true
}

// validUPN reports whether name is user@domain in lower case, of the
// characters that such a name may have.
func validUPN(name string) bool {
	if len(name) > 254 || name != strings.ToLower(name) {
		return false
	}
	user, domain, ok := strings.Cut(name, "@")
	if !ok || user == "" || domain == "" || strings.Contains(domain, "@") {
		return false
	}
	return strings.IndexFunc(name, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || strings.ContainsRune("@.-_!#^~'", r))
	}) < 0
}

// KnownHosts is a known_hosts line by which a client trusts the host
// certificates of ca at addresses ("127.0.0.1:2222"), and no other key.
func KnownHosts(ca ssh.PublicKey, addresses ...string) string {
	names := make([]string, len(addresses))
	for i, a := range addresses {
		names[i] = knownhosts.Normalize(a)
	}
	return "@cert-authority " + strings.Join(names, ",") + " " + string(ssh.MarshalAuthorizedKey(ca))
}
