package integration

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// A recipe is one generated image and how it is cut.
type recipe struct {
	seed   uint64
	size   int
	kind   string // random, zeros, text, sparse, mixed
	sizes  string // --chunk-size
	digest string
}

func (r recipe) String() string {
	return fmt.Sprintf("%d: %d bytes of %s at %s, %s", r.seed, r.size, r.kind, r.sizes, r.digest)
}

// limits are the sizes around which a chunk's end is decided.
func limits(minimum, avg, maximum int) []int {
	list := []int{0, 1, 2, avg}
	for _, n := range []int{47, 48, 49, minimum, maximum, 2 * maximum} {
		list = append(list, n-1, n, n+1)
	}
	return list
}

// recipes generates n images of every kind, around every limit.
func recipes(n int) []recipe {
	type cut struct {
		text          string
		min, avg, max int
	}
	cuts := []cut{
		{"auto", 16 << 10, 64 << 10, 256 << 10},
		{"4K", 1 << 10, 4 << 10, 16 << 10},
		{"256", 64, 256, 1024},
		{"48:192:768", 48, 192, 768},
		{"32:128:512", 32, 128, 512},
		{"11:47:188", 11, 47, 188},
		{"4096:4096:4096", 4096, 4096, 4096},
		{"9000:10000:40000", 9000, 10000, 40000},
		{"4096:10000:11000", 4096, 10000, 11000},
		{"16385", 4096, 16385, 65540},
		{"1M", 256 << 10, 1 << 20, 4 << 20},
	}
	kinds := []string{"random", "zeros", "text", "sparse", "mixed"}
	r := rand.New(rand.NewPCG(20, 26))
	var list []recipe
	for i := range n {
		c := cuts[i%len(cuts)]
		around := limits(c.min, c.avg, c.max)
		size := around[r.IntN(len(around))]
		if i%3 == 0 {
			size = r.IntN(20*c.avg + 1)
		}
		list = append(list, recipe{
			seed:   uint64(i),
			size:   max(size, 0),
			kind:   kinds[i/len(cuts)%len(kinds)],
			sizes:  c.text,
			digest: []string{"sha512-256", "sha256"}[i%7/6],
		})
	}
	return list
}

// write makes the image, with real holes where the kind is sparse.
func (r recipe) write(t testing.TB, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(int64(r.size)); err != nil {
		t.Fatal(err)
	}
	for off := 0; off < r.size && r.kind != "zeros"; {
		part, n := r.part(off)
		if _, err := f.WriteAt(part, int64(off)); err != nil {
			t.Fatal(err)
		}
		off += n
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// part is the data at off, and how far it is to the next part.
func (r recipe) part(off int) (data []byte, step int) {
	rnd := rand.New(rand.NewPCG(r.seed, uint64(off)))
	n := min(1+rnd.IntN(300_000), r.size-off)
	switch {
	case r.kind == "sparse" && rnd.IntN(3) > 0:
		return nil, n
	case r.kind == "text", r.kind == "mixed" && rnd.IntN(2) == 0:
		var b bytes.Buffer
		for line := rnd.IntN(1000); b.Len() < n; line++ {
			fmt.Fprintf(&b, "line %d of a text that repeats\n", line)
		}
		return b.Bytes()[:n], n
	}
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rnd.Uint32())
	}
	return b, n
}

