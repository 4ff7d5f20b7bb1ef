package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// needFUSE skips a test where nothing can be mounted.
func needFUSE(t *testing.T) {
	t.Helper()
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no FUSE: %v", err)
	}
	f.Close()
}

// TestMountTree mounts a tree from wherever it may be, and has the mount be
// packed again.
func TestMountTree(t *testing.T) {
	needFUSE(t)
	s := newShop(t)
	for _, in := range []string{s.caidx, s.catar, s.src, s.url + "/tree.caidx", s.url + "/tree.catar", "-", "nothing but DIR"} {
		t.Run(filepath.Base(in), func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "mnt")
			cmd, stderr := child(t, "main", "mount", in, dir)
			if in == "nothing but DIR" {
				cmd, stderr = child(t, "main", "mount", dir)
			}
			if !filepath.IsAbs(in) && !strings.Contains(in, "://") {
				f, err := os.Open(s.catar)
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				cmd.Stdin = io.MultiReader(f) // through a pipe
			}
			stdout, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			line, err := firstLine(stdout)
			if err != nil || line != "Mounted: "+dir {
				t.Fatalf("%q, %v, %s", line, err, stderr)
			}
			sameTree(t, dir, s.src)
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Error(err)
			}
			if status := exitStatus(t, cmd.Wait()); status != exitDone {
				t.Errorf("exit status %d, %s", status, stderr)
			}
			if _, err := os.Stat(dir); !os.IsNotExist(err) {
				t.Errorf("the directory that mount made is still there: %v", err)
			}
		})
	}
}

// TestMountLooksFirst has a mount fail before anything is mounted.
func TestMountLooksFirst(t *testing.T) {
	s := newShop(t)
	s.write(t, "bad.catar", "no archive, though one might think so; it is long enough to have a header")
	s.write(t, "bad.caidx", "no index")
	for _, in := range []string{"bad.catar", "bad.caidx", "none.catar", "src/empty"} {
		dir := filepath.Join(t.TempDir(), "mnt")
		stdout, stderr, status := caravel(t, "mount", filepath.Join(s.dir, in), dir)
		if _, err := os.Stat(dir); status != exitFailed || stdout != "" || !strings.Contains(stderr, in) || !os.IsNotExist(err) {
			t.Errorf("%s: exit status %d, %s%s, %v", in, status, stdout, stderr, err)
		}
	}
}
