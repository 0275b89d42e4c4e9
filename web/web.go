// Package web holds the embedded assets of the web pages: HTML templates,
// style sheets, scripts and pictures. They load nothing from elsewhere, so
// that a page's content security policy can forbid it. The package knows no
// service; each takes its own directory.
package web

import (
	"embed"
	"io/fs"
)

//go:embed portal
var files embed.FS

// Portal returns the issuance portal's templates and assets.
func Portal() fs.FS { return sub("portal") }

func sub(dir string) fs.FS {
	f, err := fs.Sub(files, dir)
	if err != nil {
		panic(err) // dir is a constant and valid
	}
	return f
}
