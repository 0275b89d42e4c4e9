package keyvault

import (
	"context"
	"crypto/rsa"
	"errors"
	"net/http"

	"verdant/hsm"
)

type keyOperationIn struct {
	Algorithm string `json:"alg"`
	Value     b64    `json:"value"`
	Digest    b64    `json:"digest"` // of verify, where value is the signature
	// Of symmetric keys.
	IV         b64 `json:"iv"`
	Tag        b64 `json:"tag"`
	Associated b64 `json:"aad"`
}

type keyOperationOut struct {
	Algorithm string `json:"alg,omitempty"` // of a managed HSM only
	KID       string `json:"kid"`
	Value     b64    `json:"value"`
	// Of encrypt with a symmetric key.
	IV         b64 `json:"iv,omitempty"`
	Tag        b64 `json:"tag,omitempty"`
	Associated b64 `json:"aad,omitempty"`
}

// onlyHSM is what a managed HSM repeats in its answers and a vault does not.
func (s *Server) onlyHSM(text string) string {
	if s.cfg.ManagedHSM {
		return text
	}
	return ""
}

// keyFor finds the key of an operation and checks that it may do it now. Keys
// outside their validity still decrypt, unwrap and verify, so that what was
// made in time can be read.
func (s *Server) keyFor(c *call, r *http.Request, op string) (string, *keyRecord, error) {
	o, v, k, err := find[keyRecord](r.Context(), s, Keys, c.name, c.version)
	if err != nil {
		return "", nil, err
	}
	kid := s.url("keys", o.Name, v.ID)
	c.objectID, c.key = kid, k.properties()
	if err := s.meterKey(c.key); err != nil {
		return "", nil, err
	}
	now := s.now().Unix()
	reading := op == "decrypt" || op == "unwrapKey" || op == "verify" || op == "secureUnwrapKey"
	switch {
	case !k.Attributes.Enabled:
		return "", nil, disabled(op, Keys)
	case !k.mayDo(op):
		return "", nil, forbidden("KeyOperationForbidden", "Operation %s is not permitted on this key.", op)
	case reading:
	case k.Attributes.NotBefore != nil && now < *k.Attributes.NotBefore:
		return "", nil, forbidden("KeyNotYetValid", "Operation %s is not allowed on a key that is not yet valid.", op)
	case k.Attributes.Expires != nil && now >= *k.Attributes.Expires:
		return "", nil, forbidden("KeyExpired", "Operation %s is not allowed on an expired key.", op)
	}
	return kid, k, nil
}

// tokenKey is the key itself. A record without its key is a defect or a lost
// token, never "not found".
func (s *Server) tokenKey(ctx context.Context, k *keyRecord) (hsm.Key, error) {
	key, err := s.token.Key(ctx, k.Token)
	if errors.Is(err, hsm.ErrNotFound) {
		return nil, errors.New("the token has lost the key " + string(k.Token))
	}
	return key, err
}

func (s *Server) readOperation(c *call, r *http.Request) (in keyOperationIn, err error) {
	if err := decode(r, &in, false); err != nil {
		return in, err
	}
	if in.Algorithm == "" {
		return in, badParameter("Property alg is required.")
	}
	c.algorithm = shorten(in.Algorithm)
	return in, nil
}

func (s *Server) sign(c *call, r *http.Request) (int, any, error) {
	in, err := s.readOperation(c, r)
	if err != nil {
		return 0, nil, err
	}
	kid, k, err := s.keyFor(c, r, "sign")
	if err != nil {
		return 0, nil, err
	}
	alg, ok := signatureOf(in.Algorithm)
	if !ok {
		return 0, nil, badParameter("Property alg has an invalid value '%s'.", shorten(in.Algorithm))
	}
	if err := alg.fits(k, in.Algorithm, in.Value); err != nil {
		return 0, nil, err
	}
	key, err := s.tokenKey(r.Context(), k)
	if err != nil {
		return 0, nil, err
	}
	sig, err := alg.sign(key, in.Value)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, keyOperationOut{Algorithm: s.onlyHSM(in.Algorithm), KID: kid, Value: sig}, nil
}

