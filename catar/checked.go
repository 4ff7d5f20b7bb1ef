package catar

import (
	"bytes"
	"errors"
	"io"
	"math"

	"caravel/feature"
)

// A Checked is the bytes of an archive, which end with an error if they are
// none. It is used by one goroutine.
type Checked struct {
	Flags feature.Flags

	r       io.Reader // the archive
	decoder *io.PipeWriter
	verdict chan error // of the decoder, which then reads no more
	err     error
}

// Check begins to read an archive that is used as it is, and reads as far as it
// takes to know the flags. A decoder follows what is read from then on:
//
//	c, err := catar.Check(r)
//	if err != nil {
//		return err
//	}
//	defer c.Close()
//	_, err = io.Copy(w, c)
//
// Errors of r's are passed on as they are.
func Check(r io.Reader) (*Checked, error) {
	head, flags, err := readFlags(r)
	if err != nil {
		return nil, err
	}
	pr, pw := io.Pipe()
	c := &Checked{Flags: flags, r: io.MultiReader(bytes.NewReader(head), r), decoder: pw, verdict: make(chan error, 1)}
	go func() {
		d := NewDecoder(pr, DecoderOptions{})
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

// Read gives the archive's bytes. A fault is an error in place of io.EOF at the
// latest.
func (c *Checked) Read(p []byte) (int, error) {
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

func (c *Checked) end(err error) error {
	c.err = err
	return err
}

// Err is why the bytes ended early, as it was before it went through others'
// hands; nil if they have not, or not yet.
func (c *Checked) Err() error {
	if c.err == io.EOF {
		return nil
	}
	return c.err
}

// Close ends the decoder. It does not close what is read from.
func (c *Checked) Close() error {
	c.decoder.CloseWithError(io.ErrClosedPipe)
	return nil
}

// firstRead is as much as the root's first record, which says how it goes on.
const firstRead = 64

// mostHead is how long the root's records may be. No file system keeps as much
// of one directory.
const mostHead = 64 << 20

// readFlags reads as much of an archive as shows its flags, and returns that
// too.
func readFlags(r io.Reader) (head []byte, flags feature.Flags, err error) {
	need := firstRead
	for {
		more := make([]byte, need-len(head))
		n, err := io.ReadFull(r, more)
		head = append(head, more[:n]...)
		if err != nil && err != io.ErrUnexpectedEOF && err != io.EOF {
			return nil, 0, err
		}
		_, flags, bad := ParseHead(head, 0, math.MaxInt64, 0)
		var short *ShortError
		switch {
		case bad == nil:
			return head, flags, nil
		case err != nil: // that was all: what it lacks is the decoder's to say
			_, bad = NewDecoder(bytes.NewReader(head), DecoderOptions{}).Next()
			return nil, 0, bad
		case !errors.As(bad, &short) || short.Need > mostHead:
			return nil, 0, bad
		}
		need = max(short.Need, len(head)+1)
	}
}
