package image

import (
	"io"
	"io/fs"
	"os"

	"caravel/internal/extents"
)

// smallHole is up to how long a hole is read like anything else: it would cost more to pass.
const smallHole = 64 << 10

// holes are those of a file that is read from its beginning to its end. The zero value has
// none.
type holes struct {
	file  *os.File // nil: it has none
	at    int64    // where it is read next
	end   int64
	bytes int64 // up to where it is known to have bytes
}

// holesOf are those of a file that is read from at to end.
func holesOf(f *os.File, st fs.FileInfo, at, end int64) holes {
	if !st.Mode().IsRegular() || !isSparse(st) {
		return holes{} // the kernel says nothing of the holes of block devices
	}
	return holes{file: f, at: at, end: end, bytes: at}
}

// before is as much of p as may be read at once.
func (h *holes) before(p []byte) []byte {
	if h.file == nil || h.at >= h.bytes {
		return p
	}
	return p[:min(int64(len(p)), h.bytes-h.at)]
}

// next is how long the hole is that begins where the file is read next, and has it
// read behind that; 0: there are bytes.
func (h *holes) next() (int64, error) {
	if h.file == nil || h.at < h.bytes || h.at >= h.end {
		return 0, nil
	}
	data, err := extents.NextData(h.file, h.at)
	if err != nil { // it need not know
		h.file = nil
		return 0, nil
	}
	data = min(data, h.end)
	var hole int64
	if data-h.at > smallHole {
		hole = data - h.at
	}
	h.bytes = data
	if data < h.end {
		if h.bytes, err = extents.NextHole(h.file, data); err != nil || h.bytes > h.end {
			h.bytes = h.end
		}
	}
	_, err = h.file.Seek(h.at+hole, io.SeekStart)
	return hole, err
}
