package csi

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/keyvault/azcertificates"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"
	"software.sslmate.com/src/go-pkcs12"

	"verdant/azure/client"
)

// Content types of the secrets behind certificates.
const (
	contentPEM = "application/x-pem-file"
	contentPFX = "application/x-pkcs12"
)

// fetch returns an object's files and the version of its newest.
func fetch(ctx context.Context, v *client.Vault, o object) ([]File, ObjectVersion, error) {
	versions := []string{o.Version}
	if o.History > 1 {
		var err error
		if versions, err = history(ctx, v, o); err != nil {
			return nil, ObjectVersion{}, fmt.Errorf("%s: %w", o.id(), err)
		}
	}
	var files []File
	newest := ObjectVersion{ID: o.id()}
	for i, version := range versions {
		contents, found, err := read(ctx, v, o, version)
		if err != nil {
			return nil, newest, fmt.Errorf("%s: %w", o.id(), err)
		}
		if i == 0 {
			newest.Version = found
		}
		f := File{Path: o.file(), Mode: o.mode, Contents: contents}
		if o.History > 1 {
			f.Path = path.Join(f.Path, strconv.Itoa(i))
		}
		files = append(files, f)
	}
	return files, newest, nil
}

// read returns the content of one version, and which version that is.
func read(ctx context.Context, v *client.Vault, o object, version string) (contents []byte, found string, err error) {
	switch o.Type {
	case typeKey:
		key, found, err := v.PublicKey(ctx, o.Name, version)
		if err != nil {
			return nil, "", err
		}
		contents, err = publicPEM(key)
		return contents, found, err
	case typeCert:
		r, err := v.Certificates().GetCertificate(ctx, o.Name, version, nil)
		if err != nil {
			return nil, "", client.AsRefusal(err)
		}
		if r.ID == nil || len(r.CER) == 0 {
			return nil, "", errors.New("the vault sent no certificate")
		}
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.CER}), r.ID.Version(), nil
	}
	r, err := v.Secrets().GetSecret(ctx, o.Name, version, nil)
	if err != nil {
		return nil, "", client.AsRefusal(err)
	}
	if r.ID == nil || r.Value == nil {
		return nil, "", errors.New("the vault sent no value")
	}
	value := *r.Value
	// A secret with a key is the bundle behind a certificate.
	if r.KID != nil && *r.KID != "" {
		kind := ""
		if r.ContentType != nil {
			kind = *r.ContentType
		}
		switch {
		case kind == contentPEM, kind == contentPFX && o.Format == formatPFX:
		case kind == contentPFX:
			bundle, err := pfxToPEM(value)
			if err != nil {
				return nil, "", err
			}
			value = string(bundle)
		default:
			return nil, "", fmt.Errorf("the bundle of the certificate has the content type %.60q", kind)
		}
	}
	contents, err = decode(value, o.Encoding)
	return contents, r.ID.Version(), err
}

// decode undoes the encoding in which the class says that the secret is kept.
func decode(value, encoding string) ([]byte, error) {
	var out []byte
	var err error
	switch encoding {
	case encode64:
		out, err = base64.StdEncoding.DecodeString(value)
	case encode16:
		out, err = hex.DecodeString(value)
	default:
		return []byte(value), nil
	}
	if err != nil {
		// The library's error quotes the value.
		return nil, fmt.Errorf("the secret's value is not in the objectEncoding %s", encoding)
	}
	return out, nil
}

func publicPEM(key crypto.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, errors.New("the key has no public part that can be written as PEM")
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

// pfxToPEM writes a bundle as PEM: the private key, if it is there, its
// certificate, and then the issuers.
func pfxToPEM(value string) ([]byte, error) {
	pfx, err := base64.StdEncoding.DecodeString(value)
	if err != nil {
		return nil, errors.New("the bundle of the certificate is not base64")
	}
	defer clear(pfx)
	var out []byte
	key, leaf, certs, err := pkcs12.DecodeChain(pfx, "")
	if err == nil {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return nil, errors.New("the bundle holds a private key of an unknown type")
		}
		defer clear(der)
		out = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
		certs = slices.Insert(certs, 0, leaf)
	} else if certs, err = pkcs12.DecodeTrustStore(pfx, ""); err != nil {
		return nil, errors.New("the bundle of the certificate is not PKCS #12")
	}
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return out, nil
}

// kept is a version that a vault lists.
type kept struct {
	version string
	created time.Time
}

// history lists the versions to mount, newest first: as many as the object
// asks for, enabled ones, beginning with the version that it names.
func history(ctx context.Context, v *client.Vault, o object) ([]string, error) {
	all, err := list(ctx, v, o)
	if err != nil {
		return nil, client.AsRefusal(err)
	}
	slices.SortStableFunc(all, func(a, b kept) int { return b.created.Compare(a.created) })
	if o.Version != "" {
		at := slices.IndexFunc(all, func(k kept) bool { return k.version == o.Version })
		if at < 0 {
			return nil, fmt.Errorf("version %s is not there, or is disabled", o.Version)
		}
		all = all[at:]
	}
	if len(all) == 0 {
		return nil, errors.New("no version is enabled")
	}
	var versions []string
	for _, k := range all[:min(len(all), o.History)] {
		versions = append(versions, k.version)
	}
	return versions, nil
}

func list(ctx context.Context, v *client.Vault, o object) (all []kept, err error) {
	keep := func(version string, enabled *bool, created *time.Time) {
		if version == "" || created == nil || enabled != nil && !*enabled {
			return
		}
		all = append(all, kept{version, *created})
	}
	switch o.Type {
	case typeSecret:
		err = eachPage(ctx, v.Secrets().NewListSecretPropertiesVersionsPager(o.Name, nil), func(page azsecrets.ListSecretPropertiesVersionsResponse) {
			for _, i := range page.Value {
				if i.ID != nil && i.Attributes != nil {
					keep(i.ID.Version(), i.Attributes.Enabled, i.Attributes.Created)
				}
			}
		})
	case typeKey:
		err = eachPage(ctx, v.Keys().NewListKeyPropertiesVersionsPager(o.Name, nil), func(page azkeys.ListKeyPropertiesVersionsResponse) {
			for _, i := range page.Value {
				if i.KID != nil && i.Attributes != nil {
					keep(i.KID.Version(), i.Attributes.Enabled, i.Attributes.Created)
				}
			}
		})
	case typeCert:
		err = eachPage(ctx, v.Certificates().NewListCertificateVersionsPager(o.Name, nil), func(page azcertificates.ListCertificateVersionsResponse) {
			for _, i := range page.Value {
				if i.ID != nil && i.Attributes != nil {
					keep(i.ID.Version(), i.Attributes.Enabled, i.Attributes.Created)
				}
			}
		})
	}
	return all, err
}

func eachPage[T any](ctx context.Context, pages *runtime.Pager[T], fn func(T)) error {
	for pages.More() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return err
		}
		fn(page)
	}
	return nil
}
