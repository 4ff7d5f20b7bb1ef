//go:build linux

package integration

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"caravel/internal/origin"
)

// isMounted reports whether something is mounted on dir.
func isMounted(t testing.TB, dir string) bool {
	t.Helper()
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return false
	}
	for line := range bytes.Lines(read(t, "/proc/self/mountinfo")) {
		if f := bytes.Fields(line); len(f) > 4 && string(f[4]) == dir {
			return true
		}
	}
	return false
}

// TestMount shows an image from wherever it may be, tells people and the
// service manager, and leaves nothing.
func TestMount(t *testing.T) {
	needFUSE(t)
	d := sparseDisk(t)
	made := time.Date(2020, 2, 3, 4, 5, 6, 0, time.UTC)
	if err := os.Chtimes(d.index, made, made); err != nil {
		t.Fatal(err)
	}
	o := serveDir(t, d.dir, origin.Options{})
	for _, tt := range []struct {
		name  string
		args  []string
		stdin bool
		file  string
		dated bool
	}{
		{"path", []string{"mount", d.index}, false, "disk", true},
		{"URL", []string{"mount", o.URL() + "/disk.caibx"}, false, "disk", true},
		{"query", []string{"mount", o.URL() + "/disk.caibx?a=b/c.d"}, false, "disk", true},
		{"stdin", []string{"mount", "--store", o.URL() + "/default.castr", "-"}, true, "image", false},
		{"stdin and path", []string{"mount-index", "-s", d.store, "-"}, true, "image", false},
		{"mount-index", []string{"mount-index", d.index}, false, "disk", true},
		{"name", []string{"mount", "--name=other.img", d.index}, false, "other.img", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "made by caravel")
			m := newManager(t)
			server := startWith(t, func(cmd *exec.Cmd) {
				cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+m.path)
				if tt.stdin {
					cmd.Stdin = bytes.NewReader(read(t, d.index))
				}
			}, caravel, append(tt.args, dir)...)
			unmountLater(t, dir)
			if got := server.expect("Mounted: "); got != dir {
				t.Errorf("Mounted: %s, want %s", got, dir)
			}
			if told := m.told(t); !slices.Contains(told, "READY=1") || !slices.Contains(told, "STATUS=Mounted: "+dir) {
				t.Errorf("service manager was told %q", told)
			}
			file := filepath.Join(dir, tt.file)
			st, err := os.Stat(file)
			if err != nil {
				t.Fatal(err)
			}
			if st.Size() != int64(len(d.data)) || st.Mode() != 0o444 || tt.dated && !st.ModTime().Equal(made) {
				t.Errorf("size %d, mode %v, time %v; want %d, 0444, %v", st.Size(), st.Mode(), st.ModTime(), len(d.data), made)
			}
			same(t, file, d.image)
			if err := os.WriteFile(file, nil, 0o666); err == nil {
				t.Error("can be written")
			}
			server.ends(syscall.SIGTERM, soon)
			if told := m.told(t); !slices.Contains(told, "STOPPING=1") {
				t.Errorf("service manager was told %q", told)
			}
			absent(t, dir)
		})
	}
}

// unmountLater takes away what a test that failed leaves mounted.
func unmountLater(t testing.TB, dir string) {
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_FORCE|unix.MNT_DETACH) })
}

// TestMountEnds in every way: with status 0, nothing mounted, and a folder that
// was there still there.
func TestMountEnds(t *testing.T) {
	d := newDisk(t, 100_000)
	signal := func(sig syscall.Signal) func(*daemon, string) {
		return func(m *daemon, _ string) { _ = m.cmd.Process.Signal(sig) }
	}
	for _, tt := range []struct {
		name string
		end  func(m *daemon, dir string)
	}{
		{"SIGINT", signal(syscall.SIGINT)},
		{"SIGTERM", signal(syscall.SIGTERM)},
		{"SIGHUP", signal(syscall.SIGHUP)},
		{"fusermount3", func(_ *daemon, dir string) { need(t, "fusermount3"); must(t, "fusermount3", "-u", dir) }},
		{"umount", func(_ *daemon, dir string) { needRoot(t); must(t, "umount", dir) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			m, file := mounted(t, d.index, dir)
			holds(t, file, d.data)
			timely(t, "the end", soon, func() {
				tt.end(m, dir)
				if status := m.wait(); status != 0 {
					t.Errorf("status %d: %s", status, m.stderr)
				}
			})
			if isMounted(t, dir) {
				t.Error("still mounted")
			}
			empty(t, dir)
		})
	}
}

