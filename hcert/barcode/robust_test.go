package barcode

import (
	"fmt"
	"image"
	"image/draw"
	"image/png"
	"math/rand/v2"
	"os"
	"testing"
)

// codes are a QR and an Aztec code of the same certificate, as screens show
// them: on white, with some room around.
func codes(t testing.TB) map[string]*grey {
	t.Helper()
	qr, err := QR(text(t), 420)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open("testdata/aztec.png")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	az, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]*grey{}
	for name, img := range map[string]image.Image{"QR": qr, "Aztec": az} {
		b := img.Bounds()
		page := image.NewGray(image.Rect(0, 0, b.Dx()+80, b.Dy()+80))
		draw.Draw(page, page.Bounds(), image.White, image.Point{}, draw.Src)
		draw.Draw(page, b.Sub(b.Min).Add(image.Pt(40, 40)), img, b.Min, draw.Src)
		out[name] = greyOf(page)
	}
	return out
}

func (g *grey) image() *image.Gray {
	return &image.Gray{Pix: g.pix, Stride: g.w, Rect: image.Rect(0, 0, g.w, g.h)}
}

// noisy adds noise of up to n to each pixel.
func (g *grey) noisy(n int) *grey {
	random := rand.New(rand.NewPCG(7, 8))
	out := newGrey(g.w, g.h)
	for i, p := range g.pix {
		out.pix[i] = byte(min(max(int(p)+random.IntN(2*n+1)-n, 0), 255))
	}
	return out
}

// faded has the greys between low and high only.
func (g *grey) faded(low, high int) *grey {
	out := newGrey(g.w, g.h)
	for i, p := range g.pix {
		out.pix[i] = byte(low + int(p)*(high-low)/255)
	}
	return out
}

// lit is brighter on one side, as in lamplight.
func (g *grey) lit() *grey {
	out := newGrey(g.w, g.h)
	for i, p := range g.pix {
		out.pix[i] = byte(int(p) * (90 + 165*(i%g.w)/g.w) / 255)
	}
	return out
}

func TestDamagedPicturesAreRead(t *testing.T) {
	want := text(t)
	for name, g := range codes(t) {
		pictures := map[string]*grey{
			"inverted": g.inverted(), "with little contrast": g.faded(120, 140), "with little contrast, inverted": g.faded(120, 140).inverted(),
			"dark": g.faded(0, 40), "lit from one side": g.lit(), "blurred": g.blurred(), "blurred twice": g.blurred().blurred(), "noisy": g.noisy(60), "very noisy": g.noisy(120),
			"blurred, noisy and faded": g.blurred().faded(60, 160).noisy(20), "small": g.scaled(g.w*2/3, g.h*2/3), "large": g.scaled(g.w*2, g.h*2),
			"of odd size": g.scaled(g.w*13/10, g.h*13/10), "turned, blurred and noisy": g.turned(30).blurred().noisy(30),
		}
		for _, d := range []float64{3, 10, 15, 30, 40, 45, 60, 75, 85, 90, 135, 180, 200, 270, 300} {
			pictures[fmt.Sprintf("turned by %v degrees", d)] = g.turned(d)
			pictures[fmt.Sprintf("turned by %v degrees, inverted", d)] = g.turned(d).inverted()
		}
		for how, p := range pictures {
			if got, err := ReadImage(p.image()); err != nil || got != want {
				t.Errorf("%s %s (%d×%d): got %q, %v", name, how, p.w, p.h, got, err)
			}
		}
	}
}

// TestPhotographsAreRead: a code on a part of a twelve-megapixel picture, with
// the explicit setting.
func TestPhotographsAreRead(t *testing.T) {
	want := text(t)
	for name, g := range codes(t) {
		photo := newGrey(4000, 3000)
		for i := range photo.pix {
			photo.pix[i] = byte(140 + i%4000/100)
		}
		code := g.scaled(g.w*3, g.h*3).turned(12).blurred().faded(30, 190)
		draw.Draw(photo.image(), image.Rect(900, 300, 900+code.w, 300+code.h), code.image(), image.Point{}, draw.Src)
		photo = photo.noisy(25)
		if got, err := Photo().ReadImage(photo.image()); err != nil || got != want {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
		if _, err := ReadImage(photo.image()); err == nil {
			t.Errorf("%s: read without the setting", name)
		}
	}
}
