package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestMkdevIdentity is another one for each overlay, and none, of an image.
func TestMkdevIdentity(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for _, name := range []string{"one", "two"} {
		if err := os.WriteFile(name, []byte("the same"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("one", "link"); err != nil {
		t.Fatal(err)
	}
	identity := func(image, over string) string {
		t.Helper()
		id, err := mkdevOptions{overlay: overlayOptions{file: over}}.identity([]byte(image))
		if err != nil {
			t.Fatal(err)
		}
		if digits, ok := strings.CutPrefix(id, identityPrefix); !ok || strings.Trim(digits, "0123456789abcdef") != "" {
			t.Errorf("identity %q", id)
		}
		return id
	}
	one := identity("image", "one")
	for _, over := range []string{"./one", filepath.Join(dir, "one"), "link"} {
		if got := identity("image", over); got != one {
			t.Errorf("%s is another disk than one", over)
		}
	}
	all := map[string]string{}
	for what, id := range map[string]string{
		"one":           one,
		"two":           identity("image", "two"),
		"none":          identity("image", ""),
		"another image": identity("other", "one"),
	} {
		if all[id] != "" {
			t.Errorf("%s is the same disk as %s", what, all[id])
		}
		all[id] = what
	}
	// Begun anew it may well be given the inode of the one before.
	for range 5 {
		if err := os.Remove("one"); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile("one", []byte("the same"), 0o600); err != nil {
			t.Fatal(err)
		}
		now := identity("image", "one")
		if now == one {
			t.Error("another file in the place of the overlay is the same disk")
		}
		one = now
	}
	if _, err := (mkdevOptions{overlay: overlayOptions{file: "nope"}}).identity(nil); err == nil || !strings.Contains(err.Error(), "--overlay: ") {
		t.Errorf("no overlay: %v", err)
	}
}
