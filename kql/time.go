package kql

import (
	"strconv"
	"strings"
	"time"
)

// Ticks counts 100 ns units: since 0001-01-01T00:00:00Z for a datetime, and a
// signed length for a timespan. It is the physical form of both types.
type Ticks int64

// Units of a timespan, in ticks.
const (
	TicksPerMicrosecond Ticks = 10
	TicksPerMillisecond Ticks = 10_000
	TicksPerSecond      Ticks = 10_000_000
	TicksPerMinute            = 60 * TicksPerSecond
	TicksPerHour              = 60 * TicksPerMinute
	TicksPerDay               = 24 * TicksPerHour
)

// maxDateTime is 9999-12-31T23:59:59.9999999Z.
const maxDateTime Ticks = 3155378975999999999

// unixEpochSeconds is the Unix epoch in seconds since year one.
const unixEpochSeconds = 62135596800

// TicksOf converts a time to datetime ticks; what is finer than 100 ns is cut.
func TicksOf(t time.Time) Ticks {
	return Ticks((t.Unix()+unixEpochSeconds)*int64(TicksPerSecond) + int64(t.Nanosecond())/100)
}

// Time converts datetime ticks to a UTC time.
func (t Ticks) Time() time.Time {
	sec := int64(t) / int64(TicksPerSecond)
	frac := int64(t) % int64(TicksPerSecond)
	if frac < 0 {
		sec--
		frac += int64(TicksPerSecond)
	}
	return time.Unix(sec-unixEpochSeconds, frac*100).UTC()
}

// appendDateTime renders ISO 8601 with Z. The fraction has seven digits; with
// trim, trailing zeros and an empty fraction are left out, as the query API
// does.
func appendDateTime(dst []byte, t int64, trim bool) []byte {
	if t < 0 || Ticks(t) > maxDateTime {
		t = min(max(t, 0), int64(maxDateTime))
	}
	tm := Ticks(t).Time()
	y, mo, d := tm.Date()
	h, mi, s := tm.Clock()
	dst = appendPadded(dst, y, 4)
	dst = append(dst, '-')
	dst = appendPadded(dst, int(mo), 2)
	dst = append(dst, '-')
	dst = appendPadded(dst, d, 2)
	dst = append(dst, 'T')
	dst = appendPadded(dst, h, 2)
	dst = append(dst, ':')
	dst = appendPadded(dst, mi, 2)
	dst = append(dst, ':')
	dst = appendPadded(dst, s, 2)
	frac := int(t % int64(TicksPerSecond))
	if !trim {
		dst = append(dst, '.')
		dst = appendPadded(dst, frac, 7)
	} else if frac != 0 {
		dst = append(dst, '.')
		dst = appendPadded(dst, frac, 7)
		for dst[len(dst)-1] == '0' {
			dst = dst[:len(dst)-1]
		}
	}
	return append(dst, 'Z')
}

func appendPadded(dst []byte, n, width int) []byte {
	s := strconv.Itoa(n)
	for i := len(s); i < width; i++ {
		dst = append(dst, '0')
	}
	return append(dst, s...)
}

// formatTimeSpan renders [-][d.]hh:mm:ss[.fffffff].
func formatTimeSpan(t int64) string {
	dst := make([]byte, 0, 26)
	u := uint64(t)
	if t < 0 {
		dst = append(dst, '-')
		u = uint64(-t)
	}
	if days := u / uint64(TicksPerDay); days > 0 {
		dst = strconv.AppendUint(dst, days, 10)
		dst = append(dst, '.')
	}
	dst = appendPadded(dst, int(u/uint64(TicksPerHour)%24), 2)
	dst = append(dst, ':')
	dst = appendPadded(dst, int(u/uint64(TicksPerMinute)%60), 2)
	dst = append(dst, ':')
	dst = appendPadded(dst, int(u/uint64(TicksPerSecond)%60), 2)
	if frac := int(u % uint64(TicksPerSecond)); frac > 0 {
		dst = append(dst, '.')
		dst = appendPadded(dst, frac, 7)
	}
	return string(dst)
}

