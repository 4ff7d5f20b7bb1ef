package layers_test

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"caravel/catar"
	"caravel/feature"
	"caravel/layers"
	"caravel/tarball"
)

var flags = (feature.Best&^feature.UserNames | feature.ExcludeFile | feature.ExcludeNoDump | feature.SHA512_256).Normal()

// stream makes a tar stream of words: "d/" is a directory, "f=text" a file, "l>target"
// a symbolic link, "h@target" a hard link, "p|" a FIFO. A number at the end of a
// directory is its time: "d/:7".
func stream(t testing.TB, words ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, word := range words {
		i := strings.IndexAny(word, "=>@|")
		h := &tar.Header{Name: word, Typeflag: tar.TypeDir, Mode: 0o755}
		content := ""
		if i < 0 {
			name, seconds, _ := strings.Cut(word, ":")
			h.Name = name
			var n int64
			_, _ = fmt.Sscan(seconds, &n)
			h.ModTime = time.Unix(n, 0)
		} else {
			h.Name, content, h.Mode = word[:i], word[i+1:], 0o644
			h.Typeflag = map[byte]byte{'=': tar.TypeReg, '>': tar.TypeSymlink, '@': tar.TypeLink, '|': tar.TypeFifo}[word[i]]
			if h.Typeflag == tar.TypeReg {
				h.Size = int64(len(content))
			} else {
				h.Linkname, content = content, ""
			}
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// added is the tree of some streams, read in their place or not.
func added(t testing.TB, opt layers.Options, inPlace bool, streams ...[]byte) *layers.Tree {
	t.Helper()
	tree, err := layers.New(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tree.Close() })
	for _, s := range streams {
		var r io.Reader = bytes.NewReader(s)
		if !inPlace {
			r = io.MultiReader(r)
		}
		if err := tree.Add(t.Context(), tarball.NewReader(r, tarball.ReaderOptions{})); err != nil {
			t.Fatal(err)
		}
	}
	return tree
}

// words says what is in the archive of a tree, in the words of stream.
func words(t testing.TB, tree *layers.Tree, f feature.Flags) string {
	t.Helper()
	s, err := tree.Stream(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var all, path []string
	d := catar.NewDecoder(s, catar.DecoderOptions{})
	for {
		n, err := d.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(d)
		if err != nil {
			t.Fatal(err)
		}
		if n.Depth == 0 {
			continue
		}
		path = append(path[:n.Depth-1], n.Name)
		word := strings.Join(path, "/")
		switch n.Mode & catar.ModeType {
		case catar.ModeDir:
			word += "/"
			if n.MTime != 0 {
				word += fmt.Sprintf(":%d", n.MTime/1e9)
			}
		case catar.ModeRegular:
			word += "=" + string(content)
		case catar.ModeLink:
			word += ">" + n.Target
		case catar.ModeFIFO:
			word += "|"
		}
		all = append(all, word)
	}
	if got := s.Entries(); got != int64(len(all)+1) {
		t.Errorf("%d entries, said to be %d", len(all)+1, got)
	}
	return strings.Join(all, " ")
}

func TestOneStream(t *testing.T) {
	deep := strings.Repeat("d/", 70) + "f=1"
	tests := []struct {
		name, in, want string
		lost           string // separated by "; "
	}{
		{"sorted", "./ a/:5 a/x=1 b=2 c>b p|", "a/:5 a/x=1 b=2 c>b p|", ""},
		{"any order", "b=2 p| a/x=1 c>b a/:5", "a/:5 a/x=1 b=2 c>b p|", ""},
		{"nothing is said of parents", "a/b/c=1", "a/ a/b/ a/b/c=1", ""},
		{"the last one counts", "a=1 b/x=1 a=2 a=3 b/:9 l>1 l>2", "a=3 b/:9 b/x=1 l>2", ""},
		{"another type", "a=1 a/ b/ b=1 c>a c/x=1", "a/ a/x=1 b=1 c>a", ""},
		{"a directory in place of a link", "d/x=1 l>d l/ l/y=2", "d/ d/x=1 l/ l/y=2", ""},
		{"a full directory stays", "a/x=1 a=2 a/y=3", "a/ a/x=1 a/y=3", `"a": cannot take the place of a directory with something in it`},
		{"hard links", "f=1 a@f g@a f=2", "a=1 f=2 g=1", ""},
		{"a hard link to a link", "l>f h@l", "h>f l>f", ""},
		{"hard links first", "a@b b@c d/e@./c c=1", "a=1 b=1 c=1 d/ d/e=1", ""},
		{"a hard link to come that is none in the end", "a@b a=2 b=1", "a=2 b=1", ""},
		{"hard links to nothing", "a@b c@c d@e e@d f/ g@f", "f/", `"g": is a hard link to a directory; "a": is a hard link to what is not in the tree; "c": is a hard link that leads to itself; "d": is a hard link that leads to itself; "e": is a hard link that leads to itself`},
		{"a hard link to come, by another way", "d/ l>d l/x@later d/x=own later=other", "d/ d/x=own l>d later=other", ""},
		{"a hard link to come that is another's target, by another way", "d/ l>d l/x@later y@d/x later=1", "d/ d/x=1 l>d later=1 y=1", ""},
		{"a hard link to come in a directory that goes", "d/ d/x@later d=1 later=2", "d=1 later=2", `"d/x": lies in what is no directory`},
		{"a hard link to come in a directory that comes again", "d/ d/x@later d=1 d/ d/x=own later=2", "d/ d/x=own later=2", ""},
		{"through links", "r/d/ l>r/d l/x=1 m>./l/../d m/y=2 h@m/x", "h=1 l>r/d m>./l/../d r/ r/d/ r/d/x=1 r/d/y=2", ""},
		{"a link to what is not there yet", "l>a/b l/x=1", "a/ a/b/ a/b/x=1 l>a/b", ""},
		{"absolute names", "/a=1 //b=2 h@/a", "a=1 b=2 h=1", ""},
		{"names that lead out", "../a=1 b/../../c=2 d=3", "d=3", `"../a": has .. in its name, and is not taken; "b/../../c": has .. in its name, and is not taken`},
		{"links that lead out", "l>/etc l/x=1 m>../m m/x=1", "l>/etc m>../m", `"l/x": lies behind a symbolic link that leads out of the tree; "m/x": lies behind a symbolic link that leads out of the tree`},
		{"links in a circle", "a>b b>a a/x=1", "a>b b>a", `"a/x": lies behind too many symbolic links`},
		{"below a file", "f=1 f/x=2", "f=1", `"f/x": lies in what is no directory`},
		{"the root as a file", ".=1 a=1", "a=1", `".": cannot take the place of the root`},
		{"too deep", deep, "", `"` + strings.TrimSuffix(deep, "=1") + `": lies more than 64 levels deep`},
		{"too deep by links", strings.Repeat("d/", 60) + "e/ l>" + strings.Repeat("d/", 60) + "e l/a/b/c/d/e=1",
			"", `"l/a/b/c/d/e": lies more than 64 levels deep`},
		{"too long a name", strings.Repeat("n", 256) + "=1", "", `"` + strings.Repeat("n", 256) + `": a name of 256 bytes, above 255`},
		{"whiteouts mean nothing", "a=1 .wh.a=", ".wh.a= a=1", ""},
		{"what rules leave out", ".caexclude=*.o x.o=1 d/y.o=2 d/z=3", ".caexclude=*.o d/ d/z=3", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, inPlace := range []bool{true, false} {
				tree := added(t, layers.Options{}, inPlace, stream(t, strings.Fields(tt.in)...))
				if lost := strings.Join(tree.Lost.First, "; "); lost != tt.lost {
					t.Errorf("lost %s\nwant %s", lost, tt.lost)
				}
				if got := words(t, tree, flags); got != tt.want && !strings.HasPrefix(tt.name, "too ") {
					t.Errorf("in place: %v: %s\nwant %s", inPlace, got, tt.want)
				}
			}
		})
	}
}

func TestLayers(t *testing.T) {
	tests := []struct {
		name string
		in   []string
		want string
	}{
		{"one on the other", []string{"a/:1 a/x=1 b=1", "a/y=2 b=2", "a/:3"}, "a/:3 a/x=1 a/y=2 b=2"},
		{"the time of a directory stays", []string{"a/:1 a/x=1", "a/y=2"}, "a/:1 a/x=1 a/y=2"},
		{"whiteouts", []string{"a/:1 a/x=1 b=1 c/d/e=1", ".wh.b= a/.wh.x= .wh.c= .wh.none="}, "a/:1"},
		{"a whiteout is of what was there before", []string{"a/x=1", "a/y=2 .wh.a="}, "a/ a/y=2"},
		{"and then it is there again", []string{"a/x=1 b=1", ".wh.a= a/z=3 .wh.b= b=2"}, "a/ a/z=3 b=2"},
		{"opaque", []string{"a/:1 a/x=1 a/d/y=1", "a/:2 a/n=2 a/.wh..wh..opq="}, "a/:2 a/n=2"},
		{"opaque first", []string{"a/:1 a/x=1 a/d/y=1", "a/.wh..wh..opq= a/d/n=2"}, "a/:1 a/d/ a/d/n=2"},
		{"in what is no directory any more", []string{"a/x=1", "a=2 a/.wh.x="}, "a=2"},
		{"of aufs", []string{"a=1 .wh..wh.plnk=", ".wh..wh.aufs="}, "a=1"},
		{"a file in place of a directory", []string{"a/x=1 a/d/y=1", "a=2"}, "a=2"},
		{"a directory in place of a file", []string{"a=1", "a/x=2"}, "a=1"},
		{"a hard link to come below a whiteout", []string{"a/y=1", "a/x@later .wh.a= later=2"}, "a/ a/x=2 later=2"},
		{"a hard link to a former layer's file", []string{"a/x=1", "b@a/x .wh.a="}, "b=1"},
		{"links of usr-merge", []string{"usr/lib/ lib>usr/lib", "lib/x=1 lib/y@lib/x"}, "lib>usr/lib usr/ usr/lib/ usr/lib/x=1 usr/lib/y=1"},
		{"links lead within", []string{"up>../../d abs>/d d/", "up/x=1 abs/y=2"}, "abs>/d d/ d/x=1 d/y=2 up>../../d"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var in [][]byte
			for _, words := range tt.in {
				in = append(in, stream(t, strings.Fields(words)...))
			}
			tree := added(t, layers.Options{Layered: true}, true, in...)
			if got := words(t, tree, flags); got != tt.want {
				t.Errorf("%s\nwant %s", got, tt.want)
			}
			if odd := tt.name == "a directory in place of a file"; (tree.Lost.Count > 0) != odd {
				t.Errorf("lost %q", tree.Lost.First)
			}
		})
	}
}

// TestOrder checks that a tree is the same whatever the order of a stream.
func TestOrder(t *testing.T) {
	all := []string{"./", "a/:1", "a/x=1", "a/b/:2", "a/b/y=2", "a/b/h@a/x", "l>a/b", "e/:4", "p|", "z@a/b/y", "zz@z"}
	want := words(t, added(t, layers.Options{}, true, stream(t, all...)), flags)
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(3, seed))
		in := slices.Clone(all)
		rng.Shuffle(len(in), func(i, j int) { in[i], in[j] = in[j], in[i] })
		tree := added(t, layers.Options{}, seed%2 == 0, stream(t, in...))
		if got := words(t, tree, flags); got != want || tree.Lost.Count > 0 {
			t.Errorf("%q:\n%s\nwant\n%s; lost %q", in, got, want, tree.Lost.First)
		}
	}
}

