package keyvault

import (
	"context"
	"errors"
	"net/http"

	"verdant/azure/rest"
	"verdant/hsm"
)

// cipherAlgorithm is an algorithm of symmetric keys (RFC 7518 sections 4.4 and
// 5.3; the CBC ones and CKM_… are Azure's and PKCS #11's).
type cipherAlgorithm struct {
	bits int      // of the key; 0 is any
	gcm  bool     // else mode
	mode hsm.Mode // of hsm.Key.Encipher
}

const (
	gcmNonce = 12
	gcmTag   = 16
	cbcIV    = 16
	// maxAssociated bounds aad, which goes to the token with the message.
	maxAssociated = 4 << 10
)

func cipherOf(name string) (cipherAlgorithm, bool) {
	switch name {
	case "CKM_AES_KEY_WRAP":
		return cipherAlgorithm{mode: hsm.KeyWrap}, true
	case "CKM_AES_KEY_WRAP_PAD":
		return cipherAlgorithm{mode: hsm.KeyWrapPad}, true
	}
	if len(name) < 6 {
		return cipherAlgorithm{}, false
	}
	var a cipherAlgorithm
	switch name[:4] {
	case "A128":
		a.bits = 128
	case "A192":
		a.bits = 192
	case "A256":
		a.bits = 256
	default:
		return cipherAlgorithm{}, false
	}
	switch name[4:] {
	case "GCM":
		a.gcm = true
	case "CBC":
		a.mode = hsm.CBC
	case "CBCPAD":
		a.mode = hsm.CBCPad
	case "KW":
		a.mode = hsm.KeyWrap
	default:
		return cipherAlgorithm{}, false
	}
	return a, true
}

func (a cipherAlgorithm) wraps() bool { return a.mode == hsm.KeyWrap || a.mode == hsm.KeyWrapPad }

// cipherFor finds the algorithm and checks that it goes with the operation and
// the key, and what is public of the input: how long a ciphertext is, is left
// to the token, whose refusals are all alike.
func cipherFor(op string, in keyOperationIn, k *keyRecord) (cipherAlgorithm, error) {
	a, ok := cipherOf(in.Algorithm)
	if _, other := encryptionOf(in.Algorithm); !ok && !other {
		return a, badParameter("Property alg has an invalid value '%s'.", shorten(in.Algorithm))
	}
	switch {
	case !ok, a.bits != 0 && a.bits != k.Bits:
		return a, badParameter("The algorithm %s does not fit a key of type %s with %d bits.", in.Algorithm, k.Type, k.Bits)
	case a.wraps() != (op == "wrapKey" || op == "unwrapKey"):
		return a, badParameter("The algorithm %s does not fit the operation %s.", in.Algorithm, op)
	case in.Value == nil:
		return a, badParameter("Property value is required.")
	case len(in.Associated) > 0 && !a.gcm:
		return a, badParameter("Property aad does not belong to the algorithm %s.", in.Algorithm)
	case len(in.Associated) > maxAssociated:
		return a, badParameter("Property aad is over %d bytes.", maxAssociated)
	}
	writing := op == "encrypt" || op == "wrapKey"
	iv, tag := 0, 0
	switch {
	case a.gcm && !writing:
		iv, tag = gcmNonce, gcmTag
	case a.mode == hsm.CBC, a.mode == hsm.CBCPad:
		iv = cbcIV
	}
	return a, errors.Join(sized("iv", in.IV, iv, in.Algorithm), sized("tag", in.Tag, tag, in.Algorithm))
}

func sized(name string, value b64, want int, alg string) error {
	switch {
	case len(value) == want:
		return nil
	case want == 0:
		return badParameter("Property %s does not belong to this operation with the algorithm %s.", name, alg)
	case len(value) == 0:
		return badParameter("Property %s is required with the algorithm %s.", name, alg)
	}
	return badParameter("Property %s has an invalid length: it must be %d bytes with the algorithm %s.", name, want, alg)
}

// encipher is encrypt and wrapKey with a symmetric key. The initialization
// vector of GCM is made by the token: one that a caller used twice would give
// the key stream away.
func (s *Server) encipher(ctx context.Context, op string, in keyOperationIn, k *keyRecord) (out keyOperationOut, err error) {
	a, err := cipherFor(op, in, k)
	if err != nil {
		return out, err
	}
	spec := k.spec()
	if a.gcm && len(in.Value) > hsm.MaxEncipher || !a.gcm && hsm.CheckEncipher(spec, a.mode, in.IV, in.Value) != nil {
		return out, badParameter("Property value has an invalid length for the algorithm %s: %d bytes.", in.Algorithm, len(in.Value))
	}
	key, err := s.tokenKey(ctx, k)
	if err != nil {
		return out, err
	}
	if !a.gcm {
		out.Value, err = key.Encipher(a.mode, in.IV, in.Value)
		out.IV = in.IV
		return out, symmetricError(err)
	}
	sealed, err := key.Seal(in.Value, in.Associated)
	if err == nil && len(sealed) != gcmNonce+len(in.Value)+gcmTag {
		err = errors.New("the token returned a ciphertext of another length than AES-GCM has")
	}
	if err != nil {
		return out, symmetricError(err)
	}
	end := len(sealed) - gcmTag
	out.IV, out.Value, out.Tag, out.Associated = sealed[:gcmNonce], sealed[gcmNonce:end], sealed[end:], in.Associated
	return out, nil
}

// decipher is decrypt and unwrapKey with a symmetric key.
func (s *Server) decipher(ctx context.Context, op string, in keyOperationIn, k *keyRecord) (b64, error) {
	a, err := cipherFor(op, in, k)
	if err != nil {
		return nil, err
	}
	if len(in.Value) > hsm.MaxEncipher+aesBlock {
		return nil, notDecrypted()
	}
	key, err := s.tokenKey(ctx, k)
	if err != nil {
		return nil, err
	}
	var out []byte
	if a.gcm {
		sealed := make([]byte, 0, gcmNonce+len(in.Value)+gcmTag)
		sealed = append(append(append(sealed, in.IV...), in.Value...), in.Tag...)
		out, err = key.Open(sealed, in.Associated)
	} else {
		out, err = key.Decipher(a.mode, in.IV, in.Value)
	}
	return out, symmetricError(err)
}

const aesBlock = 16

// symmetricError makes wire errors of what the token says: that a ciphertext
// does not open is told in the words that an RSA key has for it.
func symmetricError(err error) error {
	switch {
	case errors.Is(err, hsm.ErrOpen):
		return notDecrypted()
	case errors.Is(err, hsm.ErrOperation):
		return rest.Errorf(http.StatusBadRequest, "NotSupported", "The HSM that keeps this key does not do this algorithm.")
	}
	return err
}
