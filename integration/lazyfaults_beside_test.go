//go:build linux

package integration

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"caravel/internal/origin"
)

// faulty serves a folder, and has the requests for one file of it suffer a fault: the
// first one, or all.
func faulty(t *testing.T, dir, file string, f origin.Fault, always bool) (url string) {
	t.Helper()
	var asked atomic.Int64
	o := serveDir(t, dir, origin.Options{Faults: func(_ int64, path string) origin.Fault {
		if path == file && (asked.Add(1) == 1 || always) {
			return f
		}
		return origin.Fault{}
	}})
	return o.URL()
}

// mountedOrNot starts caravel mount for a tree, which may end with an error.
func mountedOrNot(t *testing.T, args ...string) (m *daemon, dir string, mounted bool) {
	t.Helper()
	needFUSE(t)
	dir = filepath.Join(t.TempDir(), "mnt")
	m = start(t, caravel, append(append([]string{"mount"}, args...), dir)...)
	unmountLater(t, dir)
	select {
	case line := <-m.lines:
		if !strings.HasPrefix(line, "Mounted: ") {
			t.Fatalf("says %q", line)
		}
		return m, dir, true
	case <-m.exited:
		return m, dir, false
	}
}

// readDir lists a folder that can be.
func readDir(t *testing.T, path string) []fs.DirEntry {
	t.Helper()
	all, err := os.ReadDir(path)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// entriesOf are the names and types in a listing.
func entriesOf(all []fs.DirEntry) (lines []string) {
	for _, e := range all {
		lines = append(lines, fs.FormatDirEntry(e))
	}
	return lines
}

// rightOrError reads all of a tree that is there: each listing and file is that of
// want, or an I/O error. It returns how many were.
func rightOrError(t *testing.T, got, want string) (bad int) {
	t.Helper()
	err := filepath.WalkDir(want, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		here := got + strings.TrimPrefix(path, want)
		switch {
		case e.IsDir():
			var names []fs.DirEntry
			if names, err = os.ReadDir(here); err == nil && !slices.Equal(entriesOf(names), entriesOf(readDir(t, path))) {
				t.Errorf("%s: %q, want %q", here, entriesOf(names), entriesOf(readDir(t, path)))
			}
		case e.Type().IsRegular():
			var b []byte
			if b, err = os.ReadFile(here); err == nil && !bytes.Equal(b, read(t, path)) {
				t.Errorf("%s: other bytes", here)
			}
		}
		if err != nil {
			bad++
		}
		if err != nil && !isEIO(err) {
			t.Errorf("%v, want an I/O error", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return bad
}

// TestFaultsBesideChunks has a byte of the index, the sidecar or the profile of a tree
// be wrong, or not come. What lies beside the index may do so at will. An index that
// is not the author's is refused, or what is read by it is right or an error; one
// that is asked for again comes.
func TestFaultsBesideChunks(t *testing.T) {
	p := packTree(t, caravel, func(dir string) { randomFiles(t, 4, 8, 9_000)(dir); random(t, dir+"/large", 1<<20) }, "--chunk-size=16K")
	url := serveDir(t, p.dir, origin.Options{}).URL() + "/tree.caidx"
	recorded := filepath.Join(t.TempDir(), "recorded")
	m, dir := mountedTree(t, "--record", recorded, url)
	same(t, dir+"/large", p.source+"/large")
	m.ends(syscall.SIGTERM, soon)
	must(t, "cp", recorded, p.index+".profile")

	for _, ending := range []string{"", ".tree", ".profile"} {
		size := int64(len(read(t, p.index+ending)))
		flips := []int64{0, 20, 60, size / 3, size/2 + 9, size - 50, size - 1}
		if ending == "" {
			flips = append(flips, 64+40*10, 65+40*10) // where a chunk ends
		}
		for _, at := range flips {
			t.Run(fmt.Sprintf("flip%s,%d", ending, at), func(t *testing.T) {
				t.Parallel()
				p.flipped(t, ending, at)
			})
		}
		for name, at := range map[string]int64{"at once": 0, "half way": size / 2, "ever": 0} {
			t.Run("hang"+ending+","+name, func(t *testing.T) {
				t.Parallel()
				p.hung(t, ending, at, name == "ever")
			})
		}
	}
}

// flipped mounts the tree while a byte of a file is wrong on its way, and again when
// it is not.
func (p packedTree) flipped(t *testing.T, ending string, at int64) {
	url := faulty(t, p.dir, "/tree.caidx"+ending, origin.Fault{Kind: origin.Flip, At: at}, false) + "/tree.caidx"
	args := []string{"--cache-dir", t.TempDir(), "--timeout=4s", url}
	m, dir, mounted := mountedOrNot(t, args...)
	if mounted {
		bad := rightOrError(t, dir, p.source)
		if ending != "" && bad > 0 {
			t.Errorf("%d files and folders are in error: %s", bad, m.stderr)
		}
		m.ends(syscall.SIGTERM, soon)
	} else if ending != "" || m.cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("not mounted, status %d: %s", m.cmd.ProcessState.ExitCode(), m.stderr)
	}
	said := m.stderr.String()
	if lines := strings.Count(said, "\n"); ending != "" && lines > 1 || strings.Contains(said, "goroutine") {
		t.Errorf("says %s", said)
	}

	m, dir, mounted = mountedOrNot(t, args...)
	if !mounted {
		t.Fatalf("the next time it is not mounted: %s", m.stderr)
	}
	if bad := rightOrError(t, dir, p.source); bad > 0 {
		t.Errorf("the next time %d files and folders are in error: %s", bad, m.stderr)
	}
	m.ends(syscall.SIGTERM, soon)
}

// hung mounts the tree while a file does not come, at first or ever.
func (p packedTree) hung(t *testing.T, ending string, at int64, always bool) {
	url := faulty(t, p.dir, "/tree.caidx"+ending, origin.Fault{Kind: origin.Hang, At: at}, always) + "/tree.caidx"
	m, dir, mounted := mountedOrNot(t, "--cache-dir", t.TempDir(), "--timeout=4s", url)
	if ending == "" && always {
		if said := m.stderr.String(); mounted || m.cmd.ProcessState.ExitCode() != 1 || !strings.Contains(said, "caravel: "+url) {
			t.Errorf("mounted: %v, says %s", mounted, said)
		}
		return
	}
	if !mounted {
		t.Fatalf("not mounted: %s", m.stderr)
	}
	if bad := rightOrError(t, dir, p.source); bad > 0 {
		t.Errorf("%d files and folders are in error: %s", bad, m.stderr)
	}
	m.ends(syscall.SIGTERM, soon)
}
