package barcode

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"image"
	"image/color"
	"image/draw"
	"image/gif"
	"image/jpeg"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// text reads the certificate of testdata, an invented one that we issued
// ourselves; aztec.png shows it as another program drew it.
func text(t testing.TB) string {
	t.Helper()
	data, err := os.ReadFile("testdata/hc1.txt")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestQRRoundTripInEveryFormat(t *testing.T) {
	want := text(t)
	img, err := QR(want, 500)
	if err != nil {
		t.Fatal(err)
	}
	for name, encode := range map[string]func(*bytes.Buffer) error{
		"png":  func(b *bytes.Buffer) error { return png.Encode(b, img) },
		"jpeg": func(b *bytes.Buffer) error { return jpeg.Encode(b, img, nil) },
		"gif":  func(b *bytes.Buffer) error { return gif.Encode(b, img, nil) },
	} {
		var buf bytes.Buffer
		if err := encode(&buf); err != nil {
			t.Fatal(err)
		}
		got, err := Read(&buf)
		if err != nil || got != want {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
}

func TestAztecInEveryOrientation(t *testing.T) {
	want := text(t)
	f, err := os.Open("testdata/aztec.png")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	img, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	for turn := range 4 {
		got, err := ReadImage(img)
		if err != nil || got != want {
			t.Errorf("turned %d times: got %q, %v", turn, got, err)
		}
		b := img.Bounds()
		turned := image.NewGray(image.Rect(0, 0, b.Dy(), b.Dx()))
		for y := range b.Dy() {
			for x := range b.Dx() {
				turned.Set(b.Dy()-1-y, x, img.At(b.Min.X+x, b.Min.Y+y))
			}
		}
		img = turned
	}
}

func TestPublicPictures(t *testing.T) {
	files, err := filepath.Glob("../../../shared/data/dcc/*/png/*.png")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Skip("public test data is not beside the repository")
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Read(bytes.NewReader(data))
		if err != nil || !strings.HasPrefix(got, "HC1:") {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
}

func TestPicturesOnGreyAndWithoutQuietZone(t *testing.T) {
	want := text(t)
	code, err := QR(want, 300)
	if err != nil {
		t.Fatal(err)
	}
	grey := image.NewGray(image.Rect(0, 0, 900, 700))
	draw.Draw(grey, grey.Bounds(), image.NewUniform(color.Gray{200}), image.Point{}, draw.Src)
	draw.Draw(grey, code.Bounds().Add(image.Pt(310, 220)), code, image.Point{}, draw.Src)
	if got, err := ReadImage(grey); err != nil || got != want {
		t.Errorf("on grey: got %q, %v", got, err)
	}
}

func TestRefusals(t *testing.T) {
	blank := image.NewGray(image.Rect(0, 0, 100, 100))
	if _, err := ReadImage(blank); !errors.Is(err, ErrNotFound) {
		t.Errorf("blank: got %v, want %v", err, ErrNotFound)
	}
	for name, data := range map[string][]byte{
		"nothing":  nil,
		"text":     []byte("HC1:"),
		"cut":      append([]byte("\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"), 0, 0, 1, 0, 0, 0, 1, 0, 8, 0, 0, 0, 0),
		"too wide": hugePNG(t),
	} {
		if got, err := Read(bytes.NewReader(data)); err == nil {
			t.Errorf("%s: got %q", name, got)
		}
	}
	if _, err := ReadImage(image.NewGray(image.Rectangle{})); err == nil {
		t.Error("an empty picture was accepted")
	}
	for _, size := range []int{0, -1, 5000} {
		if _, err := QR("HC1:", size); err == nil {
			t.Errorf("size %d was accepted", size)
		}
	}
	if _, err := QR(strings.Repeat("A", 5000), 500); err == nil {
		t.Error("a text beyond the largest code was accepted")
	}
	if _, err := QR(strings.Repeat("A", 3000), 500); err != nil {
		t.Errorf("a text that fits level L only: %v", err)
	}
}

// hugePNG is a small file that announces 65535 by 65535 pixels.
func hugePNG(t *testing.T) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := png.Encode(&buf, image.NewGray(image.Rect(0, 0, 1, 1))); err != nil {
		t.Fatal(err)
	}
	data := buf.Bytes()
	// The checksum of the header then is wrong, but DecodeConfig checks it, so
	// make it right.
	copy(data[16:24], []byte{0, 0, 255, 255, 0, 0, 255, 255})
	binary.BigEndian.PutUint32(data[29:33], crc32.ChecksumIEEE(data[12:29]))
	return data
}

func FuzzRead(f *testing.F) {
	img, err := QR("HC1:ABC", 60)
	if err != nil {
		f.Fatal(err)
	}
	var buf bytes.Buffer
	if err := png.Encode(&buf, img); err != nil {
		f.Fatal(err)
	}
	f.Add(buf.Bytes())
	buf.Reset()
	if err := jpeg.Encode(&buf, img, nil); err != nil {
		f.Fatal(err)
	}
	f.Add(buf.Bytes())
	buf.Reset()
	if err := gif.Encode(&buf, img, nil); err != nil {
		f.Fatal(err)
	}
	f.Add(buf.Bytes())
	f.Add(progressive(40, 40, 3))
	aztec, err := os.ReadFile("testdata/aztec.png")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(aztec)
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := Read(bytes.NewReader(data))
		if (err == nil) != (got != "") {
			t.Errorf("got %q, %v", got, err)
		}
	})
}

// FuzzReadImage: whatever a picture holds, the search ends and gives a text or
// ErrNotFound. The pixels are the fuzzer's, so that it need not learn PNG.
func FuzzReadImage(f *testing.F) {
	img, err := QR("HC1:ABC", 50)
	if err != nil {
		f.Fatal(err)
	}
	b := img.Bounds()
	grey := image.NewGray(b)
	draw.Draw(grey, b, img, b.Min, draw.Src)
	f.Add(grey.Pix, b.Dx())
	f.Add(bytes.Repeat([]byte{0, 255, 0, 0, 0, 255, 0, 255}, 2000), 100)
	f.Fuzz(func(t *testing.T, pix []byte, w int) {
		if w <= 0 || w > len(pix) {
			return
		}
		h := len(pix) / w
		got, err := ReadImage(&image.Gray{Pix: pix[:w*h], Stride: w, Rect: image.Rect(0, 0, w, h)})
		if (got == "") != errors.Is(err, ErrNotFound) && !errors.Is(err, ErrTooLarge) {
			t.Errorf("got %q, %v", got, err)
		}
	})
}
