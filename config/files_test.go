package config_test

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"caravel/config"
)

func TestNetrc(t *testing.T) {
	n, err := config.ReadNetrc(strings.NewReader(`# of mine
machine a.example.com login me password "two words \" here" # the first
machine b.example.com
	login you
	account x
	password #1
macdef init
machine c.example.com login no password no

machine a.example.com login other password other
default login any password one
machine d.example.com login no password no
`))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ host, login, password string }{
		{"A.example.com", "me", `two words " here`},
		{"b.example.com", "you", "#1"},
		{"c.example.com", "any", "one"},
		{"d.example.com", "any", "one"},
	} {
		if login, password, ok := n.Find(tt.host); !ok || login != tt.login || password != tt.password {
			t.Errorf("%s: got %q, %q, %v", tt.host, login, password, ok)
		}
	}
	if _, _, ok := (config.Netrc{}).Find("h"); ok {
		t.Error("found in nothing")
	}
}

func TestNetrcRejects(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"machine", "netrc: line 1: machine without a name"},
		{"\nmachine h login", "netrc: line 2: login without a value"},
		{"password s3cret", "netrc: line 1: password before the first machine"},
		{"machine h login me s3cret", "netrc: line 1: a word that is none of"},
		{strings.Repeat("\n", 1<<20+1), "netrc: more than 1048576 bytes"},
		{strings.Repeat("x", 1<<20), "netrc: line 0: "},
	} {
		if _, err := config.ReadNetrc(strings.NewReader(tt.text)); err == nil || !strings.HasPrefix(err.Error(), tt.want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%.40q: got %v, want %s", tt.text, err, tt.want)
		}
	}
}

func TestNetrcPlaces(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("NETRC", "")
	if _, err := config.LoadNetrc(); err != nil {
		t.Errorf("none: %v", err)
	}
	write(t, filepath.Join(home, ".netrc"), "machine h login home password p")
	find := func() string {
		t.Helper()
		n, err := config.LoadNetrc()
		if err != nil {
			t.Fatal(err)
		}
		login, _, _ := n.Find("h")
		return login
	}
	if got := find(); got != "home" {
		t.Errorf("got %q", got)
	}
	t.Setenv("NETRC", filepath.Join(home, "other"))
	if _, err := config.LoadNetrc(); err == nil {
		t.Error("the file that $NETRC names is not there, and that is no error")
	}
	write(t, filepath.Join(home, "other"), "machine h login named password p")
	if got := find(); got != "named" {
		t.Errorf("got %q", got)
	}
}

// What follows in the file does not change who logs in at an earlier host.
func FuzzNetrc(f *testing.F) {
	f.Add("machine h login me password p\nmacdef x\n\ndefault login a")
	f.Add("machine \"a b\" password \"\\\"\"")
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := config.ReadNetrc(strings.NewReader(text)); err != nil {
			return
		}
		n, err := config.ReadNetrc(strings.NewReader("machine first login me password p\nmachine second\n" + text))
		if login, password, _ := n.Find("first"); err != nil || login != "me" || password != "p" {
			t.Errorf("%q: got %q, %q, error %v", text, login, password, err)
		}
	})
}

func TestTokenIsReadAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	if _, err := config.NewToken(path); err == nil {
		t.Error("there is no such file")
	}
	for _, bad := range []string{"", " \n", "two words", "line\nline", strings.Repeat("x", 64<<10+1)} {
		write(t, path, bad)
		if _, err := config.NewToken(path); err == nil || bad != "" && strings.Contains(err.Error(), "words") {
			t.Errorf("%.20q: got %v", bad, err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		write(t, path, "one\n")
		token, err := config.NewToken(path)
		if err != nil {
			t.Fatal(err)
		}
		write(t, path, "two\n")
		if got, err := token.Header(); err != nil || got != "Bearer one" {
			t.Errorf("at once: got %q, %v", got, err)
		}
		time.Sleep(6 * time.Second)
		if got, err := token.Header(); err != nil || got != "Bearer two" {
			t.Errorf("later: got %q, %v", got, err)
		}
	})
}

func TestStoreFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "stores")
	write(t, path, `{"stores": ["/a", "http://h/b|http://m/b"], "cache": "/c"}`)
	got, err := config.LoadStoreFile(path)
	if want := (config.StoreFile{Stores: []string{"/a", "http://h/b|http://m/b"}, Cache: "/c"}); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, tt := range []struct{ text, want string }{
		{`{"stores": ["/a"`, "the JSON breaks off"},
		{`{"store": ["/a"]}`, `unknown key "store" (did you mean stores?)`},
		{`{"stores": []}`, "names no stores"},
		{`{"stores": ["/a", ""]}`, "stores: one is empty"},
		{`{"stores": "/a"}`, "stores: want a list: […]"},
	} {
		write(t, path, tt.text)
		if _, err := config.LoadStoreFile(path); err == nil || err.Error() != path+": store file: "+tt.want {
			t.Errorf("%s: got %v, want %s", tt.text, err, tt.want)
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
