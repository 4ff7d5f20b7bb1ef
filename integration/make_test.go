//go:build linux

package integration

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"caravel/internal/origin"
)

// holed writes a file of random bytes and holes.
func holed(t *testing.T, path string, size int64) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rnd := rand.New(rand.NewPCG(uint64(size), 0))
	for at := int64(0); at < size; at += rnd.Int64N(size / 8) {
		b := make([]byte, min(rnd.Int64N(400_000), size-at))
		for i := range b {
			b[i] = byte(rnd.Uint32())
		}
		if _, err := f.WriteAt(b, at); err != nil {
			t.Fatal(err)
		}
		at += int64(len(b))
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
}

// TestMakeHoles compares what is made of a file with holes, which are not read, and of one that
// casync reads; the digest is printed unless nobody wants it.
func TestMakeHoles(t *testing.T) {
	need(t, "casync")
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	holed(t, path("image"), 6<<20)
	for _, sizes := range []string{"16K:64K:256K", "1K:4K:16K", "4096:4096:4096", "100K:200K:1M"} {
		theirs := must(t, "casync", "make", "--chunk-size="+sizes, "--store="+path("theirs.castr"), path("theirs.caibx"), path("image"))
		ours := must(t, caravel, "make", "--no-sync", "--chunk-size="+sizes, "--store="+path("ours.castr"), path("ours.caibx"), path("image"))
		if ours != theirs {
			t.Errorf("%s: digest %s, want %s", sizes, ours, theirs)
		}
		holds(t, path("ours.caibx"), read(t, path("theirs.caibx")))
		if out := must(t, caravel, "make", "--no-sync", "--no-digest", "--chunk-size="+sizes, "--store="+path("ours.castr"), path("silent.caibx"), path("image")); out != "" {
			t.Errorf("%s: with --no-digest it says %q", sizes, out)
		}
		holds(t, path("silent.caibx"), read(t, path("theirs.caibx")))
	}
	if out := must(t, caravel, "make", "--json", "--no-digest", "--no-store", path("x.caibx"), path("image")); strings.Contains(out, "digest") {
		t.Errorf("with --no-digest: %s", out)
	}
}

// TestMakeMemory makes an image that is much larger than the memory that it may take.
func TestMakeMemory(t *testing.T) {
	need(t, "python3")
	image := filepath.Join(t.TempDir(), "image")
	size := int64(times(300, 3000)) << 20
	holed(t, image, size)
	for _, args := range [][]string{{"--no-store"}, {"--no-sync", "--compression=none", "--store=" + filepath.Join(t.TempDir(), "st.castr")}} {
		out := must(t, "python3", slices.Concat([]string{"-c", peakOf, caravel, "make"}, args, []string{filepath.Join(t.TempDir(), "x.caibx"), image})...)
		lines := strings.Fields(out)
		most, err := strconv.Atoi(lines[len(lines)-1])
		if err != nil || most > 128<<10 {
			t.Errorf("%v: %d KiB of memory for an image of %d MiB, %v", args, most, size>>20, err)
		}
	}
}

// peakOf runs a command and prints what it had in memory at most, in KiB. A process that a
// large one has started is said to have had all that the large one has.
const peakOf = `import resource, subprocess, sys
status = subprocess.call(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(status)`

// unchangedTree is a tree whose files were not changed just now.
func unchangedTree(t *testing.T) string {
	t.Helper()
	for _, dir := range []string{"/usr/share/perl5", "/usr/share/zoneinfo", "/usr/include", "/etc"} {
		if st, err := os.Stat(dir); err == nil && st.IsDir() {
			return dir
		}
	}
	t.Skip("no tree that is older than the test")
	return ""
}

