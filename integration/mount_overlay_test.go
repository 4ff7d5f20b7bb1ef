//go:build linux

package integration

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"caravel/internal/origin"
	"caravel/internal/testtree"
)

// forChanges are what change changes, beside everything.
func forChanges(t *testing.T) func(dir string) {
	return func(dir string) {
		t.Helper()
		everything(t, 5)(dir)
		changeable(t, dir)
	}
}

// changeable makes what change changes.
func changeable(t *testing.T, dir string) {
	t.Helper()
	top := filepath.Join(dir, "changed")
	if err := errors.Join(os.Mkdir(top, 0o755), os.MkdirAll(top+"/dir/sub/deep", 0o755), os.MkdirAll(top+"/gone/sub", 0o750)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"appended", "cut", "mapped", "moved", "linked", "removed", "replaced", "mode", "dir/sub/file", "gone/sub/file", "new name"} {
		recipe{seed: uint64(len(name)), size: 200_000, kind: "random"}.write(t, filepath.Join(top, name))
	}
}

// change does to a tree what programs do.
func change(dir string) error {
	at := func(name string) string { return filepath.Join(dir, "changed", name) }
	appended := func() error {
		f, err := os.OpenFile(at("appended"), os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteString("more")
		return errors.Join(err, f.Sync(), f.Close())
	}
	return errors.Join(
		appended(), os.Truncate(at("cut"), 77_777), mapped(at("mapped")),
		os.Rename(at("moved"), at("dir/moved")), os.Rename(at("replaced"), at("new name")),
		os.Link(at("linked"), at("dir/link")), os.Remove(at("removed")),
		os.RemoveAll(at("gone")), os.Mkdir(at("gone"), 0o700), os.WriteFile(at("gone/other"), []byte("new"), 0o640),
		os.Rename(at("dir/sub"), at("renamed")), os.WriteFile(at("renamed/deep/new"), nil, 0o600),
		os.Symlink("nowhere", at("symlink")),
		os.Chmod(at("mode"), 0o4711|os.ModeSetuid), os.Chown(at("dir"), 1234, 5678),
		unix.Setxattr(at("cut"), "user.added", []byte("value"), 0),
	)
}

// mapped writes to a file through memory.
func mapped(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := unix.Mmap(int(f.Fd()), 0, 100_000, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	copy(b[50_000:], "written through memory")
	return errors.Join(unix.Msync(b, unix.MS_SYNC), unix.Munmap(b))
}

// sameButTimes compares two trees, but for when they were changed.
func sameButTimes(t *testing.T, a, b string) {
	t.Helper()
	var without []string
	for _, name := range []string{"nsec-time", "usec-time", "sec-time", "2sec-time"} {
		without = append(without, "--without="+name)
	}
	diff, err := testtree.Diff(a, b, flagsOf(t, without))
	if err != nil {
		t.Error(err)
	}
	for _, line := range diff {
		t.Error(line)
	}
}

// TestMountOverlay does to a mounted tree what it does to a copy, and finds it done
// there when it is mounted again; the image stays as it was.
func TestMountOverlay(t *testing.T) {
	needRoot(t)
	p := packTree(t, caravel, forChanges(t))
	image := read(t, p.index)
	over := filepath.Join(t.TempDir(), "over")
	for _, in := range []string{p.index, p.archive} {
		over := over + filepath.Ext(in)
		copied := filepath.Join(t.TempDir(), "copy")
		must(t, caravel, "extract", p.index, copied)
		t.Cleanup(func() { _ = exec.Command("chattr", "-R", "-f", "-ia", copied).Run() }) // else it stays
		m, dir := mountedTree(t, "--overlay", over, in)
		showsTree(t, dir, p)
		before := statOf(t, dir+"/changed/cut")
		for _, tree := range []string{copied, dir} {
			if err := change(tree); err != nil {
				t.Fatalf("%s: %v", tree, err)
			}
		}
		if after := statOf(t, dir+"/changed/cut"); after.Ino != before.Ino {
			t.Errorf("inode %d is %d after a write", before.Ino, after.Ino)
		}
		sameButTimes(t, copied, dir)
		m.ends(syscall.SIGTERM, soon)
		absent(t, dir)

		m, dir = mountedTree(t, "--overlay", over, in)
		sameButTimes(t, copied, dir)
		must(t, "umount", dir)
		if status := m.wait(); status != 0 {
			t.Errorf("status %d: %s", status, m.stderr)
		}
		absent(t, dir)

		// What is shown only is not written to.
		_, dir = mountedTree(t, "--overlay", over, "-o", "ro", in)
		sameButTimes(t, copied, dir)
		if err := os.Remove(dir + "/changed/cut"); !errors.Is(err, unix.EROFS) {
			t.Errorf("ro: %v", err)
		}
	}
	if !bytes.Equal(read(t, p.index), image) {
		t.Error("the index has changed")
	}
	if got := strings.TrimSpace(must(t, caravel, "digest", "--store", p.path("default.castr"), p.index)); got != p.digest {
		t.Errorf("the image is %s, was %s", got, p.digest)
	}
}

// TestMountOverlayKilled has the next process, and the supervisor's, go on with what
// the one that was killed has left.
func TestMountOverlayKilled(t *testing.T) {
	needRoot(t)
	p := packTree(t, caravel, randomFiles(t, 2, 3, 50_000))
	over, dir := t.TempDir(), t.TempDir()
	unmountLater(t, dir)
	for round := range 3 {
		m := start(t, caravel, "mount", "--overlay", over, p.index, dir)
		m.expect("Mounted: ")
		same(t, dir+"/dir01/file02", p.source+"/dir01/file02")
		writeFile(t, fmt.Sprintf("%s/round%d", dir, round), []byte("kept"))
		m.stop(syscall.SIGKILL)
	}
	m := start(t, caravel, "mount", "--supervise", "--overlay", over, p.index, dir)
	m.expect("Mounted: ")
	for round := range 3 {
		name := fmt.Sprintf("%s/round%d", dir, round)
		holds(t, name, []byte("kept"))
		if err := os.Remove(name); err != nil {
			t.Error(err)
		}
	}
	killServers(t, dir, p)
	writeFile(t, dir+"/round3", []byte("kept"))
	m.ends(syscall.SIGTERM, soon)
	if isMounted(t, dir) || isMounted(t, over+"/lower") {
		t.Error("still mounted")
	}
	holds(t, over+"/upper/round3", []byte("kept"))
}

// TestMountOverlayInUse cuts a mount off that somebody has open.
func TestMountOverlayInUse(t *testing.T) {
	needRoot(t)
	p := packTree(t, caravel, randomFiles(t, 2, 3, 50_000))
	over := t.TempDir()
	m, dir := mountedTree(t, "--overlay", over, p.index)
	f, err := os.Create(dir + "/open")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m.ends(syscall.SIGINT, soon)
	absent(t, dir)
	if _, err := f.WriteString("late"); err != nil {
		t.Errorf("what is in the folder only is not cut off: %v", err)
	}
	holds(t, over+"/upper/open", []byte("late"))

	// What is said names the directory that people know.
	m, dir = mountedTree(t, "--overlay", over, p.index)
	below, err := os.Open(dir + "/dir00/file00")
	if err != nil {
		t.Fatal(err)
	}
	defer below.Close()
	m.ends(syscall.SIGTERM, soon)
	if said := m.stderr.String(); !strings.Contains(said, "still in use") || !strings.Contains(said, "dir="+dir+"\n") || strings.Contains(said, over) {
		t.Errorf("says %q", said)
	}
}

// TestMountOverStaleOverlay mounts where a writable tree of a process that was killed
// still is: that is taken away, and one that is in use is not covered.
func TestMountOverStaleOverlay(t *testing.T) {
	needRoot(t)
	p, d := packTree(t, caravel, randomFiles(t, 2, 3, 5000)), newDisk(t, 100_000)
	over, dir := t.TempDir(), t.TempDir()
	for _, in := range []string{p.index, p.archive, d.index} {
		m := start(t, caravel, "mount", "--overlay", over, p.index, dir)
		unmountLater(t, dir)
		m.expect("Mounted: ")
		writeFile(t, dir+"/new", []byte("kept"))
		complaint(t, run(t, caravel, "mount", in, dir), dir+": caravel is mounted there already")
		m.stop(syscall.SIGKILL)

		m = start(t, caravel, "mount", in, dir)
		m.expect("Mounted: ")
		if said := m.stderr.String(); !strings.Contains(said, "killed") || !strings.Contains(said, "dir="+dir+"\n") {
			t.Errorf("says %q", said)
		}
		absent(t, dir+"/new")
		m.ends(syscall.SIGTERM, soon)
		if isMounted(t, dir) {
			t.Error("still mounted")
		}
		holds(t, over+"/upper/new", []byte("kept"))
	}
}

func TestMountOverlayRefuses(t *testing.T) {
	needFUSE(t)
	p, other, d := packTree(t, caravel, randomFiles(t, 1, 3, 5000)), packTree(t, caravel, randomFiles(t, 1, 2, 5000)), newDisk(t, 100_000)
	o := serveDir(t, p.dir, origin.Options{})
	over, foreign := filepath.Join(t.TempDir(), "over"), t.TempDir()
	writeFile(t, foreign+"/diary", nil)
	mount := func(args ...string) result {
		return run(t, caravel, append(append([]string{"mount"}, args...), t.TempDir())...)
	}
	complaintOf(t, mount("--overlay", over, d.index), 2, d.index, "nbd-server --overlay=FILE", "mkdev --overlay=FILE")
	complaintOf(t, run(t, caravel, "mount-index", "--overlay", over, d.index, t.TempDir()), 2, "nbd-server --overlay=FILE")
	complaintOf(t, mount("--overlay", over, p.source), 2, "would not be known again")
	complaintOf(t, mount("--overlay", over, o.URL()+"/tree.catar"), 2, "would not be known again")
	complaintOf(t, mount("--overlay=", p.index), 2, "--overlay: says nothing")
	absent(t, over)
	complaint(t, mount("--overlay", foreign, p.index), foreign, `holds "diary"`)
	if os.Geteuid() != 0 {
		need(t, "fuse-overlayfs")
	}
	m, _ := mountedTree(t, "--overlay", over, p.index)
	complaint(t, mount("--overlay", over, p.index), over, "another process has it in use")
	m.ends(syscall.SIGTERM, soon)
	complaint(t, mount("--overlay", over, other.index), over, "lies over another image: "+p.index, other.index)
	complaint(t, mount("--overlay", over, "--subtree=dir00", p.index), over, `lies over all of the image, not over "dir00"`)
}

// TestMountOverlayWords has -o count for what can be written, too.
func TestMountOverlayWords(t *testing.T) {
	needRoot(t)
	need(t, "findmnt", "setpriv")
	p := packTree(t, caravel, func(dir string) {
		owned(t, dir)
		must(t, "cp", "/usr/bin/id", dir+"/id")
		if err := errors.Join(os.Chmod(dir+"/id", 0o755|os.ModeSetuid), unix.Mknod(dir+"/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3)))); err != nil {
			t.Fatal(err)
		}
	})
	nobody := func(dir string) string {
		return strings.TrimSpace(must(t, "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", dir+"/id", "-u"))
	}
	for _, tt := range []struct {
		words   string
		who     string // the set-id program runs as
		devices bool
	}{{"noatime", "0", true}, {"nosuid,nodev", "65534", false}, {"nosuid,suid", "0", true}} {
		m, dir := mountedTree(t, "--overlay", t.TempDir(), "-o", tt.words, p.index)
		for at := filepath.Dir(dir); at != os.TempDir() && at != "/"; at = filepath.Dir(at) {
			_ = os.Chmod(at, 0o755) // others have to get there
		}
		if got := nobody(dir); got != tt.who {
			t.Errorf("-o %s: runs as %s, want %s", tt.words, got, tt.who)
		}
		if f, err := os.OpenFile(dir+"/null", os.O_WRONLY, 0); (err == nil) != tt.devices {
			t.Errorf("-o %s: device: %v", tt.words, err)
		} else {
			f.Close()
		}
		m.ends(syscall.SIGTERM, soon)
	}
	_, dir := mountedTree(t, "--overlay", t.TempDir(), "-o", "uid=4711,umask=022,noexec,fsname=golden", "--subtree=sub", p.index)
	writeFile(t, dir+"/new", nil)
	if st := statOf(t, dir+"/b"); st.Uid != 4711 || st.Mode != unix.S_IFREG|0o755 {
		t.Errorf("of %d, mode %o", st.Uid, st.Mode)
	}
	if info := mountInfo(t, dir); !strings.HasPrefix(info, "golden overlay rw,noexec") {
		t.Error(info)
	}
	if err := exec.Command(dir + "/deep/c").Run(); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("executed: %v", err)
	}
}
