//go:build linux

package integration

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// smallDisk is a file system of n bytes.
func smallDisk(t testing.TB, n int) string {
	t.Helper()
	needRoot(t)
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", n)); err != nil {
		t.Skipf("nothing can be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err) // somebody still has a file open there
		}
	})
	return dir
}

// random writes a file that nothing can make smaller.
func random(t testing.TB, path string, size int) {
	t.Helper()
	recipe{seed: uint64(size), size: size, kind: "random"}.write(t, path)
}

// TestFullStore fills the disk that make puts chunks on.
func TestFullStore(t *testing.T) {
	full, dir := smallDisk(t, 1<<20), t.TempDir()
	random(t, filepath.Join(dir, "image"), 4<<20)
	index := filepath.Join(dir, "x.caibx")
	good := []byte("the former index")
	if err := os.WriteFile(index, good, 0o644); err != nil {
		t.Fatal(err)
	}
	store := filepath.Join(full, "st.castr")
	complaint(t, run(t, caravel, "make", "--store="+store, index, filepath.Join(dir, "image")), store, "no space left on device")
	holds(t, index, good)
	clean(t, dir, "image", "x.caibx")
	clean(t, full)
	// With room again, the same command goes on.
	if err := syscall.Mount("tmpfs", full, "tmpfs", syscall.MS_REMOUNT, "size=16777216"); err != nil {
		t.Fatal(err)
	}
	must(t, caravel, "make", "--store="+store, index, filepath.Join(dir, "image"))
	must(t, caravel, "extract", "--store="+store, index, filepath.Join(dir, "out"))
	holds(t, filepath.Join(dir, "out"), read(t, filepath.Join(dir, "image")))
}

