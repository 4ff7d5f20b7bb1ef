//go:build linux

package integration

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"caravel/feature"
	"caravel/internal/origin"
	"caravel/internal/testtree"
)

// A packedTree is a tree and what was made of it.
type packedTree struct {
	dir, source    string
	archive, index string // what make has written
	digest         string
}

// packTree has make pack what fill makes.
func packTree(t *testing.T, program string, fill func(dir string), flags ...string) packedTree {
	t.Helper()
	p := packedTree{dir: t.TempDir()}
	p.source, p.archive, p.index = p.path("source"), p.path("tree.catar"), p.path("tree.caidx")
	if err := os.Mkdir(p.source, 0o755); err != nil {
		t.Fatal(err)
	}
	fill(p.source)
	for _, to := range []string{p.archive, p.index} {
		p.digest = strings.TrimSpace(must(t, program, append(append([]string{"make"}, flags...), to, p.source)...))
	}
	return p
}

func (p packedTree) path(name string) string { return filepath.Join(p.dir, name) }

// everything fills a tree with all that there is.
func everything(t *testing.T, seed uint64) func(string) {
	return func(dir string) {
		testtree.Generate(t, dir, rand.New(rand.NewPCG(77, seed)), testtree.Options{
			Root: os.Geteuid() == 0, ACLs: true, XAttrs: true, Chattr: true, Nodes: 100, Bytes: 2 << 20, Wide: 200,
		})
	}
}

// mountedTree starts caravel mount for a tree. Its folder is not read.
func mountedTree(t testing.TB, args ...string) (m *daemon, dir string) {
	t.Helper()
	needFUSE(t)
	dir = filepath.Join(t.TempDir(), "mnt")
	m = start(t, caravel, append(append([]string{"mount"}, args...), dir)...)
	unmountLater(t, dir)
	m.expect("Mounted: ")
	return m, dir
}

// TestMountTree shows what casync and caravel have made, from wherever it may
// be, and finds the tree that it was made of: all of it, for both programs.
func TestMountTree(t *testing.T) {
	needFUSE(t)
	need(t, "casync")
	for i, program := range []string{"casync", caravel} {
		p := packTree(t, program, everything(t, uint64(i)))
		o := serveDir(t, p.dir, origin.Options{RTT: time.Millisecond})
		for name, image := range map[string]string{
			"archive": p.archive, "index": p.index, "remote archive": o.URL() + "/tree.catar", "remote index": o.URL() + "/tree.caidx",
			"folder": p.source,
		} {
			t.Run(filepath.Base(program)+" "+name, func(t *testing.T) {
				m, dir := mountedTree(t, image)
				showsTree(t, dir, p)
				m.ends(syscall.SIGTERM, soon)
				absent(t, dir)
				if text := m.stderr.String(); text != "" {
					t.Errorf("says %q", text)
				}
			})
		}
	}
}

func showsTree(t *testing.T, dir string, p packedTree) {
	t.Helper()
	diff, err := testtree.Diff(p.source, dir, flagsOf(t, nil))
	if err != nil {
		t.Error(err)
	}
	for _, line := range diff {
		t.Error(line)
	}
	for _, program := range []string{"casync", caravel} {
		got, want := must(t, program, "digest", "--with=fuse", dir), must(t, "casync", "digest", "--with=fuse", p.source)
		if got != want {
			t.Errorf("%s: digest of what FUSE shows is %s, want %s", program, got, want)
		}
		// casync's own mount leaves out what it says on standard error.
		if got := strings.TrimSpace(must(t, program, "digest", dir)); got != p.digest {
			t.Errorf("%s: digest is %s, want %s", program, got, p.digest)
		}
	}
}

// TestMountTreeKinds mounts archives that keep little.
func TestMountTreeKinds(t *testing.T) {
	needFUSE(t)
	for i, with := range feature.Names() {
		if i%times(5, 1) != 0 {
			continue
		}
		t.Run(with, func(t *testing.T) {
			r := treeRecipe{args: []string{"--with=" + with}, flags: flagsOf(t, []string{"--with=" + with})}
			rng := rand.New(rand.NewPCG(78, uint64(i)))
			p := packTree(t, caravel, func(dir string) { testtree.Generate(t, dir, rng, r.options(rng, false)) }, "--with="+with)
			m, dir := mountedTree(t, p.index)
			diff, err := testtree.Diff(p.source, dir, r.flags)
			if err != nil || len(diff) > 0 {
				t.Errorf("%v\n%s", err, strings.Join(diff, "\n"))
			}
			m.ends(syscall.SIGINT, soon)
		})
	}
}

