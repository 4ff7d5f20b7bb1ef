package integration

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"caravel/internal/testtree"
)

// TestTreesSameAsCasync packs generated trees with both programs: archives,
// indexes and digests are the same, so is what is printed of them, and each
// extracts what the other made. What fails names the seed of its tree.
func TestTreesSameAsCasync(t *testing.T) {
	need(t, "casync")
	const parts = 2 // at once
	recipes := treeRecipes(t, times(200, 2000))
	for part := range parts {
		t.Run(fmt.Sprintf("part %d", part), func(t *testing.T) {
			t.Parallel()
			for i := part; i < len(recipes); i += parts {
				recipes[i].compare(t)
			}
		})
	}
}

func (r treeRecipe) compare(t *testing.T) {
	dir, err := os.MkdirTemp("", "caravel-tree")
	if err != nil {
		t.Fatal(err)
	}
	defer discard(t, dir)
	p := &treePair{t: t, name: r.String(), dir: dir, src: filepath.Join(dir, "src")}
	if err := os.Mkdir(p.src, 0o755); err != nil {
		t.Fatal(err)
	}
	testtree.Generate(t, p.src, rand.New(rand.NewPCG(45, r.seed)), r.opt)
	digest, ok := p.made(append([]string{"--chunk-size=" + r.sizes}, r.args...)...)
	if !ok {
		return
	}
	r.reads(p, digest)
	if r.casyncExtracts() {
		p.restored(r.flags, p.casync, p.store("ours"), p.path("ours", pickKind(r.seed+1)))
	}
	p.restored(r.flags, p.ours, p.store("casync"), p.path("casync", pickKind(r.seed)))
}

func pickKind(i uint64) string { return []string{"catar", "caidx"}[i%2] }

// reads compares the commands that print something.
func (r treeRecipe) reads(p *treePair, digest string) {
	folder := append([]string{[]string{"mtree", "list"}[r.seed%2], p.src}, r.args...)
	p.same(folder...)
	for _, in := range []string{p.src, "catar", "caidx"} {
		args := append([]string{"digest", in}, r.args...)
		if in != p.src && !r.casyncReads() {
			continue
		}
		if got := p.same(args...); got != digest {
			p.errorf("%q: %q, make said %q", args, got, digest)
		}
	}
	if !r.casyncReads() {
		for _, verb := range []string{"list", "mtree", "stat", "digest"} {
			if ours := p.ours(verb, p.store("casync"), p.path("casync", "caidx")); ours.status != 0 || ours.stdout == "" {
				p.errorf("%s: status %d %s", verb, ours.status, ours.stderr)
			}
		}
		return
	}
	// casync names the digest of what it prints by its own option, not by the
	// archive's flags.
	var how []string
	for _, arg := range r.args {
		if strings.HasPrefix(arg, "--digest") {
			how = append(how, arg)
		}
	}
	list := p.same(append([]string{"list", pickKind(r.seed)}, how...)...)
	p.same(append([]string{"mtree", pickKind(r.seed + 1)}, how...)...)
	p.same(append([]string{"stat", pickKind(r.seed)}, how...)...)
	r.readsParts(p, strings.Split(strings.TrimSuffix(list, "\n"), "\n"), how)
}

// readsParts compares what is printed of some paths of a list: by every command
// in a long run, else by one for each path. Most of the time goes into starting
// programs.
func (r treeRecipe) readsParts(p *treePair, list, how []string) {
	rng := rand.New(rand.NewPCG(46, r.seed))
	verbs := []string{"stat", "list", "mtree", "digest"}
	for range 3 {
		mode, path, ok := strings.Cut(list[rng.IntN(len(list))], " ")
		if !ok || path == "." {
			continue
		}
		from, n := rng.IntN(len(verbs)), times(1, len(verbs))
		for i := range n {
			verb := verbs[(from+i)%len(verbs)]
			if verb == "digest" && mode[0] != 'd' && mode[0] != '-' {
				continue
			}
			p.same(append([]string{verb, pickKind(rng.Uint64()), unescape(path)}, how...)...)
		}
	}
}

// TestTreesNamesOnly: where casync packs what nobody can read, caravel says why
// not.
func TestTreesNamesOnly(t *testing.T) {
	needRoot(t)
	p := treeOf(t, testtree.Options{Nodes: 5})
	r := p.ours("make", "--with=user-names", p.path("ours", "catar"), p.src)
	if r.status != 1 || !strings.Contains(r.stderr, "--with=32bit-uids") {
		t.Errorf("status %d %s", r.status, r.stderr)
	}
	if left, err := filepath.Glob(p.path("ours", "catar") + "*"); err != nil || left != nil {
		t.Errorf("left behind: %q %v", left, err)
	}
}

// TestTreesWide packs folders of thousands of entries.
func TestTreesWide(t *testing.T) {
	need(t, "casync")
	p := treeOf(t, testtree.Options{Wide: 3000, Nodes: 10, MaxName: 237, Since1970: true, Exclude: true})
	digest, ok := p.made()
	if !ok {
		return
	}
	if list := p.same("list", "caidx"); strings.Count(list, "\n") < 3000 {
		t.Errorf("%d lines", strings.Count(list, "\n"))
	}
	if got := p.same("digest", "catar"); got != digest {
		t.Errorf("got %q, want %q", got, digest)
	}
	p.same("mtree", "catar")
	p.restored(flagsOf(t, nil), p.casync, p.store("ours"), p.path("ours", "caidx"))
	p.restored(flagsOf(t, nil), p.ours, p.store("casync"), p.path("casync", "caidx"))
}

