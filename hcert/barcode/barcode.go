// Package barcode reads the text of a health certificate from a picture of a
// QR or Aztec code and draws QR codes.
//
// It promises a bounded picture (MaxPixels, checked before the pixels are
// decoded), an error instead of a panic whatever the picture holds, and codes
// of error correction level Q, as the hcert specification asks (§4.1). It does
// not look into the text: package hcert does.
package barcode

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	_ "image/gif"  // pictures that people keep
	_ "image/jpeg" // of their certificates
	"image/png"
	"io"

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
// ErrNotFound. It tries both codes, with and without a search for skewed and
// small ones.
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
			{gozxing.DecodeHintType_PURE_BARCODE: true},
			nil,
			{gozxing.DecodeHintType_TRY_HARDER: true},
		} {
			for _, reader := range []gozxing.Reader{qrcode.NewQRCodeReader(), aztec.NewAztecReader()} {
				result, err := reader.Decode(bitmap, hints)
				if err == nil && result.GetText() != "" {
					return result.GetText(), nil
				}
			}
		}
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
