//go:build cgo

package pkcs11

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"sync"

	p11 "github.com/miekg/pkcs11"

	"verdant/hsm"
)

// maxKnown bounds the keys whose handles and public parts are kept.
const maxKnown = 8192

// Token is an open token. Two processes may use one token; of two that create
// a key under one id at once neither learns of the other, so ids ought to come
// from hsm.NewKeyID.
type Token struct {
	device *device

	mu     sync.Mutex
	making map[hsm.KeyID]bool
	// bare are the kinds of OAEP that the token refused: for those it does the
	// raw RSA operation.
	bare map[[2]crypto.Hash]bool
}

func (t *Token) padsItself(hash, mgf crypto.Hash) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.bare[[2]crypto.Hash{hash, mgf}]
}

func (t *Token) padBare(hash, mgf crypto.Hash) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.bare[[2]crypto.Hash{hash, mgf}] = true
}

// Open loads the module, finds the token and logs in with the user's PIN. It
// keeps a copy of the PIN, for when the token is reset. A module can be open
// once in a process.
func Open(ctx context.Context, cfg Config, pin []byte) (*Token, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	d, err := openDevice(cfg, pin)
	if err != nil {
		return nil, fmt.Errorf("open PKCS #11 token: %w", err)
	}
	return &Token{device: d, making: map[hsm.KeyID]bool{}, bare: map[[2]crypto.Hash]bool{}}, nil
}

// Close finalizes the module. Calls that are being made are waited for, later
// ones return hsm.ErrRefused.
func (t *Token) Close() error {
	t.device.close()
	return nil
}

// object is what is known of a key in one opening of the token.
type object struct {
	handle p11.ObjectHandle // of the private or secret key
	spec   hsm.KeySpec
	public crypto.PublicKey
}

// object returns the key's object, found in session s. The caller is inside
// device.do, and so is the handle's life.
func (t *Token) object(s p11.SessionHandle, id hsm.KeyID) (*object, error) {
	d := t.device
	d.mu.Lock()
	o := d.objects[id]
	d.mu.Unlock()
	if o != nil {
		return o, nil
	}
	handles, err := d.keys(s, id)
	switch {
	case err != nil:
		return nil, fmt.Errorf("look for the key: %w", err)
	case len(handles) == 0:
		return nil, hsm.ErrNotFound
	case len(handles) > 1:
		return nil, fmt.Errorf("the token has more than one private or secret key with CKA_ID %q", string(id))
	}
	if o, err = d.describe(s, handles[0], id); err != nil {
		return nil, err
	}
	t.keep(id, o)
	return o, nil
}

func (t *Token) keep(id hsm.KeyID, o *object) {
	d := t.device
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.objects) >= maxKnown {
		for other := range d.objects { // some key: it is found again when it is used
			delete(d.objects, other)
			break
		}
	}
	d.objects[id] = o
}

func (t *Token) forget(id hsm.KeyID) {
	t.device.mu.Lock()
	defer t.device.mu.Unlock()
	delete(t.device.objects, id)
}

// with makes a call with the key's object. A handle that the token no longer
// knows is looked up again, once.
func (t *Token) with(ctx context.Context, id hsm.KeyID, call func(s p11.SessionHandle, o *object) error) error {
	if err := id.Check(); err != nil {
		return err
	}
	once := func(s p11.SessionHandle, _ bool) error {
		o, err := t.object(s, id)
		if err != nil {
			return err
		}
		return call(s, o)
	}
	err := t.device.do(ctx, once)
	if unknownHandle(err) {
		t.forget(id)
		err = t.device.do(ctx, once)
	}
	return translate(err)
}

func unknownHandle(err error) bool {
	return is(err, p11.CKR_KEY_HANDLE_INVALID, p11.CKR_OBJECT_HANDLE_INVALID, p11.CKR_WRAPPING_KEY_HANDLE_INVALID, p11.CKR_UNWRAPPING_KEY_HANDLE_INVALID)
}

// translate gives the module's errors the meaning that callers know.
func translate(err error) error {
	switch {
	case is(err, p11.CKR_MECHANISM_INVALID, p11.CKR_MECHANISM_PARAM_INVALID, p11.CKR_KEY_TYPE_INCONSISTENT,
		p11.CKR_KEY_FUNCTION_NOT_PERMITTED, p11.CKR_FUNCTION_NOT_SUPPORTED):
		return fmt.Errorf("%w: %w", hsm.ErrOperation, err)
	case is(err, p11.CKR_SESSION_COUNT, p11.CKR_HOST_MEMORY, p11.CKR_DEVICE_MEMORY, p11.CKR_FUNCTION_CANCELED):
		return fmt.Errorf("%w: %w", hsm.ErrUnavailable, err)
	}
	return err
}

