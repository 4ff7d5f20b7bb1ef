package main

import (
	"os"
	"path/filepath"
	"testing"
)

// TestNodeLinked takes links to whole devices for ours, and no others.
func TestNodeLinked(t *testing.T) {
	dir := t.TempDir()
	fromHere, err := filepath.Rel(dir, "/dev/nbd7")
	if err != nil {
		t.Fatal(err)
	}
	for to, want := range map[string]string{
		"/dev/nbd3":         "/dev/nbd3",
		"/dev/loop12":       "/dev/loop12",
		fromHere:            "/dev/nbd7",
		"/dev/nbd3p1":       "",
		"/dev/loop0p1":      "",
		"/dev/loop-control": "",
		"/dev/loop":         "",
		"/dev/nbd":          "",
		"/dev/sda":          "",
		"nbd3":              "",
		"/tmp/loop0":        "",
	} {
		n := deviceNode{link: filepath.Join(dir, "link")}
		if err := os.Symlink(to, n.link); err != nil {
			t.Fatal(err)
		}
		if got := n.linked(); got != want {
			t.Errorf("link to %s: device %q, want %q", to, got, want)
		}
		if err := n.free(); (err == nil) != (want != "") {
			t.Errorf("link to %s: free: %v", to, err)
		}
		if err := os.Remove(n.link); err != nil {
			t.Fatal(err)
		}
	}
}