// randomFiles fills a tree with dirs folders of files of size bytes.
func randomFiles(t *testing.T, dirs, files, size int) func(string) {
	return func(root string) {
		for d := range dirs {
			dir := fmt.Sprintf("%s/dir%02d", root, d)
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			for i := range files {
				recipe{seed: uint64(d*files + i), size: size, kind: "random"}.write(t, fmt.Sprintf("%s/file%02d", dir, i))
			}
		}
	}
}

// TestMountTreeFar tells how long the first looks at a tree take from far away,
// with a sidecar and without, and sees that they fetch little.
func TestMountTreeFar(t *testing.T) {
	p := packTree(t, caravel, randomFiles(t, 20, 50, 20_000), "--chunk-size=64K") // 20 MB, some 300 chunks
	o := serveDir(t, p.dir, origin.Options{RTT: 20 * time.Millisecond, Bandwidth: 125e6})
	for _, far := range []struct {
		flag                     string
		mount, first, list, find int64 // requests
	}{{"--no-tree=no", 3, 3, 0, 0}, {"--no-tree", 5, 12, 40, 600}} {
		t.Run(far.flag, func(t *testing.T) {
			var dir string
			var m *daemon
			for _, step := range []struct {
				what     string
				requests int64
				limit    time.Duration
				do       func()
			}{
				{"mount", far.mount, 2 * time.Second, func() { m, dir = mountedTree(t, "--no-sweep", far.flag, o.URL()+"/tree.caidx") }},
				{"first file", far.first, 2 * time.Second, func() { same(t, dir+"/dir17/file33", p.source+"/dir17/file33") }},
				{"nothing", 0, time.Second, func() {
					for range 100 {
						absent(t, dir+"/dir17/nothing")
						absent(t, dir+"/nothing")
					}
				}},
				{"list of a folder", far.list, 3 * time.Second, func() {
					if got := strings.Fields(must(t, "ls", dir+"/dir03")); len(got) != 50 {
						t.Errorf("%d entries", len(got))
					}
				}},
				{"find", far.find, 10 * time.Second, func() {
					if got := must(t, "find", dir, "-type", "f"); strings.Count(got, "\n") != 1000 {
						t.Errorf("%d files", strings.Count(got, "\n"))
					}
				}},
				{"find again", 0, time.Second, func() { must(t, "find", dir, "-ls") }},
			} {
				o.Reset()
				began := time.Now()
				step.do()
				took, n := time.Since(began), o.Counts().Requests
				t.Logf("%-16s %6.0f ms, %3d requests, %8d bytes", step.what, took.Seconds()*1000, n, o.Counts().Bytes)
				if n > step.requests || took > step.limit {
					t.Errorf("%s: %d requests in %v, want at most %d in %v", step.what, n, took, step.requests, step.limit)
				}
			}
			m.ends(syscall.SIGTERM, soon)
		})
	}
}

// TestMountTreeDamaged takes a chunk out of the store: what lies in it cannot be
// read, all else can, and once the chunk is back everything can.
func TestMountTreeDamaged(t *testing.T) {
	p := packTree(t, caravel, func(dir string) {
		for name, size := range map[string]int{"a": 1000, "b": 3 << 20, "c": 1000} {
			recipe{seed: uint64(size), size: size, kind: "random"}.write(t, filepath.Join(dir, name))
		}
	}, "--chunk-size=16K")
	ids := strings.Fields(must(t, caravel, "list-chunks", p.index))
	lost := piece{ID: ids[len(ids)/2]}.file(p.path("default.castr"))
	b := read(t, lost)
	m, dir := mountedTree(t, "--memory=1M", p.index)
	if err := os.Remove(lost); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := os.ReadFile(dir + "/b"); !errors.Is(err, syscall.EIO) {
			t.Errorf("b: %v", err)
		}
		for _, name := range []string{"a", "c"} {
			same(t, filepath.Join(dir, name), filepath.Join(p.source, name))
		}
	}
	if said := m.stderr.String(); strings.Count(said, "\n") != 1 || !strings.Contains(said, "/b") || !strings.Contains(said, filepath.Base(lost)[:64]) {
		t.Errorf("says %q", said)
	}
	if err := os.WriteFile(lost, b, 0o444); err != nil {
		t.Fatal(err)
	}
	same(t, dir+"/b", p.source+"/b")
	m.ends(syscall.SIGTERM, soon)
}

