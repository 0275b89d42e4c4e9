package barcode

import (
	"bytes"
	"errors"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"
)

// hostile makes pictures that cost the most within the default bounds, and
// some beyond them.
func hostile(t testing.TB) map[string][]byte {
	random := rand.New(rand.NewPCG(1, 2))
	noise := func(pix []byte) {
		for i := range pix {
			pix[i] = byte(random.Uint32())
		}
	}
	out := map[string][]byte{}
	add := func(name string, encode func(*bytes.Buffer) error) {
		var b bytes.Buffer
		if err := encode(&b); err != nil {
			t.Fatal(err)
		}
		out[name] = b.Bytes()
	}
	addPNG := func(name string, img image.Image) {
		add(name, func(b *bytes.Buffer) error { return (&png.Encoder{CompressionLevel: png.BestSpeed}).Encode(b, img) })
	}
	flat := image.NewGray(image.Rect(0, 0, 1024, 1024))
	addPNG("a million blank grey pixels", flat)
	small := image.NewGray(image.Rect(0, 0, 700, 700))
	noise(small.Pix)
	addPNG("noise", small)
	coarse := image.NewGray(image.Rect(0, 0, 1024, 1024))
	for i := range coarse.Pix {
		x, y := i%1024/4, i/4096
		coarse.Pix[i] = byte(0 - (x*2654435761^y*40503)>>7&1)
	}
	addPNG("a million pixels of coarse noise", coarse)
	// Corners of codes without end: every three are a code that might be.
	for _, pitch := range []int{8, 9, 16} {
		carpet := image.NewGray(image.Rect(0, 0, 1024, 1024))
		for i := range carpet.Pix {
			x, y := i%1024%pitch, i/1024%pitch
			dark := x < 7 && y < 7 && (x == 0 || y == 0 || x == 6 || y == 6 || x > 1 && x < 5 && y > 1 && y < 5)
			if !dark {
				carpet.Pix[i] = 255
			}
		}
		addPNG("a carpet of corners at "+string(rune('0'+pitch/10))+string(rune('0'+pitch%10)), carpet)
	}
	rings := image.NewGray(image.Rect(0, 0, 1024, 1024))
	for i := range rings.Pix {
		x, y := i%1024-512, i/1024-512
		rings.Pix[i] = byte(0 - max(x, -x, y, -y)/6&1)
	}
	addPNG("a bull's eye as large as the picture", rings)
	stripes := image.NewGray(image.Rect(0, 0, 1024, 1024))
	for i := range stripes.Pix {
		if m := i % 1024 % 8; m != 1 && m != 5 && m != 7 {
			stripes.Pix[i] = 255
		}
	}
	addPNG("stripes in the proportions of a corner", stripes)
	deep := image.NewNRGBA64(image.Rect(0, 0, 512, 512))
	addPNG("16 bits of four colours", deep)
	addPNG("16 bits beyond the samples", image.NewNRGBA64(image.Rect(0, 0, 1024, 1024)))
	wide := image.NewGray(image.Rect(0, 0, 4096, 4096))
	addPNG("16 million pixels", wide)
	add("a photograph of 16 million pixels", func(b *bytes.Buffer) error { return jpeg.Encode(b, wide, nil) })
	colours := image.NewRGBA(image.Rect(0, 0, 700, 700))
	noise(colours.Pix)
	add("a noisy JPEG", func(b *bytes.Buffer) error { return jpeg.Encode(b, colours, &jpeg.Options{Quality: 60}) })
	scans := bytes.Clone(out["a noisy JPEG"])
	add("a JPEG of a thousand scans", func(b *bytes.Buffer) error {
		b.Write(scans[:len(scans)-2])
		b.WriteString(strings.Repeat("\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00", 1000))
		return nil
	})
	add("a progressive JPEG", func(b *bytes.Buffer) error { b.Write(progressive(830, 830, maxScans)); return nil })
	add("a GIF", func(b *bytes.Buffer) error {
		p := image.NewPaletted(image.Rect(0, 0, 1024, 1024), color.Palette{color.White, color.Black})
		for i := range p.Pix {
			p.Pix[i] = byte(random.Uint32N(2))
		}
		return gif.Encode(b, p, nil)
	})
	add("more bytes than allowed", func(b *bytes.Buffer) error {
		b.WriteString("\x89PNG\r\n\x1a\n")
		b.Write(make([]byte, 2<<20))
		return nil
	})
	add("a certificate", func(b *bytes.Buffer) error { return WriteQR(b, text(t), 1000) })
	return out
}

