package testtree_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"caravel/feature"
	"caravel/internal/testtree"
)

// small makes the same small tree each time.
func small(t *testing.T) string {
	dir := t.TempDir()
	write(t, dir, "file", "some bytes")
	write(t, dir, "dir/inner", "more")
	write(t, dir, "left.tmp", "out")
	write(t, dir, ".caexclude", "*.tmp\n")
	try(t, os.Symlink("target", filepath.Join(dir, "link")))
	try(t, unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600))
	then := unix.NsecToTimespec(1_600_000_000_123_456_789)
	for _, name := range []string{"dir/inner", "dir", "file", "link", "fifo", ".caexclude", "left.tmp", "."} {
		path := filepath.Join(dir, name)
		try(t, unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{then, then}, unix.AT_SYMLINK_NOFOLLOW))
	}
	return dir
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	path := filepath.Join(dir, name)
	try(t, os.MkdirAll(filepath.Dir(path), 0o755))
	try(t, os.WriteFile(path, []byte(text), 0o644))
}

// try skips the test where the file system has not got what it needs.
func try(t *testing.T, err error) {
	t.Helper()
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOTTY) {
		t.Skipf("the file system cannot hold this, or it takes root: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// keepTime restores the time of a node after a change to it.
func keepTime(t *testing.T, path string, change func()) {
	t.Helper()
	var st unix.Stat_t
	try(t, unix.Lstat(path, &st))
	change()
	try(t, unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW))
}

// again replaces a node by another one that make makes.
func again(t *testing.T, path string, make func() error) {
	t.Helper()
	keepTime(t, filepath.Dir(path), func() {
		keepTime(t, path, func() {
			try(t, os.Remove(path))
			try(t, make())
		})
	})
}

const usual = feature.All | feature.SHA512_256 | feature.ExcludeNoDump | feature.ExcludeFile

// Every kind of change is found by flags that keep it, by one line, and not seen
// by flags that do not.
func TestDiffFinds(t *testing.T) {
	acl := []byte("\x02\x00\x00\x00\x01\x00\x06\x00\xff\xff\xff\xff\x02\x00\x04\x00\x07\x00\x00\x00" +
		"\x04\x00\x04\x00\xff\xff\xff\xff\x10\x00\x04\x00\xff\xff\xff\xff\x20\x00\x04\x00\xff\xff\xff\xff")
	set := func(name, attr string, value []byte) func(*testing.T, string) {
		return func(t *testing.T, dir string) { try(t, unix.Lsetxattr(filepath.Join(dir, name), attr, value, 0)) }
	}
	at := func(name string, ns int64) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			ts := unix.NsecToTimespec(1_600_000_000_000_000_000 + ns)
			path := filepath.Join(dir, name)
			try(t, unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW))
		}
	}
	chattr := func(name string, flag int) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			f, err := os.Open(filepath.Join(dir, name))
			try(t, err)
			defer f.Close()
			old, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
			try(t, err)
			try(t, unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, old|flag))
		}
	}
	tests := []struct {
		name    string
		change  func(t *testing.T, dir string)
		with    feature.Flags
		without feature.Flags // 0: no flags hide it
		want    string
	}{
		{"content", func(t *testing.T, dir string) {
			path := filepath.Join(dir, "file")
			keepTime(t, path, func() { try(t, os.WriteFile(path, []byte("some bytez"), 0)) })
		}, usual, 0, `"file": content: differs from byte 9 on`},
		{"size", func(t *testing.T, dir string) {
			path := filepath.Join(dir, "dir/inner")
			keepTime(t, path, func() { try(t, os.Truncate(path, 5)) })
		}, 0, 0, `"dir/inner": size: 4, 5`},
		{"missing", func(t *testing.T, dir string) {
			keepTime(t, dir, func() { try(t, os.Remove(filepath.Join(dir, "file"))) })
		}, 0, 0, `"file": missing in the second tree`},
		{"extra", func(t *testing.T, dir string) {
			keepTime(t, dir, func() { write(t, dir, "new\xff", "") })
		}, usual, 0, `"new\xff": missing in the first tree`},
		{"excluded extra", func(t *testing.T, dir string) {
			keepTime(t, dir, func() { write(t, dir, "new.tmp", "") })
		}, usual &^ feature.ExcludeFile, usual, `"new.tmp": missing in the first tree`},
		{"excluded content", func(t *testing.T, dir string) {
			path := filepath.Join(dir, "left.tmp")
			keepTime(t, path, func() { try(t, os.WriteFile(path, []byte("in!"), 0)) })
		}, 0, usual, `"left.tmp": content: differs from byte 0 on`},
		{"type", func(t *testing.T, dir string) {
			path := filepath.Join(dir, "file")
			again(t, path, func() error { return os.Symlink("x", path) })
		}, usual, 0, `"file": file, symlink`},
		{"target", func(t *testing.T, dir string) {
			path := filepath.Join(dir, "link")
			again(t, path, func() error { return os.Symlink("targeT", path) })
		}, usual, usual &^ feature.Symlinks, `"link": target: "target", "targeT"`},
		{"fifo", func(t *testing.T, dir string) {
			keepTime(t, dir, func() { try(t, os.Remove(filepath.Join(dir, "fifo"))) })
		}, usual, usual &^ feature.FIFOs, `"fifo": missing`},
		{"socket", func(t *testing.T, dir string) {
			keepTime(t, dir, func() { try(t, unix.Mknod(filepath.Join(dir, "s"), unix.S_IFSOCK, 0)) })
		}, usual, usual &^ feature.Sockets, `"s": missing`},
		{"device", func(t *testing.T, dir string) {
			keepTime(t, dir, func() {
				try(t, unix.Mknod(filepath.Join(dir, "d"), unix.S_IFBLK, int(unix.Mkdev(4095, 7))))
			})
		}, usual, usual &^ feature.DeviceNodes, `"d": missing`},
		{"permissions", func(t *testing.T, dir string) { try(t, os.Chmod(filepath.Join(dir, "file"), 0o755)) },
			feature.Permissions, feature.ReadOnly, `"file": mode: "0644", "0755"`},
		{"permissions of the root", func(t *testing.T, dir string) { try(t, os.Chmod(dir, 0o711)) },
			usual, 0, `".": mode: "0755", "0711"`},
		{"set-id", func(t *testing.T, dir string) { try(t, unix.Chmod(filepath.Join(dir, "fifo"), 0o4600)) },
			feature.ACL | feature.FIFOs, feature.FIFOs, `"fifo": mode: "0600", "4600"`},
		{"read-only", func(t *testing.T, dir string) { try(t, os.Chmod(filepath.Join(dir, "file"), 0o444)) },
			feature.ReadOnly, feature.Symlinks, `"file": mode: "0666", "0444"`},
		{"owner", func(t *testing.T, dir string) { try(t, os.Lchown(filepath.Join(dir, "link"), 12345, -1)) },
			feature.UID16 | feature.Symlinks, feature.Symlinks, `"link": owner: `},
		{"owner's name", func(t *testing.T, dir string) { try(t, os.Chown(dir, -1, 65533)) },
			feature.UserNames, feature.Symlinks, `".": owner: `},
		{"nanoseconds", at("file", 123_456_790), usual, feature.MicroTime, `"file": time: "2020-09-13T12:26:40.123456789Z"`},
		{"microseconds", at("file", 123_457_000), feature.MicroTime, feature.SecTime, `"file": time: "2020-09-13T12:26:40.123456Z"`},
		{"seconds", at("dir", 1e9), feature.SecTime, feature.TwoSecTime, `"dir": time`},
		{"two seconds", at(".", -1), feature.TwoSecTime, feature.Symlinks, `".": time: "2020-09-13T12:26:40Z", "2020-09-13T12:26:38Z"`},
		{"time of a link", at("link", 0), usual, usual &^ feature.NanoTime &^ feature.MicroTime, `"link": time`},
		{"xattr", set("file", "user.empty", nil), feature.XAttrs, usual &^ feature.XAttrs, `"file": xattr "user.empty": none, ""`},
		{"trusted xattr", set("dir", "trusted.a", []byte("\x00\xff")), feature.XAttrs, feature.ACL, `"dir": xattr "trusted.a": none, "\x00\xff"`},
		{"xattr of another namespace", set("dir", "security.a", []byte("b")), 0, usual, ""},
		{"trusted xattr of a link", set("link", "trusted.a", []byte("b")), 0, usual, ""},
		{"capability", set("file", "security.capability", []byte("\x01\x00\x00\x02\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")),
			feature.FCaps, usual &^ feature.FCaps, `"file": security.capability: "", "\x01`},
		{"label", set("link", "security.selinux", []byte("a:b:c\x00")), usual, usual &^ feature.SELinux, `"link": security.selinux: "", "a:b:c"`},
		{"ACL", set("dir/inner", "system.posix_acl_access", acl), feature.ACL, usual &^ feature.ACL,
			`"dir/inner": system.posix_acl_access: "none", "user:-1:6 user:7:4 group:-1:4 mask:-1:4 other:-1:4"`},
		{"default ACL", set("dir", "system.posix_acl_default", acl), usual, feature.Permissions, `"dir": system.posix_acl_default: "none", "user`},
		{"no atime", chattr("file", 0x80), feature.NoAtime, feature.Chattr &^ feature.NoAtime, `"file": flags: "", "flag-noatime"`},
		{"no dump", chattr("dir", 0x40), feature.NoDump, feature.Chattr &^ feature.NoDump, `"dir": flags: "", "flag-nodump"`},
		{"left out for no dump", chattr("file", 0x40), usual, 0, `"file": missing in the second tree`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, b := small(t), small(t)
			if diff, err := testtree.Diff(a, b, usual); err != nil || diff != nil {
				t.Fatalf("equal trees: %q, error %v", diff, err)
			}
			tt.change(t, b)
			diff, err := testtree.Diff(a, b, tt.with.Normal())
			if tt.want != "" && (err != nil || len(diff) != 1 || !strings.Contains(diff[0], tt.want)) {
				t.Errorf("got %q, error %v, want %s", diff, err, tt.want)
			}
			if tt.without == 0 {
				return
			}
			if diff, err := testtree.Diff(a, b, tt.without.Normal()); err != nil || diff != nil {
				t.Errorf("without: got %q, error %v", diff, err)
			}
		})
	}
}