// TestTreesDeep packs a path of 64 nodes, which is the format's limit, and
// refuses one of 65.
func TestTreesDeep(t *testing.T) {
	need(t, "casync")
	p := treeOf(t, testtree.Options{Deep: 64, Nodes: 5, MaxName: 60, Since1970: true})
	if _, ok := p.made(); ok {
		list := p.same("list", "caidx")
		deepest := 0
		for line := range strings.Lines(list) {
			deepest = max(deepest, strings.Count(line, "/")+2)
		}
		if deepest != 64 {
			t.Errorf("%d levels", deepest)
		}
		p.same("mtree", "catar")
		p.restored(flagsOf(t, nil), p.casync, p.store("ours"), p.path("ours", "catar"))
		p.restored(flagsOf(t, nil), p.ours, p.store("casync"), p.path("casync", "catar"))
	}

	p = treeOf(t, testtree.Options{Deep: 65, Nodes: 5, MaxName: 60, Since1970: true})
	for _, kind := range []string{"catar", "caidx"} {
		theirs := p.casync("make", p.store("casync"), p.path("casync", kind), p.src)
		ours := p.ours("make", p.store("ours"), p.path("ours", kind), p.src)
		if theirs.status == 0 || ours.status != 1 || !strings.Contains(ours.stderr, "64") {
			t.Errorf("65 levels, %s: casync %d, caravel %d %s", kind, theirs.status, ours.status, ours.stderr)
		}
		if left, err := filepath.Glob(p.path("ours", kind) + "*"); err != nil || left != nil {
			t.Errorf("%s: left behind: %q %v", kind, left, err)
		}
	}
}

// TestTreesMounts packs a tree with mounts in it: one of files, and one whose
// files the kernel makes up, which is packed without them.
func TestTreesMounts(t *testing.T) {
	need(t, "casync")
	needRoot(t)
	p := treeOf(t, testtree.Options{Nodes: 10, MaxName: 100})
	for _, kind := range []string{"tmpfs", "proc"} {
		at := filepath.Join(p.src, kind)
		if err := os.Mkdir(at, 0o755); err != nil {
			t.Fatal(err)
		}
		if r := run(t, "mount", "-t", kind, kind, at); r.status != 0 {
			t.Skipf("mount: %s", r.stderr)
		}
		t.Cleanup(func() { must(t, "umount", at) })
	}
	testtree.Generate(t, filepath.Join(p.src, "tmpfs"), rand.New(rand.NewPCG(47, 2)), testtree.Options{Nodes: 10, MaxName: 100})
	for _, how := range []string{"--exclude-submounts=yes", "--exclude-submounts=no"} {
		if _, ok := p.made(how); !ok {
			continue
		}
		list := p.same("list", "caidx")
		with, empty := strings.Contains(list, " tmpfs/"), !strings.Contains(list, " proc/")
		if with != strings.HasSuffix(how, "no") || !empty {
			t.Errorf("%s: %s", how, list)
		}
	}
}

// treeOf is a pair with one generated tree.
func treeOf(t *testing.T, opt testtree.Options) *treePair {
	t.Helper()
	p := &treePair{t: t, name: "tree", dir: t.TempDir()}
	p.src = filepath.Join(p.dir, "src")
	if err := os.Mkdir(p.src, 0o755); err != nil {
		t.Fatal(err)
	}
	testtree.Generate(t, p.src, rand.New(rand.NewPCG(47, 1)), opt)
	return p
}

// TestTreesGo packs the Go distribution that runs this test.
func TestTreesGo(t *testing.T) {
	t.Parallel()
	need(t, "casync")
	root := strings.TrimSpace(must(t, "go", "env", "GOROOT"))
	real, err := filepath.EvalSymlinks(root)
	if err != nil {
		t.Fatal(err)
	}
	wholeTree(t, real)
}

// TestTreesDebian packs a Debian system.
func TestTreesDebian(t *testing.T) {
	if !long() {
		t.Skip("only in a long run")
	}
	need(t, "casync", "debootstrap")
	needRoot(t)
	root := filepath.Join(t.TempDir(), "debian")
	if out, err := exec.Command("debootstrap", "--variant=minbase", "stable", root).CombinedOutput(); err != nil {
		t.Skipf("debootstrap: %v: %s", err, out[max(0, len(out)-300):])
	}
	wholeTree(t, root)
}

// wholeTree compares everything of a tree that people have.
func wholeTree(t *testing.T, src string) {
	p := &treePair{t: t, name: src, dir: t.TempDir(), src: src}
	digest, ok := p.made()
	if !ok {
		return
	}
	for _, in := range []string{src, "catar", "caidx"} {
		if got := p.same("digest", in); got != digest {
			t.Errorf("digest %s: %q, make said %q", in, got, digest)
		}
	}
	for _, kind := range []string{"catar", "caidx"} {
		p.same("list", kind)
		p.same("mtree", kind)
		p.same("stat", kind)
	}
	p.restored(flagsOf(t, nil), p.casync, p.store("ours"), p.path("ours", "caidx"))
	p.restored(flagsOf(t, nil), p.ours, p.store("casync"), p.path("casync", "caidx"))
}
