package hcert

import (
	"bytes"
	"compress/zlib"
	"crypto/elliptic"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestHostileInputCostsLittle: what is as large as the limits allow, or larger,
// allocates under 16 MB in every decoder. How long it takes is logged, not
// judged.
func TestHostileInputCostsLittle(t *testing.T) {
	packed := func(b []byte) []byte {
		var out bytes.Buffer
		z := zlib.NewWriter(&out)
		_, _ = z.Write(b)
		_ = z.Close()
		return out.Bytes()
	}
	hc1 := func(b []byte) string { return Prefix + EncodeBase45(b) }
	decode := func(text string) func() { return func() { _, _ = new(Decoder).Decode(text) } }
	cose := func(payload []byte) []byte {
		msg := appendBytes(appendHead(nil, cborArray, 4), []byte{0xA1, 0x01, 0x26})
		return appendBytes(appendBytes(append(msg, 0xA0), payload), make([]byte, 64))
	}
	claims := func(id int64, sub []byte) []byte {
		return append(appendInt(appendHead(appendInt(appendHead(nil, cborMap, 1), claimHCert), cborMap, 1), id), sub...)
	}
	message := func(b []byte) func() { return func() { _, _ = new(Decoder).DecodeCOSE(b) } }
	tree := func(sub []byte) func() { return message(cose(claims(SubclaimDCC, sub))) }
	nest := func(open byte, n int) []byte { return append(bytes.Repeat([]byte{open}, n), 0) }
	many := func(n int, item func(i int) []byte) []byte {
		b := appendHead(nil, cborArray, uint64(n))
		for i := range n {
			b = append(b, item(i)...)
		}
		return b
	}
	chunks := append([]byte{0x7F}, bytes.Repeat([]byte{0x61, 'a'}, 2000)...)
	key := newDSC(t, ecKey(t, elliptic.P256()), 0).Raw
	bomb := packed(make([]byte, 50<<20))
	long := strings.Repeat("ä", 1<<20)
	links := make([]byte, 0, 60000)
	for range 500 {
		links = appendText(links, "vhlink:/"+strings.Repeat("e", 100))
	}
	for name, run := range map[string]func(){
		"a text of base45 zeros":         decode(Prefix + strings.Repeat("0", 8188)),
		"a text beyond the limit":        decode(Prefix + strings.Repeat("0", 1<<20)),
		"a decompression bomb":           decode(hc1(packed(make([]byte, 5<<20)))),
		"a stream as large as allowed":   decode(hc1(packed(make([]byte, 65536)))),
		"a bomb, inflated alone":         func() { _, _ = Inflate(bomb, Limits{}) },
		"arrays to the limit's depth":    tree(nest(0x81, 16)),
		"arrays beyond it":               tree(nest(0x81, 60000)),
		"tags beyond it":                 message(nest(0xC6, 60000)),
		"maps that announce 2⁶³ entries": tree(append([]byte{0xBB}, bytes.Repeat([]byte{0x7F}, 8)...)),
		"text that announces 2⁶³ bytes":  tree(append([]byte{0x7B}, bytes.Repeat([]byte{0x7F}, 8)...)),
		"as many items as allowed":       tree(many(2000, func(int) []byte { return []byte{0x80} })),
		"a map for each item":            tree(many(900, func(int) []byte { return []byte{0xA1, 0x61, 'a', 0} })),
		"a wide map of long keys":        tree(append(appendHead(nil, cborMap, 900), many(900, func(i int) []byte { return appendText(nil, strings.Repeat(string(rune('a'+i%26)), 30+i%30)) })[3:]...)),
		"text in two thousand chunks":    tree(append(chunks, 0xFF)),
		"many headers":                   message(append(appendHead(appendHead(nil, cborArray, 4), cborMap, 1000), make([]byte, 3000)...)),
		"a list of links":                message(cose(claims(SubclaimHealthLink, append(appendHead(nil, cborArray, 500), links...)))),
		"a link of 64 kB":                func() { ParseHealthLink("vhlink:/" + strings.Repeat("e", 64<<10)) },
		"JSON as large as allowed": func() {
			_, _ = ParseDCC([]byte(`{"a": [` + strings.TrimSuffix(strings.Repeat(`{},`, maxJSON/3-10), ",") + `]}`))
		},
		"JSON beyond it": func() { _, _ = ParseDCC([]byte(strings.Repeat("[", 1<<20))) },
		"JSON of numbers": func() {
			_, _ = ParseDCC([]byte(`{"a": [` + strings.TrimSuffix(strings.Repeat(`1,`, maxJSON/2-10), ",") + `]}`))
		},
		"a long name":                   func() { _, _ = StandardiseName(long, NameOptions{}); MatchName(long, long) },
		"a name of marks":               func() { _, _ = StandardiseName("ع"+strings.Repeat("\u064b", 5000), NameOptions{}) },
		"names that match in many ways": func() { MatchName(strings.Repeat("ю-", 160), strings.Repeat("IU<", 100)) },
		"a long identifier":             func() { ParseUVCI(strings.Repeat("URN:UVCI:", 1<<16) + "#") },
		"a large certificate":           func() { _, _ = ParseKey(append(bytes.Clone(key), make([]byte, 1<<20)...)) },
		"a certificate of zeros":        func() { _, _ = ParseKey(make([]byte, maxCertificate)) },
		"findings without end": func() {
			entries := make([]any, 2000)
			for i := range entries {
				entries[i] = map[string]any{"co": "x", "ci": "x"}
			}
			Inspection{}.Inspect(map[string]any{"v": entries, "t": entries, "r": entries})
		},
	} {
		t.Run(name, func(t *testing.T) {
			run() // what is made once and kept is not counted
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
