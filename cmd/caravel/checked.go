package main

import (
	"bytes"
	"errors"
	"io"
	"math"

	"caravel/catar"
	"caravel/feature"
)

// A checkedArchive is the bytes of an archive, which end with an error if they
// are none.
type checkedArchive struct {
	flags feature.Flags

	r       io.Reader // the archive
	decoder *io.PipeWriter
	verdict chan error // of the decoder, which then reads no more
	err     error
}

// checked begins to read an archive. A decoder follows what is read from it.
func checked(r io.Reader) (*checkedArchive, error) {
	head, flags, err := readFlags(r)
	if err != nil {
		return nil, err
	}
	pr, pw := io.Pipe()
	c := &checkedArchive{flags: flags, r: io.MultiReader(bytes.NewReader(head), r), decoder: pw, verdict: make(chan error, 1)}
	go func() {
		d := catar.NewDecoder(pr, catar.DecoderOptions{})
		var err error
		for err == nil {
			_, err = d.Next()
		}
		if err == io.EOF {
			_, err = io.Copy(io.Discard, pr) // what a decoder that is lenient leaves
		}
		pr.CloseWithError(err)
		c.verdict <- err
	}()
	return c, nil
}

func (c *checkedArchive) Read(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	n, err := c.r.Read(p)
	if n > 0 {
		if _, bad := c.decoder.Write(p[:n]); bad != nil {
			return 0, c.end(bad)
		}
	}
	if err == io.EOF {
		c.decoder.Close()
		if bad := <-c.verdict; bad != nil {
			err = bad
		}
		return n, c.end(err)
	}
	if err != nil {
		return n, c.end(err)
	}
	return n, nil
}

func (c *checkedArchive) end(err error) error {
	c.err = err
	return err
}

// Close ends the decoder.
func (c *checkedArchive) Close() error {
	c.decoder.CloseWithError(io.ErrClosedPipe)
	return nil
}

// mostHead is how long the root's records may be. No file system keeps as much
// of one directory.
const mostHead = 64 << 20

// readFlags reads as much of an archive as shows its flags, and returns that
// too.
func readFlags(r io.Reader) (head []byte, flags feature.Flags, err error) {
	need := headBytes
	for {
		more := make([]byte, need-len(head))
		n, err := io.ReadFull(r, more)
		head = append(head, more[:n]...)
		if err != nil && err != io.ErrUnexpectedEOF && err != io.EOF {
			return nil, 0, err
		}
		_, flags, bad := catar.ParseHead(head, 0, math.MaxInt64, 0)
		var short *catar.ShortError
		switch {
		case bad == nil:
			return head, flags, nil
		case err != nil: // that was all: what it lacks is the decoder's to say
			_, bad = catar.NewDecoder(bytes.NewReader(head), catar.DecoderOptions{}).Next()
			return nil, 0, bad
		case !errors.As(bad, &short) || short.Need > mostHead:
			return nil, 0, bad
		}
		need = max(short.Need, len(head)+1)
	}
}
