package restore_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"caravel/catar"
	"caravel/catar/restore"
	"caravel/feature"
	"caravel/internal/testtree"
)

func inode(t testing.TB, path string) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

// long is a payload that is handed over in blocks.
func long(seed uint64) string {
	b := make([]byte, 2<<20+777)
	rng := rand.NewChaCha8([32]byte{byte(seed)})
	_, _ = rng.Read(b)
	return string(b)
}

// TestKeeps: what is right stays the file that it is; what differs in a byte or in its
// metadata becomes another one.
func TestKeeps(t *testing.T) {
	whole := long(1)
	changed := []byte(whole)
	changed[1<<20+5] ^= 1
	type change struct {
		name string
		do   func(at string) error
		kept bool
	}
	keepsTime := func(at string, do func() error) error {
		var st unix.Stat_t
		if err := unix.Lstat(at, &st); err != nil {
			return err
		}
		if err := do(); err != nil {
			return err
		}
		return unix.UtimesNanoAt(unix.AT_FDCWD, at, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
	}
	for _, tt := range []change{
		{"nothing", func(string) error { return nil }, true},
		{"short/mode", func(at string) error { return os.Chmod(at, 0o600) }, false},
		{"short/time", func(at string) error { return os.Chtimes(at, time.Unix(1, 0), time.Unix(1, 0)) }, false},
		{"short/byte", func(at string) error {
			return keepsTime(at, func() error { return os.WriteFile(at, []byte("hellO"), 0) })
		}, false},
		{"long/byte", func(at string) error {
			return keepsTime(at, func() error { return os.WriteFile(at, changed, 0) })
		}, false},
		{"long/size", func(at string) error {
			return keepsTime(at, func() error { return os.Truncate(at, 1<<20) })
		}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			packed := archive(t, plain, node{name: "short", body: "hello"}, node{name: "long", body: whole}, link("link", "to"),
				node{name: "FIFO", mode: unix.S_IFIFO | 0o640})
			dst := filepath.Join(t.TempDir(), "dst")
			first := mustExtract(t, packed, dst, restore.Options{})
			if first.Kept != 0 {
				t.Errorf("%+v", first)
			}
			file, _, _ := strings.Cut(tt.name, "/")
			at := filepath.Join(dst, strings.Replace(file, "nothing", "long", 1))
			if err := tt.do(at); err != nil {
				t.Fatal(err)
			}
			was, other := inode(t, at), inode(t, dst+"/link")
			again := mustExtract(t, packed, dst, restore.Options{Delete: restore.KeepExtra})
			want := int64(3)
			if tt.kept {
				want = 4
			}
			if again.Kept != want || again.Entries != first.Entries || again.Bytes != first.Bytes {
				t.Errorf("%+v, the first time %+v", again, first)
			}
			if kept := inode(t, at) == was; kept != tt.kept || inode(t, dst+"/link") != other {
				t.Errorf("kept: %t", kept)
			}
			holds(t, dst+"/short", "hello")
			holds(t, dst+"/long", whole)
			if found := parts(t, dst); found != nil {
				t.Errorf("left behind: %q", found)
			}
		})
	}
}

// TestKeepsAll: nothing of a tree with everything is made twice.
func TestKeepsAll(t *testing.T) {
	needRoot(t)
	dir := tempDir(t)
	src, dst := filepath.Join(dir, "src"), filepath.Join(dir, "dst")
	if err := os.Mkdir(src, 0o755); err != nil {
		t.Fatal(err)
	}
	testtree.Generate(t, src, rand.New(rand.NewPCG(8, 1)), testtree.Options{Root: true, ACLs: true, XAttrs: true, Chattr: true})
	packed := pack(t, src, full)
	mustExtract(t, packed, dst, restore.Options{})
	var files int64
	for n := range entries(t, packed) {
		if !n.IsDir() {
			files++
		}
	}
	again := mustExtract(t, packed, dst, restore.Options{Delete: restore.DeleteExtra})
	if again.Kept != files || again.Deleted != 0 {
		t.Errorf("%+v of %d", again, files)
	}
	alike(t, src, dst, full)
}

