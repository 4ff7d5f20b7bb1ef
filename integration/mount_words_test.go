//go:build linux

package integration

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// owned fills a tree with files of several owners and permissions.
func owned(t *testing.T, dir string) {
	t.Helper()
	for name, mode := range map[string]os.FileMode{"a": 0o600, "sub/b": 0o644, "sub/deep/c": 0o755, "sub/setid": 0o755 | os.ModeSetuid} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		writeFile(t, path, []byte("#!/bin/sh\necho ran\n"))
		if err := os.Chown(path, 1000, 100007); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	must(t, "setfacl", "-m", "u:1234:r,g:70000:rw", filepath.Join(dir, "sub/b"))
}

func statOf(t *testing.T, path string) (st unix.Stat_t) {
	t.Helper()
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return st
}

// mountInfo are the options of what is mounted on dir: the mount's, and the file
// system's.
func mountInfo(t *testing.T, dir string) string {
	t.Helper()
	return must(t, "findmnt", "-n", "-o", "SOURCE,FSTYPE,OPTIONS", "--mountpoint", dir)
}

// TestMountWords has a tree shown as -o says.
func TestMountWords(t *testing.T) {
	needFUSE(t)
	needRoot(t)
	need(t, "setfacl", "getfacl", "findmnt")
	p := packTree(t, caravel, func(dir string) { owned(t, dir) })
	t.Run("as it is", func(t *testing.T) {
		_, dir := mountedTree(t, p.index)
		if info := mountInfo(t, dir); !strings.Contains(info, "ro,nosuid,nodev,") || strings.Contains(info, "noexec") {
			t.Error(info)
		}
		if st := statOf(t, dir+"/sub"); st.Nlink != 3 {
			t.Errorf("%d links, want 3", st.Nlink)
		}
	})
	t.Run("another's", func(t *testing.T) {
		_, dir := mountedTree(t, "-o", "uid=4711,gid=0,noexec,fsname=golden\\,image", "-o", "x-systemd.automount,rw", p.index)
		for _, name := range []string{"", "a", "sub/b", "sub/setid"} {
			if st := statOf(t, filepath.Join(dir, name)); st.Uid != 4711 || st.Gid != 0 {
				t.Errorf("%q is of %d and %d", name, st.Uid, st.Gid)
			}
		}
		info := mountInfo(t, dir)
		if !strings.Contains(info, "noexec") || !strings.HasPrefix(info, "golden,image ") || !strings.Contains(info, " fuse.caravel ") {
			t.Error(info)
		}
		if err := exec.Command(dir + "/sub/deep/c").Run(); !os.IsPermission(err) {
			t.Errorf("executed: %v", err)
		}
	})
	t.Run("masks", func(t *testing.T) {
		_, dir := mountedTree(t, "-o", "umask=022,fmask=133", p.index)
		for name, want := range map[string]uint32{"a": 0o100644, "sub/setid": 0o100644, "sub": 0o40755, "sub/b": 0o100644} {
			if st := statOf(t, filepath.Join(dir, name)); st.Mode != want {
				t.Errorf("%s has mode %o, want %o", name, st.Mode, want)
			}
		}
		if text := must(t, "getfacl", "-cn", dir+"/sub/b"); strings.Contains(text, "1234") {
			t.Errorf("permissions that nobody asked for:\n%s", text)
		}
	})
	t.Run("set-id", func(t *testing.T) {
		_, dir := mountedTree(t, "-o", "suid", p.index)
		if info := mountInfo(t, dir); strings.Contains(info, "nosuid") || !strings.Contains(info, "nodev") {
			t.Error(info)
		}
		names, err := os.ReadDir(dir + "/sub")
		if err != nil || len(names) != 3 {
			t.Errorf("%v, %v", names, err)
		}
		if st := statOf(t, dir+"/sub/setid"); st.Mode != 0o104755 {
			t.Errorf("mode %o", st.Mode)
		}
		holds(t, dir+"/sub/setid", []byte("#!/bin/sh\necho ran\n"))
	})
	t.Run("a part", func(t *testing.T) {
		_, dir := mountedTree(t, "-o", "subtree=/sub/", p.index)
		want, got := pathsBelow(t, p.source+"/sub"), pathsBelow(t, dir)
		if !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
		up, here := statOf(t, dir+"/deep/.."), statOf(t, dir)
		if up.Ino != here.Ino || here.Nlink != 3 {
			t.Errorf("inode %d above a directory of %d, which has %d links", up.Ino, here.Ino, here.Nlink)
		}
		if got, want := must(t, caravel, "digest", dir), must(t, caravel, "digest", p.source+"/sub"); got != want {
			t.Errorf("digest %s, want %s", got, want)
		}
	})
	t.Run("a disk image", func(t *testing.T) {
		d := newDisk(t, 1<<20)
		_, file := mounted(t, "-o", "uid=4711,gid=12,umask=027,fmask=137", d.index, t.TempDir())
		holds(t, file, d.data)
		for path, want := range map[string]uint32{file: 0o100640, filepath.Dir(file): 0o40750} {
			if st := statOf(t, path); st.Mode != want || st.Uid != 4711 || st.Gid != 12 {
				t.Errorf("%s: mode %o, of %d and %d", path, st.Mode, st.Uid, st.Gid)
			}
		}
	})
	for _, part := range []string{"none", "a", "sub/none"} {
		r := run(t, caravel, "mount", "--subtree", part, p.index, t.TempDir())
		if r.status != 1 || !strings.Contains(r.stderr, "--subtree="+part) || strings.Count(r.stderr, "\n") != 1 {
			t.Errorf("--subtree %s: status %d, %s", part, r.status, r.stderr)
		}
	}
}

