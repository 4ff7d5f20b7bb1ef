//go:build linux

package fusefs_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"caravel/catar"
	"caravel/catar/tree"
	"caravel/feature"
	"caravel/fusefs"

	"golang.org/x/sys/unix"
)

func TestTreeAttributes(t *testing.T) {
	entries := []struct {
		name string
		e    catar.Entry
	}{
		{"block", catar.Entry{Mode: unix.S_IFBLK | 0o660, Major: 4095, Minor: 1<<20 - 1}},
		{"char", catar.Entry{Mode: unix.S_IFCHR | 0o666, Major: 1, Minor: 3}},
		{"dir", catar.Entry{Mode: unix.S_IFDIR | unix.S_ISVTX | 0o777, MTime: math.MaxInt64}},
		{"empty", catar.Entry{Mode: unix.S_IFREG}},
		{"fifo", catar.Entry{Mode: unix.S_IFIFO | 0o600, UID: 1000, GID: 1<<32 - 2}},
		{"file", catar.Entry{Mode: unix.S_IFREG | unix.S_ISUID | unix.S_ISGID | 0o751, Size: 12345, UID: 12, GID: 34, MTime: 1_600_000_000_123_456_789}},
		{"huge", catar.Entry{Mode: unix.S_IFREG | 0o400, Size: 1 << 50}},
		{"link", catar.Entry{Mode: unix.S_IFLNK | 0o777, Target: strings.Repeat("/x", 2047) + "y", MTime: 1}},
		{"odd \n\xff", catar.Entry{Mode: unix.S_IFREG | 0o644, Size: 513, MTime: -1}},
		{"old", catar.Entry{Mode: unix.S_IFREG | 0o644, Size: 512, MTime: -1_500_000_000}},
		{"socket", catar.Entry{Mode: unix.S_IFSOCK | 0o755, MTime: math.MinInt64}},
		{strings.Repeat("z", 255), catar.Entry{Mode: unix.S_IFREG | 0o644}},
	}
	tr := newFakeTree(best)
	for _, e := range entries {
		tr.add(tree.Root, e.name, e.e)
	}
	m := mountedTree(t, tr, fusefs.Options{})
	var root unix.Stat_t
	if err := unix.Lstat(m.Dir, &root); err != nil {
		t.Fatal(err)
	}
	if root.Ino != 1 || root.Mode != unix.S_IFDIR|0o755 || root.Nlink != 3 {
		t.Errorf("root: %+v", root)
	}
	for i, e := range entries {
		want := unix.Stat_t{
			Dev: root.Dev, Ino: 1000*uint64(i+2) - 999, Nlink: 1, Mode: e.e.Mode, Uid: e.e.UID, Gid: e.e.GID,
			Rdev: unix.Mkdev(e.e.Major, e.e.Minor), Size: e.e.Size + int64(len(e.e.Target)), Blksize: 4096, Blocks: (e.e.Size + 511) / 512,
		}
		if e.e.IsDir() {
			want.Nlink = 2
		}
		mtime := time.Unix(0, e.e.MTime)
		when := unix.Timespec{Sec: mtime.Unix(), Nsec: int64(mtime.Nanosecond())}
		want.Atim, want.Mtim, want.Ctim = when, when, when
		for _, how := range []string{"looked up", "listed"} {
			var got unix.Stat_t
			if err := unix.Lstat(filepath.Join(m.Dir, e.name), &got); err != nil || got != want {
				t.Errorf("%q, %s: %v\n got %+v\nwant %+v", e.name, how, err, got, want)
			}
			if _, err := os.ReadDir(m.Dir); err != nil {
				t.Fatal(err)
			}
		}
		if e.e.IsSymlink() {
			if target, err := os.Readlink(filepath.Join(m.Dir, e.name)); err != nil || target != e.e.Target {
				t.Errorf("link: %d bytes, %v", len(target), err)
			}
		}
	}
	var st unix.Statfs_t
	if err := unix.Statfs(m.Dir, &st); err != nil {
		t.Fatal(err)
	}
	if st.Bsize != 4096 || st.Blocks != uint64(tr.end+4095)/4096 || st.Bfree != 0 || st.Files != uint64(tr.Len()) || st.Ffree != 0 || st.Namelen != 255 {
		t.Errorf("statfs: %+v, %d bytes", st, tr.end)
	}
	if st.Flags&(unix.ST_RDONLY|unix.ST_NOSUID|unix.ST_NODEV) != unix.ST_RDONLY|unix.ST_NOSUID|unix.ST_NODEV {
		t.Errorf("statfs: flags %#x", st.Flags)
	}
}

// The kernel keeps whatever it has seen, also that something is not there.
func TestTreeAsksOnce(t *testing.T) {
	tr := newFakeTree(best)
	dir := tr.dir(tree.Root, "dir")
	tr.add(dir, "link", catar.Entry{Mode: unix.S_IFLNK | 0o777, Target: "there"})
	m := mountedTree(t, tr, fusefs.Options{})
	for range 3 {
		if _, err := os.Stat(m.Dir + "/dir/none"); !errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
		if _, err := os.Stat(m.Dir + "/dir/link/none"); !errors.Is(err, os.ErrNotExist) { // dangling
			t.Error(err)
		}
		if _, err := os.Stat(m.Dir + "/dir/" + strings.Repeat("n", 256)); !errors.Is(err, syscall.ENAMETOOLONG) {
			t.Error(err)
		}
		if names, err := os.ReadDir(m.Dir + "/dir"); err != nil || len(names) != 1 {
			t.Error(names, err)
		}
	}
	// dir, dir/none, dir/link, dir/there
	for op, n := range map[string]int{"lookup": 4, "target": 1, "children": 1, "entry": 0} {
		if got := tr.count(op); got != n {
			t.Errorf("%s: asked %d times, want %d", op, got, n)
		}
	}
}

