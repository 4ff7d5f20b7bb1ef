package access_test

import (
	"bytes"
	"log/slog"
	nethttp "net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"caravel/config"
	"caravel/store"
	"caravel/store/access"
	"caravel/store/fetch"
	"caravel/store/open"
)

func newAccess(t *testing.T, text string, opt access.Options) *access.Access {
	t.Helper()
	c, err := config.Read(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	a, err := access.New(c, opt)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// What a request carries, by what was configured, said, and found in .netrc.
func TestWhatIsSent(t *testing.T) {
	var got nethttp.Header
	server := httptest.NewServer(nethttp.HandlerFunc(func(_ nethttp.ResponseWriter, r *nethttp.Request) { got = r.Header }))
	defer server.Close()
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("sesame\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	netrc, err := config.ReadNetrc(strings.NewReader("machine 127.0.0.1 login net password rc"))
	if err != nil {
		t.Fatal(err)
	}
	const basic = "Basic bmV0OnJj"
	tests := []struct {
		name, options string // of the server's root
		flags         config.Settings
		want          map[string]string
	}{
		{"nothing", `{}`, config.Settings{}, map[string]string{"Authorization": basic, "Cookie": ""}},
		{"http-auth", `{"http-auth": "Bearer a", "http-cookie": "c=d"}`, config.Settings{}, map[string]string{"Authorization": "Bearer a", "Cookie": "c=d"}},
		{"token", `{"token-file": "` + token + `"}`, config.Settings{}, map[string]string{"Authorization": "Bearer sesame"}},
		{"headers", `{"headers": {"x-a": "1", "authorization": "Own"}}`, config.Settings{}, map[string]string{"X-A": "1", "Authorization": "Own"}},
		{"flags", `{"token-file": "/none", "headers": {"X-A": "1"}}`, config.Settings{HTTPAuth: "Bearer flag", Headers: map[string]string{"X-B": "2"}}, map[string]string{"X-A": "1", "X-B": "2", "Authorization": "Bearer flag"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := newAccess(t, `{"store-options": {"`+server.URL+`": `+tt.options+`}}`, access.Options{Flags: tt.flags, Netrc: netrc})
			if _, err := open.Read(t.Context(), server.URL+"/file", 10, open.Options{Adjust: a.Adjust}); err != nil {
				t.Fatal(err)
			}
			for name, value := range tt.want {
				if got.Get(name) != value {
					t.Errorf("%s: %q, want %q", name, got.Get(name), value)
				}
			}
		})
	}
	a := newAccess(t, `{}`, access.Options{Netrc: netrc})
	if _, err := open.Read(t.Context(), strings.Replace(server.URL, "://", "://u:p@", 1)+"/file", 10, open.Options{Adjust: a.Adjust}); err != nil || got.Get("Authorization") != "Basic dTpw" {
		t.Errorf("a user in the URL: got %q, error %v", got.Get("Authorization"), err)
	}
}

func TestForms(t *testing.T) {
	a := newAccess(t, `{"store-options": {"/plain": {"uncompressed": true}}}`, access.Options{})
	said := newAccess(t, `{"store-options": {"/plain": {"uncompressed": true}}}`, access.Options{Packs: true})
	for _, tt := range []struct {
		a    *access.Access
		at   string
		want store.Compression
	}{{a, "/plain", store.None}, {a, "/other", store.Zstd}, {said, "/plain", store.Zstd}} {
		opt, err := tt.a.Adjust(open.Place{Location: tt.at}, open.Options{Form: store.Form{Compression: store.Zstd, Level: 9}})
		if err != nil || opt.Form.Compression != tt.want {
			t.Errorf("%s: got %v, error %v", tt.at, opt.Form, err)
		}
	}
}

func TestFetch(t *testing.T) {
	a := newAccess(t, `{"store-options": {
		"http://a": {"n": 4, "timeout": "5s", "error-retry": 0, "error-retry-base-interval": "1s"},
		"http://b": {"n": -1, "timeout": -1}}}`, access.Options{})
	usual := fetch.Options{MinWindow: 8, MaxWindow: 64, Tries: 2, Try: 10 * time.Second}
	for location, want := range map[string]fetch.Options{
		"http://a": {MinWindow: 4, MaxWindow: 4, Tries: 1, Try: 5 * time.Second, Rest: time.Second},
		"http://b": {MinWindow: 8, MaxWindow: 64, Tries: 2, Try: -1},
		"http://c": usual,
	} {
		if got, err := a.Fetch(location, usual); err != nil || got != want {
			t.Errorf("%s: got %+v, error %v; want %+v", location, got, err, want)
		}
	}
	flags := newAccess(t, `{"store-options": {"http://a": {"n": 4}}}`, access.Options{Flags: config.Settings{N: 3}})
	if got, err := flags.Fetch("http://a", usual); err != nil || got.MaxWindow != 3 {
		t.Errorf("flags: got %+v, error %v", got, err)
	}
}

// Whoever reads verifies, and says once that he does.
func TestSkipVerify(t *testing.T) {
	var log bytes.Buffer
	a := newAccess(t, `{"store-options": {"/a": {"skip-verify": true}}}`, access.Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	for range 3 {
		if _, err := a.Adjust(open.Place{Location: "/a"}, open.Options{}); err != nil {
			t.Fatal(err)
		}
	}
	if n := strings.Count(log.String(), "skip-verify"); n != 1 || !strings.Contains(log.String(), "store=/a") {
		t.Errorf("logged %q", log.String())
	}
}

// Places with the same certificates share connections, others do not.
func TestConnectionsAreShared(t *testing.T) {
	a := newAccess(t, `{"store-options": {"https://c": {"trust-insecure": true}}}`, access.Options{})
	clients := map[*nethttp.Client]bool{}
	for _, location := range []string{"https://a", "https://b", "https://c"} {
		opt, err := a.Adjust(open.Place{Location: location}, open.Options{})
		if err != nil {
			t.Fatal(err)
		}
		clients[opt.HTTP.Client] = true
		if insecure := opt.HTTP.TLS != nil && opt.HTTP.TLS.InsecureSkipVerify; insecure != (location == "https://c") {
			t.Errorf("%s: insecure %v", location, insecure)
		}
	}
	if len(clients) != 2 {
		t.Errorf("%d clients, want 2", len(clients))
	}
}

// Requests to one host are held back together, and the process has one rate.
func TestLimits(t *testing.T) {
	a := newAccess(t, `{"rate-limit-bps": 1000, "store-options": {"http://h/a": {"rate-limit-down-bps": 10}}}`,
		access.Options{Flags: config.Settings{HostRequests: 2, Rates: config.Rates{Up: 500}}})
	of := func(location string) open.Options {
		t.Helper()
		opt, err := a.Adjust(open.Place{Location: location}, open.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return opt
	}
	one, two, other := of("http://h/a").Limits, of("http://u@h/b").Limits, of("http://i/a").Limits
	if one.Requests != two.Requests || one.Requests == other.Requests || one.Requests == nil {
		t.Error("requests are not counted by host")
	}
	if len(one.Down) != 2 || len(two.Down) != 1 || one.Down[0] != two.Down[0] || len(two.Up) != 1 || two.Up[0] != other.Up[0] {
		t.Errorf("buckets: %v, %v, %v", one, two, other)
	}
	if again := of("http://h/a").Limits; again.Down[1] != one.Down[1] {
		t.Error("a place has a new rate each time that it is opened")
	}
}

func TestMistakes(t *testing.T) {
	dir := t.TempDir()
	garbage := filepath.Join(dir, "garbage")
	if err := os.WriteFile(garbage, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for options, want := range map[string]string{
		`{"ca-cert": "` + garbage + `"}`:                            "access: ca-cert: " + garbage + ": holds no certificate in PEM",
		`{"ca-cert": "/none"}`:                                      "access: ca-cert: open /none: no such file or directory",
		`{"client-cert": "` + garbage + `", "client-key": "/none"}`: "access: client-cert " + garbage + ", client-key /none: open /none: no such file or directory",
		`{"token-file": "/none"}`:                                   "token: open /none: no such file or directory",
		`{}, "http://?/": {}`:                                       `config: store-options: "http://" and "http://h/" both match http://h/`,
	} {
		c, err := config.Read(strings.NewReader(`{"store-options": {"http://h/": ` + options + `}}`))
		if err != nil {
			t.Fatal(err)
		}
		a, err := access.New(c, access.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.Adjust(open.Place{Location: "http://h/"}, open.Options{}); err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", options, err, want)
		}
	}
	if _, err := access.New(config.Config{}, access.Options{Flags: config.Settings{ClientCert: "x"}}); err == nil {
		t.Error("a certificate without its key is taken")
	}
}