// TestMountRefuses what is no index, before anything is mounted or made.
func TestMountRefuses(t *testing.T) {
	needFUSE(t)
	d := newDisk(t, 100_000)
	for name, b := range map[string][]byte{
		"random.caibx": d.data,
		"random":       d.data,
		"empty.caibx":  nil,
		"tree.catar":   append([]byte{0x40, 0, 0, 0, 0, 0, 0, 0, 0x64, 0xa6, 0xbb, 0x6b, 0x73, 0x6b, 0x49, 0x36}, d.data...),
	} {
		if err := os.WriteFile(d.path(name), b, 0o666); err != nil {
			t.Fatal(err)
		}
		dir := d.path("mnt")
		complaint(t, run(t, caravel, "mount", d.path(name), dir), name)
		absent(t, dir)
	}
	complaint(t, run(t, caravel, "mount", d.path("none.caibx"), d.path("mnt")), "none.caibx", "not there")
	complaint(t, run(t, caravel, "mount", d.index, d.image), d.image, "not a directory")
	complaint(t, run(t, caravel, "mount", d.index, d.path("no/mnt")), d.path("no/mnt"), "no such file")
	complaint(t, run(t, caravel, "mount", "--mkdir=no", d.index, d.path("mnt")), d.path("mnt"), "no such file")
	absent(t, d.path("mnt"))
}

