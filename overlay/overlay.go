// Package overlay makes a disk that can be written out of one that can only be
// read.
//
// A [Disk] is a [Base], which it never changes, and a sparse file beside it: what
// is written goes to the file, what was never written is read from the base. So a
// virtual machine boots read-write from an image that is still elsewhere:
//
//	disk, err := overlay.Open("vm.overlay", image, size, overlay.Options{Identity: digest})
//	...
//	defer disk.Close()
//	_, err = disk.WriteAt(ctx, p, off)
//	err = disk.Flush(ctx)
//
// The file has a header, two maps and room for each block of the disk; section 16
// of docs/formats.md has the bytes. A block (4 KiB) is present from the first time
// that something of it is written, and stays so: a present block is read from the
// file and nowhere else, and overwritten in place. What is zeroed or discarded is
// present, too, with a hole in the file, or else the base would show through. Who
// writes a part of a block that is not present has the rest of it filled from the
// base first; if that cannot be read nothing has changed.
//
// # What survives
//
// kill -9 at any instant takes nothing of what a WriteAt, Zero or Discard had
// returned for, flushed or not. A power cut takes nothing of what had returned
// before the last Flush that returned; a block written after that has its old or
// its new content (in place: each of its sectors has, as on any disk). Neither
// makes a block of zeros or garbage.
//
// One map cannot do both. For kill -9 the bit of a block must be in the file when
// the write returns; then the kernel may bring it to the disk before the data. So
// there are two. The volatile map is written with each block that becomes present,
// data first, and counts only as long as the kernel lives that has both in its
// memory: beside it stands that kernel's boot ID. The durable map is written by
// Flush alone, between two fdatasyncs: the data of all bits that it gets is on the
// disk before the first of them is written. Opened under the boot ID that it has,
// a file has the blocks of both maps; under another, those of the durable one, and
// the volatile one is emptied. Bits are never taken away, so there is no other
// order to be kept.
//
// When an fdatasync fails, the kernel may already have dropped what it could not
// write. The disk takes no writes and no Flush from then on, and takes the boot ID
// out of the file: the next to open it goes back to the last Flush. A full disk
// is an error that matches ENOSPC, of that one write; room for a bit is taken
// in both maps before the write that needs it, so that Flush seldom needs any.
//
// What is beyond it: a disk pulled out and plugged in again below a kernel that
// lives on, which loses what that kernel had in memory and not its boot ID.
//
// # What it costs
//
// The maps are not mapped into memory: a full disk below a mapping is a SIGBUS
// that ends the process, not an error. Pages of them are read when they are first
// needed (each is for 128 MiB of the disk), so that opening reads the header and
// nothing else, however large the disk; a page without a bit takes no memory. No
// lock is held that others need while the base is read: writes to present blocks
// take none at all, others the blocks that they write to.
//
// 4 KiB at random places from 16 goroutines, beside the same on a plain file
// (BenchmarkRandom, tmpfs, 2 shared and busy processors, medians of 2 runs):
//
//	                                     overlay   file     ratio of operations/s
//	read                                  2.3 µs   2.1 µs   0.92
//	write to a present block              3.2 µs   3.1 µs   0.97
//	write to a block that was not         7.8 µs   4.8 µs   0.62 (ext4: 0.71)
//
// The last one is what a second system call takes, for the bit.
package overlay

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"sync"
	"sync/atomic"
)

// A Base is what lies below a Disk. Its methods may be called from many
// goroutines. It may be Sparse, a Wanter and a Localizer besides.
type Base interface {
	// ReadAt has io.ReaderAt's rules.
	ReadAt(ctx context.Context, p []byte, off int64) (int, error)
}

// A Sparse base knows where its holes are.
type Sparse interface {
	// Holes yields offset and length of the holes that touch the n bytes at
	// off, in order; they may be adjacent. It must not wait.
	Holes(off, n int64) iter.Seq2[int64, int64]
}

// A Wanter takes hints of what will be read soon.
type Wanter interface {
	// Want says that the n bytes at off will be read. It must not wait.
	Want(off, n int64)
}

// A Localizer knows what of it can be read without a network.
type Localizer interface {
	// Local yields offset and length of such ranges within the n bytes at
	// off, in order; they may be adjacent. It must not wait for a network. If
	// that is too much to be looked at in one go, it ends with a range of
	// length 0, where it has stopped: behind off.
	Local(off, n int64) iter.Seq2[int64, int64]
}

// Options tunes a Disk. The zero value makes one as large as its base.
type Options struct {
	Identity [32]byte // of the base, like the digest of its index; a file that was made for another one is refused
	Size     int64    // of the disk in bytes, not below the base's, zeros behind that; 0: what the file has; a new one: the base's
	Block    int64    // bytes, a power of two from 4096 to 65536, of a new file; one that exists keeps its own; 0: 4096
}

