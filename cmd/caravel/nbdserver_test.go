package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

func TestListenAddress(t *testing.T) {
	for typed, want := range map[string]string{
		"":                "localhost:10809",
		"10809":           "localhost:10809",
		":7":              "localhost:7",
		"0":               "localhost:0",
		"host:7":          "host:7",
		"0.0.0.0:10809":   "0.0.0.0:10809",
		"[::]:10809":      "[::]:10809",
		"10.0.0.1:7":      "10.0.0.1:7",
		"[fe80::1%lo]:70": "[fe80::1%lo]:70",
	} {
		if got, err := listenAddress(typed); got != want || err != nil {
			t.Errorf("%q: got %s, %v; want %s", typed, got, err, want)
		}
	}
	for _, typed := range []string{
		"just-a-name", ":", "host:", "[::]", "[::]:", "::1", "::1:7", "65536", "-1", "host:-1", "host:http", "host:7:8", "/run/s", "unix:/run/s", "+7",
	} {
		got, err := listenAddress(typed)
		var usage *usageError
		if !errors.As(err, &usage) || !strings.Contains(err.Error(), fmt.Sprintf("%q for --listen: want HOST:PORT", typed)) ||
			strings.Contains(err.Error(), "--socket") != strings.Contains(typed, "/") {
			t.Errorf("%q: got %q, %v", typed, got, err)
		}
	}
}

func TestListenTaken(t *testing.T) {
	l, err := listenTCP("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	at := l.Addr().String()
	for typed, want := range map[string]string{
		at:                 at + ": address already in use",
		"host.invalid.:80": "host.invalid.:80: ",
	} {
		if _, err := listenTCP(typed); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, want %q", typed, err, want)
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
	tls := tlsOptions{dir: "d"}
	for _, tt := range []struct {
		opt  nbdOptions
		at   net.Addr
		want string
	}{
		{nbdOptions{}, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 10809}, "nbd://127.0.0.1:10809"},
		{nbdOptions{tls: tls}, &net.TCPAddr{IP: net.IPv6loopback, Port: 7}, "nbds://[::1]:7"},
		{nbdOptions{unlisted: true}, &net.TCPAddr{IP: net.IPv6loopback, Port: 7}, "nbd://[::1]:7/my%20disk"},
		{nbdOptions{unlisted: true}, &net.UnixAddr{Name: "/s", Net: "unix"}, "nbd+unix:///my%20disk?socket=/s"},
		{nbdOptions{}, &net.UnixAddr{Name: "/run/vm-1.sock", Net: "unix"}, "nbd+unix:///?socket=/run/vm-1.sock"},
		{nbdOptions{tls: tls}, &net.UnixAddr{Name: "/a b+c&d#e%20=f", Net: "unix"}, "nbds+unix:///?socket=/a%20b%2Bc%26d%23e%2520%3Df"},
	} {
		if got := tt.opt.uriOf(tt.at, "my disk"); got != tt.want {
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
		{[]string{a, dir}, nil, a + ": is named twice"},
		{[]string{b, ""}, nil, "says nothing"},
		{[]string{none}, nil, none + ": there is no *.caibx in it"},
	} {
		got, err := exportLocations(tt.args)
		if !slices.Equal(got, tt.want) || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%q: %q, %v; want %q, %q", tt.args, got, err, tt.want, tt.err)
		}
	}
}

func TestOneImage(t *testing.T) {
	dir := t.TempDir()
	for typed, want := range map[string]string{
		"--overlay o":              "--overlay is for one image, not 2",
		"--record r":               "--record is for one image, not 2",
		"--profile p":              "--profile=p is for one image, not 2",
		"--materialize m":          "--materialize=m is for one image, not 2",
		"--overlay o --record r":   "--overlay is for one image, not 2",
		"--overlay-size 4M":        "--overlay-size goes with --overlay",
		"--listen host":            "want HOST:PORT",
		"-l host":                  "want HOST:PORT",
		"--overlay-size 0":         `invalid value "0" for --overlay-size: a disk has more than 0 bytes`,
		"--socket " + longPath():   "of a socket has at most",
		"--socket= --overlay o":    "--socket: says nothing",
		"--tls-cert=c --overlay o": "is for one image",
	} {
		var stderr strings.Builder
		app := newAppOf([]*cli.Command{nbdServerCommand()}, strings.NewReader(""), io.Discard, &stderr)
		args := append([]string{"nbd-server", filepath.Join(dir, "a.caibx"), filepath.Join(dir, "b.caibx")}, strings.Fields(typed)...)
		if status := run(t.Context(), app, args); status != exitUsage || !strings.Contains(stderr.String(), want) {
			t.Errorf("%q: status %d, %s; want %q", typed, status, &stderr, want)
		}
	}
}

// longPath is one byte too long for a socket.
func longPath() string { return strings.Repeat("x", longestSocket+1) }

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

func TestPreferred(t *testing.T) {
	for chunk, want := range map[int]int{0: 0, 1: 4096, 4096: 4096, 65_535: 32 << 10, 64 << 10: 64 << 10, 300_000: 256 << 10, 64 << 20: 1 << 20} {
		if got := preferred(chunk); got != want {
			t.Errorf("chunks of %d: %d, want %d", chunk, got, want)
		}
	}
}
