package kql

import (
	"math"
	"math/big"
	"strconv"
	"strings"
)

// Number is a decimal value: coef × 10^-scale, at most 34 significant digits.
type Number struct {
	coef  *big.Int
	scale int
}

const decimalDigits = 34

var bigTen = big.NewInt(10)

func pow10(n int) *big.Int { return new(big.Int).Exp(bigTen, big.NewInt(int64(n)), nil) }

// normalized cuts the number to 34 digits and drops trailing zeros of the
// fraction.
func (n Number) normalized() Number {
	coef, scale := new(big.Int).Set(n.coef), n.scale
	if d := len(new(big.Int).Abs(coef).String()); d > decimalDigits {
		cut := d - decimalDigits
		q, r := new(big.Int).QuoRem(coef, pow10(cut), new(big.Int))
		half := new(big.Int).Mul(new(big.Int).Abs(r), big.NewInt(2))
		if half.Cmp(pow10(cut)) >= 0 {
			q.Add(q, big.NewInt(int64(coef.Sign())))
		}
		coef, scale = q, scale-cut
	}
	for scale > 0 && coef.Sign() != 0 {
		q, r := new(big.Int).QuoRem(coef, bigTen, new(big.Int))
		if r.Sign() != 0 {
			break
		}
		coef, scale = q, scale-1
	}
	if coef.Sign() == 0 {
		scale = 0
	}
	return Number{coef, scale}
}

// String renders the number in plain notation.
func (n Number) String() string {
	s := new(big.Int).Abs(n.coef).String()
	if n.scale > 0 {
		for len(s) <= n.scale {
			s = "0" + s
		}
		s = s[:len(s)-n.scale] + "." + s[len(s)-n.scale:]
	} else if n.scale < 0 {
		s += strings.Repeat("0", -n.scale)
	}
	if n.coef.Sign() < 0 {
		s = "-" + s
	}
	return s
}

func (n Number) float() float64 {
	f, _ := strconv.ParseFloat(n.String(), 64)
	return f
}

func numberOfInt(i int64) Number { return Number{big.NewInt(i), 0} }

func numberOfFloat(f float64) (Number, bool) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return Number{}, false
	}
	return parseNumber(strconv.FormatFloat(f, 'G', -1, 64))
}

func parseNumber(s string) (Number, bool) {
	s = strings.TrimSpace(s)
	if s == "" || len(s) > 100 {
		return Number{}, false
	}
	mant, exp := s, 0
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		e, err := strconv.Atoi(s[i+1:])
		if err != nil || e > 6000 || e < -6000 {
			return Number{}, false
		}
		mant, exp = s[:i], e
	}
	whole, frac, _ := strings.Cut(mant, ".")
	digits := strings.TrimPrefix(whole, "+") + frac
	if digits == "" || digits == "-" || strings.ContainsAny(frac, "+-") || strings.Contains(digits, "_") {
		return Number{}, false
	}
	c, ok := new(big.Int).SetString(digits, 10)
	if !ok {
		return Number{}, false
	}
	n := Number{c, len(frac) - exp}
	if n.scale < 0 {
		n = Number{new(big.Int).Mul(c, pow10(-n.scale)), 0}
	}
	return n.normalized(), true
}

func alignNumbers(a, b Number) (x, y *big.Int, scale int) {
	scale = max(a.scale, b.scale)
	x = new(big.Int).Mul(a.coef, pow10(scale-a.scale))
	y = new(big.Int).Mul(b.coef, pow10(scale-b.scale))
	return x, y, scale
}

func (n Number) cmp(m Number) int {
	x, y, _ := alignNumbers(n, m)
	return x.Cmp(y)
}

func (n Number) add(m Number) Number {
	x, y, s := alignNumbers(n, m)
	return Number{x.Add(x, y), s}.normalized()
}

func (n Number) sub(m Number) Number {
	x, y, s := alignNumbers(n, m)
	return Number{x.Sub(x, y), s}.normalized()
}

func (n Number) mul(m Number) Number {
	return Number{new(big.Int).Mul(n.coef, m.coef), n.scale + m.scale}.normalized()
}

func (n Number) quo(m Number) (Number, bool) {
	if m.coef.Sign() == 0 {
		return Number{}, false
	}
	extra := decimalDigits + 2
	x := new(big.Int).Mul(n.coef, pow10(extra+m.scale))
	return Number{x.Quo(x, m.coef), n.scale + extra}.normalized(), true
}

// trunc is the whole part toward zero.
func (n Number) trunc() (int64, bool) {
	q := n.coef
	if n.scale > 0 {
		q = new(big.Int).Quo(n.coef, pow10(n.scale))
	}
	return q.Int64(), q.IsInt64()
}

// floorTo is the largest multiple of m that is not above n.
func (n Number) floorTo(m Number) (Number, bool) {
	if m.coef.Sign() == 0 {
		return Number{}, false
	}
	x, y, _ := alignNumbers(n, m)
	q, r := new(big.Int).QuoRem(x, y, new(big.Int))
	if r.Sign() != 0 && (r.Sign() < 0) != (y.Sign() < 0) {
		q.Sub(q, big.NewInt(1))
	}
	return Number{q, 0}.mul(m), true
}