// TestMakeCache makes the index of a tree again, of which all is known, and then not all.
func TestMakeCache(t *testing.T) {
	tree, dir := unchangedTree(t), t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	store := "--store=" + path("st.castr")
	digest := must(t, caravel, "make", store, path("plain.caidx"), tree)
	want := read(t, path("plain.caidx"))
	for _, tt := range []struct {
		name  string
		args  []string
		known bool // all of it
		spoil func()
	}{
		{"first", nil, false, nil},
		{"again", nil, true, nil},
		{"without a digest", []string{"--no-digest"}, true, nil},
		{"with one", nil, true, nil},
		{"a store without chunks", nil, true, func() { os.RemoveAll(path("st.castr")) }},
		{"a cache that is damaged", nil, false, func() {
			files, _ := filepath.Glob(path("cache/*.memo"))
			for _, f := range files {
				os.Truncate(f, 1000)
			}
		}},
		{"other sizes", []string{"--chunk-size=32K"}, false, nil},
	} {
		if tt.spoil != nil {
			tt.spoil()
		}
		r := run(t, caravel, append(append([]string{"make", "-v", "--cache=" + path("cache"), store}, tt.args...), path("x.caidx"), tree)...)
		if r.status != 0 || r.stdout != "" && r.stdout != digest && tt.name != "other sizes" {
			t.Fatalf("%s: status %d, %s%s", tt.name, r.status, r.stdout, r.stderr)
		}
		_, chunks, _ := strings.Cut(r.stderr, "chunks=")
		_, known, _ := strings.Cut(r.stderr, "known=")
		if all := number(chunks) == number(known); all != tt.known {
			t.Errorf("%s: of %d chunks %d were known", tt.name, number(chunks), number(known))
		}
		if tt.name != "other sizes" {
			holds(t, path("x.caidx"), want)
		}
		must(t, caravel, "verify", "-s", path("st.castr"))
		if got := must(t, caravel, "digest", store, path("x.caidx")); tt.name != "other sizes" && got != digest {
			t.Errorf("%s: %s is in the store, want %s", tt.name, got, digest)
		}
	}
}

// number is the one that s begins with.
func number(s string) int {
	n, _ := strconv.Atoi(s[:len(s)-len(strings.TrimLeft(s, "0123456789"))])
	return n
}

// TestMakeCacheAuto keeps the cache in the tree, as casync does, where it is not packed.
func TestMakeCacheAuto(t *testing.T) {
	dir := t.TempDir()
	tree := filepath.Join(dir, "tree")
	if err := os.Mkdir(tree, 0o755); err != nil {
		t.Fatal(err)
	}
	smallFiles(t)(tree)
	first := must(t, caravel, "make", "-c", filepath.Join(dir, "x.caidx"), tree)
	if list := must(t, caravel, "list", filepath.Join(dir, "x.caidx")); strings.Contains(list, ".cacac") {
		t.Errorf("the cache is packed: %s", list)
	}
	if files, err := filepath.Glob(filepath.Join(tree, ".cacac", "*")); err != nil || len(files) != 1 {
		t.Errorf("the cache has %v", files)
	}
	if again := must(t, caravel, "make", "-c", filepath.Join(dir, "x.caidx"), tree); again != first {
		t.Errorf("%s, the second time %s", first, again)
	}
	r := run(t, caravel, "make", "-c", filepath.Join(dir, "x.caibx"), filepath.Join(dir, "x.caidx"))
	if r.status != 2 {
		t.Errorf("a cache of a disk image: status %d, %s", r.status, r.stderr)
	}
	complaint(t, run(t, caravel, "make", "-c", filepath.Join(dir, "x.caidx"), filepath.Join(dir, "none")), "none: no such file")
}

// TestKillMakeCache kills make with a cache at any moment.
func TestKillMakeCache(t *testing.T) {
	tree, dir := unchangedTree(t), t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	began := time.Now()
	must(t, caravel, "make", "--store="+path("want.castr"), path("want.caidx"), tree)
	whole := time.Since(began)
	make := []string{"make", "--cache=" + path("cache"), "--store=" + path("st.castr"), path("x.caidx"), tree}
	for range times(4, 60) {
		interrupt(t, syscall.SIGKILL, after(time.Duration(rand.Int64N(int64(whole)))), make...)
	}
	must(t, caravel, make...)
	holds(t, path("x.caidx"), read(t, path("want.caidx")))
	must(t, caravel, "verify", "-s", path("st.castr"))
	must(t, caravel, "digest", "--store="+path("st.castr"), path("x.caidx"))
}

