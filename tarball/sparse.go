package tarball

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strconv"
)

// A run is a part of a file.
type run struct{ off, end int64 }

const (
	// zeroBytes is the size of the blocks that are a hole if they are zero, at the
	// multiples of it. Smaller ones are not worth the words.
	zeroBytes = 64 << 10

	// heldBytes is how long a file may be to be held in memory.
	heldBytes = 1 << 20
)

// A zeroFinder holds a file while its zeros are looked for.
type zeroFinder struct {
	buf  []byte
	file *Spool // nil before a long file comes
}

func (z *zeroFinder) close() {
	if z.file != nil {
		z.file.Close()
	}
}

// content is the payload of a file of size bytes, and where it has holes; then the
// payload can be read at any offset.
func (t *writer) content(ctx context.Context, size int64) (io.Reader, []run, error) {
	z := &t.zeros
	switch {
	case t.opt.Fill, size < zeroBytes:
		return t.d, nil, nil
	case size <= heldBytes:
		if z.buf == nil {
			z.buf = make([]byte, heldBytes)
		}
		b := z.buf[:size]
		if _, err := io.ReadFull(t.d, b); err != nil {
			return nil, nil, err
		}
		var holes []run
		for off := 0; off < len(b); off += zeroBytes {
			holes = addHole(holes, int64(off), b[off:min(off+zeroBytes, len(b))])
		}
		return bytes.NewReader(b), holes, nil
	}
	if z.file == nil {
		var err error
		if z.file, err = NewSpool(); err != nil {
			return nil, nil, err
		}
	}
	if err := z.file.Reset(); err != nil {
		return nil, nil, err
	}
	off, err := z.file.Put(ctx, t.d, size)
	if err != nil {
		return nil, nil, err
	}
	if err := z.file.Seal(); err != nil {
		return nil, nil, err
	}
	return io.NewSectionReader(z.file, off, size), z.file.holes(), nil
}

// addHole adds the block b at off to holes if it is one.
func addHole(holes []run, off int64, b []byte) []run {
	end := off + int64(len(b))
	switch last := len(holes) - 1; {
	case !allZero(b):
	case last >= 0 && holes[last].end == off:
		holes[last].end = end
	default:
		holes = append(holes, run{off, end})
	}
	return holes
}

// sparse writes a file without its holes, as GNU.sparse 1.0: a map of what is there
// comes before that.
func (t *writer) sparse(h *header, content io.ReaderAt, holes []run, size int64) error {
	data := between(holes, size)
	var list bytes.Buffer
	fmt.Fprintf(&list, "%d\n", len(data))
	stored := int64(0)
	for _, r := range data {
		fmt.Fprintf(&list, "%d\n%d\n", r.off, r.end-r.off)
		stored += r.end - r.off
	}
	list.Write(make([]byte, -list.Len()&(blockSize-1)))
	h.add("GNU.sparse.major", "1")
	h.add("GNU.sparse.minor", "0")
	h.add("GNU.sparse.name", h.name)
	h.add("GNU.sparse.realsize", strconv.FormatInt(size, 10))
	// What a tar that knows nothing of this makes of it is no file of that name.
	h.name = shortName("GNUSparseFile.0/", h.name)
	h.size = int64(list.Len()) + stored
	if err := h.write(t.w); err != nil {
		return err
	}
	if _, err := t.w.Write(list.Bytes()); err != nil {
		return err
	}
	for _, r := range data {
		if _, err := io.Copy(t.w, io.NewSectionReader(content, r.off, r.end-r.off)); err != nil {
			return err
		}
	}
	return t.pad(stored)
}

// between are the parts of a file of size bytes that are no holes. The last one
// says, by its end, how long the file is, if it has to be of no bytes.
func between(holes []run, size int64) []run {
	var data []run
	off := int64(0)
	for _, hole := range holes {
		if hole.off > off {
			data = append(data, run{off, hole.off})
		}
		off = hole.end
	}
	if off < size || holes[len(holes)-1].end == size {
		data = append(data, run{off, size})
	}
	return data
}