// pathsBelow are the paths below a directory.
func pathsBelow(t *testing.T, dir string) (all []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		all = append(all, strings.TrimPrefix(path, dir))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestMountShift moves owners as casync's extract does.
func TestMountShift(t *testing.T) {
	needFUSE(t)
	needRoot(t)
	need(t, "casync", "setfacl", "getfacl")
	// With names, casync takes the numbers that these have here.
	p := packTree(t, caravel, func(dir string) { owned(t, dir) }, "--without=user-names")
	for _, flags := range [][]string{{"--uid-shift=100000"}, {"--uid-shift=yes"}, {"--uid-range=5"}, {"--uid-shift=7", "--uid-range=2000"}} {
		to := filepath.Join(t.TempDir(), "out")
		must(t, "casync", append(append([]string{"extract"}, flags...), p.index, to)...)
		m, dir := mountedTree(t, append(flags, p.index)...)
		for _, path := range pathsBelow(t, to) {
			got, want := statOf(t, dir+path), statOf(t, to+path)
			if got.Uid != want.Uid || got.Gid != want.Gid || got.Mode != want.Mode {
				t.Errorf("%v: %q: %d, %d, %o; want %d, %d, %o", flags, path, got.Uid, got.Gid, got.Mode, want.Uid, want.Gid, want.Mode)
			}
			if path == "" {
				continue
			}
			if got, want := must(t, "getfacl", "-cnp", dir+path), must(t, "getfacl", "-cnp", to+path); got != want {
				t.Errorf("%v: %q: list\n%s, want\n%s", flags, path, got, want)
			}
		}
		m.ends(syscall.SIGTERM, soon)
	}
}

// TestMountDaemon goes on in the background, until its directory is unmounted.
func TestMountDaemon(t *testing.T) {
	needFUSE(t)
	p := packTree(t, caravel, randomFiles(t, 2, 3, 5000))
	for _, supervised := range []bool{false, true} {
		dir, log := t.TempDir(), filepath.Join(t.TempDir(), "log")
		args := []string{"mount", "--daemon", "--log-file", log, "--verbose", p.index, dir}
		if supervised {
			args = append(args, "--supervise")
		}
		unmountLater(t, dir)
		r := run(t, caravel, args...)
		if want := "Mounted: " + dir + "\n"; r.status != 0 || r.stdout != want || r.stderr != "" {
			t.Fatalf("status %d, %q, %q", r.status, r.stdout, r.stderr)
		}
		sameTree(t, dir, p.source)
		pids := serversOf(t, dir)
		if want := 1; !supervised && len(pids) != want || supervised && len(pids) != 2 {
			t.Fatalf("processes %v", pids)
		}
		for _, pid := range pids {
			for fd := range 3 {
				if to, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", pid, fd)); err != nil || to != os.DevNull && to != log {
					t.Errorf("process %d has %s as descriptor %d, %v", pid, to, fd, err)
				}
			}
		}
		if supervised {
			killServers(t, dir, p)
		}
		must(t, "umount", dir)
		eventually(t, "the processes end", func() bool { return len(serversOf(t, dir)) == 0 })
		if _, err := os.Stat(log); err != nil {
			t.Error(err)
		}
	}
	// What fails at once is said where it was typed.
	r := run(t, caravel, "mount", "--daemon", p.path("none.caidx"), t.TempDir())
	if r.status != 1 || r.stdout != "" || !strings.Contains(r.stderr, "none.caidx") || strings.Count(r.stderr, "\n") != 1 {
		t.Errorf("status %d, %s%s", r.status, r.stdout, r.stderr)
	}
}

