package main

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"time"

	"github.com/go-pdf/fpdf"

	"verdant/hcert"
	"verdant/hcert/barcode"
)

// writePDF prints a certificate on one A4 page: the code, and in words what
// it says about whom. The words are for people; only the code is proof.
func writePDF(w io.Writer, text string) error {
	var decoder hcert.Decoder
	u, err := decoder.Decode(text)
	if err != nil {
		return err
	}
	var picture bytes.Buffer
	if err := barcode.WriteQR(&picture, text, 1024); err != nil {
		return err
	}
	doc := fpdf.New("P", "mm", "A4", "")
	latin := doc.UnicodeTranslatorFromDescriptor("cp1252")
	doc.SetTitle("EU Digital COVID Certificate", true)
	doc.AddPage()
	doc.SetFont("Helvetica", "B", 20)
	doc.CellFormat(0, 14, latin("EU Digital COVID Certificate"), "", 1, "C", false, 0, "")
	doc.RegisterImageOptionsReader("code", fpdf.ImageOptions{ImageType: "PNG"}, &picture)
	doc.ImageOptions("code", 55, 30, 100, 100, false, fpdf.ImageOptions{ImageType: "PNG"}, 0, "")
	doc.SetY(138)
	for _, line := range certificateLines(u) {
		doc.SetFont("Helvetica", "B", 11)
		doc.CellFormat(60, 8, latin(line[0]), "", 0, "R", false, 0, "")
		doc.SetFont("Helvetica", "", 11)
		doc.CellFormat(0, 8, "  "+latin(line[1]), "", 1, "L", false, 0, "")
	}
	return doc.Output(w)
}

// certificateLines are label and value pairs of a certificate.
func certificateLines(u *hcert.Unverified) [][2]string {
	text := func(m map[string]any, key string) string {
		if v, ok := m[key]; ok && v != nil {
			return fmt.Sprint(v)
		}
		return ""
	}
	if u.Payload == nil {
		return [][2]string{{"Type", string(u.Profile)}, {"Issued in", u.Claims.Issuer}, {"Valid until", u.Claims.Expires.UTC().Format(time.DateOnly)}}
	}
	tree := u.Payload.Tree
	name, _ := tree["nam"].(map[string]any)
	lines := [][2]string{
		{"Type", string(u.Payload.Kind())},
		{"Surname(s)", cmp.Or(text(name, "fn"), text(name, "fnt"))},
		{"Forename(s)", cmp.Or(text(name, "gn"), text(name, "gnt"))},
		{"Date of birth", text(tree, "dob")},
		{"Issued in", u.Claims.Issuer},
		{"Valid until", u.Claims.Expires.UTC().Format(time.DateOnly)},
	}
	for _, group := range []string{"v", "t", "r"} {
		entries, _ := tree[group].([]any)
		for _, e := range entries {
			if entry, ok := e.(map[string]any); ok {
				lines = append(lines, [2]string{"Issued by", text(entry, "is")}, [2]string{"Identifier", text(entry, "ci")})
			}
		}
	}
	return lines
}
