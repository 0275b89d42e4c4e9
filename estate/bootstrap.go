package estate

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/keyvault/azcertificates"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"
	"software.sslmate.com/src/go-pkcs12"

	"verdant/azure/client"
	"verdant/internal/durable"
	"verdant/trustlist"
)

// The first start does what the reference's deployment does with Terraform
// and scripts: it makes the keys, the PKI and the secrets of the two vault
// tables. Everything goes over the wire with the stock clients, as the
// deployment identity, so that all of it is in the audit log. Each step looks
// first whether it has been done, so that a start that was cut off continues.

// vaultDeployer is the deployment's door to one vault.
type vaultDeployer struct {
	region       Region
	vault        *client.Vault
	keys         *azkeys.Client
	secrets      *azsecrets.Client
	certificates *azcertificates.Client
}

func (s *supervisor) deployer(r Region) (*vaultDeployer, error) {
	credential := s.identity.Credential(s.names.Identity(r, DeploymentIdentity).PrincipalID)
	web := s.httpFrom(r)
	url := "https://" + s.names.VaultHost(r)
	platform, err := client.New(client.Config{Pod: DeploymentIdentity, Region: string(r), VaultURL: url},
		client.WithCredential(credential), client.WithHTTPClient(web), client.WithClock(s.now))
	if err != nil {
		return nil, err
	}
	d := &vaultDeployer{region: r}
	if d.vault, err = platform.Vault(""); err != nil {
		return nil, err
	}
	options := azcore.ClientOptions{Transport: web}
	if d.keys, err = azkeys.NewClient(url, credential, &azkeys.ClientOptions{ClientOptions: options}); err != nil {
		return nil, err
	}
	if d.secrets, err = azsecrets.NewClient(url, credential, &azsecrets.ClientOptions{ClientOptions: options}); err != nil {
		return nil, err
	}
	if d.certificates, err = azcertificates.NewClient(url, credential, &azcertificates.ClientOptions{ClientOptions: options}); err != nil {
		return nil, err
	}
	return d, nil
}

// bootstrap fills the vaults. A marker in the data directory says that it has
// been done to the end.
func (s *supervisor) bootstrap(ctx context.Context) error {
	state, err := s.dir.State()
	if err != nil {
		return err
	}
	marker := filepath.Join(state, "bootstrapped")
	if _, err := os.Stat(marker); err == nil {
		return nil
	}
	s.progress("first start: making the keys, the PKI and the secrets in both vaults")
	eu, err := s.deployer(EU)
	if err != nil {
		return err
	}
	ie, err := s.deployer(IE)
	if err != nil {
		return err
	}
	// RSA keys take the longest; they are made beside the PKI.
	var wg sync.WaitGroup
	keyErrs := make([]error, 2)
	for i, d := range []*vaultDeployer{eu, ie} {
		wg.Go(func() { keyErrs[i] = d.encryptionKeys(ctx) })
	}
	pkiErr := s.makePKI(ctx, eu, ie)
	wg.Wait()
	if err := errors.Join(append(keyErrs, pkiErr)...); err != nil {
		return err
	}
	return durable.WriteFile(marker, []byte(s.now().UTC().Format(time.RFC3339)+"\n"))
}

// encryptionKeys makes the two customer-managed keys as the table says.
func (d *vaultDeployer) encryptionKeys(ctx context.Context) error {
	for _, row := range CMKTable() {
		if _, err := d.keys.GetKey(ctx, row.KeyName, "", nil); err == nil {
			continue
		} else if !notFound(err) {
			return fmt.Errorf("key %s: %w", row.KeyName, err)
		}
		var ops []*azkeys.KeyOperation
		for _, op := range row.KeyOptions {
			ops = append(ops, to.Ptr(azkeys.KeyOperation(op)))
		}
		_, err := d.keys.CreateKey(ctx, row.KeyName, azkeys.CreateKeyParameters{
			Kty: to.Ptr(azkeys.KeyType(row.KeyType)), KeySize: to.Ptr(int32(row.KeySize)), KeyOps: ops,
		}, nil)
		if err != nil {
			return fmt.Errorf("create key %s: %w", row.KeyName, err)
		}
	}
	return nil
}

func notFound(err error) bool {
	var answer *azcore.ResponseError
	return errors.As(err, &answer) && answer.StatusCode == http.StatusNotFound
}

// certificateSpec is a certificate of the demo PKI.
type certificateSpec struct {
	name, subject string
	months        int
	usages        []azcertificates.KeyUsageType
	ekus          []string
	// bundle makes the private key exportable, to be mounted.
	bundle bool
}

const clientAuthentication = "1.3.6.1.5.5.7.3.2"