// serversOf are the processes that have dir on their command line.
func serversOf(t *testing.T, dir string) (pids []int) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, proc := range all {
		line, err := os.ReadFile(proc + "/cmdline")
		if err == nil && strings.Contains(string(line), "\x00"+dir) && !strings.HasPrefix(string(line), "umount") {
			var pid int
			fmt.Sscan(filepath.Base(proc), &pid)
			pids = append(pids, pid)
		}
	}
	return pids
}

// serving is the process of those that has the mount, 0: none.
func serving(t *testing.T, dir string) int {
	t.Helper()
	for _, pid := range serversOf(t, dir) {
		fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		if err != nil {
			t.Fatal(err)
		}
		for _, fd := range fds {
			if to, _ := os.Readlink(fd); to == "/dev/fuse" { // it may be closed by now
				return pid
			}
		}
	}
	return 0
}

// killServers kills the process that serves: readers get an error, and another one
// mounts it again.
func killServers(t *testing.T, dir string, p packedTree) {
	t.Helper()
	open, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	worker := serving(t, dir)
	if err := syscall.Kill(worker, syscall.SIGKILL); err != nil {
		t.Fatalf("%d: %v", worker, err)
	}
	begun := time.Now()
	if _, err := open.ReadDir(-1); err == nil {
		t.Log("the kernel had it all")
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("a reader hung for %v", took)
	}
	eventually(t, "it is mounted again", func() bool {
		now := serving(t, dir)
		_, err := os.ReadFile(dir + "/dir00/file00")
		return err == nil && now != 0 && now != worker
	})
	sameTree(t, dir, p.source)
}

