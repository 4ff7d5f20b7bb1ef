package http_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	nethttp "net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"caravel/store"
	"caravel/store/http"
)

func countNew(n *atomic.Int64) func(net.Conn, nethttp.ConnState) {
	return func(_ net.Conn, state nethttp.ConnState) {
		if state == nethttp.StateNew {
			n.Add(1)
		}
	}
}

func TestStatus(t *testing.T) {
	const missing, refused, busy, temporary = "missing", "refused", "busy", "temporary"
	classify := func(err error) string {
		busyErr := (*store.BusyError)(nil)
		switch {
		case errors.Is(err, store.ErrMissing):
			return missing
		case errors.Is(err, store.ErrRefused):
			return refused
		case errors.As(err, &busyErr):
			return busy
		}
		return temporary
	}
	tests := []struct {
		code int
		kind string
		text string
	}{
		{404, missing, `404 Not Found: "no luck"`},
		{410, missing, `410 Gone: "no luck"`},
		{400, refused, `400 Bad Request: "no luck"`},
		{401, refused, `401 Unauthorized: "no luck"; the server wants to know who asks, as in https://user:password@host/`},
		{403, refused, `403 Forbidden: "no luck"`},
		{204, refused, `204 No Content`},
		{206, refused, `206 Partial Content: "no luck"`},
		{304, refused, `304 Not Modified`},
		{499, refused, `499: "no luck"`},
		{408, temporary, `408 Request Timeout: "no luck"`},
		{425, temporary, `425 Too Early: "no luck"`},
		{500, temporary, `500 Internal Server Error: "no luck"`},
		{502, temporary, `502 Bad Gateway: "no luck"`},
		{599, temporary, `599: "no luck"`},
		{429, busy, `429 Too Many Requests: "no luck"`},
		{503, busy, `503 Service Unavailable: "no luck"`},
	}
	for _, tt := range tests {
		server := serve(t, func(w nethttp.ResponseWriter, r *nethttp.Request) { nethttp.Error(w, "no luck\nat all", tt.code) })
		web := newWeb(t, server.URL, http.Options{})
		_, _, err := web.Open(t.Context(), "file", store.Range{})
		if want := server.URL + "/file: " + tt.text; err == nil || classify(err) != tt.kind || err.Error() != want {
			t.Errorf("got %v (%s), want %s (%s)", err, classify(err), want, tt.kind)
		}
		if _, err := web.Stat(t.Context(), "file"); err == nil || classify(err) != tt.kind {
			t.Errorf("Stat: %d: got %v, want %s", tt.code, err, tt.kind)
		}
	}
}