// progressive writes a progressive JPEG of three components in full size whose
// scans go over the whole picture for a few bytes each.
func progressive(w, h, scans int) []byte {
	var b bytes.Buffer
	b.WriteString("\xff\xd8")
	b.WriteString("\xff\xdb\x00\x43\x00" + strings.Repeat("\x01", 64))
	b.WriteString("\xff\xc2\x00\x11\x08" + string([]byte{byte(h >> 8), byte(h), byte(w >> 8), byte(w)}) + "\x03\x01\x11\x00\x02\x11\x00\x03\x11\x00")
	// Huffman tables: DC has only 0; AC has the longest run of empty blocks.
	b.WriteString("\xff\xc4\x00\x14\x00\x01" + strings.Repeat("\x00", 15) + "\x00")
	b.WriteString("\xff\xc4\x00\x14\x10\x01" + strings.Repeat("\x00", 15) + "\xe0")
	blocks := (w + 7) / 8 * ((h + 7) / 8)
	for i := range scans {
		if i == 0 {
			b.WriteString("\xff\xda\x00\x0c\x03\x01\x00\x02\x00\x03\x00\x00\x00\x00")
			b.Write(make([]byte, blocks*3/8+2))
			continue
		}
		b.WriteString("\xff\xda\x00\x08\x01" + string([]byte{byte(i%3 + 1)}) + "\x00\x01\x3f\x00")
		b.Write(make([]byte, blocks/(16383*4)*2+64))
	}
	b.WriteString("\xff\xd9")
	return b.Bytes()
}

// TestHostilePicturesCostLittle: within the default bounds nothing allocates
// over 16 MB. How long it takes is logged, not judged.
func TestHostilePicturesCostLittle(t *testing.T) {
	for name, data := range hostile(t) {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := Read(bytes.NewReader(data))
			runtime.ReadMemStats(&after)
			got := after.TotalAlloc - before.TotalAlloc
			best := time.Hour
			for range 5 {
				start := time.Now()
				_, _ = Read(bytes.NewReader(data))
				best = min(best, time.Since(start))
			}
			t.Logf("%d kB of file, %d kB allocated, %v at best: %v", len(data)>>10, got>>10, best.Round(100*time.Microsecond), err)
			if got > 16<<20 {
				t.Errorf("got %d kB allocated, want at most 16 MB", got>>10)
			}
		})
	}
}

func TestPicturesBeyondABoundAreRefusedBeforeTheyAreDecoded(t *testing.T) {
	pictures := hostile(t)
	for _, name := range []string{"16 million pixels", "a photograph of 16 million pixels", "16 bits beyond the samples", "a JPEG of a thousand scans", "more bytes than allowed"} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := Read(bytes.NewReader(pictures[name]))
		runtime.ReadMemStats(&after)
		if got := after.TotalAlloc - before.TotalAlloc; !errors.Is(err, ErrTooLarge) || got > 2<<20 {
			t.Errorf("%s: got %v with %d kB allocated", name, err, got>>10)
		}
	}
	if _, err := Photo().Read(bytes.NewReader(pictures["a photograph of 16 million pixels"])); !errors.Is(err, ErrNotFound) {
		t.Errorf("with the setting for photographs: got %v", err)
	}
}
