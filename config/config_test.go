package config_test

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"caravel/config"
)

const whole = `{
  "store-options": {
    "https://example.com/images/*/": {
      "n": -1, "timeout": 60000000000, "error-retry": 0, "error-retry-base-interval": "250ms",
      "ca-cert": "/ca", "client-cert": "/cert", "client-key": "/key", "trust-insecure": true,
      "http-auth": "Bearer abc", "http-cookie": "a=b; c=d",
      "skip-verify": true, "uncompressed": true,
      "encryption": true, "encryption-algorithm": "aes-256-gcm",
      "encryption-key": "d69371915dbc4b1f0ec55e2a80f0e089accf4b32e0f8dc0e29fed7f0f30d1b26",
      "headers": {"X-Team": "blue"}, "stall-timeout": "5s", "host-requests": 4, "rate-limit-down-bps": "10M"
    },
    "/srv/plain.castr/": {"uncompressed": true}
  },
  "s3-credentials": {"https://*.example.com": {"access-key": "A", "secret-key": "S", "aws-region": "r"}},
  "oci-credentials": {"oci+https://ghcr.io/me/*": {"username": "me", "secret": "S"}},
  "rate-limit-bps": 1000
}`

// quiet keeps out what the environment says.
func quiet(t testing.TB) {
	for _, name := range []string{"S3_ACCESS_KEY", "S3_SECRET_KEY", "S3_SESSION_TOKEN", "S3_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "DESYNC_OCI_USERNAME", "DESYNC_OCI_PASSWORD", "DESYNC_ENCRYPTION_KEY"} {
		t.Setenv(name, "")
	}
}

