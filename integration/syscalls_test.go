//go:build linux

package integration

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestMakeSyncsBeforeItNames looks at the system calls: what has its final name
// is on disk, with everything that it refers to.
func TestMakeSyncsBeforeItNames(t *testing.T) {
	need(t, "strace")
	for _, existing := range []bool{false, true} {
		dir := realTempDir(t)
		path := func(name string) string { return filepath.Join(dir, name) }
		recipe{seed: 3, size: 600_000, kind: "random"}.write(t, path("image"))
		if existing {
			recipe{seed: 4, size: 50_000, kind: "random"}.write(t, path("other"))
			must(t, caravel, "make", "--no-sync", "--store="+path("old.castr"), path("x.caibx"), path("other"))
		}
		all := traced(t, "make", "--chunk-size=4K", "--store="+path("st.castr"), path("x.caibx"), path("image"))

		chunks := pick(all, func(c call) bool {
			p := c.paths()
			return isNaming(c) && len(p) > 0 && strings.HasPrefix(p[len(p)-1], path("st.castr")+"/") && strings.HasSuffix(p[len(p)-1], ".cacnk")
		})
		if len(chunks) < 100 {
			t.Fatalf("%d chunks were named", len(chunks))
		}
		for _, c := range chunks {
			written(t, all, c)
		}
		store := find(t, all, "syncfs", func(c call) bool {
			_, p := c.fd()
			return c.name == "syncfs" && p == path("st.castr")
		})
		for _, c := range chunks {
			inOrder(t, []string{"naming a chunk", "syncfs"}, c, store)
		}
		named := find(t, all, "name the index", names(path("x.caibx")))
		content := find(t, all, "sync the index", func(c call) bool {
			_, p := c.fd()
			return c.name == "fsync" && p != dir && filepath.Dir(p) == dir
		})
		folder := find(t, all, "sync the index's folder", syncs(dir))
		inOrder(t, []string{"syncfs", "fsync of the index", "naming the index", "fsync of the folder"}, store, content, named, folder)
		t.Logf("existing %v: %d chunks named; then\n%v\n%v\n%v\n%v", existing, len(chunks), store, content, named, folder)
	}
}

// written checks that a file without a name had its bytes when it was named.
func written(t *testing.T, all []call, named call) {
	t.Helper()
	from := named.paths()[0]
	fd, ok := strings.CutPrefix(from, "/proc/self/fd/")
	var last *call
	for i, c := range all {
		number, p := c.fd()
		if isWrite(c) && c.end < named.begin && (ok && number == fd || p == from) {
			last = &all[i]
		}
	}
	if last == nil || last.result == 0 {
		t.Errorf("%v: was nothing written to it?", named)
	}
}

// TestMakeNoSync is what --no-sync leaves out: all of it.
func TestMakeNoSync(t *testing.T) {
	need(t, "strace")
	dir := realTempDir(t)
	path := func(name string) string { return filepath.Join(dir, name) }
	recipe{seed: 3, size: 600_000, kind: "random"}.write(t, path("image"))
	all := traced(t, "make", "--no-sync", "--chunk-size=4K", "--store="+path("st.castr"), path("x.caibx"), path("image"))
	find(t, all, "name the index", names(path("x.caibx")))
	if synced := pick(all, isSync); len(synced) > 0 {
		t.Errorf("synced nevertheless: %v", synced)
	}
	all = traced(t, "extract", "--no-sync", "--store="+path("st.castr"), path("x.caibx"), path("out"))
	find(t, all, "name the target", names(path("out")))
	if synced := pick(all, isSync); len(synced) > 0 {
		t.Errorf("synced nevertheless: %v", synced)
	}
}

// TestExtractSyncsBeforeItNames is the same for the target.
func TestExtractSyncsBeforeItNames(t *testing.T) {
	need(t, "strace")
	dir := realTempDir(t)
	path := func(name string) string { return filepath.Join(dir, name) }
	recipe{seed: 3, size: 600_000, kind: "random"}.write(t, path("image"))
	must(t, caravel, "make", "--no-sync", "--chunk-size=4K", "--store="+path("st.castr"), path("x.caibx"), path("image"))
	for _, existing := range []bool{false, true} {
		all := traced(t, "extract", "--store="+path("st.castr"), path("x.caibx"), path("out"))
		named := find(t, all, "name the target", names(path("out")))
		part := named.paths()[0]
		if filepath.Dir(part) != dir || part == path("out") {
			t.Errorf("the target was %s before", part)
		}
		content := find(t, all, "sync the target", syncs(part))
		folder := find(t, all, "sync its folder", syncs(dir))
		inOrder(t, []string{"fsync of the target", "naming it", "fsync of the folder"}, content, named, folder)
		writes := pick(all, func(c call) bool {
			_, p := c.fd()
			return isWrite(c) && (p == part || p == path("out"))
		})
		sum := 0
		for _, w := range writes {
			inOrder(t, []string{"a write", "fsync"}, w, content)
			sum += w.result
		}
		if sum != 600_000 {
			t.Errorf("%d bytes written, want 600000", sum)
		}
		t.Logf("existing %v: %d writes; then\n%v\n%v\n%v", existing, len(writes), content, named, folder)
	}
	all := traced(t, "extract", "--in-place", "--store="+path("st.castr"), path("x.caibx"), path("in-place"))
	content := find(t, all, "sync the target", syncs(path("in-place")))
	for _, w := range pick(all, func(c call) bool { _, p := c.fd(); return isWrite(c) && p == path("in-place") }) {
		inOrder(t, []string{"a write", "fsync"}, w, content)
	}
}

// TestMakeSyncsWhatWasThere makes an image of which the store has every chunk,
// perhaps from a run that was killed before it could sync: the index must not
// be safer than they are.
func TestMakeSyncsWhatWasThere(t *testing.T) {
	need(t, "strace")
	dir := realTempDir(t)
	path := func(name string) string { return filepath.Join(dir, name) }
	recipe{seed: 3, size: 100_000, kind: "random"}.write(t, path("image"))
	must(t, caravel, "make", "--no-sync", "--store="+path("st.castr"), path("x.caibx"), path("image"))
	all := traced(t, "make", "--store="+path("st.castr"), path("y.caibx"), path("image"))
	store := find(t, all, "syncfs", func(c call) bool { return c.name == "syncfs" })
	inOrder(t, []string{"syncfs", "naming the index"}, store, find(t, all, "name the index", names(path("y.caibx"))))
}
