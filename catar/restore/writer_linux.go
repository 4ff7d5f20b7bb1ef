package restore

import (
	"bytes"

	"golang.org/x/sys/unix"
)

// A writer writes a file from its start, with holes.
type writer struct {
	fd    int
	fill  bool // without holes
	early bool // the disk shall begin before all is there
	off   int64
	hole  bool  // the last bytes were left out
	begun int64 // where what the disk has not begun with starts

	shared []extent // what the file has before anything is written, ascending
	kept   int64    // bytes of these that are right
	got    []byte   // for comparing; nil: not yet needed
}

// The disk is asked to begin when so many bytes of a file have come together,
// and at the end of a file that has so many left: then there is less to wait for
// at the end (of the Go tree's 0.47 s, 0.1). For every small file the call costs
// more than is won.
const (
	writeBehind = 8 << 20
	writeRest   = 256 << 10
)

func (w *writer) writeOut(least int64) {
	if w.early && w.off-w.begun >= least {
		_ = unix.SyncFileRange(w.fd, w.begun, w.off-w.begun, unix.SYNC_FILE_RANGE_WRITE) // only a hint; sync tells errors
		w.begun = w.off
	}
}

// holeBytes is the unit of holes: they begin at multiples of it, and end at
// such or with the file.
const holeBytes = 4 << 10

var zeros [holeBytes]byte

// write appends b. All but the last of a file must be multiples of holeBytes.
func (w *writer) write(b []byte) error {
	for len(b) > 0 {
		n, here, err := w.compare(b)
		if err != nil {
			return err
		}
		if !here {
			if err := w.fresh(b[:n]); err != nil {
				return err
			}
		}
		b = b[n:]
	}
	w.writeOut(writeBehind)
	return nil
}

// compare takes what the file shares with another: n bytes of b that it has got in this way,
// or has not (here is false) and are to be written.
func (w *writer) compare(b []byte) (n int, here bool, err error) {
	for len(w.shared) > 0 && w.shared[0].end <= w.off {
		w.shared = w.shared[1:]
	}
	if len(w.shared) == 0 {
		return len(b), false, nil
	}
	e := w.shared[0]
	if e.start > w.off {
		return int(min(int64(len(b)), e.start-w.off)), false, nil
	}
	if w.got == nil {
		w.got = make([]byte, 64<<10)
	}
	n = int(min(int64(len(b)), e.end-w.off, int64(len(w.got))))
	if readFull(w.fd, w.got[:n], w.off) && bytes.Equal(w.got[:n], b[:n]) {
		w.kept += int64(n)
	} else {
		err = w.pwrite(b[:n]) // not left out: there is no hole here
	}
	w.off, w.hole = w.off+int64(n), false
	return n, true, err
}

// fresh writes b where nothing is yet.
func (w *writer) fresh(b []byte) error {
	for len(b) > 0 {
		n, zero := len(b), false
		if !w.fill {
			n, zero = lead(b)
		}
		if !zero {
			if err := w.pwrite(b[:n]); err != nil {
				return err
			}
		}
		w.off, w.hole = w.off+int64(n), zero
		b = b[n:]
	}
	return nil
}

// lead is how long b goes on as it begins, with zeros or something else.
func lead(b []byte) (n int, zero bool) {
	for n < len(b) {
		end := min(n+holeBytes, len(b))
		if z := isZero(b[n:end]); n == 0 {
			zero = z
		} else if z != zero {
			break
		}
		n = end
	}
	return n, zero
}

func isZero(b []byte) bool { return b[0] == 0 && bytes.Equal(b, zeros[:len(b)]) }

func (w *writer) pwrite(b []byte) error {
	for off := w.off; len(b) > 0; {
		n, err := unix.Pwrite(w.fd, b, off)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		b, off = b[n:], off+int64(n)
	}
	return nil
}

// end makes the file, which had some length before, as long as what was written.
func (w *writer) end(had int64) error {
	w.writeOut(writeRest)
	if !w.hole && had <= w.off {
		return nil
	}
	return again(func() error { return unix.Ftruncate(w.fd, w.off) })
}
