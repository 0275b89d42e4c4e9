package keyvault

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"strings"

	"verdant/hsm"
)

// keyRecord is what the store keeps for a key version: no private part.
type keyRecord struct {
	Type       string     `json:"kty"`            // RSA, RSA-HSM, EC, EC-HSM, oct-HSM
	Bits       int        `json:"bits,omitempty"` // of a symmetric key
	Curve      string     `json:"crv,omitempty"`
	N          b64        `json:"n,omitempty"`
	E          b64        `json:"e,omitempty"`
	X          b64        `json:"x,omitempty"`
	Y          b64        `json:"y,omitempty"`
	Ops        []string   `json:"key_ops"`
	Token      hsm.KeyID  `json:"token"`
	Exportable bool       `json:"exportable,omitempty"`
	Managed    bool       `json:"managed,omitempty"`
	Attributes attributes `json:"attributes"`
	Tags       tags       `json:"tags,omitempty"`
	// Release is the same in all versions of a key.
	Release *releasePolicy `json:"release_policy,omitempty"`
	// Origin is how the key came into the token: generated, imported or
	// transferred. Older records do not say.
	Origin string `json:"origin,omitempty"`
}

func (k *keyRecord) hardware() bool { return strings.HasSuffix(k.Type, "-HSM") }

func (k *keyRecord) symmetric() bool { return strings.HasPrefix(k.Type, "oct") }

func (k *keyRecord) properties() *keyProperties {
	return &keyProperties{Type: k.Type, Size: 8*len(k.N) + k.Bits, Curve: k.Curve}
}

// spec is what a key like this one is in a token.
func (k *keyRecord) spec() hsm.KeySpec {
	switch {
	case k.symmetric():
		return hsm.KeySpec{Type: hsm.Oct, Bits: k.Bits, Exportable: k.Exportable}
	case len(k.N) > 0:
		return hsm.KeySpec{Type: hsm.RSA, Bits: 8 * len(k.N), Exportable: k.Exportable}
	}
	return hsm.KeySpec{Type: hsm.EC, Curve: hsm.Curve(k.Curve), Exportable: k.Exportable}
}

// jwk is a public JSON web key (RFC 7517) as the vault shows it.
type jwk struct {
	KID   string   `json:"kid"`
	Type  string   `json:"kty"`
	Ops   []string `json:"key_ops"`
	N     b64      `json:"n,omitempty"`
	E     b64      `json:"e,omitempty"`
	Curve string   `json:"crv,omitempty"`
	X     b64      `json:"x,omitempty"`
	Y     b64      `json:"y,omitempty"`
}

type keyBundle struct {
	Key        jwk           `json:"key"`
	Attributes attributesOut `json:"attributes"`
	Tags       tags          `json:"tags,omitempty"`
	Managed    bool          `json:"managed,omitempty"`
	// Release is the policy of a key that may be released.
	Release *releasePolicy `json:"release_policy,omitempty"`
}

type deletedKeyBundle struct {
	deletion
	keyBundle
}

type keyItem struct {
	KID        string        `json:"kid"`
	Attributes attributesOut `json:"attributes"`
	Tags       tags          `json:"tags,omitempty"`
	Managed    bool          `json:"managed,omitempty"`
}

type deletedKeyItem struct {
	deletion
	keyItem
}

func (s *Server) keyAttributes(k *keyRecord) attributesOut {
	out := s.show(k.Attributes)
	out.Exportable, out.KeySize = &k.Exportable, k.Bits
	switch {
	case s.cfg.ManagedHSM: // shows none
	case k.hardware():
		out.HSMPlatform = "2"
	default:
		out.HSMPlatform = "0"
	}
	return out
}

func (s *Server) keyBundle(name, version string, k *keyRecord) keyBundle {
	return keyBundle{Key: jwk{KID: s.url("keys", name, version), Type: k.Type, Ops: k.Ops, N: k.N, E: k.E, Curve: k.Curve, X: k.X, Y: k.Y},
		Attributes: s.keyAttributes(k), Tags: k.Tags, Managed: k.Managed, Release: k.Release}
}

