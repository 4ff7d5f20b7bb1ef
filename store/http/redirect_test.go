package http_test

import (
	"errors"
	"io"
	nethttp "net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"caravel/store"
	"caravel/store/http"
)

// What a redirect may say, and what becomes of it.
func TestRedirectTargets(t *testing.T) {
	server := serve(t, func(w nethttp.ResponseWriter, r *nethttp.Request) {
		if r.URL.Path == "/d/target" {
			io.WriteString(w, r.RequestURI+" "+r.Header.Get("Range"))
			return
		}
		w.Header()["Location"] = []string{r.URL.Query().Get("to")}
		w.WriteHeader(nethttp.StatusFound)
	})
	tests := []struct{ to, want, err string }{
		{"target", "/d/target bytes=0-999", ""},
		{"/d/target?x=1%202#part", "/d/target?x=1%202 bytes=0-999", ""},
		{"http://user:secret@HOST/d/target", "/d/target bytes=0-999", ""},
		{"//HOST/d/target", "/d/target bytes=0-999", ""},
		{"", "", "302 Found"},
		{"http://%zz/", "", "redirect to a malformed URL"},
		{"http:///d/target", "", "redirect to a URL without a host"},
		{"mailto:somebody", "", "redirect from http to mailto://"},
	}
	for _, tt := range tests {
		t.Run(tt.to, func(t *testing.T) {
			to := strings.ReplaceAll(tt.to, "HOST", strings.TrimPrefix(server.URL, "http://"))
			query := strings.NewReplacer("%", "%25", "#", "%23", "?", "%3F", "&", "%26").Replace(to)
			web := newWeb(t, server.URL+"/d?to="+query, http.Options{})
			got, _, err := read(t.Context(), web, "file", store.Range{Len: 1000})
			if tt.err != "" {
				if !errors.Is(err, store.ErrRefused) || !strings.Contains(err.Error(), tt.err) || strings.Contains(err.Error(), "secret") {
					t.Errorf("got %v, want %q in it", err, tt.err)
				}
				return
			}
			if err != nil || got != tt.want {
				t.Errorf("got %q, error %v; want %q", got, err, tt.want)
			}
		})
	}
}

// What another host must not know does not come back with a redirect to the
// first one either: that is where the other one wants us to be.
func TestRedirectThereAndBack(t *testing.T) {
	var there, back *httptest.Server
	there = serve(t, func(w nethttp.ResponseWriter, r *nethttp.Request) {
		if r.URL.Path == "/second" {
			io.WriteString(w, r.Header.Get("Token")+r.Header.Get("Authorization"))
			return
		}
		if r.Header.Get("Token") != "mine" {
			t.Errorf("the first host is told %q", r.Header.Get("Token"))
		}
		nethttp.Redirect(w, r, back.URL, nethttp.StatusPermanentRedirect)
	})
	back = serve(t, func(w nethttp.ResponseWriter, r *nethttp.Request) {
		nethttp.Redirect(w, r, there.URL+"/second", nethttp.StatusSeeOther)
	})
	base := strings.Replace(there.URL, "http://", "http://user:secret@", 1)
	web := newWeb(t, base, http.Options{Header: nethttp.Header{"Token": {"mine"}}})
	if got, _, err := read(t.Context(), web, "first", store.Range{}); err != nil || got != "" {
		t.Errorf("got %q, error %v", got, err)
	}
}
