package trustlist_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"log"
	"time"

	"verdant/hcert"
	"verdant/trustlist"
)

func must[T any](v T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return v
}

func newKey() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) }

func certificate(der []byte, err error) *x509.Certificate {
	return must(trustlist.ParseCertificate(must(der, err)))
}

// Example builds a trust network of one country, uploads a document signer as
// the country's back end does, and verifies the resulting trust list as any
// other country does, knowing only the trust anchor's certificate.
func Example() {
	ctx := context.Background()
	start := time.Date(2026, 1, 15, 12, 0, 0, 0, time.UTC)
	now := func() time.Time { return start }

	// The network's operator has the trust anchor.
	anchorKey := newKey()
	anchor := &trustlist.CMSSigner{Key: anchorKey, Now: now, Certificate: certificate(
		trustlist.NewAnchorCertificate(ctx, anchorKey, trustlist.Subject{Country: "EU", CommonName: "anchor"}, start))}

	// Ireland has a signing authority and an upload certificate.
	cscaKey, uploadKey, dscKey := newKey(), newKey(), newKey()
	csca := certificate(trustlist.NewCSCA(ctx, cscaKey, trustlist.Subject{Country: "IE", CommonName: "CSCA"}, start))
	upload := certificate(trustlist.NewUpload(ctx, trustlist.Authority{Key: uploadKey}, uploadKey.Public(),
		trustlist.Subject{Country: "IE", CommonName: "upload"}, start))

	// The anchor signs both; this is how they are onboarded.
	items := []trustlist.Item{
		must(trustlist.SignParty(ctx, anchor, trustlist.CSCA, csca)),
		must(trustlist.SignParty(ctx, anchor, trustlist.Upload, upload)),
	}
	parties := trustlist.NewAnchor(anchor.Certificate).Verify(items).Parties

	// Ireland makes a document signer and uploads it.
	dsc := must(trustlist.NewDSC(ctx, trustlist.Authority{Certificate: csca, Key: cscaKey}, dscKey.Public(),
		trustlist.Subject{Country: "IE", CommonName: "DSC"}, hcert.UsageVaccination, start))
	uploader := &trustlist.CMSSigner{Certificate: upload, Key: uploadKey, Now: now}
	body := must(uploader.SignBase64(ctx, dsc))

	// The gateway checks it and lists it.
	_, item, err := parties.VerifyUpload(must(trustlist.ParseCMSBase64(body)), "IE", start)
	if err != nil {
		log.Fatal(err)
	}
	items = append(items, item)

	// Anyone verifies the whole list.
	verified := trustlist.NewAnchor(anchor.Certificate).Verify(items)
	for _, d := range verified.List.DSCs() {
		fmt.Println(d.Country(), "signs vaccinations:", d.Key().Usage.Allows(hcert.KindVaccination),
			"tests:", d.Key().Usage.Allows(hcert.KindTest))
	}
	fmt.Println("rejected:", len(verified.Rejected))
	// Output:
	// IE signs vaccinations: true tests: false
	// rejected: 0
}
