package portal

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"verdant/hcert/barcode"
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
		t.Skip("no Chromium here: install the package chromium to test the pages in a browser")
	}
	// Short, because the browser makes a socket in it, whose path has a limit.
	home, err := os.MkdirTemp("", "b")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(home) })
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.WindowSize(1180, 1000),
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

func run(t *testing.T, ctx context.Context, what string, steps ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	if err := chromedp.Do(ctx, steps...); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// ask runs an action that has a result.
func ask[T any](t *testing.T, ctx context.Context, what string, a chromedp.Action[T]) T {
	t.Helper()
	got, err := chromedp.Run(ctx, a)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	return got
}

// shot keeps a picture of the page for people, in the directory named by
// VERDANT_SCREENSHOTS.
func shot(t *testing.T, ctx context.Context, name string) {
	t.Helper()
	dir := os.Getenv("VERDANT_SCREENSHOTS")
	if dir == "" {
		return
	}
	ask(t, ctx, "loaded", chromedp.Evaluate[bool](`new Promise(done => document.readyState === "complete" ? done(true) : addEventListener("load", () => done(true)))`, chromedp.EvalAwaitPromise))
	png := ask(t, ctx, "screenshot "+name, chromedp.FullScreenshot(100))
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o600); err != nil {
		t.Fatal(err)
	}
}

// byID names an element by its id, which has dots.
func byID(name string) chromedp.CSS { return chromedp.CSS(`[id="` + name + `"]`) }

// pressEnter presses the key as a keyboard does. chromedp's own Enter sends a
// character after the key, which a browser drops once the key was acted on.
func pressEnter(ctx context.Context, t *chromedp.Target) error {
	for _, kind := range []input.DispatchKeyEventType{input.DispatchKeyEventTypeRawKeyDown, input.DispatchKeyEventTypeKeyUp} {
		if _, err := cdp.Call(ctx, t, input.DispatchKeyEvent, input.DispatchKeyEventParams{
			Type: kind, Key: "Enter", Code: "Enter", WindowsVirtualKeyCode: 13, NativeVirtualKeyCode: 13}); err != nil {
			return err
		}
	}
	return nil
}

func TestInChromiumTheFormIsFilledWithTheKeyboardAndTheCodeReadsBack(t *testing.T) {
	ctx := chromium(t)
	w := newWorld(t)
	css := func(s string) chromedp.CSS { return chromedp.CSS(s) }
	focus := func() string { return ask(t, ctx, "focus", chromedp.Evaluate[string](`document.activeElement.id`)) }
	width := func() int {
		return ask(t, ctx, "width", chromedp.Evaluate[int](`document.documentElement.scrollWidth`))
	}

	run(t, ctx, "start page", chromedp.Navigate(w.url), chromedp.WaitVisible(css("a.button")))
	shot(t, ctx, "start")
	run(t, ctx, "sign in", chromedp.Click(css("a.button")), chromedp.WaitVisible(byID(inGiven)))
	shot(t, ctx, "form")

	run(t, ctx, "submit with mistakes",
		chromedp.SendKeys(byID(inGiven), "Saoirse"),
		chromedp.SendKeys(byID("dob.day"), "31"), chromedp.SendKeys(byID("dob.month"), "2"), chromedp.SendKeys(byID("dob.year"), "1988"),
		chromedp.Click(css("main button[type=submit]")), chromedp.WaitVisible(css("#summary")))
	shot(t, ctx, "mistakes")
	beside := ask(t, ctx, "complaint", chromedp.Text(byID(inBirth+"-error")))
	if at := focus(); at != "summary" || !strings.Contains(beside, "not a day of the calendar") {
		t.Errorf("after mistakes: focus is on %q, beside the date %q", at, beside)
	}

	// From the summary's first link on, only the keyboard.
	run(t, ctx, "follow the first complaint", chromedp.Focus(css(".summary a")), chromedp.Func(pressEnter))
	if at := focus(); at != inBirth+".day" {
		t.Errorf("the first complaint leads to %q, want the date of birth", at)
	}
	order := ask(t, ctx, "walk through the form", chromedp.Evaluate[[]string](`[...document.querySelectorAll("form.record input:not([type=hidden]), form.record select, form.record button")].filter(e => e.checkVisibility()).map(e => e.id || e.type)`))
	if got := strings.Join(order, " "); !strings.HasPrefix(got, "nam.gn nam.fn dob.day dob.month dob.year") || !strings.HasSuffix(got, "v.co v.is submit") {
		t.Errorf("order of the inputs: %s", got)
	}
	run(t, ctx, "fill in",
		chromedp.Clear(byID("dob.day")), chromedp.SendKeys(byID("dob.day"), "12"),
		chromedp.Clear(byID("dob.month")), chromedp.SendKeys(byID("dob.month"), "4"),
		chromedp.SendKeys(byID(inFamily), "Ní Bhriain"),
		chromedp.SendKeys(byID(inProduct), "Comirnaty"),
		chromedp.SendKeys(byID(inDose), "2"), chromedp.SendKeys(byID(inDoses), "2"),
		chromedp.SendKeys(byID("v.dt.day"), "1"), chromedp.SendKeys(byID("v.dt.month"), "2"), chromedp.SendKeys(byID("v.dt.year"), "2026"))
	shot(t, ctx, "filled")
	run(t, ctx, "issue", chromedp.SendKeys(byID(inIssuer), kb.Enter), chromedp.WaitVisible(css(".qr svg")))
	shot(t, ctx, "certificate")
	uvci, tan := ask(t, ctx, "uvci", chromedp.Text(css("#uvci"))), ask(t, ctx, "tan", chromedp.Text(css("#tan")))
	hc1 := ask(t, ctx, "hc1", chromedp.TextContent(css("#hc1")))
	if !strings.HasPrefix(uvci, "URN:UVCI:01:IE:") || tan != "ABCD2345" {
		t.Errorf("got UVCI %q, TAN %q", uvci, tan)
	}
	qr := ask(t, ctx, "picture of the code", chromedp.Screenshot(css(".qr svg")))
	if text, err := barcode.Read(bytes.NewReader(qr)); err != nil || text != hc1 {
		t.Errorf("the code on the screen reads %.20q…, %v", text, err)
	}

	// A telephone's width: nothing may stick out.
	run(t, ctx, "narrow", chromedp.EmulateViewport(360, 740))
	shot(t, ctx, "certificate-narrow")
	if got := width(); got > 360 {
		t.Errorf("the certificate is %d pixels wide on a screen of 360", got)
	}
	run(t, ctx, "narrow form", chromedp.Navigate(w.url+"/vaccination"), chromedp.WaitVisible(byID(inGiven)))
	shot(t, ctx, "form-narrow")
	if got := width(); got > 360 {
		t.Errorf("the form is %d pixels wide on a screen of 360", got)
	}
	run(t, ctx, "sign out", chromedp.Click(css(".who button")), chromedp.WaitNotPresent(css(".who")))
	if got := ask(t, ctx, "page after", chromedp.Text(css("body"))); !strings.Contains(got, "signed out") {
		t.Errorf("after signing out: %q", got)
	}
}
