package entra_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"verdant/azure/entra"
)

// chromium starts a browser that can reach nothing but this machine.
func chromium(t *testing.T) context.Context {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		t.Skip("no Chromium here: install the package chromium to test the sign-in page in a browser")
	}
	// Short, because the browser makes a socket in it, whose path has a limit.
	home, err := os.MkdirTemp("", "b")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(home) })
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.WindowSize(1000, 800),
		chromedp.Flag("ignore-certificate-errors", true), // the test's own servers
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"), chromedp.Flag("no-proxy-server", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-domain-reliability", true), chromedp.UserDataDir(filepath.Join(home, "profile")),
		// What the browser leaves behind goes with this directory.
		chromedp.Env("HOME="+home, "TMPDIR="+home))
	if os.Geteuid() == 0 {
		opts = append(opts, chromedp.NoSandbox)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, opts...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(func() {
		_ = chromedp.Cancel(ctx) // waits for the browser to end
		cancel()
	})
	return ctx
}

// shot keeps a picture of the page for people, in the directory named by
// VERDANT_SCREENSHOTS.
func shot(t *testing.T, ctx context.Context, name string) {
	t.Helper()
	dir := os.Getenv("VERDANT_SCREENSHOTS")
	if dir == "" {
		return
	}
	png, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestInChromiumAPersonSignsInAndIsSentBack(t *testing.T) {
	ctx := chromium(t)
	back := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		w.Header().Set("Content-Type", "text/plain")
		_, _ = w.Write([]byte(r.Method + " state=" + r.Form.Get("state") + " code=" + r.Form.Get("code") + " error=" + r.Form.Get("error")))
	}))
	defer back.Close()
	var handler http.Handler
	front := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler.ServeHTTP(w, r) }))
	defer front.Close()
	w := newWorld(t, func(c *entra.Config) {
		c.Hosts = append(c.Hosts, strings.TrimPrefix(front.URL, "https://"))
		c.Apps[0].RedirectURIs = []string{back.URL + "/callback"}
	})
	handler = w.Handler()
	address := func(more url.Values) string {
		q := url.Values{"client_id": {portalID}, "redirect_uri": {back.URL + "/callback"}, "response_type": {"code"}, "scope": {"openid profile"}, "state": {"abc"}}
		for k, v := range more {
			q[k] = v
		}
		return front.URL + "/" + tenantID + "/oauth2/v2.0/authorize?" + q.Encode()
	}
	do := func(what string, steps ...chromedp.Action[chromedp.Void]) {
		t.Helper()
		if err := chromedp.Do(ctx, steps...); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	text := func(selector string) string {
		t.Helper()
		got, err := chromedp.Run(ctx, chromedp.Text(chromedp.CSS(selector)))
		if err != nil {
			t.Fatalf("text of %s: %v", selector, err)
		}
		return got
	}
	name, pass := chromedp.CSS("#username"), chromedp.CSS("#password")

	do("open", chromedp.Navigate(address(nil)), chromedp.WaitVisible(name))
	shot(t, ctx, "signin")
	if focus, err := chromedp.Run(ctx, chromedp.Evaluate[string](`document.activeElement.id`)); err != nil || focus != "username" {
		t.Errorf("focus is on %q, %v", focus, err)
	}
	do("wrong password", chromedp.SendKeys(name, nurse), chromedp.SendKeys(pass, "guess"+kb.Enter), chromedp.WaitVisible(chromedp.CSS("#problem")))
	shot(t, ctx, "signin-wrong")
	if got := text("#problem"); !strings.Contains(got, "incorrect") || !strings.Contains(got, "AADSTS50126") {
		t.Errorf("after a wrong password: %q", got)
	}
	do("right password", chromedp.SendKeys(pass, password+kb.Enter), chromedp.WaitVisible(chromedp.CSS("pre")))
	if got := text("pre"); !strings.HasPrefix(got, "GET state=abc code=") || !strings.HasSuffix(got, " error=") || strings.Contains(got, "code= ") {
		t.Errorf("sent back with %q", got)
	}
	// The second time needs no page, and a post needs no click.
	do("by post", chromedp.Navigate(address(url.Values{"response_mode": {"form_post"}})), chromedp.WaitVisible(chromedp.CSS("pre")))
	if got := text("pre"); !strings.HasPrefix(got, "POST state=abc code=") || strings.Contains(got, "code= ") {
		t.Errorf("posted back with %q", got)
	}
	do("as somebody without access", chromedp.Navigate(address(url.Values{"prompt": {"login"}})), chromedp.WaitVisible(name),
		chromedp.SendKeys(name, citizen), chromedp.SendKeys(pass, password+kb.Enter), chromedp.WaitVisible(chromedp.CSS("details")))
	shot(t, ctx, "signin-denied")
	if got := text("main"); !strings.Contains(got, "You have no access") || !strings.Contains(got, "another account") {
		t.Errorf("without access: %q", got)
	}
	do("unknown app", chromedp.Navigate(address(url.Values{"client_id": {"x"}})), chromedp.WaitVisible(chromedp.CSS("details")))
	shot(t, ctx, "signin-error")
}
