package blockcache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"caravel/index"
)

// FileOptions says what of an image a File holds.
type FileOptions struct {
	Index [32]byte     // digest of the index file that it belongs to
	Off   int64        // where in the image it begins
	Size  int64        // how much of the image it holds
	Log   *slog.Logger // nil: discard; told once if the disk is full, or the file cannot be used any more
}

// A File is the bytes [Off, Off+Size) of an image in a sparse file, with a map
// of the chunks that are there beside it (PATH.map).
//
// The map is a hint: a chunk that was there before this process opened the file
// is verified once more before it is believed, so that no crash, and nobody who
// wrote to either file meanwhile, makes a wrong byte. It is never ahead of the
// data on disk nevertheless, or what it lost would be verified for nothing.
// Chunks that lie across the file's borders are kept whole, and can be verified,
// too: what is outside of the file is in the map. Several processes may have it
// open: what they write is the same, and each believes only itself.
//
// Who shortens or deletes the file while it is in use makes it useless, not
// wrong: reads go on without it, as they do when the disk is full. Whoever
// writes other bytes into it is not noticed before it is opened anew.
//
// Its methods may be called from many goroutines.
type File struct {
	path  string
	index *index.Index
	opt   FileOptions
	log   *slog.Logger
	zeros *zeros
	first int // row of its first chunk
	rows  int

	data  *os.File // for writing
	seen  *os.File // the same file, for reading; its position stays where it is
	out   sink     // what is written to data goes through this
	chart *chart

	believed bits // chunks that are there: this process has written or verified them
	claimed  bits // chunks that the map says are there
	have     atomic.Int64
	ended    atomic.Bool // closed or given up: nothing is read or written

	last sync.Mutex    // held to write the chunk that ends the file
	turn atomic.Uint64 // odd while that is written

	room *semaphore.Weighted // bytes of the queue
	wake chan struct{}       // there is something in the queue
	due  chan struct{}       // there is something to be remembered
	soon chan struct{}       // and much of it
	life context.Context
	end  context.CancelFunc
	work sync.WaitGroup

	mu        sync.Mutex // guards what follows
	closed    bool
	err       error           // why it was given up
	full      time.Time       // until when nothing is fetched for it: the disk is full; zero: it is not
	chartFull bool            // and it was the map that had no room, and has not had any since
	said      bool            // that the disk is full
	queue     map[int]offered // by rows
	order     []int           // in which they came
	fresh     []int           // rows that are in data and not in the map
	stale     []int           // rows that are in the map and not in data
	bytes     int64           // of fresh

	syncing sync.Mutex // held by the one who brings data and map to the disk
}

// OpenFile opens or makes the file at path, for the index that opt names.
//
// It refuses what is no regular file, a file that is not empty and none of ours
// (without a map, or with that of another index), and one that is shorter or
// longer than Size: that was not us.
func OpenFile(path string, x *index.Index, opt FileOptions) (*File, error) {
	return openFile(path, x, opt, func(_ string, s sink) sink { return s })
}

// openFile has all writes to the data and to the map go through what wrap makes
// of a sink.
func openFile(path string, x *index.Index, opt FileOptions, wrap func(path string, s sink) sink) (*File, error) {
	if opt.Off < 0 || opt.Size < 0 || opt.Off > x.Size() || opt.Size > x.Size()-opt.Off {
		return nil, fmt.Errorf("blockcache: %s: %d bytes at %d, outside of an image of %d", path, opt.Size, opt.Off, x.Size())
	}
	first, end := x.Range(opt.Off, opt.Size)
	f := &File{
		path: path, index: x, opt: opt, log: opt.Log, zeros: newZeros(x), first: first, rows: end - first,
		queue: make(map[int]offered),
		room:  semaphore.NewWeighted(queueBytes),
		wake:  make(chan struct{}, 1), due: make(chan struct{}, 1), soon: make(chan struct{}, 1),
	}
	if f.log == nil {
		f.log = slog.New(slog.DiscardHandler)
	}
	h := header{index: opt.Index, off: opt.Off, size: opt.Size, rows: int64(f.rows)}
	if f.rows > 0 {
		h.head = opt.Off - x.Chunk(first).Start
		h.tail = x.Chunk(end-1).End() - (opt.Off + opt.Size)
	}
	if err := f.open(h, wrap); err != nil {
		return nil, fmt.Errorf("blockcache: %s: %w", path, err)
	}
	f.life, f.end = context.WithCancel(context.Background())
	f.work.Go(f.copyOut)
	f.work.Go(f.remember)
	return f, nil
}

