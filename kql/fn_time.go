package kql

import (
	"math"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // the zones of datetime_utc_to_local, on hosts without them
)

// calendar is a function of a datetime's calendar.
func calendar(t Type, f func(tm time.Time) int64) impl {
	return impl{bind: func(b *binder, n *callNode, args []expr, _ Type) expr {
		return &callExpr{name: n.name, t: t, args: args, fn: func(_ *exec, a []val) val { return intVal(t, f(Ticks(a[0].i).Time())) }}
	}}
}

// edge is startof… and endof…: the period that holds the date, moved by the
// optional second argument.
func edge(unit string, end bool) impl {
	return impl{fn: func(_ *exec, a []val) val {
		off := int64(0)
		if len(a) > 1 {
			off = a[1].i
		}
		if off > 4_000_000 || off < -4_000_000 {
			return nullOf(DateTime)
		}
		if end {
			off++
		}
		t := startOf(unit, Ticks(a[0].i).Time(), int(off))
		if end {
			t--
			if t > int64(maxDateTime) || t < 0 {
				t = min(max(t, 0), int64(maxDateTime))
			}
		}
		if t < 0 || t > int64(maxDateTime) {
			return nullOf(DateTime)
		}
		return intVal(DateTime, t)
	}}
}

func startOf(unit string, tm time.Time, off int) int64 {
	y, m, d := tm.Date()
	switch unit {
	case "day":
		d += off
	case "week":
		d += 7*off - int(tm.Weekday())
	case "month":
		m, d = m+time.Month(off), 1
	case "year":
		y, m, d = y+off, 1, 1
	}
	return int64(TicksOf(time.Date(y, m, d, 0, 0, 0, 0, time.UTC)))
}

func weekOfYear(tm time.Time) int64 {
	_, w := tm.ISOWeek()
	return int64(w)
}

func unixTime(scale float64) impl {
	return impl{bind: func(b *binder, n *callNode, args []expr, ret Type) expr {
		return &callExpr{name: n.name, t: DateTime, args: args, fn: func(_ *exec, a []val) val {
			var t int64
			if a[0].t.isInteger() {
				switch {
				case scale >= 1:
					s := int64(scale)
					if a[0].i > math.MaxInt64/s/2 || a[0].i < -math.MaxInt64/s/2 {
						return nullOf(DateTime)
					}
					t = a[0].i * s
				default:
					t = a[0].i / int64(1/scale)
				}
			} else {
				f := convert(a[0], Real)
				if f.null || math.Abs(f.f*scale) > 4e18 {
					return nullOf(DateTime)
				}
				t = int64(f.f * scale)
			}
			t += unixEpochSeconds * int64(TicksPerSecond)
			if t < 0 || t > int64(maxDateTime) {
				return nullOf(DateTime)
			}
			return intVal(DateTime, t)
		}}
	}}
}

func timeFunctions() map[string]impl {
	week := calendar(Int, weekOfYear)
	return map[string]impl{
		"now": {bind: bindNow}, "ago": {bind: bindNow},
		"startofday": edge("day", false), "startofweek": edge("week", false), "startofmonth": edge("month", false), "startofyear": edge("year", false),
		"endofday": edge("day", true), "endofweek": edge("week", true), "endofmonth": edge("month", true), "endofyear": edge("year", true),
		"dayofmonth":  calendar(Int, func(t time.Time) int64 { return int64(t.Day()) }),
		"dayofyear":   calendar(Int, func(t time.Time) int64 { return int64(t.YearDay()) }),
		"dayofweek":   calendar(TimeSpan, func(t time.Time) int64 { return int64(t.Weekday()) * int64(TicksPerDay) }),
		"monthofyear": calendar(Int, func(t time.Time) int64 { return int64(t.Month()) }), "getmonth": calendar(Int, func(t time.Time) int64 { return int64(t.Month()) }),
		"getyear":      calendar(Long, func(t time.Time) int64 { return int64(t.Year()) }),
		"hourofday":    calendar(Int, func(t time.Time) int64 { return int64(t.Hour()) }),
		"week_of_year": week, "weekofyear": week,
		"datetime_diff":                    {bind: bindDatetimeDiff},
		"datetime_add":                     {bind: bindDatePart(DateTime, datetimeAdd, intVal(Long, 0), intVal(DateTime, int64(TicksPerDay)))},
		"datetime_part":                    {bind: bindDatePart(Long, datetimePart, intVal(DateTime, 0))},
		"make_datetime":                    {fn: makeDatetime},
		"make_timespan":                    {fn: makeTimespan},
		"unixtime_seconds_todatetime":      unixTime(1e7),
		"unixtime_milliseconds_todatetime": unixTime(1e4),
		"unixtime_microseconds_todatetime": unixTime(10),
		"unixtime_nanoseconds_todatetime":  unixTime(0.01),
		"format_datetime":                  {bind: bindFormat(formatDateTimeFn)},
		"format_timespan":                  {bind: bindFormat(formatTimeSpanFn)},
		"datetime_utc_to_local":            {fn: func(x *exec, a []val) val { return shiftZone(x, a[0].i, a[1].s, 1) }},
		"datetime_local_to_utc":            {fn: func(x *exec, a []val) val { return shiftZone(x, a[0].i, a[1].s, -1) }},
	}
}

