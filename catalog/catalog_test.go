package catalog_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"caravel/catalog"
	"caravel/chunker"
	"caravel/feature"
	"caravel/index"
	"caravel/internal/origin"
	"caravel/store"
	"caravel/store/diskcache"
)

// indexOf is an index of so many rows, and its file.
func indexOf(t *testing.T, rows, size int) (*index.Index, []byte) {
	t.Helper()
	b := index.NewBuilder(feature.Blob(chunker.SHA512_256), chunker.Params{Min: 1, Avg: 64, Max: 1 << 16})
	id := chunker.SHA512_256.Sum(fmt.Append(nil, rows, size))
	for range rows {
		if err := b.Append(id, size); err != nil {
			t.Fatal(err)
		}
	}
	x := b.Index()
	var file bytes.Buffer
	if _, err := x.WriteTo(&file); err != nil {
		t.Fatal(err)
	}
	return x, file.Bytes()
}

// A site is a folder, served.
type site struct {
	*origin.Origin
	dir string
}

func newSite(t *testing.T) *site {
	t.Helper()
	dir := t.TempDir()
	o, err := origin.Start(dir, origin.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.Close() })
	return &site{o, dir}
}

func (s *site) put(t *testing.T, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), content, 0o644); err != nil {
		t.Fatal(err)
	}
}

// asked is what was asked for since the last call.
func (s *site) asked() string {
	paths := slices.Sorted(maps.Keys(s.Counts().Paths))
	s.Reset()
	return strings.Join(paths, " ")
}

// diskAt is a way to open a cache.
func diskAt(t *testing.T, dir string) func() (*diskcache.Cache, error) {
	if runtime.GOOS == "windows" {
		t.Skip("no cache on disk there")
	}
	return func() (*diskcache.Cache, error) {
		c, err := diskcache.Open(dir, diskcache.Options{})
		if err == nil {
			t.Cleanup(func() { c.Close() })
		}
		return c, err
	}
}

// opened opens an image, reads its side files, closes it and tells what they
// hold.
func opened(t *testing.T, location string, opt catalog.Options) (x *index.Index, sides string) {
	t.Helper()
	img, err := catalog.Open(t.Context(), location, opt)
	if err != nil {
		t.Fatal(err)
	}
	for _, ending := range opt.Sides {
		b, err := img.Side(t.Context(), ending)
		if err != nil && !errors.Is(err, store.ErrMissing) {
			t.Error(err)
		}
		sides += string(b) + ";"
	}
	if err := img.Close(); err != nil {
		t.Error(err)
	}
	return img.Index, sides
}

func TestOpenLocal(t *testing.T) {
	s := newSite(t)
	want, file := indexOf(t, 3, 10)
	s.put(t, "a.caidx", file)
	s.put(t, "a.caidx.tree", []byte("names"))
	disk := func() (*diskcache.Cache, error) { t.Error("a cache is of no use"); return nil, nil }
	x, sides := opened(t, filepath.Join(s.dir, "a.caidx"), catalog.Options{Sides: []string{".tree", ".profile"}, Disk: disk, Offline: true})
	if x.Sum() != want.Sum() || sides != "names;;" {
		t.Errorf("%d rows, side files %q", x.Len(), sides)
	}
	opt := catalog.Options{Sides: []string{".tree"}}
	opt.Open.Stdin = bytes.NewReader(file)
	if x, sides := opened(t, "-", opt); x.Sum() != want.Sum() || sides != ";" {
		t.Errorf("standard input: %d rows, side files %q", x.Len(), sides)
	}
}

