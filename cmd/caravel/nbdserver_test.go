package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestListenAddress(t *testing.T) {
	for typed, want := range map[string]string{
		"":                "localhost:10809",
		"10809":           "localhost:10809",
		":7":              "localhost:7",
		"host:7":          "host:7",
		"0.0.0.0:10809":   "0.0.0.0:10809",
		"[::]:10809":      "[::]:10809",
		"10.0.0.1:7":      "10.0.0.1:7",
		"just-a-name":     "just-a-name",
		"[fe80::1%lo]:70": "[fe80::1%lo]:70",
	} {
		if got := listenAddress(typed); got != want {
			t.Errorf("%q: got %s, want %s", typed, got, want)
		}
	}
}

func TestWarnsOfOthers(t *testing.T) {
	with, required := tlsOptions{cert: "c", key: "k"}, tlsOptions{dir: "d", required: true}
	for _, tt := range []struct {
		tls  tlsOptions
		at   net.Addr
		want string
	}{
		{tlsOptions{}, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2), Port: 1}, ""},
		{tlsOptions{}, &net.UnixAddr{Name: "/s", Net: "unix"}, ""},
		{tlsOptions{}, &net.TCPAddr{IP: net.IPv6unspecified, Port: 1}, "nothing is encrypted"},
		{with, &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 1}, "--tls-required"},
		{required, &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 1}, ""},
	} {
		var said strings.Builder
		nbdOptions{tls: tt.tls}.warn(streams{err: &said}, tt.at)
		if !strings.Contains(said.String(), tt.want) || (said.Len() > 0) != (tt.want != "") {
			t.Errorf("%v, %+v: %q, want %q", tt.at, tt.tls, said.String(), tt.want)
		}
	}
}

func TestURIs(t *testing.T) {
	for _, tt := range []struct {
		tls  tlsOptions
		at   net.Addr
		want string
	}{
		{tlsOptions{}, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 10809}, "nbd://127.0.0.1:10809"},
		{tlsOptions{dir: "d"}, &net.TCPAddr{IP: net.IPv6loopback, Port: 7}, "nbds://[::1]:7"},
		{tlsOptions{}, &net.UnixAddr{Name: "/run/vm-1.sock", Net: "unix"}, "nbd+unix:///?socket=/run/vm-1.sock"},
		{tlsOptions{dir: "d"}, &net.UnixAddr{Name: "/a b+c&d#e%20=f", Net: "unix"}, "nbds+unix:///?socket=/a%20b%2Bc%26d%23e%2520%3Df"},
	} {
		if got := (nbdOptions{tls: tt.tls}).uriOf(tt.at); got != tt.want {
			t.Errorf("%v: got %s, want %s", tt.at, got, tt.want)
		}
	}
}

func TestTLSFlags(t *testing.T) {
	dir := t.TempDir()
	for typed, want := range map[string]string{
		"--tls-cert c":                            "need each other",
		"--tls-key k":                             "need each other",
		"--tls-required":                          "need --tls-cert",
		"--tls-ca a":                              "need --tls-cert",
		"--tls-certificates d --tls-key k":        "one or the other",
		"--tls-cert=/none/c --tls-key k":          "/none/c: no such file",
		"--tls-certificates=/none --tls-required": "/none/server-cert.pem: no such file",
		"--tls-cert /dev/null --tls-key k":        "k: no such file",
		"":                                        "",
		"--tls-required=no":                       "",
	} {
		var o tlsOptions
		if stderr, status := try(t, tlsFlags(&o), strings.Fields(typed)...); status != exitDone {
			t.Fatalf("%q: exit status %d, %s", typed, status, stderr)
		}
		config, err := o.config()
		if config != nil || (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", typed, err, want)
		}
	}
	empty := filepath.Join(dir, "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := (tlsOptions{cert: empty, key: empty}).config(); err == nil || !strings.HasPrefix(err.Error(), empty+" and ") {
		t.Errorf("no certificate in a file: %v", err)
	}
}

func TestExportLocations(t *testing.T) {
	dir, none := t.TempDir(), t.TempDir()
	for _, name := range []string{"b.caibx", "a.caibx", "tree.caidx", "a.caibx.profile", "a.img"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "default.castr"), 0o700); err != nil {
		t.Fatal(err)
	}
	a, b := filepath.Join(dir, "a.caibx"), filepath.Join(dir, "b.caibx")
	for _, tt := range []struct {
		args []string
		want []string // nil: an error
		err  string
	}{
		{[]string{dir}, []string{a, b}, ""},
		{[]string{"http://host/x.caibx", dir, "/img/y.img"}, []string{"http://host/x.caibx", a, b, "/img/y.img"}, ""},
		{[]string{b}, []string{b}, ""},
		{[]string{dir, filepath.Join(dir, "a.img")}, nil, fmt.Sprintf(`%s and %s: both would be the export "a"`, a, filepath.Join(dir, "a.img"))},
		{[]string{"http://user:secret@host/a.caibx", a}, nil, "http://host/a.caibx and "},
		{[]string{none}, nil, none + ": there is no *.caibx in it"},
	} {
		got, err := exportLocations(tt.args)
		if !slices.Equal(got, tt.want) || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%q: %q, %v; want %q, %q", tt.args, got, err, tt.want, tt.err)
		}
	}
}

func TestPIDFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pid")
	for _, tt := range []struct {
		name string
		then func() error
		left string
	}{
		{"ours", func() error { return nil }, ""},
		{"another's by now", func() error { return os.WriteFile(path, []byte("1\n"), 0o600) }, "1\n"},
		{"gone", func() error { return os.Remove(path) }, ""},
	} {
		remove, err := writePIDFile(context.Background(), path)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != fmt.Sprintln(os.Getpid()) {
			t.Errorf("%s: %q, %v", tt.name, got, err)
		}
		if err := tt.then(); err != nil {
			t.Fatal(err)
		}
		if err := remove(); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		if got, _ := os.ReadFile(path); string(got) != tt.left {
			t.Errorf("%s: %q is left, want %q", tt.name, got, tt.left)
		}
	}
	if _, err := writePIDFile(context.Background(), filepath.Join(path, "none", "pid")); err == nil || !strings.HasPrefix(err.Error(), "--pid-file: ") {
		t.Errorf("a folder that is not there: %v", err)
	}
}
