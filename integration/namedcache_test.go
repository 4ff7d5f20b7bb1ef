//go:build linux

package integration

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"caravel/internal/origin"
)

// TestNamedCacheKeepsAll: what passes whole is kept in the store of --cache, which
// never evicts, so that the second time no chunk is asked for; the cache on disk
// keeps none of it.
func TestNamedCacheKeepsAll(t *testing.T) {
	d := newDisk(t, 2<<20, "--chunk-size=16K")
	p := packTree(t, caravel, smallFiles(t), "--chunk-size=16K")
	disk, tree := serveDir(t, d.dir, origin.Options{}), serveDir(t, p.dir, origin.Options{})
	for _, tt := range []struct {
		name string
		from *origin.Origin
		args []string
		out  bool // it takes the name of what it writes
	}{
		{"cat", disk, []string{"cat", disk.URL() + "/disk.caibx"}, false},
		{"digest of a disk", disk, []string{"digest", disk.URL() + "/disk.caibx"}, false},
		{"extract a disk", disk, []string{"extract", disk.URL() + "/disk.caibx"}, true},
		{"extract a disk to standard output", disk, []string{"extract", disk.URL() + "/disk.caibx", "-"}, false},
		{"extract a tree", tree, []string{"extract", "--without=privileged", tree.URL() + "/tree.caidx"}, true},
		{"digest of a tree", tree, []string{"digest", tree.URL() + "/tree.caidx"}, false},
		{"mtree", tree, []string{"mtree", tree.URL() + "/tree.caidx"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var named, unnamed [2]int64 // chunks asked for
			dir := t.TempDir()
			for i := range 2 {
				for flag, asks := range map[string]*[2]int64{"-c": &named, "--cache-dir": &unnamed} {
					args := append([]string{tt.args[0], flag, filepath.Join(dir, flag)}, tt.args[1:]...)
					if tt.out {
						args = append(args, filepath.Join(t.TempDir(), "out"))
					}
					tt.from.Reset()
					must(t, caravel, args...)
					asks[i] = askedOnce(tt.from)
				}
			}
			if named[0] == 0 || named[1] != 0 {
				t.Errorf("with --cache %d chunks are asked for, then %d, want none the second time", named[0], named[1])
			}
			if unnamed[0] == 0 || unnamed[1] != unnamed[0] {
				t.Errorf("with the cache on disk %d chunks are asked for, then %d, want as many", unnamed[0], unnamed[1])
			}
		})
	}
	if got := must(t, caravel, "cat", "-c", t.TempDir(), disk.URL()+"/disk.caibx"); !bytes.Equal([]byte(got), d.data) {
		t.Error("cat prints something else")
	}
}

// TestNamedCacheRenews: a chunk that is read from the store of --cache gets the time
// of now, where that can be written; for those who tidy it up by that.
func TestNamedCacheRenews(t *testing.T) {
	d := newDisk(t, 1<<20, "--chunk-size=16K")
	o := serveDir(t, d.dir, origin.Options{})
	cache := d.path("cache.castr")
	args := []string{"cat", "-c", cache, o.URL() + "/disk.caibx"}
	must(t, caravel, args...)
	yesterday := time.Now().Add(-24 * time.Hour)
	files, err := filepath.Glob(cache + "/*/*.cacnk")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d chunks, %v", len(files), err)
	}
	old := func() (n int) {
		for _, f := range files {
			fi, err := os.Stat(f)
			if err != nil {
				t.Fatal(err)
			}
			if fi.ModTime().Sub(yesterday).Abs() < time.Hour {
				n++
			}
		}
		return n
	}
	for _, f := range files {
		if err := os.Chtimes(f, yesterday, yesterday); err != nil {
			t.Fatal(err)
		}
	}
	if err := chattr("+i", files...); err == nil { // takes root, and the file system
		got := run(t, caravel, args...)
		if err := chattr("-i", files...); err != nil {
			t.Fatal(err)
		}
		if got.status != 0 || got.stderr != "" || got.stdout != string(d.data) || old() != len(files) {
			t.Errorf("where no time can be written: status %d, %s; %d of %d chunks are old", got.status, got.stderr, old(), len(files))
		}
	}
	must(t, caravel, append([]string{args[0], "--length=1"}, args[1:]...)...)
	if n := old(); n != len(files)-1 {
		t.Errorf("after a byte was read %d of %d chunks are old", n, len(files))
	}
	must(t, caravel, args...)
	if n := old(); n != 0 {
		t.Errorf("after all was read %d of %d chunks are old", n, len(files))
	}
}
