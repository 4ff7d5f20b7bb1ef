//go:build linux

package integration

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"caravel/catar/tree"
	"caravel/index"
	"caravel/internal/origin"
)

// sidecarOf is the sidecar of an archive, bound to whatever index.
func sidecarOf(t *testing.T, archive, indexFile string) []byte {
	t.Helper()
	b := read(t, indexFile)
	x, err := index.Read(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	s := tree.NewSkimmer()
	if _, err := s.Write(read(t, archive)); err != nil {
		t.Fatal(err)
	}
	file, err := s.Sidecar(x.Sum())
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// TestLyingSidecars are sound in themselves and belong to the index, but say of
// one entry what the archive does not. It is found out by those who act on it
// and by the background, said once, and the next run does without.
func TestLyingSidecars(t *testing.T) {
	needRoot(t)
	p := packTree(t, caravel, func(dir string) {
		smallFiles(t)(dir)
		for _, err := range []error{
			os.WriteFile(dir+"/tool", []byte("#!/bin/sh\n"), 0o755),
			os.Symlink("tool", dir+"/link"),
			unix.Mknod(dir+"/dev", unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))),
			os.WriteFile(dir+"/empty", nil, 0o644),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
	}, "--chunk-size=16K", "--without=user-names")
	truth := p.source
	for name, lie := range map[string]struct {
		entry string
		tell  func(path string) error
	}{
		"set-id": {"tool", func(path string) error { return os.Chmod(path, 0o755|os.ModeSetuid) }},
		"owner":  {"empty", func(path string) error { return os.Lchown(path, 1000, 0) }},
		"time":   {"empty", func(path string) error { return unix.Lutimes(path, []unix.Timeval{{Sec: 5}, {Sec: 5}}) }},
		"target": {"link", func(path string) error { return replaced(path, func() error { return os.Symlink("toll", path) }) }},
		"device": {"dev", func(path string) error {
			return replaced(path, func() error { return unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 5))) })
		}},
		"name": {"empty", func(path string) error { return os.Rename(path, path[:len(path)-1]+"i") }},
	} {
		t.Run(name, func(t *testing.T) {
			other := filepath.Join(t.TempDir(), "other")
			must(t, "cp", "-a", truth, other)
			for _, file := range []string{"tool", "empty", "dev", "link"} { // of the directory the same time
				if err := unix.Lutimes(filepath.Join(other, file), nil); err != nil {
					t.Fatal(err)
				}
				must(t, "touch", "-h", "-r", filepath.Join(truth, file), filepath.Join(other, file))
			}
			if err := lie.tell(filepath.Join(other, lie.entry)); err != nil {
				t.Fatal(err)
			}
			if name != "time" && name != "name" {
				must(t, "touch", "-h", "-r", filepath.Join(truth, lie.entry), filepath.Join(other, lie.entry))
			}
			must(t, "touch", "-r", truth, other)
			archive := filepath.Join(t.TempDir(), "other.catar")
			must(t, caravel, "make", "--without=user-names", archive, other)
			replace(t, p.index+".tree", sidecarOf(t, archive, p.index))
			o := serveDir(t, p.dir, origin.Options{})
			url, cache := o.URL()+"/tree.caidx", t.TempDir()

			// Who acts on the entry finds out, and does not act.
			out := filepath.Join(t.TempDir(), "out")
			shown := lie.entry
			if name == "name" {
				shown = "empti"
			}
			r := run(t, caravel, "extract", "--cache-dir=none", url, out, shown)
			if r.status == 0 || !strings.Contains(r.stderr, "sidecar") {
				t.Errorf("extract: status %d, %s", r.status, r.stderr)
			}
			absent(t, filepath.Join(out, shown))
			r = run(t, caravel, "stat", "--cache-dir=none", url, shown)
			if r.status == 0 || r.stdout != "" {
				t.Errorf("stat: status %d, %s%s", r.status, r.stdout, r.stderr)
			}

			if name == "target" || name == "set-id" {
				believed(t, url, lie.entry, filepath.Join(other, lie.entry))
			}

			// The background finds out, too.
			m, dir := mountedTree(t, "--cache-dir", cache, url)
			eventually(t, "it is said", func() bool { return strings.Contains(m.stderr.String(), "sidecar is not used") })
			if name != "name" { // which concerns all of its directory
				same(t, dir+"/dir03/file07", truth+"/dir03/file07")
			}
			m.ends(syscall.SIGTERM, soon)
			if n := strings.Count(m.stderr.String(), "sidecar is not used"); n != 1 {
				t.Errorf("said %d times: %s", n, m.stderr)
			}
			o.Reset()
			r = run(t, caravel, "list", "--cache-dir", cache, url)
			if want := must(t, caravel, "list", "--no-tree", p.index); r.stdout != want || r.stderr != "" {
				t.Errorf("the next run: status %d, %s\n%s", r.status, r.stderr, r.stdout)
			}
			if files, _ := asked(o); len(files) != 1 {
				t.Errorf("the next run asks for %v", files)
			}
		})
	}
}

// believed mounts without a background, where a sidecar's word is shown, as the
// documents say, until somebody opens the file.
func believed(t *testing.T, url, entry, told string) {
	t.Helper()
	m, dir := mountedTree(t, "--no-sweep", url)
	got, err := lookAt(filepath.Join(dir, entry))
	if want, told := lookAt(told); err != nil || told != nil || !got.same(want) {
		t.Errorf("without a background it shows %+v, %v, want %+v, %v", got, err, want, told)
	}
	if said := m.stderr.String(); said != "" {
		t.Errorf("without a background it says %s", said)
	}
	if got.mode.IsRegular() {
		if _, err := os.ReadFile(filepath.Join(dir, entry)); !isEIO(err) {
			t.Errorf("it is opened: %v, want an I/O error", err)
		}
	}
	m.ends(syscall.SIGTERM, soon)
}

// replaced puts something else in the place of a file.
func replaced(path string, make func() error) error {
	if err := os.Remove(path); err != nil {
		return err
	}
	return make()
}
