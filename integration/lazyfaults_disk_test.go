//go:build linux

package integration

import (
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
)

// readsTwice reads a mounted image, from what memory does not hold, and ends the
// mount, which must be fine.
func readsTwice(t *testing.T, m *daemon, file string, want []byte) (said string) {
	t.Helper()
	for range 2 {
		holds(t, file, want)
		forget(t, file)
	}
	m.ends(syscall.SIGTERM, soon)
	return m.stderr.String()
}

// forget has the kernel forget what it knows of a file.
func forget(t *testing.T, file string) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		t.Fatal(err)
	}
}

// TestFullDiskUnderAMount fills the disk of the cache, of the materialised file,
// and of both: the reads go on, and it is said once.
func TestFullDiskUnderAMount(t *testing.T) {
	d := newDisk(t, 6<<20, "--chunk-size=16K")
	o := serveDir(t, d.dir, origin.Options{})
	for _, tt := range []struct {
		name string
		args func(full, other string) []string
	}{
		{"cache", func(full, _ string) []string { return []string{"--cache-dir", full + "/cache"} }},
		{"file", func(full, _ string) []string { return []string{"--materialize", full + "/file"} }},
		{"file in the cache", func(full, _ string) []string { return []string{"--materialize=yes", "--cache-dir", full + "/cache"} }},
		{"file, beside a cache", func(full, other string) []string {
			return []string{"--materialize", full + "/file", "--cache-dir", other}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			full := smallDisk(t, 1<<20)
			args := append(tt.args(full, t.TempDir()), "--memory=1M", o.URL()+"/disk.caibx", t.TempDir())
			for range 2 { // the second time it is full from the start
				m, file := mounted(t, args...)
				said := readsTwice(t, m, file, d.data)
				why, warned := strings.Count(said, "no space left on device"), strings.Count(said, "level=WARN")
				if lines := strings.Count(said, "\n"); why != 1 || warned != 1 || lines != 1 {
					t.Errorf("says %q, want one warning", said)
				}
				var st unix.Statfs_t
				if err := unix.Statfs(full, &st); err != nil || st.Bavail > st.Blocks/4 {
					t.Errorf("%d of %d blocks are free: it was not used (%v)", st.Bavail, st.Blocks, err)
				}
			}
		})
	}
}

// removeInUse removes a folder into which somebody may be writing.
func removeInUse(dir string) (err error) {
	for range 100 {
		if err = os.RemoveAll(dir); !errors.Is(err, unix.ENOTEMPTY) {
			return err
		}
	}
	return err
}

// TestCacheVanishes takes the cache's folder, or the right to write there, away
// from a mount.
func TestCacheVanishes(t *testing.T) {
	d := newDisk(t, 6<<20, "--chunk-size=16K")
	o := serveDir(t, d.dir, origin.Options{})
	for name, spoil := range map[string]func(cache string) error{
		"removed": removeInUse,
		"moved":   func(cache string) error { return os.Rename(cache, cache+"-before") },
		"replaced": func(cache string) error {
			return instead(cache, func() error {
				f, err := os.OpenFile(cache, os.O_CREATE|os.O_EXCL, 0o600)
				if err != nil {
					return err
				}
				return f.Close()
			})
		},
		"a link": func(cache string) error {
			to := t.TempDir()
			return instead(cache, func() error { return os.Symlink(to, cache) })
		},
		"without its rooms": func(cache string) error {
			away := t.TempDir()
			return errors.Join(os.Rename(cache+"/chunks", away+"/chunks"), os.Rename(cache+"/files", away+"/files"), os.Rename(cache+"/tmp", away+"/tmp"))
		},
		"read-only": func(cache string) error {
			if os.Geteuid() != 0 {
				return os.Chmod(cache+"/chunks", 0o500)
			}
			// Root, too; the file system is in use and cannot be made read-only.
			return chattr("+i", cache+"/chunks", cache+"/tmp")
		},
	} {
		t.Run(name, func(t *testing.T) {
			cache := filepath.Join(t.TempDir(), "cache")
			if name == "read-only" {
				need(t, "chattr")
				t.Cleanup(func() { _ = chattr("-i", cache+"/chunks", cache+"/tmp") }) // if not, its folder says so
			}
			args := []string{"--no-sweep", "--memory=1M", "--cache-dir", cache, o.URL() + "/disk.caibx"}
			m, file := mounted(t, append(args, t.TempDir())...)
			readsAt(t, file, d.data, 0, 1<<20)
			eventually(t, "something is kept", func() bool { return countKept(t, cache) > 0 })
			if err := spoil(cache); err != nil {
				if name == "read-only" {
					t.Skipf("no folder can be made unwritable here: %v", err)
				}
				t.Fatal(err)
			}
			if said := readsTwice(t, m, file, d.data); strings.Count(said, "level=WARN") != strings.Count(said, "\n") || strings.Count(said, "\n") > 1 {
				t.Errorf("says %s, want a warning at most", said)
			}
		})
	}
}

