package sftp

import (
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/pkg/sftp"
)

const (
	// firstBlock is asked for before it is known how much there is: most chunks
	// are shorter.
	firstBlock = 128 << 10

	// lastBlock is how much is asked for at a time later on. With two of them on
	// their way, 20 ms a round trip carry 100 MB/s.
	lastBlock = 1 << 20

	// asked is how many blocks are on their way at a time.
	asked = 2
)

// A body is a part of a file, which is read ahead of its reader. It belongs to one
// goroutine.
type body struct {
	dir     *Dir
	name    string
	ctx     context.Context // of the one who reads
	session *session
	file    *sftp.File

	left    int64    // bytes that the reader has not got yet
	next    int64    // where the next block begins in the file
	unasked int64    // bytes from there to the end of what is wanted
	size    int64    // of the last block
	blocks  []*block // on their way, in their order
	head    []byte   // what has come of the first of them and was not read
	err     error    // of the last Read
	closed  bool
}

// A block is a part of a file on its way.
type block struct {
	off  int64
	buf  []byte
	done chan struct{} // closed when n and err are set
	n    int
	err  error
}

// spare are buffers of firstBlock bytes.
var spare = sync.Pool{New: func() any { return new([firstBlock]byte) }}

// ask has the next size bytes come.
func (b *body) ask(size int64) {
	k := &block{off: b.next, done: make(chan struct{})}
	b.next += size
	b.size = size
	b.blocks = append(b.blocks, k)
	if size <= firstBlock {
		k.buf = spare.Get().(*[firstBlock]byte)[:size]
	} else {
		k.buf = make([]byte, size)
	}
	ok := b.session.spawn(func() {
		defer close(k.done)
		k.n, k.err = fill(b.file, k.buf, k.off)
		b.session.broken(k.err)
	})
	if !ok {
		k.err = sftp.ErrSSHFxConnectionLost
		close(k.done)
	}
}

// fill reads a block; the error is io.EOF if the file ends in it. A server may send
// less than it is asked for.
func fill(f io.ReaderAt, p []byte, off int64) (n int, err error) {
	for n < len(p) {
		var m int
		m, err = f.ReadAt(p[n:], off+int64(n))
		n += m
		if err != nil && (err != io.EOF || m == 0) {
			return n, err
		}
	}
	return n, nil
}

// ahead has as many blocks on their way as may be.
func (b *body) ahead() {
	for len(b.blocks) < asked && b.unasked > 0 {
		size := min(b.unasked, max(2*b.size, 2*firstBlock), lastBlock)
		b.unasked -= size
		b.ask(size)
	}
}

func (b *body) Read(p []byte) (int, error) {
	if b.err == nil && len(b.head) == 0 && b.left > 0 {
		b.err = b.wait()
	}
	switch {
	case b.err != nil && len(b.head) == 0:
		return 0, b.err
	case b.left == 0:
		return 0, io.EOF
	}
	n := copy(p, b.head)
	b.head = b.head[n:]
	b.left -= int64(n)
	if len(b.head) == 0 {
		b.drop()
		b.ahead()
	}
	if b.left == 0 {
		return n, io.EOF
	}
	return n, nil
}

// wait waits for the first block.
func (b *body) wait() error {
	k := b.blocks[0]
	select {
	case <-k.done:
	case <-b.ctx.Done():
		return b.dir.failed(b.name, context.Cause(b.ctx))
	}
	b.head = k.buf[:min(int64(k.n), b.left)]
	switch {
	case k.err == nil, k.err == io.EOF && int64(len(b.head)) == b.left:
		return nil
	case k.err == io.EOF:
		return b.dir.fail(b.name, nil, "%w: it ends at %d now", io.ErrUnexpectedEOF, k.off+int64(k.n))
	case answered(k.err):
		return b.dir.failed(b.name, k.err)
	}
	return b.dir.failed(b.name, b.session.over(b.ctx))
}

// drop forgets the first block, which has come.
func (b *body) drop() {
	if k := b.blocks[0]; cap(k.buf) == firstBlock {
		spare.Put((*[firstBlock]byte)(k.buf[:firstBlock]))
	}
	b.head = nil
	b.blocks = b.blocks[1:]
}

// Close ends the reading. It does not wait for what is on its way.
func (b *body) Close() error {
	if b.closed {
		return nil
	}
	b.closed = true
	if b.err == nil {
		b.err = fmt.Errorf("%s: read after it was closed", b.dir.Locate(b.name))
	}
	b.head = nil
	f, s, blocks := b.file, b.session, b.blocks
	s.spawn(func() { // unless the session is over, and with it all its files
		for _, k := range blocks {
			<-k.done
		}
		closeFile(f)
	})
	s.leave()
	return nil
}