func bindNow(b *binder, n *callNode, args []expr, ret Type) expr {
	now := &constExpr{intVal(DateTime, int64(TicksOf(b.opt.Now)))}
	if len(args) == 0 {
		return now
	}
	op := byte('+')
	if n.name == "ago" {
		op = '-'
	}
	return b.fold(&arithExpr{op, DateTime, now, args[0]})
}

// bindDatePart refuses a constant name of a date's part that the function does
// not know; probe is what to try the name with.
func bindDatePart(t Type, fn scalarFn, probe ...val) func(*binder, *callNode, []expr, Type) expr {
	return func(b *binder, n *callNode, args []expr, _ Type) expr {
		c, ok := args[0].(*constExpr)
		if !ok {
			b.fail(n.args[0].x, SemanticError, "the first argument of %s must be a string literal", n.name)
		}
		if fn(nil, append([]val{c.v}, probe...)).null {
			b.fail(n.args[0].x, SemanticError, "%q is no part of a date that %s knows", c.v.s, n.name)
		}
		return &callExpr{name: n.name, t: t, args: args, fn: fn}
	}
}

// bindDatetimeDiff gives the difference its type: the engine answers weeks with
// a real, everything else with a long.
func bindDatetimeDiff(b *binder, n *callNode, args []expr, ret Type) expr {
	c, ok := args[0].(*constExpr)
	if !ok {
		b.fail(n.args[0].x, SemanticError, "the first argument of datetime_diff must be a string literal")
	}
	if datetimeDiff(nil, []val{c.v, intVal(DateTime, 0), intVal(DateTime, 0)}).null {
		b.fail(n.args[0].x, SemanticError, "%q is no part of a date that datetime_diff knows", c.v.s)
	}
	e := &callExpr{name: n.name, t: Long, args: args, fn: datetimeDiff}
	if strings.HasPrefix(strings.ToLower(c.v.s), "week") && !b.opt.SchemaOnly {
		return cast(e, Real)
	}
	return e
}

// datetimeDiff counts the borders of the period between two dates.
func datetimeDiff(_ *exec, a []val) val {
	x, y := a[1].i, a[2].i
	tx, ty := Ticks(x).Time(), Ticks(y).Time()
	months := func(t time.Time) int64 { return int64(t.Year())*12 + int64(t.Month()) - 1 }
	per := func(unit Ticks) val { return longVal(floorDiv(x, int64(unit)) - floorDiv(y, int64(unit))) }
	switch strings.ToLower(a[0].s) {
	case "year", "years", "yy", "yyyy":
		return longVal(int64(tx.Year() - ty.Year()))
	case "quarter":
		return longVal(months(tx)/3 - months(ty)/3)
	case "month":
		return longVal(months(tx) - months(ty))
	case "week", "week_of_year", "weekofyear":
		return longVal((startOf("week", tx, 0) - startOf("week", ty, 0)) / int64(7*TicksPerDay))
	case "day", "dayofyear":
		return per(TicksPerDay)
	case "hour":
		return per(TicksPerHour)
	case "minute":
		return per(TicksPerMinute)
	case "second":
		return per(TicksPerSecond)
	case "millisecond":
		return per(TicksPerMillisecond)
	case "microsecond":
		return per(TicksPerMicrosecond)
	case "nanosecond":
		return longVal((x - y) * 100)
	}
	return nullOf(Long)
}

func floorDiv(a, b int64) int64 { return floorInt(a, b) / b }