// The order of an ACL's entries and the holes of a file mean nothing.
func TestDiffLooksAway(t *testing.T) {
	a, b := small(t), small(t)
	for i, dir := range []string{a, b} {
		list := []string{"\x02\x00\x04\x00\x07\x00\x00\x00", "\x02\x00\x06\x00\x09\x00\x00\x00"}
		acl := "\x02\x00\x00\x00\x01\x00\x06\x00\xff\xff\xff\xff" + list[i] + list[1-i] +
			"\x04\x00\x04\x00\xff\xff\xff\xff\x10\x00\x04\x00\xff\xff\xff\xff\x20\x00\x04\x00\xff\xff\xff\xff"
		try(t, unix.Setxattr(filepath.Join(dir, "file"), "system.posix_acl_access", []byte(acl), 0))
		path := filepath.Join(dir, "dir/inner")
		try(t, os.WriteFile(path, make([]byte, i*100_000), 0))
		try(t, os.Truncate(path, 100_000))
		try(t, os.Chtimes(path, time.Time{}, time.Unix(1_600_000_000, 0)))
	}
	if diff, err := testtree.Diff(a, b, usual.Normal()); err != nil || diff != nil {
		t.Errorf("got %q, error %v", diff, err)
	}
}

// Of many differences the first are told, in order.
func TestDiffIsShort(t *testing.T) {
	a, b := small(t), small(t)
	for i := range 100 {
		write(t, b, "new"+string(rune('0'+i/10))+string(rune('0'+i%10)), "")
	}
	diff, err := testtree.Diff(a, b, 0)
	if err != nil || len(diff) != 51 || diff[50] != "and 50 more" || !strings.HasPrefix(diff[49], `"new49"`) {
		t.Errorf("got %d lines %q, error %v", len(diff), diff, err)
	}
}

func TestDiffNeedsBoth(t *testing.T) {
	if _, err := testtree.Diff(small(t), filepath.Join(t.TempDir(), "none"), usual); !errors.Is(err, unix.ENOENT) {
		t.Errorf("got %v", err)
	}
}
