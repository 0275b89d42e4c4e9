package test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"verdant/hcert/barcode"
)

// TestPortalInChromium signs a health professional in through the identity
// service's page, fills in the vaccination form and reads the certificate off
// the screen, against the whole estate.
func TestPortalInChromium(t *testing.T) {
	full(t)
	path := need(t, "chromium")
	e := startEstate(t, "auto")
	ctx := browser(t, path)
	status, err := e.status()
	if err != nil {
		t.Fatal(err)
	}
	portal := status.address("issuance portal")
	css := func(s string) chromedp.CSS { return chromedp.CSS(s) }
	byID := func(s string) chromedp.CSS { return chromedp.CSS(`[id="` + s + `"]`) }
	run := func(what string, steps ...chromedp.Action[chromedp.Void]) {
		t.Helper()
		if err := chromedp.Do(ctx, steps...); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	text := func(what string, a chromedp.Action[string]) string {
		t.Helper()
		got, err := chromedp.Run(ctx, a)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		return got
	}

	run("open the portal", chromedp.Navigate(portal), chromedp.WaitVisible(css("a.button")))
	shot(t, ctx, "1-portal")
	run("go to sign in", chromedp.Click(css("a.button")), chromedp.WaitVisible(css("input[type=password]")))
	shot(t, ctx, "2-sign-in")
	run("wrong password", chromedp.SendKeys(css("#username"), "professional@verdant.localhost"),
		chromedp.SendKeys(css("input[type=password]"), "not the password"), chromedp.Click(css("button[type=submit]")), chromedp.WaitVisible(css("[role=alert]")))
	shot(t, ctx, "3-wrong-password")
	run("sign in", chromedp.SendKeys(css("input[type=password]"), e.password("professional")), chromedp.Click(css("button[type=submit]")),
		chromedp.WaitVisible(byID("nam.gn")))
	run("fill in the form",
		chromedp.SendKeys(byID("nam.gn"), "Saoirse"), chromedp.SendKeys(byID("nam.fn"), "Ní Bhriain"),
		chromedp.SendKeys(byID("dob.day"), "12"), chromedp.SendKeys(byID("dob.month"), "4"), chromedp.SendKeys(byID("dob.year"), "1988"),
		chromedp.SendKeys(byID("v.mp"), "Comirnaty"), chromedp.SendKeys(byID("v.dn"), "2"), chromedp.SendKeys(byID("v.sd"), "2"),
		chromedp.SendKeys(byID("v.dt.day"), "1"), chromedp.SendKeys(byID("v.dt.month"), "10"), chromedp.SendKeys(byID("v.dt.year"), "2026"))
	shot(t, ctx, "4-form")
	run("issue", chromedp.Click(css("main button[type=submit]")), chromedp.WaitVisible(css(".qr svg")))
	shot(t, ctx, "5-certificate")
	hc1 := text("text of the certificate", chromedp.TextContent(css("#hc1")))
	picture, err := chromedp.Run(ctx, chromedp.Screenshot(css(".qr svg")))
	if err != nil {
		t.Fatal(err)
	}
	if scanned, err := barcode.Read(bytes.NewReader(picture)); err != nil || scanned != hc1 {
		t.Errorf("the code on the screen reads %.20q…, %v", scanned, err)
	}
	if out := e.must("cert", "verify", hc1); !strings.HasPrefix(out, "VALID: vaccination") {
		t.Errorf("the certificate on the screen: %s", out)
	}
}

// password reads a demo user's password off what `verdant up` printed.
func (e *estateUnderTest) password(user string) string {
	e.t.Helper()
	found := regexp.MustCompile(user + `@verdant\.localhost\s+(\S+)`).FindStringSubmatch(e.upOutput)
	if found == nil {
		e.t.Fatalf("up printed no password of %s:\n%s", user, e.upOutput)
	}
	return found[1]
}

// browser starts a Chromium that resolves no name but the estate's.
func browser(t *testing.T, path string) context.Context {
	t.Helper()
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.WindowSize(1180, 1000),
		chromedp.Flag("ignore-certificate-errors", true), // the estate's own root, in a browser made for this test
		chromedp.Flag("host-resolver-rules", "MAP *.verdant.localhost 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"), chromedp.Flag("no-proxy-server", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-domain-reliability", true),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true), chromedp.UserDataDir(t.TempDir()))
	if os.Geteuid() == 0 {
		opts = append(opts, chromedp.NoSandbox)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
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

// shot keeps a picture for people, in the directory named by
// VERDANT_SCREENSHOTS.
func shot(t *testing.T, ctx context.Context, name string) {
	t.Helper()
	dir := os.Getenv("VERDANT_SCREENSHOTS")
	if dir == "" {
		return
	}
	png, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name+".png"), png, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}