// makePKI makes the EU's trust anchor and Ireland's certificates, and the
// secrets that go with them. What an operator holds himself is self-signed by
// the vault; the document signer is signed by Ireland's CSCA. The CSCA's key
// never leaves its vault; the others can be mounted where the custody is that.
func (s *supervisor) makePKI(ctx context.Context, eu, ie *vaultDeployer) error {
	bundle := s.names.mounted()
	signs := []azcertificates.KeyUsageType{azcertificates.KeyUsageTypeDigitalSignature}
	anchor, err := eu.selfSigned(ctx, certificateSpec{name: "trustanchor", subject: "C=EU,O=Verdant demo,CN=DCC Trust Anchor", months: 120, usages: signs, bundle: bundle})
	if err != nil {
		return err
	}
	csca, err := ie.selfSigned(ctx, certificateSpec{name: "csca-key-store", subject: "C=IE,O=Verdant demo,CN=CSCA Health IE", months: 48,
		usages: []azcertificates.KeyUsageType{azcertificates.KeyUsageTypeKeyCertSign, azcertificates.KeyUsageTypeCRLSign}})
	if err != nil {
		return err
	}
	upload, err := ie.selfSigned(ctx, certificateSpec{name: "upload-key-store", subject: "C=IE,O=Verdant demo,CN=Upload IE", months: 24, usages: signs, bundle: bundle})
	if err != nil {
		return err
	}
	auth, err := ie.selfSigned(ctx, certificateSpec{name: "tls-key-store", subject: "C=IE,O=Verdant demo,CN=Authentication IE", months: 12,
		usages: signs, ekus: []string{clientAuthentication}, bundle: bundle})
	if err != nil {
		return err
	}
	if err := ie.documentSigner(ctx, csca, bundle, s.now().Add(-5*time.Minute)); err != nil {
		return err
	}
	if err := s.onboarding(map[string]*x509.Certificate{"auth": auth, "upload": upload, "csca": csca}); err != nil {
		return err
	}
	return s.makeSecrets(ctx, eu, ie, anchor)
}

// policy describes a certificate with a key that cannot leave the vault; or,
// for a bundle, one whose secret is PKCS #12 with the private key.
func (c certificateSpec) policy(issuer string) *azcertificates.CertificatePolicy {
	keyType, contentType := azcertificates.JSONWebKeyTypeECHSM, "application/x-pem-file"
	if c.bundle {
		keyType, contentType = azcertificates.JSONWebKeyTypeEC, "application/x-pkcs12"
	}
	x509Properties := &azcertificates.X509CertificateProperties{Subject: &c.subject, ValidityInMonths: to.Ptr(int32(c.months))}
	for _, u := range c.usages {
		x509Properties.KeyUsage = append(x509Properties.KeyUsage, to.Ptr(u))
	}
	for _, oid := range c.ekus {
		x509Properties.EKUs = append(x509Properties.EKUs, to.Ptr(oid))
	}
	return &azcertificates.CertificatePolicy{
		IssuerParameters: &azcertificates.IssuerParameters{Name: &issuer},
		KeyProperties: &azcertificates.KeyProperties{Exportable: &c.bundle, ReuseKey: to.Ptr(false),
			KeyType: &keyType, Curve: to.Ptr(azcertificates.JSONWebKeyCurveNameP256)},
		SecretProperties:          &azcertificates.SecretProperties{ContentType: &contentType},
		X509CertificateProperties: x509Properties,
	}
}

// selfSigned returns the vault's certificate, made by the vault if there is
// none.
func (d *vaultDeployer) selfSigned(ctx context.Context, spec certificateSpec) (*x509.Certificate, error) {
	cert, _, err := d.vault.Certificate(ctx, spec.name)
	if err == nil {
		return cert, nil
	}
	if !errors.Is(err, client.ErrNotFound) {
		return nil, fmt.Errorf("certificate %s: %w", spec.name, err)
	}
	_, err = d.certificates.CreateCertificate(ctx, spec.name, azcertificates.CreateCertificateParameters{CertificatePolicy: spec.policy("Self")}, nil)
	if err != nil {
		return nil, fmt.Errorf("create certificate %s: %w", spec.name, err)
	}
	cert, _, err = d.vault.Certificate(ctx, spec.name)
	if err != nil {
		return nil, fmt.Errorf("certificate %s: %w", spec.name, err)
	}
	return cert, nil
}

