package http_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	nethttp "net/http"
	"net/http/httptest"
	"testing"

	"caravel/store"
	"caravel/store/http"
)

// secure serves with TLS, and asks for certificates.
func secure(t *testing.T, h nethttp.HandlerFunc, auth tls.ClientAuthType) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(h)
	server.EnableHTTP2 = true
	server.TLS = &tls.Config{ClientAuth: auth}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}

// trusting is how to reach a test server, showing its own certificate to it.
func trusting(server *httptest.Server) *tls.Config {
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	return &tls.Config{RootCAs: roots, Certificates: server.TLS.Certificates}
}

// A certificate is shown to the host that it is for, and to none that it redirects to.
func TestClientCertificate(t *testing.T) {
	who := func(w nethttp.ResponseWriter, r *nethttp.Request) {
		if len(r.TLS.PeerCertificates) > 0 {
			io.WriteString(w, "known")
			return
		}
		io.WriteString(w, "unknown")
	}
	other := secure(t, who, tls.RequestClientCert)
	first := secure(t, func(w nethttp.ResponseWriter, r *nethttp.Request) {
		if r.URL.Path == "/away" {
			nethttp.Redirect(w, r, other.URL+"/file", nethttp.StatusFound)
			return
		}
		who(w, r)
	}, tls.RequireAnyClientCert)
	web := newWeb(t, first.URL, http.Options{TLS: trusting(first)})
	for name, want := range map[string]string{"file": "known", "away": "unknown"} {
		if got, _, err := read(t.Context(), web, name, store.Range{}); err != nil || got != want {
			t.Errorf("%s: got %q, error %v; want %q", name, got, err, want)
		}
	}

	bare := trusting(first)
	bare.Certificates = nil
	web = newWeb(t, first.URL, http.Options{TLS: bare})
	// Sometimes the server has gone before we read why.
	var err error
	for range 100 {
		if _, _, err = read(t.Context(), web, "file", store.Range{}); err == nil || errors.Is(err, store.ErrRefused) {
			break
		}
	}
	if !errors.Is(err, store.ErrRefused) {
		t.Errorf("without a certificate: got %v, want ErrRefused", err)
	}
}

// What lets us in is asked for each time, goes to the first host only, and yields to a
// user in the URL.
func TestAuthorization(t *testing.T) {
	say := func(w nethttp.ResponseWriter, r *nethttp.Request) { io.WriteString(w, r.Header.Get("Authorization")) }
	other := serve(t, say)
	first := serve(t, func(w nethttp.ResponseWriter, r *nethttp.Request) {
		if r.URL.Path == "/away" {
			nethttp.Redirect(w, r, other.URL+"/file", nethttp.StatusFound)
			return
		}
		say(w, r)
	})
	token, broken := "Bearer one", error(nil)
	opt := http.Options{Authorization: func() (string, error) { return token, broken }}
	web := newWeb(t, first.URL, opt)
	expect := func(name, want string) {
		t.Helper()
		if got, _, err := read(t.Context(), web, name, store.Range{}); err != nil || got != want {
			t.Errorf("%s: got %q, error %v; want %q", name, got, err, want)
		}
	}
	expect("file", "Bearer one")
	token = "Bearer two"
	expect("file", "Bearer two")
	expect("away", "")
	broken = errors.New("no token today")
	if _, _, err := read(t.Context(), web, "file", store.Range{}); !errors.Is(err, broken) || errors.Is(err, store.ErrRefused) {
		t.Errorf("got %v, want one that may pass", err)
	}
	broken = nil
	web = newWeb(t, "http://user:pw@"+first.Listener.Addr().String(), opt)
	expect("file", "Basic dXNlcjpwdw==")
}
