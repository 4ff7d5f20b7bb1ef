//go:build linux

package fusefs_test

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"caravel/catar/tree"
	"caravel/fusefs"
	"caravel/internal/testtree"
)

// A stored archive is a file.
type stored struct{ *os.File }

func (s stored) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	return s.File.ReadAt(p, off)
}

// mountedArchive shows the archive at path.
func mountedArchive(t testing.TB, path string) (*fusefs.Mount, *tree.Tree) {
	t.Helper()
	canMount(t)
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	tr, err := tree.Open(t.Context(), stored{f}, st.Size(), tree.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return mountedParts(t, tr, parts(stored{f}), fusefs.Options{}), tr
}

// TestTreeOfCasync shows what casync has made of trees with everything in them,
// and compares with these: by all that the system can tell, and by what casync
// says of the mount.
func TestTreeOfCasync(t *testing.T) {
	canMount(t)
	need(t, "casync")
	root := os.Geteuid() == 0
	all := testtree.Options{Root: root, ACLs: true, XAttrs: true, Chattr: true, Nodes: 60, Wide: 100}
	for i, with := range []string{"all", "fuse", "unix", "fat", "chattr"} {
		t.Run(with, func(t *testing.T) {
			dir := t.TempDir()
			source, archive := filepath.Join(dir, "source"), filepath.Join(dir, "x.catar")
			if err := os.Mkdir(source, 0o755); err != nil {
				t.Fatal(err)
			}
			opt := all
			opt.ShortIDs = with == "unix"
			opt.Since1970 = with == "unix" || with == "fat" // casync rounds older times wrongly
			testtree.Generate(t, source, rand.New(rand.NewPCG(5, uint64(i))), opt)
			run(t, "casync", "make", "--with="+with, archive, source)
			m, tr := mountedArchive(t, archive)
			for _, from := range []string{"from here", "from the kernel's memory"} {
				diff, err := testtree.Diff(source, m.Dir, tr.Flags())
				if err != nil {
					t.Fatal(err)
				}
				for _, line := range diff {
					t.Errorf("%s: %s", from, line)
				}
			}
			digest := func(dir string) string {
				return strings.TrimSpace(run(t, "casync", "digest", "--with="+with, dir))
			}
			if got, want := digest(m.Dir), digest(source); got != want {
				t.Errorf("casync: digest %s, want %s", got, want)
			}
		})
	}
}
