package certlogic

import (
	"errors"
	"time"
)

// Dates are milliseconds since 1970 in the proleptic Gregorian calendar, the
// time values of ECMA-262 §21.4.1, on whose Date methods the specification
// defines plusTime.

// maxDate is the largest time value of ECMA-262, in either direction.
const maxDate = 8_640_000_000_000_000

const (
	msHour = 3_600_000
	msDay  = 24 * msHour
)

type unit uint8

const (
	year unit = iota
	month
	day
	hour
)

var unitNames = [...]string{"year", "month", "day", "hour"}

func (u unit) String() string { return unitNames[u] }

func parseUnit(s string) (unit, bool) {
	for i, name := range unitNames {
		if s == name {
			return unit(i), true
		}
	}
	return 0, false
}

// shift is an offset of the validation clock.
type shift struct {
	amount int64
	unit   unit
}

// daysFromCivil returns the days since 1970-01-01 of a day; months and days
// out of range roll over.
func daysFromCivil(y, m, d int64) int64 {
	m--
	y += floorDiv(m, 12)
	m -= floorDiv(m, 12) * 12
	// The year begins in March, so that the leap day is its last.
	m -= 2
	if m < 0 {
		m += 12
		y--
	}
	era := floorDiv(y, 400)
	yoe := y - era*400
	doy := (153*m + 2) / 5
	doe := yoe*365 + yoe/4 - yoe/100 + doy
	return era*146_097 + doe - 719_468 + d - 1
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// civil returns the day of a number of days since 1970-01-01.
func civil(days int64) (y, m, d int64) {
	z := days + 719_468
	era := floorDiv(z, 146_097)
	doe := z - era*146_097
	yoe := (doe - doe/1460 + doe/36_524 - doe/146_096) / 365
	doy := doe - (365*yoe + yoe/4 - yoe/100)
	mp := (5*doy + 2) / 153
	d = doy - (153*mp+2)/5 + 1
	m = mp + 3
	y = yoe + era*400
	if m > 12 {
		m -= 12
		y++
	}
	return y, m, d
}

func daysInMonth(y, m int64) int64 { return daysFromCivil(y, m+1, 1) - daysFromCivil(y, m, 1) }

// plusTime adds to a date as setUTCFullYear, setUTCMonth, setUTCDate and
// setUTCHours of ECMAScript's Date do: what is out of range rolls over, so
// 2020-02-29 and a year is 2021-03-01.
func plusTime(ms, amount int64, u unit) (int64, bool) {
	const most = 1 << 40 // more than there are hours in the range of dates
	if amount > most || amount < -most {
		return 0, false
	}
	switch u {
	case hour:
		ms += amount * msHour
	case day:
		if amount > maxDate/msDay*2 || amount < -maxDate/msDay*2 {
			return 0, false
		}
		ms += amount * msDay
	default:
		const years = 600_000 // more than the range of dates has
		if u == year {
			if amount > years || amount < -years {
				return 0, false
			}
			amount *= 12
		}
		if amount > years*12 || amount < -years*12 {
			return 0, false
		}
		days := floorDiv(ms, msDay)
		y, m, d := civil(days)
		ms += (daysFromCivil(y, m+amount, d) - days) * msDay
	}
	return ms, ms <= maxDate && ms >= -maxDate
}

var (
	errDateFormat = errors.New("not in a date or date-time format of the specification")
	errDateRange  = errors.New("a date or time that does not exist")
)

// parseDate reads what plusTime accepts: a date, a partial date (the last day
// of the year or month), or a date-time with or without fraction and offset.
func parseDate(s string) (int64, error) {
	if len(s) <= len("2021-01-01") {
		return parsePartialDate(s)
	}
	if s[len("2021-01-01")] != 'T' || len(s) < len("2021-01-01T00:00:00") || s[13] != ':' || s[16] != ':' {
		return 0, errDateFormat
	}
	days, err := parsePartialDate(s[:10])
	if err != nil {
		return 0, err
	}
	h, ok1 := digits(s[11:13])
	m, ok2 := digits(s[14:16])
	sec, ok3 := digits(s[17:19])
	if !ok1 || !ok2 || !ok3 {
		return 0, errDateFormat
	}
	rest := s[19:]
	var ms int64
	if rest != "" && rest[0] == '.' {
		n := 1
		for scale := int64(100); n < len(rest) && rest[n] >= '0' && rest[n] <= '9'; n++ {
			ms += int64(rest[n]-'0') * scale
			scale /= 10
		}
		if n == 1 {
			return 0, errDateFormat
		}
		rest = rest[n:]
	}
	offset, err := parseOffset(rest)
	if err != nil {
		return 0, err
	}
	// ECMA-262 §21.4.1.32 lets a day end at 24:00:00.
	if h > 24 || m > 59 || sec > 59 || (h == 24 && (m > 0 || sec > 0 || ms > 0)) {
		return 0, errDateRange
	}
	return days + h*msHour + m*60_000 + sec*1000 + ms - offset, nil
}

// parsePartialDate reads YYYY, YYYY-MM or YYYY-MM-DD; a partial date is its
// last day.
func parsePartialDate(s string) (int64, error) {
	y, ok := int64(0), false
	if len(s) >= 4 {
		y, ok = digits(s[:4])
	}
	if !ok {
		return 0, errDateFormat
	}
	switch len(s) {
	case 4:
		return daysFromCivil(y, 12, 31) * msDay, nil
	case 7, 10:
		m, ok := digits(s[5:7])
		if s[4] != '-' || !ok {
			return 0, errDateFormat
		}
		if m < 1 || m > 12 {
			return 0, errDateRange
		}
		if len(s) == 7 {
			return (daysFromCivil(y, m+1, 1) - 1) * msDay, nil
		}
		d, ok := digits(s[8:])
		if s[7] != '-' || !ok {
			return 0, errDateFormat
		}
		if d < 1 || d > daysInMonth(y, m) {
			return 0, errDateRange
		}
		return daysFromCivil(y, m, d) * msDay, nil
	}
	return 0, errDateFormat
}

// parseOffset reads nothing, Z, or a sign with h, hh, hmm, hhmm, h:mm or hh:mm.
func parseOffset(s string) (int64, error) {
	if s == "" || s == "Z" {
		return 0, nil
	}
	sign := int64(1)
	switch s[0] {
	case '-':
		sign = -1
	case '+':
	default:
		return 0, errDateFormat
	}
	hours, minutes := s[1:], ""
	switch n := len(hours); {
	case n >= 4 && hours[n-3] == ':':
		hours, minutes = hours[:n-3], hours[n-2:]
	case n >= 3:
		hours, minutes = hours[:n-2], hours[n-2:]
	}
	if len(hours) < 1 || len(hours) > 2 {
		return 0, errDateFormat
	}
	h, ok1 := digits(hours)
	m, ok2 := digits(minutes)
	if !ok1 || !ok2 {
		return 0, errDateFormat
	}
	if h > 23 || m > 59 {
		return 0, errDateRange
	}
	return sign * (h*msHour + m*60_000), nil
}

// digits reads a number of digits only; none is 0.
func digits(s string) (n int64, ok bool) {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + int64(s[i]-'0')
	}
	return n, true
}

// formatDate writes a date as ECMAScript's toISOString does, for the years that
// can be written with four digits.
func formatDate(ms int64) string {
	return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z")
}
