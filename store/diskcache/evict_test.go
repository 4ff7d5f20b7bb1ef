//go:build unix

package diskcache

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"caravel/chunker"
	"caravel/store"
)

func openSmall(t *testing.T, size int64) *Cache {
	t.Helper()
	c, err := Open(filepath.Join(t.TempDir(), "cache"), Options{Size: size})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// noise is bytes that differ for each i.
func noise(i, size int) []byte {
	var seed [32]byte
	binary.LittleEndian.PutUint64(seed[:], uint64(i))
	b := make([]byte, size)
	rand.NewChaCha8(seed).Read(b)
	return b
}

func keep(t *testing.T, c *Cache, plain []byte) name {
	t.Helper()
	id := chunker.SHA512_256.Sum(plain)
	chunk := store.NewChunk(id, chunker.SHA512_256, plain, nil)
	defer chunk.Release()
	if err := errors.Join(c.Put(t.Context(), chunk), c.Sync(t.Context())); err != nil {
		t.Fatal(err)
	}
	return slot{id: id}.name()
}

// old sets when a file was last used.
func old(t *testing.T, path string, age time.Duration) {
	t.Helper()
	then := time.Now().Add(-age)
	if err := os.Chtimes(path, then, then); err != nil {
		t.Fatal(err)
	}
}

func there(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// Taken is what all of a directory takes on disk. Files may go meanwhile.
func Taken(t *testing.T, dir string) (bytes int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		var st syscall.Stat_t
		if err == nil && syscall.Lstat(path, &st) == nil {
			bytes += st.Blocks * 512
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return bytes
}

// settled waits until the janitor has nothing more to do. It works beside the
// one of the cache, which may be slow.
func settled(t *testing.T, c *Cache) int64 {
	t.Helper()
	for {
		c.tidy()
		p := c.enter()
		u, ok := p.updateUsage(func(u usage, _ bool) usage { return u })
		c.leave(p)
		if ok && u.total <= c.high() {
			return Taken(t, c.path)
		}
	}
}

// Whatever the kind, what was used least lately goes first.
func TestEvictsByUse(t *testing.T) {
	c := openSmall(t, 4<<20)
	p := c.enter()
	defer c.leave(p)
	var paths []string // the oldest first
	for i := range 30 {
		age := time.Duration(100-i) * time.Hour
		content := noise(i, 50_000)
		var path string
		switch i % 3 {
		case 0:
			path = c.locate(keep(t, c, content))
		case 1:
			name := fmt.Sprintf("index/%d", i)
			if err := c.WriteFile(name, content); err != nil {
				t.Fatal(err)
			}
			path = filepath.Join(c.path, "files", name)
		case 2:
			path = c.Image(fmt.Sprintf("blob/%d", i))
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path+".map", content[:100], 0o600); err != nil {
				t.Fatal(err)
			}
			old(t, path+".map", 200*time.Hour) // goes with its file, not before
		}
		old(t, path, age)
		paths = append(paths, path)
	}
	s := c.survey(p)
	if got := Taken(t, c.path); s.bytes != got {
		t.Errorf("counted %d bytes, there are %d", s.bytes, got)
	}
	freed := c.evict(p, s, 400_000)
	if got := Taken(t, c.path); got != s.bytes-freed || freed < 400_000 {
		t.Errorf("freed %d bytes, %d of %d are left", freed, got, s.bytes)
	}
	gone := 0
	for i, path := range paths {
		if there(path) != there(path+".map") && i%3 == 2 {
			t.Errorf("%s: torn from its map", path)
		}
		if !there(path) {
			gone++
		}
		if i < 6 && there(path) || i >= 10 && !there(path) { // to a 64th of the age
			t.Errorf("number %d: there %v", i, there(path))
		}
	}
	if gone < 7 || gone > 9 { // some take more
		t.Errorf("%d files are gone, 8 would do", gone)
	}
}

// What was used in times to come was so by a wrong clock.
func TestFutureIsOldest(t *testing.T) {
	c := openSmall(t, 4<<20)
	p := c.enter()
	defer c.leave(p)
	var paths []string
	for i, age := range []time.Duration{time.Hour, -1000 * time.Hour, 0} {
		path := c.locate(keep(t, c, noise(i, 50_000)))
		old(t, path, age)
		paths = append(paths, path)
	}
	c.evict(p, c.survey(p), 50_000)
	if got := []bool{there(paths[0]), there(paths[1]), there(paths[2])}; !slices.Equal(got, []bool{true, false, true}) {
		t.Errorf("there are %v", got)
	}
}

func TestAges(t *testing.T) {
	s := survey{now: time.Now()}
	last := 0
	for d := time.Duration(1); d > 0; d += d/16 + 1 {
		age := s.age(s.now.Add(-d))
		if age < last || age >= len(s.ages) {
			t.Fatalf("%v: bucket %d after %d", d, age, last)
		}
		last = age
	}
	if last == len(s.ages)-1 {
		t.Error("the last bucket is for what is to come")
	}
	if s.age(time.Unix(0, 0)) >= len(s.ages) || s.age(time.Unix(1<<60, 0)) >= len(s.ages) {
		t.Error("bucket out of range")
	}
}

// Whatever comes, the directory stays within its budget, and is used.
func TestBudget(t *testing.T) {
	c := openSmall(t, 2<<20)
	for i := range 400 {
		keep(t, c, noise(i, 3000+i*50))
	}
	if got := settled(t, c); got > c.budget || got < c.budget/2 {
		t.Errorf("%d bytes on disk, the budget is %d", got, c.budget)
	}
	s := c.Stats()
	if s.Evicted == 0 || s.Kept != 400 || s.Failed != 0 || s.Bytes > s.Budget {
		t.Errorf("%+v", s)
	}
	if room := c.Room(); room != max(0, c.budget/2-s.Bytes) {
		t.Errorf("room for %d bytes: %+v", room, s)
	}
}

// A materialised file counts for what it takes, not for its length.
func TestSparseImage(t *testing.T) {
	c := openSmall(t, 4<<20)
	path := c.Image("blob/sparse")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(1 << 40); err != nil {
		t.Skipf("%s: no sparse files: %v", t.Name(), err)
	}
	c.Used("blob/sparse")
	before := c.Stats().Bytes
	if _, err := f.WriteAt(noise(1, 1<<20), 1<<39); err != nil {
		t.Fatal(err)
	}
	c.Used("blob/sparse")
	if grown := c.Stats().Bytes - before; grown < 1<<20 || grown > 1<<20+64<<10 {
		t.Errorf("grown by %d bytes, written 1 MiB", grown)
	}
	if got := settled(t, c); got < 1<<20 || !there(path) {
		t.Errorf("%d bytes on disk, image there: %v", got, there(path))
	}
	old(t, path, time.Hour)
	for i := range 100 { // evicts the image, which is the oldest
		keep(t, c, noise(i, 45_000))
	}
	settled(t, c)
	if there(path) {
		t.Error("not evicted")
	}
	if _, err := f.WriteAt([]byte("x"), 5); err != nil {
		t.Errorf("who has it open: %v", err)
	}
	c.Used("blob/sparse")
}

// A materialised file counts from its beginning, and while whoever fills it is
// at it.
func TestImageGrows(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c, err := Open(dir, Options{Size: 64 << 20})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for i, used := range []func(name string){c.Used, func(string) { time.Sleep(measureAge); synctest.Wait() }} {
			name := fmt.Sprint(i)
			if err := os.WriteFile(c.Image(name), noise(1, 2<<20), 0o600); err != nil {
				t.Fatal(err)
			}
			used(name)
			c.Image(name) // once more, while it is open
			if got, want := c.Stats().Bytes, int64(i+1)*2<<20; got < want || got > want+64<<10 {
				t.Errorf("%d bytes, want %d", got, want)
			}
		}
	})
}

