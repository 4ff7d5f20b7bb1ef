package http

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	nethttp "net/http"
	"time"

	"caravel/store"
)

// expectAbove is how many bytes are worth a round trip to learn beforehand whether
// the server wants them: one that refuses while it is being sent much may cut the
// connection before its reason arrives.
const expectAbove = 1 << 20

// Put implements store.Putter with one PUT. A server that keeps to the protocol
// gives the object its name when all of it has come.
//
// If r is an io.Seeker, the object can be sent again, which is done when a
// connection that was kept turns out to be dead, and after a redirect. Else the one
// attempt is all there is. A size of -1 is sent in pieces, which not every server
// takes.
func (w *Web) Put(ctx context.Context, name string, r io.Reader, size int64) error {
	req, b, err := w.prepare(ctx, nethttp.MethodPut, name)
	if err != nil {
		return err
	}
	up, err := newUpload(b, r, size)
	if err != nil {
		b.end(nil)
		return err
	}
	up.attach(req)
	b.begin()
	resp, err := w.ask(req)
	up.stop()
	b.pause(0)
	if err != nil {
		defer b.end(nil)
		if up.err != nil && context.Cause(b.ctx) == nil {
			return &failure{where: b.where(), why: up.err}
		}
		return b.noAnswer(err)
	}
	b.answer(resp)
	defer b.Close()
	switch resp.StatusCode {
	case nethttp.StatusOK, nethttp.StatusCreated, nethttp.StatusNoContent:
	default:
		return b.refuseWrite(resp)
	}
	if up.err != nil { // answered before all was sent
		return &failure{where: b.where(), why: up.err}
	}
	if soundsRead(resp) {
		return w.compare(ctx, b, up)
	}
	return nil
}

// Sync implements store.Putter. There is nothing to do: HTTP has no word for it,
// and what a server has answered for is its own to keep.
func (w *Web) Sync(ctx context.Context) error { return context.Cause(ctx) }

// Delete implements store.Deleter with one DELETE.
func (w *Web) Delete(ctx context.Context, name string) error {
	resp, b, err := w.send(ctx, nethttp.MethodDelete, name, store.Range{}, "")
	if err != nil {
		return err
	}
	defer b.Close()
	switch resp.StatusCode {
	case nethttp.StatusNoContent, nethttp.StatusNotFound, nethttp.StatusGone:
		return nil
	case nethttp.StatusOK:
		if soundsRead(resp) {
			return b.fail(store.ErrRefused, "%s", "200 OK, but the server does not seem to have looked at what it was asked for, DELETE")
		}
		return nil
	}
	return b.refuseWrite(resp)
}

// refuseWrite is the error for an answer to a PUT or DELETE that was not obeyed. It
// is never store.ErrMissing: that is what cannot be read.
func (b *body) refuseWrite(resp *nethttp.Response) error {
	code, status := resp.StatusCode, b.status(resp)
	if what := b.advice(resp); what != "" {
		return b.fail(store.ErrRefused, "%s; %s", status, what)
	}
	switch {
	case code >= 500, code == nethttp.StatusTooManyRequests:
		return &store.BusyError{After: retryAfter(resp.Header, time.Now()), Err: b.fail(nil, "%s", status)}
	case code == nethttp.StatusRequestTimeout, code == nethttp.StatusTooEarly:
		return b.fail(nil, "%s", status)
	}
	return b.fail(store.ErrRefused, "%s", status)
}

// advice is what to do about an answer that would be the same again; "": it might
// not be, or there is nothing more to say.
func (b *body) advice(resp *nethttp.Response) string {
	switch resp.StatusCode {
	case nethttp.StatusUnauthorized:
		if b.web.request.Header.Get("Authorization") == "" {
			return "the server wants to know who asks, as in https://user:password@host/"
		}
		return "the server does not know this user and password"
	case nethttp.StatusForbidden:
		return "the server lets nobody write there, or not this user"
	case nethttp.StatusNotFound, nethttp.StatusGone, nethttp.StatusConflict:
		return "the server has no such folder and makes none, or is for reading only"
	case nethttp.StatusMethodNotAllowed, nethttp.StatusNotImplemented:
		return "the server knows no " + resp.Request.Method + " there, it is for reading only: write into a directory and copy that to the server"
	case nethttp.StatusLengthRequired:
		return "the server wants to know the length first: write into a file and copy that to the server"
	case nethttp.StatusRequestEntityTooLarge:
		return "more than the server takes at one time (in nginx, client_max_body_size)"
	case nethttp.StatusInsufficientStorage:
		return "the server has no room left"
	}
	return ""
}

// soundsRead reports whether a 200 is said as if the object had been asked for.
// There are servers that do not look at the method, and send what they have.
func soundsRead(resp *nethttp.Response) bool {
	return resp.StatusCode == nethttp.StatusOK && (resp.Header.Get("Last-Modified") != "" || resp.Header.Get("Accept-Ranges") != "")
}

// compare finds out whether the server has what it was sent.
func (w *Web) compare(ctx context.Context, b *body, up *upload) error {
	same, err := w.has(ctx, b.name, up)
	if err != nil && !errors.Is(err, store.ErrMissing) {
		return err
	}
	if !same {
		return b.fail(store.ErrRefused, "200 OK, but the server has not kept what it was sent; it is for reading only: write into a directory and copy that to the server")
	}
	return nil
}

// has compares an object with what was sent; of what cannot be read twice, only the
// size.
func (w *Web) has(ctx context.Context, name string, up *upload) (bool, error) {
	info, err := w.Stat(ctx, name)
	if err != nil || up.seek == nil || info.Size != up.sent {
		return err == nil && info.Size == up.sent, err
	}
	if err := up.rewind(); err != nil {
		return false, err
	}
	body, _, err := w.Open(ctx, name, store.Range{})
	if err != nil {
		return false, err
	}
	defer body.Close()
	return equal(body, up.from)
}

// equal compares what is left of two readers.
func equal(a, b io.Reader) (bool, error) {
	left, right := make([]byte, 32<<10), make([]byte, 32<<10)
	for {
		n, errA := io.ReadFull(a, left)
		m, errB := io.ReadFull(b, right)
		if n != m || !bytes.Equal(left[:n], right[:m]) {
			return false, nil
		}
		if errA == nil && errB == nil {
			continue
		}
		for _, err := range []error{errA, errB} {
			if err != io.EOF && err != io.ErrUnexpectedEOF {
				return false, fmt.Errorf("what was written cannot be compared: %w", err)
			}
		}
		return true, nil
	}
}
