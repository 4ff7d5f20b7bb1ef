//go:build linux

package integration

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"caravel/internal/origin"
)

// readsAt reads 4 KiB at some offsets of a file, and has the kernel not read
// ahead.
func readsAt(t *testing.T, path string, want []byte, offs ...int64) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_RANDOM); err != nil {
		t.Fatal(err)
	}
	for _, off := range offs {
		got := make([]byte, 4096)
		if _, err := f.ReadAt(got, off); err != nil || !bytes.Equal(got, want[off:off+4096]) {
			t.Errorf("at %d: %v", off, err)
		}
	}
}

// TestProfile records what a run touches; the next one, also of the next
// version, has it before somebody asks.
func TestProfile(t *testing.T) {
	d := newDisk(t, 8<<20, "--chunk-size=64K")
	o := serveDir(t, d.dir, origin.Options{})
	url, recorded := o.URL()+"/disk.caibx", d.path("recorded")
	offs := []int64{5 << 20, 1 << 20, 7 << 20, 2 << 20}
	m, file := mounted(t, "--record", recorded, "--profile=none", url, t.TempDir())
	readsAt(t, file, d.data, offs[:2]...)
	if err := m.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	eventually(t, "SIGUSR1 writes the profile", func() bool { _, err := os.Stat(recorded); return err == nil })
	readsAt(t, file, d.data, offs[2:]...)
	m.ends(syscall.SIGTERM, soon)
	if got := must(t, caravel, "profile", "show", recorded); !strings.Contains(got, "Chunks: ") {
		t.Errorf("shows %s", got)
	}

	next := append(bytes.Repeat([]byte("new"), 50_000), d.data...)
	replace(t, d.image, next)
	must(t, caravel, "make", "--chunk-size=64K", d.path("next.caibx"), d.image)
	for name, image := range map[string]string{"same": url, "next": o.URL() + "/next.caibx"} {
		data, shift := d.data, int64(0)
		if name == "next" {
			data, shift = next, int64(len(next)-len(d.data))
		}
		for how, args := range map[string][]string{"named": {"--profile", recorded}, "beside": nil} {
			if how == "beside" {
				must(t, "cp", recorded, filepath.Join(d.dir, filepath.Base(image)+".profile"))
			}
			o.Reset()
			stats := filepath.Join(t.TempDir(), "stats.json")
			m, file := mounted(t, append(append(args, "--stats-file", stats, image), t.TempDir())...)
			eventually(t, "the profile is replayed", func() bool {
				if err := m.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
					t.Fatal(err)
				}
				if _, err := os.Stat(stats); err != nil {
					return false
				}
				p := statsOf(t, stats).Images[0].Profile
				return p.Wanted > 0 && p.Fetched+p.Present == p.Wanted
			})
			_, before := asked(o)
			for _, off := range offs {
				readsAt(t, file, data, off+shift)
			}
			if _, after := asked(o); after != before {
				t.Errorf("%s, %s: %d chunks were asked for that an earlier run had touched", name, how, after-before)
			}
			m.ends(syscall.SIGTERM, soon)
			if p := statsOf(t, stats).Memory.Hinted.Profile; p.Used == 0 {
				t.Errorf("%s, %s: nothing of the profile was used: %+v", name, how, p)
			}
		}
	}
}

