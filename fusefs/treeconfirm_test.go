//go:build linux

package fusefs_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"sync/atomic"
	"syscall"
	"testing"

	"caravel/catar"
	"caravel/catar/tree"
	"caravel/fusefs"

	"golang.org/x/sys/unix"
)

// The bytes of a file and the word of the archive on it come in one round, once
// for whoever opens it; what passes on no bytes asks for no word.
func TestTreeConfirms(t *testing.T) {
	const size = 1<<20 - 1
	tr := newFakeTree(best)
	tr.file(tree.Root, "empty", 0)
	id := tr.file(tree.Root, "file", size)
	tr.add(tree.Root, "link", catar.Entry{Mode: unix.S_IFLNK | 0o777, Target: "file"})
	reading, confirming := make(chan int64, 100), make(chan int64, 100)
	var both atomic.Bool
	tr.before = func(_ context.Context, op string, of tree.ID, _ string) error {
		if op == "confirm" && !both.Load() {
			confirming <- int64(of)
			receive(t, "read", reading)
		}
		return nil
	}
	p := &pattern{size: tr.end, before: func(_ context.Context, off, n int64) error {
		if !both.Load() {
			reading <- off
			receive(t, "confirmed", confirming)
			both.Store(true)
		}
		return nil
	}}
	m := mountedParts(t, tr, parts(p), fusefs.Options{})
	if _, err := os.ReadFile(m.Dir + "/empty"); err != nil {
		t.Error(err)
	}
	if target, err := os.Readlink(m.Dir + "/link"); err != nil || target != "file" {
		t.Error(target, err)
	}
	if n := tr.count("confirm"); n != 0 {
		t.Errorf("confirmed %d times for no bytes", n)
	}
	off, _ := tr.Payload(id)
	f, err := os.Open(m.Dir + "/file")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	buf := make([]byte, 4096)
	for at := int64(0); at < size; at += 128 << 10 {
		if _, err := f.ReadAt(buf, at); err != nil || !bytes.Equal(buf, want(off+at, 4096)) {
			t.Errorf("at %d: %v", at, err)
		}
	}
	if n := tr.count("confirm"); n != 1 || p.reads.Load() < 5 {
		t.Errorf("confirmed %d times, want 1, for %d reads", n, p.reads.Load())
	}
}

// No byte is read of what the archive contradicts, and the log says so once; what
// cannot be confirmed for a moment is asked for again.
func TestTreeContradicted(t *testing.T) {
	tr := newFakeTree(best)
	bad := tr.file(tree.Root, "bad", 10_000)
	good := tr.file(tree.Root, "good", 10_000)
	var repaired atomic.Bool
	tr.before = func(_ context.Context, op string, id tree.ID, _ string) error {
		if op == "confirm" && id == bad && !repaired.Load() {
			return errors.New("tree: entry /bad: the sidecar says 0100755, the archive 0100644")
		}
		return nil
	}
	log := new(notes)
	m := mountedTree(t, tr, fusefs.Options{Log: log.logger()})
	for range 3 {
		if b, err := os.ReadFile(m.Dir + "/bad"); !errors.Is(err, syscall.EIO) || len(b) > 0 {
			t.Errorf("%d bytes, %v", len(b), err)
		}
	}
	off, _ := tr.Payload(good)
	if b, err := os.ReadFile(m.Dir + "/good"); err != nil || !bytes.Equal(b, want(off, 10_000)) {
		t.Errorf("the other: %d bytes, %v", len(b), err)
	}
	if log.count("level=WARN") != 1 || log.count("file=/bad") != 1 || log.count("the archive 0100644") != 1 {
		t.Errorf("log:\n%s", log)
	}
	repaired.Store(true)
	off, _ = tr.Payload(bad)
	if b, err := os.ReadFile(m.Dir + "/bad"); err != nil || !bytes.Equal(b, want(off, 10_000)) {
		t.Errorf("later: %d bytes, %v", len(b), err)
	}
}

// The word of a tree gives nobody rights: whatever it claims, no program changes
// its user, and no device is opened.
func TestTreeGivesNoRights(t *testing.T) {
	needRoot(t)
	tr := newFakeTree(best)
	tr.add(tree.Root, "null", catar.Entry{Mode: unix.S_IFCHR | 0o666, Major: 1, Minor: 3})
	tr.add(tree.Root, "suid", catar.Entry{Mode: unix.S_IFREG | 0o6755, Size: 10})
	m := mountedTree(t, tr, fusefs.Options{})
	var fs unix.Statfs_t
	if err := unix.Statfs(m.Dir, &fs); err != nil {
		t.Fatal(err)
	}
	const want = unix.ST_RDONLY | unix.ST_NOSUID | unix.ST_NODEV
	if fs.Flags&want != want {
		t.Errorf("mounted with flags %#x, want %#x", fs.Flags, want)
	}
	if f, err := os.Open(m.Dir + "/null"); !errors.Is(err, syscall.EACCES) {
		f.Close()
		t.Errorf("a device: %v, want EACCES", err)
	}
}
