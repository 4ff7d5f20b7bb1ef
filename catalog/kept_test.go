package catalog_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"caravel/catalog"
	"caravel/chunker"
	"caravel/index"
	"caravel/store"
	"caravel/store/diskcache"
)

// A keptRecord is what a cache knows of the only location that is in it.
type keptRecord struct {
	disk *diskcache.Cache
	name string
}

func recordIn(t *testing.T, cache string) keptRecord {
	t.Helper()
	all, err := filepath.Glob(cache + "/files/location/*")
	if err != nil || len(all) != 1 {
		t.Fatalf("%v, %v", all, err)
	}
	disk, err := diskAt(t, cache)()
	if err != nil {
		t.Fatal(err)
	}
	return keptRecord{disk, "location/" + filepath.Base(all[0])}
}

// change edits the record as JSON.
func (r keptRecord) change(t *testing.T, do func(fields map[string]any)) {
	t.Helper()
	b, err := r.disk.ReadFile(r.name, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	fields := map[string]any{}
	if err := json.Unmarshal(b, &fields); err != nil {
		t.Fatal(err)
	}
	do(fields)
	if b, err = json.Marshal(fields); err != nil {
		t.Fatal(err)
	}
	if err := r.disk.WriteFile(r.name, b); err != nil {
		t.Fatal(err)
	}
}

// TestAbsentSide: that a side file is not there is believed for a day, whatever
// the clock was when it was looked for.
func TestAbsentSide(t *testing.T) {
	for name, tt := range map[string]struct {
		ago  time.Duration
		want string
	}{
		"lately":    {23 * time.Hour, "/a.caidx"},
		"a day ago": {25 * time.Hour, "/a.caidx /a.caidx.profile"},
		"soon":      {-time.Hour, "/a.caidx"},
		"in 2 days": {-48 * time.Hour, "/a.caidx /a.caidx.profile"},
	} {
		t.Run(name, func(t *testing.T) {
			s, cache := newSite(t), t.TempDir()
			_, file := indexOf(t, 3, 10)
			s.put(t, "a.caidx", file)
			s.put(t, "a.caidx.tree", []byte("names"))
			opt := catalog.Options{Sides: []string{".tree", ".profile"}, Disk: diskAt(t, cache)}
			opened(t, s.URL()+"/a.caidx", opt)
			s.asked()
			recordIn(t, cache).change(t, func(fields map[string]any) {
				fields["Absent"] = map[string]time.Time{".profile": time.Now().Add(-tt.ago)}
			})
			s.put(t, "a.caidx.profile", []byte("touched"))
			_, sides := opened(t, s.URL()+"/a.caidx", opt)
			if got := s.asked(); got != tt.want || strings.Contains(got, ".profile") != (sides == "names;touched;") {
				t.Errorf("asked for %s, want %s; side files %q", got, tt.want, sides)
			}
			if _, again := opened(t, s.URL()+"/a.caidx", opt); again != sides || s.asked() != "/a.caidx" {
				t.Errorf("after that: side files %q, not %q", again, sides)
			}
		})
	}
}

// TestIndexTouched: an index with another time and the same content is the same.
func TestIndexTouched(t *testing.T) {
	s := newSite(t)
	_, file := indexOf(t, 3, 10)
	s.put(t, "a.caidx", file)
	opt := catalog.Options{Sides: []string{".tree"}, Disk: diskAt(t, t.TempDir())}
	img, err := catalog.Open(t.Context(), s.URL()+"/a.caidx", opt)
	if err != nil {
		t.Fatal(err)
	}
	if err := img.Close(); err != nil {
		t.Error(err)
	}
	img.Supply(".tree", []byte("built"))
	img.Confirm(".tree")
	s.asked()
	for range 2 {
		then := time.Unix(1_000_000_000, 0)
		if err := os.Chtimes(filepath.Join(s.dir, "a.caidx"), then, then); err != nil {
			t.Fatal(err)
		}
		if _, sides := opened(t, s.URL()+"/a.caidx", opt); sides != "built;" || s.asked() != "/a.caidx" {
			t.Errorf("side files %q", sides)
		}
	}
	img, err = catalog.Open(t.Context(), s.URL()+"/a.caidx", opt)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	if !img.Confirmed(".tree") {
		t.Error("it was confirmed")
	}
}

// TestConfirm: what was confirmed counts for this index and this side file.
func TestConfirm(t *testing.T) {
	s, cache := newSite(t), t.TempDir()
	_, file := indexOf(t, 3, 10)
	s.put(t, "a.caidx", file)
	s.put(t, "a.caidx.tree", []byte("names"))
	opt := catalog.Options{Sides: []string{".tree", ".profile"}, Disk: diskAt(t, cache)}
	step := func(what, location string, opt catalog.Options, want bool, do func(img *catalog.Image)) {
		t.Helper()
		img, err := catalog.Open(t.Context(), location, opt)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := img.Side(t.Context(), ".tree"); err != nil {
			t.Error(err)
		}
		if got := img.Confirmed(".tree"); got != want {
			t.Errorf("%s: confirmed: %v, want %v", what, got, want)
		}
		do(img)
		if img.Confirmed(".profile") {
			t.Errorf("%s: nothing is confirmed of what is not there", what)
		}
		if err := img.Close(); err != nil {
			t.Error(err)
		}
	}
	confirm := func(img *catalog.Image) { img.Confirm(".tree"); img.Confirm(".profile") }
	look := func(*catalog.Image) {}
	url := s.URL() + "/a.caidx"
	offline := opt
	offline.Offline = true
	step("first", url, opt, false, confirm)
	step("second", url, opt, true, look)
	step("offline", url, offline, true, look)
	step("with another side file", url, opt, true, func(img *catalog.Image) { img.Supply(".tree", []byte("other names")) })
	step("after that", url, opt, false, confirm)
	step("confirmed again", url, opt, true, look)
	_, file = indexOf(t, 4, 10)
	s.put(t, "a.caidx", file)
	s.put(t, "a.caidx.tree", []byte("other names"))
	step("with another index", url, opt, false, look)

	here := filepath.Join(s.dir, "a.caidx")
	step("where nothing is kept", here, opt, false, confirm)
	step("where nothing was kept", here, opt, false, look)
}

// TestHostileRecord: whatever a record says, what is opened is what is there.
func TestHostileRecord(t *testing.T) {
	s, cache := newSite(t), t.TempDir()
	want, file := indexOf(t, 3, 10)
	s.put(t, "a.caidx", file)
	s.put(t, "a.caidx.tree", []byte("names"))
	opt := catalog.Options{Sides: []string{".tree", ".profile"}, Disk: diskAt(t, cache)}
	opened(t, s.URL()+"/a.caidx", opt)
	record := recordIn(t, cache)
	for name, spoil := range map[string]func(fields map[string]any){
		"index elsewhere":    func(f map[string]any) { f["Index"] = "../../" + record.name },
		"no index":           func(f map[string]any) { delete(f, "Index") },
		"another type":       func(f map[string]any) { f["Sides"] = 7 },
		"other side files":   func(f map[string]any) { f["Sides"] = map[string]string{".tree": strings.Repeat("0", 64), "/../x": ""} },
		"no side files":      func(f map[string]any) { f["Sides"] = nil },
		"there and not":      func(f map[string]any) { f["Absent"] = map[string]time.Time{".tree": time.Now()} },
		"confirmed: nothing": func(f map[string]any) { f["Confirmed"] = map[string]string{".tree": "", ".profile": ""} },
	} {
		record.change(t, spoil)
		x, sides := opened(t, s.URL()+"/a.caidx", opt)
		if x.Sum() != want.Sum() || sides != "names;;" {
			t.Errorf("%s: %d rows, side files %q", name, x.Len(), sides)
		}
	}
	if err := record.disk.WriteFile(record.name, []byte("{")); err != nil {
		t.Fatal(err)
	}
	if x, sides := opened(t, s.URL()+"/a.caidx", opt); x.Sum() != want.Sum() || sides != "names;;" {
		t.Errorf("no JSON: %d rows, side files %q", x.Len(), sides)
	}
}

// TestSharedCache has several who share a cache open an image that changes.
func TestSharedCache(t *testing.T) {
	s, cache := newSite(t), t.TempDir()
	var versions [2]*index.Index
	var files [2][]byte
	for i := range versions {
		versions[i], files[i] = indexOf(t, 3+i, 10)
	}
	publish := func(n int) { // as one who publishes does: a name at a time
		for _, name := range []string{"a.caidx.tree", "a.caidx"} {
			content := files[n%2]
			if err := os.WriteFile(filepath.Join(s.dir, "new"), content, 0o644); err != nil {
				t.Error(err)
			}
			if err := os.Rename(filepath.Join(s.dir, "new"), filepath.Join(s.dir, name)); err != nil {
				t.Error(err)
			}
		}
	}
	publish(0)
	open := func() *index.Index {
		opt := catalog.Options{Sides: []string{".tree"}, Disk: diskAt(t, cache)}
		img, err := catalog.Open(t.Context(), s.URL()+"/a.caidx", opt)
		if err != nil {
			t.Error(err)
			return versions[0]
		}
		defer img.Close()
		if b, err := img.Side(t.Context(), ".tree"); err != nil || string(b) != string(files[0]) && string(b) != string(files[1]) {
			t.Errorf("side file of %d bytes, %v", len(b), err)
		}
		img.Confirm(".tree")
		return img.Index
	}
	var busy sync.WaitGroup
	for range 4 {
		busy.Go(func() {
			for range 8 {
				if sum := open().Sum(); sum != versions[0].Sum() && sum != versions[1].Sum() {
					t.Errorf("index %x is none of the two", sum)
				}
			}
		})
	}
	for n := range 9 {
		publish(n)
	}
	busy.Wait()
	publish(1)
	if open().Sum() != versions[1].Sum() {
		t.Error("the last version is not the one that is opened")
	}
}

// TestDoubt: an index that is in doubt is read again the next time, although its server
// still has the version that is here.
func TestDoubt(t *testing.T) {
	s, opt := newSite(t), catalog.Options{Sides: []string{".tree"}, Disk: diskAt(t, t.TempDir())}
	want, file := indexOf(t, 3, 10)
	s.put(t, "a.caidx", file)
	open := func(when string, bytes int64, doubts ...bool) {
		t.Helper()
		s.Reset()
		img, err := catalog.Open(t.Context(), s.URL()+"/a.caidx", opt)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := img.Side(t.Context(), ".tree"); !errors.Is(err, store.ErrMissing) {
			t.Errorf("%s: side file: %v", when, err)
		}
		if got := s.Counts().Bytes; img.Index.Sum() != want.Sum() || got != bytes {
			t.Errorf("%s: %d bytes came, want %d", when, got, bytes)
		}
		var all sync.WaitGroup
		for range doubts {
			all.Go(img.Doubt)
		}
		all.Wait()
		if err := img.Close(); err != nil {
			t.Error(err)
		}
	}
	const notFound = int64(len("404 page not found\n")) // of the side file
	size := int64(len(file))
	open("at first", size+notFound)
	open("again", 0, true, true, true)
	open("in doubt", size)
	open("after that", 0)
	opt.Pin = &catalog.Pin{Digest: chunker.SHA256, ID: chunker.SHA256.Sum(file)}
	open("pinned", 0, true)
	open("pinned again", 0)
	opt.Pin = nil

	img, err := catalog.Open(t.Context(), filepath.Join(s.dir, "a.caidx"), opt)
	if err != nil {
		t.Fatal(err)
	}
	img.Doubt() // of a file on this machine nothing is kept
	if err := img.Close(); err != nil {
		t.Error(err)
	}
}
