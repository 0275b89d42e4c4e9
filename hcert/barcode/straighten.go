package barcode

import (
	"cmp"
	"math"
	"slices"
)

// The library finds an Aztec code by its bull's eye alone and extrapolates from
// it, which holds for codes that are upright and have whole pixels a module. So
// a code that stands on a plain ground is cut out by its outline, put upright,
// and drawn again with four pixels a module.

const (
	block       = 8   // pixels a side of what is looked at for busyness
	segmentSide = 512 // pixels a side at which the outline is looked for
	moduleSide  = 4   // pixels a module of the straightened picture
)

// straightened returns pictures of what may be a code, upright, dark on light,
// with a quiet zone: the likelier number of modules first.
func (g *grey) straightened() []*grey {
	small, shrink := g, 1.0
	if side := max(g.w, g.h); side > segmentSide {
		shrink = float64(side) / segmentSide
		small = g.scaled(int(float64(g.w)/shrink), int(float64(g.h)/shrink))
	}
	small = small.blurred()
	points, light := small.outline()
	rect, ok := smallestRectangle(points)
	if !ok {
		return nil
	}
	// What touches the pixels of the outline belongs to the code.
	rect = rect.times(shrink)
	if rect.w < minSide || rect.h < minSide || rect.w > 1.25*rect.h || rect.h > 1.25*rect.w {
		return nil
	}
	// No code has more modules than can be told apart at this size.
	fit := min(1, segmentSide/max(rect.w, rect.h))
	cut := g.cut(rect, int(rect.w*fit+0.5), int(rect.h*fit+0.5))
	if light {
		cut = cut.inverted()
	}
	columns, okX := combOf(cut.changes(true))
	rows, okY := combOf(cut.changes(false))
	if !okX || !okY {
		return nil
	}
	var out []*grey
	for _, n := range sizesNear((columns.count(cut.w) + rows.count(cut.h)) / 2) {
		out = append(out, cut.modules(columns, rows, n))
	}
	return out
}

type point struct{ x, y float64 }

// rectangle is a turned rectangle: its corner at the origin, and its sides.
type rectangle struct {
	origin     point
	cos, sin   float64 // of the direction of the side of length w
	w, h, area float64
}

func (r rectangle) times(f float64) rectangle {
	r.origin.x, r.origin.y, r.w, r.h = r.origin.x*f, r.origin.y*f, r.w*f, r.h*f
	return r
}

// outline finds the largest busy part of a picture and returns points of its
// outline; light says that the part is light on a dark ground.
func (g *grey) outline() (points []point, light bool) {
	bw, bh := g.w/block, g.h/block
	busy := make([]bool, bw*bh)
	dark := make([]int, bw*bh)
	for y := range bh * block {
		for x := range bw * block {
			if g.pix[y*g.w+x] < 128 {
				dark[y/block*bw+x/block]++
			}
		}
	}
	const all = block * block
	for i, n := range dark {
		busy[i] = n > all/10 && n < all-all/10
	}
	part := largestPart(busy, bw, bh)
	if len(part) < 9 {
		return nil, false
	}
	// The ground is what the blocks around the part are.
	inside := make([]bool, bw*bh)
	for _, i := range part {
		inside[i] = true
	}
	darkAround, around := 0, 0
	for _, i := range part {
		for j := range neighbours(i, bw, bh) {
			if !inside[j] {
				darkAround += dark[j]
				around += all
			}
		}
	}
	light = around > 0 && darkAround > around/2
	// Only the first and the last pixel of a row can be on the outline.
	first, last := make([]int, bh*block), make([]int, bh*block)
	for y := range first {
		first[y], last[y] = g.w, -1
	}
	for _, i := range part {
		x0, y0 := i%bw*block, i/bw*block
		for y := y0; y < y0+block; y++ {
			row := g.pix[y*g.w : (y+1)*g.w]
			for x := x0; x < min(x0+block, first[y]); x++ {
				if (row[x] < 128) != light {
					first[y] = x
				}
			}
			for x := x0 + block - 1; x > max(x0-1, last[y]); x-- {
				if (row[x] < 128) != light {
					last[y] = x
				}
			}
		}
	}
	for y := range first {
		if last[y] >= 0 {
			left, right, top, bottom := float64(first[y]), float64(last[y]+1), float64(y), float64(y+1)
			points = append(points, point{left, top}, point{left, bottom}, point{right, top}, point{right, bottom})
		}
	}
	return points, light
}