// keys returns the handles of the private and secret keys under id.
func (d *device) keys(s p11.SessionHandle, id hsm.KeyID) ([]p11.ObjectHandle, error) {
	private, err := d.list(s, p11.CKO_PRIVATE_KEY, id)
	if err != nil {
		return nil, err
	}
	secret, err := d.list(s, p11.CKO_SECRET_KEY, id)
	return append(private, secret...), err
}

// list returns the handles of the token's objects of a class under id, two at
// most. A session whose login was lost sees no private objects: that is told
// from a key that is not there.
func (d *device) list(s p11.SessionHandle, class uint, id hsm.KeyID) ([]p11.ObjectHandle, error) {
	err := d.lib.FindObjectsInit(s, []*p11.Attribute{
		p11.NewAttribute(p11.CKA_CLASS, class), p11.NewAttribute(p11.CKA_TOKEN, true), p11.NewAttribute(p11.CKA_ID, []byte(id))})
	if err != nil {
		return nil, err
	}
	handles, _, err := d.lib.FindObjects(s, 2)
	if err := errors.Join(err, d.lib.FindObjectsFinal(s)); err != nil || len(handles) > 0 {
		return handles, err
	}
	info, err := d.lib.GetSessionInfo(s)
	if err == nil && info.State != p11.CKS_RW_USER_FUNCTIONS {
		err = p11.Error(p11.CKR_USER_NOT_LOGGED_IN)
	}
	return nil, err
}

// describe reads what may be known of a private or secret key, and refuses one that the
// token would give out.
func (d *device) describe(s p11.SessionHandle, h p11.ObjectHandle, id hsm.KeyID) (*object, error) {
	found, err := d.lib.GetAttributeValue(s, h, []*p11.Attribute{p11.NewAttribute(p11.CKA_SENSITIVE, nil), p11.NewAttribute(p11.CKA_EXTRACTABLE, nil), p11.NewAttribute(p11.CKA_KEY_TYPE, nil)})
	if err != nil {
		return nil, fmt.Errorf("read the key's attributes: %w", err)
	}
	if !truth(found[0].Value) || truth(found[1].Value) {
		return nil, fmt.Errorf("%w: the token would give the key out (CKA_SENSITIVE %v, CKA_EXTRACTABLE %v)", hsm.ErrSpec, truth(found[0].Value), truth(found[1].Value))
	}
	o := &object{handle: h}
	switch keyType(found[2].Value) {
	case p11.CKK_RSA:
		o.public, err = d.rsaPublic(s, h)
	case p11.CKK_EC:
		o.public, err = d.ecPublic(s, id)
	case p11.CKK_AES:
		o.spec, err = d.aesSpec(s, h)
	default:
		err = fmt.Errorf("%w: a key that is neither RSA nor EC nor AES", hsm.ErrSpec)
	}
	if err != nil {
		return nil, fmt.Errorf("read the public part: %w", err)
	}
	switch k := o.public.(type) {
	case *rsa.PublicKey:
		o.spec = hsm.KeySpec{Type: hsm.RSA, Bits: k.N.BitLen()}
	case *ecdsa.PublicKey:
		o.spec = hsm.KeySpec{Type: hsm.EC, Curve: hsm.Curve(k.Curve.Params().Name)}
	}
	return o, o.spec.Check()
}

func (d *device) aesSpec(s p11.SessionHandle, h p11.ObjectHandle) (hsm.KeySpec, error) {
	found, err := d.lib.GetAttributeValue(s, h, []*p11.Attribute{p11.NewAttribute(p11.CKA_VALUE_LEN, nil)})
	if err != nil {
		return hsm.KeySpec{}, err
	}
	return hsm.KeySpec{Type: hsm.Oct, Bits: 8 * int(ulong(found[0].Value, 16, 24, 32))}, nil
}

func truth(b []byte) bool { return len(b) == 1 && b[0] != 0 }

func keyType(b []byte) uint { return ulong(b, p11.CKK_RSA, p11.CKK_EC, p11.CKK_AES) }

// ulong reads a CK_ULONG, which is in the machine's order, if it is one of
// those expected.
func ulong(b []byte, expected ...uint) uint {
	for _, n := range expected {
		if string(p11.NewAttribute(p11.CKA_VALUE_LEN, n).Value) == string(b) {
			return n
		}
	}
	return 0xffff
}

