package s3

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	nethttp "net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"

	"caravel/store"
	"caravel/store/http"
)

// untrusted is a server that nobody is to deal with.
type untrusted struct {
	where string
	why   error
}

func (u *untrusted) Error() string   { return u.where + ": " + u.why.Error() }
func (u *untrusted) Unwrap() []error { return []error{u.why, store.ErrRefused} }

// errNoSize is a range behind the end of an object whose size was not said.
var errNoSize = fmt.Errorf("%w: the range is behind the end", store.ErrRefused)

// An answer is why a server did not do what it was asked for.
type answer struct {
	where   string // the object; "": who has this error says it
	status  int    // of HTTP
	code    string // S3's word for it; "": none
	message string // for people
	region  string // the bucket's; "": not said
	hint    string // what may be the matter
	kind    error  // what callers branch on; nil: worth another try
}

func (a *answer) Error() string {
	text := strconv.Itoa(a.status) + " "
	if a.code == "" {
		text += nethttp.StatusText(a.status)
	} else {
		text += a.code
	}
	if a.where != "" {
		text = a.where + ": " + text
	}
	if a.message != "" {
		text += ": " + a.message
	}
	if a.hint != "" {
		text += " (" + a.hint + ")"
	}
	return text
}

func (a *answer) Unwrap() error { return a.kind }

// expired reports whether other keys may do better. The answer to a HEAD has no
// words.
func (a *answer) expired() bool {
	return a.code == "" && (a.status == nethttp.StatusForbidden || a.status == nethttp.StatusBadRequest) ||
		slices.Contains([]string{
			"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "InvalidToken",
			"InvalidAccessKeyId", "SignatureDoesNotMatch",
		}, a.code)
}

// error is the answer, or what asks for patience with it.
func (a *answer) error(after time.Duration) error {
	busy := a.status == nethttp.StatusServiceUnavailable || a.status == nethttp.StatusTooManyRequests ||
		strings.HasPrefix(a.code, "SlowDown") || strings.HasPrefix(a.code, "Throttl")
	if busy {
		return &store.BusyError{After: after, Err: a}
	}
	a.hint, a.kind = meaning(a.status, a.code)
	return a
}

// meaning is what callers make of an answer.
func meaning(status int, code string) (hint string, kind error) {
	switch code {
	case "NoSuchKey", "NoSuchVersion":
		return "", store.ErrMissing
	case "PreconditionFailed":
		return "", store.ErrChanged
	case "RequestTimeout", "InternalError", "OperationAborted", "ConditionalRequestConflict":
		return "", nil
	case "AccessDenied":
		return "who may not list a bucket gets this for what is not there, too", store.ErrRefused
	case "SignatureDoesNotMatch":
		return "is the secret key right?", store.ErrRefused
	case "RequestTimeTooSkewed":
		return "is the clock right?", store.ErrRefused
	}
	if code == "" && status == nethttp.StatusNotFound {
		return "", store.ErrMissing
	}
	if status >= 500 || status == nethttp.StatusRequestTimeout {
		return "", nil
	}
	return "", store.ErrRefused
}

// refused is the error that an answer in S3's own words means. What is plain HTTP
// is nil: store/http knows it.
func refused(resp *nethttp.Response, region string) error {
	switch code := resp.StatusCode; {
	case code < 300, code == nethttp.StatusNotModified, code == nethttp.StatusPreconditionFailed:
		return nil
	}
	const most = 64 << 10
	text, err := io.ReadAll(io.LimitReader(resp.Body, most))
	resp.Body.Close()
	if err != nil {
		return err
	}
	resp.Body = io.NopCloser(bytes.NewReader(text))
	var said struct {
		XMLName xml.Name `xml:"Error"`
		Code    string
		Message string
		Region  string
		Size    string `xml:"ActualObjectSize"`
	}
	known := xml.Unmarshal(text, &said) == nil && said.Code != ""
	a := &answer{status: resp.StatusCode, code: short(said.Code), message: short(said.Message), region: said.Region}
	if a.region == "" {
		a.region = resp.Header.Get("X-Amz-Bucket-Region")
	}
	switch {
	case a.status == nethttp.StatusRequestedRangeNotSatisfiable:
		return sized(resp, a, said.Size)
	case known:
		return a.error(retryAfter(resp))
	case a.region != "" && a.region != region, resp.Request != nil && resp.Request.Method == nethttp.MethodHead && a.expired():
		return a.error(0)
	}
	return nil
}

// sized tells store/http where the end is that a range is behind, as HTTP does.
func sized(resp *nethttp.Response, a *answer, size string) error {
	if _, err := strconv.ParseUint(size, 10, 63); err == nil {
		resp.Header.Set("Content-Range", "bytes */"+size)
	}
	if strings.HasPrefix(resp.Header.Get("Content-Range"), "bytes */") {
		return nil
	}
	a.kind = errNoSize
	return a
}

// short is what a stranger wrote, on one line.
func short(text string) string {
	const most = 300
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > most || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\uFFFD' }) {
		text = strconv.QuoteToASCII(text[:min(len(text), most)])
	}
	return text
}

// retryAfter is how many seconds an answer asks for, a day at most; S3 gives no
// dates there.
func retryAfter(resp *nethttp.Response) time.Duration {
	seconds, err := strconv.ParseUint(resp.Header.Get("Retry-After"), 10, 63)
	if err != nil {
		return 0
	}
	return time.Duration(min(seconds, 24*3600)) * time.Second
}

// failed is an error of minio-go about an object, in the words of this room.
func (b *Bucket) failed(ctx context.Context, name string, err error) error {
	where := b.Locate(name)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var said minio.ErrorResponse
	if errors.As(err, &said) && said.StatusCode != 0 {
		a := &answer{where: where, status: said.StatusCode, code: short(said.Code), message: short(said.Message), region: said.Region}
		return a.error(0)
	}
	if transport := (*url.Error)(nil); errors.As(err, &transport) {
		err = transport.Err
	}
	if http.Untrusted(err) {
		return &untrusted{where, err}
	}
	return fmt.Errorf("%s: %w", where, err)
}
