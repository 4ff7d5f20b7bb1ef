package treeoverlay_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"caravel/internal/mounts"
	"caravel/treeoverlay"
)

var image = treeoverlay.Image{ID: "ab", Name: "golden.caidx"}

func open(t *testing.T, dir string) *treeoverlay.Dir {
	t.Helper()
	d, err := treeoverlay.Open(t.Context(), dir, image)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func TestOpen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "dir")
	d := open(t, dir)
	if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", st, err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if _, err := treeoverlay.Open(ended, dir, image); !errors.Is(err, context.Canceled) {
		t.Errorf("locked, and nobody waits: %v", err)
	}
	if _, err := treeoverlay.Open(t.Context(), dir, image); err == nil || !strings.Contains(err.Error(), dir+": another process has it in use") {
		t.Errorf("twice: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	// Nothing was mounted of it, so it is anybody's.
	other, err := treeoverlay.Open(t.Context(), dir, treeoverlay.Image{ID: "cd"})
	if err != nil {
		t.Fatal(err)
	}
	other.Close()
}

func TestOpenRefuses(t *testing.T) {
	for _, tt := range []struct {
		name string
		fill func(dir string) error
		want string
	}{
		{"other things", func(dir string) error { return os.WriteFile(dir+"/diary", nil, 0o600) }, `holds "diary" and is no overlay`},
		{"another's record", func(dir string) error { return os.WriteFile(dir+"/caravel-overlay", []byte("mine"), 0o600) }, "not a record"},
		{"a link", func(dir string) error { return os.Symlink("/etc/passwd", dir+"/caravel-overlay") }, "too many levels"},
		{"a pipe", func(dir string) error { return unix.Mkfifo(dir+"/caravel-overlay", 0o600) }, "not a file"},
		{"a directory", func(dir string) error { return os.Mkdir(dir+"/caravel-overlay", 0o700) }, "is a directory"},
		{"a file", func(dir string) error { return errors.Join(os.Remove(dir), os.WriteFile(dir, nil, 0o600)) }, "not a directory"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "d")
			if err := errors.Join(os.Mkdir(dir, 0o700), tt.fill(dir)); err != nil {
				t.Fatal(err)
			}
			d, err := treeoverlay.Open(t.Context(), dir, image)
			if err == nil {
				d.Close()
			}
			if err == nil || !strings.Contains(err.Error(), dir+": ") || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
	// What a new file system has is no reason.
	dir := t.TempDir()
	if err := os.Mkdir(dir+"/lost+found", 0o700); err != nil {
		t.Fatal(err)
	}
	open(t, dir)
}

// A bound is a tree that is mounted by binding a directory.
type bound struct {
	dir  string
	once sync.Once
	done chan struct{}
}

func bind(t *testing.T, source string) func(dir, known string) (treeoverlay.Lower, error) {
	return func(dir, _ string) (treeoverlay.Lower, error) {
		err := unix.Mount(source, dir, "", unix.MS_BIND, "")
		t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }) // it is gone, as a rule
		return &bound{dir: dir, done: make(chan struct{})}, err
	}
}

func (b *bound) Hide() error           { return mounts.Detach(b.dir, unix.MNT_DETACH) }
func (b *bound) Done() <-chan struct{} { return b.done }
func (b *bound) Unmount() error        { b.once.Do(func() { close(b.done) }); return nil }

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("not root")
	}
}

func point(t *testing.T) string {
	dir := t.TempDir()
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }) // it is gone, as a rule
	return dir
}