// TestFeatures checks that what an archive has no feature for is left out.
func TestFeatures(t *testing.T) {
	tree := added(t, layers.Options{}, true, stream(t, "f=1", "l>f", "p|", ".caexclude=f"))
	for f, want := range map[feature.Flags]string{
		feature.Permissions:                       ".caexclude=f f=1",
		feature.Symlinks | feature.ExcludeFile:    ".caexclude=f l>f",
		feature.FIFOs | feature.Permissions:       ".caexclude=f f=1 p|",
		feature.Best&^feature.FIFOs | feature.ACL: ".caexclude=f f=1 l>f",
	} {
		if got := words(t, tree, f.Normal()); got != want {
			t.Errorf("%v: %s, want %s", f, got, want)
		}
	}
}

// TestMemory checks that what nodes take of memory is bounded, whatever it is that a
// stream says so much of.
func TestMemory(t *testing.T) {
	many := func(n int, word func(i int) string) (words []string) {
		for i := range n {
			words = append(words, word(i))
		}
		return words
	}
	for name, in := range map[string][]byte{
		"files":               stream(t, many(4000, func(i int) string { return fmt.Sprintf("f%d=", i) })...),
		"implied directories": stream(t, many(60, func(i int) string { return fmt.Sprintf("%d/%sf=", i, strings.Repeat("a/", 40)) })...),
		"links to come":       stream(t, many(4000, func(i int) string { return fmt.Sprintf("f%d@none", i) })...),
		"targets":             stream(t, many(400, func(i int) string { return fmt.Sprintf("f%d>%s", i, strings.Repeat("t", 4000)) })...),
		"the same, again":     stream(t, many(4000, func(int) string { return "f=" })...),
		"lists": records(t, 30, map[string]string{"SCHILY.acl.access": "user::r--,group::r--,mask::r--,other::r--," +
			strings.Join(many(1000, func(i int) string { return fmt.Sprintf("user:%d:r--", i+1) }), ",")}),
		"attributes": records(t, 30, map[string]string{"SCHILY.xattr.user.a": strings.Repeat("x", 20000)}),
	} {
		for _, memory := range []int64{200_000, 4_000_000} {
			tree, err := layers.New(layers.Options{Memory: memory})
			if err != nil {
				t.Fatal(err)
			}
			defer tree.Close()
			err = tree.Add(t.Context(), tarball.NewReader(bytes.NewReader(in), tarball.ReaderOptions{}))
			if bounded := memory < 1_000_000; (err != nil) != bounded || bounded && !strings.Contains(err.Error(), "more than 200000 bytes of memory") {
				t.Errorf("%s, with %d bytes: %v", name, memory, err)
			}
		}
	}
}

