// Package barcode reads the text of a health certificate from a picture of a
// QR or Aztec code and draws QR codes.
//
// It promises bounded work whatever the picture holds: with the zero Scanner no
// input allocates over 16 MB or keeps a processor for over 50 ms. File size,
// pixels, samples and the scans of a JPEG are checked before a pixel is
// decoded, and the search ends when its effort is spent. A telephone's
// photograph needs more; Photo is the explicit setting for it. It promises an
// error instead of a panic, and codes of error correction level Q, as the hcert
// specification recommends.
//
// Codes are found at any angle, light on dark as well as dark on light, with
// little contrast, somewhat blurred or noisy. It does not look into the text:
// package hcert does.
package barcode

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"io"

	"github.com/makiuchi-d/gozxing"
	"github.com/makiuchi-d/gozxing/qrcode"
	"github.com/makiuchi-d/gozxing/qrcode/decoder"
)

// ErrNotFound means that the picture holds no readable QR or Aztec code.
var ErrNotFound = errors.New("no readable QR or Aztec code in the picture")

// ErrTooLarge means that the picture exceeds a bound of its Scanner.
var ErrTooLarge = errors.New("the picture is too large")

// Scanner reads codes from pictures within bounds. A field that is zero has its
// default; the defaults together keep the promise of the package.
type Scanner struct {
	// Bytes bounds the file. Default 512 kB.
	Bytes int
	// Pixels bounds the picture. Default 1 million.
	Pixels int
	// Samples bounds pixels times bytes a pixel as decoded: 1 for grey and
	// palettes, 3 or 4 for colours, twice that for 16 bits. Default 2 million.
	Samples int
	// Effort bounds the search: the sum of the pixels of all pictures that are
	// looked at, in thousands, with what it costs to make them. Default 2500.
	Effort int
}

// Photo is the setting for pictures of 12-megapixel cameras: up to 16 MB and 16
// million pixels. It may allocate 200 MB and take seconds, so it is for
// pictures that the caller chose, not for those that anybody sends.
func Photo() Scanner {
	return Scanner{Bytes: 16 << 20, Pixels: 16 << 20, Samples: 64 << 20, Effort: 60_000}
}

func or(v, def int) int {
	if v <= 0 {
		return def
	}
	return v
}

func (s Scanner) bytes() int   { return or(s.Bytes, 512<<10) }
func (s Scanner) pixels() int  { return or(s.Pixels, 1<<20) }
func (s Scanner) samples() int { return or(s.Samples, 2<<20) }
func (s Scanner) effort() int  { return or(s.Effort, 2500) }

// Read decodes a PNG, JPEG or GIF picture and returns the text of its code,
// within the default bounds.
func Read(r io.Reader) (string, error) { return Scanner{}.Read(r) }

// ReadImage returns the text of the QR or Aztec code in a picture, within the
// default bounds.
func ReadImage(img image.Image) (string, error) { return Scanner{}.ReadImage(img) }

// Read decodes a PNG, JPEG or GIF picture and returns the text of its code. It
// returns ErrTooLarge before it decodes what exceeds the bounds, and
// ErrNotFound if there is no code.
func (s Scanner) Read(r io.Reader) (string, error) {
	data, err := readAtMost(r, s.bytes())
	if err != nil {
		return "", fmt.Errorf("read picture: %w", err)
	}
	f, err := formatOf(data)
	if err != nil {
		return "", fmt.Errorf("read picture: %w", err)
	}
	cfg, err := f.config(bytes.NewReader(data))
	if err != nil {
		return "", fmt.Errorf("read picture: %w", err)
	}
	if err := s.admit(cfg.Width, cfg.Height, sampleBytes(cfg.ColorModel)); err != nil {
		return "", fmt.Errorf("read picture: %w", err)
	}
	// A progressive JPEG may go over the whole picture again with every few
	// bytes; cameras write about ten scans.
	if f.scans && bytes.Count(data, []byte{0xFF, 0xDA}) > maxScans {
		return "", fmt.Errorf("read picture: more than %d scans: %w", maxScans, ErrTooLarge)
	}
	img, err := f.decode(bytes.NewReader(data))
	if err != nil {
		return "", fmt.Errorf("read picture: %w", err)
	}
	return s.ReadImage(img)
}

