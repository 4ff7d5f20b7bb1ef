//go:build linux

package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"caravel/feature"
	"caravel/internal/origin"
	"caravel/internal/testtree"
)

// A treeShop is a tree, its next version, and both as images in one store.
type treeShop struct {
	t   testing.TB
	dir string
	rng *rand.Rand
}

func newTreeShop(t testing.TB, seed uint64, opt testtree.Options) *treeShop {
	t.Helper()
	s := &treeShop{t: t, dir: t.TempDir(), rng: rand.New(rand.NewPCG(61, seed))}
	if err := os.Mkdir(s.at("v1"), 0o755); err != nil {
		t.Fatal(err)
	}
	testtree.Generate(t, s.at("v1"), s.rng, opt)
	t.Cleanup(func() { _ = testtree.Thaw(s.dir) })
	return s
}

func (s *treeShop) at(name string) string { return filepath.Join(s.dir, name) }

// make makes the image of a version.
func (s *treeShop) make(version string) {
	s.t.Helper()
	must(s.t, caravel, "make", "--no-sync", "--chunk-size=16K", s.at(version+".caidx"), s.at(version))
}

// edit makes the next version of a tree by a few changes of each kind.
func (s *treeShop) edit(from, to string, changes int) {
	s.t.Helper()
	must(s.t, "cp", "-a", s.at(from), s.at(to))
	var files []string
	err := filepath.WalkDir(s.at(to), func(path string, d fs.DirEntry, err error) error {
		if err == nil && path != s.at(to) && (d.Type().IsRegular() || d.IsDir()) {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	for i := range changes {
		if len(files) == 0 {
			break
		}
		path := files[s.rng.IntN(len(files))]
		st, err := os.Lstat(path)
		if err != nil {
			continue // it went with its folder
		}
		if err := s.change(path, st.IsDir(), i); err != nil {
			s.t.Fatal(err)
		}
	}
}

func (s *treeShop) change(path string, isDir bool, i int) error {
	fresh := filepath.Join(filepath.Dir(path), fmt.Sprintf("new-%d", i))
	b := make([]byte, s.rng.IntN(40_000))
	for i := range b {
		b[i] = byte(s.rng.Uint32())
	}
	switch kind := s.rng.IntN(8); {
	case kind == 0:
		return os.RemoveAll(path)
	case kind == 1:
		return os.Rename(path, fresh)
	case kind == 2:
		return os.WriteFile(fresh, b, 0o640)
	case kind == 3: // another type
		if err := os.RemoveAll(path); err != nil {
			return err
		}
		if isDir {
			return os.WriteFile(path, b, 0o600)
		}
		return os.Mkdir(path, 0o750)
	case kind == 4:
		return os.Chmod(path, 0o755-os.FileMode(s.rng.IntN(8)))
	case isDir:
		return os.Symlink("../"+fresh, fresh)
	}
	old, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	at := s.rng.IntN(len(old) + 1)
	return os.WriteFile(path, append(append(old[:at:at], b...), old[at:]...), 0o644)
}

// same fails the test if a tree is not what it was made of.
func (s *treeShop) same(version, out string, said ...string) {
	s.t.Helper()
	f := flagsOf(s.t, nil)
	if os.Geteuid() != 0 {
		f = (f &^ feature.Privileged).Normal()
	}
	diff, err := testtree.Diff(s.at(version), out, f)
	if err != nil || diff != nil {
		s.t.Errorf("%s %q: %v\n\t%s", version, said, err, strings.Join(diff, "\n\t"))
	}
}

// extract are arguments that everybody can extract with.
func (s *treeShop) extract(args ...string) []string {
	args = append([]string{"extract", "--no-sync", "--delete=yes"}, args...)
	if os.Geteuid() != 0 {
		args = append(args, "--without=privileged")
	}
	return args
}

// counted are requests for chunks.
func counted(o *origin.Origin) (n int64) {
	for path, times := range o.Counts().Paths {
		if strings.HasSuffix(path, ".cacnk") {
			n += times
		}
	}
	return n
}

// TestExtractTreeSeeds: what the target or a named seed holds is not fetched.
func TestExtractTreeSeeds(t *testing.T) {
	s := newTreeShop(t, 1, testtree.Options{Nodes: 150, Bytes: 4 << 20})
	s.edit("v1", "v2", 6)
	s.make("v1")
	s.make("v2")
	o := serveDir(t, s.dir, origin.Options{})
	fetched := func(version, out string, args ...string) int64 {
		t.Helper()
		o.Reset()
		must(t, caravel, s.extract(append(args, "--cache-dir=", o.URL()+"/"+version+".caidx", s.at(out))...)...)
		s.same(version, s.at(out), args...)
		return counted(o)
	}
	whole, next := fetched("v1", "out"), fetched("v2", "bare")
	if n := fetched("v1", "out"); n > whole/20 {
		t.Errorf("again: %d requests of %d", n, whole)
	}
	if n := fetched("v2", "seeded", "--seed="+s.at("v1")); n > next/3 {
		t.Errorf("with the former tree as seed: %d requests of %d", n, next)
	}
	update := fetched("v2", "out")
	if update > next/3 {
		t.Errorf("over the former: %d requests of %d", update, next)
	}
	must(t, caravel, s.extract("--cache-dir=", o.URL()+"/v1.caidx", s.at("other"))...)
	if n := fetched("v2", "other", "--seed-output=no"); n < next*9/10 {
		t.Errorf("without any seed: %d requests of %d", n, next)
	}
}

// TestExtractTreeKilled kills extract at any moment: no file has its name before it is right,
// nothing outside changes, the next run asks for no more than what is missing, and leaves
// nothing over.
func TestExtractTreeKilled(t *testing.T) {
	s := newTreeShop(t, 2, testtree.Options{Nodes: 80, Bytes: 1 << 20})
	random(t, filepath.Join(s.at("v1"), "long"), 9<<20)
	s.make("v1")
	// Slow enough that there is something to be killed.
	o := serveDir(t, s.dir, origin.Options{Bandwidth: 60 << 20})
	out := s.at("out/tree")
	args := s.extract("--cache-dir=", o.URL()+"/v1.caidx", out)
	fresh := func() {
		if err := os.RemoveAll(s.at("out")); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(s.at("out/beside/below"), 0o755); err != nil {
			t.Fatal(err)
		}
		random(t, s.at("out/beside/below/file"), 1000)
	}
	fresh()
	began := time.Now()
	must(t, caravel, args...)
	took, whole := time.Since(began), counted(o)

	killed, twice := 0, int64(0)
	for i := range times(20, 200) {
		fresh()
		around := must(t, caravel, "mtree", s.at("out/beside"))
		o.Reset()
		sig := []syscall.Signal{syscall.SIGKILL, syscall.SIGKILL, syscall.SIGINT}[i%3]
		e := interrupt(t, sig, after(time.Duration(rand.Int64N(int64(took)))), args...)
		if e.signal == syscall.SIGKILL || sig == syscall.SIGINT && e.status == 1 {
			killed++
		}
		if early := e.signal == syscall.SIGINT; sig == syscall.SIGINT && e.status != 0 && e.status != 1 && !early { // before it could listen
			t.Errorf("SIGINT: status %d, %s", e.status, e.stderr)
		}
		s.prefix(out)
		must(t, caravel, args...)
		s.same("v1", out)
		if n := counted(o); n > whole+whole/10+130 { // and those that were in flight
			t.Errorf("killed with %v: %d requests in both runs, %d in one", sig, n, whole)
		}
		twice += counted(o) - whole
		if now := must(t, caravel, "mtree", s.at("out/beside")); now != around {
			t.Errorf("beside the target: %s, was %s", now, around)
		}
	}
	if killed == 0 {
		t.Error("no run was ended in time")
	}
	t.Logf("%d ended; %d requests twice, of %d each", killed, twice, whole)
}

// prefix fails the test if a file below out has a name of the tree, and not its bytes.
func (s *treeShop) prefix(out string) {
	s.t.Helper()
	err := filepath.WalkDir(out, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || strings.HasPrefix(d.Name(), ".#caravel.") {
			if os.IsNotExist(err) {
				return nil
			}
			return err
		}
		rel, err := filepath.Rel(out, path)
		if err != nil {
			return err
		}
		if !bytes.Equal(read(s.t, filepath.Join(s.at("v1"), rel)), read(s.t, path)) {
			s.t.Errorf("%s: has its name and not its bytes", rel)
		}
		return nil
	})
	if err != nil {
		s.t.Error(err)
	}
}

// TestExtractTreeRandom: whatever was in the target, and whatever the flags, it is the tree in
// the end.
func TestExtractTreeRandom(t *testing.T) {
	for seed := range uint64(times(8, 200)) {
		opt := testtree.Options{Root: os.Geteuid() == 0, ACLs: true, XAttrs: true, Nodes: 60, Bytes: 1 << 20}
		s := newTreeShop(t, 100+seed, opt)
		s.edit("v1", "v2", 1+s.rng.IntN(20))
		s.make("v1")
		s.make("v2")
		out := s.at("out")
		prior := []string{"nothing", "v1", "v2", "edited"}[s.rng.IntN(4)]
		switch prior {
		case "v1", "v2":
			must(t, caravel, s.extract(s.at(prior+".caidx"), out)...)
		case "edited":
			s.edit("v1", "out", 20)
		}
		flags := []string{
			[]string{"--reflink=yes", "--reflink=no"}[s.rng.IntN(2)],
			[]string{"--hardlink=yes", "--hardlink=no"}[s.rng.IntN(2)],
			[]string{"--seed-output=yes", "--seed-output=no"}[s.rng.IntN(2)],
			[]string{"--punch-holes=yes", "--punch-holes=no"}[s.rng.IntN(2)],
		}
		if s.rng.IntN(2) == 0 {
			flags = append(flags, "--seed="+s.at("v1"))
		}
		from := s.at("v2.caidx")
		if s.rng.IntN(2) == 0 {
			from = serveDir(t, s.dir, origin.Options{}).URL() + "/v2.caidx"
			flags = append(flags, "--cache-dir=")
		}
		said := append([]string{fmt.Sprintf("tree %d, over %s", seed, prior)}, flags...)
		if r := run(t, caravel, s.extract(append(flags, from, out)...)...); r.status != 0 {
			t.Errorf("%q: status %d %s", said, r.status, r.stderr)
			continue
		}
		s.same("v2", out, said...)
	}
}

// TestExtractTreeLinks: equal files become one on request, and casync makes the same tree.
func TestExtractTreeLinks(t *testing.T) {
	s := newTreeShop(t, 3, testtree.Options{Nodes: 20})
	random(t, filepath.Join(s.at("v1"), "a"), 100_000)
	must(t, "cp", "-a", filepath.Join(s.at("v1"), "a"), filepath.Join(s.at("v1"), "b"))
	s.make("v1")
	var got struct{ Linked int64 }
	text := must(t, caravel, s.extract("--json", "--hardlink", s.at("v1.caidx"), s.at("out"))...)
	if err := json.Unmarshal([]byte(text), &got); err != nil || got.Linked == 0 {
		t.Errorf("%s: %v", text, err)
	}
	s.same("v1", s.at("out"))
	var a, b unix.Stat_t
	if err := unix.Stat(s.at("out/a"), &a); err != nil {
		t.Fatal(err)
	}
	if err := unix.Stat(s.at("out/b"), &b); err != nil || a.Ino != b.Ino {
		t.Errorf("two files: %v", err)
	}
}

// TestExtractTreeShift: owners are moved as casync moves them.
func TestExtractTreeShift(t *testing.T) {
	needRoot(t)
	need(t, "casync")
	s := newTreeShop(t, 4, testtree.Options{Root: true, Nodes: 40, MaxName: 200, Since1970: true})
	s.make("v1")
	for _, how := range [][]string{{"--uid-shift=100000"}, {"--uid-shift=yes"}, {"--uid-shift=7", "--uid-range=1000"}, {"--uid-range=300"}} {
		theirs, ours := s.at("theirs"), s.at("ours")
		// casync does not move those whose names are known here, by which in a container
		// files would be somebody's outside of it.
		how = append(how, "--without=user-names")
		must(t, "casync", append(how, "extract", s.at("v1.caidx"), theirs)...)
		must(t, caravel, s.extract(append(how, s.at("v1.caidx"), ours)...)...)
		diff, err := testtree.Diff(theirs, ours, flagsOf(t, nil))
		if err != nil || diff != nil {
			t.Errorf("%q: %v\n\t%s", how, err, strings.Join(diff, "\n\t"))
		}
		for _, out := range []string{theirs, ours} {
			if err := os.RemoveAll(out); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestExtractTreeFull: a disk without room is an error, and every file on it that has its
// name is right. With room the next run ends as if nothing had been.
func TestExtractTreeFull(t *testing.T) {
	needRoot(t)
	s := newTreeShop(t, 5, testtree.Options{Nodes: 150, Bytes: 4 << 20})
	random(t, filepath.Join(s.at("v1"), "long"), 9<<20)
	s.make("v1")
	small := s.at("small")
	if err := os.Mkdir(small, 0o755); err != nil {
		t.Fatal(err)
	}
	if r := run(t, "mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", small); r.status != 0 {
		t.Skipf("mount: %s", r.stderr)
	}
	t.Cleanup(func() { must(t, "umount", small) })
	for range times(6, 60) {
		must(t, "mount", "-o", fmt.Sprintf("remount,size=%dk", 100+s.rng.IntN(12<<10)), small)
		args := s.extract(s.at("v1.caidx"), small+"/tree")
		r := run(t, caravel, args...)
		complaint(t, r, "no space left on device")
		s.prefix(small + "/tree")
		must(t, "mount", "-o", "remount,size=64m", small)
		must(t, caravel, args...)
		s.same("v1", small+"/tree")
		if err := os.RemoveAll(small + "/tree"); err != nil {
			t.Fatal(err)
		}
	}
}

// TestExtractTreePlan: a dry run says what extract then does, and does nothing.
func TestExtractTreePlan(t *testing.T) {
	s := newTreeShop(t, 6, testtree.Options{Nodes: 60, Bytes: 1 << 20})
	s.edit("v1", "v2", 10)
	s.make("v1")
	s.make("v2")
	o := serveDir(t, s.dir, origin.Options{})
	must(t, caravel, s.extract(s.at("v1.caidx"), s.at("out"))...)
	before := must(t, caravel, "mtree", s.at("out"))
	args := s.extract("--cache-dir=", o.URL()+"/v2.caidx", s.at("out"))
	text := must(t, caravel, append(args, "--dry-run", "--json")...)
	if now := must(t, caravel, "mtree", s.at("out")); now != before {
		t.Errorf("the dry run has changed %s to %s", before, now)
	}
	var planned struct {
		Create, Replace, Keep, Remove, Extra int64
		Fetched                              struct{ Chunks, Bytes int64 }
	}
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &planned); err != nil {
		t.Fatal(err)
	}
	if n := planned.Create + planned.Replace + planned.Remove; n == 0 || int64(len(lines)) != n+1 || planned.Extra != 0 {
		t.Errorf("%+v, %d lines", planned, len(lines))
	}
	o.Reset()
	var got struct{ Entries, Deleted, Kept int64 }
	if err := json.Unmarshal([]byte(must(t, caravel, append(args, "--json")...)), &got); err != nil {
		t.Fatal(err)
	}
	if got.Entries != planned.Create+planned.Replace+planned.Keep || got.Deleted != planned.Remove || got.Kept > planned.Keep {
		t.Errorf("planned %+v, done %+v", planned, got)
	}
	if n := counted(o); n < planned.Fetched.Chunks || n > planned.Fetched.Chunks*2+20 {
		t.Errorf("%d requests, planned %d", n, planned.Fetched.Chunks)
	}
	s.same("v2", s.at("out"))
	text = must(t, caravel, append(args, "--dry-run")...)
	if !strings.HasPrefix(text, "0 to create, 0 to replace, 0 to remove, ") {
		t.Errorf("over itself: %s", text)
	}
}
