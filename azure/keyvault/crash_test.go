package keyvault_test

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

const crashDir = "VERDANT_KEYVAULT_CRASH_DIR"

// TestCrashChild is the process that TestNothingAcknowledgedIsLostToKill9
// kills. It says what was acknowledged, a line each.
func TestCrashChild(t *testing.T) {
	dir := os.Getenv(crashDir)
	if dir == "" {
		t.Skip("runs as the child of TestNothingAcknowledgedIsLostToKill9")
	}
	w := newWorld(t, func(w *world) { w.dir, w.clock.now = dir, time.Now() })
	base := rand.Uint32()
	for i := 0; ; i++ {
		name := fmt.Sprintf("o-%08x-%d", base, i)
		var r reply
		switch i % 4 {
		case 0:
			r = w.adminRaw("PUT", "/secrets/"+name, `{"value":"`+name+`"}`)
		case 1:
			r = w.adminRaw("POST", "/keys/"+name+"/create", `{"kty":"EC"}`)
		case 2:
			r = w.adminRaw("POST", "/certificates/"+name+"/create", `{"policy":{"key_props":{"kty":"EC","exportable":false},"x509_props":{"subject":"CN=x"},"issuer":{"name":"Self"}}}`)
		default:
			r = w.adminRaw("POST", "/keys/"+name+"/create", `{"kty":"EC"}`)
			if r = w.adminRaw("DELETE", "/keys/"+name, ""); r.status == 200 {
				r = w.adminRaw("DELETE", "/deletedkeys/"+name, "")
			}
		}
		if r.status >= 300 {
			fmt.Println("failed", r.status, r.text)
			return
		}
		fmt.Println("ack", i%4, name, r.header.Get("x-ms-request-id"))
	}
}

func TestNothingAcknowledgedIsLostToKill9(t *testing.T) {
	dir := t.TempDir()
	type ack struct{ kind, name, request string }
	var all []ack
	for range 4 {
		child := exec.Command(os.Args[0], "-test.run", "^TestCrashChild$")
		child.Env = append(os.Environ(), crashDir+"="+dir)
		out := must(child.StdoutPipe())(t)
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		for lines, left := bufio.NewScanner(out), 1+rand.IntN(25); lines.Scan() && left > 0; left-- {
			f := strings.Fields(lines.Text())
			if len(f) != 4 || f[0] != "ack" {
				_ = child.Process.Kill()
				t.Fatalf("the child says %q", lines.Text())
			}
			all = append(all, ack{f[1], f[2], f[3]})
		}
		_ = child.Process.Kill()
		_ = child.Wait()
	}
	w := newWorld(t, func(w *world) { w.dir, w.clock.now = dir, time.Now() })
	recorded := map[any]bool{}
	for _, r := range w.records() {
		recorded[r["correlationId"]] = true
	}
	const sign = `{"alg":"ES256","value":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}`
	for _, a := range all {
		if !recorded[a.request] {
			t.Errorf("%s: its audit record is lost", a.name)
		}
		switch a.kind {
		case "0":
			if r := w.adminRaw("GET", "/secrets/"+a.name, ""); r.body["value"] != a.name {
				t.Errorf("secret %s: got %d %s", a.name, r.status, r.text)
			}
		case "1", "2":
			if r := w.adminRaw("POST", "/keys/"+a.name+"/sign", sign); r.status != 200 {
				t.Errorf("key %s: got %d %s", a.name, r.status, r.text)
			}
		default:
			if r := w.adminRaw("GET", "/deletedkeys/"+a.name, ""); r.status != 404 {
				t.Errorf("purged key %s: got %d", a.name, r.status)
			}
		}
	}
	// Every key in the token has an owner: those of the vault, one that was
	// deleted and not yet purged included, the sealing key and the check file.
	keys := 0
	for path := "/keys"; path != ""; {
		r := w.adminRaw("GET", path, "")
		items := r.body["value"].([]any)
		keys += len(items)
		list, _, _ := strings.Cut(path, "?")
		next, _ := r.body["nextLink"].(string)
		if next == "" {
			path = map[string]string{"/keys": "/deletedkeys"}[list]
			continue
		}
		path = list + "?" + strings.NewReplacer("api-version=7.4&", "").Replace(next[strings.IndexByte(next, '?')+1:])
	}
	w.awaitTokenFiles(keys + 2)
}
