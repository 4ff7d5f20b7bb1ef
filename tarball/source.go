package tarball

import (
	"bytes"
	"io"
)

// A source is a stream that counts, and remembers how many zeros it ended with so
// far: at the end, a block of them is the second half of the end mark.
type source struct {
	r     io.Reader
	seek  io.Seeker   // nil: it is a pipe, or something like one
	at    io.ReaderAt // nil likewise
	base  int64       // where in at the stream begins
	off   int64       // from there
	zeros int         // no more than it takes to tell
}

// blockSize is tar's.
const blockSize = 512

func newSource(r io.Reader) *source {
	s := &source{r: r}
	seeker, ok := r.(io.Seeker)
	at, too := r.(io.ReaderAt)
	if !ok || !too {
		return s
	}
	if base, err := seeker.Seek(0, io.SeekCurrent); err == nil { // a pipe has the method, too
		s.seek, s.at, s.base = seeker, at, base
	}
	return s
}

// reader is what archive/tar reads, which seeks where it can.
func (s *source) reader() io.Reader {
	if s.seek == nil {
		return s
	}
	return seekable{s}
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.off += int64(n)
	switch {
	case n == 0:
	case n <= blockSize && allZero(p[:n]):
		s.zeros = min(s.zeros+n, blockSize)
	default:
		s.zeros = 0 // of a longer read, which is of a file's bytes, nobody asks
	}
	return n, err
}

// seekable is a source that is a file.
type seekable struct{ *source }

func (s seekable) Seek(off int64, whence int) (int64, error) {
	to, err := s.seek.Seek(off, whence)
	if err == nil {
		s.off = to - s.base
	}
	return to, err
}

// allZero reports whether there are only zeros in b.
func allZero(b []byte) bool {
	const step = 4096
	var zeros [step]byte
	for len(b) > step {
		if !bytes.Equal(b[:step], zeros[:]) {
			return false
		}
		b = b[step:]
	}
	return bytes.Equal(b, zeros[:len(b)])
}
