//go:build linux

package integration

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMountTreeReadOnly tries to write in every way. All of it fails as on any file
// system that is mounted read-only, and nothing has changed.
func TestMountTreeReadOnly(t *testing.T) {
	p := packTree(t, caravel, func(dir string) {
		writeFile(t, filepath.Join(dir, "file"), []byte("some text"))
		for _, sub := range []string{"dir", "empty"} {
			if err := os.Mkdir(filepath.Join(dir, sub), 0o777); err != nil {
				t.Fatal(err)
			}
		}
		writeFile(t, filepath.Join(dir, "dir/inside"), []byte("more"))
		if err := os.Symlink("file", filepath.Join(dir, "link")); err != nil {
			t.Fatal(err)
		}
	})
	_, dir := mountedTree(t, p.index)
	outside := writeFile(t, p.path("outside"), []byte("not there"))
	file, sub := dir+"/file", dir+"/dir"
	readOnly := []error{unix.EROFS, unix.EPERM}
	for _, tt := range []struct {
		name string
		try  func() error
	}{
		{"create", func() error { return opens(dir+"/new", unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY) }},
		{"create in a directory", func() error { return opens(sub+"/new", unix.O_CREAT|unix.O_RDONLY) }},
		{"file without a name", func() error { return opens(dir, unix.O_TMPFILE|unix.O_RDWR) }},
		{"open for writing", func() error { return opens(file, unix.O_WRONLY) }},
		{"open for both", func() error { return opens(file, unix.O_RDWR) }},
		{"open for appending", func() error { return opens(file, unix.O_WRONLY|unix.O_APPEND) }},
		{"open and cut", func() error { return opens(file, unix.O_RDONLY|unix.O_TRUNC) }},
		{"truncate", func() error { return unix.Truncate(file, 0) }},
		{"extend", func() error { return unix.Truncate(file, 1000) }},
		{"unlink", func() error { return unix.Unlink(file) }},
		{"unlink a link", func() error { return unix.Unlink(dir + "/link") }},
		{"rmdir", func() error { return unix.Rmdir(dir + "/empty") }},
		{"mkdir", func() error { return unix.Mkdir(dir+"/new", 0o777) }},
		{"mknod of a FIFO", func() error { return unix.Mknod(dir+"/new", unix.S_IFIFO|0o666, 0) }},
		{"mknod of a device", func() error { return unix.Mknod(dir+"/new", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))) }},
		{"socket", func() error { return bindTo(dir + "/new") }},
		{"symlink", func() error { return unix.Symlink("file", dir+"/new") }},
		{"link", func() error { return unix.Link(file, dir+"/new") }},
		{"rename", func() error { return unix.Rename(file, dir+"/new") }},
		{"rename over", func() error { return unix.Rename(file, sub+"/inside") }},
		{"exchange", func() error {
			return unix.Renameat2(unix.AT_FDCWD, file, unix.AT_FDCWD, sub+"/inside", unix.RENAME_EXCHANGE)
		}},
		{"chmod", func() error { return unix.Chmod(file, 0o600) }},
		{"chown", func() error { return unix.Chown(file, 1, 1) }},
		{"chown of a link", func() error { return unix.Lchown(dir+"/link", 1, 1) }},
		{"times", func() error { return unix.UtimesNanoAt(unix.AT_FDCWD, file, make([]unix.Timespec, 2), 0) }},
		{"times of a link", func() error {
			return unix.UtimesNanoAt(unix.AT_FDCWD, dir+"/link", make([]unix.Timespec, 2), unix.AT_SYMLINK_NOFOLLOW)
		}},
		{"setxattr", func() error { return unix.Setxattr(file, "user.n", []byte("v"), 0) }},
		{"removexattr", func() error { return unix.Removexattr(file, "user.n") }},
		{"access control list", func() error { return unix.Setxattr(file, "system.posix_acl_access", nil, 0) }},
		{"chattr", func() error { return withFile(file, setNoDump) }},
		{"fchmod", func() error { return withFile(file, func(fd int) error { return unix.Fchmod(fd, 0o600) }) }},
		{"fchown", func() error { return withFile(file, func(fd int) error { return unix.Fchown(fd, 1, 1) }) }},
		{"fsetxattr", func() error {
			return withFile(file, func(fd int) error { return unix.Fsetxattr(fd, "user.n", nil, 0) })
		}},
		{"unlink by a descriptor", func() error {
			return withFile(dir, func(fd int) error { return unix.Unlinkat(fd, "file", 0) })
		}},
	} {
		if err := tt.try(); !slices.ContainsFunc(readOnly, func(want error) bool { return errors.Is(err, want) }) {
			t.Errorf("%s: %v, want EROFS or EPERM", tt.name, err)
		}
	}

	// Who has a descriptor has opened it for reading, which is what the kernel then
	// objects to, on any file system.
	for _, tt := range []struct {
		name string
		want error
		try  func(fd int) error
	}{
		{"write", unix.EBADF, func(fd int) error { _, err := unix.Pwrite(fd, []byte("x"), 0); return err }},
		{"ftruncate", unix.EINVAL, func(fd int) error { return unix.Ftruncate(fd, 0) }},
		{"fallocate", unix.EBADF, func(fd int) error { return unix.Fallocate(fd, 0, 0, 1<<20) }},
		{"mmap, shared and writable", unix.EACCES, func(fd int) error {
			_, err := unix.Mmap(fd, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
			return err
		}},
		{"mprotect of what is mapped", unix.EACCES, func(fd int) error {
			b, err := unix.Mmap(fd, 0, 4096, unix.PROT_READ, unix.MAP_SHARED)
			if err != nil {
				return err
			}
			defer unix.Munmap(b)
			return unix.Mprotect(b, unix.PROT_READ|unix.PROT_WRITE)
		}},
		{"copy into", unix.EBADF, func(fd int) error {
			return withFile(outside, func(from int) error { _, err := unix.CopyFileRange(from, nil, fd, nil, 9, 0); return err })
		}},
	} {
		if err := withFile(file, tt.try); !errors.Is(err, tt.want) && !errors.Is(err, unix.EROFS) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
	writesItsOwn(t, file)
	sameTar(t, dir, p.source)
}

// opens opens a file for something.
func opens(path string, flags int) error {
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0o666)
	if err == nil {
		err = unix.Close(fd)
	}
	return err
}

// withFile opens a file for reading and has something done to it.
func withFile(path string, do func(fd int) error) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	defer unix.Close(fd)
	return do(fd)
}

func bindTo(path string) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Bind(fd, &unix.SockaddrUnix{Name: path})
}

func setNoDump(fd int) error { return unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, 0x40) }

// writesItsOwn has a private map written to, as a program's data is: the file stays
// what it was.
func writesItsOwn(t *testing.T, path string) {
	t.Helper()
	before := read(t, path)
	err := withFile(path, func(fd int) error {
		b, err := unix.Mmap(fd, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE)
		if err != nil {
			return err
		}
		copy(b, "other text")
		return unix.Munmap(b)
	})
	if err != nil {
		t.Errorf("a private map: %v", err)
	}
	holds(t, path, before)
}
