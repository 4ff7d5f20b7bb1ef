//go:build linux

package fusefs_test

import (
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"caravel/catar"
	"caravel/catar/inode"
	"caravel/catar/tree"
	"caravel/feature"
	"caravel/fusefs"

	"golang.org/x/sys/unix"
)

var requestLine = regexp.MustCompile(`rx \d+: ([A-Z_0-9]+)`)

// requests are by kind what the kernel has asked since the last time, but for
// what comes behind the end of what a program does.
func (n *notes) requests() map[string]int {
	n.mu.Lock()
	defer n.mu.Unlock()
	kinds := map[string]int{}
	for _, m := range requestLine.FindAllSubmatch(n.b.Bytes(), -1) {
		if kind := string(m[1]); kind != "RELEASE" && kind != "RELEASEDIR" {
			kinds[kind]++
		}
	}
	n.b.Reset()
	return kinds
}

// What the kernel has seen once it does not ask for again, but for attributes where
// there are some, and where it may read files by itself it says which it opens.
func TestTreeKept(t *testing.T) {
	need(t, "sh", "ls", "stat", "find", "readlink", "cat", "getfattr")
	commands := []struct {
		line    string
		again   map[string]int // requests the second time
		attrs   bool           // and again for attributes, where there may be some
		opens   bool
		failing bool
	}{
		{line: "ls -lR D", attrs: true},
		{line: "ls -laR D/dir/below", attrs: true},
		// Before it counts on the number of links it asks what file system that is, which the
		// kernel passes on each time.
		{line: "find D -ls", again: map[string]int{"STATFS": 1}},
		{line: "stat D/dir/file"},
		{line: "stat D/dir/none", failing: true},
		{line: "stat D/dir/link/none", failing: true},
		{line: "readlink D/dir/link"},
		{line: "cat D/dir/file", opens: true},
		{line: "cat D/dir/link", opens: true},
		{line: "getfattr -d -m - D/dir/file", attrs: true},
	}
	for _, tt := range []struct {
		name         string
		flags        feature.Flags
		attrs, known bool
		told         bool
	}{
		{"no attributes possible", feature.Unix, false, false, false},
		{"none there, which is known", best, false, true, false},
		{"some there", best, true, true, false},
		{"none there, which is not known", best, false, false, false},
		{"the kernel may read files", best, false, true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tr := newFakeTree(tt.flags)
			tr.known = tt.known
			dir := tr.dir(tree.Root, "dir")
			tr.dir(dir, "below")
			tr.file(dir, "file", 10_000)
			tr.add(dir, "link", catar.Entry{Mode: unix.S_IFLNK | 0o777, Target: "file"})
			if tt.attrs {
				tr.add(dir, "xattr", catar.Entry{Mode: unix.S_IFREG | 0o644, XAttrs: []catar.XAttr{{Name: "user.n", Value: []byte("v")}}})
			}
			log := new(notes)
			opt := fusefs.Options{Debug: true, Log: log.debugger(), Passthrough: -1}
			if tt.told {
				canPass(t)
				opt.Passthrough = 0
			}
			m := mountedTree(t, tr, opt)
			for _, cmd := range commands {
				for round := range 2 {
					log.requests()
					out, err := exec.Command("sh", "-c", strings.ReplaceAll(cmd.line, "D", m.Dir)).CombinedOutput()
					mayFail := cmd.failing || strings.HasPrefix(cmd.line, "getfattr")
					if err != nil && !mayFail {
						t.Fatalf("%s: %v\n%s", cmd.line, err, out)
					}
					if round == 0 {
						continue
					}
					got := log.requests()
					asked := got["GETXATTR"] > 0 // how often, is for the version of ls to say
					if tt.attrs || !tt.known {   // else a list is asked for and empty
						asked = asked || got["LISTXATTR"] > 0
					}
					delete(got, "GETXATTR")
					delete(got, "LISTXATTR")
					again := maps.Clone(cmd.again)
					if cmd.opens && tt.told {
						again = map[string]int{"OPEN": 1}
					}
					if want := cmd.attrs && (tt.attrs || tt.flags == best && !tt.known); asked != want || !maps.Equal(got, again) {
						t.Errorf("%s: the kernel asked again: %v, want %v; for attributes: %v, want %v", cmd.line, got, again, asked, want)
					}
				}
			}
		})
	}
}

// TestTreePacked counts what a file costs that is packed: chattr's flags, FAT's and the
// quota's project, a list of attributes, and the bytes; but no opening and closing.
func TestTreePacked(t *testing.T) {
	const files = 100
	tr := newFakeTree(best)
	tr.known = true
	for i := range files {
		tr.file(tree.Root, fmt.Sprintf("%03d", i), 4000)
	}
	log := new(notes)
	m := mountedTree(t, tr, fusefs.Options{Debug: true, Log: log.debugger(), Passthrough: -1})
	log.requests()
	packed(t, m.Dir)
	got := log.requests()
	for kind, want := range map[string]int{"IOCTL": 3, "LISTXATTR": 1, "READ": 1} {
		if n := got[kind]; n != want*files {
			t.Errorf("%d × %s for %d files, want %d each", n, kind, files, want)
		}
		delete(got, kind)
	}
	for kind, n := range got { // to list the directory, and the first OPEN
		if n > 5 {
			t.Errorf("%d × %s for %d files", n, kind, files)
		}
	}
}

// packed reads the files of a directory as who packs it does.
func packed(t *testing.T, dir string) {
	t.Helper()
	names, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	r := inode.NewReader(best)
	for _, name := range names {
		f, err := os.Open(filepath.Join(dir, name.Name()))
		if err != nil {
			t.Fatal(err)
		}
		var st unix.Statx_t
		err = unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_BASIC_STATS, &st)
		if err == nil {
			_, err = r.Entry(int(f.Fd()), &st)
		}
		if err == nil {
			_, err = io.Copy(io.Discard, f)
		}
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
	}
}