func mustRead(t testing.TB, text string) config.Config {
	t.Helper()
	c, err := config.Read(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestRead(t *testing.T) {
	quiet(t)
	c := mustRead(t, whole)
	s, err := c.For("https://example.com/images/default.castr")
	if err != nil {
		t.Fatal(err)
	}
	none := 0
	want := config.Settings{
		N: -1, Timeout: config.Duration(time.Minute), ErrorRetry: &none, RetryBase: config.Duration(250 * time.Millisecond),
		CACert: "/ca", ClientCert: "/cert", ClientKey: "/key", TrustInsecure: true,
		HTTPAuth: "Bearer abc", HTTPCookie: "a=b; c=d", SkipVerify: true, Uncompressed: true,
		Encryption: true, EncryptionAlgorithm: "aes-256-gcm", EncryptionKey: "d69371915dbc4b1f0ec55e2a80f0e089accf4b32e0f8dc0e29fed7f0f30d1b26",
		Headers: map[string]string{"X-Team": "blue"}, Stall: config.Duration(5 * time.Second), HostRequests: 4, Rates: config.Rates{Down: 10 << 20},
	}
	if !reflect.DeepEqual(s, want) {
		t.Errorf("got %+v, want %+v", s, want)
	}
	if c.Each != 1000 {
		t.Errorf("rate of the process: %d", c.Each)
	}
}

func TestWhatIsWrongIsNamed(t *testing.T) {
	store := func(options string) string { return `{"store-options": {"http://u:pw@h/x?k=pw": ` + options + `}}` }
	at := `config: store-options: "http://h/x": `
	tests := []struct{ text, want string }{
		{``, `config: is empty; {} says nothing`},
		{`{`, `config: the JSON breaks off`},
		{`[]`, `config: want an object: {…}`},
		{`{} x`, `config: something follows the configuration`},
		{`{"store-optionz": {}}`, `config: unknown key "store-optionz" (did you mean store-options?)`},
		{`{"Store-Options": {}}`, `config: unknown key "Store-Options" (did you mean store-options?)`},
		{`{"other": {}}`, `config: unknown key "other"`},
		{`{"store-options": {}, "store-options": {}}`, `config: key "store-options" comes twice`},
		{store(`{"eror-retry": 1}`), at + `unknown key "eror-retry" (did you mean error-retry?)`},
		{store(`{"n": "many"}`), at + `n: want a number`},
		{store(`{"n": 1.5}`), at + `n: want a number`},
		{store(`{"n": -2}`), at + `n: want a number of requests, or -1`},
		{store(`{"uncompressed": "yes"}`), at + `uncompressed: want true or false`},
		{store(`{"http-auth": ["pw"]}`), at + `http-auth: want a string`},
		{store(`{"timeout": "soon"}`), at + `timeout: want a number of nanoseconds, or a time such as "90s"`},
		{store(`{"rate-limit-bps": 0}`), at + `rate-limit-bps: want a number of bytes above 0, or one such as "10M"`},
		{store(`{"error-retry": -1}`), at + `error-retry: want a number of tries`},
		{store(`{"client-cert": "c"}`), at + `client-cert and client-key go together`},
		{store(`{"http-auth": "pw", "token-file": "f"}`), at + `say either http-auth or token-file`},
		{store(`{"http-auth": "p\nw"}`), at + `http-auth: no header can hold that`},
		{store(`{"headers": {"a b": "pw"}}`), at + `headers: "a b" is no name of a header`},
		{store(`{"headers": {"a": "p\u0000w"}}`), at + `headers: a: no header can hold its value`},
		{store(`{"headers": {"range": "pw"}}`), at + `headers: Range is not for users to set`},
		{store(`{"headers": {"authorization": "pw"}, "http-auth": "pw"}`), at + `headers: Authorization is said twice, with http-auth or token-file`},
		{store(`{"encryption-key": "00"}`), at + `encryption-key: is for nothing without "encryption": true`},
		{store(`{"encryption": true, "encryption-key": "00"}`), at + `encryption-key: want 64 hex digits`},
		{store(`{"encryption": true, "encryption-algorithm": "rot13"}`), at + `encryption-algorithm: "rot13" is none; want xchacha20-poly1305 or aes-256-gcm`},
		{`{"store-options": {"http://h/[": {}}}`, `config: store-options: "http://h/[": is no pattern: a [ is written \[ in one`},
		{`{"s3-credentials": {"https://h": {"acces-key": "pw"}}}`, `config: s3-credentials: "https://h": unknown key "acces-key" (did you mean access-key?)`},
		{`{"store-options": 1}`, `config: store-options: want an object: {…}`},
		{strings.Repeat(" ", 1<<20+1), `config: more than 1048576 bytes`},
	}
	for _, tt := range tests {
		if _, err := config.Read(strings.NewReader(tt.text)); err == nil || err.Error() != tt.want {
			t.Errorf("%.80s: got %v, want %s", tt.text, err, tt.want)
		}
	}
}

func TestMatch(t *testing.T) {
	quiet(t)
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		key, location string
		folder, file  bool
	}{
		{"http://h/a/", "http://h/a", true, true},
		{"http://h/a", "http://h/a/", true, true},
		{"http://h/a", "http://h/b", false, false},
		{"http://h/a", "http://h/a/x.caibx?token", false, true},
		{"http://h", "http://h/x.caibx", false, true},
		{"http://h/*", "http://h/a", true, true},
		{"http://h/*", "http://h/a/b", false, true},
		{"http://[::1]:8/a", "http://[::1]:8/a", true, true},
		{"s3+http://h/b?lookup=path", "s3+http://h/b?lookup=path", true, true},
		{"s3+http://h/b", "s3+http://h/b?lookup=path", true, true},
		{"/srv/*", "/srv/a/", true, true},
		{"a.castr", here + "/a.castr", true, true},
		{"/srv/a", "http://h/srv/a", false, false},
		{"ssh://h/a", "/a", false, false},
	}
	for _, tt := range tests {
		c := config.Config{Stores: map[string]config.Settings{tt.key: {N: 7}}}
		folder, err := c.For(tt.location)
		file, fileErr := c.ForFile(tt.location)
		if err != nil || fileErr != nil || (folder.N == 7) != tt.folder || (file.N == 7) != tt.file {
			t.Errorf("%s for %s: got %v and as a file %v, errors %v, %v", tt.key, tt.location, folder.N == 7, file.N == 7, err, fileErr)
		}
	}
	two := mustRead(t, `{"store-options": {"http://u:pw@h/a/": {}, "http://h/?": {}, "http://h/a": {}}}`)
	_, err = two.For("http://h/a")
	if want := `config: store-options: "http://h/" and "http://h/a" both match http://h/a`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestCredentials(t *testing.T) {
	quiet(t)
	c := mustRead(t, whole)
	s3 := func() *config.S3Credentials {
		t.Helper()
		s, err := c.For("s3+https://eu.example.com/bucket/x")
		if err != nil {
			t.Fatal(err)
		}
		return s.S3
	}
	if got, want := s3(), (config.S3Credentials{AccessKey: "A", SecretKey: "S", Region: "r"}); got == nil || *got != want {
		t.Errorf("configuration: got %+v", got)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "aws")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	if got, want := s3(), (config.S3Credentials{AccessKey: "aws", SecretKey: "secret", Region: "r"}); *got != want {
		t.Errorf("AWS's environment: got %+v", got)
	}
	t.Setenv("S3_ACCESS_KEY", "s3")
	t.Setenv("S3_SESSION_TOKEN", "token")
	t.Setenv("S3_REGION", "east")
	if got, want := s3(), (config.S3Credentials{AccessKey: "s3", SessionToken: "token", Region: "east"}); *got != want {
		t.Errorf("S3's environment: got %+v", got)
	}
	if s, err := c.For("oci+https://ghcr.io/me/images"); err != nil || *s.OCI != (config.OCICredentials{Username: "me", Secret: "S"}) {
		t.Errorf("got %+v, %v", s.OCI, err)
	}
	t.Setenv("DESYNC_OCI_USERNAME", "env")
	if s, err := c.For("oci+https://ghcr.io/other"); err != nil || *s.OCI != (config.OCICredentials{Username: "env"}) {
		t.Errorf("got %+v, %v", s.OCI, err)
	}
	if s, err := c.For("https://ghcr.io/me/x"); err != nil || s.OCI != nil || s.S3 != nil {
		t.Errorf("another kind of store: got %+v, %v", s, err)
	}
}

// The environment's key is taken where chunks are encrypted, and does not have them so.
func TestEncryptionKeyOfTheEnvironment(t *testing.T) {
	quiet(t)
	c := mustRead(t, `{"store-options": {"/a": {"encryption": true}, "/b": {}}}`)
	key := strings.Repeat("0a", 32)
	t.Setenv("DESYNC_ENCRYPTION_KEY", key)
	if s, err := c.For("/a"); err != nil || s.EncryptionKey != key {
		t.Errorf("got %+v, %v", s, err)
	}
	if s, err := c.For("/b"); err != nil || s.EncryptionKey != "" {
		t.Errorf("got %+v, %v", s, err)
	}
	t.Setenv("DESYNC_ENCRYPTION_KEY", "short")
	if _, err := c.For("/a"); err == nil || strings.Contains(err.Error(), "short") {
		t.Errorf("got %v", err)
	}
}

func TestOver(t *testing.T) {
	low, high := 5, 1
	below := config.Settings{N: 3, ErrorRetry: &low, HTTPAuth: "a", ClientCert: "c", ClientKey: "k", Uncompressed: true, Headers: map[string]string{"A": "1", "B": "1"}}
	above := config.Settings{ErrorRetry: &high, TokenFile: "t", TrustInsecure: true, Headers: map[string]string{"B": "2"}, Rates: config.Rates{Up: 9}}
	want := config.Settings{N: 3, ErrorRetry: &high, TokenFile: "t", ClientCert: "c", ClientKey: "k", TrustInsecure: true, Uncompressed: true,
		Headers: map[string]string{"A": "1", "B": "2"}, Rates: config.Rates{Up: 9}}
	if got := above.Over(below); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if below.Headers["B"] != "1" {
		t.Error("the lower settings' own headers changed")
	}
}

func TestPlaces(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("XDG_CONFIG_HOME", "")
	load := func(named string) string {
		t.Helper()
		c, err := config.Load(named)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimPrefix(c.File, home)
	}
	put := func(path string) {
		t.Helper()
		path = filepath.Join(home, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(`{"s3-credentials": null}`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := load(""); got != "" {
		t.Errorf("no file: %s", got)
	}
	put(".config/desync/config.json")
	if got := load(""); got != "/.config/desync/config.json" {
		t.Errorf("desync's: %s", got)
	}
	put(".config/caravel/config.json")
	if got := load(""); got != "/.config/caravel/config.json" {
		t.Errorf("ours: %s", got)
	}
	t.Setenv("XDG_CONFIG_HOME", filepath.Join(home, "xdg"))
	put("xdg/caravel/config.json")
	if got := load(""); got != "/xdg/caravel/config.json" {
		t.Errorf("XDG: %s", got)
	}
	put("own")
	if got := load(filepath.Join(home, "own")); got != "/own" {
		t.Errorf("named: %s", got)
	}
	if got := load(config.None); got != "" {
		t.Errorf("none: %s", got)
	}
	if _, err := config.Load(filepath.Join(home, "absent")); err == nil {
		t.Error("a named file that is not there is no error")
	}
}

func TestHide(t *testing.T) {
	var shown bytes.Buffer
	c := mustRead(t, strings.Replace(whole, `"/srv/plain.castr/"`, `"http://user:S3CRET@h/x"`, 1))
	if _, err := c.Hide().WriteTo(&shown); err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"Bearer abc", "a=b", "d6937", "blue", `"S"`, "S3CRET"} {
		if strings.Contains(shown.String(), secret) {
			t.Errorf("%s is shown in %s", secret, shown.String())
		}
	}
	if s, _ := c.For("https://example.com/images/x"); s.HTTPAuth != "Bearer abc" || s.Headers["X-Team"] != "blue" {
		t.Error("the configuration itself changed")
	}
}

// What is accepted is written back so that it reads the same.
func FuzzRead(f *testing.F) {
	for _, seed := range []string{whole, `{}`, `null`, `{"store-options": {"a": {"error-retry": 3}}}`, `{"rate-limit-bps": "1.5K"}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		c, err := config.Read(bytes.NewReader(content))
		if err != nil {
			return
		}
		if _, err := c.For("http://example.com/images/x"); err != nil && !strings.Contains(err.Error(), "both match") {
			t.Error(err)
		}
		var once, twice bytes.Buffer
		if _, err := c.WriteTo(&once); err != nil {
			t.Fatal(err)
		}
		again, err := config.Read(bytes.NewReader(once.Bytes()))
		if err != nil {
			t.Fatalf("%s: %v", once.String(), err)
		}
		if _, err := again.WriteTo(&twice); err != nil || !bytes.Equal(once.Bytes(), twice.Bytes()) {
			t.Errorf("%s became %s, error %v", once.String(), twice.String(), err)
		}
	})
}
