package tarball

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// MagicSize is how much of the beginning of a stream tells how it is packed, and what
// it is.
const MagicSize = 512

// Peek returns the first bytes of a stream, MagicSize of them if it is as long, and
// the stream from its beginning: r itself, where it is, if it can be read anywhere.
func Peek(r io.Reader) (head []byte, whole io.Reader, err error) {
	head = make([]byte, MagicSize)
	if src := newSource(r); src.at != nil {
		n, err := src.at.ReadAt(head, src.base)
		if err != nil && err != io.EOF {
			return nil, nil, err
		}
		return head[:n], r, nil
	}
	n, err := io.ReadFull(r, head)
	if err != nil && err != io.EOF && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, nil, err
	}
	head = head[:n]
	return head, io.MultiReader(bytes.NewReader(head), r), nil
}

// readAhead is how much of a pipe is read at once.
const readAhead = 256 << 10

// Unpack returns the plain bytes of a stream that is packed with gzip, zstd, xz or
// bzip2, which its first bytes tell, or the stream itself, from its beginning. What
// is returned holds goroutines until it is closed; the stream is not closed with it.
//
// Memory is bounded: zstd's windows may have 128 MiB, and xz's dictionaries 64 MiB in
// all blocks of all streams, as the best levels of these programs have without further
// options.
func Unpack(r io.Reader) (io.ReadCloser, error) {
	head, r, err := Peek(r)
	if err != nil {
		return nil, err
	}
	unpack := unpackerOf(head)
	if unpack == nil {
		return plainStream(r), nil
	}
	plain, err := unpack(bufio.NewReaderSize(r, readAhead))
	if err != nil {
		return nil, fmt.Errorf("tarball: %w", err)
	}
	return unpacked{bufio.NewReaderSize(plain, readAhead), plain}, nil
}

// plainStream is a stream that is not packed.
func plainStream(r io.Reader) io.ReadCloser {
	if src := newSource(r); src.at != nil {
		return struct {
			io.ReadSeeker
			io.ReaderAt
			io.Closer
		}{r.(io.ReadSeeker), src.at, io.NopCloser(nil)}
	}
	return io.NopCloser(bufio.NewReaderSize(r, readAhead))
}

type unpacked struct {
	io.Reader
	io.Closer
}

// unpackers are the programs and their first bytes.
var unpackers = []struct {
	magic  string
	unpack func(*bufio.Reader) (io.ReadCloser, error)
}{
	{"\x1f\x8b", func(r *bufio.Reader) (io.ReadCloser, error) { return gzip.NewReader(r) }},
	{"\x28\xb5\x2f\xfd", unpackZstd},
	{xzMagic, unpackXZ},
	{"BZh", func(r *bufio.Reader) (io.ReadCloser, error) { return io.NopCloser(bzip2.NewReader(r)), nil }},
}

// unpackerOf is the program that head is of; nil: none, as of a tar stream, whatever its
// first name begins with.
func unpackerOf(head []byte) func(*bufio.Reader) (io.ReadCloser, error) {
	if Begins(head) {
		return nil
	}
	for _, u := range unpackers {
		if bytes.HasPrefix(head, []byte(u.magic)) {
			return u.unpack
		}
	}
	return nil
}

// Packed reports whether a stream with these first bytes is packed.
func Packed(head []byte) bool { return unpackerOf(head) != nil }

// Begins reports whether these first bytes are those of a tar stream: a header whose
// sum is right, or the end mark of an empty one.
func Begins(head []byte) bool {
	if len(head) < blockSize {
		return false
	}
	head = head[:blockSize]
	if allZero(head) {
		return true
	}
	var said, sum int64
	for _, c := range bytes.Trim(head[148:156], " \x00") {
		if c < '0' || c > '7' {
			return false
		}
		said = said<<3 | int64(c-'0')
	}
	for i, c := range head {
		if i >= 148 && i < 156 {
			c = ' '
		}
		sum += int64(c)
	}
	return said == sum
}

func unpackZstd(r *bufio.Reader) (io.ReadCloser, error) {
	const window = 128 << 20
	d, err := zstd.NewReader(r, zstd.WithDecoderMaxWindow(window), zstd.WithDecoderConcurrency(2), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, err
	}
	return d.IOReadCloser(), nil
}