// TestMountHelper is called by mount(8), with a line of a table.
func TestMountHelper(t *testing.T) {
	needFUSE(t)
	needRoot(t)
	need(t, "mount", "findmnt")
	installHelper(t)
	p := packTree(t, caravel, func(dir string) { randomFiles(t, 2, 3, 5000)(dir) })
	dir := t.TempDir()
	unmountLater(t, dir)
	must(t, "mount", "-t", "fuse.caravel", p.index, dir, "-o", "noexec,uid=5,cache-dir=none")
	sameTree(t, dir, p.source)
	if info := mountInfo(t, dir); !strings.Contains(info, "noexec") || statOf(t, dir).Uid != 5 {
		t.Error(info)
	}
	must(t, "umount", dir)
	eventually(t, "the process ends", func() bool { return len(serversOf(t, dir)) == 0 })

	table := filepath.Join(t.TempDir(), "fstab")
	writeFile(t, table, fmt.Appendf(nil, "%s %s fuse.caravel defaults,_netdev,nofail,x-systemd.automount,memory=32M,no-sweep,subtree=dir01 0 0\n", p.index, dir))
	must(t, "mount", "-T", table, dir)
	sameTree(t, dir, p.source+"/dir01")
	must(t, "umount", dir)
	eventually(t, "the process ends", func() bool { return len(serversOf(t, dir)) == 0 })

	for _, words := range []string{"nonsense", "cache-size=x"} {
		if r := run(t, "mount", "-t", "fuse.caravel", p.index, dir, "-o", words); r.status == 0 || !strings.Contains(r.stderr, "-o "+words) || isMounted(t, dir) {
			t.Errorf("-o %s: status %d, %s", words, r.status, r.stderr)
		}
	}
	must(t, "mount", "-s", "-t", "fuse.caravel", p.index, dir, "-o", "nonsense,cache-dir=none")
	must(t, "umount", dir)
	must(t, "mount", "-f", "-t", "fuse.caravel", p.index, dir)
	if isMounted(t, dir) {
		t.Error("mounted, though nothing was to be done")
	}
}

// installHelper has mount(8) find the program.
func installHelper(t *testing.T) {
	t.Helper()
	const helper = "/sbin/mount.fuse.caravel"
	if _, err := os.Lstat(helper); err == nil {
		t.Skipf("%s is there already", helper)
	}
	if err := os.Symlink(caravel, helper); err != nil {
		t.Skipf("%v", err)
	}
	t.Cleanup(func() { os.Remove(helper) })
}

// TestMountNames gives entries to those who have the recorded names here.
func TestMountNames(t *testing.T) {
	needFUSE(t)
	needRoot(t)
	need(t, "casync", "setfacl", "getfacl", "useradd")
	const user = "caravel-test"
	must(t, "useradd", "--uid", "54321", "--user-group", user)
	t.Cleanup(func() { must(t, "userdel", user) })
	p := packTree(t, caravel, func(dir string) {
		writeFile(t, dir+"/file", []byte("content"))
		writeFile(t, dir+"/other", []byte("content"))
		if err := os.Chown(dir+"/file", 54321, 54321); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(dir+"/other", 54322, 0); err != nil {
			t.Fatal(err)
		}
		must(t, "setfacl", "-m", "u:"+user+":r", dir+"/other")
	})
	must(t, "usermod", "--uid", "54399", user)
	must(t, "groupmod", "--gid", "54398", user)
	to := filepath.Join(t.TempDir(), "out")
	must(t, "casync", "extract", p.index, to)
	_, plain := mountedTree(t, p.index)
	_, named := mountedTree(t, "-o", "map-names", p.index)
	_, shifted := mountedTree(t, "--map-names", "--uid-shift=100000", p.index)
	for _, tt := range []struct {
		path     string
		uid, gid uint32
	}{
		{plain + "/file", 54321, 54321}, {plain + "/other", 54322, 0},
		{named + "/file", 54399, 54398}, {named + "/other", 54322, 0},
		{to + "/file", 54399, 54398}, {to + "/other", 54322, 0},
		{shifted + "/file", 54399, 54398}, {shifted + "/other", 154322, 100000},
	} {
		if st := statOf(t, tt.path); st.Uid != tt.uid || st.Gid != tt.gid {
			t.Errorf("%s is of %d and %d, want %d and %d", tt.path, st.Uid, st.Gid, tt.uid, tt.gid)
		}
	}
	if got, want := must(t, "getfacl", "-cnp", named+"/other"), must(t, "getfacl", "-cnp", to+"/other"); got != want {
		t.Errorf("list\n%s, want\n%s", got, want)
	}
	if got := strings.TrimSpace(must(t, caravel, "digest", named)); got == p.digest {
		t.Error("with other numbers the digest is the same")
	}
}
