package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestCanWrite(t *testing.T) {
	dir := t.TempDir()
	old, shut := filepath.Join(dir, "old"), filepath.Join(dir, "shut")
	if err := os.WriteFile(old, []byte("as it was"), 0o400); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(shut, 0o500); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{"": true, old: true, filepath.Join(dir, "new"): true, os.DevNull: true, dir: false, filepath.Join(dir, "none", "x"): false, filepath.Join(old, "x"): false} {
		if err := canWrite(path); (err == nil) != want {
			t.Errorf("%s: %v", path, err)
		}
	}
	if os.Geteuid() > 0 { // root may write everywhere
		if canWrite(filepath.Join(shut, "x")) == nil {
			t.Error("a folder that cannot be written")
		}
	}
	left, err := os.ReadDir(dir)
	content, failed := os.ReadFile(old)
	if len(left) != 2 || err != nil || string(content) != "as it was" || failed != nil {
		t.Errorf("left is %v, %q; %v, %v", left, content, err, failed)
	}
}