// dateLayouts are tried in order by parseDateTime after the strict ISO forms.
var dateLayouts = []string{
	"2006-1-2 15:4:5.999999999", "2006-1-2 15:4", "2006-1-2", "2006-1",
	"2006/1/2 15:4:5.999999999", "2006/1/2 15:4", "2006/1/2",
	"1/2/2006 3:4:5.999999999 PM", "1/2/2006 3:4 PM", "1/2/2006 15:4:5.999999999", "1/2/2006 15:4", "1/2/2006",
	"1-2-2006 15:4:5.999999999", "1-2-2006",
	"20060102", "2006",
	"Mon, 02 Jan 2006 15:04:05 MST", "Mon, 2 Jan 2006 15:04:05 MST", "Monday, 02-Jan-06 15:04:05 MST",
	"Mon Jan 2 15:04:05 2006", "02 Jan 2006 15:04:05", "2 Jan 2006 15:04:05", "2 Jan 2006 15:04", "2 Jan 2006",
	"02 Jan 06 15:04 MST", "02 Jan 06 15:04", "Jan 2 2006", "Jan 2, 2006", "2-Jan-2006", "2006-Jan-2",
	"January 2, 2006", "2 January 2006", "January 2 2006", "Jan 2 2006 15:04:05", "Jan 2, 2006 15:04:05",
	"2006-1-2 3:4:5 PM", "2006-1-2 3:4 PM",
}

// parseDateTime reads the date forms that Kusto documents (ISO 8601, RFC 822,
// RFC 850 and the common numeric ones). Times without a zone are UTC.
func parseDateTime(s string) (int64, bool) {
	s = strings.TrimSpace(s)
	if s == "" || len(s) > 64 {
		return 0, false
	}
	if t, ok := parseISODate(s); ok {
		return t, true
	}
	body, offset, hasZone := cutZone(s)
	for _, layout := range dateLayouts {
		if tm, err := time.Parse(layout, body); err == nil {
			t := int64(TicksOf(tm))
			if hasZone {
				t -= offset
			}
			if t < 0 || t > int64(maxDateTime) {
				return 0, false
			}
			return t, true
		}
	}
	return 0, false
}

// cutZone splits a trailing Z, UTC, GMT or ±hh:mm from a date text.
func cutZone(s string) (string, int64, bool) {
	for _, z := range []string{"Z", "z", " UTC", " GMT"} {
		if strings.HasSuffix(s, z) {
			return strings.TrimSpace(strings.TrimSuffix(s, z)), 0, true
		}
	}
	if n := len(s); n > 6 && (s[n-6] == '+' || s[n-6] == '-') && s[n-3] == ':' && strings.Contains(s[:n-6], ":") {
		h, err1 := strconv.Atoi(s[n-5 : n-3])
		m, err2 := strconv.Atoi(s[n-2:])
		if err1 == nil && err2 == nil && h <= 14 && m < 60 {
			off := int64(h)*int64(TicksPerHour) + int64(m)*int64(TicksPerMinute)
			if s[n-6] == '-' {
				off = -off
			}
			return strings.TrimSpace(s[:n-6]), off, true
		}
	}
	return s, 0, false
}

// parseISODate reads yyyy-MM-dd[(T| )hh:mm[:ss[.f+]]][Z|±hh:mm] without
// allocating: it is the form of nearly every date in a log.
func parseISODate(s string) (int64, bool) {
	p := isoParser{s: s}
	y, m, d := p.digits(4, 4), 0, 0
	if !p.ok || !p.lit('-') {
		return 0, false
	}
	m = p.digits(1, 2)
	if !p.ok || !p.lit('-') {
		return 0, false
	}
	d = p.digits(1, 2)
	if !p.ok || m < 1 || m > 12 || d < 1 || d > daysIn(y, m) || y < 1 {
		return 0, false
	}
	var h, mi, sec int
	var frac int64
	if p.i < len(s) && (s[p.i] == 'T' || s[p.i] == ' ' || s[p.i] == 't') {
		p.i++
		h = p.digits(1, 2)
		if !p.ok || !p.lit(':') {
			return 0, false
		}
		mi = p.digits(1, 2)
		if !p.ok {
			return 0, false
		}
		if p.i < len(s) && s[p.i] == ':' {
			p.i++
			sec = p.digits(1, 2)
			if !p.ok {
				return 0, false
			}
			if p.i < len(s) && (s[p.i] == '.' || s[p.i] == ',') {
				p.i++
				frac = p.fraction()
			}
		}
		if h > 23 || mi > 59 || sec > 59 || !p.ok {
			return 0, false
		}
	}
	var off int64
	switch rest := strings.TrimSpace(s[p.i:]); {
	case rest == "" || rest == "Z" || rest == "z":
	default:
		_, o, ok := cutZone("0000:" + rest)
		if !ok || len(rest) != 6 {
			return 0, false
		}
		off = o
	}
	t := int64(TicksOf(time.Date(y, time.Month(m), d, h, mi, sec, 0, time.UTC))) + frac - off
	if t < 0 || t > int64(maxDateTime) {
		return 0, false
	}
	return t, true
}

type isoParser struct {
	s  string
	i  int
	ok bool
}

func (p *isoParser) digits(lo, hi int) int {
	n, v := 0, 0
	for p.i < len(p.s) && n < hi && p.s[p.i] >= '0' && p.s[p.i] <= '9' {
		v = v*10 + int(p.s[p.i]-'0')
		p.i++
		n++
	}
	p.ok = n >= lo
	return v
}

