package main

import (
	"context"
	"encoding/hex"
	"errors"
	"os"
	"strconv"
	"sync"

	"caravel/blockcache"
	"caravel/index"
	"caravel/store"
	"caravel/store/diskcache"
)

// largeFile is from which size on a file of a tree is assembled singly, and
// largeFiles how many are held open at a time, of three descriptors each.
const (
	largeFile  = 1 << 20
	largeFiles = 256
)

// treeFiles has the large files of a tree assembled in the cache on disk, each
// from when it is first opened. Those that nobody reads give way to others, and go
// on from where they were when they are opened again.
type treeFiles struct {
	img  *cachedImage
	disk *diskcache.Cache
	sum  [32]byte // of the index
	most int      // of all
	make func(path string, x *index.Index, opt blockcache.FileOptions) (*blockcache.File, error)

	mu   sync.Mutex          // guards what follows
	all  map[int64]*treeFile // by offset in the image
	last uint64              // number given to a use
}

// A treeFile is one of them.
type treeFile struct {
	name      string
	off, size int64

	end  context.CancelFunc // of the work
	open chan struct{}      // closed when file is set
	idle chan struct{}      // closed when the work has ended
	file *blockcache.File   // nil: there is none, the image is read without

	readers int    // guarded by treeFiles.mu
	use     uint64 // when it was opened or closed last; guarded by treeFiles.mu
}

// newTreeFiles begins it for an image, which closes the files.
func (c *cachedImage) newTreeFiles(disk *diskcache.Cache) *treeFiles {
	c.files = &treeFiles{
		img: c, disk: disk, sum: c.whole().Sum(),
		most: largeFiles, make: openCached, all: map[int64]*treeFile{},
	}
	return c.files
}

// open is a reader of the file of size bytes at off that r reads. It does not wait
// for the disk: that is for the first read to do.
func (t *treeFiles) open(off, size int64, r reader) reader {
	if size < largeFile {
		return r
	}
	f := t.take(off, size)
	if f == nil {
		t.img.from.log.Debug("file is not materialised: too many are open", "offset", off, "size", size)
		return r
	}
	return &treeFileReader{reader: r, files: t, file: f}
}

// take finds a file, or begins to make it; nil if there is no room for it.
func (t *treeFiles) take(off, size int64) *treeFile {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last++
	if f := t.all[off]; f != nil {
		f.readers++
		f.use = t.last
		return f
	}
	var instead *treeFile
	if len(t.all) >= t.most {
		if instead = t.unused(); instead == nil {
			return nil
		}
		delete(t.all, instead.off)
	}
	f := &treeFile{
		name: hex.EncodeToString(t.sum[:]) + "/" + strconv.FormatInt(off, 10), off: off, size: size,
		open: make(chan struct{}), idle: make(chan struct{}), readers: 1, use: t.last,
	}
	t.all[off] = f
	var life context.Context
	life, f.end = context.WithCancel(t.img.life)
	t.img.work.Go(func() { t.work(life, f, instead) })
	return f
}

// unused is the file that gives way: one that nobody reads, a complete one if there
// is any, and of these the one that was not read for longest. t.mu is held.
func (t *treeFiles) unused() (found *treeFile) {
	complete := false
	for _, f := range t.all {
		if f.readers > 0 {
			continue
		}
		whole := f.complete()
		if found == nil || whole && !complete || whole == complete && f.use < found.use {
			found, complete = f, whole
		}
	}
	return found
}

// opened reports whether file is set.
func (f *treeFile) opened() bool {
	select {
	case <-f.open:
		return true
	default:
		return false
	}
}

// complete reports whether nothing more is written to the file, without a look at
// the disk.
func (f *treeFile) complete() bool {
	if !f.opened() {
		return false
	}
	if f.file == nil {
		return true
	}
	here, all := f.file.Chunks()
	return here == all
}

// work is what goes on behind a file's readers: it is opened, when the one in whose
// place it comes (nil: there was room) has been closed, and filled.
func (t *treeFiles) work(life context.Context, f, instead *treeFile) {
	defer close(f.idle)
	defer f.end()
	if instead != nil {
		if err := t.shut(instead); err != nil {
			t.img.from.log.Warn("materialised file not closed", "offset", instead.off, "err", err)
		}
	}
	t.openFile(f)
	close(f.open)
	if f.file == nil || !t.img.from.mayRoam() {
		return
	}
	err := t.img.Image.Fill(life, f.file, store.Sweep)
	if err != nil && life.Err() == nil {
		t.img.from.log.Debug("file is not materialised to its end", "offset", f.off, "err", err)
	}
	t.disk.Used(f.name)
}

// openFile sets f.file. One that cannot be had is tried again by who opens it next.
func (t *treeFiles) openFile(f *treeFile) {
	opt := blockcache.FileOptions{Index: t.sum, Off: f.off, Size: f.size, Log: t.img.from.log}
	file, err := t.make(t.disk.Image(f.name), t.img.whole(), opt)
	if err == nil {
		f.file = file
		t.img.Attach(file)
		return
	}
	t.img.from.log.Debug("file is not materialised", "offset", f.off, "size", f.size, "err", err)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.all[f.off] == f {
		delete(t.all, f.off)
	}
}

// shut ends the work for a file that is in t.all no more, and closes it.
func (t *treeFiles) shut(f *treeFile) error {
	f.end()
	<-f.idle
	if f.file == nil {
		return nil
	}
	t.img.Detach(f.file)
	err := f.file.Close()
	t.disk.Used(f.name)
	return err
}

// release says that one has closed the file.
func (t *treeFiles) release(f *treeFile) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f.readers--
	t.last++
	f.use = t.last
}

// close closes all files, when nobody reads any more.
func (t *treeFiles) close() (err error) {
	if t == nil {
		return nil
	}
	for _, f := range t.all {
		err = errors.Join(err, t.shut(f))
	}
	return err
}

// A treeFileReader reads a large file of a tree.
type treeFileReader struct {
	reader
	files *treeFiles
	file  *treeFile
}

// ReadAt waits until the file is open, which may have what it would fetch.
func (r *treeFileReader) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if !r.file.opened() { // else nobody need watch for the end of ctx, which costs
		select {
		case <-r.file.open:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
	return r.reader.ReadAt(ctx, p, off)
}

// Backing is the file for the kernel to read by itself, if it is complete.
func (r *treeFileReader) Backing() *os.File {
	return r.files.img.Backing(r.file.off, r.file.size)
}

func (r *treeFileReader) Close() error {
	defer r.files.release(r.file)
	if c, ok := r.reader.(interface{ Close() error }); ok {
		return c.Close()
	}
	return nil
}