func TestProfileRefused(t *testing.T) {
	d := newDisk(t, 100_000)
	bad := d.path("bad.profile")
	if err := os.WriteFile(bad, []byte("this is no profile\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		status int
		want   string
		args   []string
	}{
		{1, "not a profile", []string{"mount", "--profile", bad, d.index, t.TempDir()}},
		{1, "not there", []string{"mount", "--profile", d.path("none"), d.index, t.TempDir()}},
		{2, "for one image", []string{"nbd-server", "--record", d.path("r"), "--listen=127.0.0.1:0", d.index, bad}},
		{2, "has no index", []string{"nbd-server", "--record", d.path("r"), "--listen=127.0.0.1:0", d.image}},
	} {
		complaintOf(t, run(t, caravel, tt.args...), tt.status, tt.want)
	}
	// One beside the index that is no good is said, and no more.
	if err := os.Rename(bad, d.index+".profile"); err != nil {
		t.Fatal(err)
	}
	m, file := mounted(t, d.index, t.TempDir())
	holds(t, file, d.data)
	eventually(t, "it is said", func() bool { return strings.Contains(m.stderr.String(), "profile beside the index is no good") })
	m.ends(syscall.SIGTERM, soon)
}

// TestSweepEndsAtHalf of the cache's budget.
func TestSweepEndsAtHalf(t *testing.T) {
	d := newDisk(t, 16<<20, "--chunk-size=64K")
	o := serveDir(t, d.dir, origin.Options{})
	cache, stats := t.TempDir(), d.path("stats.json")
	m, file := mounted(t, "--cache-dir", cache, "--cache-size=8M", "--stats-file", stats, o.URL()+"/disk.caibx", t.TempDir())
	eventually(t, "the sweep ends", func() bool {
		if err := m.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
			t.Fatal(err)
		}
		_, err := os.Stat(stats)
		return err == nil && statsOf(t, stats).Images[0].Sweep.Full
	})
	disk := statsOf(t, stats).Disk
	if disk.Bytes < 3<<20 || disk.Bytes > 7<<20 || disk.Evicted != 0 { // what was under way comes on top
		t.Errorf("half of 8 MiB: %+v", disk)
	}
	holds(t, file, d.data) // which fills it, and evicts
	m.ends(syscall.SIGTERM, soon)
	if used := diskUse(t, cache); used > 9<<20 {
		t.Errorf("%d bytes in a cache of 8 MiB", used)
	}
}

