package entra

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"mime"
	"net/http"
	"path"
)

//go:embed page
var pageFiles embed.FS

// pages are the service's few HTML pages. They work without scripts, load
// nothing from elsewhere, and cannot be framed.
type pages struct {
	templates *template.Template
}

func newPages() (*pages, error) {
	t, err := template.ParseFS(pageFiles, "page/*.html")
	if err != nil {
		return nil, fmt.Errorf("pages: %w", err)
	}
	return &pages{t}, nil
}

// show writes a page. formTarget is a further origin that its form may lead
// to.
func (p *pages) show(w http.ResponseWriter, status int, name, formTarget string, data any) {
	var body bytes.Buffer
	if err := p.templates.ExecuteTemplate(&body, name, data); err != nil {
		http.Error(w, "The page could not be made.", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; img-src 'self'; script-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'self' "+formTarget)
	w.WriteHeader(status)
	_, _ = w.Write(body.Bytes())
}

func (p *pages) serveAsset(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("file")
	switch name {
	case "signin.css", "post.js", "mark.svg":
	default:
		http.NotFound(w, r)
		return
	}
	body, err := pageFiles.ReadFile("page/" + name)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", mime.TypeByExtension(path.Ext(name)))
	w.Header().Set("Cache-Control", "public, max-age=300")
	_, _ = w.Write(body)
}