// documentSigner makes the document signer the way an operator has one signed
// by an authority elsewhere: create with issuer Unknown, take the request to
// the CSCA, merge what it signed.
func (d *vaultDeployer) documentSigner(ctx context.Context, csca *x509.Certificate, bundle bool, from time.Time) error {
	spec := certificateSpec{name: "dsc-key-store", subject: "C=IE,O=Verdant demo,CN=DSC 1 IE", months: 24,
		usages: []azcertificates.KeyUsageType{azcertificates.KeyUsageTypeDigitalSignature}, bundle: bundle}
	if _, _, err := d.vault.Certificate(ctx, spec.name); err == nil {
		return nil
	} else if !errors.Is(err, client.ErrNotFound) {
		return fmt.Errorf("certificate %s: %w", spec.name, err)
	}
	var raw []byte
	if op, err := d.certificates.GetCertificateOperation(ctx, spec.name, nil); err == nil {
		raw = op.CSR
	} else if !notFound(err) {
		return fmt.Errorf("certificate %s: %w", spec.name, err)
	} else {
		op, err := d.certificates.CreateCertificate(ctx, spec.name, azcertificates.CreateCertificateParameters{CertificatePolicy: spec.policy("Unknown")}, nil)
		if err != nil {
			return fmt.Errorf("create certificate %s: %w", spec.name, err)
		}
		raw = op.CSR
	}
	request, err := x509.ParseCertificateRequest(raw)
	if err != nil {
		return fmt.Errorf("request of certificate %s: %w", spec.name, err)
	}
	if err := request.CheckSignature(); err != nil {
		return fmt.Errorf("request of certificate %s: %w", spec.name, err)
	}
	key, _, err := d.vault.Signer(ctx, "csca-key-store")
	if err != nil {
		return err
	}
	if from.Before(csca.NotBefore) {
		from = csca.NotBefore
	}
	der, err := trustlist.NewDSC(ctx, trustlist.Authority{Certificate: csca, Key: key}, request.PublicKey,
		trustlist.Subject{Country: "IE", Organization: "Verdant demo", CommonName: "DSC 1 IE"}, 0, from)
	if err != nil {
		return fmt.Errorf("sign certificate %s: %w", spec.name, err)
	}
	if _, err := d.certificates.MergeCertificate(ctx, spec.name, azcertificates.MergeCertificateParameters{X509Certificates: [][]byte{der}}, nil); err != nil {
		return fmt.Errorf("merge certificate %s: %w", spec.name, err)
	}
	return nil
}

// onboarding leaves Ireland's certificates where the gateway's operator finds
// the parties to onboard: public certificates, nothing else.
func (s *supervisor) onboarding(certificates map[string]*x509.Certificate) error {
	dir, err := s.dir.State("onboarding", "IE")
	if err != nil {
		return err
	}
	for name, cert := range certificates {
		block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
		if err := durable.WriteFile(filepath.Join(dir, name+".pem"), block); err != nil {
			return err
		}
	}
	return nil
}

func (s *supervisor) makeSecrets(ctx context.Context, eu, ie *vaultDeployer, anchor *x509.Certificate) error {
	anchorStore, anchorPassword, err := trustStore(map[string]*x509.Certificate{"trustanchor": anchor})
	if err != nil {
		return err
	}
	tlsStore, tlsPassword, err := trustStore(map[string]*x509.Certificate{"gateway": s.authority.root})
	if err != nil {
		return err
	}
	if err := eu.setSecrets(ctx, map[string]string{
		"dgc-trustanchor-certificatealias": "trustanchor",
		"mysql-pw":                         rand.Text(),
	}); err != nil {
		return err
	}
	return ie.setSecrets(ctx, map[string]string{
		"trustanchor-content":                          anchorStore,
		"dgc-gateway-connector-trustanchor-password":   anchorPassword,
		"dgc-gateway-connector-trustanchor-alias":      "trustanchor",
		"tls-trust-store-content":                      tlsStore,
		"dgc-gateway-connector-tlstruststore-password": tlsPassword,
		"dgc-gateway-connector-tlskeystore-alias":      "tls-key-store",
		"dgc-gateway-connector-uploadkeystore-alias":   "upload-key-store",
		"issuance-certalias":                           "dsc-key-store",
		"msal-authentication-client-secret":            portalSecret(s.dir),
		"mysql-pw":                                     rand.Text(),
	})
}

// trustStore packs certificates as PKCS#12 under a new password.
func trustStore(certificates map[string]*x509.Certificate) (content, password string, err error) {
	password = rand.Text()
	var entries []pkcs12.TrustStoreEntry
	for alias, cert := range certificates {
		entries = append(entries, pkcs12.TrustStoreEntry{Cert: cert, FriendlyName: alias})
	}
	raw, err := pkcs12.Modern.EncodeTrustStoreEntries(entries, password)
	if err != nil {
		return "", "", fmt.Errorf("trust store: %w", err)
	}
	return base64.StdEncoding.EncodeToString(raw), password, nil
}

// setSecrets sets those secrets that are not there yet. A bundle and its
// password belong together, so a set that was cut off is made anew as a whole.
func (d *vaultDeployer) setSecrets(ctx context.Context, secrets map[string]string) error {
	missing := false
	for name := range secrets {
		if _, err := d.secrets.GetSecret(ctx, name, "", nil); notFound(err) {
			missing = true
			break
		} else if err != nil {
			return fmt.Errorf("secret %s: %w", name, err)
		}
	}
	if !missing {
		return nil
	}
	for name, value := range secrets {
		contentType := "text/plain"
		if strings.HasSuffix(name, "-content") {
			contentType = "application/x-pkcs12"
		}
		if _, err := d.secrets.SetSecret(ctx, name, azsecrets.SetSecretParameters{Value: &value, ContentType: &contentType}, nil); err != nil {
			return fmt.Errorf("set secret %s: %w", name, err)
		}
	}
	return nil
}
