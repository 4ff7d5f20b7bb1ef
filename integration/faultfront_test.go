//go:build linux

package integration

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"caravel/store"
	"caravel/store/storetest"
)

// A front stands before a web server, and can answer in its place.
type front struct {
	url     string
	address string
	says    atomic.Int32 // the status of each answer; 0: what the server says
}

// startFront starts one, with TLS if there is a certificate. change makes something
// else of a request; nil: nothing. A server that does not answer is a connection that
// ends.
func startFront(t testing.TB, server string, cert *tls.Certificate, change func(*httputil.ProxyRequest)) *front {
	t.Helper()
	target, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	silent := log.New(io.Discard, "", 0)
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host // signatures are of it
			r.SetXForwarded()
			if change != nil {
				change(r)
			}
		},
		// No connection is kept: what is left of one here is not the store's.
		Transport:    &http.Transport{DisableKeepAlives: true, DisableCompression: true},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
		ErrorLog:     silent,
	}
	f := &front{}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		code := int(f.says.Load())
		if code == 0 {
			proxy.ServeHTTP(w, r)
			return
		}
		_, _ = io.Copy(io.Discard, r.Body) // who sends hears the answer when all is sent
		if code == http.StatusTooManyRequests || code == http.StatusServiceUnavailable {
			w.Header().Set("Retry-After", "7")
		}
		http.Error(w, "out of order", code)
	}))
	s.Config.ErrorLog = silent
	if cert != nil {
		s.TLS = &tls.Config{Certificates: []tls.Certificate{*cert}}
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	f.url, f.address = s.URL, s.Listener.Addr().String()
	return f
}

// answers are what a server behind the front can say.
func (f *front) answers() (all []storetest.Answer) {
	for code, kind := range map[int]error{
		http.StatusUnauthorized: store.ErrRefused, http.StatusForbidden: store.ErrRefused, http.StatusNotFound: store.ErrMissing,
		http.StatusTooManyRequests: nil, http.StatusInternalServerError: nil, http.StatusServiceUnavailable: nil,
	} {
		a := storetest.Answer{Name: fmt.Sprint(code), Address: f.address, Says: fmt.Sprint(code), Kind: kind}
		if code == http.StatusTooManyRequests || code == http.StatusServiceUnavailable {
			a.Busy = 7 * time.Second
		}
		a.Give = func(testing.TB) func() {
			f.says.Store(int32(code))
			return func() { f.says.Store(0) }
		}
		all = append(all, a)
	}
	return all
}

// A badCertificate is one that nobody may take, and who would if it were not for that.
type badCertificate struct {
	name      string
	cert, key string // files
	pair      tls.Certificate
	trust     *tls.Config
	says      string
}

// badCertificates are those of 127.0.0.1.
func badCertificates(t testing.TB) []badCertificate {
	t.Helper()
	all := []badCertificate{
		{name: "expired certificate", says: "certificate has expired"},
		{name: "another host's certificate", says: "certificate is valid for 127.0.0.9, not 127.0.0.1"},
		{name: "another authority's certificate", says: "certificate signed by unknown authority"},
	}
	for i := range all {
		b, dir, end, ip := &all[i], t.TempDir(), time.Now().Add(time.Hour), net.IPv4(127, 0, 0, 1)
		switch i {
		case 0:
			end = time.Now().Add(-time.Minute)
		case 1:
			ip = net.IPv4(127, 0, 0, 9)
		}
		b.cert, b.key = certificateOf(t, dir, ip, end)
		var err error
		if b.pair, err = tls.LoadX509KeyPair(b.cert, b.key); err != nil {
			t.Fatal(err)
		}
		trusted := b.cert
		if i == 2 {
			trusted, _ = certificate(t, t.TempDir())
		}
		b.trust = &tls.Config{RootCAs: x509.NewCertPool()}
		b.trust.RootCAs.AppendCertsFromPEM(read(t, trusted))
	}
	return all
}
