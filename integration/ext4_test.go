package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// ext4 makes an ext4 file system of mib MiB at path, with a folder in it.
func ext4(t *testing.T, path, folder string, mib int) {
	t.Helper()
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	need(t, "mkfs.ext4")
	must(t, "mkfs.ext4", "-q", "-F", "-d", folder, path, fmt.Sprintf("%dM", mib))
}

// goroot is a folder of real files that every machine of ours has.
func goroot(t *testing.T, name ...string) string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(append([]string{strings.TrimSpace(string(out))}, name...)...)
}

// TestDiskImage takes a real disk image through caravel and its peers, in every
// direction: 64 MiB, and 1 GiB in a long run.
func TestDiskImage(t *testing.T) {
	need(t, "casync")
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	if long() {
		ext4(t, path("disk.img"), goroot(t), 1024)
	} else {
		ext4(t, path("disk.img"), goroot(t, "src", "crypto"), 64)
	}
	theirs := must(t, "casync", "make", "--store="+path("theirs.castr"), path("theirs.caibx"), path("disk.img"))
	ours := must(t, caravel, "make", "--store="+path("ours.castr"), path("ours.caibx"), path("disk.img"))
	if ours != theirs {
		t.Errorf("digest %q, casync says %q", ours, theirs)
	}
	same(t, path("ours.caibx"), path("theirs.caibx"))
	must(t, caravel, "extract", "--store="+path("theirs.castr"), path("theirs.caibx"), path("a.img"))
	same(t, path("a.img"), path("disk.img"))
	must(t, "casync", "extract", "--store="+path("ours.castr"), path("ours.caibx"), path("b.img"))
	same(t, path("b.img"), path("disk.img"))
	if d := must(t, "casync", "digest", "--store="+path("ours.castr"), path("ours.caibx")); d != ours {
		t.Errorf("casync's digest of our index %q, want %q", d, ours)
	}
	if d := must(t, caravel, "digest", path("disk.img")); d != ours {
		t.Errorf("digest of the file %q, want %q", d, ours)
	}
	t.Run("desync", func(t *testing.T) {
		desync := desync(t)
		if err := os.Mkdir(path("third.castr"), 0o755); err != nil {
			t.Fatal(err)
		}
		// Its index may differ: it never cuts at exactly the minimum size.
		must(t, desync, "make", "-s", path("third.castr"), path("third.caibx"), path("disk.img"))
		must(t, caravel, "extract", "--store="+path("third.castr"), path("third.caibx"), path("c.img"))
		same(t, path("c.img"), path("disk.img"))
		must(t, desync, "extract", "-s", path("ours.castr"), path("ours.caibx"), path("d.img"))
		same(t, path("d.img"), path("disk.img"))
	})
}

// same compares two files without reading them whole.
func same(t *testing.T, got, want string) {
	t.Helper()
	if r := run(t, "cmp", got, want); r.status != 0 {
		t.Errorf("%s%s", r.stdout, r.stderr)
	}
}