// TestMakersAndPrune has two makers and a prune use one store at once.
func TestMakersAndPrune(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	random(t, path("kept"), 1_000_000)
	must(t, caravel, "make", "--chunk-size=4K", "--store="+path("st.castr"), path("kept.caibx"), path("kept"))
	done := make(chan struct{})
	var pruning, makers sync.WaitGroup
	pruning.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			if r := run(t, caravel, "prune", "--yes", "-s", path("st.castr"), path("kept.caibx")); r.status != 0 {
				t.Errorf("prune: %s", r.stderr)
				return
			}
		}
	})
	for i := range 2 {
		makers.Go(func() {
			for round := range times(2, 20) {
				image := path(fmt.Sprintf("image%d-%d", i, round))
				random(t, image, 1_500_000+100*i+round)
				if r := run(t, caravel, "make", "--chunk-size=4K", "--store="+path("st.castr"), image+".caibx", image); r.status != 0 {
					t.Errorf("make: %s", r.stderr)
				}
			}
		})
	}
	makers.Wait()
	close(done)
	pruning.Wait()
	must(t, caravel, "verify", "-s", path("st.castr"))
	indexes, err := filepath.Glob(path("*.caibx"))
	if err != nil || len(indexes) == 0 {
		t.Fatal(err)
	}
	for _, x := range indexes {
		if got := must(t, caravel, "cat", "--store="+path("st.castr"), x); got != string(read(t, strings.TrimSuffix(x, ".caibx"))) {
			t.Errorf("%s: other bytes", x)
		}
	}
}

// TestMakeFullAnywhere fills the disk of the store after any number of bytes.
func TestMakeFullAnywhere(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	random(t, path("image"), 3<<20)
	must(t, caravel, "make", "--no-store", path("want.caibx"), path("image"))
	for range times(4, 60) {
		full := smallDisk(t, 64<<10+rand.IntN(3<<20))
		store := filepath.Join(full, "st.castr")
		make := []string{"make", "--store=" + store, path("x.caibx"), path("image")}
		if r := run(t, caravel, make...); r.status != 1 {
			t.Fatalf("status %d on a disk that is too small: %s", r.status, r.stderr)
		}
		absent(t, path("x.caibx"))
		if err := syscall.Mount("tmpfs", full, "tmpfs", syscall.MS_REMOUNT, "size=16777216"); err != nil {
			t.Fatal(err)
		}
		must(t, caravel, make...)
		holds(t, path("x.caibx"), read(t, path("want.caibx")))
		must(t, caravel, "verify", "-s", store)
		if err := os.Remove(path("x.caibx")); err != nil {
			t.Fatal(err)
		}
	}
}

// TestMakeBase asks a store behind a network for nothing but what is new.
func TestMakeBase(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	random(t, path("image"), 1<<20)
	store := "--store=" + path("st.castr")
	want := must(t, caravel, "make", "--chunk-size=4K", store, path("base.caibx"), path("image"))
	if got := must(t, caravel, "make", "--chunk-size=4K", store, "--base="+path("base.caibx"), path("x.caibx"), path("image")); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if err := os.RemoveAll(path("st.castr")); err != nil {
		t.Fatal(err)
	}
	r := run(t, caravel, "make", "--chunk-size=4K", store, "--base="+path("base.caibx"), path("x.caibx"), path("image"))
	if r.status != 0 || !strings.Contains(r.stderr, "not all of the base") {
		t.Errorf("status %d, %s", r.status, r.stderr)
	}
	must(t, caravel, "verify", "-s", path("st.castr"))
	if got := must(t, caravel, "digest", store, path("x.caibx")); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	complaint(t, run(t, caravel, "make", store, "--base="+path("none.caibx"), path("x.caibx"), path("image")), "none.caibx")
}