// A page of HTML says nothing in its first line.
func TestOnlyPlainTextIsShown(t *testing.T) {
	web := newWeb(t, serve(t, func(w nethttp.ResponseWriter, r *nethttp.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(403)
		io.WriteString(w, "<html>")
	}).URL, http.Options{})
	if _, _, err := web.Open(t.Context(), "file", store.Range{}); err == nil || !strings.HasSuffix(err.Error(), "403 Forbidden") {
		t.Errorf("got %v", err)
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	tests := []struct {
		text, date string
		want       time.Duration
	}{
		{"", "", 0},
		{"3", "", 3 * time.Second},
		{"-3", "", 0},
		{"soon", "", 0},
		{"9223372036854775807", "", 24 * time.Hour},
		{"Thu, 01 Jan 2026 12:00:07 GMT", "", 7 * time.Second},
		{"Thu, 01 Jan 2026 11:00:00 GMT", "", 0},
		{"Thu, 01 Jan 2099 11:00:00 GMT", "", 24 * time.Hour},
		{"Thu, 01 Jan 2026 12:00:07 GMT", "Thu, 01 Jan 2026 12:00:02 GMT", 5 * time.Second},
	}
	for _, tt := range tests {
		h := nethttp.Header{"Retry-After": {tt.text}, "Date": {tt.date}}
		if got := http.RetryAfter(h, now); got != tt.want {
			t.Errorf("%q at %q: got %v, want %v", tt.text, tt.date, got, tt.want)
		}
	}
	web := newWeb(t, serve(t, func(w nethttp.ResponseWriter, r *nethttp.Request) {
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(503)
	}).URL, http.Options{})
	_, _, err := web.Open(t.Context(), "file", store.Range{})
	if busy := (*store.BusyError)(nil); !errors.As(err, &busy) || busy.After != 7*time.Second {
		t.Errorf("got %#v, want a BusyError of 7 s", err)
	}
}

func TestRedirects(t *testing.T) {
	var other *httptest.Server
	first := serve(t, func(w nethttp.ResponseWriter, r *nethttp.Request) {
		var n int
		switch r.URL.Path {
		case "/away":
			nethttp.Redirect(w, r, other.URL+"/here", nethttp.StatusTemporaryRedirect)
		case "/file":
			nethttp.Redirect(w, r, "file:///etc/passwd", nethttp.StatusFound)
		default:
			if _, err := fmt.Sscanf(r.URL.Path, "/%d", &n); err != nil {
				t.Error(err)
			}
			if n == 0 {
				io.WriteString(w, r.Header.Get("Token"))
				return
			}
			nethttp.Redirect(w, r, fmt.Sprintf("/%d", n-1), nethttp.StatusFound)
		}
	})
	other = serve(t, func(w nethttp.ResponseWriter, r *nethttp.Request) {
		for _, key := range []string{"Token", "Authorization", "Referer"} {
			if got := r.Header.Get(key); got != "" {
				t.Errorf("another host was told %s: %s", key, got)
			}
		}
		io.WriteString(w, r.Header.Get("Range"))
	})
	base := strings.Replace(first.URL, "http://", "http://user:secret@", 1)
	web := newWeb(t, base+"?key=secret", http.Options{Header: nethttp.Header{"token": {"mine"}}})

	if got, _, err := read(t.Context(), web, "10", store.Range{}); err != nil || got != "mine" {
		t.Errorf("ten redirects: got %q, error %v", got, err)
	}
	if got, _, err := read(t.Context(), web, "away", store.Range{}); err != nil || got != "" {
		t.Errorf("another host: got %q, error %v", got, err)
	}
	for _, name := range []string{"11", "file"} {
		if _, _, err := web.Open(t.Context(), name, store.Range{}); !errors.Is(err, store.ErrRefused) {
			t.Errorf("%s: got %v, want ErrRefused", name, err)
		}
	}
}

// From https nobody is led to http; the other way is fine.
func TestRedirectsBetweenSchemes(t *testing.T) {
	plain := serve(t, nil)
	secure := httptest.NewTLSServer(nethttp.HandlerFunc(func(w nethttp.ResponseWriter, r *nethttp.Request) {
		if r.URL.Path == "/down" {
			nethttp.Redirect(w, r, plain.URL+"/file", nethttp.StatusFound)
		}
	}))
	t.Cleanup(secure.Close)
	plain.Config.Handler = nethttp.RedirectHandler(secure.URL+"/file", nethttp.StatusFound)
	opt := http.Options{Client: secure.Client()}
	if _, _, err := read(t.Context(), newWeb(t, plain.URL, opt), "up", store.Range{}); err != nil {
		t.Errorf("up: %v", err)
	}
	_, _, err := newWeb(t, secure.URL, opt).Open(t.Context(), "down", store.Range{})
	if !errors.Is(err, store.ErrRefused) || !strings.Contains(err.Error(), "redirect from https to http://") {
		t.Errorf("down: got %v, want ErrRefused", err)
	}
}

func FuzzContentRange(f *testing.F) {
	for _, text := range []string{"bytes 0-0/1", "bytes 5-9/*", "bytes 5-4/9", "bytes 0-9223372036854775807/*", "bytes */5", ""} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		first, last, total, ok := http.ParseContentRange(text)
		if !ok {
			return
		}
		if first < 0 || last < first || last+1 < 0 || total >= 0 && last >= total {
			t.Errorf("%q: accepted as %d-%d/%d", text, first, last, total)
		}
		size := "*"
		if total >= 0 {
			size = fmt.Sprint(total)
		}
		again := fmt.Sprintf("bytes %d-%d/%s", first, last, size)
		if f2, l2, t2, ok := http.ParseContentRange(again); !ok || f2 != first || l2 != last || t2 != total {
			t.Errorf("%q: read back as %d-%d/%d from %q", text, f2, l2, t2, again)
		}
	})
}