// Complete reports whether all of it is there, verified or written by this
// process.
func (f *File) Complete() bool {
	return f.have.Load() == int64(f.rows) && !f.ended.Load() && f.turn.Load()&1 == 0 && f.whole()
}

// Backing is the file for the kernel to read by itself, from offset 0 on; nil as
// long as it is not complete. It stays open until Close.
func (f *File) Backing() *os.File {
	if !f.Complete() {
		return nil
	}
	return f.seen
}

// Chunks is how many of its chunks are there, verified or written by this
// process, and how many it has in all.
func (f *File) Chunks() (here, all int) { return int(f.have.Load()), f.rows }

// Close writes what is waiting to be written or remembered, and closes the file.
func (f *File) Close() error {
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		return nil
	}
	f.closed = true
	f.mu.Unlock()
	f.end()
	f.work.Wait()
	var err error
	if !f.ended.Load() { // else that was told
		if err = f.sync(); err == nil {
			err = f.chart.out.Sync()
		}
		if isFull(err) {
			err = nil // that was told, too
		}
	}
	f.ended.Store(true)
	if err = errors.Join(err, f.chart.file.Close(), f.seen.Close(), f.data.Close()); err != nil {
		return fmt.Errorf("blockcache: %s: %w", f.path, err)
	}
	return nil
}

// ready returns why nothing shall be fetched for it, or nil. While the disk is
// full one caller finds it ready now and then: if his chunk can be written the
// others find it ready, too.
func (f *File) ready() error {
	if err := f.usable(); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.full.IsZero() {
		return nil
	}
	now := time.Now()
	if now.Before(f.full) {
		return fmt.Errorf("blockcache: %s: %w", f.path, errFull)
	}
	f.full = now.Add(fullPause)
	return nil
}

// hope forgets that the disk was full, if that is a while ago.
func (f *File) hope() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !time.Now().Before(f.full) {
		f.full = time.Time{}
	}
}

// usable returns why nothing can be written to it, or nil.
func (f *File) usable() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.why()
}

// why is usable for those who hold f.mu.
func (f *File) why() error {
	switch {
	case f.err != nil:
		return f.err
	case f.ended.Load():
		return fmt.Errorf("blockcache: %s: %w", f.path, fs.ErrClosed)
	}
	return nil
}

// errFull is what a File answers for a while after the disk was full.
var errFull = errors.New("the disk is full")

// giveUp makes nothing be read from it or written to it any more. Of one that is
// closed the last readers may say anything.
func (f *File) giveUp(err error) error {
	err = fmt.Errorf("blockcache: %s: %w", f.path, err)
	f.mu.Lock()
	defer f.mu.Unlock()
	if why := f.why(); why != nil {
		return why
	}
	f.err = err
	f.ended.Store(true)
	f.log.Warn("materialised file left out", "file", f.path, "err", err)
	return err
}

// holds reports whether it has room for a chunk of the image.
func (f *File) holds(row int, c index.Chunk) bool {
	r := row - f.first
	return r >= 0 && r < f.rows && f.index.Chunk(row) == c
}

// has reports whether one of its chunks is there.
func (f *File) has(row int) bool { return f.believed.has(row-f.first) && !f.ended.Load() }

// gone reports whether it was closed or given up.
func (f *File) gone() bool { return f.ended.Load() }

// Lost reports whether nothing is kept in it any more: the disk does not take
// it, or somebody has cut it.
func (f *File) Lost() bool { return f.gone() }

// inside is the part of a chunk that lies in the file, by offsets of the image.
func (f *File) inside(c index.Chunk) (start, end int64) {
	return max(c.Start, f.opt.Off), min(c.End(), f.opt.Off+f.opt.Size)
}

// believe notes that a chunk is there.
func (f *File) believe(r int) {
	if f.believed.set(r) {
		f.have.Add(1)
	}
}

// doubt notes that a chunk must be verified before it is read again.
func (f *File) doubt(r int) {
	f.claimed.set(r)
	if f.believed.clear(r) {
		f.have.Add(-1)
	}
}
