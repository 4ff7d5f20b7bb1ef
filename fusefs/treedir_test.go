//go:build linux

package fusefs_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"caravel/catar"
	"caravel/catar/tree"
	"caravel/fusefs"

	"golang.org/x/sys/unix"
)

// A dirent is what getdents tells of an entry.
type dirent struct {
	ino  uint64
	off  int64 // behind it
	kind byte
	name string
}

// getdents reads what fits in size bytes.
func getdents(t testing.TB, fd, size int) (all []dirent, err error) {
	t.Helper()
	buf := make([]byte, size)
	n, err := unix.Getdents(fd, buf)
	if err != nil {
		return nil, err
	}
	for b := buf[:n]; len(b) > 0; {
		length := binary.NativeEndian.Uint16(b[16:])
		name, _, _ := strings.Cut(string(b[19:length]), "\x00")
		all = append(all, dirent{binary.NativeEndian.Uint64(b), int64(binary.NativeEndian.Uint64(b[8:])), b[18], name})
		b = b[length:]
	}
	return all, nil
}

func openDir(t testing.TB, path string) int {
	t.Helper()
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// listed reads a directory from where fd stands, size bytes at a time.
func listed(t testing.TB, fd, size int) (all []dirent) {
	t.Helper()
	for {
		some, err := getdents(t, fd, size)
		if err != nil {
			t.Fatal(err)
		}
		if len(some) == 0 {
			return all
		}
		all = append(all, some...)
	}
}

func TestTreeListing(t *testing.T) {
	const n = 10_000
	tr := newFakeTree(best)
	dir := tr.dir(tree.Root, "dir")
	kinds := []uint32{unix.S_IFREG, unix.S_IFDIR, unix.S_IFLNK, unix.S_IFCHR, unix.S_IFIFO, unix.S_IFSOCK, unix.S_IFBLK}
	want := []dirent{{tr.Attr(dir).Ino, 1, unix.DT_DIR, "."}, {1, 2, unix.DT_DIR, ".."}}
	for i := range n {
		kind := kinds[i%len(kinds)]
		name := fmt.Sprintf("%05d%s", i, strings.Repeat("n", i%200))
		id := tr.add(dir, name, catar.Entry{Mode: kind | 0o644})
		want = append(want, dirent{tr.Attr(id).Ino, int64(i) + 3, byte(kind >> 12), name})
	}
	m := mountedTree(t, tr, fusefs.Options{})

	// In pieces, and here and there: from this process first, from the
	// kernel's memory later.
	fd := openDir(t, m.Dir+"/dir")
	for round := range 3 {
		for _, size := range []int{300, 4096, 1 << 20} {
			if _, err := unix.Seek(fd, 0, io.SeekStart); err != nil {
				t.Fatal(err)
			}
			if got := listed(t, fd, size); !slices.Equal(got, want) {
				t.Fatalf("round %d, %d bytes at a time: %d entries, want %d", round, size, len(got), len(want))
			}
		}
		for range 100 {
			i := rand.IntN(len(want) + 1)
			off := int64(0)
			if i > 0 {
				off = want[i-1].off
			}
			if _, err := unix.Seek(fd, off, io.SeekStart); err != nil {
				t.Fatal(err)
			}
			some, err := getdents(t, fd, 600)
			if err != nil || len(some) > len(want)-i || !slices.Equal(some, want[i:i+len(some)]) || len(some) == 0 && i < len(want) {
				t.Fatalf("round %d, from %d on: %v, %v", round, i, some, err)
			}
		}
	}
	if n := tr.count("lookup"); n != 1 {
		t.Errorf("%d lookups: the listing did not bring attributes", n)
	}
	if n := tr.count("children"); n > 3 {
		t.Errorf("children asked for %d times", n)
	}
}

// What cannot be listed is an error for who asks now, and not for who asks
// later.
func TestTreeListingFails(t *testing.T) {
	var good atomic.Bool
	tr := newFakeTree(best)
	dir := tr.dir(tree.Root, "dir")
	for _, name := range []string{"bad", "c", "d"} {
		tr.file(dir, name, 10)
	}
	tr.before = func(_ context.Context, op string, id tree.ID, name string) error {
		if !good.Load() && (op == "children" && id == dir || op == "lookup" && name == "bad") {
			return errors.New("chunk 1a2b: digest mismatch")
		}
		return nil
	}
	log := new(notes)
	m := mountedTree(t, tr, fusefs.Options{Log: log.logger()})
	for range 3 {
		if names, err := os.ReadDir(m.Dir + "/dir"); !errors.Is(err, syscall.EIO) {
			t.Errorf("%v, %v", names, err)
		}
		if _, err := os.Stat(m.Dir + "/dir/c"); err != nil {
			t.Errorf("beside the bad one: %v", err)
		}
		if _, err := os.Stat(m.Dir + "/dir/bad"); !errors.Is(err, syscall.EIO) {
			t.Errorf("bad: %v", err)
		}
	}
	if log.count("level=WARN") != 1 || log.count("entry=/dir err=\"chunk 1a2b: digest mismatch\"") != 1 {
		t.Errorf("log:\n%s", log)
	}
	good.Store(true)
	for range 3 {
		names, err := os.ReadDir(m.Dir + "/dir")
		if err != nil || len(names) != 3 || names[0].Name() != "bad" {
			t.Errorf("once repaired: %v, %v", names, err)
		}
	}
	if _, err := os.Stat(m.Dir + "/dir/bad"); err != nil {
		t.Errorf("once repaired: %v", err)
	}
}

// A listing that is given up half way leaves nothing that is wrong for the
// next.
func TestTreeListingGivenUp(t *testing.T) {
	tr := newFakeTree(best)
	for i := range 2000 {
		tr.file(tree.Root, fmt.Sprintf("%05d", i), 1)
	}
	m := mountedTree(t, tr, fusefs.Options{})
	for _, pieces := range []int{1, 7, 3, 30, 2} {
		fd := openDir(t, m.Dir)
		for range pieces {
			if _, err := getdents(t, fd, 400); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 2 {
		if all := listed(t, openDir(t, m.Dir), 4096); len(all) != 2002 || all[2001].name != "01999" {
			t.Errorf("%d entries", len(all))
		}
	}
}
