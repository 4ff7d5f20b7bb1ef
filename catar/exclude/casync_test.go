//go:build unix

package exclude_test

import (
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"caravel/catar/exclude"
	"caravel/internal/testtree"
)

// names are those in each directory of the tree; a slash makes it a directory.
var names = []string{
	"a", "b", "ab", "abc", "x.o", "x.c", "y.o", ".hidden", ".x.tmp", "x.tmp", "...", "..a", "README", "#hash", "!not", "[x]",
	"[", "]", "*", "?", "back\\slash", " lead", "trail ", "two words", "tab\there", "new\nline", "\r", "caf\xe9", "café", "日本",
	"\xff\xfe", "\x01", "-", "^", "z9", "Z", "sub/", "lib/", ".dot/", "d e/", "x.d/",
}

// leaf is how deep the tree is.
const leaf = 3

func buildTree(t *testing.T, dir string, depth int) (paths []string) {
	t.Helper()
	for _, name := range names {
		name, isDir := strings.CutSuffix(name, "/")
		path := filepath.Join(dir, name)
		paths = append(paths, name)
		var err error
		switch {
		case !isDir:
			err = os.WriteFile(path, nil, 0o644)
		case depth < leaf:
			err = os.Mkdir(path, 0o755)
		default:
			continue
		}
		if err != nil {
			t.Skipf("the file system does not take these names: %v", err)
		}
		if isDir {
			for _, p := range buildTree(t, path, depth+1) {
				paths = append(paths, name+"/"+p)
			}
		}
	}
	return paths
}

// wild is a rule of pieces that may be anything.
func wild(rng *rand.Rand) string {
	pieces := []string{
		"*", "*", "?", "[a-z]", "[!a-c]", "[^.]", "[]x]", "[[:alpha:]]", "[![:digit:]x]", "[[:upper:][:space:]]", "[[.a.]]",
		"[[=x=]]", "[[:foo:]]", "[\\]]", "[\x80-\xff]", "[", "]", "[a-", "\\", "\\*", "\\.", "!", "#", "/", "/", "//", ".", "..",
		"a", "b", "x", ".o", ".", "sub", "lib", "\xff", "\xe9", " ", "\r", "\v", "-", "^", "Z",
	}
	var b strings.Builder
	for range 1 + rng.IntN(5) {
		b.WriteString(pieces[rng.IntN(len(pieces))])
	}
	return b.String()
}

// walk lists what is left of a directory, as casync prints paths.
func walk(dir, prefix string, rules exclude.Rules, list []string) ([]string, error) {
	f, err := os.Open(filepath.Join(dir, exclude.Name))
	switch {
	case err == nil:
		defer f.Close()
		own, err := exclude.Read(f)
		if err != nil {
			return nil, err
		}
		rules = rules.With(own)
	case !os.IsNotExist(err):
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	for _, e := range entries {
		if rules.Excludes(e.Name(), e.IsDir()) {
			continue
		}
		list = append(list, escape(prefix+e.Name()))
		if e.IsDir() {
			if list, err = walk(filepath.Join(dir, e.Name()), prefix+e.Name()+"/", rules.Below(e.Name()), list); err != nil {
				return nil, err
			}
		}
	}
	return list, nil
}

func escape(path string) string {
	var b strings.Builder
	for _, c := range []byte(path) {
		if c <= ' ' || c >= 0x7f || c == '\\' || c == '#' {
			fmt.Fprintf(&b, "\\%03o", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// The judge: what casync lists of a tree with generated rules.
func TestRulesAsCasync(t *testing.T) {
	if _, err := exec.LookPath("casync"); err != nil {
		t.Skip("casync is not installed")
	}
	root := t.TempDir()
	paths := buildTree(t, root, 1)
	folders := []string{"", "sub", "lib/sub", ".dot", "x.d/d e", "sub/x.d"}
	cases, refused, excluded := 300, 0, 0
	for seed := range cases {
		rng := rand.New(rand.NewPCG(49, uint64(seed)))
		files := map[string]string{}
		for i, folder := range folders {
			if i > 0 && rng.IntN(3) > 0 {
				continue
			}
			below := paths
			if folder != "" {
				below = below[:len(names)*2]
			}
			text := string(testtree.Rules(rng, below))
			if rng.IntN(3) == 0 {
				text += "\n" + wild(rng) + "\n" + wild(rng)
			}
			file := filepath.Join(root, folder, exclude.Name)
			files[file] = text
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		out, failed := exec.Command("casync", "list", root).Output()
		got, err := walk(root, "", exclude.Rules{}, nil)
		switch {
		case failed != nil || err != nil:
			refused++
			if (failed == nil) != (err == nil) {
				t.Errorf("seed %d: error %v, casync's %v\n%q", seed, err, failed, files)
			}
		default:
			want := casyncPaths(string(out))
			if missing, more := without(want, got), without(got, want); len(missing)+len(more) > 0 {
				t.Errorf("seed %d: casync lists also %q, and not %q\n%q", seed, missing, more, files)
			}
			excluded += len(paths) + len(files) - len(got)
		}
		for file := range maps.Keys(files) {
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Logf("%d cases, %d refused by both, %d names left out", cases, refused, excluded)
	if refused < 5 || refused > cases/2 || excluded < 10*cases {
		t.Error("the cases do not show much")
	}
}

// casyncPaths are the paths in a listing: behind the mode, without the root.
func casyncPaths(list string) []string {
	var paths []string
	for line := range strings.Lines(list) {
		if _, path, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " "); path != "." {
			paths = append(paths, path)
		}
	}
	return paths
}

func without(a, b []string) []string {
	in := map[string]bool{}
	for _, s := range b {
		in[s] = true
	}
	return slices.DeleteFunc(slices.Clone(a), func(s string) bool { return in[s] })
}