// TestMountTreeStoreGone takes the store away: a name that cannot be looked up is
// in error, which is not to say, and to have the kernel remember, that it is not
// there.
func TestMountTreeStoreGone(t *testing.T) {
	p := packTree(t, caravel, func(dir string) {
		for _, name := range []string{"a", "m/x", "z"} { // m is far from what a mount reads
			path := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			recipe{seed: uint64(name[0]), size: 3 << 20, kind: "random"}.write(t, path)
		}
	}, "--chunk-size=16K")
	o := serveDir(t, p.dir, origin.Options{})
	for _, from := range []string{p.index, o.URL() + "/tree.caidx"} {
		m, dir := mountedTree(t, "--no-tree", "--no-sweep", "--timeout=1s", from)
		if err := os.Rename(p.path("default.castr"), p.path("away")); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			for _, name := range []string{"", "m", "m/x"} {
				if _, err := os.ReadDir(filepath.Join(dir, name)); !errors.Is(err, syscall.EIO) {
					t.Errorf("%s: %q: %v", from, name, err)
				}
			}
			absent(t, dir+"/n")
		}
		if err := os.Rename(p.path("away"), p.path("default.castr")); err != nil {
			t.Fatal(err)
		}
		same(t, dir+"/m/x", p.source+"/m/x")
		m.ends(syscall.SIGTERM, soon)
	}
}

// TestMountTreeHangs has the origin fall silent: who waits can be killed, and the
// mount ends when it is told to.
func TestMountTreeHangs(t *testing.T) {
	p := packTree(t, caravel, randomFiles(t, 5, 5, 200_000))
	var silent atomic.Bool
	asked := make(chan struct{}, 1000)
	o := serveDir(t, p.dir, origin.Options{Faults: func(int64, string) origin.Fault {
		if !silent.Load() {
			return origin.Fault{}
		}
		asked <- struct{}{}
		return origin.Fault{Kind: origin.Hang}
	}})
	m, dir := mountedTree(t, "--no-tree", "--no-sweep", "--timeout=0", o.URL()+"/tree.caidx")
	silent.Store(true)
	wait := func(command ...string) *exec.Cmd {
		cmd := exec.Command(command[0], command[1:]...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		waitFor(t, "a request", asked)
		return cmd
	}
	first := wait("stat", dir+"/dir02/file03")
	timely(t, "a killed process", 2*time.Second, func() {
		_ = first.Process.Kill()
		_ = first.Wait()
	})
	for len(asked) > 0 { // the first one's requests are not the second one's
		<-asked
	}
	second := wait("ls", "-lR", dir)
	m.ends(syscall.SIGTERM, soon)
	if err := second.Wait(); err == nil {
		t.Error("ls succeeded")
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder that was made: %v", err)
	}
}

// TestMountTreeTwice has the mount of one tree packed and shown again, and
// many programs read both.
func TestMountTreeTwice(t *testing.T) {
	need(t, "tar")
	p := packTree(t, caravel, everything(t, 9))
	_, first := mountedTree(t, p.index)
	copied := p.path("copy.caidx")
	if got := strings.TrimSpace(must(t, caravel, "make", copied, first)); got != p.digest {
		t.Errorf("made of the mount: %s, want %s", got, p.digest)
	}
	if !bytes.Equal(read(t, copied), read(t, p.index)) {
		t.Error("the mount's index differs from its source's")
	}
	_, second := mountedTree(t, copied)
	for _, dir := range []string{first, second} {
		must(t, "tar", "-C", dir, "--xattrs", "--acls", "-cf", p.path(filepath.Base(filepath.Dir(dir))+".tar"), ".")
	}
}
