package restore_test

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"caravel/catar"
	"caravel/catar/restore"
	"caravel/catar/walk"
	"caravel/feature"
	"caravel/internal/testtree"
)

// plain are features that an ordinary user can restore.
const plain = feature.Permissions | feature.NanoTime | feature.Symlinks | feature.FIFOs | feature.Sockets

// full are all, and the ways in which casync packs by default.
const full = feature.Best | feature.SHA512_256

// A node of an archive made by hand.
type node struct {
	name string
	mode uint32 // 0: a file of 0644, or a directory of 0755 if it has children
	uid  uint32
	body string // of a file; of a link its target
	dev  uint64
	kids []node
	more func(*catar.Entry)
}

func (n node) entry() *catar.Entry {
	e := &catar.Entry{Mode: n.mode, MTime: 1e18, UID: n.uid, GID: n.uid}
	switch {
	case n.mode == 0 && n.kids != nil:
		e.Mode = unix.S_IFDIR | 0o755
	case n.mode == 0:
		e.Mode = unix.S_IFREG | 0o644
	}
	switch {
	case e.IsSymlink():
		e.Target = n.body
	case e.IsRegular():
		e.Size = int64(len(n.body))
	case e.IsDevice():
		e.Major, e.Minor = unix.Major(n.dev), unix.Minor(n.dev)
	}
	if n.more != nil {
		n.more(e)
	}
	return e
}

// archive packs the children of a root.
func archive(t testing.TB, f feature.Flags, kids ...node) []byte {
	t.Helper()
	var b bytes.Buffer
	e, err := catar.NewEncoder(&b, f.Normal())
	if err != nil {
		t.Fatal(err)
	}
	var put func(n node)
	put = func(n node) {
		entry := n.entry()
		if err := e.Begin(n.name, entry); err != nil {
			t.Fatal(err)
		}
		switch {
		case entry.IsRegular():
			if _, err := io.WriteString(e, n.body); err != nil {
				t.Fatal(err)
			}
		case entry.IsDir():
			slices.SortFunc(n.kids, func(a, b node) int { return strings.Compare(a.name, b.name) })
			for _, kid := range n.kids {
				put(kid)
			}
			if err := e.End(); err != nil {
				t.Fatal(err)
			}
		}
	}
	put(node{mode: unix.S_IFDIR | 0o755, kids: kids})
	return b.Bytes()
}

func link(name, target string) node {
	return node{name: name, mode: unix.S_IFLNK | 0o777, body: target}
}

func folder(name string, kids ...node) node {
	return node{name: name, mode: unix.S_IFDIR | 0o755, kids: kids}
}

// pack archives a directory.
func pack(t testing.TB, dir string, f feature.Flags) []byte {
	t.Helper()
	r, err := walk.Open(t.Context(), dir, f.Normal(), walk.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// extract restores an archive.
func extract(t testing.TB, archive []byte, dir string, opt restore.Options) (restore.Stats, error) {
	t.Helper()
	opt.NoSync = true
	return restore.Tree(t.Context(), catar.NewDecoder(bytes.NewReader(archive), catar.DecoderOptions{}), dir, opt)
}

func mustExtract(t testing.TB, archive []byte, dir string, opt restore.Options) restore.Stats {
	t.Helper()
	s, err := extract(t, archive, dir, opt)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// names lists an archive's paths.
func names(archive []byte) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		d := catar.NewDecoder(bytes.NewReader(archive), catar.DecoderOptions{})
		var at []string
		for {
			n, err := d.Next()
			if err == io.EOF {
				return
			}
			if err != nil {
				yield("", err)
				return
			}
			if n.Depth == 0 {
				continue
			}
			at = append(at[:n.Depth-1], n.Name)
			if !yield(path.Join(at...), nil) {
				return
			}
		}
	}
}

// alike fails the test if two trees differ in what f keeps.
func alike(t testing.TB, want, got string, f feature.Flags) {
	t.Helper()
	lines, err := testtree.Diff(want, got, f)
	if err != nil {
		t.Error(err)
	}
	for _, l := range lines {
		t.Error(l)
	}
}

// tempDir is a directory whose immutable files do not outlive the test.
func tempDir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	t.Cleanup(func() {
		_ = testtree.Thaw(dir) // who may not thaw did not freeze
		_ = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
			if d != nil && d.IsDir() && err == nil {
				_ = os.Chmod(p, 0o700)
			}
			return nil
		})
	})
	return dir
}

// manifest describes everything in dir: a digest of the surroundings that can
// be read.
func manifest(t testing.TB, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s %o %d:%d %d %d.%09d %d.%09d", p, st.Mode, st.Uid, st.Gid, st.Nlink,
			st.Mtim.Sec, st.Mtim.Nsec, st.Ctim.Sec, st.Ctim.Nsec)
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			data, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " %q", data)
		case unix.S_IFLNK:
			target, err := os.Readlink(p)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " -> %q", target)
		}
		b.WriteString("\n")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// parts are the names of unfinished files below dir.
func parts(t testing.TB, dir string) (found []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if strings.HasPrefix(filepath.Base(p), ".#caravel.") {
			found = append(found, p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("not root")
	}
}

// unprivileged runs the test again as nobody if this is root, and reports
// whether this is the one to do it.
func unprivileged(t *testing.T) bool {
	t.Helper()
	if os.Geteuid() != 0 {
		return true
	}
	dir, err := os.MkdirTemp("", "nobody")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Skipf("no /proc: %v", err)
	}
	exe := filepath.Join(dir, "test")
	const nobody = 65534
	for _, err := range []error{
		os.Chmod(dir, 0o755),
		os.WriteFile(exe, self, 0o755),
		os.Mkdir(filepath.Join(dir, "tmp"), 0o700),
		os.Chown(filepath.Join(dir, "tmp"), nobody, nobody),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(exe, "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "TMPDIR="+filepath.Join(dir, "tmp"), "HOME=/")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("as nobody: %v\n%s", err, out)
	} else if !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Skipf("as nobody:\n%s", out)
	}
	return false
}

// mounted mounts a file system of the given kind, in a file, and returns where.
func mounted(t testing.TB, kind string, size int64, mkfs ...string) string {
	t.Helper()
	needRoot(t)
	dir := t.TempDir()
	args := []string{"-t", kind}
	if mkfs != nil {
		if _, err := exec.LookPath(mkfs[0]); err != nil {
			t.Skipf("%s is not installed", mkfs[0])
		}
		image := filepath.Join(dir, "image")
		if err := os.WriteFile(image, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(image, size); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(mkfs[0], append(mkfs[1:], image)...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		args = append(args, "-o", "loop", image)
	} else {
		args = append(args, "-o", fmt.Sprintf("size=%d", size), "none")
	}
	at := filepath.Join(dir, "mnt")
	if err := os.Mkdir(at, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", append(args, at)...).CombinedOutput(); err != nil {
		t.Skipf("no %s can be mounted: %s", kind, out)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return at
}

// wants fails the test if err does not say all that is wanted, in one line.
func wants(t testing.TB, err error, texts ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error, want %q", texts)
		return
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%q is not in: %v", text, err)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("more than a line: %v", err)
	}
}

// holds fails the test if the file has other bytes.
func holds(t testing.TB, file, want string) {
	t.Helper()
	got, err := os.ReadFile(file)
	if err != nil {
		t.Error(err)
	} else if string(got) != want {
		t.Errorf("%s has %d bytes, %.40q…, not %d, %.40q…", file, len(got), got, len(want), want)
	}
}

func descriptors(t testing.TB) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skipf("no /proc: %v", err)
	}
	return len(list)
}