// datetimeAdd moves a date by calendar periods; a day that the month lacks
// becomes its last.
func datetimeAdd(_ *exec, a []val) val {
	n, t := a[1].i, a[2].i
	if n > 1<<40 || n < -1<<40 {
		return nullOf(DateTime)
	}
	addMonths := func(k int64) int64 {
		tm := Ticks(t).Time()
		y, m, d := tm.Date()
		first := time.Date(y, m+time.Month(k), 1, 0, 0, 0, 0, time.UTC)
		d = min(d, daysIn(first.Year(), int(first.Month())))
		return int64(TicksOf(first)) + int64(d-1)*int64(TicksPerDay) + floorMod(t, int64(TicksPerDay))
	}
	var r int64
	switch strings.ToLower(a[0].s) {
	case "year":
		r = addMonths(min(max(n, -20000), 20000) * 12)
	case "quarter":
		r = addMonths(min(max(n, -80000), 80000) * 3)
	case "month":
		r = addMonths(min(max(n, -240000), 240000))
	case "week":
		r = t + n*int64(7*TicksPerDay)
	case "day":
		r = t + n*int64(TicksPerDay)
	case "hour":
		r = t + n*int64(TicksPerHour)
	case "minute":
		r = t + n*int64(TicksPerMinute)
	case "second":
		r = t + n*int64(TicksPerSecond)
	case "millisecond":
		r = t + n*int64(TicksPerMillisecond)
	case "microsecond":
		r = t + n*int64(TicksPerMicrosecond)
	case "nanosecond":
		r = t + n/100
	default:
		return nullOf(DateTime)
	}
	if r < 0 || r > int64(maxDateTime) {
		return nullOf(DateTime)
	}
	return intVal(DateTime, r)
}

func floorMod(a, b int64) int64 { return a - floorInt(a, b) }

func datetimePart(_ *exec, a []val) val {
	t := a[1].i
	tm := Ticks(t).Time()
	frac := t % int64(TicksPerSecond)
	var n int64
	switch strings.ToLower(strings.ReplaceAll(a[0].s, "_", "")) {
	case "year":
		n = int64(tm.Year())
	case "quarter":
		n = (int64(tm.Month())-1)/3 + 1
	case "month":
		n = int64(tm.Month())
	case "weekofyear":
		n = weekOfYear(tm)
	case "day":
		n = int64(tm.Day())
	case "dayofyear":
		n = int64(tm.YearDay())
	case "hour":
		n = int64(tm.Hour())
	case "minute":
		n = int64(tm.Minute())
	case "second":
		n = int64(tm.Second())
	case "millisecond":
		n = frac / 10_000
	case "microsecond":
		n = frac / 10
	case "nanosecond":
		n = frac * 100
	default:
		return nullOf(Long)
	}
	return longVal(n)
}

func makeDatetime(_ *exec, a []val) val {
	if len(a) == 1 {
		return convert(a[0], DateTime)
	}
	var p [6]int64
	var sec float64
	p[2] = 1
	for i, v := range a {
		f := convert(v, Real)
		if f.null {
			return nullOf(DateTime)
		}
		if i == 5 {
			sec = f.f
			continue
		}
		p[i] = int64(f.f)
	}
	if p[0] < 1 || p[0] > 9999 || p[1] < 1 || p[1] > 12 || p[2] < 1 || p[2] > int64(daysIn(int(p[0]), int(p[1]))) ||
		p[3] < 0 || p[3] > 23 || p[4] < 0 || p[4] > 59 || sec < 0 || sec >= 60 {
		return nullOf(DateTime)
	}
	t := int64(TicksOf(time.Date(int(p[0]), time.Month(p[1]), int(p[2]), int(p[3]), int(p[4]), 0, 0, time.UTC)))
	return intVal(DateTime, t+int64(math.Round(sec*1e7)))
}

func makeTimespan(_ *exec, a []val) val {
	if len(a) == 1 {
		return convert(a[0], TimeSpan)
	}
	p := make([]float64, len(a))
	for i, v := range a {
		f := convert(v, Real)
		if f.null {
			return nullOf(TimeSpan)
		}
		p[i] = f.f
	}
	var d, h, m, s float64
	switch len(p) {
	case 2:
		h, m = p[0], p[1]
	case 3:
		h, m, s = p[0], p[1], p[2]
	default:
		d, h, m, s = p[0], p[1], p[2], p[3]
	}
	if d < 0 || d > 1e7 || h < 0 || h >= 24 || m < 0 || m >= 60 || s < 0 || s >= 60 {
		return nullOf(TimeSpan)
	}
	return intVal(TimeSpan, int64(d)*int64(TicksPerDay)+int64(h)*int64(TicksPerHour)+int64(m)*int64(TicksPerMinute)+int64(math.Round(s*1e7)))
}

func shiftZone(x *exec, t int64, zone string, sign int64) val {
	loc, err := time.LoadLocation(zone)
	if err != nil || zone == "" || zone == "Local" {
		x.fail("the time zone %q is not known", clip(zone, 60))
	}
	tm := Ticks(t).Time()
	if sign < 0 {
		y, mo, d := tm.Date()
		h, mi, s := tm.Clock()
		tm = time.Date(y, mo, d, h, mi, s, 0, loc)
	}
	_, off := tm.In(loc).Zone()
	return intVal(DateTime, t+sign*int64(off)*int64(TicksPerSecond))
}

