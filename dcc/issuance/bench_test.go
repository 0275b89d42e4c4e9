package issuance

import (
	"crypto/ecdsa"
	"crypto/rand"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// BenchmarkIssue issues over the handler with a key in memory and a durable
// SQLite; beside it, what the machine signs at most.
func BenchmarkIssue(b *testing.B) {
	w := newWorld(b)
	s, err := w.make(Private, nil)
	if err != nil {
		b.Fatal(err)
	}
	h, err := s.Handler()
	if err != nil {
		b.Fatal(err)
	}
	token := "Bearer " + w.token(audience, portal)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			r := httptest.NewRequest(http.MethodPut, "/dgci/issue", strings.NewReader(vaccination))
			r.Header.Set("Authorization", token)
			rec := httptest.NewRecorder()
			if h.ServeHTTP(rec, r); rec.Code != http.StatusOK {
				b.Errorf("got %d %s", rec.Code, rec.Body)
				return
			}
		}
	})
}

func BenchmarkRawES256(b *testing.B) {
	key := newWorld(b).newKey()
	digest := make([]byte, 32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := ecdsa.SignASN1(rand.Reader, key, digest); err != nil {
				b.Error(err)
			}
		}
	})
}
