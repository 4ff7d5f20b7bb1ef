package store

import (
	"bytes"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
)

// gunzip is a decoder with its source.
type gunzip struct {
	src bytes.Reader // has ReadByte: the decoder reads nothing behind the end
	gz  gzip.Reader
}

var gunzips = sync.Pool{New: func() any { return new(gunzip) }}

func unpackGzip(stored []byte, size int) (*buffer, error) {
	z := gunzips.Get().(*gunzip)
	defer gunzips.Put(z)
	z.src.Reset(stored)
	defer z.src.Reset(nil)
	if err := z.gz.Reset(&z.src); err != nil {
		return nil, noEOF(err)
	}
	z.gz.Multistream(false)
	hint := size
	if size == 0 {
		hint = 4 * len(stored)
	}
	buf, err := readAll(&z.gz, hint, most(size))
	if err != nil {
		return nil, noEOF(err)
	}
	if z.src.Len() > 0 {
		buf.free()
		return nil, errTrailing
	}
	return buf, nil
}

// noEOF says what the end of the input means inside a frame.
func noEOF(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return errTruncated
	}
	return err
}

// gzips has one pool of encoders for each level.
var gzips [gzip.BestCompression + 1]sync.Pool

func packGzip(plain []byte, level int) (*buffer, error) {
	if level == 0 {
		level = 6
	}
	buf := newBuffer(len(plain) + len(plain)/1024 + 64)
	z, ok := gzips[level].Get().(*gzip.Writer)
	if ok {
		z.Reset(buf)
	} else {
		var err error
		if z, err = gzip.NewWriterLevel(buf, level); err != nil {
			buf.free()
			return nil, err
		}
	}
	defer gzips[level].Put(z)
	_, err := z.Write(plain)
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		buf.free()
		return nil, err
	}
	return buf, nil
}
