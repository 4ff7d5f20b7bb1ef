package sftp_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"caravel/store"
	"caravel/store/sftp"
	"caravel/store/storetest"
)

func TestBlobs(t *testing.T) {
	for _, mode := range []string{"plain", "openssh"} {
		t.Run(mode, func(t *testing.T) {
			storetest.RunBlobs(t, func(t *testing.T, objects map[string][]byte) store.Blobs {
				s := play(t, mode, sftp.Options{})
				s.put(t, objects)
				return s.open(t)
			})
		})
	}
}

func TestStore(t *testing.T) {
	storetest.RunStore(t, store.Form{}, func(t *testing.T, objects map[string][]byte) store.Store {
		s := play(t, "openssh", sftp.Options{})
		s.put(t, objects)
		return store.Chunks(s.open(t), store.Form{})
	})
	storetest.Run(t, func(t *testing.T) store.Writer {
		w, err := store.Writable(play(t, "openssh", sftp.Options{}).open(t), store.Form{Compression: store.None})
		if err != nil {
			t.Fatal(err)
		}
		return w
	})
}

func TestLocations(t *testing.T) {
	tests := []struct {
		location string
		folder   string // as String has it; "": an error
		name     string
		want     string // of the error
	}{
		{"sftp://host/srv/disk.caibx", "sftp://host/srv", "disk.caibx", ""},
		{"sftp://me@host:2222/disk.caibx", "sftp://me@host:2222", "disk.caibx", ""},
		{"sftp://host/~/disk.caibx", "sftp://host/~", "disk.caibx", ""},
		{"sftp://[::1]/a/b", "sftp://[::1]/a", "b", ""},
		{"sftp://[::1]:22/a/b", "sftp://[::1]:22/a", "b", ""},
		{"sftp://host/a%20b/c%3f%23", "sftp://host/a%20b", "c?#", ""},
		{"sftp://host/a/", "", "", "sftp://host/a/: names a folder, not a file"},
		{"sftp://host/~", "", "", "names a folder"},
		{"sftp://host", "", "", "names a folder"},
		{"sftp://host/a/..", "", "", "names a folder"},
		{"sftp:///a/b", "", "", "names no host"},
		{"sftp://me:secret@host/a", "", "", "sftp://host/a: ssh takes no password from a URL"},
		{"sftp://me:sec%zzret@host/a", "", "", "sftp://host/a: malformed URL"},
		{"sftp://host/a?b", "", "", "%3F"},
		{"sftp://host/a#b", "", "", "%23"},
		{"sftp://host/a%00b", "", "", "NUL"},
		{"sftp://host:0/a", "", "", `no port is called "0"`},
		{"sftp://host:70000/a", "", "", `no port is called "70000"`},
		{"sftp://-oProxyCommand=x/a", "", "", "no host is called"},
		{"sftp://-x@host/a", "", "", "no user is called"},
		{"sftp://$(x)@host/a", "", "", "no user is called"},
		{"sftp://a%60b@host/a", "", "", "no user is called"},
		{"http://host/a", "", "", "not an sftp URL"},
	}
	for _, tt := range tests {
		d, name, err := sftp.Object(tt.location, sftp.Options{})
		if tt.want != "" {
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "secret") {
				t.Errorf("%s: %v, want %q", tt.location, err, tt.want)
			}
			continue
		}
		if err != nil || d.String() != tt.folder || name != tt.name {
			t.Errorf("%s: %v and %q, %v; want %s and %q", tt.location, d, name, err, tt.folder, tt.name)
			continue
		}
		if got := d.Locate(name); got != tt.location && !strings.Contains(tt.location, "%3f") {
			t.Errorf("%s: located at %s", tt.location, got)
		}
	}
}

func FuzzLocation(f *testing.F) {
	for _, seed := range []string{"sftp://me@host:2222/~/a/b", "sftp://[::1%25eth0]/a%20b/c", "sftp://host/~user/x", "sftp://a:b@c/d?e#f"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, location string) {
		d, name, err := sftp.Object(location, sftp.Options{})
		if err != nil {
			return
		}
		again, name2, err := sftp.Object(d.Locate(name), sftp.Options{})
		if err != nil || again.String() != d.String() || name2 != name {
			t.Errorf("%q: %q in %q, shown as %q, is %v, %q, %v", location, name, d, d.Locate(name), again, name2, err)
		}
	})
}

// TestCommand is what ssh is called with, and that a path with /~/ begins where the
// server does.
func TestCommand(t *testing.T) {
	for location, want := range map[string]string{
		"sftp://host/~/store/x":         "-s -- host sftp",
		"sftp://me@host/~/store/x":      "-s -- me@host sftp",
		"sftp://me@host:2222/~/store/x": "-p 2222 -s -- me@host sftp",
		"sftp://[::1]:2222/~/store/x":   "-p 2222 -s -- ::1 sftp",
	} {
		s := play(t, "plain", sftp.Options{})
		s.put(t, map[string][]byte{"x": []byte("here")})
		t.Setenv("CASYNC_SSH_PATH", s.opt.SSH)
		s.opt.SSH = ""
		d, name, err := sftp.Object(location, s.opt)
		if err != nil {
			t.Fatal(err)
		}
		if got := content(t, d, name); got != "here" {
			t.Errorf("%s: %q", location, got)
		}
		calls, err := os.ReadFile(filepath.Join(s.home, "calls"))
		if string(calls) != want+"\n" {
			t.Errorf("%s: ssh %q, want %q; %v", location, calls, want, err)
		}
	}
}

