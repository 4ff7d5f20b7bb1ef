//go:build linux

package integration

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"caravel/internal/origin"
)

// smallFiles fills a tree with folders of small files, and a large one.
func smallFiles(t *testing.T) func(string) {
	return func(root string) {
		randomFiles(t, 10, 20, 700)(root)
		random(t, filepath.Join(root, "large"), 3<<20)
	}
}

// asked is what a server was asked for, chunks aside, sorted, and how many chunks.
func asked(o *origin.Origin) (files []string, chunks int64) {
	for path, n := range o.Counts().Paths {
		if strings.Contains(path, ".castr/") {
			chunks += n
			continue
		}
		for range n {
			files = append(files, path)
		}
	}
	slices.Sort(files)
	return files, chunks
}

// wantAsked compares what a server was asked for.
func wantAsked(t *testing.T, when string, o *origin.Origin, mostChunks int64, files ...string) {
	t.Helper()
	got, chunks := asked(o)
	if !slices.Equal(got, files) || chunks > mostChunks {
		t.Errorf("%s: asked for %v and %d chunks, want %v and %d at most", when, got, chunks, files, mostChunks)
	}
}

// listed is what ls -lR prints of a folder.
func listed(t *testing.T, dir string) string {
	t.Helper()
	return strings.ReplaceAll(must(t, "ls", "-lR", dir), dir, "")
}

// settled is listed when every directory has the links that it has, which the kernel
// asks for again until they are known.
func settled(t *testing.T, dir string) (all string) {
	t.Helper()
	eventually(t, "all links are known", func() bool {
		all = listed(t, dir)
		return !strings.Contains(all, "\ndrwxr-xr-x 1 ")
	})
	return all
}

// TestOpeningATree counts what it costs to open the image of a tree for the
// first time, again, and without a network.
func TestOpeningATree(t *testing.T) {
	p := packTree(t, caravel, smallFiles(t), "--chunk-size=64K")
	o := serveDir(t, p.dir, origin.Options{})
	url, cache := o.URL()+"/tree.caidx", t.TempDir()
	args := []string{"--no-sweep", "--cache-dir", cache, url}

	m, dir := mountedTree(t, args...)
	must(t, "ls", dir)
	wantAsked(t, "first time", o, 0, "/tree.caidx", "/tree.caidx.profile", "/tree.caidx.tree")
	all := listed(t, dir)
	wantAsked(t, "all names", o, 0, "/tree.caidx", "/tree.caidx.profile", "/tree.caidx.tree")
	same(t, dir+"/dir03/file07", p.source+"/dir03/file07")
	wantAsked(t, "a small file", o, 1, "/tree.caidx", "/tree.caidx.profile", "/tree.caidx.tree")
	m.ends(syscall.SIGTERM, soon)

	o.Reset()
	m, dir = mountedTree(t, args...)
	if got := listed(t, dir); got != all {
		t.Errorf("the second time it lists\n%s", got)
	}
	same(t, dir+"/dir03/file07", p.source+"/dir03/file07")
	wantAsked(t, "second time", o, 0, "/tree.caidx")
	if n := o.Counts().Bytes; n != 0 {
		t.Errorf("second time: %d bytes came", n)
	}
	m.ends(syscall.SIGTERM, soon)

	o.Reset()
	m, dir = mountedTree(t, append([]string{"--offline"}, args...)...)
	if got := listed(t, dir); got != all {
		t.Errorf("offline it lists\n%s", got)
	}
	same(t, dir+"/dir03/file07", p.source+"/dir03/file07")
	if _, err := os.ReadFile(dir + "/large"); !isEIO(err) {
		t.Errorf("offline: what is not here: %v", err)
	}
	wantAsked(t, "offline", o, 0)
	m.ends(syscall.SIGTERM, soon)
	if !strings.Contains(m.stderr.String(), "offline") {
		t.Errorf("does not say why: %s", m.stderr)
	}
	complaint(t, run(t, caravel, "list", "--offline", "--cache-dir", t.TempDir(), url), url, "offline")
}

