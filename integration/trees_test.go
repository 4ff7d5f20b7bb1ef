package integration

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"caravel/feature"
	"caravel/internal/testtree"
)

// A treeRecipe is one generated tree and how it is packed.
type treeRecipe struct {
	seed  uint64
	args  []string      // of make, and of all that reads a folder
	flags feature.Flags // that these come to
	sizes string        // --chunk-size
	opt   testtree.Options
}

func (r treeRecipe) String() string {
	return fmt.Sprintf("tree %d (%s --chunk-size=%s)", r.seed, strings.Join(r.args, " "), r.sizes)
}

// Where casync falls behind its own format; docs/formats.md, sections 4.5, 4.6
// and 4.11.

// casyncReads is false for archives that it makes and does not read: times in
// microseconds it wants to be whole milliseconds.
func (r treeRecipe) casyncReads() bool { return r.flags&feature.MicroTime == 0 }

// casyncExtracts is false for names that its temporary names leave no room for,
// for times before 1970, on btrfs for compressed files in folders that turn
// copy-on-write off, and without root for read-only files: it cannot give them
// attributes, and takes the right to read them away with that to write.
func (r treeRecipe) casyncExtracts() bool {
	return r.casyncReads() && r.opt.MaxName <= 237 && r.opt.Since1970 && r.opt.WithCOW &&
		(os.Geteuid() == 0 || r.flags&(feature.XAttrs|feature.ReadOnly) == 0)
}

// treeRecipes generates n recipes: every feature alone and every feature left
// out, the groups both ways, then several at once; with each digest, cut in all
// ways, with everything that is excluded kept and the other way round.
func treeRecipes(t testing.TB, n int) []treeRecipe {
	variants := [][]string{nil, {"--without=all"}}
	for _, name := range feature.Names() {
		variants = append(variants, []string{"--with=" + name}, []string{"--without=" + name})
	}
	sizes := []string{"16K:64K:256K", "4K", "256", "48:192:768", "4096:4096:4096", "9000:10000:40000"}
	var list []treeRecipe
	for i := range n {
		rng := rand.New(rand.NewPCG(44, uint64(i)))
		r := treeRecipe{seed: uint64(i), sizes: sizes[i%len(sizes)]}
		if i < len(variants) {
			r.args = append(r.args, variants[i]...)
		} else {
			for range 1 + rng.IntN(4) {
				r.args = append(r.args, variants[rng.IntN(len(variants))]...)
			}
		}
		if i%5 == 4 {
			r.args = append(r.args, "--digest=sha256")
		}
		for _, arg := range []struct {
			text       string
			every, and int
		}{{"--exclude-nodump=no", 7, 3}, {"--exclude-file=no", 11, 5}, {"--exclude-submounts=yes", 13, 7}} {
			if i%arg.every == arg.and {
				r.args = append(r.args, arg.text)
			}
		}
		r.flags = flagsOf(t, r.args)
		r.opt = r.options(rng, i%3 == 2)
		list = append(list, r)
	}
	return list
}

// flagsOf is what make's arguments come to; docs/formats.md, section 4.3.
func flagsOf(t testing.TB, args []string) feature.Flags {
	t.Helper()
	var with, without feature.Flags
	making := feature.SHA512_256 | feature.ExcludeNoDump | feature.ExcludeFile
	for _, arg := range args {
		name, value, _ := strings.Cut(arg, "=")
		switch name {
		case "--with", "--without":
			f, err := feature.Parse(value)
			if err != nil {
				t.Fatal(err)
			}
			if name == "--with" {
				with |= f
			} else {
				without |= f
			}
		case "--digest":
			making &^= feature.SHA512_256
		case "--exclude-nodump":
			making &^= feature.ExcludeNoDump
		case "--exclude-file":
			making &^= feature.ExcludeFile
		case "--exclude-submounts":
			making |= feature.ExcludeSubmounts
		}
	}
	if with == 0 {
		with = feature.All
	}
	return (with&^without | making).Normal()
}

// options are those of a tree that the recipe's archive can say; a wild one
// holds also what casync packs and cannot extract.
func (r treeRecipe) options(rng *rand.Rand, wild bool) testtree.Options {
	opt := testtree.Options{
		Root: os.Geteuid() == 0, ACLs: true, XAttrs: true, Chattr: true,
		Nodes: 15 + rng.IntN(50), Bytes: 1 << (12 + rng.IntN(9)), MaxName: 237,
		// casync's binary honours the files even when it says that it does not.
		Exclude: r.flags&feature.ExcludeFile != 0,
		// 16 bits are all of an owner then.
		ShortIDs: r.flags&feature.UID16 != 0,
		// Root and the nameless are not to be told apart without their numbers:
		// casync makes archives that nobody can read, caravel none.
		Named: r.flags&(feature.UserNames|feature.UIDs) == feature.UserNames,
		// Before 1970 a coarser time is rounded to one of no use.
		Since1970: true,
		WithCOW:   true,
	}
	if r.sizes == "256" || r.sizes == "48:192:768" {
		// Thousands of chunks are enough: each is a file in two stores, and ext4
		// is slow at new files where many were removed a moment ago.
		opt.Bytes = min(opt.Bytes, 1<<14)
	}
	if wild {
		opt.MaxName, opt.WithCOW = 255, false
		opt.Since1970 = r.flags&feature.Times&^feature.NanoTime != 0
	}
	return opt
}

// A treePair compares the two programs on one tree.
type treePair struct {
	t    *testing.T
	name string // of the case, for what fails
	dir  string // work is done here
	src  string // the tree
}

func (p *treePair) errorf(format string, args ...any) {
	p.t.Helper()
	p.t.Errorf("%s: %s", p.name, fmt.Sprintf(format, args...))
}

