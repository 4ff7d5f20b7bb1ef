//go:build linux

package integration

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestDiffTrees compares two versions of a tree, with their sidecars and without.
func TestDiffTrees(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	for _, sub := range []string{"v1/a", "v1/b"} {
		if err := os.MkdirAll(path(sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"f1", "f2", "f3", "f4"} {
		random(t, path("v1/a/"+name), 2000+len(name))
	}
	random(t, path("v1/big"), 400_000)
	must(t, "touch", "-d", "2020-01-01", path("v1/a/f1"), path("v1/a/f2"), path("v1/a/f3"), path("v1/a/f4"), path("v1/big"), path("v1/a"), path("v1/b"), path("v1"))
	must(t, "cp", "-a", path("v1"), path("v2"))
	big := read(t, path("v2/big"))
	big[200_000]++
	writeFile(t, path("v2/big"), big)
	writeFile(t, path("v2/a/f2"), bytes.Repeat([]byte("x"), 3000))
	writeFile(t, path("v2/b/new one"), []byte("new"))
	now := time.Now()
	if err := errors.Join(os.Chmod(path("v2/a/f3"), 0o600), os.Remove(path("v2/a/f4")), os.Chtimes(path("v2/a/f1"), now, now), os.Symlink("x", path("v2/link"))); err != nil {
		t.Fatal(err)
	}
	must(t, "touch", "-d", "2020-01-01", path("v2/a"), path("v2/b"), path("v2"), path("v2/big"))
	for _, v := range []string{"v1", "v2"} {
		must(t, caravel, "make", "--no-sync", "--without=privileged", "--chunk-size=4K", path(v+".caidx"), path(v))
	}
	// f1's neighbour has changed; the chunks of big tell although the time does not.
	want := []string{"~ a/f1: mtime, content?", "~ a/f2: mtime, size, content", "~ a/f3: mode", "- a/f4", `+ b/new\040one`, "~ big: content", "+ link"}
	for _, contents := range []string{"no", "yes"} {
		if contents == "yes" {
			want[0] = "~ a/f1: mtime"
		}
		got := strings.Split(must(t, caravel, "diff", "--contents="+contents, path("v1.caidx"), path("v2.caidx")), "\n")
		if !slices.Equal(got[:len(got)-2], want) || !strings.HasPrefix(got[len(got)-2], "To fetch: ") {
			t.Errorf("contents=%s:\n%s", contents, strings.Join(got, "\n"))
		}
		if err := errors.Join(os.RemoveAll(path("v1.caidx.tree")), os.RemoveAll(path("v2.caidx.tree"))); err != nil {
			t.Fatal(err)
		}
	}
	if r := run(t, caravel, "diff", "--exit-code", path("v1.caidx"), path("v2.caidx")); r.status != 1 || r.stderr != "" {
		t.Errorf("status %d, %s", r.status, r.stderr)
	}
	if got := must(t, caravel, "diff", "--exit-code", path("v1.caidx"), path("v1.caidx")); !strings.HasPrefix(got, "To fetch: 0 of ") {
		t.Errorf("of itself:\n%s", got)
	}
}

// TestDiffNames checks that JSON has the bytes of names that are no UTF-8, and a name
// for the root.
func TestDiffNames(t *testing.T) {
	dir := t.TempDir()
	var images []string
	for i, mode := range []os.FileMode{0o755, 0o700} {
		tree := filepath.Join(dir, string(rune('a'+i)))
		if err := os.Mkdir(tree, mode); err != nil {
			t.Fatal(err)
		}
		if i == 1 {
			writeFile(t, filepath.Join(tree, "b\xff"), nil)
		}
		must(t, "touch", "-d", "2020-01-01", tree)
		must(t, caravel, "make", "--no-sync", "--without=privileged", tree+".caidx", tree)
		images = append(images, tree+".caidx")
	}
	got := must(t, caravel, "diff", "--json", images[0], images[1])
	want := `[{"change":"changed","path":".","what":["mode"]},{"change":"added","path":"b�","path_bytes":"Yv8="}]`
	if !strings.Contains(got, want) {
		t.Errorf("%s\nwant %s", got, want)
	}
	if got := must(t, caravel, "diff", images[0], images[1]); !strings.HasPrefix(got, "~ .: mode\n+ b\\377\n") {
		t.Error(got)
	}
}

func TestDiffDisks(t *testing.T) {
	v1, v2 := twoDisks(t)
	var got struct {
		Kind    string
		Changes []struct {
			Change      string
			Start, Size int
		}
		Fetch, New struct{ Chunks, Bytes int }
	}
	if err := json.Unmarshal([]byte(must(t, caravel, "diff", "--json", v1.index, v2.index)), &got); err != nil {
		t.Fatal(err)
	}
	at := 0
	for i, c := range got.Changes {
		kinds := []string{"new", "moved"}
		if c.Start < at || c.Change != kinds[i%2] {
			t.Errorf("change %d is %+v", i, c)
		}
		at = c.Start + c.Size
	}
	if first := got.Changes[0].Start; got.Kind != "blob-index" || at != len(v2.data) || first > 700_000 || first < 600_000 || got.Fetch.Bytes == 0 || got.Fetch.Bytes > 100_000 || got.New.Bytes < 1_500_000 {
		t.Errorf("got %+v", got)
	}
	if got := must(t, caravel, "diff", v2.index, v1.index); !strings.Contains(got, "- 1500000 1000013\n") {
		t.Errorf("backwards:\n%s", got)
	}
	p := packTree(t, caravel, smallFiles(t))
	complaint(t, run(t, caravel, "diff", v1.index, p.index), "of a disk image and", "there is nothing to compare")
}
