package barcode

import (
	"math"

	"github.com/makiuchi-d/gozxing"
	"github.com/makiuchi-d/gozxing/aztec"
	"github.com/makiuchi-d/gozxing/qrcode"
)

// search looks for a code in one picture in many ways, the likely ones first,
// until its effort is spent.
type search struct {
	left int // pixels that may still be looked at
}

// attempt is one way of looking: which picture, and with which threshold.
type attempt struct {
	scale  float64 // of both sides
	turn   float64 // degrees
	invert bool
	blur   bool
	global bool
	// straight looks at what stands on a plain ground, put upright.
	straight bool
}

// cost is what one look at a pixel costs. Making another picture costs about as
// much as looking at it. The global threshold keeps more noise, and each speck
// is tried as a part of a code.
func (a attempt) cost() int {
	cost := 1
	if a.global {
		cost = 4
	}
	for _, made := range []bool{a.scale != 1, a.turn != 0, a.blur} {
		if made {
			cost++
		}
	}
	return cost
}

// attempts in the order of likelihood.
var attempts = [...]attempt{
	{scale: 1}, {straight: true}, {scale: 1, invert: true}, {scale: 0.5}, {scale: 1, blur: true}, {scale: 1.5}, {scale: 0.75}, {scale: 1, global: true},
	{scale: 0.5, invert: true}, {scale: 0.5, blur: true}, {scale: 2}, {scale: 1, turn: 45}, {scale: 1, turn: 20}, {scale: 2, blur: true}, {scale: 3}, {scale: 2, invert: true},
	{scale: 1, turn: 45, invert: true}, {scale: 0.35}, {scale: 0.25}, {scale: 1, global: true, invert: true},
}

const (
	minSide = 40      // pixels that a code needs at least
	maxLook = 4 << 20 // pixels of one picture that is looked at
	handy   = 800     // pixels a side at which most codes are read
)

func (s *search) run(g *grey) (string, bool) {
	g.stretch()
	// A large picture is first looked at in a handy size: that is cheaper, and
	// takes the noise out.
	base := 1.0
	if side := max(g.w, g.h); side > 3*handy/2 {
		base = float64(handy) / float64(side)
	}
	bases := []float64{1}
	if base < 1 {
		bases = []float64{base, min(1, 2*base), min(1, 4*base)}
		if bases[1] == 1 {
			bases = bases[:2]
		}
	}
	for i, b := range bases {
		for _, a := range attempts {
			if a.straight && i > 0 {
				continue // it was looked for at its own size
			}
			if a.straight {
				if text, ok := s.straight(g); ok {
					return text, true
				}
				continue
			}
			a.scale *= b
			w, h := int(float64(g.w)*a.scale), int(float64(g.h)*a.scale)
			if a.turn != 0 {
				w, h = turnedSize(w, h, a.turn)
			}
			if w < minSide || h < minSide || w > maxLook/h {
				continue
			}
			cost := w * h * a.cost()
			if cost > s.left {
				continue // a cheaper look may still be had
			}
			s.left -= cost
			if text, ok := a.look(g); ok {
				return text, true
			}
		}
	}
	return "", false
}

// straight looks for a code on a plain ground.
func (s *search) straight(g *grey) (string, bool) {
	cost := g.w*g.h/2 + 3*min(g.w*g.h, segmentSide*segmentSide)
	if cost > s.left {
		return "", false
	}
	s.left -= cost
	for _, p := range g.straightened() {
		// The library takes some QR codes only the right way up.
		for range 4 {
			if len(p.pix) > s.left {
				return "", false
			}
			s.left -= len(p.pix)
			if text, ok := (attempt{scale: 1}).look(p); ok {
				return text, true
			}
			p = p.quarter()
		}
	}
	return "", false
}

// look makes the attempt's picture and has it decoded.
func (a attempt) look(g *grey) (string, bool) {
	if a.scale != 1 {
		g = g.scaled(int(float64(g.w)*a.scale), int(float64(g.h)*a.scale))
	}
	if a.turn != 0 {
		g = g.turned(a.turn)
	}
	if a.blur {
		g = g.blurred()
	}
	if a.invert {
		g = g.inverted()
	}
	source, err := gozxing.NewPlanarYUVLuminanceSource(g.pix, g.w, g.h, 0, 0, g.w, g.h, false)
	if err != nil {
		return "", false
	}
	var binarizer gozxing.Binarizer
	if a.global {
		binarizer = gozxing.NewGlobalHistgramBinarizer(source)
	} else {
		binarizer = gozxing.NewHybridBinarizer(source)
	}
	bitmap, err := gozxing.NewBinaryBitmap(binarizer)
	if err != nil {
		return "", false
	}
	if text, ok := decode(qrcode.NewQRCodeReader(), bitmap, true, false); ok {
		return text, true
	}
	if text, ok := decode(aztec.NewAztecReader(), bitmap, false, false); ok {
		return text, true
	}
	// A picture that is nothing but the code, with hardly a pixel a module.
	return decode(qrcode.NewQRCodeReader(), bitmap, true, true)
}

// maxPatterns bounds the corners of codes that one look considers. The library
// tries every three of them as the corners of one code, so a picture strewn
// with thousands would keep it busy for days.
const maxPatterns = 60

// tooMany stops the library from inside its callback.
type tooMany struct{}

// decode calls the barcode library. It indexes bit arrays with numbers that it
// computed from the picture; a picture made for that must not take the process
// down, and its only way to be stopped is a panic in the callback that it calls
// for each pattern. Both end here.
func decode(r gozxing.Reader, bitmap *gozxing.BinaryBitmap, counts, pure bool) (text string, ok bool) {
	defer func() {
		if recover() != nil {
			text, ok = "", false
		}
	}()
	hints := map[gozxing.DecodeHintType]any{}
	if counts {
		seen := 0
		hints[gozxing.DecodeHintType_NEED_RESULT_POINT_CALLBACK] = gozxing.ResultPointCallback(func(gozxing.ResultPoint) {
			if seen++; seen > maxPatterns {
				panic(tooMany{})
			}
		})
	}
	if pure {
		hints[gozxing.DecodeHintType_PURE_BARCODE] = true
	}
	result, err := r.Decode(bitmap, hints)
	if err != nil || result.GetText() == "" {
		return "", false
	}
	return result.GetText(), true
}

// turnedSize returns the size of a picture of w by h pixels that is turned.
func turnedSize(w, h int, degrees float64) (int, int) {
	sin, cos := math.Sincos(degrees * math.Pi / 180)
	sin, cos = math.Abs(sin), math.Abs(cos)
	return int(float64(w)*cos + float64(h)*sin + 0.5), int(float64(w)*sin + float64(h)*cos + 0.5)
}