// neighbours yields the blocks around a block.
func neighbours(i, w, h int) func(yield func(int) bool) {
	return func(yield func(int) bool) {
		x, y := i%w, i/w
		for ny := max(y-1, 0); ny <= min(y+1, h-1); ny++ {
			for nx := max(x-1, 0); nx <= min(x+1, w-1); nx++ {
				if (nx != x || ny != y) && !yield(ny*w+nx) {
					return
				}
			}
		}
	}
}

// largestPart returns the largest set of busy blocks that touch.
func largestPart(busy []bool, w, h int) []int {
	var best []int
	seen := make([]bool, len(busy))
	for start := range busy {
		if !busy[start] || seen[start] {
			continue
		}
		part := []int{start}
		seen[start] = true
		for n := 0; n < len(part); n++ {
			for j := range neighbours(part[n], w, h) {
				if busy[j] && !seen[j] {
					seen[j] = true
					part = append(part, j)
				}
			}
		}
		if len(part) > len(best) {
			best = part
		}
	}
	return best
}

// smallestRectangle returns the rectangle of the smallest area around points:
// one of its sides lies on a side of their convex hull.
func smallestRectangle(points []point) (rectangle, bool) {
	hull := convexHull(points)
	best := rectangle{area: math.Inf(1)}
	for i, a := range hull {
		b := hull[(i+1)%len(hull)]
		length := math.Hypot(b.x-a.x, b.y-a.y)
		if length == 0 {
			continue
		}
		cos, sin := (b.x-a.x)/length, (b.y-a.y)/length
		u0, u1, v0, v1 := math.Inf(1), math.Inf(-1), math.Inf(1), math.Inf(-1)
		for _, p := range hull {
			u, v := p.x*cos+p.y*sin, p.y*cos-p.x*sin
			u0, u1, v0, v1 = min(u0, u), max(u1, u), min(v0, v), max(v1, v)
		}
		if area := (u1 - u0) * (v1 - v0); area < best.area {
			best = rectangle{origin: point{u0*cos - v0*sin, u0*sin + v0*cos}, cos: cos, sin: sin, w: u1 - u0, h: v1 - v0, area: area}
		}
	}
	return best, len(hull) > 2
}

// convexHull is Andrew's monotone chain.
func convexHull(points []point) []point {
	slices.SortFunc(points, func(a, b point) int { return cmp.Or(cmp.Compare(a.x, b.x), cmp.Compare(a.y, b.y)) })
	points = slices.Compact(points)
	if len(points) < 3 {
		return nil
	}
	half := func(ps func(func(point) bool)) []point {
		var h []point
		for p := range ps {
			for len(h) > 1 {
				a, b := h[len(h)-2], h[len(h)-1]
				if (b.x-a.x)*(p.y-a.y)-(b.y-a.y)*(p.x-a.x) > 0 {
					break
				}
				h = h[:len(h)-1]
			}
			h = append(h, p)
		}
		return h[:len(h)-1]
	}
	backward := func(yield func(point) bool) {
		for _, p := range slices.Backward(points) {
			if !yield(p) {
				return
			}
		}
	}
	return append(half(slices.Values(points)), half(backward)...)
}

// cut draws what is in a rectangle upright in w by h pixels.
func (g *grey) cut(r rectangle, w, h int) *grey {
	out := newGrey(w, h)
	for y := range h {
		for x := range w {
			u, v := (float64(x)+0.5)*r.w/float64(w), (float64(y)+0.5)*r.h/float64(h)
			out.pix[y*w+x] = g.between(r.origin.x+u*r.cos-v*r.sin-0.5, r.origin.y+u*r.sin+v*r.cos-0.5)
		}
	}
	return out
}

