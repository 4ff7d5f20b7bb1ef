//go:build linux

package integration

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"caravel/internal/origin"
)

// TestPrepare passes an image on by one digest, keeps it when its store is pruned, and
// does not take another image for it.
func TestPrepare(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	random(t, path("disk.img"), 1_000_000)
	here := func(c *exec.Cmd) { c.Dir = dir }
	fed := func(c *exec.Cmd) {
		c.Dir = dir
		c.Stdin, _ = os.Open(path("disk.img"))
	}
	digest := strings.TrimSpace(runWith(t, fed, caravel, "prepare", "--chunk-size=4K").stdout)
	var again struct {
		Digest         string
		Stored, Reused int
	}
	r := runWith(t, here, caravel, "prepare", "--chunk-size=4K", "--json", "disk.img")
	if err := json.Unmarshal([]byte(r.stdout), &again); err != nil || again.Digest != digest || again.Stored != 0 {
		t.Errorf("%q is not again: %s%s", digest, r.stdout, r.stderr)
	}
	far := serveDir(t, dir, origin.Options{})
	must(t, caravel, "pull", "-s", far.URL()+"/default.castr", "-o", path("copy.img"), digest)
	same(t, path("copy.img"), path("disk.img"))
	if r := runWith(t, here, caravel, "pull", digest); r.stdout != string(read(t, path("disk.img"))) {
		t.Errorf("status %d, %d bytes on standard output", r.status, len(r.stdout))
	}

	random(t, path("other.img"), 50_000)
	other := strings.TrimSpace(runWith(t, here, caravel, "prepare", "--chunk-size=4K", "other.img").stdout)
	if r := runWith(t, here, caravel, "gc", "--age=0", digest); r.status != 0 {
		t.Fatalf("status %d, %s", r.status, r.stderr)
	}
	must(t, caravel, "pull", "-s", path("default.castr"), "-o", path("copy.img"), digest)
	complaint(t, runWith(t, here, caravel, "pull", "-o", "none.img", other), other)
	absent(t, path("none.img"))
	complaint(t, runWith(t, here, caravel, "gc", "--age=0", other), "nothing is removed", other)

	// The root of one image in the place of another's is noticed.
	chunk := func(id string) string { return path("default.castr/" + id[:4] + "/" + id + ".cacnk") }
	must(t, "mkdir", "-p", filepath.Dir(chunk(other)))
	must(t, "cp", chunk(digest), chunk(other))
	complaint(t, runWith(t, here, caravel, "pull", "-o", "none.img", other), other)
	absent(t, path("none.img"))
}