func (s *Server) keyItem(id string, k *keyRecord) keyItem {
	return keyItem{KID: id, Attributes: s.keyAttributes(k), Tags: k.Tags, Managed: k.Managed}
}

// deletedKey shows a key in either state, for delete, recover and the deleted
// family.
func (s *Server) deletedKey(ctx context.Context, o Object) (any, error) {
	o, v, err := s.store.Get(ctx, Keys, o.Name, "")
	if err != nil {
		return nil, err
	}
	var k keyRecord
	if err := json.Unmarshal(v.Data, &k); err != nil {
		return nil, fmt.Errorf("key %s: stored record: %w", o.Name, err)
	}
	bundle := s.keyBundle(o.Name, v.ID, &k)
	if o.State == Live {
		return bundle, nil
	}
	return deletedKeyBundle{s.deletion(o), bundle}, nil
}

type createKeyIn struct {
	Type       string           `json:"kty"`
	Size       *int             `json:"key_size"`
	Curve      string           `json:"crv"`
	Exponent   *int64           `json:"public_exponent"`
	Ops        []string         `json:"key_ops"`
	Attributes *attributesIn    `json:"attributes"`
	Tags       tags             `json:"tags"`
	Release    *releasePolicyIn `json:"release_policy"`
}

// spec is the key that the token shall make, in a vault of a SKU or in a
// managed HSM.
func (in *createKeyIn) spec(sku string, managedHSM bool) (hsm.KeySpec, error) {
	if managedHSM && (in.Type == "oct" || in.Type == "oct-HSM") {
		return in.symmetricSpec()
	}
	switch in.Type {
	case "RSA-HSM", "EC-HSM":
		if sku != "premium" {
			return hsm.KeySpec{}, badParameter("Keys of type %s need a vault of the premium SKU.", in.Type)
		}
	case "RSA", "EC":
	case "":
		return hsm.KeySpec{}, badParameter("Property kty is required.")
	default:
		return hsm.KeySpec{}, badParameter("Property kty has an invalid value '%s'.", shorten(in.Type))
	}
	if strings.HasPrefix(in.Type, "RSA") {
		size := 2048
		if in.Size != nil {
			size = *in.Size
		}
		if size != 2048 && size != 3072 && size != 4096 {
			return hsm.KeySpec{}, badParameter("Property key_size has an invalid value %d: an RSA key has 2048, 3072 or 4096 bits.", size)
		}
		// The Java clients send 0 for an exponent that was not set.
		if in.Exponent != nil && *in.Exponent != 65537 && *in.Exponent != 0 {
			return hsm.KeySpec{}, badParameter("Property public_exponent has an invalid value: only 65537 is supported.")
		}
		if in.Curve != "" {
			return hsm.KeySpec{}, badParameter("Property crv does not belong to a key of type %s.", in.Type)
		}
		return hsm.KeySpec{Type: hsm.RSA, Bits: size}, nil
	}
	curve := hsm.Curve(in.Curve)
	switch curve {
	case "":
		curve = hsm.P256
	case hsm.P256, hsm.P384, hsm.P521, hsm.P256K:
	default:
		return hsm.KeySpec{}, badParameter("Property crv has an invalid value '%s': P-256, P-384, P-521 and P-256K are supported.", shorten(in.Curve))
	}
	return hsm.KeySpec{Type: hsm.EC, Curve: curve}, nil
}

func (in *createKeyIn) symmetricSpec() (hsm.KeySpec, error) {
	spec := hsm.KeySpec{Type: hsm.Oct, Bits: 256}
	if in.Size != nil {
		spec.Bits = *in.Size
	}
	if spec.Check() != nil {
		return spec, badParameter("Property key_size has an invalid value %d: a symmetric key has 128, 192 or 256 bits.", spec.Bits)
	}
	if in.Curve != "" || in.Exponent != nil {
		return spec, badParameter("Properties crv and public_exponent do not belong to a key of type %s.", in.Type)
	}
	return spec, nil
}

