//go:build unix

package image_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"caravel/image"
)

// TestExtractFollowsLinksOfFolders has a link's .. lead out of where the link is, not out of
// the path by which somebody went there.
func TestExtractFollowsLinksOfFolders(t *testing.T) {
	data := content()
	s := newShelf()
	x := made(t, s, data).Index
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := os.MkdirAll(at("real/sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"a": "real/sub", "real/sub/link": "../x.img"} {
		if err := os.Symlink(to, at(name)); err != nil {
			t.Fatal(err)
		}
	}
	write([]byte("another one"), 0o600)(t, at("x.img"))
	for _, to := range []string{at("a/link"), dir + "/a/../y.img"} {
		if _, err := image.Extract(t.Context(), x, s, to, image.ExtractOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	same(t, at("real/x.img"), data)
	same(t, at("real/y.img"), data)
	same(t, at("x.img"), []byte("another one"))
}

// TestExtractRefusesAPlantedPart does not write into what somebody has put under the name that
// an unfinished file will have.
func TestExtractRefusesAPlantedPart(t *testing.T) {
	s := newShelf()
	x := made(t, s, content()).Index
	path := filepath.Join(t.TempDir(), "disk.img")
	if _, err := image.Extract(t.Context(), x, &shelf{plain: s.plain, failAfter: 120}, path, image.ExtractOptions{InFlight: 4}); err == nil {
		t.Fatal("the store did not fail")
	}
	part := filepath.Join(filepath.Dir(path), leftovers(t, path)[0])
	victim := filepath.Join(t.TempDir(), "victim")
	for name, plant := range map[string]func() error{
		"link":    func() error { return os.Link(victim, part) },
		"symlink": func() error { return os.Symlink(victim, part) },
	} {
		write([]byte("his"), 0o666)(t, victim)
		if err := os.Remove(part); err != nil {
			t.Fatal(err)
		}
		if err := plant(); err != nil {
			t.Skip(err) // another file system
		}
		_, err := image.Extract(t.Context(), x, s, path, image.ExtractOptions{})
		if err == nil || name == "link" && !strings.Contains(err.Error(), "remove it") {
			t.Errorf("%s: %v", name, err)
		}
		same(t, victim, []byte("his"))
	}
}
