package inode_test

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"caravel/catar"
	"caravel/catar/inode"
	"caravel/feature"
)

// all is what casync keeps by default, and chattr's +d.
const all = feature.Flags(feature.Best)

// open opens path as walks do.
func open(t testing.TB, path string) (fd int, st unix.Statx_t) {
	t.Helper()
	if err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BASIC_STATS, &st); err != nil {
		t.Fatal(path, err)
	}
	mode := unix.O_RDONLY
	if typ := st.Mode & unix.S_IFMT; typ != unix.S_IFREG && typ != unix.S_IFDIR {
		mode = unix.O_PATH
	}
	fd, err := unix.Open(path, mode|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(path, err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_BASIC_STATS, &st); err != nil {
		t.Fatal(path, err)
	}
	return fd, st
}

func read(t testing.TB, path string, f feature.Flags) *catar.Entry {
	t.Helper()
	fd, st := open(t, path)
	e, err := inode.NewReader(f).Entry(fd, &st)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return e
}

// create makes a node like e, without its metadata.
func create(t testing.TB, path string, e *catar.Entry) {
	t.Helper()
	var err error
	switch e.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		err = os.WriteFile(path, nil, 0o600)
	case unix.S_IFDIR:
		if e.Flags&feature.Subvolume == 0 {
			err = unix.Mkdir(path, 0o700)
			break
		}
		dirfd, _ := open(t, filepath.Dir(path))
		err = inode.MakeSubvolume(dirfd, filepath.Base(path))
	case unix.S_IFLNK:
		err = unix.Symlink(e.Target, path)
	default:
		err = unix.Mknod(path, e.Mode&unix.S_IFMT|0o600, int(unix.Mkdev(e.Major, e.Minor)))
	}
	if err != nil {
		t.Fatal(path, err)
	}
}

// set does to path what a restore does, to the end.
func set(t testing.TB, path string, e *catar.Entry, f feature.Flags) error {
	t.Helper()
	fd, st := open(t, path)
	s := inode.NewSetter(f)
	var early error
	if st.Mode&unix.S_IFMT == unix.S_IFREG || st.Mode&unix.S_IFMT == unix.S_IFDIR {
		if early = s.Prepare(fd, e); e.Size > 0 {
			content(t, path, e.Size)
		}
	}
	err := s.Set(fd, e)
	return cmp.Or(early, err, s.Seal(fd, e))
}

func content(t testing.TB, path string, size int64) {
	t.Helper()
	if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
}

// free takes away what would keep a test's folder from being removed.
func free(t testing.TB, path string) {
	t.Cleanup(func() {
		if f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0); err == nil {
			_ = unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, 0)
			f.Close()
		}
	})
}

// needRoot skips the test for anybody else.
func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("not root")
	}
}

// run runs a tool, or skips the test where it is missing.
func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("%s is not installed", name)
	}
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// A maker makes a node with something special about it.
type maker struct {
	name  string
	make  func(t *testing.T, path string)
	lacks string // the kinds of file systems that cannot hold it
}

func file(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, []byte("content"), 0o640); err != nil {
		t.Fatal(err)
	}
}