const maxScans = 20

// admit refuses a picture that exceeds the bounds.
func (s Scanner) admit(w, h, sampleBytes int) error {
	switch {
	case w <= 0 || h <= 0:
		return errors.New("it has no pixels")
	case w > s.pixels()/h:
		return fmt.Errorf("more than %d pixels: %w", s.pixels(), ErrTooLarge)
	case w*h > s.samples()/sampleBytes:
		return fmt.Errorf("more than %d samples of its colours: %w", s.samples(), ErrTooLarge)
	}
	return nil
}

// readAtMost reads all of r, doubling its buffer, so that it allocates at most
// twice the limit.
func readAtMost(r io.Reader, limit int) ([]byte, error) {
	data := make([]byte, 0, min(32<<10, limit+1))
	for {
		if len(data) == cap(data) {
			grown := make([]byte, len(data), min(2*cap(data), limit+1))
			copy(grown, data)
			data = grown
		}
		n, err := r.Read(data[len(data):cap(data)])
		data = data[:len(data)+n]
		switch {
		case len(data) > limit:
			return nil, fmt.Errorf("more than %d bytes: %w", limit, ErrTooLarge)
		case err == io.EOF:
			return data, nil
		case err != nil:
			return nil, err
		}
	}
}

// format is a kind of picture. The decoders that a program registers with
// package image are not used: they have other bounds, or none.
type format struct {
	config func(io.Reader) (image.Config, error)
	decode func(io.Reader) (image.Image, error)
	scans  bool
}

func formatOf(data []byte) (format, error) {
	switch {
	case bytes.HasPrefix(data, []byte("\x89PNG\r\n\x1a\n")):
		return format{png.DecodeConfig, png.Decode, false}, nil
	case bytes.HasPrefix(data, []byte("\xff\xd8")):
		return format{jpeg.DecodeConfig, jpeg.Decode, true}, nil
	case bytes.HasPrefix(data, []byte("GIF8")):
		return format{gif.DecodeConfig, gif.Decode, false}, nil
	}
	return format{}, errors.New("it is no PNG, JPEG or GIF")
}

// sampleBytes returns the bytes of a decoded pixel.
func sampleBytes(m color.Model) int {
	switch m {
	case color.GrayModel:
		return 1
	case color.Gray16Model:
		return 2
	case color.YCbCrModel:
		return 3
	case color.RGBAModel, color.NRGBAModel, color.CMYKModel:
		return 4
	}
	if _, ok := m.(color.Palette); ok {
		return 1
	}
	return 8
}

// ReadImage returns the text of the QR or Aztec code in a picture, or
// ErrNotFound.
func (s Scanner) ReadImage(img image.Image) (string, error) {
	b := img.Bounds()
	if err := s.admit(b.Dx(), b.Dy(), 1); err != nil {
		return "", fmt.Errorf("read picture: %w", err)
	}
	search := search{left: s.effort() * 1000}
	if text, ok := search.run(greyOf(img)); ok {
		return text, nil
	}
	return "", ErrNotFound
}

// QR draws a text as a QR code of at least size pixels a side, with a quiet
// zone. A text too long for level Q is drawn at level L.
func QR(text string, size int) (image.Image, error) {
	if size <= 0 || size > 4096 {
		return nil, fmt.Errorf("draw QR code: size must be from 1 to 4096 pixels")
	}
	var last error
	for _, level := range []decoder.ErrorCorrectionLevel{decoder.ErrorCorrectionLevel_Q, decoder.ErrorCorrectionLevel_L} {
		m, err := qrcode.NewQRCodeWriter().Encode(text, gozxing.BarcodeFormat_QR_CODE, size, size,
			map[gozxing.EncodeHintType]any{gozxing.EncodeHintType_ERROR_CORRECTION: level})
		if err == nil {
			return m, nil
		}
		last = err
	}
	return nil, fmt.Errorf("draw QR code: %w", last)
}

// WriteQR writes a text as a PNG picture of its QR code.
func WriteQR(w io.Writer, text string, size int) error {
	img, err := QR(text, size)
	if err != nil {
		return err
	}
	if err := png.Encode(w, img); err != nil {
		return fmt.Errorf("write QR code: %w", err)
	}
	return nil
}
