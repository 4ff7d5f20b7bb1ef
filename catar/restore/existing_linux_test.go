package restore_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"caravel/catar"
	"caravel/catar/restore"
	"caravel/feature"
)

// occupants are what may be in the place of a node.
var occupants = map[string]func(s *stage, at string) error{
	"nothing":           func(*stage, string) error { return nil },
	"file":              func(_ *stage, at string) error { return os.WriteFile(at, []byte("old"), 0o400) },
	"hard link outside": func(s *stage, at string) error { return os.Link(s.dir+"/outside/file", at) },
	"empty directory":   func(_ *stage, at string) error { return os.Mkdir(at, 0o555) },
	"full directory": func(s *stage, at string) error {
		return errors.Join(os.MkdirAll(at+"/full/er", 0o755), os.WriteFile(at+"/full/file", nil, 0o600),
			os.Symlink(s.dir+"/outside", at+"/full/link"))
	},
	"link to a directory": func(s *stage, at string) error { return os.Symlink(s.dir+"/outside/dir", at) },
	"link to a file":      func(s *stage, at string) error { return os.Symlink(s.dir+"/outside/file", at) },
	"link to nothing":     func(s *stage, at string) error { return os.Symlink(s.dir+"/outside/new", at) },
	"FIFO":                func(_ *stage, at string) error { return unix.Mkfifo(at, 0o600) },
	"socket":              func(_ *stage, at string) error { return unix.Mknod(at, unix.S_IFSOCK|0o600, 0) },
}

// TestInTheWay has every type of node come where every other is.
func TestInTheWay(t *testing.T) {
	nodes := map[string]node{
		"file":            {name: "n", body: "new"},
		"large file":      {name: "n", body: strings.Repeat("new", 1<<20)},
		"directory":       folder("n", node{name: "file", body: "new"}, folder("sub", node{name: "deep", body: "new"})),
		"empty directory": {name: "n", mode: unix.S_IFDIR | 0o500},
		"link":            link("n", "to"),
		"FIFO":            {name: "n", mode: unix.S_IFIFO | 0o640},
		"socket":          {name: "n", mode: unix.S_IFSOCK | 0o640},
	}
	for was, make := range occupants {
		for is, n := range nodes {
			for _, policy := range []restore.Delete{restore.RefuseExtra, restore.DeleteExtra, restore.KeepExtra} {
				t.Run(fmt.Sprintf("%s for %s, %d", is, was, policy), func(t *testing.T) {
					s := newStage(t)
					if err := errors.Join(os.Mkdir(s.dst, 0o755), make(s, s.dst+"/n")); err != nil {
						t.Fatal(err)
					}
					if was == "hard link outside" {
						s.before = manifest(t, s.dir+"/outside")
					}
					packed := archive(t, plain, n)
					old := manifest(t, s.dst)
					_, err := extract(t, packed, s.dst, restore.Options{Delete: policy, Names: names(packed)})
					isDir := strings.HasSuffix(is, "directory")
					switch {
					case was == "full directory" && policy == restore.RefuseExtra:
						wants(t, err, "holds 4 nodes", `"n/full"`, "--delete=yes", "--delete=no")
						if now := manifest(t, s.dst); now != old {
							t.Errorf("it has changed:\n%s\nnot\n%s", now, old)
						}
					case was == "full directory" && policy == restore.KeepExtra && !isDir:
						wants(t, err, `"n"`, "not empty", "--delete=yes")
						if _, err := os.Stat(s.dst + "/n/full/file"); err != nil {
							t.Error(err)
						}
					case err != nil:
						t.Error(err)
					case was == "full directory" && policy == restore.KeepExtra:
						if _, err := os.Stat(s.dst + "/n/full/file"); err != nil {
							t.Error(err)
						}
					default:
						if got := pack(t, s.dst, plain); !bytes.Equal(got, packed) {
							t.Error("packed again it is another archive")
						}
					}
					if was == "hard link outside" {
						holds(t, s.dir+"/outside/file", "precious")
						return // its number of links has changed
					}
					s.unharmed(t)
				})
			}
		}
	}
}

