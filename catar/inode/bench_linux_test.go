package inode_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"caravel/catar/inode"
	"caravel/feature"
)

// BenchmarkEntry reads a plain file with everything that casync keeps.
func BenchmarkEntry(b *testing.B) {
	path := filepath.Join(b.TempDir(), "x")
	content(b, path, 1)
	fd, st := open(b, path)
	r := inode.NewReader(all)
	b.ReportAllocs()
	for b.Loop() {
		e, err := r.Entry(fd, &st)
		if err != nil || e.Size != 1 {
			b.Fatal(e, err)
		}
	}
}

// BenchmarkSet sets all of a new file: owner, mode, time.
func BenchmarkSet(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("not root")
	}
	path := filepath.Join(b.TempDir(), "x")
	content(b, path, 1)
	e := read(b, path, all)
	e.Mode = unix.S_IFREG | 0o644
	s := inode.NewSetter(all)
	fd, _ := open(b, path)
	b.ReportAllocs()
	for b.Loop() {
		e.MTime++ // or there would be nothing to do
		if err := s.Set(fd, e); err != nil {
			b.Fatal(err)
		}
	}
}

// Example copies the metadata of one file to another one.
func Example() {
	if err := example(); err != nil {
		fmt.Println(err)
	}
	// Output: 0640, changed in 2001
}

func example() error {
	dir, err := os.MkdirTemp("", "inode")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	from, err := os.OpenFile(filepath.Join(dir, "from"), os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.Create(filepath.Join(dir, "to"))
	if err != nil {
		return err
	}
	defer to.Close()

	var st unix.Statx_t
	if err := unix.Statx(int(from.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_BASIC_STATS, &st); err != nil {
		return err
	}
	flags := feature.All.Normal()
	entry, err := inode.NewReader(flags).Entry(int(from.Fd()), &st)
	if err != nil {
		return err
	}
	entry.MTime = 1e18 // nanoseconds
	if err := inode.NewSetter(flags).Set(int(to.Fd()), entry); err != nil {
		return err
	}
	info, err := to.Stat()
	if err != nil {
		return err
	}
	fmt.Printf("%04o, changed in %d\n", info.Mode(), info.ModTime().UTC().Year())
	return nil
}
