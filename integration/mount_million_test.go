//go:build linux

package integration

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"caravel/catar"
	"caravel/catar/tree"
	"caravel/chunker"
	"caravel/feature"
	"caravel/image"
	"caravel/store/open"
)

// syntheticTree makes the index of a tree of dirs directories with files small files
// each, with its sidecar and its store, without there ever being such a tree.
func syntheticTree(t *testing.T, dirs, files int) (index string) {
	t.Helper()
	dir := t.TempDir()
	index = filepath.Join(dir, "tree.caidx")
	s, err := open.Writer(filepath.Join(dir, "default.castr"), open.Options{})
	if err != nil {
		t.Fatal(err)
	}
	flags := flagsOf(t, nil)
	r, w := io.Pipe()
	skim := tree.NewSkimmer()
	go func() { w.CloseWithError(encodeTree(io.MultiWriter(w, skim), flags, dirs, files)) }()
	made, err := image.Make(t.Context(), r, s, image.MakeOptions{Params: chunker.DefaultParams(), Flags: flags})
	if err != nil {
		t.Fatal(err)
	}
	sidecar, err := skim.Sidecar(made.Index.Sum())
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, index+".tree", sidecar)
	f, err := os.Create(index)
	if err == nil {
		_, err = made.Index.WriteTo(f)
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return index
}

func encodeTree(w io.Writer, flags feature.Flags, dirs, files int) error {
	e, err := catar.NewEncoder(w, flags)
	dir, file := catar.Entry{Mode: catar.ModeDir | 0o755}, catar.Entry{Mode: catar.ModeRegular | 0o644}
	if err == nil {
		err = e.Begin("", &dir)
	}
	for i := 0; i < dirs && err == nil; i++ {
		dir.MTime = int64(i) * 1e9
		err = e.Begin(fmt.Sprintf("directory-%04d", i), &dir)
		for j := 0; j < files && err == nil; j++ {
			file.MTime, file.Size = int64(i*files+j)*1e9, int64(j%7)
			if err = e.Begin(fmt.Sprintf("some-file-%03d", j), &file); err == nil {
				_, err = e.Write([]byte("content")[:file.Size])
			}
		}
		if err == nil {
			err = e.End()
		}
	}
	if err == nil {
		err = e.End()
	}
	return err
}

// afterFind mounts an image, has find look at all of it, and returns how many entries
// it came to and the memory of the process that serves.
func afterFind(t *testing.T, index string) (entries int, bytes int64) {
	t.Helper()
	m, dir := mountedTree(t, "--memory=1M", index)
	entries = strings.Count(must(t, "find", dir, "-size", "-1000", "-printf", "."), ".")
	status := string(read(t, fmt.Sprintf("/proc/%d/status", m.cmd.Process.Pid)))
	_, rest, _ := strings.Cut(status, "VmRSS:")
	if _, err := fmt.Sscan(rest, &bytes); err != nil {
		t.Fatal(err)
	}
	return entries, bytes << 10
}

// TestMountMillion finds a million entries, which take at most 250 bytes of memory
// each.
func TestMountMillion(t *testing.T) {
	needFUSE(t)
	small, base := afterFind(t, syntheticTree(t, 1, 10))
	many, all := afterFind(t, syntheticTree(t, times(300, 1000), 1000))
	each := (all - base) / int64(many-small)
	t.Logf("%d entries: %d bytes an entry, above %d MB", many, each, base/1e6)
	if many != times(300, 1000)*1001+1 || each > 250 {
		t.Errorf("%d bytes for each of %d entries, want at most 250", each, many)
	}
}