func (d *device) rsaPublic(s p11.SessionHandle, h p11.ObjectHandle) (*rsa.PublicKey, error) {
	found, err := d.lib.GetAttributeValue(s, h, []*p11.Attribute{p11.NewAttribute(p11.CKA_MODULUS, nil), p11.NewAttribute(p11.CKA_PUBLIC_EXPONENT, nil)})
	if err != nil {
		return nil, err
	}
	n, e := new(big.Int).SetBytes(found[0].Value), new(big.Int).SetBytes(found[1].Value)
	if !e.IsInt64() || e.Int64() < 3 || e.Int64() > 1<<31-1 {
		return nil, fmt.Errorf("%w: the RSA public exponent is out of range", hsm.ErrSpec)
	}
	return &rsa.PublicKey{N: n, E: int(e.Int64())}, nil
}

// ecPublic reads the public key object beside the private one, which has no
// point.
func (d *device) ecPublic(s p11.SessionHandle, id hsm.KeyID) (*ecdsa.PublicKey, error) {
	handles, err := d.list(s, p11.CKO_PUBLIC_KEY, id)
	if err != nil {
		return nil, err
	}
	if len(handles) != 1 {
		return nil, fmt.Errorf("the token has %d public keys beside the private one, want 1", len(handles))
	}
	found, err := d.lib.GetAttributeValue(s, handles[0], []*p11.Attribute{p11.NewAttribute(p11.CKA_EC_PARAMS, nil), p11.NewAttribute(p11.CKA_EC_POINT, nil)})
	if err != nil {
		return nil, err
	}
	return ecPublicKey(found[0].Value, found[1].Value)
}

// Key implements hsm.Token.
func (t *Token) Key(ctx context.Context, id hsm.KeyID) (hsm.Key, error) {
	var k *key
	err := t.with(ctx, id, func(_ p11.SessionHandle, o *object) error {
		k = &key{token: t, id: id, spec: o.spec, public: o.public}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", id, err)
	}
	return k, nil
}

// Generate implements hsm.Token.
func (t *Token) Generate(ctx context.Context, id hsm.KeyID, spec hsm.KeySpec) (hsm.Key, error) {
	return t.create(ctx, id, spec, func(s p11.SessionHandle) (p11.ObjectHandle, error) {
		if spec.Type == hsm.Oct {
			template := append(secretTemplate(id), p11.NewAttribute(p11.CKA_VALUE_LEN, spec.Bits/8))
			return t.device.lib.GenerateKey(s, []*p11.Mechanism{p11.NewMechanism(p11.CKM_AES_KEY_GEN, nil)}, template)
		}
		mechanism, public, private := generation(id, spec)
		_, handle, err := t.device.lib.GenerateKeyPair(s, []*p11.Mechanism{p11.NewMechanism(mechanism, nil)}, public, private)
		return handle, err
	})
}

// Import implements hsm.Token. The key's bytes pass through this process.
func (t *Token) Import(ctx context.Context, id hsm.KeyID, m *hsm.Material, exportable bool) (hsm.Key, error) {
	spec := m.Spec()
	spec.Exportable = exportable
	if err := refuse(spec); err != nil {
		return nil, fmt.Errorf("import key %s: %w", id, err)
	}
	if spec.Type == hsm.Oct {
		return t.importSecret(ctx, id, spec, m)
	}
	der, err := m.PKCS8()
	if err != nil {
		return nil, fmt.Errorf("import key %s: %w", id, err)
	}
	defer clear(der)
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("import key %s: %w", id, hsm.ErrMaterial)
	}
	return t.create(ctx, id, spec, func(s p11.SessionHandle) (p11.ObjectHandle, error) {
		public, private, err := importation(id, parsed)
		if err != nil {
			return 0, err
		}
		defer wipe(private)
		// The private object comes last: while it is not there, neither is the
		// key.
		if _, err := t.device.lib.CreateObject(s, public); err != nil {
			return 0, err
		}
		return t.device.lib.CreateObject(s, private)
	})
}

func (t *Token) importSecret(ctx context.Context, id hsm.KeyID, spec hsm.KeySpec, m *hsm.Material) (hsm.Key, error) {
	value, err := m.Octets()
	if err != nil {
		return nil, fmt.Errorf("import key %s: %w", id, err)
	}
	defer clear(value)
	return t.create(ctx, id, spec, func(s p11.SessionHandle) (p11.ObjectHandle, error) {
		template := append(secretTemplate(id), p11.NewAttribute(p11.CKA_VALUE, value))
		return t.device.lib.CreateObject(s, template)
	})
}

func refuse(spec hsm.KeySpec) error {
	if err := spec.Check(); err != nil {
		return err
	}
	if spec.Exportable {
		return fmt.Errorf("%w: a PKCS #11 token keeps no exportable keys", hsm.ErrSpec)
	}
	if spec.Curve == hsm.P256K {
		return fmt.Errorf("%w: a PKCS #11 token keeps no keys on %s", hsm.ErrSpec, hsm.P256K)
	}
	return nil
}