func TestTreePrograms(t *testing.T) {
	need(t, "ls", "find", "diff", "cp", "tar")
	source := t.TempDir()
	write := func(name string, size int64, mode os.FileMode) {
		path := filepath.Join(source, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, want(size, int(size)), mode)); err != nil {
			t.Fatal(err)
		}
	}
	write("a/b/c/deep", 1, 0o600)
	write("a/empty", 0, 0o444)
	write("a/page", 4096, 0o644)
	write("big", 3<<20+7, 0o755)
	write("sp ace\n\xfe", 10, 0o644)
	for i := range 300 {
		write(fmt.Sprintf("many/%03d", i), int64(i), 0o644)
	}
	err := errors.Join(os.Symlink("a/b", source+"/link"), os.Symlink("nowhere", source+"/dangling"),
		unix.Mkfifo(source+"/fifo", 0o640), os.Mkdir(source+"/none", 0o700),
		os.Chtimes(source+"/a", time.Time{}, time.Unix(-5, 5)))
	if err != nil {
		t.Fatal(err)
	}
	tr, stream := copied(t, source)
	m := mountedParts(t, tr, parts(stream), fusefs.Options{})

	metadata := func(dir string) string {
		out := run(t, "find", dir, // the sizes of directories are each file system's own
			"-type", "d", "-printf", `%P %M %U %G %T@\0`, "-o", "-printf", `%P %M %U %G %s %T@ %l\0`)
		all := strings.Split(out, "\x00")
		slices.Sort(all)
		return strings.Join(all, "\n")
	}
	want := metadata(source)
	for range 2 { // from here, and from the kernel's memory
		if got := metadata(m.Dir); got != want {
			t.Errorf("find:\n%s\nwant\n%s", got, want)
		}
		run(t, "ls", "-lRa", m.Dir)
		run(t, "find", m.Dir, "-ls")
		run(t, "diff", "-r", "--no-dereference", "-x", "fifo", source, m.Dir)
	}
	there := t.TempDir() + "/copy"
	run(t, "cp", "-a", m.Dir, there)
	if got := metadata(there); got != want {
		t.Errorf("copy:\n%s\nwant\n%s", got, want)
	}
	run(t, "diff", "-r", "--no-dereference", "-x", "fifo", source, there)
	run(t, "tar", "-C", m.Dir, "-cf", "/dev/null", ".")
}

func TestTreeConcurrentLookups(t *testing.T) {
	const dirs, files, readers = 20, 50, 8
	tr := newFakeTree(best)
	for d := range dirs {
		dir := tr.dir(tree.Root, fmt.Sprintf("d%02d", d))
		for i := range files {
			tr.file(dir, fmt.Sprintf("f%02d", i), int64(d*files+i))
		}
	}
	m := mountedTree(t, tr, fusefs.Options{})
	var all sync.WaitGroup
	for r := range readers {
		all.Go(func() {
			for i := range dirs * files {
				i = (i*7 + r*131) % (dirs * files)
				path := fmt.Sprintf("%s/d%02d/f%02d", m.Dir, i/files, i%files)
				b, err := os.ReadFile(path)
				off, _ := tr.Payload(tr.entries[tr.entries[1].children[i/files]].children[i%files])
				if err != nil || !bytes.Equal(b, want(off, i)) {
					t.Errorf("%s: %d bytes, %v", path, len(b), err)
					return
				}
				if _, err := os.Lstat(path + "x"); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("%sx: %v", path, err)
					return
				}
			}
		})
	}
	all.Wait()
}

// Modes count for those who are not root, though root has mounted it.
func TestTreePermissions(t *testing.T) {
	needRoot(t)
	need(t, "setpriv", "cat")
	tr := newFakeTree(feature.Unix)
	for _, name := range []string{"604", "600", "640"} {
		mode, _ := strconv.ParseUint(name, 8, 32)
		tr.add(tree.Root, name, catar.Entry{Mode: unix.S_IFREG | uint32(mode), Size: 5, GID: 4242})
	}
	m := mountedTree(t, tr, fusefs.Options{})
	opened(t, m.Dir)
	for name, groups := range map[string]map[string]bool{
		"604": {"65534": true, "4242": false},
		"600": {"65534": false, "4242": false},
		"640": {"65534": false, "4242": true},
	} {
		for group, allowed := range groups {
			out, err := exec.Command("setpriv", "--reuid=65534", "--regid="+group, "--clear-groups", "cat", m.Dir+"/"+name).CombinedOutput()
			if (err == nil) != allowed {
				t.Errorf("%s for group %s: %v: %q", name, group, err, out)
			}
		}
	}
}

// opened lets everybody come as far as to a directory of a test.
func opened(t testing.TB, dir string) {
	t.Helper()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
}