// TestOpeningATreeWithoutSidecar walks it, and knows it the next time.
func TestOpeningATreeWithoutSidecar(t *testing.T) {
	p := packTree(t, caravel, smallFiles(t), "--chunk-size=64K", "--no-tree")
	absent(t, p.index+".tree")
	o := serveDir(t, p.dir, origin.Options{})
	url, cache := o.URL()+"/tree.caidx", t.TempDir()
	m, dir := mountedTree(t, "--no-sweep", "--cache-dir", cache, url)
	must(t, "ls", dir)
	same(t, dir+"/dir03/file07", p.source+"/dir03/file07")
	wantAsked(t, "first time", o, 12, "/tree.caidx", "/tree.caidx.profile", "/tree.caidx.tree")
	m.ends(syscall.SIGTERM, soon)

	o.Reset()
	m, dir = mountedTree(t, "--cache-dir", cache, url) // what is not there is known
	all := settled(t, dir)
	eventually(t, "the walk leaves a sidecar", func() bool {
		found, err := filepath.Glob(cache + "/files/side/*.tree")
		return err == nil && len(found) == 1
	})
	files, _ := asked(o)
	if !slices.Equal(files, []string{"/tree.caidx"}) {
		t.Errorf("second time: asked for %v", files)
	}
	m.ends(syscall.SIGTERM, soon)

	o.Reset()
	m, dir = mountedTree(t, "--no-sweep", "--cache-dir", cache, url)
	if got := listed(t, dir); got != all {
		t.Errorf("by the sidecar that was built it lists\n%s", got)
	}
	wantAsked(t, "third time", o, 0, "/tree.caidx")
	m.ends(syscall.SIGTERM, soon)

	o.Reset()
	if got := strings.Count(must(t, caravel, "list", "--cache-dir", cache, url), "\n"); got != 212 {
		t.Errorf("list: %d entries", got)
	}
	wantAsked(t, "list", o, 0, "/tree.caidx")
}

// TestOpeningALocalIndex of a tree whose chunks are on a server walks it once; with a
// sidecar beside it, that is compared once.
func TestOpeningALocalIndex(t *testing.T) {
	for _, flag := range []string{"--no-tree", "--no-sync"} { // with the latter there is a sidecar
		p := packTree(t, caravel, smallFiles(t), "--chunk-size=64K", flag)
		o := serveDir(t, p.dir, origin.Options{})
		cache := t.TempDir()
		args := []string{"--cache-dir", cache, "--store", o.URL() + "/default.castr"}
		m, dir := mountedTree(t, append(args, p.index)...)
		all := settled(t, dir)
		eventually(t, "what is found out is kept", func() bool {
			found, err := filepath.Glob(cache + "/files/found/*.right")
			return err == nil && len(found) == 1
		})
		m.ends(syscall.SIGTERM, soon)

		copied := filepath.Join(t.TempDir(), "copy.caidx")
		must(t, "cp", p.index, copied)
		if flag != "--no-tree" {
			must(t, "cp", p.index+".tree", copied+".tree")
		}
		o.Reset()
		stats := p.path("stats.json")
		fresh := t.TempDir() // without the chunks
		must(t, "cp", "-a", cache, fresh+"/cache")
		must(t, "sh", "-c", "rm -r "+fresh+"/cache/chunks/*")
		m, dir = mountedTree(t, "--cache-dir", fresh+"/cache", args[2], args[3], "--no-sweep", "--stats-file", stats, copied)
		if got := listed(t, dir); got != all {
			t.Errorf("%s: the second time it lists\n%s", flag, got)
		}
		wantAsked(t, flag+": the second time", o, 0)
		m.ends(syscall.SIGTERM, soon)
		if s := statsOf(t, stats); s.Images[0].Sidecar != "used" {
			t.Errorf("%s: the second time the sidecar is %s", flag, s.Images[0].Sidecar)
		}
	}
}