// create reserves id, so that of two callers one gets ErrExists, and makes the
// key.
func (t *Token) create(ctx context.Context, id hsm.KeyID, spec hsm.KeySpec, make func(p11.SessionHandle) (p11.ObjectHandle, error)) (hsm.Key, error) {
	if err := errors.Join(id.Check(), refuse(spec)); err != nil {
		return nil, fmt.Errorf("create key %s: %w", id, err)
	}
	t.mu.Lock()
	busy := t.making[id]
	t.making[id] = true
	t.mu.Unlock()
	if busy {
		return nil, fmt.Errorf("create key %s: %w", id, hsm.ErrExists)
	}
	defer func() {
		t.mu.Lock()
		delete(t.making, id)
		t.mu.Unlock()
	}()
	var k *key
	ours := false // whether there was no such key when we began
	err := t.device.do(ctx, func(s p11.SessionHandle, again bool) error {
		there, err := t.device.keys(s, id)
		if err != nil {
			return err
		}
		if len(there) > 0 && !(again && ours) {
			return hsm.ErrExists
		}
		ours = true
		// What is there now is a half of an earlier attempt.
		if err := t.device.destroy(s, id); err != nil {
			return err
		}
		handle, err := make(s)
		var o *object
		if err == nil {
			o, err = t.device.describe(s, handle, id)
		}
		if err == nil && o.spec != spec {
			err = fmt.Errorf("the token made another key than it was asked for: %+v", o.spec)
		}
		if err != nil {
			if !lost(err) {
				_ = t.device.destroy(s, id) // the first error is the one to tell
			}
			return err
		}
		t.keep(id, o)
		k = &key{token: t, id: id, spec: spec, public: o.public}
		return nil
	})
	if is(err, p11.CKR_KEY_SIZE_RANGE, p11.CKR_DOMAIN_PARAMS_INVALID, p11.CKR_CURVE_NOT_SUPPORTED, p11.CKR_MECHANISM_INVALID) {
		err = fmt.Errorf("%w: the token does not make it: %w", hsm.ErrSpec, err)
	}
	if err != nil {
		return nil, fmt.Errorf("create key %s: %w", id, translate(err))
	}
	return k, nil
}

// destroy removes the objects under id, the private one first: without it the
// key is gone.
func (d *device) destroy(s p11.SessionHandle, id hsm.KeyID) error {
	for _, class := range []uint{p11.CKO_PRIVATE_KEY, p11.CKO_SECRET_KEY, p11.CKO_PUBLIC_KEY} {
		handles, err := d.list(s, class, id)
		if err != nil {
			return err
		}
		for _, h := range handles {
			if err := d.lib.DestroyObject(s, h); err != nil && !is(err, p11.CKR_OBJECT_HANDLE_INVALID) {
				return err
			}
		}
	}
	return nil
}

// Delete implements hsm.Token.
func (t *Token) Delete(ctx context.Context, id hsm.KeyID) error {
	if err := id.Check(); err != nil {
		return fmt.Errorf("delete key %s: %w", id, err)
	}
	err := t.device.do(ctx, func(s p11.SessionHandle, _ bool) error {
		defer t.forget(id)
		return t.device.destroy(s, id)
	})
	if err != nil {
		return fmt.Errorf("delete key %s: %w", id, translate(err))
	}
	return nil
}

// Export implements hsm.Token: nothing leaves.
func (t *Token) Export(ctx context.Context, id hsm.KeyID) (*hsm.Material, error) {
	if _, err := t.Key(ctx, id); err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("export key %s: %w", id, hsm.ErrNotExportable)
}

// ecPublicKey reads CKA_EC_PARAMS, the name of a curve, and CKA_EC_POINT: an
// uncompressed point in an OCTET STRING, or bare as some tokens have it.
func ecPublicKey(params, point []byte) (*ecdsa.PublicKey, error) {
	curve := curveOf(params)
	if curve == "" {
		return nil, fmt.Errorf("%w: a curve that is not supported", hsm.ErrSpec)
	}
	var inner []byte
	if rest, err := asn1.Unmarshal(point, &inner); err == nil && len(rest) == 0 {
		point = inner
	}
	public, err := ecdsa.ParseUncompressedPublicKey(elliptics()[curve], point)
	if err != nil {
		return nil, fmt.Errorf("%w: a point that is not on its curve", hsm.ErrMaterial)
	}
	return public, nil
}

var _ hsm.Token = (*Token)(nil)
