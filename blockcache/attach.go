package blockcache

import (
	"cmp"
	"os"
	"slices"
	"sort"

	"caravel/index"
	"caravel/store"
)

// Attach has the image read from a File what is there, and write to it what the
// store gives. The image does not close it: whoever opened it detaches it and
// closes it then. Files of one image do not overlap but in the chunks that lie
// across their borders.
func (img *Image) Attach(f *File) {
	if f.opt.Size == 0 {
		return // nobody reads from it
	}
	img.change(func(files []*File) []*File {
		at, _ := slices.BinarySearchFunc(files, f, func(a, b *File) int { return cmp.Compare(a.opt.Off, b.opt.Off) })
		return slices.Insert(files, at, f)
	})
}

// Detach undoes Attach. Reads that are under way may still use the File.
func (img *Image) Detach(f *File) {
	img.change(func(files []*File) []*File {
		return slices.DeleteFunc(files, func(o *File) bool { return o == f })
	})
}

// change replaces the list of files by a changed copy: readers take no lock.
func (img *Image) change(edit func([]*File) []*File) {
	for {
		old := img.files.Load()
		files := edit(slices.Clone(*old))
		if img.files.CompareAndSwap(old, &files) {
			return
		}
	}
}

// Backing is a file of exactly the size bytes at off, for the kernel to read by
// itself, from its offset 0 on; nil if no attached File has all of them,
// verified. It stays open until that File is closed.
func (img *Image) Backing(off, size int64) *os.File {
	if f := img.fileAt(off, size); f != nil && f.opt.Off == off && f.opt.Size == size {
		return f.Backing()
	}
	return nil
}

// fileAt is the File that holds all of n bytes at off, or nil.
func (img *Image) fileAt(off, n int64) *File {
	files := *img.files.Load()
	if len(files) == 0 {
		return nil
	}
	at := sort.Search(len(files), func(i int) bool { return files[i].opt.Off > off }) - 1
	if at < 0 || off+n > files[at].opt.Off+files[at].opt.Size {
		return nil
	}
	return files[at]
}

// readFile fills a part from the file that holds it.
func (img *Image) readFile(pt *part) bool {
	off := pt.chunk.Start + int64(pt.skip)
	f := img.fileAt(off, int64(len(pt.p)))
	return f != nil && f.holds(pt.row, pt.chunk) && f.read(pt.row, pt.p, off)
}

// recallPart fills a part from a file that may hold its chunk since an earlier
// run, or in which only other parts of the chunk lie.
func (img *Image) recallPart(pt *part) bool {
	for _, f := range img.filesOf(pt.row, pt.chunk) {
		if f.recall(pt.row, func(plain []byte) { copy(pt.p, plain[pt.skip:]) }) {
			return true
		}
	}
	return false
}

// filesOf are the files that hold some of a chunk, but for those given up.
func (img *Image) filesOf(row int, c index.Chunk) []*File {
	files := *img.files.Load()
	if len(files) == 0 {
		return nil
	}
	first := sort.Search(len(files), func(i int) bool { return files[i].opt.Off+files[i].opt.Size > c.Start })
	end := first
	for end < len(files) && files[end].holds(row, c) {
		end++
	}
	files = files[first:end]
	if slices.ContainsFunc(files, (*File).gone) {
		files = slices.DeleteFunc(slices.Clone(files), (*File).gone)
	}
	return files
}

// A filing says whether a chunk is where it belongs among the files.
type filing uint8

const (
	noFile    filing = iota // no file holds it
	notInFile               // one that does lacks it
	inFile                  // all that do have it, verified
)

func (img *Image) filed(row int, c index.Chunk) filing {
	files := img.filesOf(row, c)
	if len(files) == 0 {
		return noFile
	}
	for _, f := range files {
		if !f.has(row) {
			return notInFile
		}
	}
	return inFile
}

// recall has the files make sure of a chunk that they may hold since an earlier
// run. It reports whether all that hold it have it now.
func (img *Image) recall(row int, c index.Chunk) bool {
	files := img.filesOf(row, c)
	for _, f := range files {
		if !f.has(row) && !f.recall(row, func([]byte) {}) {
			return false
		}
	}
	return len(files) > 0
}

// offer hands a verified chunk to the files that hold it.
func (img *Image) offer(row int, c index.Chunk, got *store.Chunk, plain []byte) {
	for _, f := range img.filesOf(row, c) {
		f.offer(row, got, plain)
	}
}
