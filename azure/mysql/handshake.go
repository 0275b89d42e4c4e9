package mysql

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// Capability flags (MySQL Client/Server Protocol, "Capabilities Flags"). What
// is not listed is not offered: no compression, no LOCAL INFILE, no several
// statements in one, no session tracking.
const (
	capLongPassword  = 1 << 0
	capFoundRows     = 1 << 1
	capLongFlag      = 1 << 2
	capConnectWithDB = 1 << 3
	capProtocol41    = 1 << 9
	capSSL           = 1 << 11
	capTransactions  = 1 << 13
	capSecure        = 1 << 15
	capMultiResults  = 1 << 17
	capPluginAuth    = 1 << 19
	capConnectAttrs  = 1 << 20
	capPluginLenenc  = 1 << 21

	offered = capLongPassword | capFoundRows | capLongFlag | capConnectWithDB | capProtocol41 | capSSL |
		capTransactions | capSecure | capMultiResults | capPluginAuth | capConnectAttrs | capPluginLenenc
	required = capProtocol41 | capSSL | capSecure | capPluginAuth
)

const (
	// serverVersion is a MySQL 8 version for clients that switch on it, and
	// says what it really is.
	serverVersion = "8.0.36-verdant"
	// greetingPlugin is only offered so that a client without TLS answers with
	// a salted hash. Were it mysql_clear_password, such a client would send
	// its token in clear with its first packet.
	greetingPlugin = "caching_sha2_password"
	clearPlugin    = "mysql_clear_password"
	// collation is utf8mb4_bin, which is how the store compares.
	collation = 46
)

// login is what a client asked for in its handshake.
type login struct {
	user, database string
	caps           uint32
	token          string
}

// handshake brings a fresh connection to the point where the client has sent
// its token over TLS. The order is the security: greeting without a clear-text
// method, TLS or nothing, and only then the request for the token. It returns
// an *Error to send, or another error where the connection is just gone.
func (p *packetConn) handshake(ctx context.Context, id uint32, config *tls.Config) (login, error) {
	if err := p.greet(id); err != nil {
		return login{}, err
	}
	first, err := p.read()
	if err != nil {
		return login{}, handshakeError(err)
	}
	request := &reader{b: first}
	caps := uint32(request.uint(4))
	if request.bad || caps&capProtocol41 == 0 {
		return login{}, fatalf(1251, "08004", "Client does not support the protocol of MySQL 4.1 and later; upgrade the client")
	}
	if caps&capSSL == 0 || len(first) != 32 {
		return login{}, fatalf(3159, "HY000", "Connections using insecure transport are prohibited: turn TLS on in the client (for example --ssl, or tls=true in the connection string)")
	}
	secure := tls.Server(p.conn, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		return login{}, fmt.Errorf("TLS with the client: %w", err)
	}
	p.startTLS(secure)
	second, err := p.read()
	if err != nil {
		return login{}, handshakeError(err)
	}
	l, err := parseLogin(second)
	if err != nil {
		return login{}, err
	}
	l.token, err = p.askToken()
	return l, err
}

func handshakeError(err error) error {
	switch {
	case errors.Is(err, errTooLarge):
		return fatalf(1153, "08S01", "Got a packet bigger than %d bytes before the login", maxHandshake)
	case errors.Is(err, errSequence):
		return fatalf(1156, "08S01", "Got packets out of order")
	}
	return err
}

// greet sends Protocol::HandshakeV10.
func (p *packetConn) greet(id uint32) error {
	nonce := []byte(rand.Text() + rand.Text())[:20] // must hold no zero byte
	b := append([]byte{10}, serverVersion...)
	b = append(b, 0)
	b = binary.LittleEndian.AppendUint32(b, id)
	b = append(b, nonce[:8]...)
	b = append(b, 0)
	b = binary.LittleEndian.AppendUint16(b, uint16(offered&0xffff))
	b = append(b, collation)
	b = binary.LittleEndian.AppendUint16(b, uint16(StatusAutocommit))
	b = binary.LittleEndian.AppendUint16(b, uint16(offered>>16))
	b = append(b, 21)
	b = append(b, make([]byte, 10)...)
	b = append(b, nonce[8:]...)
	b = append(b, 0)
	b = append(b, greetingPlugin...)
	b = append(b, 0)
	if err := p.write(b); err != nil {
		return err
	}
	return p.flush()
}

// parseLogin reads Protocol::HandshakeResponse41 as it comes over TLS. What
// the client answered to the greeting's method is not looked at.
func parseLogin(b []byte) (login, error) {
	r := &reader{b: b}
	caps := uint32(r.uint(4))
	r.take(4 + 1 + 23) // packet size, collation, reserved
	l := login{caps: caps & offered, user: r.nul()}
	if caps&capPluginLenenc != 0 {
		r.lenencBytes()
	} else {
		r.take(int(r.uint(1)))
	}
	if caps&capConnectWithDB != 0 {
		l.database = r.nul()
	}
	if caps&capPluginAuth != 0 && len(r.b) > 0 {
		r.nul()
	}
	if caps&capConnectAttrs != 0 && len(r.b) > 0 {
		r.lenencBytes()
	}
	if r.bad || strings.ContainsFunc(l.user+l.database, func(c rune) bool { return c < ' ' || c == 0xfffd }) {
		return login{}, fatalf(1043, "08S01", "Bad handshake")
	}
	if caps&required != required {
		return login{}, fatalf(1251, "08004", "Client does not support the authentication protocol requested by the server; consider upgrading the client")
	}
	return l, nil
}

// askToken sends Protocol::AuthSwitchRequest and reads the token, which ends
// with a zero byte.
func (p *packetConn) askToken() (string, error) {
	b := append([]byte{0xfe}, clearPlugin...)
	if err := p.write(append(b, 0)); err != nil {
		return "", err
	}
	if err := p.flush(); err != nil {
		return "", err
	}
	answer, err := p.read()
	if err != nil {
		return "", handshakeError(err)
	}
	defer clear(answer)
	return strings.TrimSuffix(string(answer), "\x00"), nil
}
