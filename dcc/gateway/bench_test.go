package gateway

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"testing"
)

// BenchmarkTrustList downloads a list of 200 signers over the handler, whole
// and unchanged.
func BenchmarkTrustList(b *testing.B) {
	w := newWorld(b)
	for range 200 {
		if got := w.call(w.ie, "POST", "/signerCertificate", w.cms(w.ie, w.dsc(w.ie).Raw)); got.status != 201 {
			b.Fatal(got.body)
		}
	}
	h, err := w.server.Handler()
	if err != nil {
		b.Fatal(err)
	}
	etag := w.call(w.de, "GET", "/trustList", "").header.Get("ETag")
	sum := sha256.Sum256(w.de.auth.Raw)
	for name, tag := range map[string]string{"whole": "", "unchanged": etag} {
		b.Run(name, func(b *testing.B) {
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					r := httptest.NewRequest(http.MethodGet, "/trustList", nil)
					r.RemoteAddr = "127.0.0.1:1"
					r.Header.Set(headerThumbprint, hex.EncodeToString(sum[:]))
					r.Header.Set(headerSubject, "C=DE")
					r.Header.Set("If-None-Match", tag)
					rec := httptest.NewRecorder()
					if h.ServeHTTP(rec, r); rec.Code != http.StatusOK && rec.Code != http.StatusNotModified {
						b.Errorf("got %d", rec.Code)
						return
					}
				}
			})
		})
	}
}
