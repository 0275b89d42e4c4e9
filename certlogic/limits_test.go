package certlogic

import (
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestHostileInputCostsLittle: what is as large as the limits allow, or just
// larger, allocates under 16 MB. How long it takes is logged, not judged.
func TestHostileInputCostsLittle(t *testing.T) {
	parse := func(src string) func() {
		return func() {
			if e, err := Parse([]byte(src)); err == nil {
				_, _ = e.Evaluate(Value{})
				r := &Rule{Logic: e, Engine: "CERTLOGIC", SchemaVersion: Version{1, 0, 0}}
				r.Explain(&Input{Payload: objectValue([]string{"ver"}, []Value{StringValue("1.3.0")})})
			} else {
				_ = err.Error()
			}
		}
	}
	data := func(src string) func() { return func() { _, _ = FromJSON([]byte(src)) } }
	wide := func(open, item, end string, n int) string {
		return open + strings.TrimSuffix(strings.Repeat(item+",", n), ",") + end
	}
	const month = `{"after": [{"plusTime": [{"var": "external.validationClock"}, 1, "month"]}, {"plusTime": ["9000", 0, "day"]}]}`
	for name, run := range map[string]func(){
		"a wide array":              parse(wide("[", "1", "]", MaxNodes-2)),
		"too wide an array":         parse(wide("[", "1", "]", MaxSource/2)),
		"wide and deep":             parse(strings.Repeat(`{"!":[`, 45) + wide("[", `{"var":"a"}`, "]", 6000) + strings.Repeat(`]}`, 45)),
		"problems at depth":         parse(strings.Repeat(`{"!":[`, 45) + wide("[", `{"var":0}`, "]", 6000) + strings.Repeat(`]}`, 45)),
		"loops":                     parse(`{"reduce":[` + wide("[", "1", "]", 300) + `,{"reduce":[` + wide("[", "1", "]", 300) + `,[1,{"var":"current"}],1]},1]}`),
		"growing arrays":            parse(`{"reduce":[` + wide("[", "1", "]", 9000) + `,[{"var":"accumulator"},1],1]}`),
		"long searches":             parse(`{"reduce":[` + wide("[", "1", "]", 300) + `,` + month + `,1]}`),
		"searches through the text": parse(wide(`{"and":[`, month, "]}", 1500)),
		"a long path":               parse(`{"var":"` + strings.Repeat("a.", MaxSource/3) + `a"}`),
		"a long UVCI":               parse(`{"extractFromUVCI":["` + strings.Repeat(":", MaxSource/2) + `",100000]}`),
		"data as wide as allowed":   data(wide("[", "1", "]", MaxValues-1)),
		"data too wide":             data(wide("[", "1", "]", MaxData/2-10)),
		"data of objects":           data(wide("[", `{"a":{}}`, "]", MaxValues/2-10)),
		"data of strings":           data(wide("[", `"abcdefghijklmno"`, "]", MaxValues-1)),
		"data with one long string": data(`"` + strings.Repeat("\\u0000", MaxData/6-10) + `"`),
		"data with many members":    data(wide("{", `"aaaaaaa":1`, "}", MaxValues-2)),
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			run()
			took := time.Since(start)
			runtime.ReadMemStats(&after)
			got := after.TotalAlloc - before.TotalAlloc
			t.Logf("%d kB in %v", got>>10, took)
			if got > 16<<20 {
				t.Errorf("got %d kB allocated, want at most 16 MB", got>>10)
			}
		})
	}
}
