package catar

import "io"

const (
	bufferSize = 64 << 10

	// From this many bytes on, a read goes past the buffer. What is smaller is
	// copied, and brings the metadata behind it along.
	directRead = 16 << 10

	// From this many bytes on, io.Copy's own buffer, which is a new one each
	// time, is worth the chance that it needs none.
	bigCopy = 256 << 10
)

// An input is a stream with a buffer that shows as much of it at once as a
// record needs.
type input struct {
	r      io.Reader
	seeker io.Seeker // r, if it can
	first  int64     // where r stood at first, as the seeker counts
	buf    []byte
	from   int   // buf[from:to] is what comes next
	to     int   //
	off    int64 // of buf[from] in the archive
	base   int64 // of the stream's first byte
	err    error // what r said behind buf[to]
}

func (in *input) offset() int64 { return in.off }

func (in *input) peek(n int) ([]byte, error) {
	if in.to-in.from < n {
		if err := in.fill(n); err != nil {
			return nil, err
		}
	}
	return in.buf[in.from:min(in.from+n, in.to)], nil
}

func (in *input) skip(n int) {
	in.from += n
	in.off += int64(n)
}

// fill reads until there are n bytes, or no more to have.
func (in *input) fill(n int) error {
	if in.from+n > len(in.buf) {
		to := in.buf
		if n > len(to) {
			to = make([]byte, max(bufferSize, n+n/2))
		}
		in.to = copy(to, in.buf[in.from:in.to])
		in.buf, in.from = to, 0
	}
	for idle := 0; in.to-in.from < n && in.err == nil; {
		var got int
		got, in.err = in.r.Read(in.buf[in.to:])
		in.to += got
		if got > 0 {
			idle = 0
		} else if idle++; idle > 100 && in.err == nil {
			in.err = io.ErrNoProgress
		}
	}
	if in.to-in.from < n && in.err != io.EOF {
		return in.err // r's, which says itself where it was born
	}
	return nil
}

// read is r's Read behind what is in the buffer.
func (in *input) read(p []byte) (int, error) {
	var n int
	switch {
	case in.from < in.to:
		n = copy(p, in.buf[in.from:in.to])
		in.from += n
	case in.err != nil:
		return 0, in.err
	case len(p) >= directRead:
		n, in.err = in.r.Read(p)
		if n == 0 && in.err != nil {
			return 0, in.err
		}
	default:
		b, err := in.peek(1)
		if err != nil {
			return 0, in.err
		}
		if len(b) == 0 {
			return 0, io.EOF
		}
		n = copy(p, in.buf[in.from:in.to])
		in.from += n
	}
	in.off += int64(n)
	return n, nil
}

// writeTo copies the next n bytes to w. An error is r's or w's as they say it;
// io.EOF: r has fewer.
func (in *input) writeTo(w io.Writer, n int64) (int64, error) {
	var done int64
	for done < n {
		left := n - done
		switch have := int64(in.to - in.from); {
		case have > 0:
			put, err := w.Write(in.buf[in.from : in.from+int(min(left, have))])
			in.skip(put)
			done += int64(put)
			if err != nil {
				return done, err
			}
		case in.err != nil:
			return done, in.err
		case left >= bigCopy:
			put, err := io.CopyN(w, in.r, left)
			in.off += put
			return done + put, err
		default:
			if _, err := in.peek(1); err != nil {
				return done, in.err
			}
		}
	}
	return done, nil
}

// discard passes over n bytes, or the first part of them.
func (in *input) discard(n int64) (int64, error) {
	if have := int64(in.to - in.from); have > 0 {
		n = min(n, have)
		in.skip(int(n))
		return n, nil
	}
	// Seeking does not tell where the stream ends. So the last byte is read,
	// with what follows.
	if in.seeker != nil && n > bufferSize && in.err == nil {
		if _, err := in.seeker.Seek(n-1, io.SeekCurrent); err != nil {
			// A file system refuses what lies far behind the end of all files.
			if passed := in.end() - in.off; passed >= 0 && passed < n {
				in.off += passed
				return passed, io.EOF
			}
			return 0, err
		}
		in.off += n - 1
		return n - 1, nil
	}
	b, err := in.peek(1)
	if err != nil {
		return 0, in.err
	}
	if len(b) == 0 {
		return in.passedEnd(), io.EOF
	}
	return 0, nil
}

// passedEnd returns how many bytes too many were passed over, as a negative
// number, and goes back.
func (in *input) passedEnd() int64 {
	if in.seeker == nil {
		return 0
	}
	end := in.end()
	if end < 0 {
		return 0
	}
	at := in.off
	in.off = min(at, end)
	return in.off - at
}

// end is where a stream that seeks ends, and leaves it there; -1: unknown.
func (in *input) end() int64 {
	size, err := in.seeker.Seek(0, io.SeekEnd)
	if err != nil {
		return -1
	}
	return in.base + size - in.first
}