// TestFullDiskForIndex fills the disk that make writes the index to.
func TestFullDiskForIndex(t *testing.T) {
	full, dir := smallDisk(t, 64<<10), t.TempDir()
	random(t, filepath.Join(dir, "image"), 1<<20)
	good := []byte("the former index")
	for _, existing := range []bool{false, true} {
		index := filepath.Join(full, "x.caibx")
		if existing {
			_ = os.Remove(filepath.Join(full, "filler"))
			if err := os.WriteFile(index, good, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		filler, err := os.Create(filepath.Join(full, "filler"))
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.Copy(filler, zeros{})
		filler.Close()
		if err == nil {
			t.Fatal("the disk does not get full")
		}
		complaint(t, run(t, caravel, "make", "--chunk-size=4K", "--store="+filepath.Join(dir, "st.castr"), index, filepath.Join(dir, "image")), index, "no space left on device")
		if existing {
			holds(t, index, good)
		} else {
			absent(t, index)
		}
		clean(t, full, "filler", "x.caibx")
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestFullTarget fills the disk that extract writes to.
func TestFullTarget(t *testing.T) {
	d := newDisk(t, 4<<20)
	full := smallDisk(t, 1<<20)
	for _, existing := range []bool{false, true} {
		out := filepath.Join(full, "out.img")
		if existing {
			if err := os.WriteFile(out, []byte("the former image"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		complaint(t, run(t, caravel, "extract", d.index, out), full, "no space left on device")
		if existing {
			holds(t, out, []byte("the former image"))
		} else {
			absent(t, out)
		}
		clean(t, full, "out.img")
	}
	complaint(t, run(t, caravel, "extract", "--in-place", d.index, filepath.Join(full, "in-place")), full, "no space left on device", "incomplete")
	complaint(t, run(t, caravel, "cat", d.index, filepath.Join(full, "cat")), full, "no space left on device")
	// To a standard output that is full.
	null, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skipf("no /dev/full: %v", err)
	}
	defer null.Close()
	for _, args := range [][]string{{"cat", d.index}, {"list-chunks", d.index}, {"extract", d.index, "-"}, {"digest", d.index}, {"version"}} {
		complaint(t, runWith(t, func(c *exec.Cmd) { c.Stdout = null }, caravel, args...), "no space left on device")
	}
}

// TestFileTooLarge writes files that may not become as large as they have to,
// as on a file system that knows none of that size.
func TestFileTooLarge(t *testing.T) {
	d := newDisk(t, 1<<20)
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	limited := func(blocks int, args ...string) result {
		return run(t, "sh", append([]string{"-c", fmt.Sprintf(`ulimit -f %d; exec "$0" "$@"`, blocks), caravel}, args...)...)
	}
	complaint(t, limited(100, "extract", d.index, out), "file too large")
	clean(t, dir)
	complaint(t, limited(100, "cat", d.index, out), out, "file too large")
	clean(t, dir)
	complaint(t, limited(8, "make", "--chunk-size=64K", "--store="+filepath.Join(dir, "st.castr"), filepath.Join(dir, "x.caibx"), d.image), "file too large")
	clean(t, dir)
}

// readOnly makes a folder in which nothing can be made.
func readOnly(t testing.TB) string {
	t.Helper()
	if os.Geteuid() != 0 {
		dir := t.TempDir()
		if err := os.Chmod(dir, 0o555); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	dir := smallDisk(t, 1<<20)
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestTargetsThatCannotBe names targets and indexes that cannot be written.
func TestTargetsThatCannotBe(t *testing.T) {
	d := newDisk(t, 200_000)
	ro, dir := readOnly(t), t.TempDir()
	if err := os.Symlink("loop", filepath.Join(dir, "loop")); err != nil {
		t.Fatal(err)
	}
	for _, to := range []struct{ path, why string }{
		{filepath.Join(ro, "out"), "read-only file system"},
		{filepath.Join(dir, "no", "out"), "no such file or directory"},
		{filepath.Join(d.image, "out"), "not a directory"},
		{filepath.Join(dir, "loop"), "too many levels of symbolic links"},
		{dir, "is a directory"},
		{filepath.Join(dir, strings.Repeat("n", 256)), "file name too long"},
	} {
		why := to.why
		if os.Geteuid() != 0 && strings.HasPrefix(to.path, ro) {
			why = "permission denied"
		}
		complaint(t, run(t, caravel, "extract", d.index, to.path), to.path, why)
		if to.path != dir {
			complaint(t, run(t, caravel, "extract", "--in-place", d.index, to.path), to.path, why)
		}
		if strings.Contains(why, "name too long") || to.path == dir {
			continue
		}
		if filepath.Base(to.path) == "out" {
			complaint(t, run(t, caravel, "make", "--store="+d.store, to.path+".caibx", d.image), filepath.Dir(to.path), why)
			complaint(t, run(t, caravel, "cat", d.index, to.path), filepath.Dir(to.path), why)
		}
	}
	folder := filepath.Join(dir, "folder.caibx")
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	complaint(t, run(t, caravel, "make", "--store="+filepath.Join(dir, "unused"), folder, d.image), folder, "is a directory")
	complaint(t, run(t, caravel, "make", "--store="+filepath.Join(ro, "st.castr"), filepath.Join(dir, "y.caibx"), d.image), ro)
	clean(t, dir, "loop")
}

// TestNothingReplacesADevice names devices and pipes as the output of every
// command: bytes go into them, and no file takes their place.
func TestNothingReplacesADevice(t *testing.T) {
	d := newDisk(t, 100_000)
	dir := t.TempDir()
	null, fifo, link, file := filepath.Join(dir, "null"), filepath.Join(dir, "fifo"), filepath.Join(dir, "link.caibx"), filepath.Join(dir, "file")
	if os.Geteuid() == 0 {
		if err := syscall.Mknod(null, syscall.S_IFCHR|0o666, 1<<8|3); err != nil {
			t.Fatal(err)
		}
	} else {
		null = "/dev/null"
	}
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("file", link); err != nil {
		t.Fatal(err)
	}
	writeFile(t, file, []byte("former"))
	makeTo := func(path string) []string {
		return []string{"make", "--what=blob-index", "--chunk-size=4K", "--store=" + d.store, path, d.image}
	}
	for _, tt := range []struct {
		path    string
		args    []string
		written []byte
	}{
		{null, makeTo(null), nil},
		{null, []string{"extract", d.index, null}, nil},
		{null, []string{"cat", d.index, null}, nil},
		{fifo, makeTo(fifo), read(t, d.index)},
		{fifo, []string{"extract", d.index, fifo}, d.data},
		{fifo, []string{"cat", d.index, fifo}, d.data},
		{link, makeTo(link), read(t, d.index)},
		{link, []string{"extract", d.index, link}, d.data},
		{link, []string{"cat", d.index, link}, d.data},
	} {
		before, err := os.Lstat(tt.path)
		if err != nil {
			t.Fatal(err)
		}
		var got []byte
		done := make(chan struct{})
		go func() {
			defer close(done)
			if tt.path == fifo {
				got, _ = os.ReadFile(fifo)
			}
		}()
		must(t, caravel, tt.args...)
		if after, err := os.Lstat(tt.path); err != nil || !os.SameFile(before, after) {
			t.Fatalf("%v: %s was replaced (%v)", tt.args[0], tt.path, err)
		}
		<-done
		if tt.path == link {
			got = read(t, file)
		}
		if !bytes.Equal(got, tt.written) {
			t.Errorf("%s to %s: %d bytes, want %d", tt.args[0], tt.path, len(got), len(tt.written))
		}
	}
	clean(t, dir, "null", "fifo", "link.caibx", "file")
}

// TestSourcesThatCannotBe names images that cannot be read.
func TestSourcesThatCannotBe(t *testing.T) {
	dir := t.TempDir()
	index, store := filepath.Join(dir, "x.caibx"), filepath.Join(dir, "st.castr")
	good := []byte("the former index")
	if err := os.WriteFile(index, good, 0o644); err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("x"), 0); err != nil {
		t.Fatal(err)
	}
	sources := map[string]string{
		filepath.Join(dir, "none"): "no such file or directory",
		dir:                        "is a directory",
		"/proc/self/mem":           "input/output error", // a read that fails
	}
	if os.Geteuid() != 0 {
		sources[secret] = "permission denied"
	}
	for source, why := range sources {
		complaint(t, run(t, caravel, "make", "--store="+store, index, source), source, why)
		if source != dir { // which has a digest
			complaint(t, run(t, caravel, "digest", source), source, why)
		}
		holds(t, index, good)
		clean(t, dir, "x.caibx", "secret")
	}
	for _, args := range [][]string{
		{"extract", filepath.Join(dir, "none.caibx"), filepath.Join(dir, "out")},
		{"cat", filepath.Join(dir, "none.caibx")},
		{"list-chunks", filepath.Join(dir, "none.caibx")},
		{"mount", filepath.Join(dir, "none.caibx"), filepath.Join(dir, "mnt")},
		{"nbd-server", "--socket=" + filepath.Join(dir, "sock"), filepath.Join(dir, "none.caibx")},
	} {
		complaint(t, within(t, 10*time.Second, args...), "none.caibx", "")
	}
	clean(t, dir, "x.caibx", "secret")
}

// TestNoStore names no store, or one that is not there.
func TestNoStore(t *testing.T) {
	d := newDisk(t, 200_000)
	if err := os.Rename(d.store, d.path("elsewhere")); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out")
	complaint(t, run(t, caravel, "extract", d.index, out), d.store, "no such store; name one with --store")
	complaint(t, run(t, caravel, "extract", "--store="+d.path("none"), d.index, out), d.path("none"), "no such store")
	complaint(t, run(t, caravel, "mount", d.index, filepath.Join(filepath.Dir(out), "mnt")), d.store, "no such store")
	absent(t, out)
	absent(t, filepath.Join(filepath.Dir(out), "mnt"))
	must(t, caravel, "extract", "--store="+d.path("elsewhere"), d.index, out)
}

// loop attaches a file of n bytes to a loop device.
func loop(t testing.TB, n int) (device, file string) {
	t.Helper()
	needRoot(t)
	need(t, "losetup")
	file = filepath.Join(t.TempDir(), "backing")
	if err := os.WriteFile(file, bytes.Repeat([]byte("former "), n/7+1)[:n], 0o600); err != nil {
		t.Fatal(err)
	}
	r := run(t, "losetup", "--find", "--show", file)
	if r.status != 0 {
		t.Skipf("no loop devices here: %s", r.stderr)
	}
	device = strings.TrimSpace(r.stdout)
	t.Cleanup(func() { must(t, "losetup", "--detach", device) })
	return device, file
}

// TestDevice writes to a block device: one that is too small is not touched,
// one that is not is written in place and stays a device.
func TestDevice(t *testing.T) {
	d := newDisk(t, 3<<20)
	device, file := loop(t, 2<<20)
	before := read(t, file)
	complaint(t, run(t, caravel, "extract", d.index, device), device, "2097152 bytes", "3145728")
	complaint(t, run(t, caravel, "extract", "--in-place", d.index, device), device, "2097152 bytes", "3145728")
	must(t, "sync")
	holds(t, file, before)

	device, file = loop(t, 4<<20)
	behind := read(t, file)[len(d.data):]
	node := func() os.FileInfo {
		st, err := os.Lstat(device)
		if err != nil || st.Mode()&os.ModeDevice == 0 {
			t.Fatalf("%s: no device any more (%v)", device, err)
		}
		return st
	}
	former := node()
	// Interrupted, it stays a device and can be continued.
	p := newTap(t, d.dir)
	p.stopAfter(300)
	e := interrupt(t, syscall.SIGINT, p.reached, "extract", p.URL()+"/disk.caibx", device)
	complaint(t, e.result, "caravel: interrupted", device+" is incomplete: run it again to continue")
	p.stopAfter(0)
	must(t, caravel, "extract", p.URL()+"/disk.caibx", device)
	if !os.SameFile(former, node()) {
		t.Errorf("%s was replaced", device)
	}
	if again, all := p.chunks.Load(), int64(len(d.chunks(t))); again > all-300+150 {
		t.Errorf("fetched %d of %d chunks again", again, all)
	}
	must(t, "sync")
	holds(t, file, append(bytes.Clone(d.data), behind...))
	clean(t, filepath.Dir(file), "backing")
}