func content(t *testing.T, d *sftp.Dir, name string) string {
	t.Helper()
	body, _, err := d.Open(t.Context(), name, store.Range{})
	if err != nil {
		t.Error(err)
		return ""
	}
	defer body.Close()
	b, err := io.ReadAll(body)
	if err != nil {
		t.Error(err)
	}
	return string(b)
}

// TestLong reads and writes what takes many blocks, in pieces of any size.
func TestLong(t *testing.T) {
	for _, mode := range []string{"plain", "openssh"} {
		s := play(t, mode, sftp.Options{})
		d := s.open(t)
		long := bytes.Repeat([]byte("0123456789abcdefg"), 200_000) // 3.4 MB
		if err := os.Mkdir(s.dir, 0o777); err != nil {
			t.Fatal(err)
		}
		if err := d.Put(t.Context(), "long", io.MultiReader(bytes.NewReader(long)), -1); err != nil {
			t.Fatal(err)
		}
		for _, r := range []store.Range{{}, {Off: 1}, {Off: 100_000, Len: 2_000_001}, {Off: 3_399_999}, {Off: 131_072, Len: 131_072}} {
			body, _, err := d.Open(t.Context(), "long", r)
			if err != nil {
				t.Fatal(err)
			}
			want := long[r.Off:]
			if r.Len > 0 {
				want = want[:r.Len]
			}
			got, err := io.ReadAll(io.MultiReader(io.LimitReader(body, 777), body))
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: %+v: %d bytes, want %d; %v", mode, r, len(got), len(want), err)
			}
			body.Close()
		}
	}
}

// TestThousand reads have one process to begin with, and few at last.
func TestThousand(t *testing.T) {
	s := play(t, "openssh", sftp.Options{})
	s.put(t, map[string][]byte{"x": bytes.Repeat([]byte("x"), 10_000)})
	d := s.open(t)
	all(1000, func(int) {
		if got := content(t, d, "x"); len(got) != 10_000 {
			t.Errorf("%d bytes", len(got))
		}
	})
	if n := calls(s.home); n < 2 || n > 4 {
		t.Errorf("%d sessions", n)
	}
}

// TestTemporary names of ours, casync's and desync's are no objects, and neither are
// links to nowhere, which casync puts where a chunk is missing.
func TestTemporary(t *testing.T) {
	s := play(t, "openssh", sftp.Options{})
	id := strings.Repeat("ab", 32)
	s.put(t, map[string][]byte{
		"abab/" + id + ".cacnk":                      nil,
		"abab/" + id + ".cacnk.0123456789abcdef.tmp": nil,
		"abab/" + id + ".cacnk8674665223082153551":   nil,
		"abab/.tmp-cacnk123":                         nil,
	})
	for link, to := range map[string]string{"gone": "/known/missing", "here": "abab/" + id + ".cacnk", "folder": "."} {
		if err := os.Symlink(to, filepath.Join(s.dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	d := s.open(t)
	for name, err := range d.List(t.Context(), "") {
		if err != nil {
			t.Error(err)
		}
		got = append(got, name)
	}
	if len(got) != 2 {
		t.Errorf("%q", got)
	}
	if _, _, err := d.Open(t.Context(), "gone", store.Range{}); !errors.Is(err, store.ErrMissing) {
		t.Errorf("behind a link to nowhere: %v", err)
	}
}

// TestRefusals are final, and say where and what.
func TestRefusals(t *testing.T) {
	s := play(t, "openssh", sftp.Options{})
	s.put(t, map[string][]byte{"folder/x": nil, "top": []byte("0123456789")})
	d := s.open(t)
	for _, tt := range []struct {
		name string
		r    store.Range
		want string
	}{
		{"folder", store.Range{}, "/store/folder: not a regular file"},
		{"../secret", store.Range{}, `"../secret" is no name in a folder`},
		{"top", store.Range{Off: 11}, "/store/top: offset 11 is behind the end, which is at 10"},
		{"top", store.Range{Off: -1}, "no range"},
	} {
		_, _, err := d.Open(t.Context(), tt.name, tt.r)
		if !errors.Is(err, store.ErrRefused) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
	if err := d.Put(t.Context(), "folder", strings.NewReader("x"), 1); err == nil || !strings.Contains(err.Error(), "the server says") {
		t.Errorf("a folder was replaced: %v", err)
	}
	for name := range d.List(t.Context(), "") {
		if name != "folder/x" && name != "top" {
			t.Errorf("left %s behind", name)
		}
	}
	none, err := sftp.New("sftp://example.com"+s.dir+"/none/store", s.opt)
	if err != nil {
		t.Fatal(err)
	}
	if err := none.Put(t.Context(), "a/b", strings.NewReader("x"), 1); err == nil || errors.Is(err, store.ErrMissing) || !strings.HasSuffix(err.Error(), "no such folder: sftp://example.com"+s.dir+"/none") {
		t.Errorf("Put without a parent: %v", err)
	}
	for name, err := range none.List(t.Context(), "") {
		if !errors.Is(err, store.ErrMissing) {
			t.Errorf("List of nothing: %q, %v", name, err)
		}
	}
}