// casync and ours run a program.
func (p *treePair) casync(args ...string) result { return run(p.t, "casync", args...) }

func (p *treePair) ours(args ...string) result {
	if args[0] == "make" || args[0] == "extract" {
		args = append(args, "--no-sync") // thousands of times
	}
	return run(p.t, caravel, args...)
}

// atOnce runs casync with the first arguments and ours with the others.
func (p *treePair) atOnce(a, b []string) (theirs, ours result) {
	var other sync.WaitGroup
	defer other.Wait() // also if ours ends the test
	other.Go(func() { theirs = p.casync(a...) })
	ours = p.ours(b...)
	other.Wait()
	return theirs, ours
}

// path is that of a file of casync's or of ours.
func (p *treePair) path(whose, kind string) string { return filepath.Join(p.dir, whose+"."+kind) }

func (p *treePair) store(whose string) string { return "--store=" + p.path(whose, "castr") }

// made makes an archive and its index with both programs and compares them,
// byte by byte. It returns the digest.
func (p *treePair) made(args ...string) (digest string, ok bool) {
	p.t.Helper()
	for _, kind := range []string{"catar", "caidx"} {
		theirs, ours := p.atOnce(
			append([]string{"make", p.store("casync"), p.path("casync", kind), p.src}, args...),
			append([]string{"make", p.store("ours"), p.path("ours", kind), p.src}, args...))
		if theirs.status != 0 || ours.status != 0 {
			p.errorf("make %s: casync %d %s, caravel %d %s", kind, theirs.status, theirs.stderr, ours.status, ours.stderr)
			return "", false
		}
		if ours.stdout != theirs.stdout || len(ours.stdout) != 65 {
			p.errorf("make %s: casync prints %q, caravel %q", kind, theirs.stdout, ours.stdout)
		}
		want, errA := os.ReadFile(p.path("casync", kind))
		got, errB := os.ReadFile(p.path("ours", kind))
		if errA != nil || errB != nil || len(got) == 0 {
			p.errorf("%s: %v %v", kind, errA, errB)
			return "", false
		}
		if !bytes.Equal(want, got) {
			at := 0
			for at < min(len(want), len(got)) && want[at] == got[at] {
				at++
			}
			p.errorf("%s: differs from byte %d on; casync has %d bytes, caravel %d", kind, at, len(want), len(got))
			return "", false
		}
		digest = ours.stdout
	}
	return digest, true
}

// same runs a reading command with both programs and compares what they print.
// Each reads its own files, which are the same. It returns casync's output.
func (p *treePair) same(args ...string) string {
	p.t.Helper()
	theirs, ours := p.both(args)
	want, got := theirs.stdout, ours.stdout
	if args[0] == "mtree" {
		want, got = noFlags(want), noFlags(got)
	}
	switch {
	case (theirs.status == 0) != (ours.status == 0):
		p.errorf("%q: casync %d %s, caravel %d %s", args, theirs.status, theirs.stderr, ours.status, ours.stderr)
	case want != got:
		p.errorf("%q: %s", args, firstDifference(want, got))
	}
	return theirs.stdout
}

func (p *treePair) both(args []string) (theirs, ours result) {
	a, b := []string{p.store("casync")}, []string{p.store("ours")}
	for _, arg := range args {
		switch arg {
		case "catar", "caidx":
			a, b = append(a, p.path("casync", arg)), append(b, p.path("ours", arg))
		default:
			a, b = append(a, arg), append(b, arg)
		}
	}
	return p.atOnce(a, b)
}

// strayFlags are those of nodes that have none; casync prints bits that nobody
// set.
var strayFlags = regexp.MustCompile(`(?m)^(\S+ type=(?:link|fifo|socket|char|block) .*?) flags=\S*`)

func noFlags(mtree string) string { return strayFlags.ReplaceAllString(mtree, "$1") }

// firstDifference is the first line in which two outputs differ.
func firstDifference(want, got string) string {
	a, b := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return fmt.Sprintf("line %d: casync prints %q, caravel %q", i+1, a[i], b[i])
		}
	}
	return fmt.Sprintf("casync prints %d lines, caravel %d", len(a), len(b))
}

// restored extracts with one of the programs and compares the tree with its
// source.
func (p *treePair) restored(f feature.Flags, who func(...string) result, args ...string) {
	p.t.Helper()
	out, err := os.MkdirTemp(p.dir, "out")
	if err != nil {
		p.t.Fatal(err)
	}
	defer discard(p.t, out)
	out = filepath.Join(out, "tree")
	args = append(args, out)
	if os.Geteuid() != 0 {
		args = append(args, "--without=privileged")
		f = (f.Wide()&^feature.Privileged&^feature.Times | f&feature.Times).Normal()
	}
	if r := who(append([]string{"extract"}, args...)...); r.status != 0 {
		p.errorf("extract %q: status %d %s", args, r.status, r.stderr)
		return
	}
	diff, err := testtree.Diff(p.src, out, f)
	if err != nil || diff != nil {
		p.errorf("extract %q: %v\n\t%s", args, err, strings.Join(diff, "\n\t"))
	}
}

// discard removes a tree, immutable files and all.
func discard(t *testing.T, dir string) {
	t.Helper()
	if err := testtree.Thaw(dir); err != nil && !os.IsNotExist(err) {
		t.Error(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Error(err)
	}
}

// unescape is the path that a listing means.
func unescape(path string) string {
	var b strings.Builder
	for i := 0; i < len(path); i++ {
		var c byte
		if n, err := fmt.Sscanf(path[i:min(i+4, len(path))], "\\%03o", &c); n == 1 && err == nil {
			b.WriteByte(c)
			i += 3
			continue
		}
		b.WriteByte(path[i])
	}
	return b.String()
}