// One that takes more than there is counts as well.
func TestImageBeyondBudget(t *testing.T) {
	c := openSmall(t, 4<<20)
	path := c.Image("large")
	if err := os.WriteFile(path, noise(1, 6<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	c.Used("large")
	if got := settled(t, c); got > 4<<20 || there(path) {
		t.Errorf("%d bytes on disk", got)
	}
}

// What a killed process left is removed; what others are at is not.
func TestSessions(t *testing.T) {
	c := openSmall(t, 4<<20)
	tmp := filepath.Join(c.path, "tmp")
	dead := filepath.Join(tmp, "DEAD")
	keep(t, c, noise(1, 10)) // makes the session
	if err := os.Mkdir(dead, 0o700); err != nil {
		t.Fatal(err)
	}
	p := c.enter()
	defer c.leave(p)
	living := filepath.Join(tmp, p.session.name, "1")
	for _, path := range []string{filepath.Join(dead, "1"), filepath.Join(dead, "2"), living, filepath.Join(tmp, "file")} {
		if err := os.WriteFile(path, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	other, err := Open(c.path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if there(dead) || there(filepath.Join(tmp, "file")) || !there(living) {
		t.Errorf("dead %v, file %v, living %v", there(dead), there(filepath.Join(tmp, "file")), there(living))
	}
	os.Remove(living)
	if err := other.Close(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) != 1 {
		t.Errorf("%d sessions, one is alive; error %v", len(left), err)
	}
}

func TestTogether(t *testing.T) {
	var got [][]string
	for group := range together([]string{"b.map", "a", "b", "c.map", "a.map", "b.x", "d.map.map", "d.map"}) {
		got = append(got, group)
	}
	want := [][]string{{"a", "a.map"}, {"b", "b.map", "b.x"}, {"c.map"}, {"d.map", "d.map.map"}}
	if !slices.EqualFunc(got, want, slices.Equal[[]string]) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Closing ends what the cache has started, and gives back its descriptors.
func TestCloseLeavesNothing(t *testing.T) {
	if _, err := os.Stat("/proc/self/fd"); err != nil {
		t.Skipf("%s: no /proc", t.Name())
	}
	descriptors := func() int {
		names, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(names)
	}
	dir := t.TempDir()
	before := descriptors()
	for range 3 {
		c, err := Open(dir, Options{})
		if err != nil {
			t.Fatal(err)
		}
		keep(t, c, noise(1, 5000))
		c.tidy()
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		if err := c.Put(t.Context(), store.NewChunk(chunker.SHA512_256.Sum(nil), chunker.SHA512_256, []byte{}, nil)); err != errClosed {
			t.Errorf("Put after Close: %v", err)
		}
		if _, err := c.Get(t.Context(), store.Want{}); err == nil {
			t.Error("Get after Close found something")
		}
		if err := c.WriteFile("late", nil); err == nil {
			t.Error("WriteFile after Close")
		}
	}
	if after := descriptors(); after != before {
		t.Errorf("%d descriptors, %d before", after, before)
	}
	if left, err := os.ReadDir(filepath.Join(dir, "tmp")); err != nil || len(left) != 0 {
		t.Errorf("%d sessions are left, error %v", len(left), err)
	}
}
