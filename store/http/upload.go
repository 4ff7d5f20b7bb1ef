package http

import (
	"errors"
	"fmt"
	"io"
	nethttp "net/http"
	"sync"
)

// An upload is what a PUT sends. The transport reads it in a goroutine of its own,
// which may outlive the answer: nothing is read of from after stop.
//
// The answer's clock stands still while from is read, and starts again with each
// piece that the transport has got rid of.
type upload struct {
	answer *body
	seek   io.Seeker // from, if it can be read again; else nil
	start  int64     // where it was
	size   int64     // of all; -1: unknown

	mu   sync.Mutex // guards what follows
	from io.Reader
	turn int   // who may read: a sending's, or nobody's
	sent int64 // bytes read of from
	err  error // of from
}

func newUpload(b *body, r io.Reader, size int64) (*upload, error) {
	u := &upload{answer: b, size: size, from: r}
	if l, ok := r.(interface{ Len() int }); ok && size < 0 {
		u.size = int64(l.Len())
	}
	if s, ok := r.(io.Seeker); ok {
		var err error
		if u.start, err = s.Seek(0, io.SeekCurrent); err == nil {
			u.seek = s // a pipe is a Seeker, too, and fails
		}
	}
	if u.size == 0 {
		return u, u.nothing()
	}
	return u, nil
}

// nothing makes sure of a reader that is said to give nothing.
func (u *upload) nothing() error {
	n, err := io.ReadFull(u.from, make([]byte, 1))
	switch {
	case n > 0:
		err = fmt.Errorf("%w: there are bytes, and should be none", io.ErrUnexpectedEOF)
	case err == io.EOF:
		return nil
	}
	return &failure{where: u.answer.where(), why: err}
}

// attach makes it the request's body.
func (u *upload) attach(req *nethttp.Request) {
	req.Header = req.Header.Clone()
	req.ContentLength = u.size
	if u.size == 0 {
		req.Body = nethttp.NoBody
		return
	}
	if u.size < 0 || u.size > expectAbove {
		req.Header.Set("Expect", "100-continue")
	}
	u.turn++
	req.Body = sending{u, u.turn}
	if u.seek != nil {
		req.GetBody = u.again
		// Tells net/http, and nobody else, that it may be asked twice.
		req.Header["X-Idempotency-Key"] = []string{}
	}
}

// again is the body from its start. Nobody else reads it any more.
func (u *upload) again() (io.ReadCloser, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if err := u.rewind(); err != nil {
		return nil, err
	}
	u.turn++
	u.sent, u.err = 0, nil
	return sending{u, u.turn}, nil
}

func (u *upload) rewind() error {
	_, err := u.seek.Seek(u.start, io.SeekStart)
	return err
}

// stop returns when nobody reads any more.
func (u *upload) stop() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.turn++
}

// A sending is an upload that is read for one request.
type sending struct {
	*upload
	mine int
}

var errOver = errors.New("the request is over")

func (s sending) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.turn != s.mine {
		return 0, errOver
	}
	s.answer.timer.Stop()
	n, err := s.from.Read(p)
	s.answer.timer.Reset(s.answer.stall)
	s.sent += int64(n)
	if s.size >= 0 && (s.sent > s.size || err == io.EOF && s.sent < s.size) {
		err = fmt.Errorf("%w: %d bytes instead of %d", io.ErrUnexpectedEOF, s.sent, s.size)
	}
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

func (s sending) Close() error { return nil }