// TestParallelReaders has many read here and there at the same time, a store
// that is not near.
func TestParallelReaders(t *testing.T) {
	d := newDisk(t, 4_000_000, "--chunk-size=16K")
	o := serveDir(t, d.dir, origin.Options{RTT: 2 * time.Millisecond})
	_, file := mounted(t, "--memory=1M", o.URL()+"/disk.caibx", t.TempDir())
	err := parallel(16, func(ctx context.Context, i int) error {
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		defer f.Close()
		r := rand.New(rand.NewPCG(uint64(i), 0))
		for range times(100, 2000) {
			off := r.Int64N(int64(len(d.data)))
			want := d.data[off:min(off+1+r.Int64N(20_000), int64(len(d.data)))]
			got := make([]byte, len(want))
			if _, err := f.ReadAt(got, off); err != nil {
				return err
			}
			if !bytes.Equal(got, want) {
				return fmt.Errorf("%d bytes at %d are others", len(got), off)
			}
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// withoutRoot becomes nobody, in a mount namespace of its own in which nobody
// may open /dev/fuse: udev lets everybody do that, a machine without it none.
const withoutRoot = `
mknod "$0/fuse" c 10 229 && chmod 666 "$0/fuse" && mount --bind "$0/fuse" /dev/fuse || exit 77
exec setpriv --reuid=65534 --regid=65534 --clear-groups -- "$@"`

// TestMountWithoutRoot works where fusermount3 lets it, for the one who mounts.
func TestMountWithoutRoot(t *testing.T) {
	needRoot(t)
	needFUSE(t)
	need(t, "fusermount3", "setpriv", "unshare", "nsenter")
	helper, err := exec.LookPath("fusermount3")
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(helper); err != nil || st.Mode()&fs.ModeSetuid == 0 {
		t.Skipf("%s is not set-user-ID root", helper)
	}
	d := newDisk(t, 200_000)
	home, dev := t.TempDir(), t.TempDir()
	for _, dir := range []string{d.dir, home, filepath.Dir(caravel)} {
		passable(t, dir)
	}
	if err := os.Chown(home, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(home, "mnt")
	server := start(t, "unshare", "--mount", "sh", "-c", withoutRoot, dev, caravel, "mount", d.index, dir)
	server.expect("Mounted: ")
	inside := []string{"--target", strconv.Itoa(server.cmd.Process.Pid), "--mount", "--"}
	nobody := append(inside, "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "cat", filepath.Join(dir, "disk"))
	if got := must(t, "nsenter", nobody...); got != string(d.data) {
		t.Errorf("%d bytes that are others", len(got))
	}
	if r := run(t, "nsenter", append(inside, "cat", filepath.Join(dir, "disk"))...); r.status == 0 {
		t.Error("others may read it, too")
	}
	server.ends(syscall.SIGTERM, soon)
	absent(t, dir)
}

// TestMountedFileIsADisk for those who take files for disks.
func TestMountedFileIsADisk(t *testing.T) {
	d := newDisk(t, 1<<20)
	_, file := mounted(t, d.index, t.TempDir())
	t.Run("qemu-img", func(t *testing.T) {
		need(t, "qemu-img")
		must(t, "qemu-img", "compare", "-f", "raw", "-F", "raw", file, d.image)
		copied := filepath.Join(t.TempDir(), "out")
		must(t, "qemu-img", "convert", "-f", "raw", "-O", "raw", file, copied)
		holds(t, copied, d.data)
	})
	t.Run("losetup", func(t *testing.T) {
		needRoot(t)
		need(t, "losetup")
		device := strings.TrimSpace(must(t, "losetup", "--find", "--show", "--read-only", file))
		defer must(t, "losetup", "--detach", device)
		holds(t, device, d.data)
	})
}

// TestMountedExt4 mounts the file system of a mounted image, and finds the same
// files.
func TestMountedExt4(t *testing.T) {
	needRoot(t)
	tree := goroot(t, "src", "encoding")
	d := cut(t, func(path string) { ext4(t, path, tree, 16) })
	o := serveDir(t, d.dir, origin.Options{RTT: time.Millisecond})
	_, file := mounted(t, o.URL()+"/disk.caibx", t.TempDir())
	dir := t.TempDir()
	if r := run(t, "mount", "-t", "ext4", "-o", "loop,ro", file, dir); r.status != 0 {
		t.Skipf("no loop mounts here: %s", r.stderr)
	}
	defer must(t, "umount", dir)
	sameTree(t, dir, tree)
}

// sameTree compares what the files of two folders hold; that of a file system
// may have lost+found besides.
func sameTree(t *testing.T, got, want string) {
	t.Helper()
	n := 0
	err := filepath.WalkDir(want, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		name, err := filepath.Rel(want, path)
		if err == nil {
			n++
			holds(t, filepath.Join(got, name), read(t, path))
		}
		return err
	})
	if err != nil || n == 0 {
		t.Errorf("%d files, %v", n, err)
	}
	r := run(t, "diff", "-rq", "--exclude=lost+found", want, got)
	if r.status != 0 {
		t.Errorf("%s%s", r.stdout, r.stderr)
	}
}

// TestCacheOutlivesTheServer reads again what was read before, from a cache
// alone.
func TestCacheOutlivesTheServer(t *testing.T) {
	d := newDisk(t, 4<<20)
	o := serveDir(t, d.dir, origin.Options{})
	cache := d.path("cache.castr")
	args := []string{"--no-sweep", "--cache", cache, "--store", o.URL() + "/default.castr", "--timeout=500ms", d.index}
	const part = 512 << 10 // read-ahead may fetch as much again, and more
	m, file := mounted(t, append(args, t.TempDir())...)
	readPart := func(file string) {
		t.Helper()
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		got := make([]byte, part)
		if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, d.data[:part]) {
			t.Errorf("first part: %v", err)
		}
	}
	readPart(file)
	m.ends(syscall.SIGTERM, soon)
	clean(t, cache)
	if have, all := countChunks(t, cache), len(d.chunks(t)); have < all/10 || have > all*3/4 {
		t.Errorf("%d of %d chunks were kept of an eighth of the image", have, all)
	}

	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	_, file = mounted(t, append(args, t.TempDir())...)
	readPart(file)
	if _, err := os.ReadFile(file); !isEIO(err) {
		t.Errorf("the other half: %v, want an I/O error", err)
	}
	readPart(file)
}

// countChunks is how many a store has.
func countChunks(t testing.TB, dir string) int {
	t.Helper()
	n := 0
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && chunkFile.MatchString(path) {
			n++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestSweep fetches the rest of the image in the background, where there is a
// cache and nobody forbids it.
func TestSweep(t *testing.T) {
	d := newDisk(t, 1<<20)
	ids := map[string]bool{}
	for _, p := range d.chunks(t) {
		ids[p.ID] = true
	}
	o := serveDir(t, d.dir, origin.Options{})
	cache := d.path("cache.castr")
	args := []string{"--cache", cache, "--profile=none", o.URL() + "/disk.caibx"}
	m, _ := mounted(t, append(args, t.TempDir())...)
	eventually(t, "the cache is complete", func() bool {
		_, err := os.Stat(cache)
		return err == nil && countChunks(t, cache) == len(ids)
	})
	m.ends(syscall.SIGTERM, soon)
	clean(t, cache)
	out := d.path("out")
	must(t, caravel, "extract", "--store", cache, d.index, out)
	holds(t, out, d.data)

	// With everything there, nothing but the index is asked for.
	o.Reset()
	m, file := mounted(t, append(args, t.TempDir())...)
	holds(t, file, d.data)
	m.ends(syscall.SIGTERM, soon)
	if n := o.Counts().Requests; n != 1 {
		t.Errorf("%d requests: %v", n, o.Counts().Paths)
	}
}

// TestOnlyWhatIsRead travels: without a cache, and with one but without sweep.
func TestOnlyWhatIsRead(t *testing.T) {
	d := newDisk(t, 8_000_000, "--chunk-size=64K")
	o := serveDir(t, d.dir, origin.Options{})
	for _, args := range [][]string{{"--profile=none"}, {"--profile=none", "--no-sweep", "--cache", d.path("cache.castr")}} {
		o.Reset()
		m, file := mounted(t, append(args, o.URL()+"/disk.caibx", t.TempDir())...)
		if n := o.Counts().Requests; n != 1 {
			t.Errorf("%v: %d requests before a read, want that of the index", args, n)
		}
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		for i, off := range []int64{5 << 20, 1 << 20, 3<<20 + 4096} {
			got := make([]byte, 4096)
			if _, err := f.ReadAt(got, off); err != nil || !bytes.Equal(got, d.data[off:off+4096]) {
				t.Errorf("%v: at %d: %v", args, off, err)
			}
			if n := o.Counts().Requests; n > int64(1+2*(i+1)) {
				t.Errorf("%v: %d requests for %d reads of 4 KiB: %v", args, n, i+1, o.Counts().Paths)
			}
		}
		f.Close()
		m.ends(syscall.SIGTERM, soon)
	}
}
