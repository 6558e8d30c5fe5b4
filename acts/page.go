package acts

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"mime"
	"net/http"
	"path"
)

//go:embed page
var pageFiles embed.FS

// asset is one file of the page. A browser asks for it again with its tag each time:
// containers of two versions may answer during a roll-out.
type asset struct {
	body        []byte
	contentType string
	tag         string
}

// assets reads the page's files; that they are there the build has seen to.
func assets() map[string]asset {
	all := map[string]asset{}
	files, err := fs.ReadDir(pageFiles, "page")
	if err != nil {
		panic(err) // not embedded: no such program can be built
	}
	types := map[string]string{".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".html": "text/html; charset=utf-8", ".svg": "image/svg+xml"}
	for _, f := range files {
		b, err := fs.ReadFile(pageFiles, "page/"+f.Name())
		if err != nil {
			panic(err)
		}
		t := types[path.Ext(f.Name())]
		if t == "" {
			t = mime.TypeByExtension(path.Ext(f.Name()))
		}
		sum := sha256.Sum256(b)
		all[f.Name()] = asset{b, t, `"` + hex.EncodeToString(sum[:8]) + `"`}
	}
	return all
}

// pageRoutes are what a browser sees.
func (s *Service) pageRoutes(m *mux) {
	s.assets = assets()
	m.handle("GET", "/", func(w http.ResponseWriter, r *http.Request) { s.asset(w, r, "index.html") })
	m.handle("GET", "/assets/{file}", func(w http.ResponseWriter, r *http.Request) { s.asset(w, r, r.PathValue("file")) })
}

func (s *Service) asset(w http.ResponseWriter, r *http.Request, name string) {
	a, ok := s.assets[name]
	if !ok {
		fail(w, http.StatusNotFound, "no such path: %s", r.URL.Path)
		return
	}
	h := w.Header()
	h.Set("Content-Type", a.contentType)
	h.Set("ETag", a.tag)
	h.Set("Cache-Control", "no-cache")
	serveContent(w, r, bytes.NewReader(a.body))
}
