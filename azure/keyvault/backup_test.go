package keyvault_test

import (
	"bytes"
	"crypto/sha256"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/keyvault/azcertificates"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"

	"verdant/azure/rbac"
)

func TestABackupBringsBackEveryVersionOfAKeyAndItWorks(t *testing.T) {
	w := newWorld(t)
	c, ctx := w.keys(admin), t.Context()
	first := must(c.CreateKey(ctx, "k", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeECHSM)}, nil))(t)
	second := must(c.CreateKey(ctx, "k", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeRSA)}, nil))(t)
	digest := sha256.Sum256([]byte("x"))
	sign := azkeys.SignParameters{Algorithm: to.Ptr(azkeys.SignatureAlgorithmES256), Value: digest[:]}
	signed := must(c.Sign(ctx, "k", first.Key.KID.Version(), sign, nil))(t)
	blob := must(c.BackupKey(ctx, "k", nil))(t).Value

	_, err := c.RestoreKey(ctx, azkeys.RestoreKeyParameters{KeyBackup: blob}, nil)
	refused(t, err, 409, "Conflict")
	must(c.DeleteKey(ctx, "k", nil))(t)
	_, err = c.RestoreKey(ctx, azkeys.RestoreKeyParameters{KeyBackup: blob}, nil)
	refused(t, err, 409, "Conflict")
	must(c.PurgeDeletedKey(ctx, "k", nil))(t)

	got := must(c.RestoreKey(ctx, azkeys.RestoreKeyParameters{KeyBackup: blob}, nil))(t)
	if *got.Key.KID != *second.Key.KID || !bytes.Equal(got.Key.N, second.Key.N) {
		t.Errorf("got %s, want %s", *got.Key.KID, *second.Key.KID)
	}
	w.restart()
	verified := must(w.keys(admin).Verify(ctx, "k", first.Key.KID.Version(),
		azkeys.VerifyParameters{Algorithm: sign.Algorithm, Digest: digest[:], Signature: signed.Result}, nil))(t)
	if !*verified.Value {
		t.Error("a signature from before the backup does not verify")
	}
	must(w.keys(admin).Sign(ctx, "k", first.Key.KID.Version(), sign, nil))(t)
}

func TestABackupOfASecretOrCertificateKeepsItsValues(t *testing.T) {
	w := newWorld(t)
	ctx, secrets, certs := t.Context(), w.secrets(admin), w.certificates(admin)
	old := must(secrets.SetSecret(ctx, "s", azsecrets.SetSecretParameters{Value: to.Ptr("sentinel one")}, nil))(t)
	must(secrets.SetSecret(ctx, "s", azsecrets.SetSecretParameters{Value: to.Ptr("two")}, nil))(t)
	blob := must(secrets.BackupSecret(ctx, "s", nil))(t).Value
	if bytes.Contains(blob, []byte("sentinel")) {
		t.Error("the backup shows the secret")
	}
	must(secrets.DeleteSecret(ctx, "s", nil))(t)
	must(secrets.PurgeDeletedSecret(ctx, "s", nil))(t)
	must(secrets.RestoreSecret(ctx, azsecrets.RestoreSecretParameters{SecretBackup: blob}, nil))(t)
	if got := must(secrets.GetSecret(ctx, "s", old.ID.Version(), nil))(t); *got.Value != "sentinel one" {
		t.Errorf("got %q", *got.Value)
	}

	policy := azcertificates.CertificatePolicy{IssuerParameters: &azcertificates.IssuerParameters{Name: to.Ptr("Self")},
		X509CertificateProperties: &azcertificates.X509CertificateProperties{Subject: to.Ptr("CN=c")}}
	must(certs.CreateCertificate(ctx, "c", azcertificates.CreateCertificateParameters{CertificatePolicy: &policy}, nil))(t)
	before := must(secrets.GetSecret(ctx, "c", "", nil))(t)
	sealed := must(certs.BackupCertificate(ctx, "c", nil))(t).Value
	_, err := secrets.BackupSecret(ctx, "c", nil)
	refused(t, err, 403, "Forbidden")
	must(certs.DeleteCertificate(ctx, "c", nil))(t)
	must(certs.PurgeDeletedCertificate(ctx, "c", nil))(t)
	must(certs.RestoreCertificate(ctx, azcertificates.RestoreCertificateParameters{CertificateBundleBackup: sealed}, nil))(t)
	if after := must(secrets.GetSecret(ctx, "c", "", nil))(t); *after.Value != *before.Value || *after.KID != *before.KID {
		t.Error("the certificate's secret is another after the restore")
	}
}

func TestBackupsThatAreNotTheVaultsOwnAreRefused(t *testing.T) {
	w := newWorld(t)
	ctx, secrets := t.Context(), w.secrets(admin)
	must(secrets.SetSecret(ctx, "s", azsecrets.SetSecretParameters{Value: to.Ptr("v")}, nil))(t)
	blob := must(secrets.BackupSecret(ctx, "s", nil))(t).Value
	must(secrets.DeleteSecret(ctx, "s", nil))(t)
	must(secrets.PurgeDeletedSecret(ctx, "s", nil))(t)

	changed := bytes.Clone(blob)
	changed[len(changed)/2] ^= 1
	for name, b := range map[string][]byte{"empty": {}, "short": blob[:8], "changed": changed, "cut": blob[:len(blob)-1], "large": bytes.Repeat(blob, 100)} {
		_, err := secrets.RestoreSecret(ctx, azsecrets.RestoreSecretParameters{SecretBackup: b}, nil)
		if err == nil || !strings.Contains(err.Error(), "BadParameter") {
			t.Errorf("a backup that is %s: got %v", name, err)
		}
	}
	_, err := w.keys(admin).RestoreKey(ctx, azkeys.RestoreKeyParameters{KeyBackup: blob}, nil)
	refused(t, err, 400, "BadParameter")

	w.grant(vaultID, rbac.KeyVaultSecretsUser, pod)
	_, err = w.secrets(pod).RestoreSecret(ctx, azsecrets.RestoreSecretParameters{SecretBackup: blob}, nil)
	refused(t, err, 403, "Forbidden")
	_, err = w.secrets(pod).BackupSecret(ctx, "s", nil)
	refused(t, err, 403, "Forbidden")

	w.cfg.TenantID, w.cfg.Location = tenant, "northeurope"
	w.restart()
	_, err = w.secrets(admin).RestoreSecret(ctx, azsecrets.RestoreSecretParameters{SecretBackup: blob}, nil)
	refused(t, err, 400, "BadParameter")
}