// records is a stream of n files with the same records.
func records(t *testing.T, n int, all map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := range n {
		if err := w.WriteHeader(&tar.Header{Name: fmt.Sprint(i), Typeflag: tar.TypeReg, PAXRecords: all}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestLongHeaders checks that a name does not hold the rest of the header that it is a
// part of.
func TestLongHeaders(t *testing.T) {
	const n, long = 64, 500_000
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := range n {
		h := &tar.Header{Name: fmt.Sprintf("%d-%s", i, strings.Repeat("é", 60)), Typeflag: tar.TypeReg,
			PAXRecords: map[string]string{"comment": strings.Repeat("c", long)}}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	tree := added(t, layers.Options{}, true, b.Bytes())
	runtime.GC()
	runtime.ReadMemStats(&after)
	if kept := int64(after.HeapAlloc) - int64(before.HeapAlloc); kept > n*long/4 {
		t.Errorf("%d bytes kept of %d small files", kept, n)
	}
	runtime.KeepAlive(tree)
	runtime.KeepAlive(b)
}

// TestEnds checks that reading ends with the context, and that a stream can be left.
func TestEnds(t *testing.T) {
	in := stream(t, "a="+strings.Repeat("x", 1<<20), "b=1")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(io.ErrNoProgress)
	tree, err := layers.New(layers.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	if err := tree.Add(ctx, tarball.NewReader(bytes.NewReader(in), tarball.ReaderOptions{})); err != io.ErrNoProgress {
		t.Error(err)
	}
	s, err := added(t, layers.Options{}, true, in).Stream(t.Context(), flags)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(s, make([]byte, 100)); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestChanged checks that a file that became shorter since it was looked at is an error.
func TestChanged(t *testing.T) {
	f := &shrinking{bytes.NewReader(stream(t, "a="+strings.Repeat("x", 5000))), false}
	tree, err := layers.New(layers.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	if err := tree.Add(t.Context(), tarball.NewReader(f, tarball.ReaderOptions{})); err != nil {
		t.Fatal(err)
	}
	f.short = true
	s, err := tree.Stream(t.Context(), flags)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := io.Copy(io.Discard, s); err == nil || !strings.Contains(err.Error(), `"a": ended 5000 bytes early`) {
		t.Error(err)
	}
}

// A shrinking file is empty later.
type shrinking struct {
	*bytes.Reader
	short bool
}

func (s *shrinking) ReadAt(p []byte, off int64) (int, error) {
	if s.short {
		return 0, io.EOF
	}
	return s.Reader.ReadAt(p, off)
}