// TestOpenAgain follows a location through its life.
func TestOpenAgain(t *testing.T) {
	s, cache := newSite(t), t.TempDir()
	_, file := indexOf(t, 3, 10)
	s.put(t, "a.caidx", file)
	s.put(t, "a.caidx.tree", []byte("names"))
	opt := catalog.Options{Sides: []string{".tree"}, Disk: diskAt(t, cache)}
	both := opt
	both.Sides = []string{".tree", ".profile"}
	offline := both
	offline.Offline = true
	url := s.URL() + "/a.caidx?secret=1"
	step := func(what string, opt catalog.Options, rows int, sides, asked string) {
		t.Helper()
		x, got := opened(t, url, opt)
		if x.Len() != rows || got != sides {
			t.Errorf("%s: %d rows, side files %q; want %d, %q", what, x.Len(), got, rows, sides)
		}
		if got := s.asked(); got != asked {
			t.Errorf("%s: asked for %s, want %s", what, got, asked)
		}
	}
	step("first", opt, 3, "names;", "/a.caidx /a.caidx.tree")
	step("second", opt, 3, "names;", "/a.caidx")
	step("with another side file", both, 3, "names;;", "/a.caidx /a.caidx.profile")
	step("with none that is not known", both, 3, "names;;", "/a.caidx")
	step("offline", offline, 3, "names;;", "")

	_, file = indexOf(t, 4, 10)
	s.put(t, "a.caidx", file)
	s.put(t, "a.caidx.tree", []byte("other names"))
	s.put(t, "a.caidx.profile", []byte("touched"))
	step("another version", both, 4, "other names;touched;", "/a.caidx /a.caidx.profile /a.caidx.tree")
	step("offline after that", offline, 4, "other names;touched;", "")

	// What was lost is asked for again.
	lost, err := filepath.Glob(cache + "/files/side/*.tree")
	if err != nil || len(lost) != 1 {
		t.Fatalf("%v, %v", lost, err)
	}
	if err := os.Remove(lost[0]); err != nil {
		t.Fatal(err)
	}
	step("a side file is lost", both, 4, "other names;touched;", "/a.caidx /a.caidx.tree")
	if err := os.WriteFile(lost[0], []byte("somebody else's"), 0o600); err != nil {
		t.Fatal(err)
	}
	step("a side file is damaged", both, 4, "other names;touched;", "/a.caidx /a.caidx.tree")
	kept, err := filepath.Glob(cache + "/files/index/*")
	if err != nil || len(kept) != 2 {
		t.Fatalf("%v, %v", kept, err)
	}
	for _, path := range kept {
		if err := os.Truncate(path, 100); err != nil {
			t.Fatal(err)
		}
	}
	step("the index is damaged", both, 4, "other names;touched;", "/a.caidx /a.caidx.profile /a.caidx.tree")

	err = filepath.Walk(cache, func(path string, fi os.FileInfo, err error) error {
		if err != nil || fi.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if bytes.Contains(b, []byte("secret")) || strings.Contains(path, "secret") {
			t.Errorf("%s has the secret of the location", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestDropAndSupply(t *testing.T) {
	s := newSite(t)
	_, file := indexOf(t, 3, 10)
	s.put(t, "a.caidx", file)
	s.put(t, "a.caidx.tree", []byte("bad"))
	opt := catalog.Options{Sides: []string{".tree"}, Disk: diskAt(t, t.TempDir())}
	asks := true // the first one does, and what Close cancels may arrive after it
	change := func(do func(img *catalog.Image), late bool) {
		t.Helper()
		img, err := catalog.Open(t.Context(), s.URL()+"/a.caidx", opt)
		if err != nil {
			t.Fatal(err)
		}
		for asks && s.Counts().Paths["/a.caidx.tree"] == 0 {
			runtime.Gosched()
		}
		asks = false
		if !late {
			do(img)
		}
		if err := img.Close(); err != nil {
			t.Error(err)
		}
		if late {
			do(img)
		}
		s.asked()
	}
	for _, late := range []bool{false, true} {
		change(func(img *catalog.Image) { img.Drop(".tree") }, late)
		if _, sides := opened(t, s.URL()+"/a.caidx", opt); sides != ";" {
			t.Errorf("dropped (late: %v): %q", late, sides)
		}
		if asked := s.asked(); asked != "/a.caidx" {
			t.Errorf("dropped (late: %v): asked for %s", late, asked)
		}
		change(func(img *catalog.Image) { img.Supply(".tree", []byte("built")) }, late)
		if _, sides := opened(t, s.URL()+"/a.caidx", opt); sides != "built;" {
			t.Errorf("supplied (late: %v): %q", late, sides)
		}
		if asked := s.asked(); asked != "/a.caidx" {
			t.Errorf("supplied (late: %v): asked for %s", late, asked)
		}
	}
}

func TestPin(t *testing.T) {
	s := newSite(t)
	want, file := indexOf(t, 3, 10)
	s.put(t, "a.caibx", file)
	for _, d := range []chunker.Digest{chunker.SHA512_256, chunker.SHA256} {
		opt := catalog.Options{Pin: &catalog.Pin{Digest: d, ID: d.Sum(file)}, Partial: true, Disk: diskAt(t, t.TempDir())}
		for range 2 { // from the server, and from the cache
			if x, _ := opened(t, s.URL()+"/a.caibx", opt); x.Sum() != want.Sum() {
				t.Errorf("%v: %d rows", d, x.Len())
			}
		}
		opt.Pin.ID[0]++
		_, err := catalog.Open(t.Context(), s.URL()+"/a.caibx", opt)
		if err == nil || !strings.Contains(err.Error(), s.URL()+"/a.caibx: not the index asked for: its "+d.String()+" is ") {
			t.Errorf("%v: got %v", d, err)
		}
	}
}

// TestPartial begins with a part of a large index, and keeps nothing of it
// before all of it is here.
func TestPartial(t *testing.T) {
	s, cache := newSite(t), t.TempDir()
	want, file := indexOf(t, 120_000, 10)
	s.put(t, "a.caibx", file)
	opt := catalog.Options{Partial: true, Sides: []string{".profile"}, Disk: diskAt(t, cache)}
	open := func() *catalog.Image {
		t.Helper()
		img, err := catalog.Open(t.Context(), s.URL()+"/a.caibx", opt)
		if err != nil {
			t.Fatal(err)
		}
		return img
	}
	img := open()
	if row, err := img.Table.Seek(t.Context(), 600_005); img.Index != nil || row != 60_000 || err != nil {
		t.Errorf("row %d, %v; index %v", row, err, img.Index)
	}
	if n := s.Counts().Bytes; n > int64(len(file))/2 {
		t.Errorf("%d bytes of %d came", n, len(file))
	}
	if err := img.Close(); err != nil {
		t.Error(err)
	}
	if kept, err := filepath.Glob(cache + "/files/*/*"); err != nil || len(kept) > 0 {
		t.Errorf("kept is %v, %v", kept, err)
	}

	img = open()
	x, err := img.Fill(t.Context())
	if err != nil || x.Sum() != want.Sum() {
		t.Errorf("filled: %v", err)
	}
	if err := img.Close(); err != nil {
		t.Error(err)
	}
	s.asked()
	img = open()
	if img.Index == nil || img.Index.Sum() != want.Sum() {
		t.Error("it was not kept")
	}
	if err := img.Close(); err != nil {
		t.Error(err)
	}
	if c := s.Counts(); c.Bytes != 0 || c.Requests != 1 {
		t.Errorf("the third time: %+v", c)
	}
}

func TestOpenFails(t *testing.T) {
	s := newSite(t)
	s.put(t, "bad.caidx", []byte("no index"))
	bad := errors.New("no place")
	for location, tt := range map[string]struct {
		opt  catalog.Options
		want string
	}{
		s.URL() + "/bad.caidx":             {catalog.Options{}, s.URL() + "/bad.caidx: index: "},
		s.URL() + "/none.caidx":            {catalog.Options{}, "404 Not Found"},
		"http://u:secret@host/a.caidx":     {catalog.Options{Offline: true}, "http://host/a.caidx: not in the cache, and offline nobody is asked"},
		"http://u:secret@host/b.caidx":     {catalog.Options{Disk: func() (*diskcache.Cache, error) { return nil, bad }}, "no place"},
		"rsync://bucket/a.caidx":           {catalog.Options{}, "not supported"},
		filepath.Join(s.dir, "none.caidx"): {catalog.Options{Sides: []string{".tree"}}, "not there"},
	} {
		_, err := catalog.Open(t.Context(), location, tt.opt)
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: got %v, want %q in it", location, err, tt.want)
		}
	}
	_, err := catalog.Open(t.Context(), "http://host/a.caidx", catalog.Options{Offline: true})
	if !errors.Is(err, catalog.ErrOffline) || !store.Final(err) {
		t.Errorf("offline: %v", err)
	}
}

// TestSideFails: a server that does not give a side file does not keep the image
// from being opened, and is asked again.
func TestSideFails(t *testing.T) {
	dir := t.TempDir()
	_, file := indexOf(t, 3, 10)
	if err := os.WriteFile(filepath.Join(dir, "a.caidx"), file, 0o644); err != nil {
		t.Fatal(err)
	}
	status := 403
	o, err := origin.Start(dir, origin.Options{Faults: func(_ int64, path string) origin.Fault {
		if strings.HasSuffix(path, ".tree") {
			return origin.Fault{Kind: origin.Answer, Status: status}
		}
		return origin.Fault{}
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	opt := catalog.Options{Sides: []string{".tree"}, Disk: diskAt(t, t.TempDir())}
	if _, sides := opened(t, o.URL()+"/a.caidx", opt); sides != ";" { // some say so of what is not there
		t.Errorf("refused: %q", sides)
	}
	o.Reset()
	opened(t, o.URL()+"/a.caidx", opt)
	if n := o.Counts().Requests; n != 1 {
		t.Errorf("%d requests, want that for the index", n)
	}

	status = 503
	opt.Disk = diskAt(t, t.TempDir())
	for range 2 {
		o.Reset()
		img, err := catalog.Open(t.Context(), o.URL()+"/a.caidx", opt)
		if err != nil {
			t.Fatal(err)
		}
		for o.Counts().Paths["/a.caidx.tree"] == 0 {
			runtime.Gosched()
		}
		if err := img.Close(); err != nil { // does not wait for it
			t.Error(err)
		}
		if _, err := img.Side(t.Context(), ".tree"); err == nil || errors.Is(err, store.ErrMissing) {
			t.Errorf("unknown: %v", err)
		}
	}
}
