package seed

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sort"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// A folder is the files of a directory that are a part of a stream. Those that are in use
// are open, and some more. It is filled by one goroutine, and then read by many.
type folder struct {
	root  *os.Root
	parts []part // ascending
	names []byte // the paths of all, one behind the other

	mu   sync.Mutex // guards what follows
	open *simplelru.LRU[int, *opened]
}

// A part is a file in the stream.
type part struct {
	start, size int64
	before      int64 // bytes of the stream in front of it that are in no file
	name        int64 // where its path begins in names
}

func (p *part) end() int64 { return p.start + p.size }

// An opened file is closed when nobody uses it and others are open in its place.
type opened struct {
	file  *os.File
	users int
	out   bool // others are open in its place
}

// openFiles is how many files of a folder are kept open.
const openFiles = 64

func newFolder(root *os.Root) *folder {
	f := &folder{root: root}
	f.open, _ = simplelru.NewLRU(openFiles, func(_ int, o *opened) { // the size is right
		o.out = true
		if o.users == 0 {
			o.file.Close()
		}
	})
	return f
}

// append adds the next file of the stream.
func (f *folder) append(path string, start, size int64) {
	p := part{start: start, size: size, name: int64(len(f.names)), before: start}
	if n := len(f.parts); n > 0 {
		last := &f.parts[n-1]
		p.before = last.before + start - last.end()
	}
	f.names = append(f.names, path...)
	f.parts = append(f.parts, p)
}

// behind is the first part that ends behind off.
func (f *folder) behind(off int64) int {
	return sort.Search(len(f.parts), func(i int) bool { return f.parts[i].end() > off })
}

func (f *folder) path(i int) string {
	end := int64(len(f.names))
	if i+1 < len(f.parts) {
		end = f.parts[i+1].name
	}
	return string(f.names[f.parts[i].name:end])
}

// use is source's.
func (f *folder) use(off, n int64, use func(*os.File, int64) error) error {
	i := f.behind(off)
	if i == len(f.parts) || off < f.parts[i].start || off+n > f.parts[i].end() {
		return errors.ErrUnsupported
	}
	o, err := f.take(i)
	if err != nil {
		return err
	}
	defer f.giveBack(o)
	return use(o.file, off-f.parts[i].start)
}

// take opens a file of the folder, if it is not.
func (f *folder) take(i int) (*opened, error) {
	f.mu.Lock()
	o, ok := f.open.Get(i)
	if ok {
		o.users++
	}
	f.mu.Unlock()
	if ok {
		return o, nil
	}
	file, err := f.root.OpenFile(f.path(i), os.O_RDONLY|openQuick, 0)
	if err != nil {
		return nil, fmt.Errorf("seed: %w", err)
	}
	if st, err := file.Stat(); err != nil || !st.Mode().IsRegular() {
		file.Close()
		return nil, fmt.Errorf("seed: %s: is no file any more", file.Name())
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if other, ok := f.open.Get(i); ok { // by somebody else, meanwhile
		file.Close()
		other.users++
		return other, nil
	}
	o = &opened{file: file, users: 1}
	f.open.Add(i, o)
	return o, nil
}

func (f *folder) giveBack(o *opened) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if o.users--; o.users == 0 && o.out {
		o.file.Close()
	}
}

// readAt reads of the stream; between is what is in no file.
func (f *folder) readAt(p []byte, off int64, between io.ReaderAt) (done int, err error) {
	for done < len(p) {
		at := off + int64(done)
		i := f.behind(at)
		rest := p[done:]
		var n int
		if i < len(f.parts) && at >= f.parts[i].start {
			rest = rest[:min(int64(len(rest)), f.parts[i].end()-at)]
			n, err = f.readPart(i, rest, at-f.parts[i].start)
		} else {
			before := at
			if i > 0 {
				before = f.parts[i-1].before + at - f.parts[i-1].end()
			}
			if i < len(f.parts) {
				rest = rest[:min(int64(len(rest)), f.parts[i].start-at)]
			}
			n, err = between.ReadAt(rest, before)
		}
		done += n
		if n == len(rest) {
			continue
		}
		if err == nil {
			err = io.ErrUnexpectedEOF
		}
		return done, err
	}
	return done, nil
}

func (f *folder) readPart(i int, p []byte, off int64) (int, error) {
	o, err := f.take(i)
	if err != nil {
		return 0, err
	}
	defer f.giveBack(o)
	return o.file.ReadAt(p, off)
}

// Close closes all files, of which none may be in use.
func (f *folder) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.open.Purge()
	return f.root.Close()
}
