package portal

import (
	"bytes"
	"crypto/hmac"
	"errors"
	"fmt"
	"html/template"
	"image"
	"image/color"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"

	"verdant/hcert/barcode"
	"verdant/web"
)

// pages makes HTML of the embedded templates.
type pages struct {
	templates *template.Template
	files     fs.FS
	policy    string
}

// newPages parses the templates. signInOrigin is where the sign-out form
// leads.
func newPages(signInOrigin string) (*pages, error) {
	files := web.Portal()
	t, err := template.New("").Funcs(template.FuncMap{"dict": dict}).ParseFS(files, "*.html")
	if err != nil {
		return nil, fmt.Errorf("pages: %w", err)
	}
	return &pages{t, files, "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'self' " + signInOrigin}, nil
}

// dict makes a map of names and values, the arguments of a partial template.
func dict(pairs ...any) (map[string]any, error) {
	m := map[string]any{}
	for i := 0; i+1 < len(pairs); i += 2 {
		name, ok := pairs[i].(string)
		if !ok {
			return nil, fmt.Errorf("dict: name %d is a %T", i, pairs[i])
		}
		m[name] = pairs[i+1]
	}
	return m, nil
}

func (p *pages) show(w http.ResponseWriter, status int, name string, data any) {
	var body bytes.Buffer
	if err := p.templates.ExecuteTemplate(&body, name, data); err != nil {
		http.Error(w, "The page could not be made.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", p.policy)
	w.WriteHeader(status)
	_, _ = w.Write(body.Bytes())
}

func (p *pages) asset(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("file")
	kind := mime.TypeByExtension(path.Ext(name))
	switch path.Ext(name) {
	case ".css", ".js", ".svg":
	default:
		http.NotFound(w, r)
		return
	}
	body, err := fs.ReadFile(p.files, name)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Cache-Control", "public, max-age=300")
	_, _ = w.Write(body)
}

// start shows what the portal is, or goes on to the form.
func (s *Server) start(w http.ResponseWriter, r *http.Request) {
	if s.session(r) != nil {
		http.Redirect(w, r, "/vaccination", http.StatusSeeOther)
		return
	}
	s.pages.show(w, http.StatusOK, "start.html", map[string]any{"SignedOut": r.URL.Query().Has("signed-out")})
}

// problemPage says what went wrong and what to do.
func (s *Server) problemPage(w http.ResponseWriter, r *http.Request, status int, title, text, code string) {
	data := map[string]any{"Title": title, "Text": text, "Code": code}
	if sess := s.session(r); sess != nil {
		data["Person"] = sess.name
		data["MayIssue"] = s.mayIssue(sess.roles)
	}
	s.pages.show(w, status, "problem.html", data)
}

var errNoQR = errors.New("no code to draw")

// qrSVG draws a text as a QR code in SVG: one path of horizontal runs, so that
// it prints sharply at any size.
func qrSVG(text string) (string, error) {
	if text == "" {
		return "", errNoQR
	}
	img, err := barcode.QR(text, 1)
	if err != nil {
		return "", err
	}
	b := img.Bounds()
	var d strings.Builder
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			if !dark(img, x, y) {
				continue
			}
			from := x
			for x < b.Max.X && dark(img, x, y) {
				x++
			}
			fmt.Fprintf(&d, "M%d %dh%dv1h-%dz", from-b.Min.X, y-b.Min.Y, x-from, x-from)
		}
	}
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" shape-rendering="crispEdges" role="img" aria-labelledby="qr-title"><title id="qr-title">QR code of the certificate</title><path fill="#fff" d="M0 0h%dv%dH0z"/><path fill="#000" d="%s"/></svg>`,
		b.Dx(), b.Dy(), b.Dx(), b.Dy(), d.String()), nil
}

func dark(img image.Image, x, y int) bool {
	g, ok := color.GrayModel.Convert(img.At(x, y)).(color.Gray)
	return ok && g.Y < 128
}

func sameSecret(got, want string) bool { return want != "" && hmac.Equal([]byte(got), []byte(want)) }