// TestMakeCacheOfMount makes the index of a mounted tree and then of another one, in the same
// place, whose file has the same size and times: there nothing is remembered.
func TestMakeCacheOfMount(t *testing.T) {
	needFUSE(t)
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	old := time.Unix(1_000_000_000, 0)
	for _, name := range []string{"a", "b"} {
		if err := os.Mkdir(path(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path(name+"/file"), bytes.Repeat([]byte(name), 300_000), 0o644); err != nil {
			t.Fatal(err)
		}
		for _, node := range []string{name + "/file", name} {
			if err := os.Chtimes(path(node), old, old); err != nil {
				t.Fatal(err)
			}
		}
		must(t, caravel, "make", path(name+".caidx"), path(name))
	}
	for _, name := range []string{"a", "b"} {
		m := start(t, caravel, "mount", path(name+".caidx"), path("mnt"))
		unmountLater(t, path("mnt"))
		m.expect("Mounted: ")
		must(t, caravel, "make", "--cache="+path("cache"), path("x.caidx"), path("mnt"))
		must(t, caravel, "make", path("plain.caidx"), path("mnt"))
		m.ends(syscall.SIGTERM, soon)
		holds(t, path("x.caidx"), read(t, path("plain.caidx")))
	}
}

// TestMakeCacheRefuses has something else lie where the cache is to be.
func TestMakeCacheRefuses(t *testing.T) {
	for _, tt := range []struct{ name, prepare, cache, want string }{
		{"link", "mkdir away && ln -s ../away tree/.cacac", "-c", "is no directory"},
		{"file", "touch tree/.cacac", "-c", "is no directory"},
		{"the tree", "true", "--cache=tree", "is what is packed"},
		{"the tree by a link", "ln -s tree link", "--cache=link/.", "is what is packed"},
		{"a part of the tree", "mkdir -p tree/a/b && touch tree/a/b/kept", "--cache=tree/a/b", `holds "kept"`},
	} {
		dir := t.TempDir()
		must(t, "sh", "-c", "cd "+dir+" && mkdir tree && echo x >tree/file && "+tt.prepare)
		r := runWith(t, func(c *exec.Cmd) { c.Dir = dir }, caravel, "make", tt.cache, "x.caidx", "tree")
		if _, err := os.Stat(filepath.Join(dir, "x.caidx")); err == nil {
			t.Errorf("%s: there is an index", tt.name)
		}
		complaint(t, r, tt.want)
	}
	dir := t.TempDir()
	must(t, "sh", "-c", "cd "+dir+" && mkdir tree && echo x >tree/file")
	for range 2 { // and what is its own does no harm
		must(t, caravel, "make", "--cache="+filepath.Join(dir, "tree/cache"), filepath.Join(dir, "x.caidx"), filepath.Join(dir, "tree"))
	}
	if files, err := filepath.Glob(filepath.Join(dir, "tree/cache/*")); err != nil || len(files) != 1 {
		t.Errorf("the cache has %v, %v", files, err)
	}
	if r := run(t, caravel, "list", filepath.Join(dir, "x.caidx")); strings.Contains(r.stdout, "memo") {
		t.Errorf("the cache is packed: %s", r.stdout)
	}
}

// TestMakeFailsBesideAPipe has a store that takes nothing while the source is a pipe that is silent.
func TestMakeFailsBesideAPipe(t *testing.T) {
	o := serveDir(t, t.TempDir(), origin.Options{})
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	if err := errors.Join(os.Mkdir(path("tree"), 0o755), syscall.Mkfifo(path("fifo"), 0o600)); err != nil {
		t.Fatal(err)
	}
	random(t, path("tree/file"), 3<<19)
	must(t, caravel, "make", path("tree.catar"), path("tree"))
	for _, tt := range []struct {
		source string
		args   []string
	}{
		{"tree/file", []string{"make", path("x.caibx")}},
		{"tree.catar", []string{"make", path("x.caidx")}},
		{"tree/file", []string{"prepare"}},
	} {
		w := start(t, "sh", "-c", `trap "" PIPE; exec 3>"$0/fifo"; cat "$0/$1" >&3; exec sleep 1000`, dir, tt.source)
		r := run(t, caravel, append(tt.args, "--timeout=1s", "--store="+o.URL()+"/st.castr", path("fifo"))...)
		complaint(t, r, "st.castr")
		w.stop(syscall.SIGKILL)
	}
}
