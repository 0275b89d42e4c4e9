package keyvault

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"net/http"
	"time"

	"verdant/hsm"
	"verdant/internal/route"
)

// domainRoutes adds the security domain: how the root of an HSM's backups
// leaves to a quorum of holders, and comes back into a new HSM.
func (s *Server) domainRoutes(add adder) {
	const path, action = "/securitydomain/", actionsHSM + "securitydomain/"
	add("SecurityDomainDownload", http.MethodPost, path+"download", action+"download/action", largeBody, quick, s.downloadDomain)
	add("SecurityDomainDownloadPending", http.MethodGet, path+"download/pending", action+"download/read", route.NoBody, quick, s.domainStatus)
	add("SecurityDomainTransferKeyGet", http.MethodGet, path+"upload", action+"transferkey/read", route.NoBody, slow, s.domainTransferKey)
	add("SecurityDomainUpload", http.MethodPost, path+"upload", action+"upload/action", largeBody, quick, s.uploadDomain)
	add("SecurityDomainUploadPending", http.MethodGet, path+"upload/pending", action+"upload/read", route.NoBody, quick, s.domainStatus)
}

func (s *Server) domainKeeper() (hsm.DomainKeeper, error) {
	if keeper, ok := s.token.(hsm.DomainKeeper); ok {
		return keeper, nil
	}
	return nil, backupNotSupported()
}

// root returns the key that everything which leaves the HSM is sealed under,
// made on first use.
func (s *Server) root(ctx context.Context) (hsm.KeyID, error) {
	for {
		v, err := s.view(ctx)
		if err != nil || v.state.Root != "" {
			return v.rootID(), err
		}
		k, abandon, err := s.newKey(ctx, func(id hsm.KeyID) (hsm.Key, error) {
			return s.token.Generate(ctx, id, hsm.KeySpec{Type: hsm.Oct, Bits: 256})
		})
		if err != nil {
			return "", err
		}
		err = s.changeState(ctx, func(tx Tx, st *hsmState) error {
			if st.Root != "" {
				return errMoved
			}
			st.Root = k.ID()
			return tx.Spare(k.ID())
		})
		if err == nil {
			return k.ID(), nil
		}
		abandon()
		if !errors.Is(err, errMoved) {
			return "", err
		}
	}
}

func (v *localView) rootID() hsm.KeyID {
	if v == nil {
		return ""
	}
	return v.state.Root
}

// holderJWK is a certificate of a holder, as a client sends it.
type holderJWK struct {
	Type  string   `json:"kty"`
	N     b64      `json:"n"`
	E     b64      `json:"e"`
	Chain []string `json:"x5c"`
	X5T   b64      `json:"x5t#S256"`
}

// certificate checks that the parts of the JWK say the same: the holder must
// not get a share that is sealed for another key than it believes.
func (j *holderJWK) certificate(at int) (*x509.Certificate, error) {
	if j.Type != "RSA" || len(j.Chain) != 1 {
		return nil, badParameter("Property certificates[%d] is no RSA key with one certificate in x5c.", at)
	}
	der, err := base64.StdEncoding.DecodeString(j.Chain[0])
	if err != nil {
		return nil, badParameter("Property certificates[%d].x5c is not base64.", at)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, badParameter("Property certificates[%d].x5c is not a certificate.", at)
	}
	pub, ok := c.PublicKey.(*rsa.PublicKey)
	if !ok || pub.N.Cmp(new(big.Int).SetBytes(j.N)) != 0 || new(big.Int).SetBytes(j.E).Cmp(big.NewInt(int64(pub.E))) != 0 {
		return nil, badParameter("Property certificates[%d] has another key than its certificate.", at)
	}
	if sum := sha256.Sum256(der); string(j.X5T) != string(sum[:]) {
		return nil, badParameter("Property certificates[%d].x5t#S256 is not its certificate's thumbprint.", at)
	}
	return c, nil
}

// maxHolders bounds what is parsed; package hsm says how many there may be.
const maxHolders = 16

