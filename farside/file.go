package farside

import (
	"context"
	"errors"
	"fmt"
	"io"

	"caravel/index"
)

// A file is an index or archive that arrives.
type file struct {
	to     *io.PipeWriter
	put    chan error // why it could not be put; closed when that is over
	rows   *rows      // nil: nobody looks into it
	ended  bool       // all has come
	closed bool
}

// newFile begins to put a file. Each row of an index is passed on as soon as it is
// here; nil: it is no index.
func newFile(ctx context.Context, put func(ctx context.Context, r io.Reader) error, row func(ctx context.Context, x *index.Index, c index.Chunk) error) *file {
	r, w := io.Pipe()
	f := &file{to: w, put: make(chan error, 1)}
	if row != nil {
		f.rows = newRows(func(x *index.Index, c index.Chunk) error { return row(ctx, x, c) })
	}
	go func() {
		err := put(ctx, r)
		r.CloseWithError(err)
		f.put <- err
		close(f.put)
	}()
	return f
}

// more takes a piece. When it returns, all rows in it have been passed on.
func (f *file) more(r io.Reader) error {
	if f.ended {
		return errors.New("farside: a file goes on behind its end")
	}
	buf := make([]byte, 64<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if _, err := f.to.Write(buf[:n]); err != nil {
				return err
			}
			if f.rows != nil {
				if err := f.rows.feed(buf[:n]); err != nil {
					return err
				}
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// end takes the end, of an index with all its checks.
func (f *file) end() error {
	if f.ended {
		return errors.New("farside: a file ends twice")
	}
	f.ended = true
	if f.rows == nil {
		return nil
	}
	return f.rows.end()
}

// whole reports whether all has come; of a file that is not to come, it has.
func (f *file) whole() bool { return f == nil || f.ended }

// install puts the file into its place.
func (f *file) install() error {
	f.closed = true
	f.to.Close()
	return <-f.put
}

var errDropped = errors.New("farside: not to be kept")

// drop keeps the file from being put, unless it has been, and waits for the end of
// that.
func (f *file) drop() {
	if !f.closed {
		f.to.CloseWithError(errDropped)
		<-f.put
	}
	if f.rows != nil {
		f.rows.drop()
	}
}

// rows reads an index in step with whoever feeds it: one of the two works at a time.
type rows struct {
	more chan []byte   // the next bytes; closed at the end
	want chan struct{} // all that was fed has been looked at
	done chan struct{} // closed when err is set
	err  error

	left  []byte // not read yet
	over  bool   // nothing is fed any more
	spoil error  // what the reading ends with
}

func newRows(each func(x *index.Index, c index.Chunk) error) *rows {
	r := &rows{more: make(chan []byte), want: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(r.done)
		_, r.err = index.Follow(r, each)
	}()
	<-r.want
	return r
}

// Read is for the one who reads the index.
func (r *rows) Read(p []byte) (int, error) {
	if len(r.left) == 0 {
		r.want <- struct{}{}
		var ok bool
		if r.left, ok = <-r.more; !ok {
			if r.spoil != nil {
				return 0, r.spoil
			}
			return 0, io.EOF
		}
	}
	n := copy(p, r.left)
	r.left = r.left[n:]
	return n, nil
}

// feed returns when all bytes have been looked at.
func (r *rows) feed(b []byte) error {
	select {
	case r.more <- b:
	case <-r.done:
		return r.ended()
	}
	select {
	case <-r.want:
		return nil
	case <-r.done:
		return r.ended()
	}
}

// ended is the error for bytes behind an end.
func (r *rows) ended() error {
	if r.err == nil {
		return fmt.Errorf("farside: bytes behind the index")
	}
	return r.err
}

// end returns when the index has been read to its end.
func (r *rows) end() error {
	r.finish(nil)
	return r.err
}

// drop ends the reading.
func (r *rows) drop() { r.finish(errDropped) }

func (r *rows) finish(spoil error) {
	if !r.over {
		r.over, r.spoil = true, spoil
		close(r.more)
	}
	<-r.done
}