func folder(t *testing.T, path string) {
	t.Helper()
	if err := os.Mkdir(path, 0o750); err != nil {
		t.Fatal(err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func mknod(mode uint32, dev uint64) func(t *testing.T, path string) {
	return func(t *testing.T, path string) { must(t, unix.Mknod(path, mode, int(dev))) }
}

// with makes a file by base, and calls a tool for it.
func with(base func(*testing.T, string), name string, args ...string) func(*testing.T, string) {
	return func(t *testing.T, path string) {
		base(t, path)
		free(t, path)
		run(t, name, append(args, path)...)
	}
}

// xattr makes a node by base, and gives it an attribute.
func xattr(base func(*testing.T, string), name, value string) func(*testing.T, string) {
	return func(t *testing.T, path string) {
		base(t, path)
		give(t, path, name, value)
	}
}

// give sets an attribute, where they are known: a tmpfs before Linux 6.6 has
// none of the user's.
func give(t *testing.T, path, name, value string) {
	t.Helper()
	err := unix.Lsetxattr(path, name, []byte(value), 0)
	if err == unix.EOPNOTSUPP {
		t.Skipf("%s: %v", name, err)
	}
	must(t, err)
}

// high is an id that is negative where an int has 32 bits.
var high uint32 = 4_000_000_000

func link(t *testing.T, path string) { must(t, os.Symlink("where/ever", path)) }

var fifo = mknod(unix.S_IFIFO|0o640, 0)

// caps grants cap_net_raw, in version 2 of the format.
const caps = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

var makers = []maker{
	{"file", file, ""},
	{"folder", folder, ""},
	{"link", link, ""},
	{"long link", func(t *testing.T, path string) { must(t, os.Symlink(strings.Repeat("abcdefg/", 127)+"x", path)) }, ""},
	{"fifo", fifo, ""},
	{"socket", mknod(unix.S_IFSOCK|0o777, 0), ""},
	{"character device", mknod(unix.S_IFCHR|0o620, unix.Mkdev(259, 200000)), ""},
	{"block device", mknod(unix.S_IFBLK|0o600, unix.Mkdev(7, 300)), ""},
	{"owner", func(t *testing.T, path string) { file(t, path); must(t, os.Lchown(path, 1, 123456)) }, ""},
	{"owner of a link", func(t *testing.T, path string) { link(t, path); must(t, os.Lchown(path, int(high), 2)) }, ""},
	{"owner of a fifo", func(t *testing.T, path string) { fifo(t, path); must(t, os.Lchown(path, 7, 7)) }, ""},
	{"set-id", func(t *testing.T, path string) {
		file(t, path)
		must(t, os.Lchown(path, 1000, 1001))
		must(t, unix.Chmod(path, 0o6755))
	}, ""},
	{"sticky folder", func(t *testing.T, path string) {
		folder(t, path)
		must(t, os.Lchown(path, 0, 50))
		must(t, unix.Chmod(path, 0o3777))
	}, ""},
	{"no permissions", func(t *testing.T, path string) { file(t, path); must(t, unix.Chmod(path, 0)) }, ""},
	{"xattrs", func(t *testing.T, path string) {
		file(t, path)
		for name, value := range map[string]string{
			"user.b": "2", "user.a": "", "trusted.x": "a\x00b", "user.B": "upper", "user.long": strings.Repeat("v", 2000),
		} {
			give(t, path, name, value)
		}
	}, ""},
	{"xattrs of a folder", xattr(folder, "trusted.mark", "y"), ""},
	{"capabilities", xattr(file, "security.capability", caps), ""},
	{"label", xattr(file, "security.selinux", "system_u:object_r:etc_t:s0\x00"), ""},
	{"label of a folder", xattr(folder, "security.selinux", "a:b:c\x00"), ""},
	{"label of a link", xattr(link, "security.selinux", "a:b:link\x00"), ""},
	{"label of a fifo", xattr(fifo, "security.selinux", "a:b:fifo\x00"), ""},
	{"ACL", with(file, "setfacl", "-m", "u:daemon:rw,u:4711:r,g:50:rwx,g:bin:-,m:rx"), ""},
	{"ACL with a mask only", with(file, "setfacl", "-m", "m:r"), ""},
	{"ACL of a folder", with(folder, "setfacl", "-m", "u:1:rwx,d:u::r,d:g::-,d:o::x,d:u:1:rw,d:g:4711:r,d:m:rx"), ""},
	{"ACL for children only", with(folder, "setfacl", "-m", "d:u::rwx,d:g::rx,d:o::-"), ""},
	{"ACL of a fifo", with(fifo, "setfacl", "-m", "u:1:rw,g:2:r"), ""},
	{"old", at(-1.5e9 - 1), ""},
	{"nanoseconds", at(1234567890123456789), ""},
	{"noatime", with(file, "chattr", "+A"), "tmpfs"},
	{"sync", with(file, "chattr", "+S"), "tmpfs"},
	{"dirsync", with(folder, "chattr", "+D"), "tmpfs xfs"},
	{"nodump", with(file, "chattr", "+d"), "tmpfs"},
	{"append", with(file, "chattr", "+a"), "tmpfs"},
	{"immutable", with(file, "chattr", "+iA"), "tmpfs"},
	{"immutable folder", with(folder, "chattr", "+i"), "tmpfs"},
	{"compressed", with(file, "chattr", "+c"), "tmpfs xfs"},
	{"compressed folder", with(folder, "chattr", "+c"), "tmpfs xfs"},
	{"not compressed", with(folder, "chattr", "+m"), "tmpfs xfs ext4 overlay"},
	{"nocow", nocow, "tmpfs xfs ext4 overlay"},
	{"nocow folder", with(folder, "chattr", "+C"), "tmpfs xfs ext4 overlay"},
	{"project", project(file, "-p", "4711"), "tmpfs btrfs overlay"},
	{"project of a folder", project(folder, "+P", "-p", "4294967294"), "tmpfs btrfs overlay"},
	{"subvolume", func(t *testing.T, path string) { run(t, "btrfs", "subvolume", "create", path) }, "tmpfs ext4 xfs overlay"},
	{"read-only subvolume", func(t *testing.T, path string) {
		run(t, "btrfs", "subvolume", "create", path)
		run(t, "btrfs", "property", "set", path, "ro", "true")
	}, "tmpfs ext4 xfs overlay"},
}

func at(ns int64) func(*testing.T, string) {
	return func(t *testing.T, path string) {
		file(t, path)
		ts := unix.NsecToTimespec(ns)
		must(t, unix.UtimesNano(path, []unix.Timespec{ts, ts}))
	}
}

// project puts a node into a quota project, where the kernel knows them.
func project(base func(*testing.T, string), args ...string) func(*testing.T, string) {
	return func(t *testing.T, path string) {
		base(t, path)
		out, err := exec.Command("chattr", append(args, path)...).CombinedOutput()
		if err != nil {
			t.Skipf("chattr: %v: %s", err, out)
		}
	}
}

// nocow is for files without content.
func nocow(t *testing.T, path string) {
	must(t, os.WriteFile(path, nil, 0o600))
	run(t, "chattr", "+C", path)
	must(t, os.WriteFile(path, make([]byte, 1<<20), 0o600))
}

// kinds are the file systems to test on, with the ways to make one. The first
// that the kernel mounts is taken: quota projects of ext4 are not in each.
var kinds = []struct {
	name string
	mib  int64
	mkfs [][]string
}{
	{"ext4", 32, [][]string{
		{"mkfs.ext4", "-q", "-F", "-b", "4096", "-I", "256", "-O", "project,quota"},
		{"mkfs.ext4", "-q", "-F", "-b", "4096", "-I", "256"},
	}},
	{"xfs", 320, [][]string{{"mkfs.xfs", "-q", "-f"}}},
	{"btrfs", 128, [][]string{{"mkfs.btrfs", "-q", "-f"}}},
	{"tmpfs", 0, nil},
	{"overlay", 0, nil},
}

// image mounts a new file system and returns where.
func image(t *testing.T, kind string, mib int64, mkfs [][]string) string {
	t.Helper()
	needRoot(t)
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	dir := t.TempDir()
	img, mnt := filepath.Join(dir, "img"), filepath.Join(dir, "mnt")
	must(t, os.Mkdir(mnt, 0o755))
	out, err := []byte(nil), error(nil)
	if mkfs == nil {
		args := []string{"-t", kind, "none", mnt}
		if kind == "overlay" {
			for _, layer := range []string{"lower", "upper", "work"} {
				must(t, os.Mkdir(filepath.Join(dir, layer), 0o755))
			}
			args = append(args, "-o", fmt.Sprintf("lowerdir=%s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work", dir))
		}
		out, err = exec.Command("mount", args...).CombinedOutput()
	}
	for _, args := range mkfs {
		must(t, os.WriteFile(img, nil, 0o600))
		must(t, os.Truncate(img, mib<<20))
		run(t, args[0], append(args[1:], img)...)
		if out, err = exec.Command("mount", "-t", kind, "-o", "loop", img, mnt).CombinedOutput(); err == nil {
			break
		}
	}
	if err != nil {
		t.Skipf("mount -t %s: %v: %s", kind, err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", mnt).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	return mnt
}

// TestRoundTrip reads nodes of every sort on every file system, sets what was
// read to others, and reads these.
func TestRoundTrip(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			mnt := image(t, kind.name, kind.mib, kind.mkfs)
			for i, m := range makers {
				if strings.Contains(m.lacks, kind.name) {
					continue
				}
				t.Run(m.name, func(t *testing.T) {
					path := filepath.Join(mnt, fmt.Sprint(i))
					m.make(t, path)
					roundTrip(t, path)
				})
			}
		})
	}
}

func roundTrip(t *testing.T, path string) {
	t.Helper()
	want := read(t, path, all)
	copied := path + ".copy"
	create(t, copied, want)
	free(t, copied)
	must(t, set(t, copied, want, all))
	if got := read(t, copied, all); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v %+v\nwant %+v %+v", got, got.ACL, want, want.ACL)
	}
	if want.Mode&unix.S_IFMT != unix.S_IFLNK {
		if got, want := facl(t, copied), facl(t, path); got != want {
			t.Errorf("getfacl: %s\nwant %s", got, want)
		}
	}
	// It is enough to do it once: a second time finds everything as it should be.
	if want.Flags&(feature.Immutable|feature.Append|feature.SubvolumeRO) == 0 {
		must(t, set(t, copied, want, all))
		if got := read(t, copied, all); !reflect.DeepEqual(got, want) {
			t.Errorf("set again: got %+v\nwant %+v", got, want)
		}
	}
}

// facl is what getfacl says of path; nothing where it is not installed.
func facl(t *testing.T, path string) string {
	t.Helper()
	if _, err := exec.LookPath("getfacl"); err != nil {
		return ""
	}
	return run(t, "getfacl", "-cpn", "--", path)
}

// TestAtOnce uses one Reader and one Setter from many goroutines, on two
// file systems.
func TestAtOnce(t *testing.T) {
	r, s := inode.NewReader(all), inode.NewSetter(all)
	dirs := []string{t.TempDir()}
	if dir, err := os.MkdirTemp("/dev/shm", "inode"); err == nil {
		t.Cleanup(func() { os.RemoveAll(dir) })
		dirs = append(dirs, dir)
	}
	var wg sync.WaitGroup
	for i := range 8 {
		path := filepath.Join(dirs[i%len(dirs)], fmt.Sprint(i))
		file(t, path)
		fd, st := open(t, path)
		wg.Go(func() {
			for ns := range int64(20) {
				e, err := r.Entry(fd, &st)
				if err == nil {
					e.MTime = 1e18 + ns
					err = s.Set(fd, e)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}