// downloadDomain gives the security domain to its holders, and thereby makes a
// new HSM active. Every download splits anew, so that holders can change.
func (s *Server) downloadDomain(c *call, r *http.Request) (int, any, error) {
	var in struct {
		Certificates []holderJWK `json:"certificates"`
		Required     int         `json:"required"`
	}
	if err := decode(r, &in, false); err != nil {
		return 0, nil, err
	}
	if len(in.Certificates) > maxHolders {
		return 0, nil, badParameter("Property certificates has over %d entries.", maxHolders)
	}
	holders := make([]*x509.Certificate, len(in.Certificates))
	for i := range in.Certificates {
		var err error
		if holders[i], err = in.Certificates[i].certificate(i); err != nil {
			return 0, nil, err
		}
	}
	keeper, err := s.domainKeeper()
	if err != nil {
		return 0, nil, err
	}
	ctx := r.Context()
	root, err := s.root(ctx)
	if err != nil {
		return 0, nil, err
	}
	domain, err := keeper.ExportDomain(ctx, root, holders, in.Required)
	if errors.Is(err, hsm.ErrSpec) {
		err = badParameter("The security domain cannot be made: %s.", shortenTo(err.Error(), 200))
	}
	if err == nil {
		err = s.changeState(ctx, func(_ Tx, st *hsmState) error {
			st.Active = true
			return nil
		})
	}
	if err != nil {
		return 0, nil, err
	}
	s.poll(c, "/securitydomain/download/pending")
	return http.StatusAccepted, map[string]string{"value": string(domain)}, nil
}

// poll tells a client where the state of what it started is to be had.
func (s *Server) poll(c *call, path string) {
	c.header.Set("Azure-AsyncOperation", "https://"+s.host+path)
	c.header.Set("Retry-After", "1")
}

type domainState struct {
	Status  string  `json:"status"`
	Details *string `json:"status_details"`
}

func (s *Server) domainStatus(_ *call, r *http.Request) (int, any, error) {
	v, err := s.view(r.Context())
	if err != nil {
		return 0, nil, err
	}
	if !v.state.Active {
		return http.StatusOK, domainState{Status: "InProgress"}, nil
	}
	return http.StatusOK, domainState{Status: "Success"}, nil
}

func alreadyActive() error {
	return conflict("HsmAlreadyActivated", "The managed HSM is active: a security domain can be uploaded into a new one only.")
}

// transferValid is how long the certificate of a transfer key says it is good
// for; the key itself goes when a domain was uploaded.
const transferValid = 30 * 24 * time.Hour

// domainTransferKey returns the key that an upload is sealed for, made on first use.
func (s *Server) domainTransferKey(_ *call, r *http.Request) (int, any, error) {
	ctx := r.Context()
	v, err := s.view(ctx)
	switch {
	case err != nil:
		return 0, nil, err
	case v.state.Active:
		return 0, nil, alreadyActive()
	case v.state.Transfer != "":
		body, err := transferBody(v.state.TransferCert)
		return http.StatusOK, body, err
	}
	k, abandon, err := s.newKey(ctx, func(id hsm.KeyID) (hsm.Key, error) {
		return s.token.Generate(ctx, id, hsm.KeySpec{Type: hsm.RSA, Bits: 3072})
	})
	if err != nil {
		return 0, nil, err
	}
	cert, err := s.transferCertificate(k)
	if err == nil {
		err = s.changeState(ctx, func(tx Tx, st *hsmState) error {
			switch {
			case st.Active:
				return alreadyActive()
			case st.Transfer != "":
				return errMoved
			}
			st.Transfer, st.TransferCert = k.ID(), cert
			return tx.Spare(k.ID())
		})
	}
	if err != nil {
		abandon()
		if !errors.Is(err, errMoved) {
			return 0, nil, err
		}
		if v, err = s.view(ctx); err != nil { // another request made one at this moment
			return 0, nil, err
		}
		cert = v.state.TransferCert
	}
	body, err := transferBody(cert)
	return http.StatusOK, body, err
}