// commonKeyIn checks what create, import and update share.
func commonKeyIn(attrs *attributesIn, t tags) error {
	if attrs != nil && len(attrs.External) > 0 && string(attrs.External) != "null" {
		return badParameter("Property attributes.external_key is not supported: the keys of this vault are in its own HSM.")
	}
	return errors.Join(attrs.check(), t.check())
}

func (s *Server) createKey(c *call, r *http.Request) (int, any, error) {
	var in createKeyIn
	if err := decode(r, &in, false); err != nil {
		return 0, nil, err
	}
	spec, err := in.spec(s.cfg.SKU, s.cfg.ManagedHSM)
	if err != nil {
		return 0, nil, err
	}
	kty := s.shownType(in.Type)
	ops, err := checkOps(in.Ops, kty)
	if err := errors.Join(err, commonKeyIn(in.Attributes, in.Tags)); err != nil {
		return 0, nil, err
	}
	record := keyRecord{Type: kty, Ops: ops, Attributes: in.Attributes.fresh(s.now().Unix()), Tags: in.Tags, Origin: generated}
	if err := s.releaseRules(r.Context(), c.name, &record, in.Attributes, in.Release); err != nil {
		return 0, nil, err
	}
	spec.Exportable = record.Exportable
	return s.addKey(c, r, record, func(ctx context.Context, id hsm.KeyID) (hsm.Key, error) { return s.token.Generate(ctx, id, spec) })
}

// addKey makes a key in the token and gives it to a new version of the name.
func (s *Server) addKey(c *call, r *http.Request, record keyRecord, make func(context.Context, hsm.KeyID) (hsm.Key, error)) (int, any, error) {
	ctx := r.Context()
	if err := s.meterNewKey(record.Type); err != nil {
		return 0, nil, err
	}
	if err := s.mayWrite(ctx, Keys, c.name); err != nil { // before the work of making a key
		return 0, nil, err
	}
	k, abandon, err := s.newKey(ctx, func(id hsm.KeyID) (hsm.Key, error) { return make(ctx, id) })
	if err != nil {
		return 0, nil, badMaterial(err)
	}
	if err := record.take(k); err != nil {
		abandon()
		return 0, nil, err
	}
	v := Version{ID: newVersion(), Created: record.Attributes.Created}
	name := c.name
	err = s.update(ctx, c.name, func(tx Tx) error {
		if err := c.stillSo(tx); err != nil {
			return err
		}
		if managed, err := isManaged(tx, Keys, c.name); err != nil || managed {
			return errors.Join(err, onlyIf(managed, managedBy("create", Keys)))
		}
		o, err := s.forWriting(tx, Keys, c.name)
		if err != nil {
			return err
		}
		name = o.Name
		if err := keepRelease(tx, o, &record); err != nil {
			return err
		}
		return errors.Join(add(tx, o, v, record), tx.Spare(k.ID()))
	})
	if err != nil {
		abandon()
		return 0, nil, err
	}
	c.objectID, c.key = s.url("keys", name, v.ID), record.properties()
	return http.StatusOK, s.keyBundle(name, v.ID, &record), nil
}

// mayWrite refuses early what the transaction would refuse anyway.
func (s *Server) mayWrite(ctx context.Context, kind Kind, name string) error {
	o, _, err := s.store.Get(ctx, kind, name, "")
	if errors.Is(err, ErrNoObject) {
		return nil
	}
	if err == nil && o.State == Deleted && o.PurgeOn > s.now().Unix() {
		return nameIsDeleted(kind, name)
	}
	return err
}

// take copies a key's public part into the record.
func (k *keyRecord) take(key hsm.Key) error {
	k.Token = key.ID()
	if spec := key.Spec(); spec.Type == hsm.Oct {
		k.Bits = spec.Bits
		return nil
	}
	return k.takePublic(key.Public())
}

