package main

import (
	"encoding/hex"
	"errors"
	"os"
	"strconv"
	"sync"

	"caravel/blockcache"
	"caravel/store"
	"caravel/store/diskcache"
)

// largeFile is from which size on a file of a tree is assembled singly, and
// largeFiles how many are held open at a time.
const (
	largeFile  = 1 << 20
	largeFiles = 256
)

// treeFiles has the large files of a tree assembled in the cache on disk, each
// from when it is first opened.
type treeFiles struct {
	img  *cachedImage
	disk *diskcache.Cache
	sum  [32]byte // of the index

	mu  sync.Mutex
	all map[int64]*treeFile // by offset in the image; guarded by mu
}

// A treeFile is one of them.
type treeFile struct {
	*blockcache.File
	name string
	off  int64
	used int // who has it open; guarded by treeFiles.mu
}

// newTreeFiles begins it for an image, which closes the files.
func (c *cachedImage) newTreeFiles(disk *diskcache.Cache) *treeFiles {
	c.files = &treeFiles{img: c, disk: disk, sum: c.whole().Sum(), all: map[int64]*treeFile{}}
	return c.files
}

// open is a reader of the file of size bytes at off that r reads.
func (t *treeFiles) open(off, size int64, r reader) reader {
	if size < largeFile {
		return r
	}
	f, err := t.take(off, size)
	if err != nil {
		t.img.from.log.Debug("file is not materialised", "offset", off, "size", size, "err", err)
		return r
	}
	return &treeFileReader{reader: r, files: t, file: f, size: size}
}

// take finds a file, or makes it and begins to fill it.
func (t *treeFiles) take(off, size int64) (*treeFile, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if f := t.all[off]; f != nil {
		f.used++
		return f, nil
	}
	t.makeRoom()
	f := &treeFile{name: hex.EncodeToString(t.sum[:]) + "/" + strconv.FormatInt(off, 10), off: off, used: 1}
	var err error
	opt := blockcache.FileOptions{Index: t.sum, Off: off, Size: size, Log: t.img.from.log}
	if f.File, err = openCached(t.disk.Image(f.name), t.img.whole(), opt); err != nil {
		return nil, err
	}
	t.all[off] = f
	t.img.Attach(f.File)
	if t.img.from.mayRoam() {
		t.img.work.Go(func() { t.fill(f) })
	}
	return f, nil
}

func (t *treeFiles) fill(f *treeFile) {
	err := t.img.Image.Fill(t.img.life, f.File, store.Sweep)
	if err != nil && t.img.life.Err() == nil {
		t.img.from.log.Debug("file is not materialised to its end", "offset", f.off, "err", err)
	}
	t.disk.Used(f.name)
}

// makeRoom closes a file that nobody reads if there are many. t.mu is held.
func (t *treeFiles) makeRoom() {
	if len(t.all) < largeFiles {
		return
	}
	for off, f := range t.all {
		if f.used == 0 && f.Complete() { // nothing is written to it any more
			delete(t.all, off)
			t.img.Detach(f.File)
			f.Close()
			return
		}
	}
}

// release says that one has closed the file.
func (t *treeFiles) release(f *treeFile) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f.used--
}

// close closes all files, when nobody reads any more.
func (t *treeFiles) close() (err error) {
	if t == nil {
		return nil
	}
	for _, f := range t.all {
		t.disk.Used(f.name)
		err = errors.Join(err, f.Close())
	}
	return err
}

// A treeFileReader reads a large file of a tree.
type treeFileReader struct {
	reader
	files *treeFiles
	file  *treeFile
	size  int64
}

// Backing is the file for the kernel to read by itself, if it is complete.
func (r *treeFileReader) Backing() *os.File { return r.files.img.Backing(r.file.off, r.size) }

func (r *treeFileReader) Close() error {
	defer r.files.release(r.file)
	if c, ok := r.reader.(interface{ Close() error }); ok {
		return c.Close()
	}
	return nil
}
