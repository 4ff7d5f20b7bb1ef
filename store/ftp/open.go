package ftp

import (
	"context"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/jlaffaye/ftp"

	"caravel/store"
)

// small is an object that Open reads to its end, so that its connection is free
// again, and it is known to be one version: size and bytes are asked for one after
// the other, and somebody may replace it between the two.
const small = 256 << 10

// Open implements store.Blobs.
func (d *Dir) Open(ctx context.Context, name string, r store.Range) (io.ReadCloser, store.Info, error) {
	return d.open(ctx, name, r, "")
}

// Refresh implements store.Refresher. What has not changed is not read.
func (d *Dir) Refresh(ctx context.Context, name string, r store.Range, have store.Info) (io.ReadCloser, store.Info, error) {
	return d.open(ctx, name, r, have.Tag)
}

func (d *Dir) open(ctx context.Context, name string, r store.Range, have string) (io.ReadCloser, store.Info, error) {
	if err := checkName(name); err != nil {
		return nil, store.Info{}, &failure{d.String(), err, store.ErrRefused}
	}
	if r.Off < 0 || r.Len < 0 || r.Off > math.MaxInt64-r.Len {
		return nil, store.Info{}, &failure{d.Locate(name), fmt.Errorf("no range: %d bytes from %d", r.Len, r.Off), store.ErrRefused}
	}
	c, err := d.pool.get(ctx)
	if err != nil {
		return nil, store.Info{}, d.failed(ctx, name, err)
	}
	b := &body{dir: d, name: name, ctx: ctx, conn: c}
	info, err := b.begin(r, have)
	if err != nil {
		if b.from != nil {
			c.cut()
			b.from.Close()
		}
		c.release(err)
		return nil, store.Info{}, d.failed(ctx, name, err)
	}
	return b, info, nil
}

// begin asks for the object until what comes fits what is said of it.
func (b *body) begin(r store.Range, have string) (store.Info, error) {
	const tries = 10 // it would have to be replaced as often, each time in the same moment
	path := b.dir.in(b.name)
	for range tries {
		info, err := stat(b.conn.ServerConn, path)
		if err != nil {
			return info, err
		}
		if err := check(info, r, have); err != nil {
			return info, err
		}
		b.left = info.Size - r.Off
		if r.Len > 0 {
			b.left = min(b.left, r.Len)
		}
		b.toEnd = r.Off+b.left == info.Size
		if b.from, err = b.conn.RetrFrom(path, uint64(r.Off)); err != nil {
			return info, gone(err)
		}
		if b.left > small || !b.toEnd {
			return info, nil
		}
		whole, err := b.readSmall()
		if err != nil || whole {
			return info, err
		}
	}
	return store.Info{}, fmt.Errorf("it changes all the time")
}

// check compares an object with what is wanted of it.
func check(info store.Info, r store.Range, have string) error {
	switch tag := store.TimeTag(info.Size, info.ModTime, time.Time{}); {
	case r.Tag != "" && tag != r.Tag:
		return &refusal{fmt.Sprintf("%v: its tag is %#q, not %#q", store.ErrChanged, tag, r.Tag), store.ErrChanged}
	case have != "" && info.Tag == have:
		return &refusal{store.ErrUnchanged.Error(), store.ErrUnchanged}
	case r.Off > info.Size:
		return &refusal{fmt.Sprintf("offset %d is behind the end, which is at %d", r.Off, info.Size), store.ErrRefused}
	}
	return nil
}

// A body is a part of a file on its way. It belongs to one goroutine.
type body struct {
	dir   *Dir
	name  string
	ctx   context.Context // of the one who reads
	conn  *conn           // nil: given back
	from  *ftp.Response
	left  int64  // bytes that the reader has not got yet
	toEnd bool   // these are the file's last
	here  []byte // what has come already of a small object
	err   error  // of the last Read
}

// readSmall reads all, and gives the connection back; false if it was more, or less,
// than the server has said.
func (b *body) readSmall() (whole bool, err error) {
	buf := make([]byte, b.left+1)
	n, err := io.ReadFull(b.from, buf)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return false, err
	}
	if int64(n) > b.left { // there is more, of another version
		return false, b.abandon()
	}
	if err := b.from.Close(); err != nil {
		return false, err
	}
	b.from = nil
	if int64(n) < b.left {
		return false, nil
	}
	b.here = buf[:n]
	b.conn.release(nil)
	b.conn = nil
	return true, nil
}

// abandon ends a transfer before its end. Servers may say so in one answer or in
// two: that of a further command shows whether there is nothing between.
func (b *body) abandon() error {
	err := b.from.Close()
	b.from = nil
	if err != nil && !answered(err) {
		return err
	}
	if err := b.conn.NoOp(); err != nil {
		b.conn.cut()
		return fmt.Errorf("a transfer did not end: %w", err)
	}
	return nil
}

func (b *body) Read(p []byte) (int, error) {
	if b.err == nil && b.left == 0 {
		b.err = io.EOF
	}
	if b.err != nil {
		return 0, b.err
	}
	var n int
	if b.conn == nil {
		n = copy(p, b.here)
		b.here = b.here[n:]
	} else {
		n, b.err = b.from.Read(p[:min(int64(len(p)), b.left)])
	}
	b.left -= int64(n)
	switch {
	case b.left == 0:
		b.err = b.finish()
	case b.err == io.EOF:
		b.err = &failure{b.dir.Locate(b.name), fmt.Errorf("%w: %d bytes are missing", io.ErrUnexpectedEOF, b.left), nil}
	case b.err != nil:
		b.err = b.dir.failed(b.ctx, b.name, b.err)
	}
	return n, b.err
}

// finish ends a transfer whose bytes have come.
func (b *body) finish() error {
	if b.conn == nil {
		return io.EOF
	}
	var err error
	if b.toEnd {
		var more [1]byte
		if n, _ := b.from.Read(more[:]); n > 0 {
			b.conn.cut()
			err = fmt.Errorf("it has become longer while it was read")
		} else {
			err = b.from.Close()
			b.from = nil
		}
	} else {
		err = b.abandon()
		if err != nil {
			b.conn.cut() // the bytes are right all the same
			err = nil
		}
	}
	b.give(err)
	if err != nil {
		return b.dir.failed(b.ctx, b.name, err)
	}
	return io.EOF
}

// give gives the connection back.
func (b *body) give(err error) {
	b.conn.release(err)
	b.conn, b.from = nil, nil
}

// Close ends the reading. A transfer that is not over ends with its connection.
func (b *body) Close() error {
	if b.conn != nil {
		b.conn.cut()
		if b.from != nil {
			b.from.Close() // which is an error now
		}
		b.give(errClosed)
	}
	if b.err == nil {
		b.err = fmt.Errorf("%s: read after it was closed", b.dir.Locate(b.name))
	}
	return nil
}