func mount(t *testing.T, d *treeoverlay.Dir, on, source string) *treeoverlay.Mount {
	t.Helper()
	m, err := d.Mount(t.Context(), on, bind(t, source), treeoverlay.Options{Mkdir: true})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func top(t *testing.T, dir string) string {
	t.Helper()
	all, err := mounts.Table()
	if err != nil {
		t.Fatal(err)
	}
	return mounts.Top(all, dir).Type
}

// TestMount writes to a folder of any name, and finds it again.
func TestMount(t *testing.T) {
	needRoot(t)
	for _, name := range []string{"plain", `a,b:c\d "e" f,upperdir=`} {
		t.Run(name, func(t *testing.T) {
			source, dir, on := t.TempDir(), filepath.Join(t.TempDir(), name), filepath.Join(point(t), "mnt")
			if err := errors.Join(os.WriteFile(source+"/file", []byte("image"), 0o600), unix.Chmod(source, 0o2751), os.Chown(source, 12, 34),
				unix.Setxattr(source, "user.a", []byte("b"), 0)); err != nil {
				t.Fatal(err)
			}
			d := open(t, dir)
			m := mount(t, d, on, source)
			var st unix.Stat_t
			value := make([]byte, 10)
			n, err := unix.Getxattr(on, "user.a", value)
			if unix.Stat(on, &st) != nil || st.Mode != unix.S_IFDIR|0o2751 || st.Uid != 12 || st.Gid != 34 || err != nil || string(value[:n]) != "b" {
				t.Errorf("the root is %o of %d, %d, %q, %v", st.Mode, st.Uid, st.Gid, value[:max(n, 0)], err)
			}
			if err := os.WriteFile(on+"/file", []byte("written"), 0o600); err != nil {
				t.Error(err)
			}
			if err := m.Unmount(); err != nil {
				t.Error(err)
			}
			if err := m.Unmount(); err != nil {
				t.Errorf("again: %v", err)
			}
			if _, err := os.Stat(on); !os.IsNotExist(err) {
				t.Errorf("the directory is still there: %v", err)
			}
			if b, err := os.ReadFile(source + "/file"); err != nil || string(b) != "image" {
				t.Errorf("below: %q, %v", b, err)
			}
			d.Close()
			if _, err := treeoverlay.Open(t.Context(), dir, treeoverlay.Image{ID: "cd", Name: "other.caidx"}); err == nil || !strings.Contains(err.Error(), "golden.caidx (ab), not over other.caidx (cd)") {
				t.Errorf("another image: %v", err)
			}
			m = mount(t, open(t, dir), on, source)
			if b, err := os.ReadFile(on + "/file"); err != nil || string(b) != "written" {
				t.Errorf("again: %q, %v", b, err)
			}
			if err := m.Unmount(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestStale has mounts of processes that were killed cleared away, by who has their
// folder next and by who mounts on their directory.
func TestStale(t *testing.T) {
	needRoot(t)
	source, dir, on, elsewhere := t.TempDir(), t.TempDir(), point(t), point(t)
	killed := func(on string) {
		t.Helper()
		d := open(t, dir)
		mount(t, d, on, source)
		d.Close()
	}
	killed(elsewhere)
	d := open(t, dir)
	m := mount(t, d, on, source)
	if what := top(t, elsewhere); what != "" {
		t.Errorf("%s is still there", what)
	}
	// One that is in use is not covered.
	other := t.TempDir()
	o := open(t, other)
	if _, err := o.Mount(t.Context(), on, bind(t, source), treeoverlay.Options{}); err == nil || !strings.Contains(err.Error(), on+": caravel is mounted there already") {
		t.Errorf("covered: %v", err)
	}
	if err := m.Unmount(); err != nil {
		t.Error(err)
	}
	d.Close()
	killed(on)
	m = mount(t, o, on, source)
	if err := m.Unmount(); err != nil {
		t.Error(err)
	}
	if what := top(t, on); what != "" {
		t.Errorf("%s is still there", what)
	}
}

func TestMountRefuses(t *testing.T) {
	needRoot(t)
	source, dir := t.TempDir(), t.TempDir()
	d := open(t, dir)
	if _, err := d.Mount(t.Context(), dir, bind(t, source), treeoverlay.Options{}); err == nil || !strings.Contains(err.Error(), "lies in "+dir) {
		t.Errorf("into itself: %v", err)
	}
	on := filepath.Join(t.TempDir(), "mnt")
	none := errors.New("no tree")
	if _, err := d.Mount(t.Context(), on, func(_, _ string) (treeoverlay.Lower, error) { return nil, none }, treeoverlay.Options{Mkdir: true}); !errors.Is(err, none) {
		t.Errorf("nothing below: %v", err)
	}
	if _, err := os.Stat(on); !os.IsNotExist(err) {
		t.Errorf("the directory is there: %v", err)
	}
	// The kernel keeps no upper layer in proc.
	bad := "/proc/self/fd"
	if _, err := treeoverlay.Open(t.Context(), bad, image); err == nil || !strings.Contains(err.Error(), bad+": ") {
		t.Errorf("%v", err)
	}
	// Nor one on another overlay.
	m := mount(t, d, point(t), source)
	defer m.Unmount()
	within := open(t, filepath.Join(m.Dir, "within"))
	if _, err := within.Mount(t.Context(), point(t), bind(t, source), treeoverlay.Options{}); err == nil || !strings.Contains(err.Error(), "overlayfs: invalid argument; the kernel's log says why") {
		t.Errorf("on another overlay: %v", err)
	}
	within.Close()
}