// diskUse is what the files in a folder take on disk.
func diskUse(t *testing.T, dir string) (n int64) {
	t.Helper()
	err := filepath.Walk(dir, func(_ string, fi os.FileInfo, err error) error {
		if err == nil {
			n += fi.Sys().(*syscall.Stat_t).Blocks * 512
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestCacheIsShared by two mounts at the same time, and outlives both.
func TestCacheIsShared(t *testing.T) {
	d := newDisk(t, 8<<20, "--chunk-size=64K")
	o := serveDir(t, d.dir, origin.Options{})
	args := []string{"--cache-dir", t.TempDir(), "--profile=none", o.URL() + "/disk.caibx"}
	first, a := mounted(t, append(args, t.TempDir())...)
	second, b := mounted(t, append(args, t.TempDir())...)
	holds(t, a, d.data)
	holds(t, b, d.data)
	first.ends(syscall.SIGTERM, soon)
	second.ends(syscall.SIGTERM, soon)
	o.Reset()
	third, c := mounted(t, append(args, t.TempDir())...)
	holds(t, c, d.data)
	wantAsked(t, "third", o, 0, "/disk.caibx")
	third.ends(syscall.SIGTERM, soon)

	// What passes by once is looked for in the cache, and not put there.
	o.Reset()
	out := d.path("out")
	must(t, caravel, "extract", args[0], args[1], args[3], out)
	holds(t, out, d.data)
	wantAsked(t, "extract", o, 0, "/disk.caibx")
	fresh := t.TempDir()
	must(t, caravel, "extract", "--cache-dir", fresh, args[3], out)
	if kept, err := filepath.Glob(fresh + "/chunks/*/*"); err != nil || len(kept) > 0 {
		t.Errorf("extract has kept %d chunks, %v", len(kept), err)
	}
}

// TestCacheDirs that can or cannot be used.
func TestCacheDirs(t *testing.T) {
	d := newDisk(t, 1<<20)
	o := serveDir(t, d.dir, origin.Options{})
	url := o.URL() + "/disk.caibx"
	foreign := t.TempDir()
	if err := os.WriteFile(foreign+"/diary", []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	complaint(t, run(t, caravel, "cat", "--length=10", "--cache-dir", foreign, url), foreign, "not marked as a cache")
	clean(t, foreign, "diary")

	ro := readOnly(t)
	r := run(t, caravel, "cat", "--length=10", "--cache-dir", filepath.Join(ro, "cache"), url)
	if r.status != 0 || r.stdout != string(d.data[:10]) || strings.Count(r.stderr, "nothing is kept on disk") != 1 {
		t.Errorf("read-only: status %d, %q, %s", r.status, r.stdout, r.stderr)
	}

	// By default it lies in the user's place for caches; for root in the system's.
	if os.Geteuid() != 0 {
		home := t.TempDir()
		env := func(cmd *exec.Cmd) {
			cmd.Env = append(os.Environ(), "CARAVEL_CACHE_DIR=", "XDG_CACHE_HOME="+home)
		}
		if r := runWith(t, env, caravel, "cat", "--length=10", url); r.status != 0 || r.stderr != "" {
			t.Errorf("status %d, %s", r.status, r.stderr)
		}
		if st, err := os.Stat(home + "/caravel"); err != nil || st.Mode().Perm() != 0o700 {
			t.Errorf("the cache: %v, %v", st, err)
		}
	}

	// Nothing of this machine is kept.
	cache := filepath.Join(t.TempDir(), "cache")
	must(t, caravel, "cat", "--length=10", "--cache-dir", cache, d.index)
	absent(t, cache)
	must(t, caravel, "cat", "--length=10", "--cache-dir", cache, "--store", d.store, url)
	if kept, err := filepath.Glob(cache + "/chunks/*/*"); err != nil || len(kept) > 0 {
		t.Errorf("%d chunks of a store on this machine are kept, %v", len(kept), err)
	}
}

// TestMaterialize assembles a disk image in a file, which is the image when it
// is complete.
func TestMaterialize(t *testing.T) {
	d := sparseDisk(t)
	o := serveDir(t, d.dir, origin.Options{})
	out, stats := d.path("whole.img"), d.path("stats.json")
	args := []string{"--materialize", out, "--stats-file", stats, o.URL() + "/disk.caibx"}
	m, file := mounted(t, append(args, t.TempDir())...)
	readsAt(t, file, d.data, 4096, 2<<20)
	complete := func() bool {
		if err := m.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(stats); err != nil {
			return false
		}
		is := statsOf(t, stats).Images[0].Materialised
		return is != nil && *is
	}
	eventually(t, "it is complete", complete)
	must(t, "cmp", d.image, out)
	holds(t, file, d.data)
	m.ends(syscall.SIGTERM, soon)
	if _, err := exec.LookPath("qemu-img"); err == nil {
		must(t, "qemu-img", "compare", "-f", "raw", "-F", "raw", d.image, out)
	}

	// What is there is verified, and not fetched again.
	if err := os.Remove(stats); err != nil {
		t.Fatal(err)
	}
	o.Reset()
	m, file = mounted(t, append(args, t.TempDir())...)
	eventually(t, "it is complete again", complete)
	holds(t, file, d.data)
	wantAsked(t, "again", o, 0, "/disk.caibx", "/disk.caibx.profile")
	m.ends(syscall.SIGTERM, soon)

	other := newDisk(t, 200_000)
	complaint(t, run(t, caravel, "mount", "--materialize", out, other.index, t.TempDir()), out)
	p := packTree(t, caravel, smallFiles(t))
	complaintOf(t, run(t, caravel, "mount", "--materialize", d.path("tree.img"), p.index, t.TempDir()), 2, "--materialize=yes")
	complaint(t, run(t, caravel, "mount", "--materialize=yes", "--cache-dir=none", p.index, t.TempDir()), "--cache-dir")
}

// TestMaterializeInCache assembles an image in the cache: its chunks are not kept
// there a second time, and a file there that is of no use makes way.
func TestMaterializeInCache(t *testing.T) {
	d := newDisk(t, 2<<20)
	o := serveDir(t, d.dir, origin.Options{})
	cache := t.TempDir()
	args := []string{"--materialize=yes", "--cache-dir", cache, o.URL() + "/disk.caibx"}
	image := func() []string {
		var all []string
		err := filepath.WalkDir(cache, func(path string, e os.DirEntry, err error) error {
			if err == nil && strings.HasSuffix(path, ".map") {
				all = append(all, strings.TrimSuffix(path, ".map"))
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
		return all
	}
	for _, spoil := range []func(string) error{
		nil,
		func(path string) error { return os.Truncate(path, 1000) },
		func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o755)) },
		func(path string) error { return os.Truncate(path+".map", 10) },
	} {
		if spoil != nil {
			if err := spoil(image()[0]); err != nil {
				t.Fatal(err)
			}
		}
		m, file := mounted(t, append(args, t.TempDir())...)
		holds(t, file, d.data)
		eventually(t, "the file is whole", func() bool {
			all := image()
			if len(all) != 1 {
				return false
			}
			b, err := os.ReadFile(all[0])
			return err == nil && bytes.Equal(b, d.data)
		})
		m.ends(syscall.SIGTERM, soon)
		if kept, err := filepath.Glob(cache + "/chunks/*/*"); err != nil || len(kept) > 0 {
			t.Errorf("%d chunks are kept beside the image, %v", len(kept), err)
		}
	}
}

// TestMaterializeTree assembles the large files of a tree in the cache.
func TestMaterializeTree(t *testing.T) {
	p := packTree(t, caravel, smallFiles(t), "--chunk-size=64K")
	o := serveDir(t, p.dir, origin.Options{})
	cache := t.TempDir()
	args := []string{"--materialize=yes", "--cache-dir", cache, o.URL() + "/tree.caidx"}
	for range 2 {
		m, dir := mountedTree(t, args...)
		same(t, dir+"/large", p.source+"/large")
		same(t, dir+"/dir03/file07", p.source+"/dir03/file07")
		eventually(t, "the file is assembled", func() bool {
			found, err := filepath.Glob(cache + "/images/*/*")
			if err != nil || len(found) == 0 {
				return false
			}
			b, err := os.ReadFile(strings.TrimSuffix(found[0], ".map"))
			return err == nil && bytes.Equal(b, read(t, p.source+"/large"))
		})
		for range 3 {
			same(t, dir+"/large", p.source+"/large") // by whatever way is there now
		}
		m.ends(syscall.SIGTERM, soon)
	}
}

// TestRecordMaterialised records what is read of an image all of which is here as a file
// that others could read without us.
func TestRecordMaterialised(t *testing.T) {
	need(t, "nbdcopy")
	d := newDisk(t, 4<<20, "--chunk-size=64K")
	o := serveDir(t, d.dir, origin.Options{})
	url, whole := o.URL()+"/disk.caibx", d.path("whole.img")
	m, file := mounted(t, "--profile=none", "--materialize", whole, url, t.TempDir())
	holds(t, file, d.data)
	eventually(t, "it is all here", func() bool { b, err := os.ReadFile(whole); return err == nil && bytes.Equal(b, d.data) })
	m.ends(syscall.SIGTERM, soon)

	chunks := func(recorded string) string {
		t.Helper()
		for line := range strings.Lines(must(t, caravel, "profile", "show", recorded)) {
			if n, ok := strings.CutPrefix(line, "Chunks: "); ok {
				return n
			}
		}
		t.Fatalf("%s has no chunks", recorded)
		return ""
	}
	byMount, byServer := d.path("by-mount"), d.path("by-server")
	m, file = mounted(t, "--record", byMount, "--profile=none", "--materialize", whole, url, t.TempDir())
	holds(t, file, d.data)
	m.ends(syscall.SIGTERM, soon)
	server, uri := startNBD(t, "--record", byServer, "--profile=none", "--materialize", whole, "--socket", filepath.Join(shortDir(t), "s"), url)
	must(t, "nbdcopy", uri, "null:")
	server.ends(syscall.SIGTERM, soon)
	if a, b := chunks(byMount), chunks(byServer); a != b || strings.HasPrefix(a, "0") {
		t.Errorf("the mount recorded %q, the server %q", a, b)
	}
}
