package http

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	nethttp "net/http"
	"strconv"
	"strings"

	"caravel/store"
)

// skipLimit is how much of a whole file may be thrown away to get at a range
// that the server does not give by itself.
const skipLimit = 1 << 20

// Open implements store.Blobs with one GET.
func (w *Web) Open(ctx context.Context, name string, r store.Range) (io.ReadCloser, store.Info, error) {
	return w.get(ctx, name, r, "")
}

// Refresh implements store.Refresher with one GET.
func (w *Web) Refresh(ctx context.Context, name string, r store.Range, have store.Info) (io.ReadCloser, store.Info, error) {
	return w.get(ctx, name, r, have.Tag)
}

// get asks for an object unless it has the tag have, which may be "".
func (w *Web) get(ctx context.Context, name string, r store.Range, have string) (io.ReadCloser, store.Info, error) {
	if r.Off < 0 || r.Len < 0 || r.Off > math.MaxInt64-r.Len {
		return nil, store.Info{}, fmt.Errorf("%s: no range: %d bytes from %d", w.Locate(name), r.Len, r.Off)
	}
	resp, body, err := w.send(ctx, nethttp.MethodGet, name, r, have)
	if err != nil {
		return nil, store.Info{}, err
	}
	if err = checkTag(resp, body, r.Tag, have); err == nil {
		var info store.Info
		if info, err = accept(resp, body, r); err == nil {
			return body, info, nil
		}
	}
	body.Close()
	return nil, store.Info{}, err
}

// Stat implements store.Statter with one HEAD, or a GET of the first byte where
// the server knows no HEAD.
func (w *Web) Stat(ctx context.Context, name string) (store.Info, error) {
	resp, body, err := w.send(ctx, nethttp.MethodHead, name, store.Range{}, "")
	if err != nil {
		return store.Info{}, err
	}
	defer body.Close()
	switch resp.StatusCode {
	case nethttp.StatusOK:
		return describe(resp, resp.ContentLength), checkEncoding(resp, body)
	case nethttp.StatusMethodNotAllowed, nethttp.StatusNotImplemented:
		first, info, err := w.Open(ctx, name, store.Range{Len: 1})
		if err != nil {
			return store.Info{}, err
		}
		return info, first.Close()
	}
	return store.Info{}, body.refuse(resp)
}

// send asks for an object and returns the answer, whatever its status.
func (w *Web) send(ctx context.Context, method, name string, r store.Range, have string) (*nethttp.Response, *body, error) {
	req, body, err := w.prepare(ctx, method, name)
	if err != nil {
		return nil, nil, err
	}
	if part(r) || r.Tag != "" || have != "" {
		req.Header = req.Header.Clone() // which all others share
		onlyIf(req.Header, r.Tag, have)
	}
	if part(r) {
		req.Header.Set("Range", rangeHeader(r))
	}
	body.begin()
	resp, err := w.ask(req)
	body.pause(0)
	if err != nil {
		err = body.noAnswer(err)
		body.end(nil)
		return nil, nil, err
	}
	body.answer(resp)
	return resp, body, nil
}

// prepare makes a request, whose header may be shared with all others, and its answer.
func (w *Web) prepare(ctx context.Context, method, name string) (*nethttp.Request, *body, error) {
	if err := checkName(name); err != nil {
		return nil, nil, &failure{where: w.String(), why: err, kind: store.ErrRefused}
	}
	body := newBody(ctx, w, name)
	req := w.request.WithContext(body.ctx)
	req.Method, req.URL = method, w.url(name)
	if err := w.authorize(req); err != nil {
		err = body.noAnswer(err)
		body.end(nil)
		return nil, nil, err
	}
	return req, body, nil
}

// authorize adds what is good for this request only, which then has a header of its own.
func (w *Web) authorize(req *nethttp.Request) error {
	if w.opt.Authorization == nil {
		return nil
	}
	value, err := w.opt.Authorization()
	if err != nil || value == "" {
		return err
	}
	req.Header = req.Header.Clone()
	req.Header.Set("Authorization", value)
	return nil
}

