package loganalytics

import (
	"errors"
	"regexp"
	"strconv"
	"strings"
	"time"
)

var errTimespan = errors.New("not an ISO 8601 duration or interval")

var isoDuration = regexp.MustCompile(`^P(?:(\d{1,6})Y)?(?:(\d{1,6})M)?(?:(\d{1,6})W)?(?:(\d{1,6}(?:\.\d{1,9})?)D)?(?:T(?:(\d{1,9}(?:\.\d{1,9})?)H)?(?:(\d{1,9}(?:\.\d{1,9})?)M)?(?:(\d{1,9}(?:\.\d{1,9})?)S)?)?$`)

// parseTimespan reads the API's timespan: a duration that ends now, start/end,
// start/duration or duration/end. The empty string is all time.
func parseTimespan(s string, now time.Time) (timeRange, error) {
	if s = strings.TrimSpace(s); s == "" {
		return allTime, nil
	}
	first, second, interval := strings.Cut(s, "/")
	if !interval {
		start, err := shift(now, first, -1)
		return timeRange{ticks(start), ticks(now)}, err
	}
	firstIs, secondIs := strings.HasPrefix(first, "P"), strings.HasPrefix(second, "P")
	var start, end time.Time
	var err, err2 error
	switch {
	case firstIs && secondIs:
		return timeRange{}, errTimespan
	case firstIs:
		if end, err = parseInstant(second); err == nil {
			start, err = shift(end, first, -1)
		}
	case secondIs:
		if start, err = parseInstant(first); err == nil {
			end, err = shift(start, second, 1)
		}
	default:
		start, err = parseInstant(first)
		end, err2 = parseInstant(second)
	}
	if err := errors.Join(err, err2); err != nil {
		return timeRange{}, err
	}
	if end.Before(start) {
		return timeRange{}, errors.New("the end is before the start")
	}
	return timeRange{ticks(start), ticks(end)}, nil
}

func parseInstant(s string) (time.Time, error) {
	n, ok := instant(s)
	if !ok {
		return time.Time{}, errTimespan
	}
	return fromTicks(n), nil
}

// shift moves t by an ISO 8601 duration.
func shift(t time.Time, s string, sign int) (time.Time, error) {
	m := isoDuration.FindStringSubmatch(s)
	if m == nil || s == "P" || strings.HasSuffix(s, "T") {
		return t, errTimespan
	}
	whole := func(i int) int { n, _ := strconv.Atoi(m[i]); return n * sign }
	t = t.AddDate(whole(1), whole(2), 7*whole(3))
	for i, unit := range []time.Duration{24 * time.Hour, time.Hour, time.Minute, time.Second} {
		if m[4+i] == "" {
			continue
		}
		f, err := strconv.ParseFloat(m[4+i], 64)
		if err != nil {
			return t, errTimespan
		}
		n := int64(f)
		for n > 0 { // a Duration holds 292 years
			step := min(n, int64(200*365*24*time.Hour/unit))
			t = t.Add(time.Duration(step*int64(sign)) * unit)
			n -= step
			if t.Year() < 1 || t.Year() > 9999 {
				return t, errTimespan
			}
		}
		t = t.Add(time.Duration((f - float64(int64(f))) * float64(unit) * float64(sign)))
	}
	if t.Year() < 1 || t.Year() > 9999 {
		return t, errTimespan
	}
	return t, nil
}

// intersect is the time in both.
func (r timeRange) intersect(o timeRange) timeRange {
	return timeRange{max(r.from, o.from), min(r.to, o.to)}
}