// changes counts, for each column or row, how often the picture changes there
// between dark and light.
func (g *grey) changes(columns bool) []float64 {
	out := make([]float64, g.h)
	step, n, lines, next := g.w, g.h, g.w, 1
	if columns {
		out = make([]float64, g.w)
		step, n, lines, next = 1, g.w, g.h, g.w
	}
	for line := range lines {
		for i := 1; i < n; i++ {
			at := line*next + i*step
			if (g.pix[at-step] < 128) != (g.pix[at] < 128) {
				out[i]++
			}
		}
	}
	return out
}

// comb is the places of the edges of modules: offset, offset+pitch and so on.
type comb struct{ offset, pitch float64 }

// count returns how many modules fit a length.
func (c comb) count(length int) float64 { return float64(length) / c.pitch }

// combOf finds the comb that changes are on: the lowest frequency of theirs
// that is about as strong as the strongest, and its phase.
func combOf(changes []float64) (comb, bool) {
	const least, most = 2.2, 24.0 // pixels a module
	n := float64(len(changes))
	step := 1 / (4 * n)
	var strength []float64
	strongest := 0.0
	sum := func(f float64) (re, im float64) {
		// e^(2πifx), turned on from pixel to pixel.
		dim, dre := math.Sincos(2 * math.Pi * f)
		wre, wim := 1.0, 0.0
		for _, c := range changes {
			re, im = re+c*wre, im+c*wim
			wre, wim = wre*dre-wim*dim, wre*dim+wim*dre
		}
		return re, im
	}
	for f := 1 / most; f < 1/least; f += step {
		re, im := sum(f)
		strength = append(strength, math.Hypot(re, im))
		strongest = max(strongest, strength[len(strength)-1])
	}
	if strongest == 0 {
		return comb{}, false
	}
	for i := 1; i+1 < len(strength); i++ {
		if strength[i] < 0.7*strongest || strength[i] < strength[i-1] || strength[i] < strength[i+1] {
			continue
		}
		f := 1/most + float64(i)*step
		re, im := sum(f)
		pitch := 1 / f
		offset := math.Mod(math.Atan2(im, re)/(2*math.Pi)*pitch+pitch, pitch)
		if offset > pitch/2 {
			offset -= pitch // the edge nearest to the picture's own
		}
		return comb{offset, pitch}, true
	}
	return comb{}, false
}

// modules draws n by n modules afresh, each dark or light as its middle is, and
// a quiet zone around them.
func (g *grey) modules(columns, rows comb, n int) *grey {
	const margin = 4 * moduleSide
	out := newGrey(n*moduleSide+2*margin, n*moduleSide+2*margin)
	for i := range out.pix {
		out.pix[i] = 255
	}
	for row := range n {
		for column := range n {
			x, y := columns.offset+(float64(column)+0.5)*columns.pitch-0.5, rows.offset+(float64(row)+0.5)*rows.pitch-0.5
			sum := 0
			for _, d := range [...]point{{0, 0}, {-0.2, 0}, {0.2, 0}, {0, -0.2}, {0, 0.2}} {
				sum += int(g.between(x+d.x*columns.pitch, y+d.y*rows.pitch))
			}
			if sum/5 >= 128 {
				continue
			}
			for dy := range moduleSide {
				at := (margin+row*moduleSide+dy)*out.w + margin + column*moduleSide
				clear(out.pix[at : at+moduleSide])
			}
		}
	}
	return out
}

// sizesNear returns the sizes that codes have next to a measured one.
func sizesNear(measured float64) []int {
	var out []int
	for n := 15; n <= 177; n++ {
		if sizeOfCode(n) && math.Abs(float64(n)-measured) < 2.5 {
			out = append(out, n)
		}
	}
	slices.SortFunc(out, func(a, b int) int {
		return cmp.Compare(math.Abs(float64(a)-measured), math.Abs(float64(b)-measured))
	})
	return out[:min(len(out), 3)]
}

// sizeOfCode reports whether a QR or Aztec code has n modules a side.
func sizeOfCode(n int) bool {
	if n >= 21 && (n-17)%4 == 0 {
		return true // QR, ISO/IEC 18004
	}
	if n <= 27 {
		return n >= 15 && (n-11)%4 == 0 // compact Aztec, ISO/IEC 24778
	}
	for layers := 4; layers <= 32; layers++ {
		core := 14 + 4*layers
		if core+1+2*((core/2-1)/15) == n {
			return true
		}
	}
	return false
}