// accept checks an answer against the range that was asked for, and sets how
// much of the body belongs to it.
func accept(resp *nethttp.Response, b *body, r store.Range) (store.Info, error) {
	ranged := part(r)
	switch {
	case ranged && resp.StatusCode == nethttp.StatusRequestedRangeNotSatisfiable:
		return acceptEnd(resp, b, r)
	case ranged && resp.StatusCode == nethttp.StatusPartialContent:
		return acceptPart(resp, b, r)
	case resp.StatusCode != nethttp.StatusOK:
		return store.Info{}, b.refuse(resp)
	}
	if err := checkEncoding(resp, b); err != nil {
		return store.Info{}, err
	}
	b.left = resp.ContentLength
	if ranged {
		if err := b.skip(r); err != nil {
			return store.Info{}, err
		}
	}
	info := describe(resp, resp.ContentLength)
	info.Whole = ranged
	return info, nil
}

// acceptPart takes a 206.
func acceptPart(resp *nethttp.Response, b *body, r store.Range) (store.Info, error) {
	if err := checkEncoding(resp, b); err != nil {
		return store.Info{}, err
	}
	got := resp.Header.Get("Content-Range")
	first, last, total, ok := parseContentRange(got)
	n := last - first + 1
	atEnd := total >= 0 && last == total-1
	switch {
	case !ok,
		first != r.Off,
		r.Len > 0 && n > r.Len,
		(r.Len == 0 || n < r.Len) && !atEnd,
		resp.ContentLength >= 0 && resp.ContentLength != n:
		return store.Info{}, b.fail(store.ErrRefused, "asked for %s, answered Content-Range: %q with %d bytes", rangeHeader(r), got, resp.ContentLength)
	}
	b.left = n
	return describe(resp, total), nil
}

// acceptEnd takes a 416, which is right for a range of no bytes at the very
// end.
func acceptEnd(resp *nethttp.Response, b *body, r store.Range) (store.Info, error) {
	total, err := parseNumber(strings.TrimPrefix(resp.Header.Get("Content-Range"), "bytes */"))
	switch {
	case err == nil && r.Off == total:
	case r.Tag != "": // whoever has that knows where the end was
		return store.Info{}, b.fail(store.ErrChanged, "%w: %s is behind the end", store.ErrChanged, rangeHeader(r))
	default:
		return store.Info{}, b.fail(store.ErrRefused, "%s is behind the end", rangeHeader(r))
	}
	b.left = 0
	return describe(resp, total), nil
}

// describe is what the header says of the whole object.
func describe(resp *nethttp.Response, size int64) store.Info {
	info := store.Info{Size: size, Tag: tag(resp)}
	if text := resp.Header.Get("Last-Modified"); text != "" {
		info.ModTime, _ = nethttp.ParseTime(text) // zero is unknown
	}
	return info
}

// checkEncoding refuses bytes that are not the object's own: Accept-Encoding
// asked for those, and a digest or a range of others means nothing.
func checkEncoding(resp *nethttp.Response, b *body) error {
	got := resp.Header.Get("Content-Encoding")
	if got == "" || strings.EqualFold(got, "identity") {
		return nil
	}
	return b.fail(store.ErrRefused, "answered in Content-Encoding %q, which was not asked for", got)
}

// part reports whether r is less than a whole object.
func part(r store.Range) bool { return r.Off != 0 || r.Len != 0 }

func rangeHeader(r store.Range) string {
	text := "bytes=" + strconv.FormatInt(r.Off, 10) + "-"
	if r.Len > 0 {
		text += strconv.FormatInt(r.Off+r.Len-1, 10)
	}
	return text
}

// parseContentRange reads "bytes FIRST-LAST/TOTAL"; total is -1 for an
// asterisk.
func parseContentRange(text string) (first, last, total int64, ok bool) {
	text, unit := strings.CutPrefix(text, "bytes ")
	span, size, slash := strings.Cut(text, "/")
	from, to, dash := strings.Cut(span, "-")
	first, err1 := parseNumber(from)
	last, err2 := parseNumber(to)
	total, err3 := int64(-1), error(nil)
	if size != "*" {
		total, err3 = parseNumber(size)
	}
	fits := first <= last && last < math.MaxInt64 && (total < 0 || last < total)
	return first, last, total, unit && slash && dash && errors.Join(err1, err2, err3) == nil && fits
}

// parseNumber reads decimal digits and nothing else.
func parseNumber(digits string) (int64, error) {
	n, err := strconv.ParseUint(digits, 10, 63)
	return int64(n), err
}