func (k *keyRecord) takePublic(public crypto.PublicKey) error {
	switch pub := public.(type) {
	case *rsa.PublicKey:
		k.N, k.E = pub.N.Bytes(), big.NewInt(int64(pub.E)).Bytes()
	case *ecdsa.PublicKey:
		point, err := pub.Bytes()
		if err != nil {
			return err
		}
		half := (len(point) - 1) / 2
		k.Curve, k.X, k.Y = pub.Curve.Params().Name, point[1:1+half], point[1+half:]
	case *hsm.PublicP256K:
		point := pub.Bytes()
		k.Curve, k.X, k.Y = string(hsm.P256K), point[1:33], point[33:]
	default:
		return fmt.Errorf("public key of type %T", public)
	}
	return nil
}

type importKeyIn struct {
	HSM *bool `json:"Hsm"`
	Key struct {
		Type  string   `json:"kty"`
		Ops   []string `json:"key_ops"`
		Curve string   `json:"crv"`
		N     b64      `json:"n"`
		E     b64      `json:"e"`
		D     b64      `json:"d"`
		P     b64      `json:"p"`
		Q     b64      `json:"q"`
		X     b64      `json:"x"`
		Y     b64      `json:"y"`
		K     b64      `json:"k"`
		T     b64      `json:"key_hsm"`
	} `json:"key"`
	Attributes *attributesIn    `json:"attributes"`
	Tags       tags             `json:"tags"`
	Release    *releasePolicyIn `json:"release_policy"`
}

func (in *importKeyIn) wipe() {
	for _, part := range []b64{in.Key.D, in.Key.P, in.Key.Q, in.Key.K} {
		clear(part)
	}
}

func (s *Server) importKey(c *call, r *http.Request) (int, any, error) {
	var in importKeyIn
	if err := decode(r, &in, false); err != nil {
		return 0, nil, err
	}
	defer in.wipe()
	family := strings.TrimSuffix(in.Key.Type, "-HSM")
	if family != "RSA" && family != "EC" && !(family == "oct" && s.cfg.ManagedHSM) {
		return 0, nil, badParameter("Property key.kty has an invalid value '%s'.", shorten(in.Key.Type))
	}
	kty := in.Key.Type
	if in.HSM != nil && *in.HSM {
		kty = family + "-HSM"
	}
	if kty != family && s.cfg.SKU != "premium" {
		return 0, nil, badParameter("Keys of type %s need a vault of the premium SKU.", kty)
	}
	kty = s.shownType(kty)
	ops, err := checkOps(in.Key.Ops, kty)
	if err := errors.Join(err, commonKeyIn(in.Attributes, in.Tags)); err != nil {
		return 0, nil, err
	}
	record := keyRecord{Type: kty, Ops: ops, Attributes: in.Attributes.fresh(s.now().Unix()), Tags: in.Tags, Origin: imported}
	if err := s.releaseRules(r.Context(), c.name, &record, in.Attributes, in.Release); err != nil {
		return 0, nil, err
	}
	m, err := s.importedMaterial(r.Context(), &in, &record)
	if err != nil {
		return 0, nil, badMaterial(err)
	}
	defer m.Wipe()
	return s.addKey(c, r, record, func(ctx context.Context, id hsm.KeyID) (hsm.Key, error) {
		return s.token.Import(ctx, id, m, record.Exportable)
	})
}

// importedMaterial is the key in the request, or under its wrapping.
func (s *Server) importedMaterial(ctx context.Context, in *importKeyIn, record *keyRecord) (*hsm.Material, error) {
	family := hsm.KeyType(strings.TrimSuffix(record.Type, "-HSM"))
	if len(in.Key.T) > 0 {
		record.Origin = transferred
		return s.transferredMaterial(ctx, in, record, family)
	}
	return hsm.FromJWK(family, hsm.JWK{N: in.Key.N, E: in.Key.E, D: in.Key.D, P: in.Key.P, Q: in.Key.Q,
		Curve: hsm.Curve(in.Key.Curve), X: in.Key.X, Y: in.Key.Y, K: in.Key.K})
}

