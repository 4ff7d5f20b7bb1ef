package overlay

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// A spoiled file fails as it is told.
type spoiled struct {
	medium
	write func(off int64) error
	syncs func() error
}

func fine() error              { return nil }
func fineAt(int64) error       { return nil }
func (s *spoiled) sync() error { return errors.Join(s.syncs(), s.medium.sync()) }

func (s *spoiled) WriteAt(p []byte, off int64) (int, error) {
	if err := s.write(off); err != nil {
		n, _ := s.medium.WriteAt(p[:len(p)/2], off)
		return n, err
	}
	return s.medium.WriteAt(p, off)
}

// spoil opens the overlay at path so that it can be spoiled.
func spoil(t *testing.T, path string) (*Disk, *spoiled) {
	t.Helper()
	bad := &spoiled{write: fineAt, syncs: fine}
	d, err := open(path, stamped{}, 10*minBlock, Options{}, bootOf(1), func(m medium) medium {
		bad.medium = m
		return bad
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.file.Close() })
	return d, bad
}

// block reads block i.
func block(t *testing.T, d *Disk, i int64) []byte {
	t.Helper()
	p := make([]byte, minBlock)
	if _, err := d.ReadAt(t.Context(), p, i*minBlock); err != nil {
		t.Fatal(err)
	}
	return p
}

// Once it could not be said that all is on the disk, it never is again; what was
// flushed before is there for the next.
func TestSyncFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	d, bad := spoil(t, path)
	ctx, ones, twos := t.Context(), bytes.Repeat([]byte{1}, minBlock), bytes.Repeat([]byte{2}, minBlock)
	before := block(t, d, 2)
	if _, err := d.WriteAt(ctx, ones, minBlock); err != nil {
		t.Fatal(err)
	}
	if err := d.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := d.WriteAt(ctx, twos, 2*minBlock); err != nil {
		t.Fatal(err)
	}
	bad.syncs = func() error { return syscall.EIO }
	first := d.Flush(ctx)
	bad.syncs = fine
	_, written := d.WriteAt(ctx, ones, 0)
	for _, err := range []error{first, d.Flush(ctx), written, d.Zero(ctx, 0, 5, false), d.Discard(ctx, 0, 5), d.Close()} {
		if !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), path+": takes no more writes") {
			t.Errorf("got %v", err)
		}
	}
	d, _ = spoil(t, path)
	if !bytes.Equal(block(t, d, 1), ones) || !bytes.Equal(block(t, d, 2), before) {
		t.Error("wrong bytes for the next")
	}
}

// Without room for a bit, or for the data, a write fails, and the next one need
// not. So it is with the bits that Flush brings to the disk.
func TestNoRoom(t *testing.T) {
	for _, tt := range []struct {
		name string
		full func(h header, off int64) bool
	}{
		{"for data", func(h header, off int64) bool { return off >= h.dataAt() }},
		{"for bits", func(h header, off int64) bool { return off >= h.volatileAt() && off < h.dataAt() }},
		{"for flushed bits", func(h header, off int64) bool { return off < h.volatileAt() }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "disk")
			d, bad := spoil(t, path)
			ctx, ones, before := t.Context(), bytes.Repeat([]byte{1}, minBlock), block(t, d, 1)
			bad.write = func(off int64) error {
				if tt.full(d.header, off) {
					return syscall.ENOSPC
				}
				return nil
			}
			_, written := d.WriteAt(ctx, ones, minBlock)
			flushed := d.Flush(ctx)
			if err := errors.Join(written, flushed); !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), path+": offset ") {
				t.Errorf("%v, %v", written, flushed)
			}
			if written != nil && !bytes.Equal(block(t, d, 1), before) {
				t.Error("wrong bytes after a write that failed")
			}
			bad.write = fineAt
			if _, err := d.WriteAt(ctx, ones[:100], 2*minBlock+5); err != nil {
				t.Error(err)
			}
			if err := d.Flush(ctx); err != nil {
				t.Error(err)
			}
			want := [][]byte{block(t, d, 1), block(t, d, 2)}
			d.file.Close()
			// What was flushed is there after a power cut.
			d, err := open(path, stamped{}, 10*minBlock, Options{}, bootOf(2), plain)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(block(t, d, 1), want[0]) || !bytes.Equal(block(t, d, 2), want[1]) {
				t.Error("wrong bytes after a power cut")
			}
			d.file.Close()
		})
	}
}

// More pages of the map than go to the disk behind one sync get there, too.
func TestFlushMany(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	const pages = flushPages + 10
	size := int64(pages) * pageBlocks * minBlock
	d, err := open(path, stamped{}, size, Options{}, bootOf(1), plain)
	if errors.Is(err, syscall.EFBIG) {
		t.Skipf("%s: %v", t.Name(), err)
	}
	if err != nil {
		t.Fatal(err)
	}
	ones := bytes.Repeat([]byte{1}, minBlock)
	at := func(i int64) int64 { return (i*pageBlocks + i) * minBlock }
	for i := range int64(pages) {
		if _, err := d.WriteAt(t.Context(), ones, at(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.file.Close()
	if d, err = open(path, stamped{}, size, Options{}, bootOf(2), plain); err != nil {
		t.Fatal(err)
	}
	defer d.file.Close()
	for i := range int64(pages) {
		if got := block(t, d, at(i)/minBlock); !bytes.Equal(got, ones) {
			t.Fatalf("page %d was not flushed", i)
		}
	}
}

// Those who flush at the same time share what is done, and each gets what it asked
// for.
func TestFlushTogether(t *testing.T) {
	d, bad := spoil(t, filepath.Join(t.TempDir(), "disk"))
	began, release := make(chan struct{}, 100), make(chan struct{})
	bad.syncs = func() error {
		began <- struct{}{}
		<-release
		return nil
	}
	var all sync.WaitGroup
	flush := func() {
		if err := d.Flush(t.Context()); err != nil {
			t.Error(err)
		}
	}
	all.Go(flush)
	<-began
	for range 20 {
		all.Go(flush)
	}
	close(release)
	all.Wait()
	if n := len(began); n > 20 {
		t.Errorf("%d syncs", n)
	}
}

// Where the file system makes no holes, zeros are written, but not over zeros.
func TestWriteZeros(t *testing.T) {
	o, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	want := bytes.Repeat([]byte{1}, 300_000)
	if _, err := o.Write(want); err != nil {
		t.Fatal(err)
	}
	for _, r := range []struct {
		off, n  int64
		reserve bool
	}{{5, 10, true}, {4096, 140_000, false}, {8192, 10, false}, {299_000, 1000, true}} {
		if err := (file{o}).writeZeros(r.off, r.n, r.reserve); err != nil {
			t.Fatal(err)
		}
		clear(want[r.off : r.off+r.n])
	}
	if got, err := os.ReadFile(o.Name()); err != nil || !bytes.Equal(got, want) {
		t.Errorf("wrong bytes, %v", err)
	}
}