func (s *Server) transferCertificate(k hsm.Key) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: "security domain transfer key of " + shortenTo(s.cfg.Name, 24)},
		NotBefore: s.now().Add(-time.Hour), NotAfter: s.now().Add(transferValid), KeyUsage: x509.KeyUsageKeyEncipherment | x509.KeyUsageDataEncipherment}
	return x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
}

type transferJWK struct {
	KID   string   `json:"kid"`
	Type  string   `json:"kty"`
	Use   string   `json:"use"`
	Ops   []string `json:"key_ops"`
	Alg   string   `json:"alg"`
	N     b64      `json:"n"`
	E     b64      `json:"e"`
	Chain []string `json:"x5c"`
	X5T   b64      `json:"x5t#S256"`
}

// transferBody shows the transfer key as the Azure CLI reads it: a JWK inside a
// string.
func transferBody(der []byte) (map[string]string, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	pub, ok := cert.PublicKey.(*rsa.PublicKey)
	if !ok {
		return nil, errors.New("the transfer key is no RSA key")
	}
	sum := sha256.Sum256(der)
	jwk, err := json.Marshal(transferJWK{KID: base64.RawURLEncoding.EncodeToString(sum[:]), Type: "RSA", Use: "enc", Ops: []string{"wrapKey", "encrypt"}, Alg: "RSA-OAEP-256",
		N: pub.N.Bytes(), E: big.NewInt(int64(pub.E)).Bytes(), Chain: []string{base64.StdEncoding.EncodeToString(der)}, X5T: sum[:]})
	return map[string]string{"key_format": "jwk", "transfer_key": string(jwk)}, err
}

// uploadDomain takes a security domain into a new HSM, which is then active.
func (s *Server) uploadDomain(c *call, r *http.Request) (int, any, error) {
	var in struct {
		Value string `json:"value"`
	}
	if err := decode(r, &in, false); err != nil {
		return 0, nil, err
	}
	keeper, err := s.domainKeeper()
	if err != nil {
		return 0, nil, err
	}
	ctx := r.Context()
	v, err := s.view(ctx)
	switch {
	case err != nil:
		return 0, nil, err
	case v.state.Active:
		return 0, nil, alreadyActive()
	case v.state.Transfer == "":
		return 0, nil, badParameter("The managed HSM has given out no transfer key: get that first, and seal the security domain for it.")
	}
	if err := s.importDomain(ctx, keeper, v, in.Value); err != nil {
		return 0, nil, err
	}
	s.poll(c, "/securitydomain/upload/pending")
	return http.StatusAccepted, domainState{Status: "Success"}, nil
}

func (s *Server) importDomain(ctx context.Context, keeper hsm.DomainKeeper, v *localView, sealed string) error {
	cert, err := x509.ParseCertificate(v.state.TransferCert)
	if err != nil {
		return err
	}
	transfer, err := s.token.Key(ctx, v.state.Transfer)
	if err != nil {
		return err
	}
	k, abandon, err := s.newKey(ctx, func(id hsm.KeyID) (hsm.Key, error) {
		return keeper.ImportDomain(ctx, id, transfer, cert, []byte(sealed))
	})
	if errors.Is(err, hsm.ErrMaterial) {
		return badParameter("The security domain is not acceptable: %s.", shortenTo(err.Error(), 200))
	}
	if err != nil {
		return err
	}
	var gone []hsm.KeyID
	err = s.changeState(ctx, func(tx Tx, st *hsmState) error {
		if st.Active || st.Transfer != v.state.Transfer {
			return alreadyActive()
		}
		gone = []hsm.KeyID{st.Transfer}
		if st.Root != "" {
			gone = append(gone, st.Root)
		}
		st.Active, st.Root, st.Transfer, st.TransferCert = true, k.ID(), "", nil
		for _, id := range gone {
			if err := tx.Doom(id, s.now().UnixNano()); err != nil {
				return err
			}
		}
		return tx.Spare(k.ID())
	})
	if err != nil {
		abandon()
		return err
	}
	s.destroy(context.WithoutCancel(ctx), gone...)
	return nil
}
