//go:build unix

package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// TestListenUnix takes the place of what is dead and leaves everything else alone.
func TestListenUnix(t *testing.T) {
	t.Chdir(t.TempDir())
	live, err := net.Listen("unix", "live")
	if err != nil {
		t.Fatal(err)
	}
	defer live.Close()
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: "dead", Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	other, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: "datagrams", Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for _, err := range []error{
		dead.Close(), os.WriteFile("file", []byte("a letter"), 0o600), os.Mkdir("folder", 0o700), os.Symlink("nowhere", "link"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]string{ // "": it listens
		"new":                              "",
		"dead":                             "",
		"@new":                             "",
		strings.Repeat("x", longestSocket): "",
		"live":                             "live: another server listens there",
		"datagrams":                        "datagrams: perhaps another server listens there: ",
		"file":                             "file: is there already, and is no socket",
		"folder":                           "folder: is there already, and is no socket",
		"link":                             "link: is there already, and is no socket",
		"none/s":                           "stat none: no such file or directory",
		"file/s":                           "file/s: not a directory",
		longPath():                         "--socket=" + longPath() + ": a path of ",
		"@" + strings.Repeat("x", longestSocket-2): "that of a socket has at most",
	} {
		l, err := listenUnix(path)
		if err != nil {
			if want == "" || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %q", path, err, want)
			}
			continue
		}
		if want != "" {
			t.Errorf("%s: listens, want %q", path, want)
		}
		if st, err := os.Lstat(filepath.Join(".", path)); err != nil || st.Mode() != os.ModeSocket|0o600 {
			t.Errorf("%s: %v, %v", path, st, err)
		}
		l.Close()
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%s: is left", path)
		}
	}
	if b, err := os.ReadFile("file"); string(b) != "a letter" {
		t.Errorf("the file has %q, %v", b, err)
	}
	if _, err := net.Dial("unix", "live"); err != nil {
		t.Errorf("the server that lives: %v", err)
	}
}

// TestListenUnixAtOnce has several want the place of one dead socket: one of them
// gets it, and keeps it.
func TestListenUnixAtOnce(t *testing.T) {
	t.Chdir(t.TempDir())
	for range 100 {
		dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: "s", Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		dead.SetUnlinkOnClose(false)
		if err := dead.Close(); err != nil {
			t.Fatal(err)
		}
		all := make(chan net.Listener, 8)
		var starts sync.WaitGroup
		for range cap(all) {
			starts.Go(func() {
				if l, err := listenUnix("s"); err == nil {
					all <- l
				} else if !strings.Contains(err.Error(), "another server listens there") {
					t.Error(err)
				}
			})
		}
		starts.Wait()
		close(all)
		if len(all) != 1 {
			t.Fatalf("%d listen on one socket", len(all))
		}
		if _, err := net.Dial("unix", "s"); err != nil {
			t.Fatal(err)
		}
		for l := range all {
			l.Close()
		}
	}
}