// A Disk is a base and what was written over it. Its methods may be called from
// many goroutines, for any ranges. Of two that are under way at the same time and
// touch the same byte either may count as the later.
type Disk struct {
	path   string
	base   below
	file   medium
	header header
	blocks *presence
	busy   ranges // blocks that are about to become present

	turn    chan struct{} // held by the one who flushes
	begun   atomic.Uint64 // flushes
	walked  bool          // no bit of a former process is in the volatile map alone; guarded by turn
	flushed uint64        // the last flush that succeeded; guarded by turn

	mu  sync.Mutex // guards err
	err error      // why nothing can be brought to the disk any more
}

// below is a base with what it can do besides.
type below struct {
	Base
	sparse Sparse    // nil: holes are not known
	wanter Wanter    // nil: takes no hints
	local  Localizer // nil: it is not known what is local
	size   int64
}

// Open opens the overlay in the file at path over a base of size bytes, or makes
// it if there is none. The file is locked: who opens it a second time, in this
// process or another, gets an error. The Disk does not own the base.
//
// A file that does not belong to this base, has another size than opt wants, or is
// damaged is refused, and left as it is.
func Open(path string, base Base, size int64, opt Options) (*Disk, error) {
	return open(path, base, size, opt, bootID, func(m medium) medium { return m })
}

// open takes the boot ID from boot, and has all that is done to the file go
// through what wrap makes of it.
func open(path string, base Base, size int64, opt Options, boot func() ([bootSize]byte, error), wrap func(medium) medium) (*Disk, error) {
	h, err := opt.header(size)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	id, err := boot()
	if err != nil {
		return nil, fmt.Errorf("%s: no boot ID, without which a crash is not survived: %w", path, err)
	}
	f, h, err := openFile(path, h, opt)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	d := &Disk{path: path, file: wrap(f), header: h, turn: make(chan struct{}, 1)}
	d.base = below{Base: base, size: size}
	d.base.sparse, _ = base.(Sparse)
	d.base.wanter, _ = base.(Wanter)
	d.base.local, _ = base.(Localizer)
	d.blocks = newPresence(d.file, h)
	if d.walked, err = d.begin(id); err != nil {
		return nil, errors.Join(d.wrong(bootAt, err), d.file.Close())
	}
	return d, nil
}

// begin makes the volatile map one of the kernel that runs. It reports whether it
// is empty.
func (d *Disk) begin(id [bootSize]byte) (empty bool, err error) {
	var last [bootSize]byte
	if err := readFull(d.file, last[:], bootAt); err != nil {
		return false, err
	}
	if last == id {
		return false, nil
	}
	// In this order: a process that is killed in between leaves an ID that does
	// not count.
	if err := d.file.zero(d.header.volatileAt(), d.header.mapSize(), false); err != nil {
		return false, err
	}
	_, err = d.file.WriteAt(id[:], bootAt)
	return true, err
}

// Size is the length of the disk in bytes.
func (d *Disk) Size() int64 { return d.header.size }

// Close does what Flush does and closes the file. Other methods must have
// returned; those that are called later fail with an error that matches
// fs.ErrClosed.
func (d *Disk) Close() error {
	err := d.Flush(context.Background())
	if errors.Is(err, fs.ErrClosed) {
		return nil
	}
	if err == nil {
		// The durable map has it all. The next to open the file need not look.
		err = d.forget()
	}
	d.mu.Lock()
	d.err = fmt.Errorf("%s: %w", d.path, fs.ErrClosed)
	d.mu.Unlock()
	if bad := d.file.Close(); bad != nil {
		err = errors.Join(err, d.wrong(0, bad))
	}
	return err
}

// forget takes the boot ID out of the file: the volatile map does not count for
// the next to open it.
func (d *Disk) forget() error {
	if _, err := d.file.WriteAt(make([]byte, bootSize), bootAt); err != nil {
		return d.wrong(bootAt, err)
	}
	return nil
}

// fail remembers why nothing can be brought to the disk any more.
func (d *Disk) fail(err error) error {
	d.mu.Lock()
	first := d.err == nil
	if first {
		d.err = fmt.Errorf("%s: takes no more writes, what came before may be lost: %w", d.path, bare(err))
	}
	err = d.err
	d.mu.Unlock()
	if first {
		_ = d.forget() // on a disk that fails there is no more to be done
	}
	return err
}

// failed returns what fail remembered.
func (d *Disk) failed() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.err
}

// wrong is an error of the file at an offset in it.
func (d *Disk) wrong(off int64, err error) error {
	return fmt.Errorf("%s: offset %d of the file: %w", d.path, off, bare(err))
}

// check refuses a range that is not on the disk.
func (d *Disk) check(off, n int64) error {
	if off < 0 || n < 0 || off > d.header.size || n > d.header.size-off {
		return fmt.Errorf("%s: %d bytes at %d, outside of a disk of %d", d.path, n, off, d.header.size)
	}
	return nil
}
