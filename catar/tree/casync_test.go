package tree_test

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

// casync's archives of the vectors, with the names in casync's list.
func TestCasyncList(t *testing.T) {
	for _, name := range []string{"tree.default.catar", "small.catar"} {
		likeList(t, filepath.Join("testdata", name))
	}
}

// casync's archives of generated trees, as casync and as the decoder see them.
func TestCasyncMake(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			dir := t.TempDir()
			src, file := filepath.Join(dir, "src"), filepath.Join(dir, "a.catar")
			if err := os.Mkdir(src, 0o755); err != nil {
				t.Fatal(err)
			}
			rng := rand.New(rand.NewPCG(seed, 4))
			testtree.Generate(t, src, rng, testtree.Options{
				Root: os.Geteuid() == 0, ACLs: true, XAttrs: true, Nodes: 40 << (seed % 4),
				Deep: 10 * int(seed), ShortIDs: true, Since1970: true,
			})
			casync(t, "make", "--with="+[]string{"best", "unix", "fuse"}[seed%3], file, src)
			likeList(t, file)
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			likeDecoder(t, b)
		})
	}
}

func casync(t *testing.T, args ...string) []byte {
	t.Helper()
	path, err := exec.LookPath("casync")
	if err != nil {
		t.Skip("casync is not installed")
	}
	out, err := exec.Command(path, args...).Output()
	if err != nil {
		t.Fatalf("casync %q: %v", args, err)
	}
	return out
}

// likeList compares the paths of a walk with casync's list.
func likeList(t *testing.T, file string) {
	t.Helper()
	var want []string
	for line := range strings.Lines(string(casync(t, "list", file))) {
		_, path, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		want = append(want, path)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	paths, err := everything(t.Context(), open(t, b))
	if err != nil || len(paths) != len(want) {
		t.Fatalf("%s: %d paths, casync has %d; %v", file, len(paths), len(want), err)
	}
	for i, p := range paths {
		if p == "" {
			p = "."
		}
		if escape(p) != want[i] {
			t.Errorf("%s: %q, casync has %q", file, escape(p), want[i])
		}
	}
}

// escape writes a path as casync prints it.
func escape(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if c <= ' ' || c >= 0x7f || c == '\\' || c == '#' {
			fmt.Fprintf(&b, "\\%03o", c)
			continue
		}
		b.WriteByte(c)
	}
	return b.String()
}
