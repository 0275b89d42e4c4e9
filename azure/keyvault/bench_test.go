package keyvault_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"

	"verdant/internal/httpserve"
	"verdant/internal/telemetry"
)

// BenchmarkOverTheWire measures operations with TLS, token check, roles and
// durable audit on, beside the bare crypto operation and beside a server that
// answers a constant. Client and server share the machine.
func BenchmarkOverTheWire(b *testing.B) {
	w := newWorld(b, func(w *world) { w.deps.Sink = telemetry.Discard{} })
	digest := base64.RawURLEncoding.EncodeToString(make([]byte, 32))
	w.adminRaw("POST", "/keys/rsa/create", `{"kty":"RSA-HSM"}`)
	w.adminRaw("POST", "/keys/ec/create", `{"kty":"EC-HSM"}`)
	w.adminRaw("PUT", "/secrets/s", `{"value":"hunter2"}`)
	wrapped := w.adminRaw("POST", "/keys/rsa/wrapkey", `{"alg":"RSA-OAEP-256","value":"`+digest+`"}`).body["value"].(string)
	for _, c := range []struct{ name, method, path, body string }{
		{"RS256", "POST", "/keys/rsa/sign", `{"alg":"RS256","value":"` + digest + `"}`},
		{"RSA-OAEP-256-unwrap", "POST", "/keys/rsa/unwrapkey", `{"alg":"RSA-OAEP-256","value":"` + wrapped + `"}`},
		{"ES256", "POST", "/keys/ec/sign", `{"alg":"ES256","value":"` + digest + `"}`},
		{"secret", "GET", "/secrets/s", ""},
	} {
		b.Run(c.name, func(b *testing.B) { w.drive(b, w.http, c.method, c.path, c.body) })
	}
	b.Run("constant", func(b *testing.B) {
		cert, roots := serverCertificate(b)
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() {
			done <- httpserve.Run(ctx, ln, &tls.Config{Certificates: []tls.Certificate{cert}}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				_, _ = io.WriteString(w, `{"value":"hunter2"}`)
			}))
		}()
		c := client(ln.Addr().String(), roots)
		w.drive(b, c, "GET", "/secrets/s", "")
		c.CloseIdleConnections()
		cancel()
		<-done
	})
	b.Run("raw-RSA-2048-sign", func(b *testing.B) {
		key := must(rsa.GenerateKey(rand.Reader, 2048))(b)
		defer meter(b)()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := key.Sign(rand.Reader, make([]byte, 32), crypto.SHA256); err != nil {
					b.Error(err)
				}
			}
		})
	})
	b.Run("raw-P-256-sign", func(b *testing.B) {
		key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(b)
		defer meter(b)()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := ecdsa.SignASN1(rand.Reader, key, make([]byte, 32)); err != nil {
					b.Error(err)
				}
			}
		})
	})
}

// meter reports operations a second, and the processor time that client and
// server took for one: the second is comparable on a machine that is shared.
func meter(b *testing.B) (stop func()) {
	before := cpuTime(b)
	b.ResetTimer()
	return func() {
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "op/s")
		b.ReportMetric(float64((cpuTime(b)-before).Microseconds())/float64(b.N), "cpu-µs/op")
	}
}

func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func (w *world) drive(b *testing.B, c *http.Client, method, path, body string) {
	token := w.mint(map[string]any{"oid": admin})
	b.SetParallelism(64)
	defer meter(b)()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			req, err := http.NewRequest(method, vaultURL+path+"?api-version=7.4", bytes.NewReader([]byte(body)))
			if err != nil {
				b.Error(err)
				return
			}
			req.Header.Set("Authorization", "Bearer "+token)
			res, err := c.Do(req)
			if err != nil {
				b.Error(err)
				return
			}
			_, _ = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
			if res.StatusCode != 200 {
				b.Error(fmt.Errorf("status %d", res.StatusCode))
				return
			}
		}
	})
}