// bindFormat refuses a constant format that the function does not know.
func bindFormat(f func(t int64, format string) val) func(*binder, *callNode, []expr, Type) expr {
	return func(b *binder, n *callNode, args []expr, ret Type) expr {
		if c, ok := args[1].(*constExpr); ok && c.v.s != "" && f(0, c.v.s).s == "" && strings.Trim(c.v.s, "F") != "" {
			b.fail(n.args[1].x, SemanticError, "%s does not know the format %q", n.name, c.v.s)
		}
		return &callExpr{name: n.name, t: String, args: args, fn: func(_ *exec, a []val) val { return f(a[0].i, a[1].s) }}
	}
}

// dateLetters are the specifiers of format_datetime and how many of each make
// one; a longer run is cut into several.
var dateLetters = map[byte][]int{'d': {2, 1}, 'f': {7, 6, 5, 4, 3, 2, 1}, 'F': {7, 6, 5, 4, 3, 2, 1}, 'h': {2, 1}, 'H': {2, 1}, 'm': {2, 1}, 'M': {2, 1}, 's': {2, 1}, 't': {2, 1}, 'y': {4, 2, 1}}

// formatDateTimeFn renders the specifiers and copies separators; another letter
// makes the result empty.
func formatDateTimeFn(t int64, format string) val {
	var b strings.Builder
	for i := 0; i < len(format); {
		c := format[i]
		sizes, ok := dateLetters[c]
		if !ok {
			if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' {
				return strVal("")
			}
			b.WriteByte(c)
			i++
			continue
		}
		run := 1
		for i+run < len(format) && format[i+run] == c {
			run++
		}
		for run > 0 {
			for _, n := range sizes {
				if n <= run {
					datePart(&b, t, c, n)
					run -= n
					i += n
					break
				}
			}
		}
	}
	return strVal(b.String())
}

func datePart(b *strings.Builder, t int64, c byte, n int) {
	tm := Ticks(t).Time()
	v := 0
	switch c {
	case 'd':
		v = tm.Day()
	case 'f', 'F':
		frac := string(appendPadded(nil, int(t%int64(TicksPerSecond)), 7))[:n]
		if c == 'F' {
			frac = strings.TrimRight(frac, "0")
		}
		b.WriteString(frac)
		return
	case 'h':
		v = (tm.Hour()+11)%12 + 1
	case 'H':
		v = tm.Hour()
	case 'm':
		v = tm.Minute()
	case 'M':
		v = int(tm.Month())
	case 's':
		v = tm.Second()
	case 't':
		b.WriteString(tm.Format("PM")[:n])
		return
	default:
		v = tm.Year()
		if n < 4 {
			v %= 100
		}
	}
	b.Write(appendPadded(nil, v, n))
}

// letterRuns cuts a format into runs of one letter; separators are copied.
func letterRuns(format string, put func(c byte, n int) bool, b *strings.Builder) bool {
	for i := 0; i < len(format); {
		c := format[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z') {
			b.WriteByte(c)
			i++
			continue
		}
		j := i
		for j < len(format) && format[j] == c {
			j++
		}
		if !put(c, j-i) {
			return false
		}
		i = j
	}
	return true
}

func formatTimeSpanFn(t int64, format string) val {
	u := t
	if u < 0 {
		u = -u
	}
	frac := string(appendPadded(nil, int(u%int64(TicksPerSecond)), 7))
	var b strings.Builder
	ok := letterRuns(format, func(c byte, n int) bool {
		var v int64
		switch {
		case c == 'd' && n <= 8:
			v = u / int64(TicksPerDay)
		case (c == 'h' || c == 'H') && n <= 2:
			v = u / int64(TicksPerHour) % 24
		case c == 'm' && n <= 2:
			v = u / int64(TicksPerMinute) % 60
		case c == 's' && n <= 2:
			v = u / int64(TicksPerSecond) % 60
		case c == 'f' && n <= 7:
			b.WriteString(frac[:n])
			return true
		case c == 'F' && n <= 7:
			b.WriteString(strings.TrimRight(frac[:n], "0"))
			return true
		default:
			return false
		}
		s := strconv.FormatInt(v, 10)
		b.WriteString(strings.Repeat("0", max(0, n-len(s))) + s)
		return true
	}, &b)
	if !ok {
		return strVal("")
	}
	return strVal(b.String())
}
