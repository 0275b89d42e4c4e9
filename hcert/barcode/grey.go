package barcode

import (
	"image"
	"image/color"
	"math"
)

// grey is a picture of 8-bit grey without gaps between its rows.
type grey struct {
	pix  []byte
	w, h int
}

func newGrey(w, h int) *grey { return &grey{make([]byte, w*h), w, h} }

// greyOf converts a picture, transparency on white. The types that the decoders
// make are read directly.
func greyOf(img image.Image) *grey {
	b := img.Bounds()
	g := newGrey(b.Dx(), b.Dy())
	for y := range g.h {
		row := g.pix[y*g.w : (y+1)*g.w]
		switch img := img.(type) {
		case *image.Gray:
			copy(row, img.Pix[img.PixOffset(b.Min.X, b.Min.Y+y):])
		case *image.YCbCr:
			copy(row, img.Y[img.YOffset(b.Min.X, b.Min.Y+y):])
		case *image.RGBA:
			pix := img.Pix[img.PixOffset(b.Min.X, b.Min.Y+y):]
			for x := range row {
				p := pix[4*x : 4*x+4]
				row[x] = onWhite(uint32(p[0])+2*uint32(p[1])+uint32(p[2]), uint32(p[3]))
			}
		case *image.NRGBA:
			pix := img.Pix[img.PixOffset(b.Min.X, b.Min.Y+y):]
			for x := range row {
				p := pix[4*x : 4*x+4]
				a := uint32(p[3])
				row[x] = onWhite((uint32(p[0])+2*uint32(p[1])+uint32(p[2]))*a/255, a)
			}
		case *image.Paletted:
			pix := img.Pix[img.PixOffset(b.Min.X, b.Min.Y+y):]
			table := paletteGrey(img.Palette)
			for x := range row {
				row[x] = table[pix[x]]
			}
		default:
			for x := range row {
				row[x] = greyColor(img.At(b.Min.X+x, b.Min.Y+y))
			}
		}
	}
	return g
}

// onWhite returns the grey of premultiplied colours, r+2g+b, on white.
func onWhite(sum, alpha uint32) byte { return byte(min(sum/4+255-alpha, 255)) }

func greyColor(c color.Color) byte {
	r, g, b, a := c.RGBA()
	return onWhite((r+2*g+b)>>8, a>>8)
}

func paletteGrey(p color.Palette) (table [256]byte) {
	for i, c := range p {
		if i < len(table) {
			table[i] = greyColor(c)
		}
	}
	return table
}

// stretch spreads the greys between the darkest and the lightest hundredth over
// the whole range, in place.
func (g *grey) stretch() {
	var count [256]int
	for _, p := range g.pix {
		count[p]++
	}
	low, high, share := 0, 255, len(g.pix)/100
	for n := 0; low < 255; low++ {
		if n += count[low]; n > share {
			break
		}
	}
	for n := 0; high > 0; high-- {
		if n += count[high]; n > share {
			break
		}
	}
	if high-low < 4 || high-low > 200 {
		return
	}
	var table [256]byte
	for i := range table {
		table[i] = byte(min(max((i-low)*255/(high-low), 0), 255))
	}
	for i, p := range g.pix {
		g.pix[i] = table[p]
	}
}

func (g *grey) inverted() *grey {
	out := newGrey(g.w, g.h)
	for i, p := range g.pix {
		out.pix[i] = 255 - p
	}
	return out
}

// blurred is the mean of three by three pixels, which takes out noise.
func (g *grey) blurred() *grey {
	out := newGrey(g.w, g.h)
	copy(out.pix, g.pix)
	for y := 1; y < g.h-1; y++ {
		above, here, below := g.pix[(y-1)*g.w:y*g.w], g.pix[y*g.w:(y+1)*g.w], g.pix[(y+1)*g.w:(y+2)*g.w]
		for x := 1; x < g.w-1; x++ {
			sum := 0
			for i := x - 1; i <= x+1; i++ {
				sum += int(above[i]) + int(here[i]) + int(below[i])
			}
			out.pix[y*g.w+x] = byte(sum / 9)
		}
	}
	return out
}

// scaled resamples: the mean of the pixels that a new one covers when it
// shrinks, linear interpolation when it grows.
func (g *grey) scaled(w, h int) *grey {
	out := newGrey(w, h)
	fx, fy := float64(g.w)/float64(w), float64(g.h)/float64(h)
	for y := range h {
		for x := range w {
			if fx > 1 {
				out.pix[y*w+x] = g.mean(int(float64(x)*fx), int(float64(y)*fy), int(float64(x+1)*fx), int(float64(y+1)*fy))
			} else {
				out.pix[y*w+x] = g.between((float64(x)+0.5)*fx-0.5, (float64(y)+0.5)*fy-0.5)
			}
		}
	}
	return out
}

func (g *grey) mean(x0, y0, x1, y1 int) byte {
	x1, y1 = min(max(x1, x0+1), g.w), min(max(y1, y0+1), g.h)
	sum, n := 0, (x1-x0)*(y1-y0)
	if n <= 0 {
		return 255
	}
	for y := y0; y < y1; y++ {
		for _, p := range g.pix[y*g.w+x0 : y*g.w+x1] {
			sum += int(p)
		}
	}
	return byte(sum / n)
}

// between interpolates; outside of the picture its edge goes on.
func (g *grey) between(x, y float64) byte {
	x0, y0 := int(math.Floor(x)), int(math.Floor(y))
	// In 1/256, which is exact enough and faster than floating point.
	dx, dy := int((x-float64(x0))*256), int((y-float64(y0))*256)
	xa, xb := min(max(x0, 0), g.w-1), min(max(x0+1, 0), g.w-1)
	ya, yb := min(max(y0, 0), g.h-1)*g.w, min(max(y0+1, 0), g.h-1)*g.w
	top := int(g.pix[ya+xa])*(256-dx) + int(g.pix[ya+xb])*dx
	bottom := int(g.pix[yb+xa])*(256-dx) + int(g.pix[yb+xb])*dx
	return byte((top*(256-dy) + bottom*dy) >> 16)
}

// turned turns clockwise around the centre; what was outside is white.
func (g *grey) turned(degrees float64) *grey {
	w, h := turnedSize(g.w, g.h, degrees)
	out := newGrey(w, h)
	sin, cos := math.Sincos(degrees * math.Pi / 180)
	for y := range h {
		for x := range w {
			dx, dy := float64(x)-float64(w)/2, float64(y)-float64(h)/2
			sx, sy := dx*cos+dy*sin+float64(g.w)/2, -dx*sin+dy*cos+float64(g.h)/2
			if sx < 0 || sy < 0 || sx > float64(g.w-1) || sy > float64(g.h-1) {
				out.pix[y*w+x] = 255
			} else {
				out.pix[y*w+x] = g.between(sx, sy)
			}
		}
	}
	return out
}

// quarter turns by a right angle.
func (g *grey) quarter() *grey {
	out := newGrey(g.h, g.w)
	for y := range g.h {
		for x := range g.w {
			out.pix[x*out.w+out.w-1-y] = g.pix[y*g.w+x]
		}
	}
	return out
}
