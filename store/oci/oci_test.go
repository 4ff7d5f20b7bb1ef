package oci_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	nethttp "net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"caravel/store"
	"caravel/store/http"
	"caravel/store/oci"
)

func TestNewRefuses(t *testing.T) {
	for location, want := range map[string]string{
		"http://h/r":                   "not an oci",
		"oci+http://h":                 "repository",
		"oci+http:///r":                "names no registry",
		"oci+http://h/UPPER":           "lower case",
		"oci+http://h/a b":             "lower case",
		"oci+https://u:secret@h/r":     "not written in its URL",
		"oci+https://h/r?token=secret": "takes no ?",
		"oci+https://h:p:q/r":          "URL",
	} {
		_, err := oci.New(location, oci.Options{})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v, want %q", location, err, want)
		}
	}
	for _, location := range []string{"oci+http://h/", "oci+http://h/only", "oci+http://h/r/"} {
		if _, name, err := oci.Object(location, oci.Options{}); err == nil {
			t.Errorf("%s: %q", location, name)
		}
	}
	r, name, err := oci.Object("oci+https://h/images/tree.caidx", oci.Options{})
	if err != nil || name != "tree.caidx" || r.String() != "oci+https://h/images" || r.Locate(name) != "oci+https://h/images/tree.caidx" {
		t.Errorf("%v, %q, %v", r, name, err)
	}
}

// What a registry says is believed as far as it can be.
func TestHostileRegistry(t *testing.T) {
	const content = "content"
	blob := digest.FromString(content)
	manifest := func(artifact, layers string) string {
		return fmt.Sprintf(`{"schemaVersion": 2, "artifactType": %q, "layers": [%s]}`, artifact, layers)
	}
	layer := func(size int64, sum string) string { return fmt.Sprintf(`{"size": %d, "digest": %q}`, size, sum) }
	const file = "application/vnd.caravel.file.v1"
	tests := []struct {
		name, manifest string
		status         int
		kind           error // nil: worth another try
		want           string
	}{
		{"of another kind", manifest("application/vnd.other", layer(7, string(blob))), 200, store.ErrMissing, "something else"},
		{"of no layer", manifest(file, ""), 200, store.ErrRefused, "0 layers"},
		{"of two layers", manifest(file, layer(7, string(blob))+","+layer(7, string(blob))), 200, store.ErrRefused, "2 layers"},
		{"below zero", manifest(file, layer(-1, string(blob))), 200, store.ErrRefused, "-1 bytes"},
		{"too large", manifest(file, layer(1<<30+1, string(blob))), 200, store.ErrRefused, "1073741825 bytes"},
		{"elsewhere", manifest(file, layer(7, "sha256:../../../secret")), 200, store.ErrRefused, "sha256:.."},
		{"of another size", manifest(file, layer(8, string(blob))), 200, store.ErrRefused, "has 7 bytes"},
		{"no JSON", "<html>", 200, store.ErrRefused, "malformed"},
		{"endless", strings.Repeat(" ", 70_000), 200, store.ErrRefused, "65536"},
		{"of a lost blob", manifest(file, layer(7, string(digest.FromString("lost")))), 200, store.ErrMissing, "404"},
		{"missing", "", 404, store.ErrMissing, "404"},
		{"forbidden", "", 403, store.ErrRefused, "403"},
		{"broken", "", 500, nil, "500"},
		{"of nobody", "", 401, store.ErrRefused, "401"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			server := httptest.NewServer(nethttp.HandlerFunc(func(w nethttp.ResponseWriter, r *nethttp.Request) {
				switch {
				case strings.HasSuffix(r.URL.Path, "/blobs/"+string(blob)):
					io.WriteString(w, content)
				case !strings.Contains(r.URL.Path, "/manifests/"):
					nethttp.NotFound(w, r)
				default:
					if tt.status == 401 {
						w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
					}
					w.WriteHeader(tt.status)
					io.WriteString(w, tt.manifest)
				}
			}))
			defer server.Close()
			repo, err := oci.New("oci+"+server.URL+"/r", oci.Options{})
			if err != nil {
				t.Fatal(err)
			}
			body, _, err := repo.Open(t.Context(), "file", store.Range{})
			if err == nil {
				body.Close()
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) || store.Final(err) != (tt.kind != nil) || tt.kind != nil && !errors.Is(err, tt.kind) {
				t.Errorf("%v, want %q, of the kind %v", err, tt.want, tt.kind)
			}
			if !strings.Contains(err.Error(), repo.Locate("file")) {
				t.Errorf("%v does not say where", err)
			}
		})
	}
}

// Where a registry keeps its blobs elsewhere, our certificate is not shown there, nor
// who we are.
func TestBlobsElsewhere(t *testing.T) {
	const content = "content"
	blob := digest.FromString(content)
	seen := map[string]int{} // certificates by server
	server := func(name string, answer nethttp.HandlerFunc) *httptest.Server {
		s := httptest.NewUnstartedServer(nethttp.HandlerFunc(func(w nethttp.ResponseWriter, r *nethttp.Request) {
			seen[name] += len(r.TLS.PeerCertificates)
			if _, _, known := r.BasicAuth(); known && name == "elsewhere" {
				t.Error("elsewhere it is known who we are")
			}
			answer(w, r)
		}))
		s.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
		s.StartTLS()
		t.Cleanup(s.Close)
		return s
	}
	elsewhere := server("elsewhere", func(w nethttp.ResponseWriter, _ *nethttp.Request) { io.WriteString(w, content) })
	registry := server("registry", func(w nethttp.ResponseWriter, r *nethttp.Request) {
		if _, _, known := r.BasicAuth(); !known {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(nethttp.StatusUnauthorized)
			return
		}
		if strings.Contains(r.URL.Path, "/blobs/") {
			nethttp.Redirect(w, r, elsewhere.URL+"/blob", nethttp.StatusTemporaryRedirect)
			return
		}
		fmt.Fprintf(w, `{"artifactType": "application/vnd.caravel.file.v1", "layers": [{"size": %d, "digest": %q}]}`, len(content), blob)
	})
	config := registry.Client().Transport.(*nethttp.Transport).TLSClientConfig.Clone()
	config.Certificates = registry.TLS.Certificates
	repo, err := oci.New("oci+"+registry.URL+"/r", oci.Options{User: "me", Password: "secret", HTTP: http.Options{TLS: config}})
	if err != nil {
		t.Fatal(err)
	}
	body, _, err := repo.Open(t.Context(), "file", store.Range{})
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if got, err := io.ReadAll(body); err != nil || string(got) != content {
		t.Errorf("%q, %v", got, err)
	}
	if seen["registry"] == 0 || seen["elsewhere"] != 0 {
		t.Errorf("certificates shown: %v", seen)
	}
}

// TestListMany lists more than fits into a manifest: a registry that knows of no pages
// gives all tags in one answer.
func TestListMany(t *testing.T) {
	const many = 3000
	s := httptest.NewServer(nethttp.HandlerFunc(func(w nethttp.ResponseWriter, r *nethttp.Request) {
		fmt.Fprint(w, `{"name": "images", "tags": ["`)
		for i := range many {
			fmt.Fprintf(w, `%064x.cacnk","`, i)
		}
		fmt.Fprintf(w, `%064x.cacnk"]}`, many)
	}))
	defer s.Close()
	r, err := oci.New("oci+"+s.URL+"/images", oci.Options{})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, err := range r.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != many+1 {
		t.Errorf("%d names, want %d", n, many+1)
	}
}