// TestOpeningAnotherVersion takes the side files of the new index, and none of
// the one before.
func TestOpeningAnotherVersion(t *testing.T) {
	p := packTree(t, caravel, smallFiles(t))
	o := serveDir(t, p.dir, origin.Options{})
	url, cache := o.URL()+"/tree.caidx", t.TempDir()
	list := func() string { return must(t, caravel, "list", "--cache-dir", cache, url) }
	if got := list(); strings.Contains(got, "added") {
		t.Fatalf("lists\n%s", got)
	}
	must(t, "cp", "-a", "--", p.source+"/large", p.source+"/added")
	must(t, caravel, "make", p.index, p.source)
	o.Reset()
	if got := list(); !strings.Contains(got, "added\n") {
		t.Errorf("of the new version it lists\n%s", got)
	}
	wantAsked(t, "new version", o, 0, "/tree.caidx", "/tree.caidx.tree")
	o.Reset()
	list()
	wantAsked(t, "again", o, 0, "/tree.caidx")
}

// TestBadSidecars are reported once and dropped; what is shown is right.
func TestBadSidecars(t *testing.T) {
	p := packTree(t, caravel, smallFiles(t), "--chunk-size=64K")
	good := read(t, p.index+".tree")
	other := packTree(t, caravel, smallFiles(t), "--chunk-size=64K")
	flipped := slices.Clone(good)
	flipped[len(flipped)/2] ^= 1
	want := must(t, caravel, "list", "--no-tree", p.index)
	stale := read(t, other.index+".tree")
	for name, bad := range map[string][]byte{"stale": stale, "cut": good[:len(good)-7], "damaged": flipped, "text": []byte("hello"), "empty": nil} {
		t.Run(name, func(t *testing.T) {
			replace(t, p.index+".tree", bad)
			o := serveDir(t, p.dir, origin.Options{})
			url, cache := o.URL()+"/tree.caidx", t.TempDir()
			m, dir := mountedTree(t, "--no-sweep", "--cache-dir", cache, url)
			must(t, "ls", "-lR", dir)
			same(t, dir+"/dir03/file07", p.source+"/dir03/file07")
			m.ends(syscall.SIGTERM, soon)
			if n := strings.Count(m.stderr.String(), "sidecar is not used"); n != 1 {
				t.Errorf("says it %d times: %s", n, m.stderr)
			}
			r := run(t, caravel, "list", "--cache-dir", cache, url)
			if r.stdout != want || r.status != 0 || r.stderr != "" {
				t.Errorf("the next time: status %d, %s\n%s", r.status, r.stderr, r.stdout)
			}
		})
	}
}

// TestPinnedIndex takes a sidecar only if that is pinned, too.
func TestPinnedIndex(t *testing.T) {
	p := packTree(t, caravel, smallFiles(t))
	o := serveDir(t, p.dir, origin.Options{})
	url := o.URL() + "/tree.caidx"
	pin := "--index-digest=sha256:" + strings.Fields(must(t, "sha256sum", p.index))[0]
	tree := "--tree-digest=sha256:" + strings.Fields(must(t, "sha256sum", p.index+".tree"))[0]
	wrong := "--tree-digest=" + strings.Repeat("0", 64)
	for _, tt := range []struct {
		args []string
		tree bool // asked for
		said bool // that it is not used
	}{
		{[]string{pin}, false, false},
		{[]string{pin, tree}, true, false},
		{[]string{pin, wrong}, true, true},
		{[]string{wrong}, true, true},
		{[]string{"--no-tree"}, false, false},
	} {
		o.Reset()
		r := run(t, caravel, append(append([]string{"list"}, tt.args...), url)...)
		if r.status != 0 || strings.Count(r.stdout, "\n") != 212 {
			t.Errorf("%v: status %d, %s", tt.args, r.status, r.stderr)
		}
		if got := o.Counts().Paths["/tree.caidx.tree"] == 1; got != tt.tree {
			t.Errorf("%v: asked for %v", tt.args, slices.Sorted(maps.Keys(o.Counts().Paths)))
		}
		if got := strings.Contains(r.stderr, "not the sidecar asked for"); got != tt.said {
			t.Errorf("%v: says %q", tt.args, r.stderr)
		}
	}
}

