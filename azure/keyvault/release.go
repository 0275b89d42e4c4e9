package keyvault

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"

	"verdant/azure/keyvault/release"
	"verdant/hsm"
)

// releasePolicy is a key's release policy as it is on the wire.
type releasePolicy struct {
	ContentType string `json:"contentType"`
	Data        b64    `json:"data"`
	Immutable   bool   `json:"immutable"`
}

type releasePolicyIn struct {
	ContentType *string `json:"contentType"`
	Data        b64     `json:"data"`
	Immutable   *bool   `json:"immutable"`
}

func (p *releasePolicy) equal(q *releasePolicy) bool {
	if p == nil || q == nil {
		return p == q
	}
	return p.ContentType == q.ContentType && bytes.Equal(p.Data, q.Data) && p.Immutable == q.Immutable
}

const policyType = "application/json; charset=utf-8"

// How a key came into the token.
const (
	generated   = "generated"
	imported    = "imported"
	transferred = "transferred"
)

// checkPolicy reads a release policy of a request; nil where there is none. Its
// authorities must be trusted by this vault: a policy that nothing could ever
// meet, or that another authority could, is refused when it is set.
func (s *Server) checkPolicy(in *releasePolicyIn) (*releasePolicy, error) {
	if in == nil {
		return nil, nil
	}
	p := &releasePolicy{ContentType: policyType, Data: in.Data, Immutable: in.Immutable != nil && *in.Immutable}
	if in.ContentType != nil && *in.ContentType != "" {
		if kind, _, _ := strings.Cut(*in.ContentType, ";"); !strings.EqualFold(strings.TrimSpace(kind), "application/json") || len(*in.ContentType) > 100 {
			return nil, badParameter("Property release_policy.contentType has an invalid value '%s': policies are application/json.", shorten(*in.ContentType))
		}
		p.ContentType = *in.ContentType
	}
	if len(in.Data) == 0 {
		return nil, badParameter("Property release_policy.data is required.")
	}
	parsed, err := release.ParsePolicy(in.Data)
	if err != nil {
		return nil, badParameter("Property release_policy.data is not acceptable: %s.", printable(err.Error(), 200))
	}
	for _, authority := range parsed.Authorities() {
		if !s.attested.Trusts(authority) {
			return nil, badParameter("AKV.SKR.1012: The specified attestation service %s cannot be reached: this vault is not configured to trust it.", shorten(authority))
		}
	}
	return p, nil
}

func exportableIsFixed() error {
	return badParameter("AKV.SKR.1003: Exportable attribute of an existing key cannot be changed.")
}

func policyIsFixed() error {
	return badParameter("AKV.SKR.1020: Immutable Key Release Policy cannot be modified.")
}

// mayRelease reports whether the key can have the policy in place of its own.
func (k *keyRecord) mayRelease(policy *releasePolicy) error {
	switch {
	case policy.equal(k.Release):
	case !k.Exportable && useOf(k.Ops) != secureUse:
		return badParameter("AKV.SKR.1005: Non-exportable keys must not have release policy.")
	case k.Release != nil && k.Release.Immutable:
		return policyIsFixed()
	}
	return nil
}

// releaseRules decides whether a new version may be exported, and under which
// policy. Both belong to the key: a later version has what the first one had.
func (s *Server) releaseRules(ctx context.Context, name string, record *keyRecord, attrs *attributesIn, in *releasePolicyIn) error {
	policy, err := s.checkPolicy(in)
	if err != nil {
		return err
	}
	_, _, current, err := find[keyRecord](ctx, s, Keys, name, "")
	switch {
	case err == nil && !current.Managed:
		record.Exportable, record.Release = current.Exportable, current.Release
	case err == nil: // the transaction refuses
	case !isNotFound(err):
		return err
	}
	if attrs != nil && attrs.Exportable != nil {
		if err == nil && *attrs.Exportable != record.Exportable {
			return exportableIsFixed()
		}
		record.Exportable = *attrs.Exportable
	}
	if policy != nil {
		if err := record.mayRelease(policy); err != nil {
			return err
		}
		record.Release = policy
	}
	switch {
	case !record.Exportable:
	case s.cfg.SKU != "premium":
		return badParameter("AKV.SKR.1001: The exportable attribute is only supported with premium vaults and API version >= '7.3-preview'.")
	case !record.hardware():
		return badParameter("AKV.SKR.1006: The exportable attribute is only supported with keys of an -HSM type.")
	case record.Release == nil:
		return badParameter("AKV.SKR.1004: Exportable keys must have release policy.")
	}
	if !record.Exportable && useOf(record.Ops) != secureUse {
		record.Release = nil
	}
	return s.checkUse(record)
}

// keepRelease repeats, inside the transaction that adds a version to o, what
// releaseRules found before the key was made.
func keepRelease(tx Tx, o Object, record *keyRecord) error {
	if o.Current == "" {
		return nil
	}
	v, err := tx.Version(Keys, o.Name, o.Current)
	if err != nil {
		return err
	}
	var current keyRecord
	if err := json.Unmarshal(v.Data, &current); err != nil {
		return err
	}
	switch {
	case current.Exportable != record.Exportable:
		return exportableIsFixed()
	case record.Release.equal(current.Release):
		return nil
	case current.Release != nil && current.Release.Immutable:
		return policyIsFixed()
	case record.Release == nil:
		return nil
	}
	return spreadPolicy(tx, o.Name, record.Release)
}