// TestSameAsCasync makes generated images with both programs: index files and
// printed digests are the same, and each reads what the other wrote.
func TestSameAsCasync(t *testing.T) {
	need(t, "casync")
	list := recipes(times(88, 616))
	for i, r := range list {
		dir := t.TempDir()
		path := func(name string) string { return filepath.Join(dir, name) }
		r.write(t, path("image"))
		flags := []string{"--chunk-size=" + r.sizes, "--digest=" + r.digest}
		theirs := must(t, "casync", append([]string{"make", "--store=" + path("theirs.castr")}, append(flags, path("theirs.caibx"), path("image"))...)...)
		ours := must(t, caravel, append([]string{"make", "--store=" + path("ours.castr")}, append(flags, path("ours.caibx"), path("image"))...)...)
		if ours != theirs {
			t.Errorf("%v: digest %q, casync says %q", r, ours, theirs)
		}
		sameFiles(t, r, path("ours.caibx"), path("theirs.caibx"))
		if r.size == 0 {
			continue // casync makes no store for it, and opens none to extract
		}
		must(t, caravel, "extract", "--store="+path("theirs.castr"), path("theirs.caibx"), path("out"))
		sameFiles(t, r, path("out"), path("image"))
		if i%4 == 0 || long() {
			must(t, "casync", "extract", "--store="+path("ours.castr"), path("ours.caibx"), path("back"))
			sameFiles(t, r, path("back"), path("image"))
			if d := must(t, caravel, "digest", "--store="+path("theirs.castr"), path("theirs.caibx")); d != theirs {
				t.Errorf("%v: digest of the index %q, want %q", r, d, theirs)
			}
		}
	}
	t.Logf("%d images", len(list))
}

func sameFiles(t *testing.T, what fmt.Stringer, got, want string) {
	t.Helper()
	a, err := os.ReadFile(got)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(want)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a, b) {
		t.Errorf("%v: %s is not %s", what, filepath.Base(got), filepath.Base(want))
	}
}

// TestCompressions writes every form and lets casync read it.
func TestCompressions(t *testing.T) {
	need(t, "casync")
	r := recipe{seed: 7, size: 3_000_000, kind: "mixed", sizes: "auto", digest: "sha512-256"}
	for _, how := range []string{"zstd", "zstd:1", "zstd:19", "xz", "gzip", "gzip:9", "none"} {
		dir := t.TempDir()
		path := func(name string) string { return filepath.Join(dir, name) }
		r.write(t, path("image"))
		must(t, caravel, "make", "--compression="+how, "--store="+path("st.castr"), path("x.caibx"), path("image"))
		must(t, "casync", "extract", "--store="+path("st.castr"), path("x.caibx"), path("back"))
		sameFiles(t, r, path("back"), path("image"))
		must(t, caravel, "extract", "--store="+path("st.castr"), path("x.caibx"), path("ours"))
		sameFiles(t, r, path("ours"), path("image"))
		for _, theirs := range []string{"xz", "gzip", "zstd"} {
			must(t, "casync", "make", "--compression="+theirs, "--store="+path(theirs+".castr"), path("y.caibx"), path("image"))
			must(t, caravel, "extract", "--store="+path(theirs+".castr"), path("y.caibx"), path("ours"))
			sameFiles(t, r, path("ours"), path("image"))
		}
	}
}

// TestDesync reads what desync wrote and the other way round.
func TestDesync(t *testing.T) {
	desync := desync(t)
	for _, r := range recipes(times(33, 220)) {
		if r.size == 0 || r.sizes != "auto" && r.sizes != "4K" {
			continue
		}
		dir := t.TempDir()
		path := func(name string) string { return filepath.Join(dir, name) }
		r.write(t, path("image"))
		if err := os.Mkdir(path("theirs.castr"), 0o755); err != nil {
			t.Fatal(err)
		}
		digest := "--digest=" + r.digest
		must(t, desync, digest, "make", "-s", path("theirs.castr"), path("theirs.caibx"), path("image"))
		must(t, caravel, "extract", "--store="+path("theirs.castr"), path("theirs.caibx"), path("out"))
		sameFiles(t, r, path("out"), path("image"))
		must(t, caravel, "make", digest, "--store="+path("ours.castr"), path("ours.caibx"), path("image"))
		must(t, desync, digest, "extract", "-s", path("ours.castr"), path("ours.caibx"), path("back"))
		sameFiles(t, r, path("back"), path("image"))
	}
}