func (p *isoParser) lit(c byte) bool {
	if p.i < len(p.s) && p.s[p.i] == c {
		p.i++
		return true
	}
	return false
}

func (p *isoParser) fraction() int64 {
	var v int64
	n := 0
	for p.i < len(p.s) && p.s[p.i] >= '0' && p.s[p.i] <= '9' {
		if n < 7 {
			v = v*10 + int64(p.s[p.i]-'0')
		}
		n++
		p.i++
	}
	p.ok = n > 0
	for ; n < 7; n++ {
		v *= 10
	}
	return v
}

func daysIn(y, m int) int {
	return time.Date(y, time.Month(m)+1, 0, 0, 0, 0, 0, time.UTC).Day()
}

// parseTimeSpan reads 1d, 1.5h, 2.03:04:05.6, 03:04, 5 seconds … A bare number
// is days, as in Kusto.
func parseTimeSpan(s string) (int64, bool) {
	s = strings.TrimSpace(s)
	if s == "" {
		return 0, false
	}
	neg := false
	if s[0] == '-' || s[0] == '+' {
		neg = s[0] == '-'
		s = s[1:]
	}
	v, ok := parsePositiveTimeSpan(strings.TrimSpace(s))
	if !ok {
		return 0, false
	}
	if neg {
		v = -v
	}
	return v, true
}

func parsePositiveTimeSpan(s string) (int64, bool) {
	if strings.Contains(s, ":") {
		return parseClockSpan(s)
	}
	i := 0
	for i < len(s) && (s[i] >= '0' && s[i] <= '9' || s[i] == '.') {
		i++
	}
	if i == 0 {
		return 0, false
	}
	unit, ok := timeUnit(strings.TrimSpace(s[i:]))
	if !ok {
		return 0, false
	}
	return scaleTicks(s[:i], unit)
}

// scaleTicks multiplies a decimal number by a unit, exactly where the number is
// whole, and refuses what does not fit.
func scaleTicks(num string, unit Ticks) (int64, bool) {
	if n, err := strconv.ParseInt(num, 10, 64); err == nil {
		if n > int64(1<<63-1)/int64(unit) {
			return 0, false
		}
		return n * int64(unit), true
	}
	f, err := strconv.ParseFloat(num, 64)
	if err != nil || f*float64(unit) > 9.2e18 {
		return 0, false
	}
	return int64(roundHalfEven(f * float64(unit))), true
}

// timeUnit resolves the suffix of a timespan literal.
func timeUnit(u string) (Ticks, bool) {
	switch u {
	case "", "d", "day", "days":
		return TicksPerDay, true
	case "h", "hr", "hrs", "hour", "hours":
		return TicksPerHour, true
	case "m", "min", "minute", "minutes":
		return TicksPerMinute, true
	case "s", "sec", "second", "seconds":
		return TicksPerSecond, true
	case "ms", "milli", "millis", "millisec", "millisecond", "milliseconds":
		return TicksPerMillisecond, true
	case "micro", "micros", "microsec", "microsecond", "microseconds":
		return TicksPerMicrosecond, true
	case "tick", "ticks":
		return 1, true
	}
	return 0, false
}

// parseClockSpan reads [d.]hh:mm[:ss[.fffffff]].
func parseClockSpan(s string) (int64, bool) {
	var days int64
	head, _, _ := strings.Cut(s, ":")
	if d, h, ok := strings.Cut(head, "."); ok {
		n, err := strconv.ParseInt(d, 10, 32)
		if err != nil {
			return 0, false
		}
		days = n
		s = h + s[len(head):]
	}
	parts := strings.Split(s, ":")
	if len(parts) == 4 {
		n, err := strconv.ParseInt(parts[0], 10, 32)
		if err != nil || n < 0 {
			return 0, false
		}
		days, parts = n, parts[1:]
	}
	if len(parts) < 2 || len(parts) > 3 {
		return 0, false
	}
	total := days * int64(TicksPerDay)
	for i, p := range parts {
		whole, frac, hasFrac := strings.Cut(p, ".")
		n, err := strconv.ParseUint(whole, 10, 31)
		if err != nil || i > 0 && n > 59 || i == 0 && n > 23 || hasFrac && i != 2 {
			return 0, false
		}
		total += int64(n) * int64([]Ticks{TicksPerHour, TicksPerMinute, TicksPerSecond}[i])
		if hasFrac {
			fp := isoParser{s: frac}
			total += fp.fraction()
			if !fp.ok || fp.i != len(frac) {
				return 0, false
			}
		}
	}
	return total, true
}