// instead removes a folder and puts something in its place, though a process may be
// making it again.
func instead(folder string, put func() error) error {
	for {
		if err := os.RemoveAll(folder); err != nil && !errors.Is(err, syscall.ENOTEMPTY) {
			return err
		}
		if err := put(); !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
}

// chattr sets or clears a flag of folders and all below.
func chattr(flag string, dirs ...string) error {
	out, err := exec.Command("chattr", append([]string{"-R", flag}, dirs...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("chattr: %w: %s", err, out)
	}
	return nil
}

// countKept is how many chunks a cache has.
func countKept(t *testing.T, cache string) int {
	t.Helper()
	kept, err := filepath.Glob(cache + "/chunks/*/*")
	if err != nil {
		t.Fatal(err)
	}
	return len(kept)
}

// spoilings are what may have become of a file of a cache.
var spoilings = []struct {
	name  string
	mends bool // what is not ours to remove stays
	spoil func(path string) error
}{
	{"flipped", true, func(path string) error {
		b, err := os.ReadFile(path)
		if err == nil && len(b) > 0 {
			b[len(b)/2] ^= 1
			err = os.WriteFile(path, b, 0o600)
		}
		return err
	}},
	{"cut", true, func(path string) error {
		st, err := os.Stat(path)
		if err == nil {
			err = os.Truncate(path, st.Size()/2)
		}
		return err
	}},
	{"empty", true, func(path string) error { return os.Truncate(path, 0) }},
	{"zeros", true, func(path string) error {
		st, err := os.Stat(path)
		if err == nil {
			err = errors.Join(os.Truncate(path, 0), os.Truncate(path, st.Size()))
		}
		return err
	}},
	{"endless", true, func(path string) error { return os.Truncate(path, 1<<40) }},
	{"a folder", false, func(path string) error { return errors.Join(os.Remove(path), os.MkdirAll(path+"/in", 0o700)) }},
	{"a link", true, func(path string) error { return errors.Join(os.Remove(path), os.Symlink("/dev/zero", path)) }},
	{"a link to itself", true, func(path string) error { return errors.Join(os.Remove(path), os.Symlink(path, path)) }},
	{"a pipe", true, func(path string) error { return errors.Join(os.Remove(path), unix.Mkfifo(path, 0o600)) }},
	{"unreadable", true, func(path string) error { return os.Chmod(path, 0) }},
}

// TestSpoiltCache has all files of a cache spoilt in one way, between two mounts
// and below one: every byte is right, and nothing hangs.
func TestSpoiltCache(t *testing.T) {
	p := packTree(t, caravel, smallFiles(t), "--chunk-size=16K")
	o := serveDir(t, p.dir, origin.Options{})
	for i, tt := range spoilings {
		for _, below := range []bool{false, true} {
			if below == (i%2 == 0) && !long() {
				continue
			}
			name := tt.name
			if below {
				name += ", while it is in use"
			}
			t.Run(name, func(t *testing.T) {
				cache := t.TempDir()
				args := []string{"--memory=1M", "--cache-dir", cache, o.URL() + "/tree.caidx"}
				spoil := func(least int) {
					n := 0
					err := filepath.WalkDir(cache, func(path string, e fs.DirEntry, err error) error {
						rel := strings.TrimPrefix(path, cache+"/")
						if err != nil || !e.Type().IsRegular() || !strings.HasPrefix(rel, "chunks/") && !strings.HasPrefix(rel, "files/") {
							return err
						}
						n++
						return tt.spoil(path)
					})
					if err != nil || n < least {
						t.Fatalf("%d files are spoilt, %v", n, err)
					}
				}
				m, dir := mountedTree(t, args...)
				sameTree(t, dir, p.source)
				if !below {
					m.ends(syscall.SIGTERM, soon)
				}
				eventually(t, "all is kept", func() bool { return countKept(t, cache) > 100 })
				spoil(100)
				if below {
					forget(t, dir+"/large")
					sameTree(t, dir, p.source)
					m.ends(syscall.SIGTERM, soon)
					spoil(0)
				}
				for range 2 { // the second time it is as good as new
					o.Reset()
					m, dir = mountedTree(t, args...)
					sameTree(t, dir, p.source)
					m.ends(syscall.SIGTERM, soon)
					if said := m.stderr.String(); said != "" && tt.mends {
						t.Errorf("says %s", said)
					}
				}
				if _, chunks := asked(o); chunks > 3 && tt.mends {
					t.Errorf("%d chunks are asked for once more: it was not mended", chunks)
				}
			})
		}
	}
}

// TestSpoiltFiles has the files spoilt that images are assembled in. Of those in
// the cache the command takes care; one that the user named, and that is not
// what it should be, it leaves alone and says so.
func TestSpoiltFiles(t *testing.T) {
	d := newDisk(t, 3<<20, "--chunk-size=16K")
	o := serveDir(t, d.dir, origin.Options{})
	url, stats := o.URL()+"/disk.caibx", d.path("stats.json")
	for i, tt := range spoilings {
		for _, part := range []string{"", ".map"} {
			if part == "" == (i%2 == 1) && !long() {
				continue
			}
			t.Run(tt.name+part, func(t *testing.T) {
				if tt.name == "unreadable" && os.Geteuid() == 0 {
					t.Skip("root reads it")
				}
				out := filepath.Join(t.TempDir(), "out")
				args := []string{"--memory=1M", "--stats-file", stats, "--materialize", out, url}
				m, _ := mounted(t, append(args, t.TempDir())...)
				m.comesToRest(stats)
				m.ends(syscall.SIGTERM, soon)
				must(t, "cmp", d.image, out)
				if err := tt.spoil(out + part); err != nil {
					t.Fatal(err)
				}
				dir := filepath.Join(t.TempDir(), "mnt")
				m = start(t, caravel, append(append([]string{"mount"}, args...), dir)...)
				unmountLater(t, dir)
				select {
				case <-m.lines:
					holds(t, dir+"/disk", d.data)
					m.comesToRest(stats)
					holds(t, dir+"/disk", d.data)
					m.ends(syscall.SIGTERM, soon)
					must(t, "cmp", d.image, out)
				case <-m.exited:
					complaint(t, result{status: m.wait(), stderr: m.stderr.String()}, filepath.Base(out))
				}
			})
		}
	}
}
