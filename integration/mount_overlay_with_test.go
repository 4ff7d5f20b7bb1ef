//go:build linux

package integration

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"caravel/internal/origin"
)

// TestMountOverlayMaterialized writes to files of which the kernel may read those that
// are whole by itself: what was written is what is read, here and by the next.
func TestMountOverlayMaterialized(t *testing.T) {
	needRoot(t)
	names := []string{"appended", "cut", "mapped", "left"}
	p := packTree(t, caravel, func(dir string) {
		for _, name := range names {
			recipe{seed: uint64(len(name)), size: 3 << 20, kind: "random"}.write(t, filepath.Join(dir, name))
		}
	}, "--chunk-size=64K")
	o := serveDir(t, p.dir, origin.Options{})
	over, cache := t.TempDir(), t.TempDir()
	args := []string{"--overlay", over, "--materialize=yes", "--cache-dir", cache, o.URL() + "/tree.caidx"}
	m, dir := mountedTree(t, args...)
	sameTree(t, dir, p.source)
	whole := map[string]bool{} // digests of what the cache has assembled
	eventually(t, "all files are whole", func() bool {
		maps, err := filepath.Glob(cache + "/images/*/*.map")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range maps {
			whole[fileSum(t, strings.TrimSuffix(name, ".map"))] = true
		}
		for _, name := range names {
			if !whole[fileSum(t, filepath.Join(p.source, name))] {
				return false
			}
		}
		return true
	})
	m.ends(syscall.SIGTERM, soon)

	changed := func(dir string) error {
		f, err := os.OpenFile(dir+"/appended", os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteString("more")
		return errors.Join(err, f.Close(), os.Truncate(dir+"/cut", 1<<20+7), mapped(dir+"/mapped"))
	}
	o.Reset()
	args = append([]string{"--offline"}, args...)
	m, dir = mountedTree(t, args...)
	open, err := os.Open(dir + "/cut") // from below, and so it stays
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	sameTree(t, dir, p.source)
	if err := changed(dir); err != nil {
		t.Fatal(err)
	}
	if n, err := open.Seek(0, 2); err != nil || n != 1<<20+7 && n != 3<<20 {
		t.Errorf("a file that was open has %d bytes, %v", n, err)
	}
	open.Close()
	copied := filepath.Join(t.TempDir(), "copy")
	must(t, "cp", "-a", p.source, copied)
	if err := changed(copied); err != nil {
		t.Fatal(err)
	}
	sameTree(t, dir, copied)
	m.ends(syscall.SIGTERM, soon)
	_, dir = mountedTree(t, args...)
	sameTree(t, dir, copied)
	if n := o.Counts().Requests; n > 0 {
		t.Errorf("%d requests for what is here", n)
	}
}

// fileSum is the digest of a file.
func fileSum(t *testing.T, path string) string {
	t.Helper()
	return fmt.Sprintf("%x", sha256.Sum256(read(t, path)))
}

// TestMountOverlayShift does to a part of a tree whose owners are moved what it does to
// such a copy.
func TestMountOverlayShift(t *testing.T) {
	needRoot(t)
	need(t, "casync", "setfacl")
	p := packTree(t, caravel, func(dir string) {
		changeable(t, dir)
		must(t, "setfacl", "-m", "u:4711:rw,g:12:r", dir+"/changed/cut")
		must(t, "setfacl", "-m", "d:u:4711:rwx", dir+"/changed/dir")
		if err := os.Chown(dir+"/changed", 33, 44); err != nil {
			t.Fatal(err)
		}
	}, "--without=user-names") // with them casync takes the numbers that they have here
	over, copied := t.TempDir(), filepath.Join(t.TempDir(), "copy")
	must(t, "casync", "extract", "--uid-shift=100000", p.index, copied)
	at := t.TempDir() // where change finds its folder
	mount := func() *daemon {
		t.Helper()
		m := start(t, caravel, "mount", "--overlay", over, "--uid-shift=100000", "--subtree=changed", p.index, at+"/changed")
		unmountLater(t, at+"/changed")
		m.expect("Mounted: ")
		return m
	}
	m := mount()
	sameButTimes(t, copied+"/changed", at+"/changed")
	for _, tree := range []string{copied, at} {
		if err := change(tree); err != nil {
			t.Fatalf("%s: %v", tree, err)
		}
	}
	sameButTimes(t, copied+"/changed", at+"/changed")
	m.ends(syscall.SIGTERM, soon)
	mount()
	sameButTimes(t, copied+"/changed", at+"/changed")
}

// TestMountOverlayLabels says what is labelled as it is for a read-only mount: to the
// kernel, if that has labels. Those of the image are kept with what is written.
func TestMountOverlayLabels(t *testing.T) {
	needRoot(t)
	need(t, "findmnt")
	const label = "system_u:object_r:tmp_t:s0"
	p := packTree(t, caravel, func(dir string) {
		writeFile(t, dir+"/file", []byte("text"))
		if err := unix.Setxattr(dir+"/file", "security.selinux", []byte(label+"\x00"), 0); err != nil {
			t.Skipf("no labels here: %v", err)
		}
	})
	_, dir := mountedTree(t, "--overlay", t.TempDir(), "-o", `noatime,context="`+label+`:c1,c2"`, p.index)
	if _, err := os.Stat("/sys/fs/selinux"); err == nil {
		if info := mountInfo(t, dir); !strings.Contains(info, label+":c1,c2") {
			t.Error(info)
		}
		return
	}
	f, err := os.OpenFile(dir+"/file", os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	value := make([]byte, 100)
	if n, err := unix.Getxattr(dir+"/file", "security.selinux", value); err != nil || strings.Trim(string(value[:n]), "\x00") != label {
		t.Errorf("label %q, %v", value[:max(n, 0)], err)
	}
}

// TestMountOverlayDaemon writes to a mount in the background, which goes on by itself
// when it is killed, and ends when it is unmounted.
func TestMountOverlayDaemon(t *testing.T) {
	needRoot(t)
	p := packTree(t, caravel, randomFiles(t, 2, 3, 5000))
	dir, over, log := t.TempDir(), t.TempDir(), filepath.Join(t.TempDir(), "log")
	unmountLater(t, dir)
	mount := func() {
		t.Helper()
		r := run(t, caravel, "mount", "--daemon", "--supervise", "--log-file", log, "--overlay", over, p.index, dir)
		if want := "Mounted: " + dir + "\n"; r.status != 0 || r.stdout != want || r.stderr != "" {
			t.Fatalf("status %d, %q, %q", r.status, r.stdout, r.stderr)
		}
	}
	mount()
	writeFile(t, dir+"/new", []byte("kept"))
	if err := os.Remove(dir + "/dir01/file01"); err != nil {
		t.Error(err)
	}
	worker := serving(t, dir)
	if err := syscall.Kill(worker, syscall.SIGKILL); err != nil {
		t.Fatalf("%d: %v", worker, err)
	}
	eventually(t, "it is mounted again", func() bool {
		now := serving(t, dir)
		_, err := os.ReadFile(dir + "/dir00/file00")
		return err == nil && now != 0 && now != worker
	})
	for range 2 {
		holds(t, dir+"/new", []byte("kept"))
		same(t, dir+"/dir01/file00", p.source+"/dir01/file00")
		absent(t, dir+"/dir01/file01")
		must(t, "umount", dir)
		eventually(t, "the processes end", func() bool { return len(serversOf(t, dir)) == 0 })
		mount()
	}
	must(t, "umount", dir)
	eventually(t, "the processes end", func() bool { return len(serversOf(t, dir)) == 0 })
}

// TestMountOverlayHelper has mount(8) find the folder in a line of its table.
func TestMountOverlayHelper(t *testing.T) {
	needFUSE(t)
	needRoot(t)
	need(t, "mount", "findmnt")
	installHelper(t)
	p := packTree(t, caravel, randomFiles(t, 2, 3, 5000))
	dir, over := t.TempDir(), filepath.Join(t.TempDir(), "over,here")
	unmountLater(t, dir)
	for _, tt := range []struct{ words, info string }{
		{"defaults,nofail", "rw,relatime"},
		{"ro,noexec", "ro,noexec,relatime"},
		{"rw,noatime,nosuid", "rw,nosuid,noatime"},
	} {
		table := filepath.Join(t.TempDir(), "fstab")
		writeFile(t, table, fmt.Appendf(nil, "%s %s fuse.caravel %s,no-sweep,overlay=%s 0 0\n", p.index, dir, tt.words, strings.ReplaceAll(over, ",", `\,`)))
		must(t, "mount", "-T", table, dir)
		if info := mountInfo(t, dir); !strings.HasPrefix(info, p.index+" overlay "+tt.info) {
			t.Errorf("%s: %s", tt.words, info)
		}
		err := os.WriteFile(dir+"/"+tt.words, []byte("kept"), 0o600)
		if ro := strings.HasPrefix(tt.words, "ro"); ro != errors.Is(err, unix.EROFS) || !ro && err != nil {
			t.Errorf("%s: %v", tt.words, err)
		}
		holds(t, dir+"/defaults,nofail", []byte("kept"))
		must(t, "umount", dir)
		eventually(t, "the process ends", func() bool { return len(serversOf(t, dir)) == 0 })
	}
}
