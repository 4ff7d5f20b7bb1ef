package http

import (
	"context"
	"errors"
	"fmt"
	"io"
	nethttp "net/http"
	"time"

	"caravel/store"
)

const (
	// trickle is how many bytes count as a sign of life: a server that sends
	// fewer within the stall limit is as good as silent.
	trickle = 1 << 10

	// drain is how much of an unread body is read so that its connection can be
	// used again; for more, a new connection is cheaper.
	drain = 16 << 10

	// drainTime is the longest wait for these bytes, which have mostly come
	// together with the header.
	drainTime = 50 * time.Millisecond

	// errorTime is the longest wait for the text of a refusal.
	errorTime = 2 * time.Second
)

var errStalled = errors.New("stalled")

// A body is one request and the part of its answer's bytes that was asked for.
// Waiting for them is limited: the clock runs only while somebody waits, and
// starts again with each trickle.
type body struct {
	web   *Web
	name  string        // of the object
	from  io.ReadCloser // nil until there is an answer
	left  int64         // bytes that belong to the answer and have not come yet; -1: unknown
	ended bool          // from has said io.EOF

	ctx   context.Context         // of the request
	end   context.CancelCauseFunc // ends the request
	stall time.Duration
	timer *time.Timer   // ends the request with errStalled
	quiet time.Duration // left of stall
	since time.Time     // when somebody began to wait
	got   int           // bytes since quiet was renewed
}

func newBody(ctx context.Context, w *Web, name string) *body {
	ctx, end := context.WithCancelCause(ctx)
	return &body{web: w, name: name, left: -1, ctx: ctx, end: end, stall: w.opt.Stall, quiet: w.opt.Stall}
}

// where is the URL, without secrets.
func (b *body) where() string { return b.web.Locate(b.name) }

// begin starts the clock.
func (b *body) begin() {
	b.since = time.Now()
	if b.timer == nil {
		b.timer = time.AfterFunc(b.quiet, b.stalled)
		return
	}
	b.timer.Reset(b.quiet)
}

func (b *body) stalled() { b.end(errStalled) }

// pause stops the clock after n bytes have come.
func (b *body) pause(n int) {
	b.timer.Stop()
	b.quiet -= time.Since(b.since)
	b.got += n
	if b.got >= trickle {
		b.quiet, b.got = b.stall, 0
	}
}

// answer takes the answer to the request.
func (b *body) answer(resp *nethttp.Response) {
	b.from = resp.Body
	b.quiet, b.got = b.stall, 0
}

func (b *body) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	if b.left > 0 && int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.wait(p)
	if b.left > 0 {
		b.left -= int64(n)
	}
	switch {
	case b.left == 0, err == io.EOF && b.left < 0:
		return n, io.EOF
	case err == nil:
		return n, nil
	case err == io.EOF:
		err = io.ErrUnexpectedEOF
	}
	return n, b.broken(err)
}

// wait reads what comes next, against the clock.
func (b *body) wait(p []byte) (int, error) {
	b.begin()
	n, err := b.from.Read(p)
	b.pause(n)
	b.ended = b.ended || err == io.EOF
	return n, err
}

// skip throws away what comes before r in the whole object, and limits the body
// to r.
func (b *body) skip(r store.Range) error {
	size := b.left
	switch {
	case r.Off > skipLimit:
		return b.fail(store.ErrRefused, "the server gives no ranges, and %s begins too far behind the start", rangeHeader(r))
	case size >= 0 && r.Off > size:
		return b.fail(store.ErrRefused, "%s is behind the end", rangeHeader(r))
	}
	switch n, err := io.CopyN(io.Discard, b, r.Off); {
	case err == io.EOF:
		return b.fail(store.ErrRefused, "%s is behind the end, which is at %d", rangeHeader(r), n)
	case err != nil:
		return err
	}
	switch {
	case r.Len == 0:
	case size < 0: // too short or not, nobody can tell
		b.from = limited{io.LimitReader(b.from, r.Len), b.from}
	default:
		b.left = min(b.left, r.Len)
	}
	return nil
}

// limited is the beginning of a body of unknown length.
type limited struct {
	io.Reader
	io.Closer
}

// Close ends the request. Little is left of most bodies when they are closed;
// that is read, so that the next request finds the connection free.
func (b *body) Close() error {
	if !b.ended && b.left <= drain {
		b.quiet = min(drainTime, b.stall)
		b.begin()
		io.CopyN(io.Discard, b.from, drain) // only the connection is at stake
		b.timer.Stop()
	}
	err := b.from.Close()
	b.end(nil)
	return err
}

// broken says why the answer ended before its end.
func (b *body) broken(err error) error {
	if cause := context.Cause(b.ctx); cause != nil {
		err = cause
	}
	if err == errStalled {
		err = fmt.Errorf("stalled: less than %d bytes came in %v", trickle, b.stall)
	}
	return &failure{where: b.where(), why: err}
}
