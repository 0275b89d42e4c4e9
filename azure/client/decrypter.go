package client

import (
	"context"
	"crypto"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
)

// Decrypter decrypts with an RSA key that stays in the vault. It implements
// crypto.Decrypter for *rsa.OAEPOptions with SHA-1 or SHA-256, the same hash in
// MGF1, and no label, which is what the vault offers. PKCS #1 v1.5 is refused:
// whoever learns which ciphertexts fail can decrypt (Bleichenbacher's attack),
// and a vault that is asked over a network tells. It is safe for concurrent
// use.
type Decrypter struct {
	keys    *azkeys.Client
	name    string
	version string
	public  *rsa.PublicKey
}

// Decrypter returns a decrypter with the key called name, or with the key of
// the certificate of that name. It is pinned to the version found now: what was
// encrypted under another version is not its own.
func (v *Vault) Decrypter(ctx context.Context, name string) (*Decrypter, error) {
	part, err := v.publicPart(ctx, name)
	if err != nil {
		return nil, err
	}
	public, ok := part.key.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("key %s: a key of type %T cannot decrypt; use an RSA key", name, part.key)
	}
	return &Decrypter{keys: v.keys, name: name, version: part.version, public: public}, nil
}

// Public returns the public key, known since the Decrypter was made.
func (d *Decrypter) Public() crypto.PublicKey { return d.public }

// Version returns the key version that the Decrypter is pinned to.
func (d *Decrypter) Version() string { return d.version }

// Decrypt asks the vault to decrypt. rand is not read.
func (d *Decrypter) Decrypt(_ io.Reader, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), SignTimeout)
	defer cancel()
	return d.DecryptContext(ctx, ciphertext, opts)
}

// DecryptContext is Decrypt within the bounds of ctx.
func (d *Decrypter) DecryptContext(ctx context.Context, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	alg, err := d.algorithm(ciphertext, opts)
	if err != nil {
		return nil, fmt.Errorf("decrypt with key %s: %w", d.name, err)
	}
	r, err := d.keys.Decrypt(ctx, d.name, d.version, azkeys.KeyOperationParameters{Algorithm: &alg, Value: ciphertext}, nil)
	if err != nil {
		return nil, fmt.Errorf("decrypt with key %s: %w", d.name, AsRefusal(err))
	}
	return r.Result, nil
}

// algorithm chooses the vault's name for the decryption that opts asks for.
func (d *Decrypter) algorithm(ciphertext []byte, opts crypto.DecrypterOpts) (azkeys.EncryptionAlgorithm, error) {
	if len(ciphertext) != d.public.Size() {
		return "", fmt.Errorf("the ciphertext is %d bytes long, the key's are %d", len(ciphertext), d.public.Size())
	}
	oaep, ok := opts.(*rsa.OAEPOptions)
	switch {
	case !ok:
		return "", fmt.Errorf("options of type %T: only OAEP is offered; give *rsa.OAEPOptions", opts)
	case len(oaep.Label) > 0:
		return "", errors.New("the vault knows no OAEP label")
	case oaep.MGFHash != 0 && oaep.MGFHash != oaep.Hash:
		return "", errors.New("the vault uses one hash for OAEP and its mask")
	case oaep.Hash == crypto.SHA256:
		return azkeys.EncryptionAlgorithmRSAOAEP256, nil
	case oaep.Hash == crypto.SHA1:
		return azkeys.EncryptionAlgorithmRSAOAEP, nil
	}
	return "", fmt.Errorf("hash %v is not one with which the vault decrypts; use SHA-256", oaep.Hash)
}