// TestTreeCommand writes the sidecar that make would have written.
func TestTreeCommand(t *testing.T) {
	need(t, "casync")
	p := packTree(t, "casync", everything(t, 99))
	printed := must(t, caravel, "tree", p.index)
	sidecar := read(t, p.index+".tree")
	made := filepath.Join(t.TempDir(), "tree.caidx")
	must(t, caravel, "make", made, p.archive)
	if same := string(read(t, made)) == string(read(t, p.index)); !same || string(read(t, made+".tree")) != string(sidecar) {
		t.Errorf("not what make writes of the archive (the indexes are the same: %v)", same)
	}
	r := run(t, caravel, "tree", p.index, "-")
	if r.status != 0 || r.stdout != string(sidecar) || r.stderr != printed {
		t.Errorf("to standard output: status %d, %d bytes, %s", r.status, len(r.stdout), r.stderr)
	}
	o := serveDir(t, p.dir, origin.Options{})
	bare := t.TempDir()
	for _, name := range []string{"tree.caidx", "default.castr"} { // and no sidecar
		if err := os.Symlink(p.path(name), filepath.Join(bare, name)); err != nil {
			t.Fatal(err)
		}
	}
	readers := serveDir(t, bare, origin.Options{})
	complaint(t, run(t, caravel, "tree", readers.URL()+"/tree.caidx"), "/tree.caidx.tree: 404 Not Found", "for reading only", "name OUT")
	list := run(t, caravel, "list", "--tree-digest="+strings.TrimSpace(printed), o.URL()+"/tree.caidx")
	if list.status != 0 || list.stderr != "" {
		t.Errorf("by the digest that it printed: status %d, %s", list.status, list.stderr)
	}
	wantAsked(t, "list", o, 0, "/tree.caidx", "/tree.caidx.tree")
	d := newDisk(t, 100_000)
	complaint(t, run(t, caravel, "tree", d.index), "only the index of a tree")
	complaint(t, run(t, caravel, "tree", p.archive), "only the index of a tree")
}

// TestMakeLeavesNoStaleSidecar replaces or removes that of another index.
func TestMakeLeavesNoStaleSidecar(t *testing.T) {
	p := packTree(t, caravel, smallFiles(t))
	if err := os.WriteFile(p.source+"/more", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	must(t, caravel, "make", "--no-tree", p.index, p.source)
	absent(t, p.index+".tree")
	must(t, caravel, "make", p.index, p.source)
	before := read(t, p.index+".tree")
	must(t, caravel, "make", "--no-tree", p.index, p.source)
	if string(read(t, p.index+".tree")) != string(before) {
		t.Error("the sidecar of the same index was changed")
	}
	replace(t, p.index+".tree", []byte("a file of the user's"))
	if err := os.Remove(p.source + "/more"); err != nil {
		t.Fatal(err)
	}
	must(t, caravel, "make", "--no-tree", p.index, p.source)
	if got := string(read(t, p.index+".tree")); got != "a file of the user's" {
		t.Errorf("what is no sidecar: %q", got)
	}
	to := fmt.Sprintf("--store=%s", t.TempDir())
	out := filepath.Join(t.TempDir(), "piped.caidx")
	must(t, "sh", "-c", caravel+" make --what=archive-index "+to+" - "+p.source+" > "+out)
	clean(t, filepath.Dir(out), "piped.caidx")
}