// spreadPolicy gives all versions of a key its policy.
func spreadPolicy(tx Tx, name string, policy *releasePolicy) error {
	versions, err := tx.Versions(Keys, name)
	if err != nil {
		return err
	}
	for _, v := range versions {
		if _, _, _, err := change(tx, Keys, name, v.ID, func(k *keyRecord) error {
			if k.Exportable || useOf(k.Ops) == secureUse {
				k.Release = policy
			}
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

type releaseIn struct {
	Target string `json:"target"`
	Nonce  string `json:"nonce"`
	Enc    string `json:"enc"`
}

// releaseHash is the hash of RSA-OAEP in the wrapping that enc names.
func releaseHash(enc string) (crypto.Hash, bool) {
	switch enc {
	case wrapTransfer:
		return crypto.SHA1, true
	case "RSA_AES_KEY_WRAP_256":
		return crypto.SHA256, true
	case "RSA_AES_KEY_WRAP_384":
		return crypto.SHA384, true
	}
	return 0, false
}

const (
	wrapTransfer = "CKM_RSA_AES_KEY_WRAP"
	maxNonce     = 1024
)

// release gives an exportable key to an environment that its policy allows,
// wrapped for the environment's own key and signed by the vault.
func (s *Server) release(c *call, r *http.Request) (int, any, error) {
	in := releaseIn{Enc: wrapTransfer}
	if err := decode(r, &in, false); err != nil {
		return 0, nil, err
	}
	c.algorithm = shorten(in.Enc)
	hash, ok := releaseHash(in.Enc)
	switch {
	case in.Target == "":
		return 0, nil, badParameter("Property target is required.")
	case !ok:
		return 0, nil, badParameter("Property enc has an invalid value '%s'.", shorten(in.Enc))
	case len(in.Nonce) > maxNonce:
		return 0, nil, badParameter("Property nonce is over %d characters.", maxNonce)
	}
	kid, k, err := s.keyFor(c, r, "release")
	if err != nil {
		return 0, nil, err
	}
	target, err := s.attest(c, r, k, in.Target)
	if err != nil {
		return 0, nil, err
	}
	m, err := s.token.Export(r.Context(), k.Token)
	if err != nil {
		return 0, nil, err
	}
	defer m.Wipe()
	public, targetID := target.Key()
	wrapped, err := m.WrapFor(public, hash)
	if err != nil {
		return 0, nil, err
	}
	blob, err := json.Marshal(transferBlob{Version: "1.0.0", Header: transferHeader{KID: targetID, Algorithm: "dir", Encryption: in.Enc}, Ciphertext: wrapped})
	if err != nil {
		return 0, nil, err
	}
	bundle := s.keyBundle(c.name, kid[strings.LastIndexByte(kid, '/')+1:], k)
	bundle.Key.KID, bundle.Key.Type = kid, strings.TrimSuffix(k.Type, "-HSM")
	asked := s.url("keys", c.name)
	if c.version != "" {
		asked += "/" + c.version
	}
	token, err := s.signStatement(r.Context(), releaseStatement{
		Request:  releaseRequest{APIVersion: c.api, Encryption: in.Enc, KID: asked, Nonce: in.Nonce},
		Response: releaseResponse{Key: releasedBundle{Key: releasedKey{bundle.Key, blob}, Attributes: bundle.Attributes, Tags: k.Tags, Release: k.Release}}})
	return http.StatusOK, map[string]string{"value": token}, err
}

// releaseStatement is the payload of the token that a release answers with.
type releaseStatement struct {
	Request  releaseRequest  `json:"request"`
	Response releaseResponse `json:"response"`
}

type releaseRequest struct {
	APIVersion string `json:"api-version"`
	Encryption string `json:"enc"`
	KID        string `json:"kid"`
	Nonce      string `json:"nonce,omitempty"`
}

type releaseResponse struct {
	Key releasedBundle `json:"key"`
}

type releasedBundle struct {
	Key        releasedKey    `json:"key"`
	Attributes attributesOut  `json:"attributes"`
	Tags       tags           `json:"tags,omitempty"`
	Release    *releasePolicy `json:"release_policy"`
}

type releasedKey struct {
	jwk
	Wrapped b64 `json:"key_hsm"`
}

// attest checks an attestation token against the key's policy. Why it is not
// enough goes to the audit record and not to the caller.
func (s *Server) attest(c *call, r *http.Request, k *keyRecord, token string) (*release.Assertion, error) {
	if k.Release == nil {
		return nil, forbidden("KeyOperationForbidden", "This key has no release policy.")
	}
	policy, err := release.ParsePolicy(k.Release.Data)
	if err != nil {
		return nil, err
	}
	target, err := s.attested.Verify(r.Context(), token)
	if errors.Is(err, release.ErrAssertion) || errors.Is(err, release.ErrUnreachable) {
		c.cause = err
		return nil, forbidden("AccessDenied", "Target environment attestation statement cannot be verified.")
	}
	if err != nil {
		return nil, err
	}
	if !policy.Allows(target) {
		return nil, forbidden("AccessDenied", "Target environment attestation does not meet key release policy requirements.")
	}
	return target, nil
}

type secureIn struct {
	Algorithm string `json:"alg"`
	Value     b64    `json:"value"`
	Target    string `json:"target"`
}

type secureOut struct {
	KID       string `json:"kid"`
	Algorithm string `json:"alg"`
	Value     b64    `json:"value"`
}

// wrapperOf finds a wrapping algorithm of the secure operations.
func wrapperOf(name string, k *keyRecord) (rsaKey bool, mode hsm.Mode, err error) {
	if name == "" {
		return false, 0, badParameter("Property alg is required.")
	}
	if name == "RSA-OAEP-256" {
		if len(k.N) == 0 {
			return false, 0, badParameter("The algorithm %s does not fit a key of type %s.", name, k.Type)
		}
		return true, 0, nil
	}
	a, ok := cipherOf(strings.TrimSuffix(name, "PAD"))
	if strings.HasSuffix(name, "KWPAD") {
		a.mode = hsm.KeyWrapPad
	} else if strings.HasSuffix(name, "PAD") {
		a, ok = cipherOf(name)
	}
	switch {
	case !ok || !a.wraps():
		return false, 0, badParameter("Property alg has an invalid value '%s'.", shorten(name))
	case !k.symmetric(), a.bits != 0 && a.bits != k.Bits:
		return false, 0, badParameter("The algorithm %s does not fit this key of type %s.", name, k.Type)
	}
	return false, a.mode, nil
}

// secureWrap makes a data key that nobody sees and wraps it.
func (s *Server) secureWrap(c *call, r *http.Request) (int, any, error) {
	in, kid, k, err := s.secureOperation(c, r, "secureWrapKey")
	if err != nil {
		return 0, nil, err
	}
	isRSA, mode, err := wrapperOf(in.Algorithm, k)
	if err != nil {
		return 0, nil, err
	}
	var dek [32]byte
	_, _ = rand.Read(dek[:]) // never returns an error (crypto/rand)
	defer clear(dek[:])
	if isRSA {
		public, err := k.public()
		if err != nil {
			return 0, nil, err
		}
		out, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, public.(*rsa.PublicKey), dek[:], nil)
		return http.StatusOK, secureOut{kid, in.Algorithm, out}, err
	}
	key, err := s.tokenKey(r.Context(), k)
	if err != nil {
		return 0, nil, err
	}
	out, err := key.Encipher(mode, nil, dek[:])
	return http.StatusOK, secureOut{kid, in.Algorithm, out}, symmetricError(err)
}

// secureUnwrap gives what secureWrap wrapped to an environment that the policy
// allows: encrypted (RSA-OAEP-256) for the environment's own key.
func (s *Server) secureUnwrap(c *call, r *http.Request) (int, any, error) {
	in, kid, k, err := s.secureOperation(c, r, "secureUnwrapKey")
	if err != nil {
		return 0, nil, err
	}
	isRSA, mode, err := wrapperOf(in.Algorithm, k)
	switch {
	case err != nil:
		return 0, nil, err
	case in.Target == "":
		return 0, nil, badParameter("Property target is required.")
	case in.Value == nil:
		return 0, nil, badParameter("Property value is required.")
	}
	target, err := s.attest(c, r, k, in.Target)
	if err != nil {
		return 0, nil, err
	}
	key, err := s.tokenKey(r.Context(), k)
	if err != nil {
		return 0, nil, err
	}
	var dek []byte
	if isRSA {
		dek, err = key.Decrypt(rand.Reader, in.Value, &rsa.OAEPOptions{Hash: crypto.SHA256})
		if errors.Is(err, rsa.ErrDecryption) {
			err = notDecrypted()
		}
	} else {
		dek, err = key.Decipher(mode, nil, in.Value)
		err = symmetricError(err)
	}
	if err != nil {
		return 0, nil, err
	}
	defer clear(dek)
	public, _ := target.Key()
	if len(dek) > public.Size()-2*sha256.Size-2 { // wrapped elsewhere: ours have 32 bytes
		return 0, nil, notDecrypted()
	}
	out, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, public, dek, nil)
	return http.StatusOK, secureOut{kid, in.Algorithm, out}, err
}

func (s *Server) secureOperation(c *call, r *http.Request, op string) (in secureIn, kid string, k *keyRecord, err error) {
	if err := decode(r, &in, false); err != nil {
		return in, "", nil, err
	}
	c.algorithm = shorten(in.Algorithm)
	kid, k, err = s.keyFor(c, r, op)
	return in, kid, k, err
}

// mayDo reports whether the key is for an operation.
func (k *keyRecord) mayDo(op string) bool {
	if op == "release" {
		return k.Exportable && k.Release != nil
	}
	return slices.Contains(k.Ops, op)
}