func (s *Server) verifySignature(c *call, r *http.Request) (int, any, error) {
	in, err := s.readOperation(c, r)
	if err != nil {
		return 0, nil, err
	}
	kid, k, err := s.keyFor(c, r, "verify")
	if err != nil {
		return 0, nil, err
	}
	alg, ok := signatureOf(in.Algorithm)
	if !ok {
		return 0, nil, badParameter("Property alg has an invalid value '%s'.", shorten(in.Algorithm))
	}
	if err := alg.fits(k, in.Algorithm, in.Digest); err != nil {
		return 0, nil, err
	}
	public, err := k.public()
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, struct {
		Algorithm string `json:"alg,omitempty"`
		KID       string `json:"kid,omitempty"`
		Value     bool   `json:"value"`
	}{s.onlyHSM(in.Algorithm), s.onlyHSM(kid), alg.verify(public, in.Digest, in.Value)}, nil
}

// encrypt is encrypt and wrapKey: the same operation under two permissions.
func (s *Server) encrypt(op string) operation {
	return func(c *call, r *http.Request) (int, any, error) {
		in, err := s.readOperation(c, r)
		if err != nil {
			return 0, nil, err
		}
		kid, k, err := s.keyFor(c, r, op)
		if err != nil {
			return 0, nil, err
		}
		if k.symmetric() {
			out, err := s.encipher(r.Context(), op, in, k)
			out.Algorithm, out.KID = s.onlyHSM(in.Algorithm), kid
			return http.StatusOK, out, err
		}
		alg, err := encryptionFor(in.Algorithm, k)
		if err != nil {
			return 0, nil, err
		}
		if room := alg.room(len(k.N)); len(in.Value) == 0 || len(in.Value) > room {
			return 0, nil, badParameter("Property value has an invalid length: %s with this key takes 1 to %d bytes.", in.Algorithm, room)
		}
		public, err := k.public()
		if err != nil {
			return 0, nil, err
		}
		out, err := alg.encrypt(public.(*rsa.PublicKey), in.Value)
		if err != nil {
			return 0, nil, err
		}
		return http.StatusOK, keyOperationOut{Algorithm: s.onlyHSM(in.Algorithm), KID: kid, Value: out}, nil
	}
}

// decrypt is decrypt and unwrapKey.
func (s *Server) decrypt(op string) operation {
	return func(c *call, r *http.Request) (int, any, error) {
		in, err := s.readOperation(c, r)
		if err != nil {
			return 0, nil, err
		}
		kid, k, err := s.keyFor(c, r, op)
		if err != nil {
			return 0, nil, err
		}
		if k.symmetric() {
			out, err := s.decipher(r.Context(), op, in, k)
			return http.StatusOK, keyOperationOut{Algorithm: s.onlyHSM(in.Algorithm), KID: kid, Value: out}, err
		}
		alg, err := encryptionFor(in.Algorithm, k)
		if err != nil {
			return 0, nil, err
		}
		if len(in.Value) != len(k.N) {
			return 0, nil, badParameter("Property value has an invalid length: a ciphertext of this key has %d bytes.", len(k.N))
		}
		key, err := s.tokenKey(r.Context(), k)
		if err != nil {
			return 0, nil, err
		}
		out, err := alg.decrypt(key, in.Value)
		if errors.Is(err, rsa.ErrDecryption) {
			return 0, nil, notDecrypted()
		}
		if err != nil {
			return 0, nil, err
		}
		return http.StatusOK, keyOperationOut{Algorithm: s.onlyHSM(in.Algorithm), KID: kid, Value: out}, nil
	}
}

// notDecrypted is the one answer to a ciphertext that does not open.
func notDecrypted() error {
	return badParameter("The value could not be decrypted with this key and algorithm.")
}

func encryptionFor(name string, k *keyRecord) (encryption, error) {
	alg, ok := encryptionOf(name)
	_, symmetric := cipherOf(name)
	switch {
	case !ok && !symmetric:
		return encryption{}, badParameter("Property alg has an invalid value '%s'.", shorten(name))
	case !ok, len(k.N) == 0:
		return encryption{}, badParameter("The algorithm %s does not fit a key of type %s.", name, k.Type)
	}
	return alg, nil
}
