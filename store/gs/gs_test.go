package gs_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net"
	nethttp "net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"caravel/store"
	"caravel/store/gs"
	"caravel/store/http"
)

func TestNewRefuses(t *testing.T) {
	for location, want := range map[string]string{
		"http://bucket/x":            "not a gs URL",
		"gs:///x":                    "names no bucket",
		"gs://bucket:1/x":            "names no bucket",
		"gs://key:secret@bucket/x":   "do not belong into a URL",
		"gs://bucket/x?token=secret": "%3F",
		"gs://bucket/%zz":            "malformed",
	} {
		if _, err := gs.New(location, gs.Options{}); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v, want %q", location, err, want)
		}
	}
	for _, location := range []string{"gs://bucket", "gs://bucket/", "gs://bucket/folder/"} {
		if _, name, err := gs.Object(location, gs.Options{}); err == nil {
			t.Errorf("%s: names %q", location, name)
		}
	}
	for location, want := range map[string][2]string{
		"gs://bucket/x":          {"gs://bucket", "x"},
		"gs://bucket/a/b/x.tree": {"gs://bucket/a/b", "x.tree"},
		"gs://bucket/a%20b/%3F":  {"gs://bucket/a b", "?"},
	} {
		b, name, err := gs.Object(location, gs.Options{})
		if err != nil || b.String() != want[0] || name != want[1] || b.Locate(name) != want[0]+"/"+want[1] {
			t.Errorf("%s: %v, %q, %v", location, b, name, err)
		}
	}
}

// A service is Google's, and where tokens come from, as far as the test's client knows.
type service struct {
	*httptest.Server
	shown []string // Authorization of requests for objects
}

func newService(t *testing.T) *service {
	s := &service{}
	s.Server = httptest.NewTLSServer(nethttp.HandlerFunc(func(w nethttp.ResponseWriter, r *nethttp.Request) {
		s.shown = append(s.shown, r.Header.Get("Authorization"))
		if r.URL.Path != "/bucket/folder/x" || r.Host != "storage.googleapis.com" || r.Header.Get("Authorization") != "Bearer opensesame" {
			nethttp.Error(w, "who are you?", nethttp.StatusUnauthorized)
			return
		}
		io.WriteString(w, "content")
	}))
	t.Cleanup(s.Close)
	return s
}

// client takes the service for Google's.
func (s *service) client() *nethttp.Client {
	address := s.Listener.Addr().String()
	return &nethttp.Client{Transport: &nethttp.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // it has no certificate of that name
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, address)
		},
	}}
}

// account writes a service account's file, whose tokens come from a server.
func account(t *testing.T) string {
	tokens := httptest.NewServer(nethttp.HandlerFunc(func(w nethttp.ResponseWriter, r *nethttp.Request) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"access_token": "opensesame", "token_type": "Bearer", "expires_in": 3600}`)
	}))
	t.Cleanup(tokens.Close)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(map[string]string{
		"type": "service_account", "client_email": "me@example.com", "private_key_id": "1", "token_uri": tokens.URL,
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
	})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "account.json")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// The application default credentials let us in.
func TestCredentials(t *testing.T) {
	s := newService(t)
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", account(t))
	b, err := gs.New("gs://bucket/folder", gs.Options{HTTP: http.Options{Client: s.client()}})
	if err != nil {
		t.Fatal(err)
	}
	body, _, err := b.Open(t.Context(), "x", store.Range{})
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if got, err := io.ReadAll(body); err != nil || string(got) != "content" {
		t.Errorf("%q, %v", got, err)
	}
}

// Nobody's credentials go to an emulator, and what the user has said goes before them.
func TestOtherCredentials(t *testing.T) {
	s := newService(t)
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", account(t))
	for _, tt := range []struct {
		opt  gs.Options
		want string
	}{
		{gs.Options{Emulator: "https://storage.googleapis.com"}, ""},
		{gs.Options{HTTP: http.Options{Header: nethttp.Header{"Authorization": {"Bearer mine"}}}}, "Bearer mine"},
		{gs.Options{HTTP: http.Options{Authorization: func() (string, error) { return "Bearer renewed", nil }}}, "Bearer renewed"},
	} {
		s.shown = nil
		tt.opt.HTTP.Client = s.client()
		b, err := gs.New("gs://bucket/folder", tt.opt)
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = b.Open(t.Context(), "x", store.Range{})
		if !errors.Is(err, store.ErrRefused) || !strings.Contains(err.Error(), "gs://bucket/folder/x") || len(s.shown) != 1 || s.shown[0] != tt.want {
			t.Errorf("shown %q, want %q; %v", s.shown, tt.want, err)
		}
	}
}