// TestUpdate brings a tree to another version.
func TestUpdate(t *testing.T) {
	old := archive(t, plain, node{name: "same", body: "same"}, node{name: "changed", body: "old"}, node{name: "gone", body: "x"},
		folder("goes", node{name: "a"}, folder("b", node{name: "c"})), folder("becomes a file", node{name: "a"}),
		node{name: "becomes a directory", body: "x"}, link("becomes a node", "same"),
		node{name: "read-only", mode: unix.S_IFDIR | 0o555, kids: []node{{name: "in", mode: unix.S_IFREG | 0o444, body: "old"}}})
	now := archive(t, plain, node{name: "same", body: "same"}, node{name: "changed", body: "new, longer"},
		node{name: "becomes a file", body: "file"}, folder("becomes a directory", node{name: "a"}), node{name: "becomes a node", mode: unix.S_IFIFO | 0o600},
		node{name: "read-only", mode: unix.S_IFDIR | 0o511, kids: []node{{name: "in", mode: unix.S_IFREG | 0o400, body: "new"}, {name: "more"}}})
	dst := tempDir(t)
	mustExtract(t, old, dst, restore.Options{})
	_, err := extract(t, now, dst, restore.Options{Names: names(now)})
	var extra *restore.ExtraError
	if !errors.As(err, &extra) || extra.Count != 6 || extra.First != "becomes a file/a" || extra.Dir != dst {
		t.Errorf("got %v", err)
	}
	if !bytes.Equal(pack(t, dst, plain), old) {
		t.Error("refused, it has changed")
	}
	_, err = extract(t, now, dst, restore.Options{})
	if !errors.As(err, &extra) || extra.Count != 13 || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("without names: got %v", err)
	}
	stats := mustExtract(t, now, dst, restore.Options{Delete: restore.DeleteExtra})
	if stats.Deleted != 7 { // "becomes a file" is a directory, and one in it
		t.Errorf("%+v", stats)
	}
	if !bytes.Equal(pack(t, dst, plain), now) {
		t.Error("packed again it is another archive")
	}
	mustExtract(t, now, dst, restore.Options{Names: names(now)}) // nothing is in the way now
	mustExtract(t, archive(t, plain, node{name: "one"}), dst, restore.Options{Delete: restore.KeepExtra})
	if list, err := os.ReadDir(dst); len(list) != 7 {
		t.Errorf("%v, %v", list, err)
	}
}

func TestUpdateOfUser(t *testing.T) {
	if unprivileged(t) {
		TestUpdate(t)
		for _, mode := range []uint32{0o000, 0o100, 0o300, 0o500, 0o555} {
			packed := archive(t, plain, node{name: "d", mode: unix.S_IFDIR | mode, kids: []node{
				{name: "e", mode: unix.S_IFDIR | mode, kids: []node{{name: "f", mode: unix.S_IFREG | mode, body: "x"}}}}})
			dst := tempDir(t)
			mustExtract(t, packed, dst, restore.Options{})
			mustExtract(t, packed, dst, restore.Options{Delete: restore.DeleteExtra})
			mustExtract(t, archive(t, plain), dst, restore.Options{Delete: restore.DeleteExtra})
			if list, err := os.ReadDir(dst); err != nil || len(list) != 0 {
				t.Errorf("%o: %v, %v", mode, list, err)
			}
		}
		// What was opened up to be written to is given back by a run that fails.
		dst := tempDir(t)
		mustExtract(t, archive(t, plain, node{name: "d", mode: unix.S_IFDIR | 0o511, kids: []node{{name: "f"}}}), dst, restore.Options{})
		long := archive(t, plain, node{name: "d", mode: unix.S_IFDIR | 0o755, kids: []node{{name: "f", body: strings.Repeat("x", 3<<20)}}})
		_, err := extract(t, long[:2<<20], dst, restore.Options{Delete: restore.KeepExtra})
		wants(t, err, "truncated")
		if st, err := os.Stat(dst + "/d"); err != nil || st.Mode().Perm() != 0o511 {
			t.Errorf("%v, %v", st.Mode(), err)
		}
	}
}

