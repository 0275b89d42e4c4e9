// Package barcode reads the text of a health certificate from a picture of a
// QR or Aztec code and draws QR codes.
//
// It promises a bounded picture (MaxPixels, checked before the pixels are
// decoded), an error instead of a panic whatever the picture holds, and codes
// of error correction level Q, as the hcert specification recommends. QR codes
// are found at any angle, Aztec codes only upright or turned by right angles,
// as tickets and screens show them. It does not look into the text: package
// hcert does.
package barcode

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/draw"
	_ "image/gif"  // pictures that people keep
	_ "image/jpeg" // of their certificates
	"image/png"
	"io"
	"math"

	"github.com/makiuchi-d/gozxing"
	"github.com/makiuchi-d/gozxing/aztec"
	"github.com/makiuchi-d/gozxing/qrcode"
	"github.com/makiuchi-d/gozxing/qrcode/decoder"
)

// MaxPixels bounds a picture: a telephone's camera has 12 million.
const MaxPixels = 16 << 20

// MaxBytes bounds the file of a picture.
const MaxBytes = 16 << 20

// ErrNotFound means that the picture holds no readable QR or Aztec code.
var ErrNotFound = errors.New("no readable QR or Aztec code in the picture")

// Read decodes a PNG, JPEG or GIF picture and returns the text of its code.
func Read(r io.Reader) (string, error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxBytes+1))
	if err != nil {
		return "", fmt.Errorf("read picture: %w", err)
	}
	if len(data) > MaxBytes {
		return "", fmt.Errorf("read picture: larger than %d bytes", MaxBytes)
	}
	cfg, _, err := image.DecodeConfig(bytes.NewReader(data))
	if err != nil {
		return "", fmt.Errorf("read picture: %w", err)
	}
	if cfg.Width <= 0 || cfg.Height <= 0 || cfg.Width > MaxPixels/cfg.Height {
		return "", fmt.Errorf("read picture: more than %d pixels", MaxPixels)
	}
	img, _, err := image.Decode(bytes.NewReader(data))
	if err != nil {
		return "", fmt.Errorf("read picture: %w", err)
	}
	return ReadImage(img)
}

// ReadImage returns the text of the QR or Aztec code in a picture, or
// ErrNotFound. It tries both codes on the picture as it is and, because the
// search loses codes whose modules fall badly on the pixels, at other sizes.
func ReadImage(img image.Image) (text string, err error) {
	// The barcode library indexes bit arrays with numbers that it computed
	// from the picture; a picture made for it must not take the process down.
	defer func() {
		if recover() != nil {
			text, err = "", ErrNotFound
		}
	}()
	b := img.Bounds()
	if b.Dx() <= 0 || b.Dy() <= 0 || b.Dx() > MaxPixels/b.Dy() {
		return "", fmt.Errorf("read picture: empty or more than %d pixels", MaxPixels)
	}
	if text, ok := search(img); ok {
		return text, nil
	}
	grey := image.NewGray(image.Rect(0, 0, b.Dx(), b.Dy()))
	draw.Draw(grey, grey.Rect, img, b.Min, draw.Src)
	for _, f := range []float64{2, 0.5, 1.5, 0.75, 3} {
		w, h := int(float64(b.Dx())*f), int(float64(b.Dy())*f)
		if w < minScaled || h < minScaled || w > maxScaled/h {
			continue
		}
		if text, ok := search(scale(grey, w, h)); ok {
			return text, nil
		}
	}
	return "", ErrNotFound
}

const (
	minScaled = 48      // pixels a side that a code needs at least
	maxScaled = 4 << 20 // pixels of a picture that is searched again
)

func search(img image.Image) (string, bool) {
	source := gozxing.NewLuminanceSourceFromImage(img)
	for _, binarizer := range []gozxing.Binarizer{
		gozxing.NewHybridBinarizer(source),
		gozxing.NewGlobalHistgramBinarizer(source),
	} {
		bitmap, err := gozxing.NewBinaryBitmap(binarizer)
		if err != nil {
			continue
		}
		for _, hints := range []map[gozxing.DecodeHintType]any{
			nil,
			{gozxing.DecodeHintType_PURE_BARCODE: true},
			{gozxing.DecodeHintType_TRY_HARDER: true},
		} {
			for _, reader := range []gozxing.Reader{qrcode.NewQRCodeReader(), aztec.NewAztecReader()} {
				result, err := reader.Decode(bitmap, hints)
				if err == nil && result.GetText() != "" {
					return result.GetText(), true
				}
			}
		}
	}
	return "", false
}

// scale resamples a picture: the mean of the pixels that a new one covers when
// it shrinks, linear interpolation when it grows.
func scale(src *image.Gray, w, h int) *image.Gray {
	dst := image.NewGray(image.Rect(0, 0, w, h))
	sw, sh := src.Rect.Dx(), src.Rect.Dy()
	fx, fy := float64(sw)/float64(w), float64(sh)/float64(h)
	for y := range h {
		for x := range w {
			var v float64
			if fx > 1 {
				v = mean(src, int(float64(x)*fx), int(float64(y)*fy), int(float64(x+1)*fx), int(float64(y+1)*fy))
			} else {
				v = between(src, (float64(x)+0.5)*fx-0.5, (float64(y)+0.5)*fy-0.5)
			}
			dst.Pix[y*dst.Stride+x] = uint8(v + 0.5)
		}
	}
	return dst
}

func mean(src *image.Gray, x0, y0, x1, y1 int) float64 {
	sum, n := 0, 0
	for y := y0; y < max(y1, y0+1) && y < src.Rect.Dy(); y++ {
		for x := x0; x < max(x1, x0+1) && x < src.Rect.Dx(); x++ {
			sum += int(src.Pix[y*src.Stride+x])
			n++
		}
	}
	if n == 0 {
		return 255
	}
	return float64(sum) / float64(n)
}

func between(src *image.Gray, x, y float64) float64 {
	x0, y0 := int(math.Floor(x)), int(math.Floor(y))
	dx, dy := x-float64(x0), y-float64(y0)
	pix := func(x, y int) float64 {
		x, y = min(max(x, 0), src.Rect.Dx()-1), min(max(y, 0), src.Rect.Dy()-1)
		return float64(src.Pix[y*src.Stride+x])
	}
	return pix(x0, y0)*(1-dx)*(1-dy) + pix(x0+1, y0)*dx*(1-dy) + pix(x0, y0+1)*(1-dx)*dy + pix(x0+1, y0+1)*dx*dy
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
