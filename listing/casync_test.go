package listing_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"caravel/catar"
	"caravel/listing"
)

// TestAsTheProgram has casync print every entry of trees that it made itself
// with all kinds of features.
func TestAsTheProgram(t *testing.T) {
	if _, err := exec.LookPath("casync"); err != nil {
		t.Skip("casync is not installed")
	}
	t.Setenv("TZ", "UTC")
	dir := smallTree(t)
	for _, with := range []string{"", "--with=unix", "--with=fat", "--with=chattr", "--with=fuse", "--with=privileged",
		"--with=32bit-uids", "--with=acl", "--with=2sec-time", "--with=flag-hidden", "--without=all", "--digest=sha256", "--exclude-nodump=no"} {
		t.Run(with, func(t *testing.T) {
			archive := filepath.Join(t.TempDir(), "tree.catar")
			ask(t, "make", with, archive, dir)
			b, err := os.ReadFile(archive)
			if err != nil {
				t.Fatal(err)
			}
			var list []byte
			each(t, b, func(path string, n *catar.Node, d listing.Details) {
				list = listing.List(list, path, n.Mode)
				d.Zone = time.UTC
				same(t, "stat "+path, listing.Stat(nil, path, n, d), ask(t, "stat", with, archive, path))
				if n.IsDir() || n.IsRegular() { // for others it prints flags that nothing has
					line := listing.MTree(nil, path, n, d.Flags, d.Digest)
					first, _, _ := bytes.Cut(ask(t, "mtree", with, archive, path), []byte("\n"))
					same(t, "mtree "+path, line, append(first, '\n'))
				}
			})
			same(t, "list", list, ask(t, "list", with, archive, ""))
		})
	}
}

// ask runs casync.
func ask(t *testing.T, verb, with string, args ...string) []byte {
	t.Helper()
	words := append([]string{verb}, args...)
	if with != "" {
		words = append(words, with)
	}
	out, err := exec.Command("casync", words...).Output()
	if err != nil {
		t.Fatalf("casync %s: %v", strings.Join(words, " "), err)
	}
	return out
}

// smallTree has a node of every type that the user may make.
func smallTree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	make := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	make(os.MkdirAll(in("a dir/empty"), 0o755))
	make(os.WriteFile(in("a dir/fi#le\\"), []byte("some text\n"), 0o640))
	make(os.WriteFile(in("\xff\n"), nil, 0o600))
	make(os.Symlink("where \x01 to", in("link")))
	make(os.Chmod(in("a dir/empty"), 0o700|os.ModeSetgid|os.ModeSticky))
	make(os.Chtimes(in("a dir"), time.Time{}, time.Unix(1_234_567_890, 123_456_789)))
	for _, try := range [][]string{ // what needs rights, or a file system that knows it
		{"mkfifo", in("fifo")},
		{"mknod", in("char"), "c", "4", "300"},
		{"mknod", in("block"), "b", "259", "74565"},
		{"setfattr", "-n", "user.te\xffxt", "-v", "a b", in("a dir/fi#le\\")},
		{"setfattr", "-n", "user.nothing", in("a dir")},
		{"chattr", "+Ad", in("a dir/fi#le\\")},
		{"chown", "daemon:12345", in("\xff\n")},
	} {
		if out, err := exec.Command(try[0], try[1:]...).CombinedOutput(); err != nil {
			t.Logf("not in the tree: %s: %v, %s", try, err, out)
		}
	}
	return dir
}