// TestDeleteStaysHere: neither a link nor a mount leads the deletion away.
func TestDeleteStaysHere(t *testing.T) {
	s := newStage(t)
	if err := errors.Join(os.MkdirAll(s.dst+"/extra/mnt", 0o755), os.Symlink(s.dir+"/outside", s.dst+"/extra/link"),
		os.Symlink(s.dir+"/outside", s.dst+"/link")); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := unix.Mount(s.dir+"/outside", s.dst+"/extra/mnt", "", unix.MS_BIND, ""); err != nil {
			t.Logf("without a mount: %v", err)
		} else {
			defer unix.Unmount(s.dst+"/extra/mnt", unix.MNT_DETACH)
			_, err := extract(t, archive(t, plain), s.dst, restore.Options{Delete: restore.DeleteExtra})
			wants(t, err, `"extra"`, `"mnt"`, "mounted")
			s.unharmed(t)
			if err := unix.Unmount(s.dst+"/extra/mnt", 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	mustExtract(t, archive(t, plain), s.dst, restore.Options{Delete: restore.DeleteExtra})
	if list, err := os.ReadDir(s.dst); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
	s.unharmed(t)
}

// TestLeftovers: what a killed run left is removed, what a living one has is
// not, and neither is in the way.
func TestLeftovers(t *testing.T) {
	packed := archive(t, plain, folder("d", node{name: "f", body: "x"}), link("l", "d"))
	for _, policy := range []restore.Delete{restore.RefuseExtra, restore.DeleteExtra, restore.KeepExtra} {
		dst := tempDir(t)
		mustExtract(t, packed, dst, restore.Options{})
		if err := errors.Join(
			os.WriteFile(dst+"/d/.#caravel.0123456789abcdef.part", []byte("unfinished"), 0o600),
			os.Symlink("d", dst+"/.#caravel.00000000000000ff.part"),
			os.WriteFile(dst+"/.#caravel.00000000000000fg.part", []byte("another's"), 0o600)); err != nil {
			t.Fatal(err)
		}
		d, err := os.Open(dst + "/d")
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Flock(int(d.Fd()), unix.LOCK_SH); err != nil {
			t.Fatal(err)
		}
		opt := restore.Options{Delete: policy, Names: names(packed)}
		if policy == restore.RefuseExtra {
			_, err := extract(t, packed, dst, opt)
			wants(t, err, `holds a node, ".#caravel.00000000000000fg.part", that`)
			if err := os.Remove(dst + "/.#caravel.00000000000000fg.part"); err != nil {
				t.Fatal(err)
			}
		}
		mustExtract(t, packed, dst, opt)
		if _, err := os.Stat(dst + "/d/.#caravel.0123456789abcdef.part"); err != nil {
			t.Errorf("policy %d: a living run's: %v", policy, err)
		}
		if _, err := os.Lstat(dst + "/.#caravel.00000000000000ff.part"); err == nil {
			t.Errorf("policy %d: a dead run's is still there", policy)
		}
		if _, err := os.Stat(dst + "/.#caravel.00000000000000fg.part"); (err == nil) != (policy == restore.KeepExtra) {
			t.Errorf("policy %d: another's: %v", policy, err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		mustExtract(t, packed, dst, opt)
		if _, err := os.Stat(dst + "/d/.#caravel.0123456789abcdef.part"); err == nil {
			t.Errorf("policy %d: a dead run's is still there", policy)
		}
	}
}

// TestSealedInTheWay: what is immutable stays, and the error says that it is, unless the
// user wants that undone.
func TestSealedInTheWay(t *testing.T) {
	needRoot(t)
	sealed := func(e *catar.Entry) { e.Flags = feature.Immutable }
	of := func(what, body string) node {
		if what == "f" {
			return node{name: "f", body: body, more: sealed}
		}
		return node{name: "d", mode: unix.S_IFDIR | 0o755, more: sealed, kids: []node{{name: "g", body: body}}}
	}
	for _, what := range []string{"f", "d/g"} {
		packed := archive(t, plain|feature.Immutable, of(what, "old"))
		dst := tempDir(t)
		if _, err := extract(t, packed, dst, restore.Options{}); err != nil {
			t.Skipf("nothing can be made immutable here: %v", err)
		}
		packed = archive(t, plain|feature.Immutable, of(what, "new"))
		_, err := extract(t, packed, dst, restore.Options{Delete: restore.KeepExtra})
		wants(t, err, `"`+what+`"`, "immutable", "chattr -i")
		holds(t, dst+"/"+what, "old")
		if found := parts(t, dst); found != nil {
			t.Errorf("left behind: %q", found)
		}
		mustExtract(t, packed, dst, restore.Options{Delete: restore.KeepExtra, UndoImmutable: true})
		holds(t, dst+"/"+what, "new")

		packed = archive(t, plain, node{name: "d", body: "a file"})
		_, err = extract(t, packed, dst, restore.Options{Delete: restore.DeleteExtra})
		wants(t, err, "--undo-immutable")
		mustExtract(t, packed, dst, restore.Options{Delete: restore.DeleteExtra, UndoImmutable: true})
		holds(t, dst+"/d", "a file")
	}
}