// TestLinks: equal files become one on request, others do not, and a second run leaves it so.
func TestLinks(t *testing.T) {
	twice := long(2)
	private := func(e *catar.Entry) { e.Mode = unix.S_IFREG | 0o600 }
	packed := archive(t, plain,
		node{name: "a", body: "hello"}, node{name: "b", body: "hello"}, node{name: "c", body: "hellO"},
		node{name: "d", body: "hello", more: private},
		folder("dir", node{name: "a", body: "hello"}, node{name: "long", body: twice}),
		node{name: "empty", body: ""}, node{name: "empty too", body: ""},
		node{name: "long", body: twice})
	apart := filepath.Join(t.TempDir(), "apart")
	mustExtract(t, packed, apart, restore.Options{})
	for _, prior := range []string{"nothing", "apart", "linked", "all one"} {
		t.Run(prior, func(t *testing.T) {
			dst := filepath.Join(t.TempDir(), "dst")
			switch prior {
			case "apart":
				mustExtract(t, packed, dst, restore.Options{})
			case "linked":
				mustExtract(t, packed, dst, restore.Options{HardLink: true})
			case "all one":
				if err := os.Mkdir(dst, 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(dst+"/a", []byte("hellO"), 0o644); err != nil {
					t.Fatal(err)
				}
				for _, name := range []string{"b", "c", "d"} {
					if err := os.Link(dst+"/a", dst+"/"+name); err != nil {
						t.Fatal(err)
					}
				}
			}
			got := mustExtract(t, packed, dst, restore.Options{Delete: restore.KeepExtra, HardLink: true})
			if got.Linked != 3 {
				t.Errorf("%+v", got)
			}
			alike(t, apart, dst, plain)
			for path, same := range map[string]string{"b": "a", "dir/a": "a"} {
				if inode(t, dst+"/"+path) != inode(t, dst+"/"+same) {
					t.Errorf("%s and %s are two", path, same)
				}
			}
			for _, pair := range [][2]string{{"a", "c"}, {"a", "d"}, {"empty", "empty too"}} {
				if inode(t, dst+"/"+pair[0]) == inode(t, dst+"/"+pair[1]) {
					t.Errorf("%s and %s are one", pair[0], pair[1])
				}
			}
			if inode(t, dst+"/long") != inode(t, dst+"/dir/long") {
				t.Error("the long ones are two")
			}
			if found := parts(t, dst); found != nil {
				t.Errorf("left behind: %q", found)
			}
		})
	}
}

// TestShift: numbers are moved, in access control lists as well, and names say nothing.
func TestShift(t *testing.T) {
	needRoot(t)
	dst := tempDir(t)
	packed := archive(t, plain|feature.UID32|feature.UserNames, node{name: "f", uid: 5, body: "x", more: func(e *catar.Entry) { e.User = "daemon" }})
	shift := func(n uint32) uint32 { return n%3 + 100000 }
	opt := restore.Options{Delete: restore.KeepExtra, Shift: shift}
	for _, kept := range []int64{0, 1} {
		if s := mustExtract(t, packed, dst, opt); s.Kept != kept {
			t.Errorf("%+v", s)
		}
		var st unix.Stat_t
		if err := unix.Lstat(dst+"/f", &st); err != nil || st.Uid != 100002 || st.Gid != 100002 {
			t.Errorf("%d:%d %v", st.Uid, st.Gid, err)
		}
	}
	if s := mustExtract(t, packed, dst, restore.Options{Delete: restore.KeepExtra}); s.Kept != 0 {
		t.Errorf("%+v", s)
	}
}

// TestBestEffort: what may not be done is told, all of it, and the rest is done.
func TestBestEffort(t *testing.T) {
	if !unprivileged(t) {
		return
	}
	me := uint32(os.Getuid())
	xattr := func(e *catar.Entry) { e.XAttrs = []catar.XAttr{{Name: "trusted.x", Value: []byte("v")}} }
	tree := folder("dir",
		node{name: "device", mode: unix.S_IFBLK | 0o600, dev: unix.Mkdev(8, 1), uid: me},
		node{name: "file", body: "hello", uid: 1, more: xattr},
		node{name: "mine", body: "hello", uid: me})
	tree.uid = 1
	packed := archive(t, plain|feature.UID32|feature.DeviceNodes|feature.XAttrs, tree)
	var told []string
	dst := tempDir(t)
	s := mustExtract(t, packed, dst, restore.Options{Delete: restore.KeepExtra, Refused: func(path string, err error) {
		told = append(told, path+": "+err.Error())
	}})
	text := strings.Join(told, "\n")
	for _, want := range []string{"dir: inode: owner 1:1", "dir/file: inode: owner 1:1", `dir/file: inode: extended attribute "trusted.x"`, "dir/device: inode: device 8:1"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	if strings.Contains(text, "mine") || s.Entries != 5 {
		t.Errorf("%+v, %s", s, text)
	}
	holds(t, dst+"/dir/file", "hello")
	holds(t, dst+"/dir/mine", "hello")
	if found := parts(t, dst); found != nil {
		t.Errorf("left behind: %q", found)
	}
}

// entries are those of an archive.
func entries(t testing.TB, packed []byte) func(yield func(*catar.Node) bool) {
	return func(yield func(*catar.Node) bool) {
		d := catar.NewDecoder(bytes.NewReader(packed), catar.DecoderOptions{})
		for {
			n, err := d.Next()
			if err != nil || !yield(n) {
				return
			}
		}
	}
}

// TestResumesLong: what a run has written of a long file is there for the next one, and what
// is wrong in it is not.
func TestResumesLong(t *testing.T) {
	whole := strings.Repeat(long(4), 5)
	packed := archive(t, plain, node{name: "f", body: whole}, node{name: "g", body: "x"})
	for name, spoil := range map[string]func(part string) error{
		"nothing":   func(string) error { return nil },
		"a byte":    func(part string) error { return patch(part, 4<<20, "\x00\x01\x02") },
		"longer":    func(part string) error { return os.Truncate(part, 20<<20) },
		"removed":   os.Remove,
		"a link":    func(part string) error { return errors.Join(os.Remove(part), os.Symlink("../outside", part)) },
		"two names": func(part string) error { return os.Link(part, filepath.Dir(part)+"/../other") },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(dir+"/outside", []byte("mine"), 0o600); err != nil {
				t.Fatal(err)
			}
			dst := filepath.Join(dir, "dst")
			_, err := extract(t, packed[:9<<20], dst, restore.Options{})
			wants(t, err, "truncated")
			found := parts(t, dst)
			if len(found) != 1 {
				t.Fatalf("left behind: %q", found)
			}
			was := inode(t, found[0])
			if err := spoil(found[0]); err != nil {
				t.Fatal(err)
			}
			mustExtract(t, packed, dst, restore.Options{})
			holds(t, dst+"/f", whole)
			holds(t, dst+"/g", "x")
			holds(t, dir+"/outside", "mine")
			resumed := name == "nothing" || name == "a byte" || name == "longer"
			if resumed && inode(t, dst+"/f") != was {
				t.Error("it is another file")
			}
			if found := parts(t, dst); found != nil {
				t.Errorf("left behind: %q", found)
			}
			fresh := filepath.Join(dir, "fresh")
			mustExtract(t, packed, fresh, restore.Options{})
			alike(t, fresh, dst, plain)
		})
	}
}

func patch(path string, at int64, b string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte(b), at)
	return errors.Join(err, f.Close())
}