// badMaterial makes a wire error of a refusal of package hsm, whose text says
// what is wrong and nothing of the key.
func badMaterial(err error) error {
	if errors.Is(err, hsm.ErrMaterial) || errors.Is(err, hsm.ErrSpec) {
		return badParameter("The key is not acceptable: %s.", shortenTo(err.Error(), 200))
	}
	return err
}

func shortenTo(s string, n int) string {
	if len(s) > n {
		return s[:n] + "…"
	}
	return s
}

func (s *Server) getKey(c *call, r *http.Request) (int, any, error) {
	o, v, k, err := find[keyRecord](r.Context(), s, Keys, c.name, c.version)
	if err != nil {
		return 0, nil, err
	}
	c.objectID, c.key = s.url("keys", o.Name, v.ID), k.properties()
	return http.StatusOK, s.keyBundle(o.Name, v.ID, k), s.meterKey(c.key)
}

type updateKeyIn struct {
	Ops        []string         `json:"key_ops"`
	Attributes *attributesIn    `json:"attributes"`
	Tags       tags             `json:"tags"`
	Release    *releasePolicyIn `json:"release_policy"`
}

func (s *Server) updateKey(c *call, r *http.Request) (int, any, error) {
	var in updateKeyIn
	if err := decode(r, &in, true); err != nil {
		return 0, nil, err
	}
	if err := commonKeyIn(in.Attributes, in.Tags); err != nil {
		return 0, nil, err
	}
	policy, err := s.checkPolicy(in.Release)
	if err != nil {
		return 0, nil, err
	}
	if policy != nil && c.version != "" {
		return 0, nil, badParameter("AKV.SKR.1016: Key Release Policy can only be set on versionless key.")
	}
	var body any
	err = s.update(r.Context(), c.name, func(tx Tx) error {
		o, v, k, err := change(tx, Keys, c.name, c.version, func(k *keyRecord) error {
			if k.Managed {
				return managedBy("update", Keys)
			}
			if in.Attributes != nil && in.Attributes.Exportable != nil && *in.Attributes.Exportable != k.Exportable {
				return exportableIsFixed()
			}
			if len(in.Ops) > 0 { // an empty list changes nothing: it must not widen
				ops, err := checkOps(in.Ops, k.Type)
				if err != nil {
					return err
				}
				if useOf(ops) != useOf(k.Ops) {
					return badParameter("Property key_ops cannot be changed to '%s': what the key is for is decided when it is made.", ops[0])
				}
				k.Ops = ops
			}
			if policy != nil {
				if err := k.mayRelease(policy); err != nil {
					return err
				}
				k.Release = policy
			}
			if err := s.checkUse(k); err != nil {
				return err
			}
			if in.Tags != nil {
				k.Tags = in.Tags
			}
			k.Attributes.apply(in.Attributes, s.now().Unix())
			return nil
		})
		if err == nil && policy != nil {
			err = spreadPolicy(tx, o.Name, policy)
		}
		if err != nil {
			return err
		}
		c.objectID, c.key = s.url("keys", o.Name, v.ID), k.properties()
		body = s.keyBundle(o.Name, v.ID, k)
		return s.meterKey(c.key)
	})
	return http.StatusOK, body, err
}

func (s *Server) rotateKey(c *call, r *http.Request) (int, any, error) {
	o, _, old, err := find[keyRecord](r.Context(), s, Keys, c.name, "")
	if err != nil {
		return 0, nil, err
	}
	policy, err := readRotationPolicy(o)
	if err != nil {
		return 0, nil, err
	}
	if old.Managed {
		return 0, nil, managedBy("rotate", Keys)
	}
	spec := old.spec()
	record := keyRecord{Type: old.Type, Ops: old.Ops, Tags: old.Tags, Exportable: old.Exportable, Release: old.Release, Origin: generated,
		Attributes: (&attributesIn{}).fresh(s.now().Unix())}
	if record.Attributes.Expires, err = policy.expiry(s.now()); err != nil {
		return 0, nil, err
	}
	return s.addKey(c, r, record, func(ctx context.Context, id hsm.KeyID) (hsm.Key, error) { return s.token.Generate(ctx, id, spec) })
}
